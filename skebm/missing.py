"""Missing entries of training rows: the state of Gibbs chains, with the observed entries clamped.

∂ log p(v_observed)/∂θ = E[−∂E/∂θ | v_observed] − E[−∂E/∂θ]
"""

import numpy as np
import torch

from skebm.engine.batches import chunks, to_device
from skebm.engine.sampling import run


class MissingEntries:
    """The entries of rows that are NaN.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Not changed; `rows` of the object has the missing entries filled in.
    encoding : Encoding
    n_sweeps : int
        Gibbs sweeps after each epoch.
    """

    def __init__(self, rows, encoding, n_sweeps):
        self.mask, self.encoding, self.n_sweeps = np.isnan(rows), encoding, n_sweeps
        if self.mask.all(axis=0).any():
            raise ValueError("X has a feature with no value at all; leave it out.")
        self.rows = np.where(self.mask, np.nanmean(rows, axis=0), rows)

    def redraw(self, model, noise):
        """Draw the missing entries again, given the observed ones, in place."""
        affected = np.flatnonzero(self.mask.any(axis=1))
        with torch.inference_mode():
            for piece in chunks(affected, model.row_size):
                index = affected[piece]
                rows = to_device(self.rows[index], model.W.device, self.rows.dtype)
                v = model.visible.from_rows(self.encoding.encode(rows)).to(model.W)
                clamped = torch.tensor(~self.mask[index], device=v.device)
                v = run(model, v, noise, n_steps=self.n_sweeps, clamped=clamped)
                drawn = self.encoding.decode(model.visible.to_rows(v)).cpu().numpy()
                self.rows[index] = np.where(self.mask[index], drawn, self.rows[index])
