"""Training: the update on one batch, the loop over batches, and the optimisers.

θ ← θ + rate · step(∂/∂θ of log-likelihood − penalties)
penalties = ½ weight_decay ‖W‖² + l1 ‖W‖₁ + l1b / (2 n_visible) Σ_j ‖W_j‖₁² + sparsity penalty

The centred gradient corrects the plain gradient with the offsets μ of the visible units and λ of
the hidden units:

    gW −= gc μᵀ + λ gbᵀ,      gb −= gWᵀ λ,      gc −= gW μ

This gives the same step as the plain gradient of the same model written in v − μ and h − λ, with
the biases b + Wᵀ λ and c + W μ. The cap on the norm applies to the gradient with respect to W and
these biases; so it comes before the last two formulas.

Every choice of the offsets gives the same gradient in expectation. `hidden_share` takes a share of
the means of the hidden units as λ, and `hidden_bias_rate` lets c + W μ learn faster: both make
binary hidden units be on more rarely.

J. Tubiana, S. Cocco, R. Monasson (2019). Learning protein constitutive motifs from sequence data.
eLife 8. (l1b)
J. Melchior, A. Fischer, L. Wiskott (2016). How to center deep Boltzmann machines. JMLR 17.
D. P. Kingma, J. Ba (2015). Adam: a method for stochastic optimization. ICLR.
"""

import math

import numpy as np
import torch
from torch import Tensor

from skebm.engine.batches import Batches, in_pieces
from skebm.engine.capture import Captured
from skebm.engine.damping import damp_
from skebm.engine.gradients import Gradient, Phases, State, joined, part
from skebm.engine.models import RBM, Dense, Pair, grad
from skebm.engine.noise import Noise
from skebm.engine.parallel import ALONE, Processes
from skebm.engine.sampling import distance_along_axis

#: The rate, per update, at which the offsets of the centred gradient follow the data.
OFFSET_RATE = 0.01
OFFSETS = ("visible_offset", "hidden_offset")


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
    """θ ← θ + rate · m / (√v + ε), where m and v are the bias-corrected moments."""

    decay = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, theta: Tensor):
        self.theta, self.grad = theta, grad(theta)
        self.rate = theta.new_zeros(())
        self.state = {
            "step": theta.new_zeros(()),
            "exp_avg": torch.zeros_like(theta),
            "exp_avg_sq": torch.zeros_like(theta),
        }

    def set_rate(self, learning_rate: float, momentum: float) -> None:
        self.rate.fill_(learning_rate)

    def step(self) -> None:
        step, mean, square = self.state.values()
        step.add_(1)
        mean.lerp_(self.grad, 1 - self.decay[0])
        square.mul_(self.decay[1]).addcmul_(self.grad, self.grad, value=1 - self.decay[1])
        of_mean, of_square = (-torch.expm1(step * math.log(decay)) for decay in self.decay)
        spread = square.div(of_square).sqrt_().add_(self.epsilon)
        self.theta.addcmul_(mean / spread, self.rate / of_mean)


