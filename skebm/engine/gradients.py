"""Gradients of the log-likelihood: exact, or estimated from samples.

    ∂ log L/∂θ = ⟨−∂E/∂θ⟩_data − ⟨−∂E/∂θ⟩_model

Both terms are averages over joint states (v, h). The states of the data are the rows of a batch,
with hidden units at their means. The classes differ in the states of the model: states k Gibbs
sweeps away from the data (CD), chains that continue from update to update (PCD), chains that
exchange states with chains at higher temperatures (ParallelTempering) or of past models (PTT), or
all states (Exact).

A gradient object holds only its settings. Its state between updates is a dict of tensors: `start`
creates this dict, and each call updates it in place. If it has "rate", the gradient is multiplied
by this number.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from skebm._shared import Fraction, PositiveInt, estimator
from skebm._sklearn import BaseEstimator
from skebm.engine.ladder import acceptance, sweep_, works
from skebm.engine.models import RBM, Joint
from skebm.engine.noise import Noise
from skebm.engine.partition import countable_layer
from skebm.engine.sampling import run, tempered_sweep

State = dict[str, Tensor]


class Phases(Joint):
    """The joint states of an update: first those of the data, then those of the model.

    The states of the model have negative weights. All weights together sum to zero. If the phases
    are `paired`, each state of the model belongs to a row of data.
    """

    def __init__(self, model: RBM, n_data: int, n_model: int, paired: bool = False):
        n, self.n_data, self.paired = n_data + n_model, n_data, paired
        v, h = model.W.new_zeros(n, model.n_visible), model.W.new_zeros(n, model.n_hidden)
        super().__init__(v, h, model.W.new_zeros(n))
        self.data = Joint(v[:n_data], h[:n_data], self.weight[:n_data])
        self.model = Joint(v[n_data:], h[n_data:], self.weight[n_data:])

    @property
    def phases(self) -> Sequence[Joint]:
        return self.data, self.model

    def set_weight(self, weight: Tensor) -> None:
        """Set the weights of the data, and those of the states of the model.

        A state that belongs to a row has the weight of this row; otherwise all are equal.
        """
        self.data.weight.copy_(weight)
        n_model = len(self.model.weight)
        self.model.weight.copy_(-weight if self.paired else -weight.sum() / n_model)


class Gradient(BaseEstimator, ABC):
    """A method that computes or estimates the gradient of the log-likelihood."""

    _parameter_constraints: dict = {}
    #: Whether a CUDA graph can hold a call: it must not wait for the device, and it must change
    #: nothing but the phases and the tensors of the state.
    capturable: ClassVar[bool] = True
    #: Whether several processes can train one model with it, each with some of the chains.
    divisible: ClassVar[bool] = True
    #: Number of levels of the chains, if the state has "chains". If several processes train one
    #: model, each has some of the chains of every level, and all other tensors of the state are
    #: replaced by their means over the processes after each epoch.
    n_levels: int = 1
    #: Whether the k-th state of the model starts from the k-th row of data, and has its weight.
    paired: ClassVar[bool] = False
    #: The largest share of a deviation of the model from the data that an update removes.
    relaxation: float | None = None

    @property
    def largest_start(self) -> float:
        """The largest standard deviation of the weights of a new model."""
        return math.inf

    @abstractmethod
    def n_model(self, model: RBM, n_data: int) -> int:
        """The number of joint states of the model, for a batch of `n_data` rows."""

    def start(self, model: RBM, n_data: int, noise: Noise) -> State:
        """The state before the first update."""
        return {}

    def resized(self, state: State, model: RBM, n_data: int) -> State:
        """The state for batches of another number of rows than those that it comes from."""
        return state

    @abstractmethod
    def __call__(self, model: RBM, phases: Phases, state: State, noise: Noise) -> None:
        """Fill in the phases; the caller has already set `data.v` and the weights."""

    def report(self, state: State) -> dict[str, Tensor]:
        """Figures of the epoch for the history, one number each."""
        return {}


@estimator
class CD(Gradient):
    """Contrastive divergence: the model's states are `n_steps` sweeps away from the data.

    Parameters
    ----------
    n_steps : int, default=1
        Gibbs sweeps from each row. The estimate is biased; more sweeps reduce the bias.

    References
    ----------
    G. E. Hinton (2002). Training products of experts by minimizing contrastive divergence.
    Neural Computation 14.

    Examples
    --------
    >>> from skebm import CD, BernoulliRBM
    >>> BernoulliRBM(gradient=CD(n_steps=10))
    BernoulliRBM(gradient=CD(n_steps=10))
    """

    n_steps: PositiveInt = field(default=1, kw_only=False)
    paired = True

    def n_model(self, model, n_data):
        return n_data

    def __call__(self, model, phases, state, noise):
        data, v, h = phases.data, phases.model.v, phases.model.h
        field = model.hidden_field(data.v)  # (n_data, n_hidden)
        mean = model.hidden.mean(field, out=data.h)
        model.hidden.sample_with_mean(field, mean, noise, out=h)
        for step in range(self.n_steps):
            if step:
                model.sample_hidden(v, noise, out=h)
            model.sample_visible(h, noise, out=v)
            if data.observed is not None:
                v.copy_(torch.where(data.observed, v, data.v))
        model.hidden.mean(model.hidden_field(v), out=h)


@estimator
class PCD(Gradient):
    """Persistent contrastive divergence (stochastic maximum likelihood).

    Gibbs chains continue from update to update and follow the model as it learns.

    Parameters
    ----------
    n_steps : int, default=1
        Gibbs sweeps for each update.
    n_chains : int or None, default=None
        Number of chains; None means as many as a batch has rows.

    References
    ----------
    T. Tieleman (2008). Training restricted Boltzmann machines using approximations to the
    likelihood gradient. ICML.

    Examples
    --------
    >>> from skebm import PCD, BernoulliRBM
    >>> BernoulliRBM(gradient=PCD(n_chains=100))
    BernoulliRBM(gradient=PCD(n_chains=100))
    """

    n_steps: PositiveInt = field(default=1, kw_only=False)
    n_chains: PositiveInt | None = field(default=None, kw_only=False)

    def n_model(self, model, n_data):
        return n_data if self.n_chains is None else self.n_chains

    def start(self, model, n_data, noise):
        v = model.start(self.n_model(model, n_data), noise)  # (n_chains, n_visible)
        return {"chains": model.sample_hidden(v, noise)}

    def resized(self, state, model, n_data):
        return _resized(state, 1, self.n_model(model, n_data))

    def __call__(self, model, phases, state, noise):
        chains, v = state["chains"], phases.model.v
        model.sample_visible(chains, noise, out=v)
        run(model, v, noise, n_steps=self.n_steps - 1, out=v)
        field = model.hidden_field(phases.v)  # (n_data + n_chains, n_hidden)
        model.hidden.mean(field, out=phases.h)
        of_chains = field[phases.n_data :]
        model.hidden.sample_with_mean(of_chains, phases.model.h, noise, out=chains)


@estimator
class ParallelTempering(Gradient):
    """Persistent chains at several temperatures that exchange their states.

    Level k samples from the model at beta_k. The first level is the model itself (beta = 1). The
    last level has independent visible units (beta = 0), and its chains move freely between modes.
    After each sweep, neighbouring levels exchange states with the Metropolis probability. Every
    exchange leaves the joint distribution of all levels invariant. The spacing of the levels
    adapts until all neighbours exchange equally often.

    Parameters
    ----------
    n_levels : int, default=10
        Number of levels, from beta = 1 to beta = 0.
    n_steps : int, default=1
        Gibbs sweeps and exchanges for each update.
    n_chains : int or None, default=None
        Number of chains on each level; None means as many as a batch has rows.

    Notes
    -----
    "swap_rate" in `history_` is the recent share of accepted exchanges, averaged over all pairs of
    neighbouring levels; "swap_rate_min" is the share of the worst pair. With one level, the
    method is the same as :class:`PCD`.

    References
    ----------
    G. Desjardins, A. Courville, Y. Bengio, P. Vincent, O. Delalleau (2010). Tempered Markov
    chain Monte Carlo for training of restricted Boltzmann machines. AISTATS.

    Examples
    --------
    >>> from skebm import BernoulliRBM, ParallelTempering
    >>> BernoulliRBM(gradient=ParallelTempering(n_levels=5, n_chains=20))
    BernoulliRBM(gradient=ParallelTempering(n_chains=20, n_levels=5))
    """

    n_levels: PositiveInt = field(default=10, kw_only=False)
    n_steps: PositiveInt = field(default=1, kw_only=False)
    n_chains: PositiveInt | None = field(default=None, kw_only=False)

    def n_model(self, model, n_data):
        return n_data if self.n_chains is None else self.n_chains

    def start(self, model, n_data, noise):
        n_chains = self.n_model(model, n_data)
        n_levels, device = max(2, self.n_levels), model.W.device
        beta = torch.linspace(1, 0, n_levels, device=device).to(model.W)[: self.n_levels]
        v = model.start(self.n_levels * n_chains, noise)  # (n_levels · n_chains, n_visible)
        return {
            "chains": model.sample_hidden(v, noise, beta.repeat_interleave(n_chains)[:, None]),
            "beta": beta,  # (n_levels,)
            "swap_rate": torch.full_like(beta[1:], 0.5),  # (n_levels - 1,)
        }

    def resized(self, state, model, n_data):
        return _resized(state, self.n_levels, self.n_model(model, n_data))

    def __call__(self, model, phases, state, noise):
        for _ in range(self.n_steps):
            v, field, accepted = tempered_sweep(model, state["chains"], state["beta"], noise)
            state["swap_rate"].lerp_(accepted, 0.01)
        self.adapt_(state)
        phases.model.v.copy_(v)
        model.hidden.mean(field, out=phases.model.h)
        model.hidden.mean(model.hidden_field(phases.data.v), out=phases.data.h)

    def adapt_(self, state: State) -> None:
        """Widen the gaps between levels that exchange states more often than the average."""
        if self.n_levels > 2:
            beta, rate = state["beta"], state["swap_rate"]
            gap = (beta[:-1] - beta[1:]) * (0.02 * (rate - rate.mean())).exp()  # (n_levels - 1,)
            beta[1:-1] = 1 - (gap.cumsum(0) / gap.sum())[:-1]

    def report(self, state):
        rate = state["swap_rate"]
        return {"swap_rate": rate.mean(), "swap_rate_min": rate.min()} if len(rate) else {}


#: Below the first probability of acceptance, the model of the sweep before becomes a rung; below
#: the second, training goes back to it; above the third, neighbours of a rung do not need it.
FREEZE, GO_BACK, NEEDLESS = 0.3, 0.1, 0.5
#: Exchanges of the states of two rungs in a sweep, each time with other partners.
ROUNDS = 5


@estimator
class PTT(Gradient):
    """Parallel trajectory tempering: chains exchange states with past models of the training.

    The chains of the model continue from update to update, as in :class:`PCD`. Below the model is
    a ladder of rungs: the reference model, whose units are independent, and models that the
    training has passed. After `interval` updates, a sweep draws new states of the reference model,
    makes a Gibbs sweep on each other rung, and exchanges states between neighbours [1]_ [2]_, with
    probability ::

        min(1, exp(F_k(v) + F_{k+1}(v′) − F_k(v′) − F_{k+1}(v)))

    Every exchange leaves the joint distribution of all rungs invariant. States that climb the
    ladder are independent of each other; so the chains have all modes of the model in the right
    shares, even if Gibbs sampling never moves between them.

    When the exchange between the last rung and the model is accepted with a probability below 0.3,
    the model of the sweep before becomes a rung. Below 0.1, training also goes back to this model,
    and the learning rate is halved; then it grows again by 5 % a sweep. A rung goes if its
    neighbours can exchange states without it.

    Parameters
    ----------
    n_chains : int or None, default=100
        Number of chains on each rung; None means as many as a batch has rows.
    n_steps : int, default=1
        Gibbs sweeps of the model's chains for each update.
    interval : int or "auto", default="auto"
        Number of updates between two sweeps of the ladder. "auto" is 10, or twice the number of
        rungs if this is more, so that the cost of a long ladder is bounded.
    max_rungs : int, default=100
        Largest number of rungs, the model included. With 1, and without `relaxation`, the method
        is the same as :class:`PCD`.
    relaxation : float or None, default=0.03
        Largest share of a deviation of the model from the data that an update removes, between 0
        and 1: the gradient is a damped natural gradient [3]_. None is the plain gradient.

    Notes
    -----
    "rungs" in `history_` is the number of rungs with the reference model and the model; "swap_rate"
    is the recent probability of acceptance between the last rung and the model, "swap_rate_min"
    that of the worst pair. The ladder is stored in the fitted estimator: `sample(method="ptt")` and
    ``log_partition(rbm, method="ptt")`` use it. Its memory is the number of rungs times the size of
    the parameters.

    A sweep of the ladder costs about four Gibbs sweeps on each rung. New models have small weights
    (a standard deviation of 0.1 at most), so that the first model is near the reference model.
    Look at "swap_rate_min": if it is near zero, the shares of modes in samples are not to be
    trusted.

    A small change of the parameters can move a large share of the probability between modes.
    Shares that change faster than states climb the ladder are not learned, whence `relaxation`:
    with the learning rate η, the plain gradient g becomes (1 + (η / relaxation) F)⁻¹ g, where F is
    the Fisher information, estimated from half of the chains, at most 100. Directions with a small
    variance are learned as before. Convolutional layers have the plain gradient. `relaxation`
    is a limit for `optimizer="sgd"` only: Adam scales the gradient again.

    References
    ----------
    .. [1] N. Béreux, A. Decelle, C. Furtlehner, L. Rosset, B. Seoane (2025). Fast training and
       sampling of restricted Boltzmann machines. ICLR.
    .. [2] N. Béreux and others (2026). Parallel trajectory tempering. arXiv 2607.27077.
    .. [3] S. Amari (1998). Natural gradient works efficiently in learning. Neural Computation 10.

    Examples
    --------
    >>> from skebm import PTT, BernoulliRBM
    >>> BernoulliRBM(gradient=PTT(n_chains=200))
    BernoulliRBM(gradient=PTT(n_chains=200))
    """

    n_chains: PositiveInt | None = field(default=100, kw_only=False)
    n_steps: PositiveInt = field(default=1, kw_only=False)
    interval: PositiveInt | Literal["auto"] = field(default="auto", kw_only=False)
    max_rungs: PositiveInt = field(default=100, kw_only=False)
    relaxation: Fraction | None = field(default=0.03, kw_only=False)
    capturable = False
    divisible = False

    @property
    def largest_start(self):
        return math.inf if self.max_rungs == 1 else 0.1  # the ladder begins at independent units

    def n_model(self, model, n_data):
        return PCD(n_chains=self.n_chains).n_model(model, n_data)

    def start(self, model, n_data, noise):
        state = PCD(n_chains=self.n_chains).start(model, n_data, noise)
        if self.max_rungs == 1:
            return state
        n_chains, W = len(state["chains"]), model.W
        return state | {
            "rungs": W.new_empty(0, len(model.theta)),
            "rung_states": W.new_empty(0, n_chains, model.n_visible),
            "swap_rate": W.new_ones(1),  # of each pair of neighbours, the last with the model
            # The number of updates since a sweep, on the CPU, so that no update waits for a device.
            "clock": torch.zeros((), dtype=torch.int64),
            "rate": W.new_ones(()),
            "last_theta": model.theta.clone(),
            "last_states": model.start(n_chains, noise),
        }

    def resized(self, state, model, n_data):
        n_chains = self.n_model(model, n_data)
        if "clock" in state:
            state = state | {"clock": state["clock"].cpu()}
        if len(state["chains"]) == n_chains:
            return state
        index = torch.arange(n_chains, device=model.W.device) % len(state["chains"])
        state = _resized(state, 1, n_chains)
        if "rungs" not in state:
            return state
        states = {"rung_states": state["rung_states"][:, index]}
        return state | states | {"last_states": state["last_states"][index]}

    def __call__(self, model, phases, state, noise):
        PCD(self.n_steps)(model, phases, state, noise)
        if self.max_rungs == 1:
            return
        state["clock"] += 1
        auto = max(10, 2 * len(state["rungs"]))
        if state["clock"] >= (auto if self.interval == "auto" else self.interval):
            state["clock"].zero_()
            self._climb(model, phases, state, noise)

    def _climb(self, model: RBM, phases: Phases, state: State, noise: Noise) -> None:
        """A sweep of the ladder, and what follows from its probabilities of acceptance."""
        of_model = phases.model
        models = [*(model.at(theta) for theta in state["rungs"]), model]
        before = of_model.v.clone()
        states = [before, *state["rung_states"], before]
        accepted = sweep_(models, states, noise, n_rounds=ROUNDS)
        if len(models) > 1:
            state["rung_states"] = torch.stack(states[1:-1])
        state["swap_rate"].lerp_(accepted, 0.1)
        state["rate"].mul_(1.05).clamp_(max=1)
        is_full = len(models) + 1 >= self.max_rungs
        if accepted[-1] < GO_BACK and not is_full:
            model.theta.copy_(state["last_theta"])
            states[-1] = state["last_states"]
            state["rate"].div_(2)
            model.hidden.mean(model.hidden_field(phases.data.v), out=phases.data.h)
        if accepted[-1] < FREEZE:
            if not is_full and not (state["rungs"] == state["last_theta"]).all(1).any():
                self._freeze(state)
            self._thin(model, state)
        state["last_theta"].copy_(model.theta)
        state["last_states"].copy_(states[-1])
        moved = (states[-1] != before).any(1, keepdim=True)
        of_model.v.copy_(states[-1])
        field = model.hidden_field(of_model.v)
        model.hidden.mean(field, out=of_model.h)
        h = model.hidden.sample(field, noise)
        state["chains"].copy_(torch.where(moved, h, state["chains"]))

    def _freeze(self, state: State) -> None:
        """Make a rung of the model and the states of the sweep before."""
        state["rungs"] = torch.cat([state["rungs"], state["last_theta"][None]])
        state["rung_states"] = torch.cat([state["rung_states"], state["last_states"][None]])
        state["swap_rate"] = torch.cat([state["swap_rate"], state["swap_rate"].new_ones(1)])

    def _thin(self, model: RBM, state: State) -> None:
        """Remove the first rung whose neighbours exchange states often enough without it."""
        models = [model.at(theta) for theta in state["rungs"]]
        states = state["rung_states"]
        for k in range(2, len(models)):  # rung k − 1 of those that are stored
            low, high = (works(models, k - 1, k + 1, states[i]) for i in (k - 2, k))
            rate = acceptance(low, high)
            if rate > NEEDLESS:
                kept = [i for i in range(len(models)) if i != k - 1]
                state["rungs"], state["rung_states"] = state["rungs"][kept], states[kept]
                rates = state["swap_rate"]
                state["swap_rate"] = torch.cat([rates[: k - 1], rate[None], rates[k + 1 :]])
                return

    def report(self, state):
        if "rungs" not in state:
            return {}
        rate = state["swap_rate"]
        n_rungs = rate.new_tensor(len(state["rungs"]) + 2)
        return {"rungs": n_rungs, "swap_rate": rate[-1], "swap_rate_min": rate.min()}


def part(chains: Tensor, n_levels: int, which: Sequence[int]) -> Tensor:
    """Some of the chains of each level; the numbers go on from the last chain to the first."""
    levels = chains.unflatten(0, (n_levels, -1))  # (n_levels, n_chains, n_hidden)
    index = torch.as_tensor(which, device=chains.device) % levels.shape[1]
    return levels[:, index].flatten(0, 1)


def joined(chains: Sequence[Tensor], n_levels: int) -> Tensor:
    """Chains from several tensors as one tensor, level by level."""
    levels = [piece.unflatten(0, (n_levels, -1)) for piece in chains]
    return torch.cat(levels, 1).flatten(0, 1)


def _resized(state: State, n_levels: int, n_chains: int) -> State:
    """The state with `n_chains` chains on each level: the first ones, or all of them again."""
    if len(state["chains"]) == n_levels * n_chains:
        return state
    return state | {"chains": part(state["chains"], n_levels, range(n_chains))}


class Exact(Gradient):
    """The exact gradient, from all states of the smaller layer, which has at most 20 binary units.

    One of the layers must have finitely many states, as Bernoulli units have. An update costs
    about as much as 2^n_units rows of data.

    Examples
    --------
    >>> from skebm import BernoulliRBM, Exact
    >>> BernoulliRBM(n_components=10, gradient=Exact())
    BernoulliRBM(gradient=Exact(), n_components=10)
    """

    def n_model(self, model, n_data):
        return len(enumerate_states(model)[2])

    def __call__(self, model, phases, state, noise):
        v, h, probability = enumerate_states(model)
        phases.model.at_mean = "visible" if countable_layer(model)[0] == "hidden" else "hidden"
        phases.model.v.copy_(v)
        phases.model.h.copy_(h)
        phases.model.weight.copy_(probability).mul_(-phases.data.weight.sum())
        model.hidden.mean(model.hidden_field(phases.data.v), out=phases.data.h)


def enumerate_states(model: RBM) -> tuple[Tensor, Tensor, Tensor]:
    """The model as a finite mixture: (v, h, probability), a row for each state of one layer.

    That layer is the one with fewer states; the units of the other layer are at their means.
    """
    name, units, n_units = countable_layer(model)
    index = torch.arange(int(units.n_states(n_units)), device=model.W.device)
    states = units.states(index, n_units, model.W)  # (n_states, n_units)
    if name == "hidden":
        probability = torch.softmax(-model.hidden_free_energy(states), 0)  # (n_states,)
        return model.visible.mean(model.visible_field(states)), states, probability
    probability = torch.softmax(-model.free_energy(states), 0)  # (n_states,)
    return states, model.hidden.mean(model.hidden_field(states)), probability
