"""Contrastive wake-sleep: all layers of a stack together, with two sets of weights, up and down.

    wake:   x_k ~ q(x_k | x_{k−1});    the weights down follow ∂ log p(x_{k−1} | x_k)/∂θ
    top:    an update of the top model on x_{L−1}, which leaves states that stand for the model
    sleep:  x_{k−1} ~ p(x_{k−1} | x_k) from these states;  the weights up follow
            ∂ log q(x_k | x_{k−1})/∂θ

G. E. Hinton, S. Osindero, Y.-W. Teh (2006). A fast learning algorithm for deep belief nets.
Neural Computation 18.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from skebm.engine.batches import Batches
from skebm.engine.gradients import State
from skebm.engine.models import RBM, Joint, grad
from skebm.engine.noise import Noise
from skebm.engine.stack import Layer
from skebm.engine.training import Trainer


class UpDown:
    """Trains the layers of a stack below the top with the top itself.

    Parameters
    ----------
    trainer : Trainer
        Trains the model of the top.
    layers : sequence of Layer
        The layers below the top, on the way up.
    down : sequence of Layer
        The same on the way down.
    top : Layer
        Encodes the rows of the top.
    n_features : int
        Number of features of the first layer; the targets follow them in a row.
    """

    def __init__(
        self,
        trainer: Trainer,
        layers: Sequence[Layer],
        down: Sequence[Layer],
        top: Layer,
        n_features: int,
    ):
        self.trainer, self.model = trainer, trainer.model
        self.layers, self.down, self.top = layers, down, top
        self.n_features = n_features

    def epoch(
        self, batches: Batches, noise: Noise, learning_rate: float, momentum: float = 0.0
    ) -> None:
        """Visit every row once."""
        with torch.inference_mode():
            probe = self.raised(batches.probe)
            self.trainer.begin_epoch(
                probe.mean(0), probe, len(batches), noise, learning_rate, momentum
            )
            with np.errstate(over="ignore", invalid="ignore"):
                for rows, weight in batches(noise):
                    x, targets = self._split(rows)
                    x = self._wake(x, weight, noise, learning_rate)
                    self.trainer.step(torch.cat([self.top.encode(x), targets], 1), weight, noise)
                    self._sleep(noise, learning_rate)
            self.trainer.end_epoch()

    def raised(self, rows: Tensor) -> Tensor:
        """Rows of the top, with their targets, given rows of the first layer."""
        x, targets = self._split(rows)
        for layer in self.layers:
            x = layer.features(x)
        return torch.cat([self.top.encode(x), targets], 1)

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the first layer, and targets."""
        rows = rows.to(self.model.W)
        return rows[:, : self.n_features], rows[:, self.n_features :]

    def _wake(self, x: Tensor, weight: Tensor, noise: Noise, rate: float) -> Tensor:
        """A draw of the states on the way up, from which the weights down learn."""
        for layer, down in zip(self.layers, self.down):
            v = layer.visible_units(x)
            x = layer.model.sample_hidden(v, noise)  # (n, n_hidden)
            surprise = v - down.model.visible.mean(down.model.visible_field(x))
            _ascend(down.model, Joint(surprise, x.clone(), weight), rate, without="c")
        return x

    def _sleep(self, noise: Noise, rate: float) -> None:
        """A draw of the states on the way down, from which the weights up learn."""
        states = self.trainer.phases.model
        h = self.top.rows(states.v[:, : self.top.model.n_visible])
        for layer, down in zip(self.layers[::-1], self.down[::-1]):
            v = down.model.sample_visible(h, noise)  # (n, n_visible)
            surprise = h - layer.model.hidden.mean(layer.model.hidden_field(v))
            _ascend(layer.model, Joint(v, surprise, -states.weight), rate, without="b")
            h = down.rows(v)

    def report(self) -> State:
        return self.trainer.report()

    def state(self) -> State:
        return self.trainer.state()


def _ascend(model: RBM, states: Joint, rate: float, *, without: str) -> None:
    """A step along the gradient of log p(v | h) or log q(h | v), where one of them is an error.

    The biases of the layer that is given, `without`, have no gradient.
    """
    model.set_grad(Joint(states.v, states.h, states.weight / model.coupling.n_places))
    grad(getattr(model, without)).zero_()
    model.theta.add_(grad(model.theta), alpha=rate)
