"""Training: the loop over batches, and the optimisers that it calls.

θ ← θ + rate · step(∂/∂θ of log-likelihood − ½ weight_decay ‖W‖² − l1 ‖W‖₁ − sparsity penalty)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skebm.engine.batches import CHUNK
from skebm.engine.gradients import Gradient, Phases, State
from skebm.engine.models import RBM, grad
from skebm.engine.noise import Noise

#: How fast the offsets of centred units follow the data, an update.
OFFSET_RATE = 0.01


class Epochs(Protocol):
    """Where rows come from: a call gives one epoch of (rows, weight)."""

    @property
    def mean(self) -> Tensor:
        """The mean of the rows."""

    @property
    def probe(self) -> Tensor:
        """Some rows."""

    def __len__(self) -> int:
        """Number of batches."""

    def __call__(self, noise: Noise) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""


class SGD:
    """velocity ← momentum · velocity + grad;  θ ← θ + rate · velocity, all in place."""

    def __init__(self, theta: Tensor, momentum: bool):
        self.theta, self.grad = theta, grad(theta)
        self.rate, self.momentum = theta.new_zeros(()), theta.new_zeros(())
        self.state = {"velocity": torch.zeros_like(theta)} if momentum else {}

    def set_rate(self, learning_rate: float, momentum: float) -> None:
        self.rate.fill_(learning_rate)
        self.momentum.fill_(momentum)

    def step(self) -> None:
        step = self.grad
        if self.state:
            step = self.state["velocity"].mul_(self.momentum).add_(self.grad)
        self.theta.addcmul_(step, self.rate)


class Adam:
    """torch.optim.Adam, ascending."""

    def __init__(self, theta: Tensor):
        capturable = theta.device.type == "cuda"
        self.rate = theta.new_zeros(()) if capturable else 0.0
        self.optimizer = torch.optim.Adam(
            [theta], lr=self.rate, maximize=True, capturable=capturable, foreach=False
        )
        step = torch.zeros((), device=theta.device if capturable else "cpu")
        self.state = {
            "step": step,
            "exp_avg": torch.zeros_like(theta),
            "exp_avg_sq": torch.zeros_like(theta),
        }
        self.optimizer.state[theta] = self.state

    def set_rate(self, learning_rate: float, momentum: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(learning_rate)
        else:
            self.optimizer.param_groups[0]["lr"] = learning_rate

    def step(self) -> None:
        self.optimizer.step()


class Trainer:
    """A model, the gradient and the optimiser that train it, and their state."""

    def __init__(
        self,
        model: RBM,
        gradient: Gradient,
        *,
        batch_size: int,
        optimizer: str = "sgd",
        momentum: bool = False,
        centered: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        sparsity_target: float | None = None,
        sparsity_cost: float = 1.0,
        max_norm: float | None = None,
        max_grad_norm: float | None = None,
    ):
        self.model, self.gradient, self.centered = model, gradient, centered
        self.weight_decay, self.l1 = weight_decay, l1
        self.sparsity_target, self.sparsity_cost = sparsity_target, sparsity_cost
        self.max_norm, self.max_grad_norm = max_norm, max_grad_norm
        self.optimizer: SGD | Adam = (
            Adam(model.theta) if optimizer == "adam" else SGD(model.theta, momentum)
        )
        self.phases = Phases(model, batch_size, gradient.n_model(model, batch_size))
        self.gradient_state: State | None = None
        self.averages: State = {}
        self.offsets: State = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager = model.theta.device.type != "cuda"

    @torch.inference_mode()
    def epoch(
        self, batches: Epochs, noise: Noise, learning_rate: float, momentum: float = 0.0
    ) -> None:
        """Visit every row once."""
        self.optimizer.set_rate(learning_rate, momentum)
        self.model.normalise_()
        n_data = len(self.phases.data.v)
        # An overflow shows in the parameters at the end of the epoch.
        with self._coordinates(batches), np.errstate(over="ignore", invalid="ignore"):
            if self.gradient_state is None:
                self.gradient_state = self.gradient.start(self.model, n_data, noise)
            known = None
            for rows, weight in batches(noise):
                self.model.visible.told(self.model.inward(rows), self.phases.data.v)
                if weight is not known:
                    self.phases.set_weight(weight / self.model.n_places)
                    known = weight
                self._update(noise)
        self.model.normalise_()

    def update(self, noise: Noise) -> None:
        """One step along the gradient at the batch that `phases` hold."""
        model, phases = self.model, self.phases
        assert self.gradient_state is not None
        model.begin_update(phases.data, noise)
        self.gradient(model, phases, self.gradient_state, noise)
        model.set_scale_grad(phases.data)
        missing = None
        if self.sparsity_target is not None:
            missing = model.missing_activity(phases.data, self.sparsity_target)
        model.set_grad(phases)
        for W in model.weights():
            if self.weight_decay:
                grad(W).add_(W, alpha=-self.weight_decay)
            if self.l1:
                grad(W).add_(W.sign(), alpha=-self.l1)
        if missing is not None:
            # The penalty is the cross-entropy between mean activity and target. In centred
            # coordinates it acts on biases alone.
            grad(model.c).add_(missing, alpha=self.sparsity_cost)
        if self.max_grad_norm is not None:
            gradient = grad(model.theta)
            gradient.mul_((self.max_grad_norm / gradient.norm()).clamp(max=1))
        self.optimizer.step()
        if self.max_norm is not None:
            for W in model.weights():
                W.renorm_(2, 0, self.max_norm)
        model.confine_()

    @contextmanager
    def _coordinates(self, batches: Epochs) -> Iterator[None]:
        """Centred coordinates, where they are wanted, for model, offsets and chains."""
        if not self.centered:
            yield
            return
        model = self.model
        probe, mean = model.inward(batches.probe), model.inward(batches.mean)
        pieces = probe.split(max(1, CHUNK // model.row_size))
        sums = [model.hidden.mean(model.hidden_field(v)).sum(0) for v in pieces]
        activation = torch.stack(sums).sum(0) / len(probe)  # (n_hidden,)
        rate = 1 - (1 - OFFSET_RATE) ** len(batches) if self.averages else 1.0
        names = ("visible_offset", "hidden_offset")
        for name, value in zip(names, model.origin(mean, activation)):
            average = self.averages.setdefault(name, torch.zeros_like(value)).lerp_(value, rate)
            # Multiples of 1/256: binary states minus these are exact in every precision.
            offset = self.offsets.setdefault(name, torch.empty_like(value))
            torch.mul(average, 256, out=offset).round_().div_(256)
        mu, lam = self.offsets["visible_offset"], self.offsets["hidden_offset"]
        chains = (self.gradient_state or {}).get("chains")
        with model.centered(mu, lam):
            if chains is not None:
                model.hidden.told(chains, chains)
            yield
            assert self.gradient_state is not None
            if "chains" in self.gradient_state:
                chains = self.gradient_state["chains"]
                chains.copy_(model.hidden.plain(chains))

    def _update(self, noise: Noise) -> None:
        """The update; on CUDA as one graph from the second on."""
        if self._graph is not None:
            return self._graph.replay()
        self.update(noise)
        if self._eager:
            return None
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(noise.generator)
        try:
            with torch.cuda.graph(graph):
                self.update(noise)
            self._graph = graph
        except RuntimeError:  # the gradient does something that a graph cannot hold
            self._eager = True

    def report(self) -> State:
        """Figures of the gradient's and the model's own, for the history."""
        return self.gradient.report(self.gradient_state or {}) | self.model.report()

    def state(self) -> State:
        """Everything that the next epoch depends on besides parameters and noise, by name."""
        return {**(self.gradient_state or {}), **self.averages, **self.optimizer.state}

    def load_state(self, state: State) -> None:
        """Go on from what `state` returned."""
        state = dict(state)
        for name, value in self.optimizer.state.items():
            value.copy_(state.pop(name))
        if self.centered:
            names = ("visible_offset", "hidden_offset")
            self.averages = {name: state.pop(name) for name in names}
        self.gradient_state = state
