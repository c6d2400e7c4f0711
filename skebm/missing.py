"""Missing entries of training rows, which are NaN.

The first term of the gradient is an expectation given the observed entries alone:

    ∂ log p(v_observed)/∂θ = E[−∂E/∂θ | v_observed] − E[−∂E/∂θ]

`MissingEntries` holds draws of the missing entries: the states of Gibbs chains with the observed
entries clamped, which go on from epoch to epoch.

Contrastive divergence starts a chain of the model at each row. So the model of a row can leave
its missing units out (`left_out`): they are fixed at their means in both terms. The gradient is
that of log p(v_observed | v_missing = means), and needs no draws of the missing entries.

R. Salakhutdinov, A. Mnih, G. E. Hinton (2007). Restricted Boltzmann machines for collaborative
filtering. ICML.
"""

import math

import joblib
import numpy as np
import torch

from skebm.engine.batches import chunks, to_device
from skebm.engine.noise import Noise, seed_of
from skebm.engine.parallel import current
from skebm.engine.sampling import run

#: Gibbs sweeps before a fitted model is trained on rows that it has not seen.
FIRST_SWEEPS = 50


def with_missing(data, n_sweeps, leaves_out=False):
    """The data of a fit whose rows may have missing entries, unless `n_sweeps` is None."""
    if n_sweeps is None:
        return data
    if not any(current().exchange("missing entries", bool(np.isnan(data.rows).any()))):
        return data
    missing = MissingEntries(data.rows, data.scaling, n_sweeps, data.weight)
    if leaves_out:
        return data._replace(rows=missing.rows, left_out=missing.mask)
    return data._replace(rows=missing.rows, missing=missing)


class MissingEntries:
    """The entries of rows that are NaN.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Not changed; `rows` of the object has the missing entries filled in.
    scaling : Scaling
    n_sweeps : int
        Gibbs sweeps after each epoch.
    weight : ndarray of shape (n_samples,), default=None
        Weights of the rows in the means, with which the entries are filled in at first.
    """

    def __init__(self, rows, scaling, n_sweeps, weight=None):
        self.mask, self.scaling, self.n_sweeps = np.isnan(rows), scaling, n_sweeps
        self.processes = current()
        weight = np.ones(len(rows)) if weight is None else weight
        sums = weight @ np.where(self.mask, 0.0, rows), weight @ ~self.mask
        total, n_observed = self.processes.total("means", sums)
        if (n_observed == 0).any():
            empty = np.flatnonzero(n_observed == 0).tolist()
            raise ValueError(f"X has no value at all in the features {empty}; leave them out.")
        self.rows: np.ndarray = np.where(self.mask, (total / n_observed).astype(rows.dtype), rows)
        self.key = joblib.hash(rows)

    @property
    def state(self):
        """The missing entries, by a checksum of the rows that they belong to, for `resume`."""
        return {self.key: self.rows[self.mask]}

    def resume(self, state, model, rng):
        """Go on from the entries in `state`; if it belongs to other rows, draw the entries."""
        if all(self.processes.exchange("rows with missing entries", self.key in state)):
            self.rows[self.mask] = state[self.key]
        else:
            seed = self.processes.seed(seed_of(rng))
            self.redraw(model, Noise(seed, model.W.device), FIRST_SWEEPS)

    def excess(self):
        """The largest ratio of the deviations of drawn and of observed entries of a column."""
        masks = self.mask, ~self.mask
        drawn, observed = (np.ma.array(self.rows, mask=~m).std(axis=0).filled(0) for m in masks)
        return np.divide(drawn, observed, where=observed > 0, out=np.zeros_like(drawn)).max()

    def redraw(self, model, noise, n_sweeps=None):
        """Draw the missing entries again, given the observed ones, in place."""
        n_sweeps = self.n_sweeps if n_sweeps is None else n_sweeps
        affected = np.flatnonzero(self.mask.any(axis=1))
        with torch.inference_mode():
            for piece in chunks(affected, model.row_size):
                index = affected[piece]
                rows = to_device(self.rows[index], model.W.device, self.rows.dtype)
                missing = torch.tensor(self.mask[index], device=rows.device)
                v = drawn(model, self.scaling.encode(rows), missing, noise, n_sweeps)
                drawn_rows = self.scaling.decode(v).cpu().numpy()
                self.rows[index] = np.where(self.mask[index], drawn_rows, self.rows[index])


def drawn(model, rows, missing, noise, n_sweeps):
    """Rows of the model after Gibbs sweeps of the entries of a mask, given the others."""
    v = model.complete(model.visible.from_rows(rows).to(model.W))
    holes = model.visible.from_rows(rows.masked_fill(missing, math.nan))
    v = run(model, v, noise, n_steps=n_sweeps, clamped=~holes.isnan())  # units of known entries
    return torch.where(missing, model.visible.to_rows(v), rows)
