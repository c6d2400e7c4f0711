"""RBMs whose layers are there in several copies, which have the same weights and biases.

With n copies of the visible and m of the hidden units, the field of each hidden unit is
c + W Σ_i v_i, and that of each visible unit is b + Wᵀ Σ_j h_j. In a deep Boltzmann machine a layer
gets its field from below and from above; a layer that is trained alone gets as much from two
copies of the layer below or above.

R. Salakhutdinov, G. Hinton (2009). Deep Boltzmann machines. AISTATS.
"""

from functools import partial

import torch
from torch import Tensor

from skebm.engine.models import RBM, Coupling, Dense, Joint
from skebm.engine.noise import Noise
from skebm.engine.units import SiteChanges, Units


class Copies(Units):
    """Several copies of a layer of units, side by side."""

    def __init__(self, units: Units, n: int):
        self.units, self.n = units, n
        self.support, self.capturable = units.support, units.capturable
        self.energy_parameters = units.energy_parameters

    def _apart(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n, -1))

    def on(self, device: torch.device) -> Units:
        return Copies(self.units.on(device), self.n)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        out = torch.empty_like(field) if out is None else out
        self.units.mean(self._apart(field), self._apart(out))
        return out

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        out = torch.empty_like(field) if out is None else out
        self.units.sample(self._apart(field), noise, self._apart(out))
        return out

    def cumulant(self, field: Tensor) -> Tensor:
        return self.units.cumulant(self._apart(field)).sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return self.units.log_base(self._apart(x)).sum(-1)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        return self.units.field_of_mean(self._apart(mean)).flatten(-2)

    def exact(self) -> Units:
        return Copies(self.units.exact(), self.n)

    def parameters(self) -> dict[str, Tensor]:
        return self.units.parameters()

    def bound(self, parameters: dict[str, Tensor]) -> Units:
        return Copies(self.units.bound(parameters), self.n)

    def confine_(self) -> None:
        self.units.confine_()

    def log_base_grad(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        rows = self._apart(x).flatten(0, 1)
        return self.units.log_base_grad(rows, weight.repeat_interleave(self.n))

    def cumulant_grad(self, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        rows = self._apart(field).flatten(0, 1)
        return self.units.cumulant_grad(rows, weight.repeat_interleave(self.n))

    def from_rows(self, rows: Tensor) -> Tensor:
        return torch.cat([self.units.from_rows(rows)] * self.n, -1)

    def to_rows(self, x: Tensor) -> Tensor:
        return self.units.to_rows(self._apart(x)[..., 0, :])

    def log_volume(self) -> float:
        return self.units.log_volume()

    def from_rows_grad(self, x: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        rows, fields = (self._apart(t).flatten(0, 1) for t in (x, field))
        return self.units.from_rows_grad(rows, fields, weight.repeat_interleave(self.n))

    def features_of_fields(self, fields: Tensor) -> Tensor:
        return self.units.features_of_fields(self._apart(fields)[..., 0, :])

    def mean_of_features(self, features: Tensor) -> Tensor:
        return torch.cat([features] * self.n, -1)

    def n_states(self, n_units: int) -> float:
        return self.units.n_states(n_units)

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        return self.units.states(index, n_units, like)

    def cumulant_curvature(self) -> float:
        return self.units.cumulant_curvature()


class Tied(Coupling):
    """A dense coupling of several copies of both layers: all copies have the same weights.

    Parameters
    ----------
    weight : Tensor of shape (n_hidden / n_above, n_visible / n_below)
    n_below, n_above : int
        The numbers of copies of the visible and of the hidden units.
    """

    def __init__(self, weight: Tensor, n_below: int, n_above: int, precision: str = "highest"):
        self.weight, self.dense = weight, Dense(weight, precision)
        self.n_below, self.n_above = n_below, n_above
        self.n_hidden, self.n_visible = n_above * len(weight), n_below * weight.shape[1]
        self.n_places, self.places_per_pixel = n_above, n_above / n_below

    def _sum_below(self, v: Tensor) -> Tensor:
        return v.unflatten(-1, (self.n_below, -1)).sum(-2)

    def sum_hidden(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_above, -1)).sum(-2)

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        return self.dense.up(self._sum_below(v), bias).repeat(1, self.n_above)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        return self.dense.down(self.sum_hidden(h), bias).repeat(1, self.n_below)

    def correlate_(self, out: Tensor, states: Joint) -> None:
        sums = self._sum_below(states.v), self.sum_hidden(states.h), states.weight
        self.dense.correlate_(out, Joint(*sums))

    def sum_states_(self, gb: Tensor, gc: Tensor, states: Joint) -> None:
        torch.mv(self._sum_below(states.v).T, states.weight, out=gb)
        torch.sum(self.sum_hidden(states.h), 0, out=gc)

    def visible_bias(self, b: Tensor) -> Tensor:
        return b.repeat(self.n_below)

    def hidden_bias(self, c: Tensor) -> Tensor:
        return c.repeat(self.n_above)

    def mean_visible(self, x: Tensor) -> Tensor:
        return self._sum_below(x) / self.n_below

    def mean_hidden(self, x: Tensor) -> Tensor:
        return self.sum_hidden(x) / self.n_above

    def weight_sums(self, W: Tensor) -> Tensor:
        return self.n_below * W

    def center_(self, gW: Tensor, gb: Tensor, gc: Tensor, mu: Tensor, lam: Tensor) -> None:
        gW.addr_(gc, mu, alpha=-self.n_below).addr_(lam, gb, alpha=-self.n_above)

    def norm(self) -> Tensor:
        return self.dense.norm() * (self.n_below * self.n_above) ** 0.5

    def hidden_gains(self, hidden: Units, v: Tensor, c: Tensor, changes: SiteChanges) -> Tensor:
        raise NotImplementedError("A row has copies: no unit changes alone.")

    def change_size(self, n_sites: int) -> int:
        return n_sites * self.n_hidden


def copied(model: RBM, n_below: int, n_above: int) -> RBM:
    """The model with copies of its visible and of its hidden units, which have the same weights."""
    if n_below == n_above == 1:
        return model
    assert isinstance(model.coupling, Dense)
    make = partial(Tied, n_below=n_below, n_above=n_above, precision=model.coupling.precision)
    units = Copies(model.visible, n_below), Copies(model.hidden, n_above)
    return RBM(*units, model.W, model.b, model.c, model.b0.repeat(n_below), make)
