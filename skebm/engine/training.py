"""Training: the loop over batches, and the optimisers that it calls.

θ ← θ − rate · step(∂/∂θ of −log-likelihood + ½ weight_decay ‖W‖² + l1 ‖W‖₁)
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from skebm.engine.batches import Batches
from skebm.engine.gradients import Gradient, State
from skebm.engine.models import RBM, grad
from skebm.engine.noise import Noise


class SGD:
    """velocity ← momentum · velocity + grad;  θ ← θ − rate · velocity, all in place."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, momentum: float):
        self.parameters = list(parameters)
        self.learning_rate, self.momentum = learning_rate, momentum
        self.state = {
            p: {"momentum_buffer": torch.zeros_like(p)} if momentum else {} for p in self.parameters
        }

    def step(self) -> None:
        for p in self.parameters:
            step = grad(p)
            if self.momentum:
                step = self.state[p]["momentum_buffer"].mul_(self.momentum).add_(grad(p))
            p.sub_(step, alpha=self.learning_rate)


class Trainer:
    """A model, the gradient and the optimiser that train it, and their state."""

    def __init__(
        self,
        model: RBM,
        gradient: Gradient,
        *,
        optimizer: str = "sgd",
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        l1: float = 0.0,
    ):
        self.model, self.gradient = model, gradient
        self.weight_decay, self.l1 = weight_decay, l1
        self.parameters = model.parameters()
        self.optimizer: SGD | torch.optim.Adam
        if optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.parameters.values(), lr=learning_rate)
        else:
            self.optimizer = SGD(self.parameters.values(), learning_rate, momentum)
        self.gradient_state: State | None = None

    @torch.inference_mode()
    def epoch(self, batches: Batches, noise: Noise) -> None:
        """Visit every row once."""
        for v, weight in batches(noise):
            if self.gradient_state is None:
                self.gradient_state = self.gradient.start(self.model, v, noise)
            self.model.zero_grad()
            self.gradient_state = self.gradient(self.model, v, weight, self.gradient_state, noise)
            self.add_penalty()
            self.optimizer.step()

    def add_penalty(self) -> None:
        for weight in self.model.weights():
            if self.weight_decay:
                grad(weight).add_(weight, alpha=self.weight_decay)
            if self.l1:
                grad(weight).add_(weight.sign(), alpha=self.l1)

    def state(self) -> State:
        """Everything that the next epoch depends on besides parameters and noise, by name."""
        state = dict(self.gradient_state or {})
        for name, p in self.parameters.items():
            for key, value in self.optimizer.state[p].items():
                state[f"{name}.{key}"] = value
        return state

    def load_state(self, state: State) -> None:
        """Go on from what `state` returned."""
        state = dict(state)
        for name, p in self.parameters.items():
            for key in [key for key in state if key.startswith(f"{name}.")]:
                self.optimizer.state[p][key.removeprefix(f"{name}.")] = state.pop(key)
        self.gradient_state = state
