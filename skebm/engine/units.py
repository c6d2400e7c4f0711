"""Kinds of units. The units of a layer are independent given their fields.

    p(x | field) = exp(x·field + log_base(x) − cumulant(field))
    cumulant(f)  = log Σ_x exp(x·f + log_base(x)),        mean(f) = cumulant′(f)

These functions define a kind of units. Free energies, conditionals, gradients and partition
functions follow from them (`skebm.engine.models`). If `out` is given, the result is written to it;
`out` may be `field` itself. Units may own parameters, such as a scale; the gradients of these
parameters are in closed form.

At temperature T the density is proportional to exp(−E/T). The model divides fields by T. Units
whose log_base is a term of the energy take T as `temperature`.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from skebm.engine.noise import Noise


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) in double precision; torch's default threshold has an error of e^−20."""
    return functional.softplus(x, threshold=40.0)


def perturbed(field: Tensor, noise: Noise) -> Tensor:
    """The field plus Gumbel noise; the argmax is a draw from the softmax of the field."""
    return noise.uniform(field).log().neg_().log_().neg_().add_(field)


class SiteChanges(NamedTuple):
    """The changes of a row in which one site takes another state; all other sites keep theirs.

    A site is one binary unit, or the group of units of one categorical variable. A site has at
    most n_changes other states.
    """

    unit: Tensor  # (n or 1, n_sites, n_changes): the unit that changes
    change: Tensor  # (n or 1, n_sites or 1, n_changes or 1): by how much the unit changes
    emptied: Tensor | None = None  # (n, n_sites, 1): another unit, which goes from one to zero
    allowed: Tensor | None = None  # (n, n_sites, n_changes): False if there is no such change

    def at(self, sites: Tensor, n_sites: int) -> SiteChanges:
        """The changes of the sites with the indices `sites` (n, k) in each row."""

        def chosen(t: Tensor) -> Tensor:
            t = t.expand(len(sites), n_sites, -1)
            return t.gather(1, sites[..., None].expand(-1, -1, t.shape[2]))

        rest = (None if t is None else chosen(t) for t in (self.emptied, self.allowed))
        return SiteChanges(chosen(self.unit), chosen(self.change), *rest)


