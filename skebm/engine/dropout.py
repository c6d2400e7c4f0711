"""Models that lose units or weights at random while they are trained.

    units   : F_r(v) = −b·v − Σ_j r_j softplus(c_j + W_j·v),             P(r_j = 1) = 1 − p
    weights : F_m(v) = −b·v − Σ_j softplus(c_j + (W ∘ m)_j·v),           P(m_ji = 1) = 1 − p
    energy  : as units, with r_ij = 1 where I_ij / max I < u_ij,  u uniform,
              I_ij = (P(h_j = 1 | v′_i) / P(h_j = 1 | v_i)) / |E(v′_i, h′_i) − E(v_i, h_i)|

Masks are drawn anew in each update and are the same in both phases and in the gradient: a dropped
unit gets no gradient from that case. Each training case has its own mask of units. Cases share
masks of weights, because such a mask is as large as the weights: case i uses mask i modulo the
number of masks, which divides the number of cases. Each case alone has the same distribution of
masks as if it had a mask of its own. The number of rows in the model phase is a multiple of the
number of cases, and its row i uses mask i modulo the number of masks, too.
"""

import copy
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor

from skebm.engine.models import RBM, Beta, Dense, Joint, Pair, path
from skebm.engine.noise import Noise

#: How many masks of weights are drawn for a batch, at least, if it has so many cases.
N_MASKS = 8


class Dropping(RBM):
    """An RBM that is trained with masks.

    `begin_update` returns the model with the masks of one update. Without a mask, no unit and no
    weight is dropped.
    """

    mask: Tensor | None = None
    #: Whether what is dropped scales the weights, and the hidden biases, after training.
    scales: ClassVar[tuple[bool, bool]] = (False, False)

    def __init__(self, model: RBM, rate: float):
        assert isinstance(model.coupling, Dense)
        self._dense = partial(Dense, precision=model.coupling.precision)
        W, b, c, b0 = model.W, model.b, model.c, model.b0
        super().__init__(model.visible, model.hidden, W, b, c, b0, self._dense)
        self.rate = rate

    @classmethod
    def test_scale(cls, rate: float) -> list[float]:
        """The factors of the weights and of the hidden biases after training."""
        return [1 - rate if scaled else 1.0 for scaled in cls.scales]

    def without_dropout(self) -> RBM:
        of_weights, of_biases = self.test_scale(self.rate)
        W, c = self.W * of_weights, self.c * of_biases
        return RBM(self.visible, self.hidden, W, self.b, c, self.b0, self._dense)

    def begin_update(self, data: Joint, noise: Noise) -> Self:
        update = copy.copy(self)
        update.mask = self.draw_mask(data, noise)
        return update

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        """Draw the masks of the training cases `data`."""
        raise NotImplementedError

    def figures(self) -> dict[str, Tensor]:
        """The share of units, or weights, that an update kept."""
        return {} if self.mask is None else {"kept": self.mask.mean()}

    def _coins(self, *shape: int) -> Tensor:
        return self.W.new_full(shape, 1 - self.rate)


class DroppedUnits(Dropping):
    """Hidden units are kept with probability 1 − rate."""

    scales = (True, True)

    def kept_shares(self) -> tuple[float, float]:
        return 1.0, 1 - self.rate

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        return noise.bernoulli(self._coins(len(data.v), len(self.c)))

    def masked(self, x: Tensor) -> Tensor:
        """x (n, n_hidden) for the units that are kept, and zero for the others."""
        if self.mask is None:
            return x
        return (x.view(-1, *self.mask.shape) * self.mask).view_as(x)

    def hidden_cumulant(self, field: Tensor) -> Tensor:
        return self.masked(self.hidden.cumulant_terms(field)).sum(-1)  # (n,)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        return super().visible_field(self.masked(h), beta)

    def set_grad(
        self, states: Joint, data: Joint | None = None, offsets: Pair | None = None
    ) -> Tensor | None:
        states.h.copy_(self.masked(states.h))
        return super().set_grad(states, data, offsets)


class DroppedByEnergy(DroppedUnits):
    """Hidden units are dropped with probability I / max I, the maximum over units and cases.

    A preliminary Gibbs sweep gives the reconstruction v′ of each case v. Without bounds, a very
    large I of one unit in one case would make all other units be kept. So the probabilities P are
    clipped to [0.1, 0.9], and the change of energy of a case is at least half of its mean over the
    batch.
    """

    scales = (False, False)
    bounds: ClassVar[tuple[float, float]] = (0.1, 0.9)

    def kept_shares(self) -> tuple[float, float]:
        return 1.0, 1.0

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        probabilities, energies, v = [], [], data.v
        for _ in range(2):
            field = self.hidden_field(v)  # (n, n_hidden)
            h = self.hidden.sample(field, noise)
            probabilities.append(self.hidden.mean(field).clamp_(*self.bounds))
            energies.append(-(v @ self.b) - self.visible.log_base(v) - (h * field).sum(1))
            v = self.sample_visible(h, noise)
        change = (energies[1] - energies[0]).abs()  # (n,)
        change = change.clamp(min=change.mean() / 2 + torch.finfo(change.dtype).tiny)
        importance = probabilities[1] / probabilities[0] / change[:, None]  # (n, n_hidden)
        return (importance / importance.max() < noise.uniform(importance)).to(importance)


class DroppedWeights(Dropping):
    """Weights are kept with probability 1 − rate."""

    scales = (True, False)
    #: W of each mask in this update: (n_masks, n_hidden, n_visible).
    masked_weights: Tensor

    def begin_update(self, data: Joint, noise: Noise) -> Self:
        update = super().begin_update(data, noise)
        assert update.mask is not None
        update.masked_weights = self.W * update.mask
        return update

    def kept_shares(self) -> tuple[float, float]:
        return 1 - self.rate, 1 - self.rate

    def draw_mask(self, data: Joint, noise: Noise) -> Tensor:
        n = len(data.v)
        n_masks = next(k for k in range(min(N_MASKS, n), n + 1) if n % k == 0)
        return noise.bernoulli(self._coins(n_masks, *self.W.shape))

    def hidden_field(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        if self.mask is None:
            return super().hidden_field(v, beta)
        return path(_each(self.masked_weights, v) + self.c, beta)  # (n, n_hidden)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        if self.mask is None:
            return super().visible_field(h, beta)
        return path(_each(self.masked_weights.mT, h) + self.b, beta, self.b0)  # (n, n_visible)

    def set_grad(
        self, states: Joint, data: Joint | None = None, offsets: Pair | None = None
    ) -> Tensor | None:
        super().set_grad(states, data)
        mask = self.mask
        assert mask is not None
        v, h = (x.view(-1, len(mask), x.shape[1]) for x in (states.v, states.h))
        products = torch.einsum("knh,knd->nhd", h, v)  # (n_masks, n_hidden, n_visible)
        torch.sum(products.mul_(mask), 0, out=self.gradients[0])
        if offsets is not None:
            self.coupling.center_(*self.gradients, *offsets)
        return None


def _each(matrices: Tensor, x: Tensor) -> Tensor:
    """The product of each row with its mask's matrix, for matrices (n_masks, k, m): (n, k)."""
    cases = x.view(-1, len(matrices), x.shape[1]).permute(1, 2, 0)  # (n_masks, m, n / n_masks)
    return torch.bmm(matrices, cases).permute(2, 0, 1).reshape(len(x), -1)


DROPPING = {"units": DroppedUnits, "weights": DroppedWeights, "energy": DroppedByEnergy}
