"""Contrastive wake-sleep: it trains all layers of a stack, with separate weights up and down.

    wake:   x_k ~ q(x_k | x_{k−1});    the weights down follow ∂ log p(x_{k−1} | x_k)/∂θ
    top:    an update of the top model on x_{L−1};  it also gives states sampled from this model
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
from skebm.engine.capture import Captured
from skebm.engine.gradients import State
from skebm.engine.models import RBM, Joint, grad
from skebm.engine.noise import Noise
from skebm.engine.stack import Layer
from skebm.engine.training import Trainer


class UpDown:
    """Trains the lower layers of a stack together with the top layer.

    Parameters
    ----------
    trainer : Trainer
        Trains the model of the top layer.
    layers : sequence of Layer
        The layers below the top, with the weights up.
    down : sequence of Layer
        The same layers, with the weights down.
    top : Layer
        The top layer; it encodes the rows of its model.
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
        W, n_targets = trainer.model.W, trainer.model.n_visible - top.model.n_visible
        #: The rows and the weights of an update.
        self.rows = W.new_zeros(trainer.phases.n_data, n_features + n_targets)
        self.weight = torch.zeros_like(trainer.phases.data.weight)  # (n,)
        models = [layer.model for layer in (*layers, *down)]
        capturable = trainer.capturable and all(model.capturable for model in models)
        self._captured = Captured(W.device, capturable)

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
                    self.rows.copy_(rows)
                    self.weight.copy_(weight)
                    self.trainer.set_weight(weight)
                    self._captured(self.update, noise)
            self.trainer.end_epoch()

    def update(self, noise: Noise) -> None:
        """One update of all layers for `rows` and `weight`."""
        x, targets = self._split(self.rows)
        x = self._wake(x, noise)
        self.trainer.set_rows(torch.cat([self.top.scaling.encode(x), targets], 1), noise)
        self.trainer.update(noise)
        self._sleep(noise)

    def raised(self, rows: Tensor) -> Tensor:
        """Rows of the top model with their targets, computed from rows of the first layer."""
        x, targets = self._split(rows.to(self.model.W))
        for layer in self.layers:
            x = layer.features(x)
        return torch.cat([self.top.scaling.encode(x), targets], 1)

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the first layer, and targets."""
        return rows[:, : self.n_features], rows[:, self.n_features :]

    def _wake(self, x: Tensor, noise: Noise) -> Tensor:
        """Draw the states of each layer upwards, and train the weights down on them."""
        rate = self.trainer.optimizer.rate
        for layer, down in zip(self.layers, self.down):
            v = layer.visible_units(x)
            x = layer.model.sample_hidden(v, noise)  # (n, n_hidden)
            surprise = v - down.model.visible.mean(down.model.visible_field(x))
            _ascend(down.model, Joint(surprise, x.clone(), self.weight), rate, without="c")
        return x

    def _sleep(self, noise: Noise) -> None:
        """Draw the states of each layer downwards, and train the weights up on them."""
        rate = self.trainer.optimizer.rate
        states = self.trainer.phases.model
        h = self.top.rows(states.v[:, : self.top.model.n_visible])
        for layer, down in zip(self.layers[::-1], self.down[::-1]):
            v = down.model.sample_visible(h, noise)  # (n, n_visible)
            surprise = h - layer.model.hidden.mean(layer.model.hidden_field(v))
            _ascend(layer.model, Joint(v, surprise, -states.weight), rate, without="b")
            h = down.rows(v)

    def report(self, rows: Tensor | None = None) -> State:
        return self.trainer.report()

    def state(self) -> State:
        return self.trainer.state()


def _ascend(model: RBM, states: Joint, rate: Tensor, *, without: str) -> None:
    """A step along the gradient of log p(v | h) or log q(h | v).

    In `states`, the predicted layer holds its errors (values minus predicted means). `without`
    names the biases of the other layer, which have no gradient.
    """
    model.set_grad(Joint(states.v, states.h, states.weight / model.coupling.n_places))
    grad(getattr(model, without)).zero_()
    model.theta.addcmul_(grad(model.theta), rate)