class Trainer:
    """A model, the gradient and the optimiser that train it, and their state.

    Several processes may train one model. Each has its rows of a batch and its chains; the sum of
    the gradients over the processes is the gradient of the batch.
    """

    def __init__(
        self,
        model: RBM,
        gradient: Gradient,
        *,
        batch_size: int,
        optimizer: str = "sgd",
        momentum: bool = False,
        centered: bool = False,
        hidden_share: float = 1.0,
        hidden_bias_rate: float = 1.0,
        sample_rows: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        l1b: float = 0.0,
        sparsity_target: float | None = None,
        sparsity_cost: float = 1.0,
        max_norm: float | None = None,
        max_grad_norm: float | None = None,
        leaves_out: bool = False,
        processes: Processes = ALONE,
    ):
        self.model, self.gradient = model, gradient
        self.processes = processes
        self.processes.broadcast_(model.theta)
        self.centered, self.sample_rows = centered, sample_rows
        self.hidden_share = hidden_share
        self.hidden_bias_rate = hidden_bias_rate if centered else 1.0
        self.weight_decay, self.l1, self.l1b = weight_decay, l1, l1b
        self.sparsity_target, self.sparsity_cost = sparsity_target, sparsity_cost
        self.max_norm, self.max_grad_norm = max_norm, max_grad_norm
        self.optimizer: SGD | Adam = (
            Adam(model.theta) if optimizer == "adam" else SGD(model.theta, momentum)
        )
        n_model = gradient.n_model(model, batch_size)
        #: The number of states of the model in each process.
        self.n_model = self.processes.exchange("the number of chains", n_model)
        self.phases = Phases(model, batch_size, n_model, gradient.paired)
        if leaves_out:  # missing units, which are NaN in rows, are fixed at their means
            assert gradient.paired
            self.means = model.visible.mean(model.b0)
            self.phases.data.observed = torch.ones_like(self.phases.data.v, dtype=torch.bool)
        self.gradient_state: State | None = None
        #: Whether new chains start at rows of data; those of a trained model far from the rows
        #: would take many sweeps to them, and spoil the model in the meantime.
        self.start_at_rows = False
        #: The offsets μ and λ of the centred gradient, which are constant during an epoch. They
        #: are the rounded values of `averages`, the running means of the units.
        self.offsets: State = {}
        self.averages: State = {}
        #: Sums of the figures of the updates of this epoch.
        self.figures: State = {}
        self.n_updates = 0
        self._weight: Tensor | None = None
        #: The strength of the damping, or None for plain gradients.
        self._strength: Tensor | None = None
        #: Whether a CUDA graph can hold an update.
        self.capturable = model.capturable and gradient.capturable and self.processes.size == 1
        self._captured = Captured(model.theta.device, self.capturable)

    def epoch(
        self, batches: Batches, noise: Noise, learning_rate: float, momentum: float = 0.0
    ) -> None:
        """Visit every row once."""
        with torch.inference_mode():
            self.begin_epoch(
                batches.mean, batches.probe, len(batches), noise, learning_rate, momentum
            )
            # An overflow shows in the parameters at the end of the epoch.
            updates = self.processes.updates([grad(self.model.theta)], len(batches))
            with np.errstate(over="ignore", invalid="ignore"), updates:
                for rows, weight in batches(noise):
                    self.step(rows, weight, noise)
            self.end_epoch()

    def begin_epoch(
        self,
        mean: Tensor,
        probe: Tensor,
        n_updates: int,
        noise: Noise,
        learning_rate: float,
        momentum: float,
    ) -> None:
        """Set the rates and move the offsets; before the first epoch, start the chains.

        `mean` is the mean of all rows; `probe` holds a sample of the rows.
        """
        self.optimizer.set_rate(learning_rate, momentum)
        if self.gradient.relaxation is not None and isinstance(self.model.coupling, Dense):
            step = self.optimizer.rate * self.model.generative / (1 - momentum)
            self._strength = step / self.gradient.relaxation
        self.model.normalise_()
        for total in self.figures.values():
            total.zero_()
        self.n_updates = n_updates
        if self.centered:
            self._follow_means(mean, probe, n_updates)
        if self.gradient_state is None:
            self.gradient_state = self.gradient.start(self.model, self.phases.n_data, noise)
            if self.start_at_rows and "chains" in self.gradient_state:
                # The rows of the probe have an order: chains start evenly spread over all of it.
                chains = self.gradient_state["chains"].unflatten(0, (self.gradient.n_levels, -1))
                n_chains = chains.shape[1]
                rows = probe[torch.arange(n_chains, device=probe.device) * len(probe) // n_chains]
                v = self.model.complete(self.model.visible.from_rows(rows))
                for level in chains:
                    level.copy_(self.model.sample_hidden(v, noise))

    def end_epoch(self) -> None:
        """Make sure that the partition function of the model is finite."""
        self.model.normalise_()
        if self.processes.size > 1:
            self._share_state()

    def _share_state(self) -> None:
        """Give the state of the gradient, but for the chains, its mean over the processes."""
        state = {k: t.cpu() for k, t in (self.gradient_state or {}).items() if k != "chains"}
        states = self.processes.exchange("the state of the gradient", state)
        assert self.gradient_state is not None
        for name in state:
            mean = torch.stack([other[name] for other in states]).mean(0)
            self.gradient_state[name].copy_(mean)

    def step(self, rows: Tensor, weight: Tensor, noise: Noise) -> None:
        """One step along the gradient of Σ_i weight_i log p(row_i)."""
        self.set_rows(rows, noise)
        self.set_weight(weight)
        self._captured(self.update, noise)

    def set_rows(self, rows: Tensor, noise: Noise) -> None:
        """Set the states of the data for the next update.

        With `sample_rows`, the numbers of a row are probabilities, and the states are a draw.
        """
        if self.sample_rows:
            rows = noise.bernoulli(rows, out=self.phases.data.v.new_empty(rows.shape))
        data = self.phases.data
        self.model.observe_(data, rows)
        if data.observed is not None:
            torch.logical_not(data.v.isnan(), out=data.observed)
            data.v.copy_(torch.where(data.observed, data.v, self.means))

    def set_weight(self, weight: Tensor) -> None:
        """Set the weights of the rows for the next update."""
        # Full batches share one tensor; damping changes the weights of the phases.
        if weight is not self._weight or self._strength is not None:
            self.phases.set_weight(weight / self.model.coupling.n_places)
            self._weight = weight

    def update(self, noise: Noise) -> None:
        """One step for the rows and weights in `phases`."""
        model, phases = self.model.begin_update(self.phases.data, noise), self.phases
        assert self.gradient_state is not None
        self.gradient(model, phases, self.gradient_state, noise)
        offsets, rate = self._offsets() if self.centered else None, self.hidden_bias_rate
        if self._strength is not None:
            damp_(phases, offsets, self._strength)
        missing = None
        if self.sparsity_target is not None:
            # The penalty is the cross-entropy between mean activity and target.
            missing = model.missing_activity(phases.data, self.sparsity_target)
        centered_v = model.set_grad(phases, phases.data, offsets)
        gW, gb, gc = model.gradients
        is_penalised = bool(self.weight_decay or self.l1 or self.l1b)
        # Whether the final gW is a product of centred states of this process.
        by_states = centered_v is not None and not is_penalised and self.processes.size == 1
        gradient, excess = self.optimizer.grad, None
        if self.max_grad_norm is not None or not by_states:
            if centered_v is not None:
                phases.bias_grads_(centered_v, gb, gc)
            if rate != 1:
                gc.mul_(rate)
            if missing is not None:
                gc.add_(missing, alpha=self.sparsity_cost * rate)
        self.processes.sum_([gradient])
        if is_penalised:
            self._penalise_(gW)
        if self.max_grad_norm is not None:
            excess = torch.linalg.vector_norm(gradient).div_(self.max_grad_norm).clamp_(min=1)
        if centered_v is not None and by_states:
            phases.bias_grads_(centered_v, gb, gc, offsets, rate)
            if missing is not None:
                gc.add_(missing, alpha=self.sparsity_cost * rate)
        elif offsets is not None:
            model.coupling.compensate_(gb, gc, gW, *offsets)
        if excess is not None:
            gradient.div_(excess)
        if "rate" in self.gradient_state:
            gradient.mul_(self.gradient_state["rate"])
        self.optimizer.step()
        if self.max_norm is not None:
            self._cap_norms(self.max_norm)
        model.confine_()
        for name, figure in model.figures().items():
            self.figures.setdefault(name, torch.zeros_like(figure)).add_(figure)

    def _penalise_(self, gW: Tensor) -> None:
        """Subtract the gradient of the penalties of the weights."""
        W = self.model.W
        gW.add_(W, alpha=-self.weight_decay).add_(W.sign(), alpha=-self.l1)
        if self.l1b:
            parts = [*zip(*map(self.model.coupling.matrices, (W, gW)))]
            for part, slope in parts:
                n_inputs = self.model.n_visible if len(parts) == 1 else part.shape[1]
                norms = part.abs().flatten(1).sum(1).view(-1, *[1] * (part.ndim - 1))
                slope.addcmul_(part.sign(), norms, value=-self.l1b / n_inputs)

    def _cap_norms(self, max_norm: float) -> None:
        """Scale down the weight vector of each hidden unit if its norm exceeds `max_norm`."""
        model = self.model
        before = model.W.clone()
        for W in model.coupling.matrices(model.W):
            W.renorm_(2, 0, max_norm)
        if self.centered:
            model.coupling.compensate_(model.b, model.c, model.W - before, *self._offsets())

    def _offsets(self) -> Pair:
        """μ and λ."""
        visible, hidden = OFFSETS
        return self.offsets[visible], self.offsets[hidden]

    def _follow_means(self, mean: Tensor, probe: Tensor, n_updates: int) -> None:
        """Move the offsets towards the means of visible and hidden units over rows of data."""
        model, coupling = self.model, self.model.coupling
        v = model.complete(model.visible.from_rows(probe))
        of_rows = model.visible.from_rows(mean)
        of_rows[model.n_rows :] = v.mean(0)[model.n_rows :]  # of latent units
        pieces = in_pieces(v, model.row_size)
        sums = [model.hidden.mean(model.hidden_field(piece)).sum(0) for piece in pieces]
        of_visible, of_hidden = model.kept_shares()
        of_hidden *= self.hidden_share
        means = (
            coupling.mean_visible(of_rows) * of_visible,
            coupling.mean_hidden(torch.stack(sums).sum(0) / len(probe)) * of_hidden,
        )
        rate = 1 - (1 - OFFSET_RATE) ** n_updates if self.averages else 1.0
        for name, value in zip(OFFSETS, means):
            self.processes.broadcast_(value)
            average = self.averages.setdefault(name, torch.zeros_like(value)).lerp_(value, rate)
            # Multiples of 1/256 are exact in single and in double precision.
            offset = self.offsets.setdefault(name, torch.empty_like(value))
            torch.mul(average, 256, out=offset).round_().div_(256)

    def report(self, rows: Tensor | None = None) -> State:
        """Figures of the gradient and of the model over the last epoch, for the history.

        If some rows are given, persistent chains are compared with them, but not with grey values,
        which stand for probabilities.
        """
        figures = {name: total / self.n_updates for name, total in self.figures.items()}
        state = self.gradient_state or {}
        if rows is not None and "chains" in state:
            n = self.model.n_rows
            v, chains = self.model.visible.from_rows(rows)[:, :n], self.phases.model.v[:, :n]
            if not self.model.visible.is_discrete or (v == v.round()).all():  # no grey values
                figures["chain_distance"] = distance_along_axis(v, chains)
        return self.gradient.report(state) | figures

    def state(self) -> State:
        """All tensors that the next epoch needs, except parameters and noise, by name.

        The chains are those of all processes.
        """
        state = dict(self.gradient_state or {})
        if "chains" in state and self.processes.size > 1:
            chains = self.processes.exchange("chains", state["chains"].cpu())
            state["chains"] = joined(chains, self.gradient.n_levels)
        return {**state, **self.averages, **self.optimizer.state}

    def load_state(self, state: State) -> None:
        """Restore the tensors that `state` returned."""
        assert self._captured.graph is None, "a graph would go on with the tensors from before"
        state = dict(state)
        for name, value in self.optimizer.state.items():
            value.copy_(state.pop(name))
        if self.centered:
            self.averages = {name: state.pop(name) for name in OFFSETS}
        n_data = self.phases.n_data
        if "chains" in state and self.processes.size > 1:
            first = sum(self.n_model[: self.processes.rank])
            which = range(first, first + self.n_model[self.processes.rank])
            state["chains"] = part(state["chains"], self.gradient.n_levels, which)
        self.gradient_state = self.gradient.resized(state, self.model, n_data)
