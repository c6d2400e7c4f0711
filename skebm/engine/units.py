"""What a layer is made of: units that are independent given their field.

    p(x | field) = exp(x·field + log_base(x) − cumulant(field))
    cumulant(f)  = log Σ_x exp(x·f + log_base(x)),        mean(f) = cumulant′(f)

A kind of units is these functions and nothing else: free energies, conditionals, gradients
and partition functions follow from them (`skebm.engine.models`). Where `out` is given, the
result is written there; it may be `field` itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import softplus

from skebm.engine.noise import Noise


class Units(ABC):
    """A layer of units; the last axis of every tensor runs over them."""

    #: The interval that values of a unit lie in.
    support: tuple[float, float] = (-math.inf, math.inf)

    @abstractmethod
    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        """E[x | field], of the shape of `field`."""

    @abstractmethod
    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        """One draw from p(x | field), of the shape of `field`."""

    @abstractmethod
    def cumulant(self, field: Tensor) -> Tensor:
        """log Σ_x exp(x·field + log_base(x)), summed over the last axis."""

    def log_base(self, x: Tensor) -> Tensor:
        """Logarithm of the base measure, summed over the last axis."""
        return x.new_zeros(x.shape[:-1])

    @abstractmethod
    def natural(self, mean: Tensor) -> Tensor:
        """The field at which units have this mean, kept finite: the inverse of `mean`."""

    def law(self) -> Units:
        """Units of this law, whose samples are draws from it."""
        return self

    def n_states(self, n_units: int) -> float:
        """How many states `n_units` units have."""
        return math.inf

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        """States of `n_units` units by their number, in the type of `like`: (n, n_units)."""
        raise NotImplementedError(f"{type(self).__name__} units have no end of states.")

    def flip(self, x: Tensor) -> Tensor:
        """The other state of each unit, for units that have two."""
        raise NotImplementedError(f"{type(self).__name__} units have more than two states.")


class Bernoulli(Units):
    """x ∈ {0, 1}:  mean σ(f), cumulant log(1 + e^f)."""

    support = (0.0, 1.0)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.sigmoid(field, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return noise.bernoulli(torch.sigmoid(field, out=out), out=out)

    def cumulant(self, field: Tensor) -> Tensor:
        return softplus(field).sum(-1)

    def natural(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)

    def n_states(self, n_units: int) -> float:
        return 2.0**n_units

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        bits = torch.arange(n_units, device=index.device)  # (n_units,)
        return (index[:, None] >> bits & 1).to(like)  # (n, n_units)

    def flip(self, x: Tensor) -> Tensor:
        return 1 - x


class MeanBernoulli(Bernoulli):
    """Bernoulli units whose "samples" are their means: the mean-field approximation.

    The chain that results leaves no distribution of these units invariant; the free energy
    is that of Bernoulli units.
    """

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return self.mean(field, out)

    def law(self) -> Units:
        return Bernoulli()


class Gaussian(Units):
    """x ∈ ℝ:  log_base −x²/2s, mean s f, cumulant (s f² + log 2πs)/2, where s is the variance."""

    def __init__(self, variance: float = 1.0):
        self.variance = variance

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(field, self.variance, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        spread = math.sqrt(self.variance)
        return torch.add(self.mean(field, out), noise.normal(field), alpha=spread, out=out)

    def cumulant(self, field: Tensor) -> Tensor:
        constant = math.log(2 * math.pi * self.variance)
        return ((self.variance * field.square() + constant) / 2).sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return -x.square().sum(-1) / (2 * self.variance)

    def natural(self, mean: Tensor) -> Tensor:
        return mean / self.variance


class Shifted(Units):
    """x − offset, where x are other units: the same law, told from another origin.

    With offsets near the means, the gradient of a model of shifted units is the *centred*
    gradient of the model that it stands for.
    """

    def __init__(self, units: Units, offset: Tensor):
        self.units, self.offset = units, offset

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return self.units.mean(field, out).sub_(self.offset)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return self.units.sample(field, noise, out).sub_(self.offset)

    def cumulant(self, field: Tensor) -> Tensor:
        return self.units.cumulant(field) - (field * self.offset).sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return self.units.log_base(x + self.offset)

    def natural(self, mean: Tensor) -> Tensor:
        return self.units.natural(mean + self.offset)

    def n_states(self, n_units: int) -> float:
        return self.units.n_states(n_units)

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        return self.units.states(index, n_units, like) - self.offset

    def flip(self, x: Tensor) -> Tensor:
        return self.units.flip(x + self.offset) - self.offset
