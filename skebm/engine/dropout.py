"""Models that lose units or weights at random while they are trained.

    units   : F_r(v) = −b·v − Σ_j r_j softplus(c_j + W_j·v),             r_j = 1 with 1 − p
    weights : F_m(v) = −b·v − Σ_j softplus(c_j + (W ∘ m)_j·v),           m_ji = 1 with 1 − p
    energy  : as units, with r_ij = 1 where I_ij / max I < u_ij,  u uniform,
              I_ij = (P(h_j = 1 | v′_i) / P(h_j = 1 | v_i)) / |E(v′_i, h′_i) − E(v_i, h_i)|

A mask is drawn for every training case and update, and is the same in both phases and in the
gradient: a dropped unit gets none from that case. Rows that stand for the model follow the
cases' masks in turn: there are as many of them as cases, or some times as many.
"""

from typing import ClassVar

import torch
from torch import Tensor

from skebm.engine.models import RBM, Beta, Joint, grad, path
from skebm.engine.noise import Noise


class Dropping(RBM):
    """An RBM with a mask for each training case; `begin_update` draws the masks."""

    def __init__(self, model: RBM, rate: float):
        W, b, c = model.W, model.b, model.c
        super().__init__(model.visible, model.hidden, W, b, c, model.b0, model.precision)
        self.rate = rate
        self.units = model.hidden  # also where the model is told in centred coordinates
        #: The masks during an update, where there are any.
        self.mask: Tensor | None = None
        self.kept, self.n_updates = c.new_zeros(()), c.new_zeros(())

    @staticmethod
    def test_scale(rate: float) -> tuple[float, float]:
        """What weights and hidden biases are multiplied by once training is over."""
        return 1.0, 1.0

    def at_test(self) -> RBM:
        of_weights, of_biases = self.test_scale(self.rate)
        W, c = self.W * of_weights, self.c * of_biases
        return RBM(self.visible, self.hidden, W, self.b, c, self.b0)

    def begin_update(self, data: Joint, noise: Noise) -> None:
        self.mask = self.draw_mask(data, noise)
        self.kept += self.mask.mean()
        self.n_updates += 1

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        """Masks for these cases."""
        raise NotImplementedError

    def free_energy(self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None) -> Tensor:
        if self.mask is None:
            return super().free_energy(v, beta, field)
        field = path(self.hidden_field(v) if field is None else field, beta)
        origin = self.hidden.plain(torch.zeros_like(self.c))  # (n_hidden,)
        b = path(self.b - self.W.T @ origin, beta, self.b0)  # (n_visible,), of plain units
        linear = (self.visible.plain(v) * b).sum(-1)  # (n,)
        cumulants = self.units.cumulants(field)  # (n, n_hidden)
        return -(linear + self.visible.log_base(v) + self.masked(cumulants).sum(-1))

    def masked(self, x: Tensor) -> Tensor:
        """x (n, n_hidden) of the units that are kept, and zero for the others."""
        return x

    def set_grad(self, states: Joint) -> None:
        super().set_grad(states)
        self.mask = None

    def report(self) -> dict[str, Tensor]:
        """The share that was kept since the last report."""
        kept = self.kept / self.n_updates
        self.kept.zero_()
        self.n_updates.zero_()
        return {"kept": kept}

    def _coins(self, *shape: int) -> Tensor:
        return self.W.new_full(shape, 1 - self.rate)


class DroppedUnits(Dropping):
    """Hidden units are kept with probability 1 − rate."""

    @staticmethod
    def test_scale(rate: float) -> tuple[float, float]:
        return 1 - rate, 1 - rate

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        return noise.bernoulli(self._coins(len(data.v), len(self.c)))

    def masked(self, x: Tensor) -> Tensor:
        assert self.mask is not None
        return (x.view(-1, *self.mask.shape) * self.mask).view_as(x)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        if self.mask is None:
            return super().visible_field(h, beta)
        zero = self.hidden.plain(torch.zeros_like(self.c))
        return super().visible_field(self.masked(self.hidden.plain(h)) - zero, beta)

    def set_grad(self, states: Joint) -> None:
        states.h.copy_(self.masked(states.h))
        super().set_grad(states)


class DroppedByEnergy(DroppedUnits):
    """Hidden units are dropped the more often, the more they raise the energy's change.

    A preliminary sweep leads from each case to a reconstruction. Two quantities have heavy
    tails, which would leave one unit of one case alone to be dropped, so they are bounded:
    probabilities lie in [0.1, 0.9], and a case's change of energy is at least half of what it
    is in the batch on average.
    """

    bounds: ClassVar[tuple[float, float]] = (0.1, 0.9)

    @staticmethod
    def test_scale(rate: float) -> tuple[float, float]:
        return 1.0, 1.0

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        probabilities, energies, v = [], [], data.v
        for _ in range(2):
            field = self.hidden_field(v)  # (n, n_hidden)
            h = self.hidden.sample(field, noise)
            probabilities.append(self.hidden.plain(self.hidden.mean(field)).clamp_(*self.bounds))
            energies.append(-(v @ self.b) - self.visible.log_base(v) - (h * field).sum(1))
            v = self.sample_visible(h, noise)
        change = (energies[1] - energies[0]).abs()  # (n,)
        change = change.clamp(min=change.mean() / 2 + torch.finfo(change.dtype).tiny)
        importance = probabilities[1] / probabilities[0] / change[:, None]  # (n, n_hidden)
        return (importance / importance.max() < noise.uniform(importance)).to(importance)


class DroppedWeights(Dropping):
    """Weights are kept with probability 1 − rate."""

    @staticmethod
    def test_scale(rate: float) -> tuple[float, float]:
        return 1 - rate, 1.0

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        return noise.bernoulli(self._coins(len(data.v), *self.W.shape))

    def hidden_field(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        if self.mask is None:
            return super().hidden_field(v, beta)
        origin = self.W @ self.visible.plain(torch.zeros_like(self.b))  # (n_hidden,)
        x = _each(self.W * self.mask, self.visible.plain(v)) - origin  # (n, n_hidden)
        return path(x + self.c, beta)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        if self.mask is None:
            return super().visible_field(h, beta)
        origin = self.W.T @ self.hidden.plain(torch.zeros_like(self.c))  # (n_visible,)
        x = _each((self.W * self.mask).mT, self.hidden.plain(h)) - origin  # (n, n_visible)
        return path(x + self.b, beta, self.b0)

    def set_grad(self, states: Joint) -> None:
        mask = self.mask
        assert mask is not None
        super().set_grad(states)
        v, h = (x.view(-1, len(mask), x.shape[1]) for x in (states.v, states.h))
        products = torch.einsum("knh,knd->nhd", h, v)  # (n_cases, n_hidden, n_visible)
        grad(self.W).copy_(products.mul_(mask).sum(0))


def _each(matrices: Tensor, x: Tensor) -> Tensor:
    """The product of each row with its case's matrix, for matrices (n_cases, k, m): (n, k)."""
    cases = x.view(-1, len(matrices), x.shape[1]).permute(1, 2, 0)  # (n_cases, m, n / n_cases)
    return torch.bmm(matrices, cases).permute(2, 0, 1).reshape(len(x), -1)


DROPPING = {"units": DroppedUnits, "weights": DroppedWeights, "energy": DroppedByEnergy}
