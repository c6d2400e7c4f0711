"""Missing entries of training rows: the state of Gibbs chains, with the observed entries clamped.

∂ log p(v_observed)/∂θ = E[−∂E/∂θ | v_observed] − E[−∂E/∂θ]
"""

import joblib
import numpy as np
import torch

from skebm.engine.batches import chunks, to_device
from skebm.engine.noise import Noise, seed_of
from skebm.engine.sampling import run

#: Gibbs sweeps before a fitted model is trained on rows that it has not seen.
FIRST_SWEEPS = 50


class MissingEntries:
    """The entries of rows that are NaN.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Not changed; `rows` of the object has the missing entries filled in.
    scaling : Scaling
    n_sweeps : int
        Gibbs sweeps after each epoch.
    """

    def __init__(self, rows, scaling, n_sweeps):
        self.mask, self.scaling, self.n_sweeps = np.isnan(rows), scaling, n_sweeps
        if self.mask.all(axis=0).any():
            raise ValueError("X has a feature with no value at all; leave it out.")
        self.rows = np.where(self.mask, np.nanmean(rows, axis=0), rows)
        self.key = joblib.hash(rows)

    @property
    def state(self):
        """The missing entries of these rows, for `resume`."""
        return {"rows": self.key, "values": self.rows[self.mask]}

    def resume(self, state, model, rng):
        """Go on from the entries in `state`; if it belongs to other rows, draw the entries."""
        if state is not None and state["rows"] == self.key:
            self.rows[self.mask] = state["values"]
        else:
            self.redraw(model, Noise(seed_of(rng), model.W.device), FIRST_SWEEPS)

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
                v = model.visible.from_rows(self.scaling.encode(rows)).to(model.W)
                clamped = torch.tensor(~self.mask[index], device=v.device)
                v = run(model, v, noise, n_steps=n_sweeps, clamped=clamped)
                drawn = self.scaling.decode(model.visible.to_rows(v)).cpu().numpy()
                self.rows[index] = np.where(self.mask[index], drawn, self.rows[index])
