"""A stack of models: each layer is given the features of the layer below.

x_k = features_k(c_k + W_k x_{k−1}),   or, with a residual path,

x_k = (ζ₁ σ(a) + ζ₂ max(a, 0)/r) / m,  a = c_k + W_k x_{k−1},   r and m maxima over training rows

log p(v) ≥ Σ_k E_q[log p(x_{k−1} | x_k) − log q(x_k | x_{k−1})] + E_q[log p_top(x)]
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.scaling import Scaling


class Residual:
    """A second path, parallel to the units of a layer; it does not saturate.

    M. Roder, L. A. Passos, L. C. F. Ribeiro, C. Pereira, J. P. Papa (2020). A layer-wise
    information reinforcement approach to improve learning in deep belief networks. ICAISC.
    """

    def __init__(self, shares: Sequence[float], maxima: Sequence[float] = (1.0, 1.0)):
        self.shares, self.maxima = tuple(shares), tuple(maxima)

    def __call__(self, field: Tensor) -> Tensor:
        of_units, of_field = self.shares
        rectified, largest = self.maxima
        return (of_units * field.sigmoid() + of_field / rectified * field.clamp(min=0)) / largest

    def fitted(self, field: Tensor, maxima: Sequence[float] = (0.0, 0.0)) -> "Residual":
        """The path with the maxima over these rows and earlier ones.

        The maximum of the features is set to at least 1, so that features are never scaled up.
        """
        rectified = max(field.max().item(), maxima[0]) or 1.0
        rectified = rectified if rectified > 0 else 1.0
        largest = Residual(self.shares, (rectified, 1.0))(field).max().item()
        return Residual(self.shares, (rectified, max(1.0, largest, maxima[1])))

    def means(self, features: Tensor) -> Tensor:
        """The units' means σ(a), given their features: bisection for a, as both increase with a."""
        low, high = torch.full_like(features, -40.0), torch.full_like(features, 40.0)
        _, of_field = self.shares
        if of_field:  # upper bound: here the second path alone gives the features
            alone = features * self.maxima[1] * self.maxima[0] / of_field
            high = alone.clamp(min=40.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = self(middle) > features
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return ((low + high) / 2).sigmoid()


class Layer:
    """A model in a stack.

    Parameters
    ----------
    model : RBM
        Its hidden units give the features.
    scaling : Scaling or None
        The map from features of the layer below to rows of the model; None means the identity.
    residual : Residual or None
    """

    def __init__(
        self,
        model: RBM,
        scaling: Scaling | None = None,
        residual: Residual | None = None,
    ):
        self.model, self.residual = model, residual
        self.scaling = Scaling() if scaling is None else scaling

    def visible_units(self, rows: Tensor) -> Tensor:
        """The visible units, given the features below: (n, n_visible)."""
        return self.model.visible.from_rows(self.scaling.encode(rows))

    def rows(self, v: Tensor) -> Tensor:
        """The inverse of `visible_units`."""
        return self.scaling.decode(self.model.visible.to_rows(v))

    def features(self, rows: Tensor) -> Tensor:
        """The features for the layer above: (n, n_features)."""
        return features(self.model, self.visible_units(rows), self.residual)


def features(model: RBM, v: Tensor, residual: Residual | None = None) -> Tensor:
    """Features of the hidden units, given the visible ones: (n, n_features)."""
    field = model.hidden_field(v)  # (n, n_hidden)
    return model.hidden.features(field) if residual is None else residual(field)


def bound(layers: Sequence[Layer], down: Sequence[RBM], rows: Tensor, noise: Noise) -> Tensor:
    """The variational bound, from one draw of q, without the term −log Z of the top: (n,).

    The models `down` define p(v | h) of each layer below the top; `layers` define q.
    """
    total = rows.new_zeros(len(rows))
    for layer, generative in zip(layers, down):
        v, hidden = layer.visible_units(rows), layer.model.hidden.exact()
        field = layer.model.hidden_field(v)  # (n, n_hidden)
        h = hidden.sample(field, noise)  # (n, n_hidden)
        total += generative.visible.exact().log_density(v, generative.visible_field(h))
        total -= hidden.log_density(h, field)
        rows = h
    top = layers[-1]
    return total - top.model.free_energy(top.visible_units(rows))
