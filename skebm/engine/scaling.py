"""The affine map from rows of data to rows of a model, and back.

encode(x) = (x − location) / scale,      decode(v) = v · scale + location
"""

import numpy as np
import torch
from torch import Tensor


class Scaling:
    """Location and scale of each feature, in double precision on one device.

    Parameters
    ----------
    location, scale : ndarray of shape (n_features,), or None
        None means the identity.
    device : torch.device, default="cpu"
    """

    def __init__(
        self,
        location: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        device: torch.device | str = "cpu",
    ):
        self.is_identity = location is None
        if location is not None:
            self.location = torch.tensor(location, device=device)  # (n_features,)
            self.scale = torch.tensor(scale, device=device)  # (n_features,)

    def encode(self, rows: Tensor) -> Tensor:
        """Rows of data as rows of the model: (n, n_features)."""
        if self.is_identity:
            return rows
        rows = rows if rows.is_floating_point() else rows.float()
        return (rows - self.location.to(rows.dtype)) / self.scale.to(rows.dtype)

    def decode(self, v: Tensor) -> Tensor:
        """The inverse of `encode`."""
        return v if self.is_identity else v * self.scale.to(v.dtype) + self.location.to(v.dtype)