class Units(ABC):
    """A layer of units; the last axis of every tensor runs over them."""

    #: The interval that contains all values of a unit.
    support: tuple[float, float] = (-math.inf, math.inf)
    #: Whether `site_changes` enumerates the states of a site.
    is_discrete: bool = False
    #: How many fields the functions compute internally for each field in their argument.
    fields_per_unit: int = 1
    #: The parameters that are terms of the energy, and are therefore divided by T in exp(−E/T).
    energy_parameters: tuple[str, ...] = ()
    #: The side of the square block of a map whose units share a term of the cumulant.
    block_size: int = 1
    #: Whether a CUDA graph can hold `mean`, `sample` and the gradients: they must not wait for the
    #: device, as `.item()` does, and they must not change anything but `out`.
    capturable: bool = True

    @abstractmethod
    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        """E[x | field], of the shape of `field`."""

    @abstractmethod
    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        """One draw from p(x | field), of the shape of `field`."""

    @abstractmethod
    def cumulant(self, field: Tensor) -> Tensor:
        """log Σ_x exp(x·field + log_base(x)), summed over the last axis."""

    def sample_with_mean(
        self, field: Tensor, mean: Tensor, noise: Noise, out: Tensor | None = None
    ) -> Tensor:
        """`sample`, where the mean of the units is known."""
        return self.sample(field, noise, out)

    def mean_and_cumulant(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """`mean` and `cumulant` of the field; the mean overwrites `field`."""
        cumulant = self.cumulant(field)
        return self.mean(field, field), cumulant

    def log_base(self, x: Tensor) -> Tensor:
        """Logarithm of the base measure, summed over the last axis."""
        return x.new_zeros(x.shape[:-1])

    def log_density(self, x: Tensor, field: Tensor) -> Tensor:
        """log p(x | field), summed over the last axis."""
        return (x * field).sum(-1) + self.log_base(x) - self.cumulant(field)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        """The inverse of `mean`: the field, within ±74, at which units have this mean."""
        low, high = torch.full_like(mean, -5.0), torch.full_like(mean, 5.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.mean(middle.sinh()) > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return ((low + high) / 2).sinh()

    def exact(self) -> Units:
        """Units with the same p(x | field), from which `sample` draws exactly."""
        return self

    def cumulant_terms(self, field: Tensor) -> Tensor:
        """The terms whose sum is `cumulant`: (…, n_terms)."""
        return self.cumulant(field[..., None])

    def gains(self, field: Tensor, steps: Tensor, change: Tensor) -> Tensor:
        """cumulant(field + change · steps) − cumulant(field), for tensors that broadcast."""
        return self.cumulant(field + change * steps) - self.cumulant(field)

    def cumulant_curvature(self) -> float:
        """The s for which the cumulant grows as s field²/2; 0 if it grows more slowly."""
        return 0.0

    # Features: the output of `transform`, and the input of the next layer of a stack

    def features(self, field: Tensor) -> Tensor:
        """Features of the units, given their field."""
        return self.features_of_fields(self.feature_fields(field))

    def feature_fields(self, field: Tensor) -> Tensor:
        """The field of each feature; for a feature that is a probability, its log-odds."""
        return field

    def features_of_fields(self, fields: Tensor) -> Tensor:
        """The features, given their fields."""
        return self.mean(fields)

    def mean_of_features(self, features: Tensor) -> Tensor:
        """The means of the units, given their features."""
        return features

    # Parameters that the units own; W, b and c belong to the model

    def parameters(self) -> dict[str, Tensor]:
        """The units' own parameters. A key is the name of the fitted attribute without the "_"."""
        return {}

    def bound(self, parameters: dict[str, Tensor]) -> Units:
        """The same units with these tensors as their `parameters()`."""
        if not parameters:
            return self
        units = copy.copy(self)
        vars(units).update(parameters)
        return units

    def on(self, device: torch.device) -> Units:
        """The same units with the tensors that they hold, except parameters, on this device."""
        return self

    def confine_(self) -> None:  # noqa: B027
        """After an update, clip the parameters that have bounds to these bounds."""

    def log_base_grad(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Σ_i weight_i ∂log_base(x_i)/∂φ for each parameter φ of log_base."""
        return {}

    def cumulant_grad(self, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Σ_i weight_i ∂cumulant(field_i)/∂φ: the mean of `log_base_grad` given the fields."""
        return {}

    # The map from rows of data to visible units

    def from_rows(self, rows: Tensor) -> Tensor:
        """The visible units of rows: (n, n_units)."""
        return rows

    def to_rows(self, x: Tensor) -> Tensor:
        """The inverse of `from_rows`."""
        return x

    def log_volume(self) -> float:
        """log |∂rows/∂units|, summed over the units: log p(row) = log p(units) − log_volume."""
        return 0.0

    def from_rows_grad(self, x: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Σ_i weight_i ∂ log p(row_i)/∂φ for each parameter φ of `from_rows`.

        log Z does not depend on these parameters, so their gradient needs only rows of data.
        `field` is the field of the units x when the hidden units are at their means.
        """
        return {}

    # Units with finitely many states

    def n_states(self, n_units: int) -> float:
        """How many states `n_units` units have."""
        return math.inf

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        """The states with the numbers `index`, in the type of `like`: (n, n_units)."""
        raise NotImplementedError(f"{type(self).__name__} units have infinitely many states.")

    def n_sites(self, n_units: int) -> int:
        """How many sites `n_units` units form."""
        return n_units

    def site_changes(self, x: Tensor) -> SiteChanges:
        """The changes of every site of the rows x (n, n_units) to each of its other states."""
        raise NotImplementedError(f"{type(self).__name__} units have no sites; use discrete units.")


class Binary(Units):
    """Units with two states, low and high."""

    is_discrete = True

    def n_states(self, n_units: int) -> float:
        return 2.0**n_units if n_units < 1024 else math.inf  # 2.0**1024 raises an error

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        bits = torch.arange(n_units, device=index.device)  # (n_units,)
        low, high = self.support
        return (index[:, None] >> bits & 1).to(like).mul_(high - low).add_(low)  # (n, n_units)

    def site_changes(self, x: Tensor) -> SiteChanges:
        unit = torch.arange(x.shape[1], device=x.device)[None, :, None]
        return SiteChanges(unit, (sum(self.support) - 2 * x)[:, :, None])


class Bernoulli(Binary):
    """x ∈ {0, 1}:  mean σ(f), cumulant log(1 + e^f)."""

    support = (0.0, 1.0)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.sigmoid(field, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return noise.bernoulli(torch.sigmoid(field, out=out), out=out)

    def sample_with_mean(
        self, field: Tensor, mean: Tensor, noise: Noise, out: Tensor | None = None
    ) -> Tensor:
        return noise.bernoulli(mean, out=out)

    def cumulant(self, field: Tensor) -> Tensor:
        return softplus(field).sum(-1)

    def mean_and_cumulant(self, field: Tensor) -> tuple[Tensor, Tensor]:
        # With t = e^(−f): σ(f) = 1/(1 + t) and softplus(f) = f + log(1 + t). The product of 1 + t
        # over four units needs one logarithm. Below f = −20 (−40 in double precision) both
        # functions are negligible.
        largest = 20.0 if field.dtype == torch.float32 else 40.0
        t = field.neg_().clamp_(max=largest)
        linear = t.sum(-1)
        t.exp_().add_(1)
        n = t.shape[-1] // 4
        first, second, third, fourth, rest = t.split([n, n, n, n, t.shape[-1] - 4 * n], -1)
        logs = (first * second).mul_(third).mul_(fourth).log_().sum(-1) + rest.log().sum(-1)
        return t.reciprocal_(), logs.sub_(linear)

    def gains(self, field: Tensor, steps: Tensor, change: Tensor) -> Tensor:
        # With p = σ(f), the gain is Σ_j log(1 − p_j + p_j e^(x s_j)). The product of some terms
        # needs one logarithm. If all |x| are equal, each step has only two values of e^(x s).
        size = change.abs().amax()
        largest = float(size * steps.abs().amax())
        limit = math.log(torch.finfo(field.dtype).max) * 0.9
        if largest > limit / 2:
            return super().gains(field, steps, change)
        if bool((change.abs() == size).all()):
            up = (size * steps).exp_()
            terms = torch.lerp(up.reciprocal(), up, (change > 0).to(up))  # (…, n_units)
        else:
            terms = (change * steps).exp_()
        torch.addcmul(torch.sigmoid(-field), torch.sigmoid(field), terms, out=terms)
        # After k halvings, a product has at most 2^(k + 1) terms.
        while terms.shape[-1] > 1 and (largest := 2 * largest) <= limit / 2:
            half = terms.shape[-1] // 2
            products = terms[..., :half].mul_(terms[..., half : 2 * half])
            products[..., :1].mul_(terms[..., 2 * half :].prod(-1, keepdim=True))
            terms = products
        return terms.log().sum(-1)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)


class MeanBernoulli(Bernoulli):
    """Bernoulli units whose "samples" are their means: the mean-field approximation.

    A chain with these units does not leave the distribution of the model invariant. The free
    energy is that of Bernoulli units.
    """

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return self.mean(field, out)

    def sample_with_mean(
        self, field: Tensor, mean: Tensor, noise: Noise, out: Tensor | None = None
    ) -> Tensor:
        return self.mean(field, out)

    def exact(self) -> Units:
        return Bernoulli()


class Spin(Binary):
    """x ∈ {−1, 1}:  mean tanh f, cumulant log(2 cosh f)."""

    support = (-1.0, 1.0)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.tanh(field, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        up = torch.mul(field, 2, out=out).sigmoid_()
        return noise.bernoulli(up, out=up).mul_(2).sub_(1)

    def cumulant(self, field: Tensor) -> Tensor:
        return (softplus(2 * field) - field).sum(-1)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        return torch.logit((1 + mean) / 2, eps=1e-3) / 2


class Categorical(Units):
    """Groups of units, one group for each column of categories; one unit of each group is 1.

    mean softmax(f) in each group, cumulant Σ_groups log Σ_k e^{f_k}
    """

    support = (0.0, 1.0)
    is_discrete = True

    def __init__(self, sizes: Sequence[int]):
        self.sizes = list(sizes)
        n_groups, widest = len(self.sizes), max(self.sizes)
        place = torch.arange(widest).expand(n_groups, -1)
        self.is_there = place < torch.tensor(self.sizes)[:, None]  # (n_groups, widest)
        # The place of each unit in the table of groups; groups are padded to the widest one.
        self.slot = self.is_there.flatten().nonzero()[:, 0]  # (n_units,)
        self.first = torch.tensor(self.sizes).cumsum(0) - torch.tensor(self.sizes)  # (n_groups,)

    def on(self, device: torch.device) -> Units:
        units = copy.copy(self)
        for name in ("is_there", "slot", "first"):
            setattr(units, name, getattr(self, name).to(device))
        return units

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        shares = self._table(field).softmax(-1).flatten(-2)  # (…, n_groups · widest)
        return torch.index_select(shares, -1, self.slot, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return self._one_hot(self._table(perturbed(field, noise)).argmax(-1), field, out)

    def cumulant(self, field: Tensor) -> Tensor:
        return self._table(field).logsumexp(-1).sum(-1)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        return mean.clamp(min=1e-3).log()

    def n_states(self, n_units: int) -> float:
        return math.prod(map(float, self.sizes))  # infinity where an integer would be too large

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        digits = []
        for size in self.sizes:
            digits.append(index % size)
            index = index // size
        return self._one_hot(torch.stack(digits, -1), like.new_empty(len(index), n_units), None)

    def n_sites(self, n_units: int) -> int:
        return len(self.sizes)

    def site_changes(self, x: Tensor) -> SiteChanges:
        emptied = self._table(x).argmax(-1, keepdim=True) + self.first[:, None]  # (n, n_sites, 1)
        place = torch.arange(self.is_there.shape[1], device=x.device)
        unit = (self.first[:, None] + place).clamp(max=x.shape[1] - 1)[None]  # (1, n_sites, widest)
        return SiteChanges(unit, x.new_ones(1, 1, 1), emptied, self.is_there & (unit != emptied))

    def _table(self, x: Tensor) -> Tensor:
        """The units by groups; smaller groups are padded with −∞: (…, n_groups, widest)."""
        table = x.new_full((*x.shape[:-1], self.is_there.numel()), -math.inf)
        return table.index_copy(-1, self.slot, x).unflatten(-1, self.is_there.shape)

    def _one_hot(self, place: Tensor, like: Tensor, out: Tensor | None) -> Tensor:
        """The state in which the unit at `place` (…, n_groups) of each group is 1."""
        out = torch.empty_like(like) if out is None else out
        return out.zero_().scatter_(-1, place + self.first, 1.0)


class Pooled(Units):
    """Maps of binary units; at most one unit of each block is 1 (probabilistic max-pooling).

    mean e^{f_i} / (1 + Σ_block e^f), cumulant Σ_blocks log(1 + Σ_block e^f)

    The units form maps (n_maps, height, width), flattened in this order. Blocks are squares of
    side `size`; the last row and column of blocks may be cut off. A feature is the probability
    that one unit of a block is 1.

    H. Lee, R. Grosse, R. Ranganath, A. Y. Ng (2009). Convolutional deep belief networks for
    scalable unsupervised learning of hierarchical representations. ICML.
    """

    support = (0.0, 1.0)

    def __init__(self, maps: Sequence[int], size: int):
        self.maps, self.block_size = tuple(maps), size
        n_maps, *sides = self.maps
        n_blocks = [-(-side // size) for side in sides]
        self.pooled = (n_maps, *n_blocks)
        # Blocks that are cut off are filled up with units that are never 1.
        self.edge = [size * n - side for n, side in zip(n_blocks, sides)]

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return self._units(self._shares(field), out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        # A uniform number selects the first unit whose bound is above it, or no unit.
        bounds = self._shares(field).cumsum(0)
        below = noise.uniform(bounds[0]) < bounds
        below[1:] ^= below[:-1].clone()
        return self._units(below.to(field.dtype), out)

    def cumulant_terms(self, field: Tensor) -> Tensor:
        return softplus(self._blocks(field).logsumexp(0)).flatten(-3)  # (…, n_blocks)

    def cumulant(self, field: Tensor) -> Tensor:
        return self.cumulant_terms(field).sum(-1)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        share = self._blocks(mean, 0.0)
        rest = (1 - share.sum(0)).clamp(min=1e-3)  # P(no unit is 1)
        return self._units((share.clamp(min=1e-3) / rest).log(), None)

    def feature_fields(self, field: Tensor) -> Tensor:
        return self._blocks(field).logsumexp(0).flatten(-3)  # (…, n_blocks)

    def features_of_fields(self, fields: Tensor) -> Tensor:
        return fields.sigmoid()

    def mean_of_features(self, features: Tensor) -> Tensor:
        # All units of a block get the same share of its feature.
        of_blocks = features.unflatten(-1, self.pooled)
        ones = features.new_ones(*features.shape[:-1], math.prod(self.maps))
        there = self._blocks(ones, 0.0)
        return self._units(there.mul_(of_blocks / there.sum(0)), None)

    def n_states(self, n_units: int) -> float:
        there = self._blocks(torch.ones(n_units), 0.0)
        return math.prod((there.sum(0) + 1).flatten().tolist())

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        states = like.new_zeros(len(index), n_units)
        for block in self._blocks(torch.arange(n_units), -1).flatten(1).T.tolist():
            units = [unit for unit in block if unit >= 0]
            which = index % (len(units) + 1)  # the unit that is 1; the last: none
            for k, unit in enumerate(units):
                states[:, unit] = which == k
            index = index // (len(units) + 1)
        return states

    def _shares(self, field: Tensor) -> Tensor:
        """The means, by blocks."""
        f = self._blocks(field)
        highest = f.amax(0).clamp_(min=0)
        weight = (f - highest).exp_()
        return weight.div_(weight.sum(0).add_(highest.neg_().exp_()))

    def _blocks(self, x: Tensor, fill: float = -math.inf) -> Tensor:
        """The units by their place in a block: (size², …, n_maps, blocks down, blocks across)."""
        n, (n_maps, down, across), size = x.shape[:-1], self.pooled, self.block_size
        maps = x.reshape(-1, *self.maps)
        if any(self.edge):
            maps = functional.pad(maps, (0, self.edge[1], 0, self.edge[0]), value=fill)
        tiles = maps.view(-1, n_maps, down, size, across, size).permute(3, 5, 0, 1, 2, 4)
        return tiles.reshape(size**2, *n, n_maps, down, across)

    def _units(self, blocks: Tensor, out: Tensor | None) -> Tensor:
        """The inverse of `_blocks`."""
        n, (n_maps, down, across), size = blocks.shape[1:-3], self.pooled, self.block_size
        tiles = blocks.view(size, size, -1, n_maps, down, across).permute(2, 3, 4, 0, 5, 1)
        maps = tiles.reshape(-1, n_maps, down * size, across * size)
        maps = maps[..., : self.maps[1], : self.maps[2]]
        return _into(out, maps.reshape(*n, -1))


class ContinuousBernoulli(Units):
    """x ∈ [0, 1] with density ∝ e^{x f}:  cumulant log((e^f − 1)/f), mean 1/(1 − e^{−f}) − 1/f."""

    support = (0.0, 1.0)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        small, f = _small(field), _away_from_zero(field)
        square = field.square()
        series = torch.full_like(field, 1 / 47900160)
        for coefficient in (-1 / 1209600, 1 / 30240, -1 / 720, 1 / 12):
            series = coefficient + square * series
        mean = torch.where(small, 0.5 + field * series, -1 / torch.expm1(-f) - 1 / f)
        return _into(out, mean)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        steep = field.abs().clamp(min=1e-20)
        x = -torch.log1p(noise.uniform(field) * torch.expm1(-steep)) / steep  # at −|field|
        return _into(out, torch.where(field > 0, 1 - x, x).clamp_(0, 1))

    def cumulant(self, field: Tensor) -> Tensor:
        small, steep = _small(field), _away_from_zero(field).abs()
        square = field.square()
        series = torch.full_like(field, 1 / 479001600)
        for coefficient in (-1 / 9676800, 1 / 181440, -1 / 2880, 1 / 24):
            series = coefficient + square * series
        far = steep / 2 + torch.log(-torch.expm1(-steep) / steep)
        return (field / 2 + torch.where(small, square * series, far)).sum(-1)


def _small(field: Tensor) -> Tensor:
    return field.abs() < 0.5


def _away_from_zero(field: Tensor) -> Tensor:
    return torch.where(_small(field), torch.ones_like(field), field)


def _into(out: Tensor | None, result: Tensor) -> Tensor:
    return result if out is None else out.copy_(result)


class Gaussian(Units):
    """x ∈ ℝ:  log_base −x²/2T, mean T f, variance T, cumulant (T f² + log 2πT)/2."""

    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(field, self.temperature, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        spread = math.sqrt(self.temperature)
        return torch.add(self.mean(field, out), noise.normal(field), alpha=spread, out=out)

    def cumulant(self, field: Tensor) -> Tensor:
        constant = math.log(2 * math.pi * self.temperature)
        return ((self.temperature * field.square() + constant) / 2).sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return -x.square().sum(-1) / (2 * self.temperature)

    def field_of_mean(self, mean: Tensor) -> Tensor:
        return mean / self.temperature

    def cumulant_curvature(self) -> float:
        return self.temperature


class Poisson(Units):
    """x ∈ {0, 1, 2, …}:  log_base −log x!, mean e^f, cumulant e^f.

    Rates end at e^40, beyond which the cumulant goes on as a straight line: e^89 is no number of
    single precision, and torch draws integers of 64 bits, which wrap around at e^44.
    """

    max_field = 40.0
    support = (0.0, math.inf)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.clamp(field, max=self.max_field, out=out).exp_()

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        rate = self.mean(field, out)
        return rate.copy_(torch.poisson(rate, generator=noise.generator))

    def cumulant(self, field: Tensor) -> Tensor:
        bounded = field.clamp(max=self.max_field)
        return (bounded.exp() * (1 + field - bounded)).sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return -torch.lgamma(x + 1).sum(-1)


class ScaledGaussian(Gaussian):
    """Gaussian units x = row exp(−log_scales) with learned scales.

    ∂ log p(row)/∂log_scale = x ∂F(x)/∂x − 1 = x (x/T − field) − 1. This gradient is exact and needs
    no chain: x has a fixed variance given h, so log Z does not depend on the scales.

    Parameters
    ----------
    log_scales : Tensor of shape (n_scales,)
    temperature : float
    shape : sequence of int or None
        The shape of the layer; None means one axis, (n_units,).
    axis : int
        The axis with one scale for each index; units with the same index share the scale.
    """

    #: Bounds of a log scale, for standardised features.
    bounds = (math.log(0.1), math.log(2) / 2)

    def __init__(
        self,
        log_scales: Tensor,
        temperature: float = 1.0,
        shape: Sequence[int] | None = None,
        axis: int = 0,
    ):
        super().__init__(temperature)
        self.log_scales = log_scales
        self.shape = tuple(log_scales.shape if shape is None else shape)
        self.sides = [-1 if k == axis else 1 for k in range(len(self.shape))]

    def parameters(self) -> dict[str, Tensor]:
        return {"log_scales": self.log_scales}

    def confine_(self) -> None:
        self.log_scales.clamp_(*self.bounds)

    def from_rows(self, rows: Tensor) -> Tensor:
        return self._scaled(rows, -1)

    def to_rows(self, x: Tensor) -> Tensor:
        return self._scaled(x, 1)

    def _scaled(self, x: Tensor, sign: int) -> Tensor:
        factor = torch.exp(sign * self.log_scales).view(self.sides)
        return (x.unflatten(-1, self.shape) * factor).flatten(-len(self.shape))

    def log_volume(self) -> float:
        n_sharing = math.prod(self.shape) // len(self.log_scales)
        return n_sharing * self.log_scales.double().sum().item()

    def from_rows_grad(self, x: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        slope = x / self.temperature - field  # ∂F/∂x, (n, n_units)
        total = torch.mv((x * slope).sub_(1).T, weight)  # (n_units,)
        others = [k for k, side in enumerate(self.sides) if side == 1]
        total = total.view(self.shape)
        return {"log_scales": total.sum(others) if others else total}


class Rectified(Units):
    """x ≥ 0:  log_base −x²/2s, a Gaussian truncated at zero; s is the temperature.

    With t = √s f:  cumulant log(√(πs/2) erfcx(−t/√2)),  mean √s (t + φ(t)/Φ(t))
    """

    support = (0.0, math.inf)

    def __init__(self, temperature: float = 1.0):
        self.temperature, self.spread = temperature, math.sqrt(temperature)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        t = self.spread * field
        far, a = t < -12, (-t).clamp(min=12)
        # Far from zero, t and φ(t)/Φ(t) cancel: use the asymptotic series of Mills' ratio.
        square = 1 / a.square()
        series = (1 - square * (2 - square * (10 - square * (74 - 706 * square)))) / a
        near = t.clamp(min=-12)
        mean = near + math.sqrt(2 / math.pi) / torch.special.erfcx(-near / math.sqrt(2))
        return _into(out, torch.where(far, series, mean).mul_(self.spread))

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        t, u = (self.spread * field).double(), 1 - noise.uniform(field).double()  # u in (0, 1]
        near = -torch.special.ndtri(u * torch.special.ndtr(t.clamp(min=-5.0)))
        # Far from zero: log Q(a + x) = log Q(a) + log u for a = −t, by one step of Newton's method.
        a, e = (-t).clamp(min=5.0), -u.log()
        x = 2 * e / (a + (a.square() + 2 * e).sqrt())
        surplus = torch.special.log_ndtr(-a - x) - torch.special.log_ndtr(-a) + e
        hazard = math.sqrt(2 / math.pi) / torch.special.erfcx((a + x) / math.sqrt(2))
        x = torch.where(t > -5, near + t, x + surplus / hazard).clamp_(min=0)
        return _into(out, x.mul_(self.spread).to(field))

    def cumulant(self, field: Tensor) -> Tensor:
        t = self.spread * field
        left = torch.special.erfcx(-t.clamp(max=0) / math.sqrt(2)).log() + math.log(math.pi / 2) / 2
        right = t.clamp(min=0)
        right = right.square() / 2 + torch.special.log_ndtr(right) + math.log(2 * math.pi) / 2
        total = torch.where(t < 0, left, right) + math.log(self.spread)
        return total.sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return -x.square().sum(-1) / (2 * self.temperature)

    def cumulant_curvature(self) -> float:
        return self.temperature


class DoubleRectified(Units):
    """x ∈ ℝ:  log_base −γ₊x₊²/2 − γ₋x₋²/2 − θ₊x₊ − θ₋x₋,   x₊ = max(x, 0), x₋ = min(x, 0).

    With a₊ = (f − θ₊)/√γ₊, a₋ = (θ₋ − f)/√γ₋, the cumulant C and the mean R of rectified units:

        cumulant log(Z₊ + Z₋),   Z_± = exp(C(a_±))/√γ_±
        mean (Z₊ R(a₊)/√γ₊ − Z₋ R(a₋)/√γ₋)/(Z₊ + Z₋)

    J. Tubiana, S. Cocco, R. Monasson (2019). Learning protein constitutive motifs from sequence
    data. eLife 8.

    Parameters
    ----------
    gamma_plus, gamma_minus, theta_plus, theta_minus : Tensor of shape (n_units,)
    """

    energy_parameters = ("gamma_plus", "gamma_minus", "theta_plus", "theta_minus")
    #: Bounds of the curvatures γ.
    bounds = (0.05, 20.0)

    def __init__(
        self, gamma_plus: Tensor, gamma_minus: Tensor, theta_plus: Tensor, theta_minus: Tensor
    ):
        self.gamma_plus, self.gamma_minus = gamma_plus, gamma_minus
        self.theta_plus, self.theta_minus = theta_plus, theta_minus
        self.half = Rectified()

    def parameters(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.energy_parameters}

    def confine_(self) -> None:
        self.gamma_plus.clamp_(*self.bounds)
        self.gamma_minus.clamp_(*self.bounds)

    def _halves(self, field: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a₊, a₋, log Z₊ and log Z₋, of the shape of `field`."""
        above = (field - self.theta_plus) * self.gamma_plus.rsqrt()
        below = (self.theta_minus - field) * self.gamma_minus.rsqrt()
        log_above = self.half.cumulant(above[..., None]) - self.gamma_plus.log() / 2
        log_below = self.half.cumulant(below[..., None]) - self.gamma_minus.log() / 2
        return above, below, log_above, log_below

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        above, below, log_above, log_below = self._halves(field)
        share = (log_above - log_below).sigmoid()
        up = share * self.half.mean(above) * self.gamma_plus.rsqrt()
        return _into(out, up - (1 - share) * self.half.mean(below) * self.gamma_minus.rsqrt())

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        above, below, log_above, log_below = self._halves(field)
        is_above = noise.uniform(field) < (log_above - log_below).sigmoid()
        size = self.half.sample(torch.where(is_above, above, below), noise)
        up, down = size * self.gamma_plus.rsqrt(), size * self.gamma_minus.rsqrt()
        return _into(out, torch.where(is_above, up, -down))

    def cumulant_terms(self, field: Tensor) -> Tensor:
        return torch.logaddexp(*self._halves(field)[2:])

    def cumulant(self, field: Tensor) -> Tensor:
        return self.cumulant_terms(field).sum(-1)

    def log_base(self, x: Tensor) -> Tensor:
        up, down = x.clamp(min=0), x.clamp(max=0)
        above = (self.gamma_plus * up / 2 + self.theta_plus) * up
        return -(above + (self.gamma_minus * down / 2 + self.theta_minus) * down).sum(-1)

    def log_base_grad(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        up, down = x.clamp(min=0), x.clamp(max=0)
        return self._gradients(up.square(), down.square(), up, down, weight)

    def cumulant_grad(self, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        above, below, log_above, log_below = self._halves(field)
        share = (log_above - log_below).sigmoid()
        up, down = self.half.mean(above), self.half.mean(below)
        # E[y²] = 1 + a E[y] for y > 0 with the density ∝ exp(a y − y²/2).
        squares = (1 + above * up).clamp(min=0), (1 + below * down).clamp(min=0)
        return self._gradients(
            share * squares[0] / self.gamma_plus,
            (1 - share) * squares[1] / self.gamma_minus,
            share * up * self.gamma_plus.rsqrt(),
            (share - 1) * down * self.gamma_minus.rsqrt(),
            weight,
        )

    def _gradients(
        self, square_up: Tensor, square_down: Tensor, up: Tensor, down: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """Σ_i weight_i ∂log_base/∂φ, given (expected) values of x₊², x₋², x₊ and x₋."""
        halves = (-square_up / 2, -square_down / 2, -up, -down)
        return {n: weight @ value for n, value in zip(self.energy_parameters, halves)}


class SteppedSigmoid(Units):
    """x ∈ {0, …, N}:  the number of ones among N binary copies with biases −½, −3/2, ….

    cumulant Σ_k softplus(f − (k − ½)/T),  mean Σ_k σ(f − (k − ½)/T):  nearly T softplus(f)
    """

    n_copies = 64
    support = (0.0, float(n_copies))

    def __init__(self, temperature: float = 1.0):
        self.temperature = temperature

    def _copies(self, field: Tensor) -> Tensor:
        k = torch.arange(self.n_copies, device=field.device, dtype=field.dtype)
        return field[..., None] - (k + 0.5) / self.temperature  # (…, n_copies)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return _into(out, self._copies(field).sigmoid_().sum(-1))

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return _into(out, noise.bernoulli(self._copies(field).sigmoid_()).sum(-1))

    def cumulant(self, field: Tensor) -> Tensor:
        return softplus(self._copies(field)).sum((-2, -1))

    def log_base(self, x: Tensor) -> Tensor:
        # Σ over the choices of x copies: a Gaussian binomial coefficient in q = e^{−1/T}.
        j = torch.arange(1, self.n_copies + 1, device=x.device, dtype=torch.float64)
        steps = torch.log(-torch.expm1((j - 1 - self.n_copies) / self.temperature))
        steps -= torch.log(-torch.expm1(-j / self.temperature))
        table = torch.cat([steps.new_zeros(1), steps.cumsum(0)]).to(x)  # (n_copies + 1,)
        choices = table[x.round().long().clamp(0, self.n_copies)]
        return (choices - x.square() / (2 * self.temperature)).sum(-1)

    def cumulant_curvature(self) -> float:
        return self.temperature


class NoisyRelu(SteppedSigmoid):
    """Stepped sigmoid units with a fast approximate sampler: max(0, x + N(0, σ(x))).

    V. Nair, G. E. Hinton (2010). Rectified linear units improve restricted Boltzmann machines.
    """

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        spread = (self.temperature * field.sigmoid()).sqrt_()
        x = self.temperature * field + spread.mul_(noise.normal(field))
        return _into(out, x.clamp_(0, self.n_copies))

    def exact(self) -> Units:
        return SteppedSigmoid(self.temperature)


class Mixed(Units):
    """Units of several kinds side by side; `parts` gives the number of units of each kind."""

    def __init__(self, parts: Sequence[tuple[Units, int]]):
        self.kinds = [units for units, _ in parts]
        self.sizes = [size for _, size in parts]
        self.energy_parameters = tuple(n for units in self.kinds for n in units.energy_parameters)
        self.capturable = all(units.capturable for units in self.kinds)

    def on(self, device: torch.device) -> Units:
        return type(self)([(units.on(device), n) for units, n in zip(self.kinds, self.sizes)])

    def _each(self, *tensors: Tensor | None):
        """The kinds, each with its share of the tensors."""
        pieces = [
            [None] * len(self.kinds) if t is None else t.split(self.sizes, -1) for t in tensors
        ]
        return zip(self.kinds, *pieces)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        out = torch.empty_like(field) if out is None else out
        for units, f, part in self._each(field, out):
            units.mean(f, part)
        return out

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        out = torch.empty_like(field) if out is None else out
        for units, f, part in self._each(field, out):
            units.sample(f, noise, part)
        return out

    def sample_with_mean(
        self, field: Tensor, mean: Tensor, noise: Noise, out: Tensor | None = None
    ) -> Tensor:
        out = torch.empty_like(field) if out is None else out
        for units, f, of_mean, part in self._each(field, mean, out):
            units.sample_with_mean(f, of_mean, noise, part)
        return out

    def cumulant(self, field: Tensor) -> Tensor:
        parts = (units.cumulant(f) for units, f in self._each(field))
        return sum(parts, start=field.new_zeros(field.shape[:-1]))

    def log_base(self, x: Tensor) -> Tensor:
        parts = (units.log_base(part) for units, part in self._each(x))
        return sum(parts, start=x.new_zeros(x.shape[:-1]))

    def field_of_mean(self, mean: Tensor) -> Tensor:
        return torch.cat([units.field_of_mean(part) for units, part in self._each(mean)], -1)

    def exact(self) -> Units:
        return type(self)([(units.exact(), n) for units, n in zip(self.kinds, self.sizes)])

    def parameters(self) -> dict[str, Tensor]:
        return _merged(units.parameters() for units in self.kinds)

    def bound(self, parameters: dict[str, Tensor]) -> Units:
        kinds = []
        for units in self.kinds:
            kinds.append(units.bound({name: parameters[name] for name in units.parameters()}))
        return type(self)(list(zip(kinds, self.sizes)))

    def confine_(self) -> None:
        for units in self.kinds:
            units.confine_()

    def log_base_grad(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        return _merged(units.log_base_grad(part, weight) for units, part in self._each(x))

    def cumulant_grad(self, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        return _merged(units.cumulant_grad(f, weight) for units, f in self._each(field))

    def from_rows(self, rows: Tensor) -> Tensor:
        return _joined(rows, [(part, units.from_rows(part)) for units, part in self._each(rows)])

    def to_rows(self, x: Tensor) -> Tensor:
        return _joined(x, [(part, units.to_rows(part)) for units, part in self._each(x)])

    def log_volume(self) -> float:
        return sum(units.log_volume() for units in self.kinds)

    def from_rows_grad(self, x: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        parts = self._each(x, field)
        return _merged(units.from_rows_grad(part, f, weight) for units, part, f in parts)

    def cumulant_curvature(self) -> float:
        return max(units.cumulant_curvature() for units in self.kinds)

    def n_states(self, n_units: int) -> float:
        return math.prod(units.n_states(size) for units, size in zip(self.kinds, self.sizes))

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        parts = []
        for units, size in zip(self.kinds, self.sizes):
            n = int(units.n_states(size))
            parts.append(units.states(index % n, size, like))
            index = index // n
        return torch.cat(parts, -1)


def _joined(x: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The mapped parts of x side by side; x itself if no part was changed."""
    unchanged = all(mapped is part for part, mapped in pairs)
    return x if unchanged else torch.cat([mapped for _, mapped in pairs], -1)


def _merged(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters of several kinds as one dict; two kinds must not use the same name."""
    merged: dict[str, Tensor] = {}
    for part in parts:
        if not merged.keys().isdisjoint(part):
            raise ValueError(f"Two kinds of units share a name from {list(part)}; rename it.")
        merged |= part
    return merged
