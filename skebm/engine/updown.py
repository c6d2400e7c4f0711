"""Contrastive wake-sleep: all levels of a stack together, the way up and the way down apart.

    wake:   x_k ~ q(x_k | x_{k−1});    the way down follows ∂ log p(x_{k−1} | x_k)/∂θ
    top:    an update of the top model on x_{L−1}, which leaves states of its own
    sleep:  x_{k−1} ~ p(x_{k−1} | x_k) from these;  the way up follows ∂ log q(x_k | x_{k−1})/∂θ

G. E. Hinton, S. Osindero, Y.-W. Teh (2006). A fast learning algorithm for deep belief nets.
Neural Computation 18.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from skebm.engine.batches import Batches
from skebm.engine.models import RBM, Joint, grad
from skebm.engine.noise import Noise
from skebm.engine.stack import Level
from skebm.engine.training import Trainer


class UpDown:
    """A stack below the top model, and the rows that it makes for it.

    Parameters
    ----------
    batches : Batches
        Rows of the first level.
    levels : sequence of Level
        The way up.
    down : sequence of Level
        The way down.
    top : Level
        Whose rows these are made into.
    """

    def __init__(
        self,
        batches: Batches,
        levels: Sequence[Level],
        down: Sequence[Level],
        top: Level,
    ):
        self.batches, self.levels, self.down, self.top = batches, levels, down, top
        self.device, self.beside, self.visits = batches.device, batches.beside, batches.visits
        self.n_features = batches.X.shape[1]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    @property
    def probe(self) -> Tensor:
        """Some rows of the top: (n, n_features + n_beside)."""
        return self._raised(self.batches.probe)

    @property
    def mean(self) -> Tensor:
        """The mean of these rows."""
        return self.probe.mean(0)

    def _raised(self, rows: Tensor) -> Tensor:
        x, beside = self._split(rows)
        for level in self.levels:
            x = level.features(x)
        return torch.cat([self.top.encode(x), beside], 1)

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the first level is given, and what stands beside it."""
        rows = rows.to(self.top.model.W)
        return rows[:, : self.n_features], rows[:, self.n_features :]

    def train(self, trainer: Trainer, noise: Noise, rate: float, momentum: float) -> None:
        """Visit every row once."""
        self.trainer, self.rate = trainer, rate
        trainer.epoch(self, noise, rate, momentum)

    def __call__(self, noise: Noise) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the top. The levels below learn before and after the top has used each."""
        for rows, weight in self.batches(noise):
            x, beside = self._split(rows)
            for level, down in zip(self.levels, self.down):
                v = level.inward(x)
                x = level.model.sample_hidden(v, noise)
                self._follow(down.model, v, x, weight, of_visible=True)
            yield torch.cat([self.top.encode(x), beside], 1), weight
            states = self.trainer.phases.model
            v = self.trainer.model.visible.plain(states.v)[:, : self.top.model.n_visible]
            h = self.top.outward(v)
            for level, down in zip(self.levels[::-1], self.down[::-1]):
                v = down.model.sample_visible(h, noise)
                self._follow(level.model, v, h, -states.weight, of_visible=False)
                h = down.outward(v)

    def _follow(
        self, model: RBM, v: Tensor, h: Tensor, weight: Tensor, *, of_visible: bool
    ) -> None:
        """A step along the gradient of log p(v | h), or of log q(h | v)."""
        h = h.clone()  # which `set_grad` overwrites
        if of_visible:
            v, other = v - model.visible.mean(model.visible_field(h)), model.c
        else:
            h, other = h.sub_(model.hidden.mean(model.hidden_field(v))), model.b
        model.set_grad(Joint(v, h, weight / model.n_places))
        grad(other).zero_()
        if model.log_scale is not None:
            grad(model.log_scale).zero_()
        model.theta.add_(grad(model.theta), alpha=self.rate)
