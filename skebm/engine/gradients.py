"""Gradients of the log-likelihood, and what stands in for them.

    −∂ log L/∂θ = ⟨∂F/∂θ⟩_data − ⟨∂F/∂θ⟩_model

The data term is always exact. The members differ in the states v′ that stand for the model:
k Gibbs sweeps from the data (CD), chains that live on from update to update (PCD), or every
state there is (Exact).

A gradient object holds its settings only. What it remembers between updates, its state, is a
dict of tensors that `start` makes and each call updates in place.
"""

from abc import ABC, abstractmethod
from numbers import Integral

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skebm._sklearn import Interval
from skebm.engine.models import RBM, grad
from skebm.engine.noise import Noise
from skebm.engine.sampling import run

State = dict[str, Tensor]


class Gradient(BaseEstimator, ABC):
    """How the gradient of the log-likelihood is estimated."""

    _parameter_constraints: dict = {}

    def start(self, model: RBM, v: Tensor, noise: Noise) -> State:
        """The state before the first update, whose batch is `v`."""
        return {}

    def __call__(self, model: RBM, v: Tensor, weight: Tensor, state: State, noise: Noise) -> State:
        """Add −∂/∂θ Σ_i weight_i log p(v_i), or its estimate, to every `.grad`."""
        field = model.add_grad(v, weight)  # (n, n_hidden)
        self.subtract_model(model, field, weight, state, noise)
        return state

    @abstractmethod
    def subtract_model(
        self, model: RBM, field: Tensor, weight: Tensor, state: State, noise: Noise
    ) -> None:
        """Subtract Σ weight · ⟨∂F/∂θ⟩_model, given the hidden field of the data."""


class CD(Gradient):
    """Contrastive divergence: the model's states are `n_steps` sweeps away from the data.

    Parameters
    ----------
    n_steps : int, default=1
        Gibbs sweeps from each row; the estimate is biased, less so with more of them.

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

    _parameter_constraints: dict = {"n_steps": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, n_steps=1):
        self.n_steps = n_steps

    def subtract_model(self, model, field, weight, state, noise):
        v = model.sample_visible(model.hidden.sample(field, noise), noise)  # (n, n_visible)
        v = run(model, v, noise, n_steps=self.n_steps - 1)
        model.add_grad(v, -weight)


class PCD(Gradient):
    """Persistent contrastive divergence (stochastic maximum likelihood).

    Chains of Gibbs samples live on from update to update and follow the model as it learns.

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

    _parameter_constraints: dict = {
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_chains": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(self, n_steps=1, n_chains=None):
        self.n_steps = n_steps
        self.n_chains = n_chains

    def start(self, model, v, noise):
        n_chains = len(v) if self.n_chains is None else self.n_chains
        return {"chains": model.sample_hidden(model.start(n_chains, noise), noise)}

    def subtract_model(self, model, field, weight, state, noise):
        chains = state["chains"]  # (n_chains, n_hidden)
        v = run(model, model.sample_visible(chains, noise), noise, n_steps=self.n_steps - 1)
        share = weight.sum() / len(chains)  # ()
        field = model.add_grad(v, -share.expand(len(chains)))  # (n_chains, n_hidden)
        chains.copy_(model.hidden.sample(field, noise))


class Exact(Gradient):
    """The gradient itself, by enumerating the smaller layer: exact, for up to 20 units.

    One of the layers has to have finitely many states, as Bernoulli units do. An update
    costs 2^n_units times what it costs to pass one row.

    Examples
    --------
    >>> from skebm import BernoulliRBM, Exact
    >>> BernoulliRBM(n_components=10, gradient=Exact())
    BernoulliRBM(gradient=Exact(), n_components=10)
    """

    def subtract_model(self, model, field, weight, state, noise):
        v, h, probability = enumerate_states(model)
        model.add_joint_grad(v, h, -weight.sum() * probability)


def enumerate_states(model: RBM, max_units: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """The model as a finite mixture: (v, h, probability), a row for each state of one layer.

    That layer is the smaller one that can be enumerated; the other stands at its mean.
    """
    layers = [(len(model.c), "hidden", model.hidden), (len(model.b), "visible", model.visible)]
    for n_units, layer, units in sorted(layers, key=lambda row: row[0]):
        states = units.states(n_units) if n_units <= max_units else None
        if states is None:
            continue
        states = states.to(model.W)  # (n_states, n_units)
        if layer == "hidden":
            probability = torch.softmax(-model.hidden_free_energy(states), 0)  # (n_states,)
            return model.visible.mean(model.visible_field(states)), states, probability
        probability = torch.softmax(-model.free_energy(states), 0)  # (n_states,)
        return states, model.hidden.mean(model.hidden_field(states)), probability
    raise ValueError(
        f"An exact gradient needs a layer of at most {max_units} units with finitely many "
        f"states; this model has {len(model.c)} hidden and {len(model.b)} visible units. "
        "Use gradient='pcd', or fewer components."
    )


class Centered(Gradient):
    """The gradient in centred coordinates, v − mu and h − lam, whatever estimates it.

    With the offsets at the means of the data and of their features, an update does not change
    when zeros and ones are exchanged in the data. The offsets start at the mean-field values
    of the model and follow the batches at `rate`.

    References
    ----------
    J. Melchior, A. Fischer, L. Wiskott (2016). How to center deep Boltzmann machines.
    Journal of Machine Learning Research 17.
    """

    def __init__(self, gradient, rate=0.01):
        self.gradient = gradient
        self.rate = rate

    def start(self, model, v, noise):
        mu = model.visible.mean(model.b[None])  # (1, n_visible)
        lam = model.hidden.mean(model.hidden_field(mu))  # (1, n_hidden)
        offsets = {"visible_offset": mu[0].clone(), "hidden_offset": lam[0].clone()}
        return self.gradient.start(model, v, noise) | offsets

    def subtract_model(self, model, field, weight, state, noise):
        mu, lam = state["visible_offset"], state["hidden_offset"]
        total = weight.sum()
        # What the data term left in the gradients: −Σ_i weight_i v_i and −Σ_i weight_i h_i.
        mu.sub_(grad(model.b) + total * mu, alpha=self.rate)
        lam.sub_(grad(model.c) + total * lam, alpha=self.rate)
        self.gradient.subtract_model(model, field, weight, state, noise)
        model.center_grad_(mu, lam)
