"""What a layer is made of: units that are independent given their field.

    p(x | field) = exp(x·field + log_base(x) − cumulant(field))
    cumulant(f)  = log Σ_x exp(x·f + log_base(x)),        mean(f) = cumulant′(f)

A kind of units is these functions and nothing else: free energies, conditionals, gradients
and partition functions follow from them (`skebm.engine.models`). Where `out` is given, the
result is written there; it may be `field` itself.

At temperature T the law is exp(−E/T). Fields are divided by T already; units whose base measure
has an energy of its own take T as `temperature`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from skebm.engine.noise import Noise


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), to double precision: torch's own stops at e^−20."""
    return functional.softplus(x, threshold=40.0)


class Moves(NamedTuple):
    """The states that each site of a row can go to, while all others stay as they are.

    A site is what has a state of its own: a binary unit, or the units of a category. There
    are up to n_moves other states of a site.
    """

    unit: Tensor  # (n or 1, n_sites, n_moves): the unit that changes,
    change: Tensor  # (n or 1, n_sites or 1, n_moves or 1): by how much
    emptied: Tensor | None = None  # (n, n_sites, 1): a unit that goes from one to zero with it
    allowed: Tensor | None = None  # (n, n_sites, n_moves): False where a site has fewer moves

    def at(self, sites: Tensor, n_sites: int) -> Moves:
        """The moves of some sites of each row alone, (n, k)."""

        def chosen(t: Tensor) -> Tensor:
            t = t.expand(len(sites), n_sites, -1)
            return t.gather(1, sites[..., None].expand(-1, -1, t.shape[2]))

        rest = (None if t is None else chosen(t) for t in (self.emptied, self.allowed))
        return Moves(chosen(self.unit), chosen(self.change), *rest)


class Units(ABC):
    """A layer of units; the last axis of every tensor runs over them."""

    #: The interval that values of a unit lie in.
    support: tuple[float, float] = (-math.inf, math.inf)
    #: Whether `moves` enumerates the states of a site.
    is_discrete: bool = False
    #: How many units, down and across, of a map share a term of the cumulant.
    block: int = 1

    @abstractmethod
    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        """E[x | field], of the shape of `field`."""

    @abstractmethod
    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        """One draw from p(x | field), of the shape of `field`."""

    @abstractmethod
    def cumulant(self, field: Tensor) -> Tensor:
        """log Σ_x exp(x·field + log_base(x)), summed over the last axis."""

    def mean_and_cumulant(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """Both; `field` is overwritten by the mean."""
        cumulant = self.cumulant(field)
        return self.mean(field, field), cumulant

    def log_base(self, x: Tensor) -> Tensor:
        """Logarithm of the base measure, summed over the last axis."""
        return x.new_zeros(x.shape[:-1])

    def natural(self, mean: Tensor) -> Tensor:
        """The field at which units have this mean, kept within ±74: the inverse of `mean`."""
        low, high = torch.full_like(mean, -5.0), torch.full_like(mean, 5.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.mean(middle.sinh()) > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return ((low + high) / 2).sinh()

    def law(self) -> Units:
        """Units of this law, whose samples are draws from it."""
        return self

    def plain(self, x: Tensor) -> Tensor:
        """x in the coordinates in which these units were defined."""
        return x

    def told(self, x: Tensor, out: Tensor) -> Tensor:
        """The inverse of `plain`."""
        return out.copy_(x)

    def cumulants(self, field: Tensor) -> Tensor:
        """The terms that `cumulant` is the sum of: (…, n_terms)."""
        return self.cumulant(field[..., None])

    # What the next step of a pipeline is given

    def features(self, field: Tensor) -> Tensor:
        """What is told of the units given their field."""
        return self.mean(field)

    def of_features(self, features: Tensor) -> Tensor:
        """The units' means, of features."""
        return features

    def growth(self) -> float:
        """The s for which the cumulant grows as s field²/2, as far as units reach."""
        return 0.0

    # Units of finitely many states

    def n_states(self, n_units: int) -> float:
        """How many states `n_units` units have."""
        return math.inf

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        """States of `n_units` units by their number, in the type of `like`: (n, n_units)."""
        raise NotImplementedError(f"{type(self).__name__} units have no end of states.")

    def n_sites(self, n_units: int) -> int:
        """How many sites `n_units` units make up."""
        return n_units

    def moves(self, x: Tensor) -> Moves:
        """The other states of every site of the rows x (n, n_units)."""
        raise NotImplementedError(f"{type(self).__name__} units have no end of states.")


class Binary(Units):
    """Units of two states, low and high."""

    is_discrete = True

    def n_states(self, n_units: int) -> float:
        return 2.0**n_units

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        bits = torch.arange(n_units, device=index.device)  # (n_units,)
        low, high = self.support
        return (index[:, None] >> bits & 1).to(like).mul_(high - low).add_(low)  # (n, n_units)

    def moves(self, x: Tensor) -> Moves:
        unit = torch.arange(x.shape[1], device=x.device)[None, :, None]
        return Moves(unit, (sum(self.support) - 2 * x)[:, :, None])


class Bernoulli(Binary):
    """x ∈ {0, 1}:  mean σ(f), cumulant log(1 + e^f)."""

    support = (0.0, 1.0)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.sigmoid(field, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return noise.bernoulli(torch.sigmoid(field, out=out), out=out)

    def cumulant(self, field: Tensor) -> Tensor:
        return softplus(field).sum(-1)

    def mean_and_cumulant(self, field: Tensor) -> tuple[Tensor, Tensor]:
        # With t = e^(−f): σ(f) = 1/(1 + t), and softplus(f) = f + log(1 + t), where one logarithm
        # does for four units. Below −20 (−40 in double precision) both are as good as zero.
        largest = 20.0 if field.dtype == torch.float32 else 40.0
        t = field.neg_().clamp_(max=largest)
        linear = t.sum(-1)
        t.exp_().add_(1)
        n = t.shape[-1] // 4
        first, second, third, fourth, rest = t.split([n, n, n, n, t.shape[-1] - 4 * n], -1)
        logs = (first * second).mul_(third).mul_(fourth).log_().sum(-1) + rest.log().sum(-1)
        return t.reciprocal_(), logs.sub_(linear)

    def natural(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)


class MeanBernoulli(Bernoulli):
    """Bernoulli units whose "samples" are their means: the mean-field approximation.

    The chain that results leaves no distribution of these units invariant; the free energy
    is that of Bernoulli units.
    """

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        return self.mean(field, out)

    def law(self) -> Units:
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

    def natural(self, mean: Tensor) -> Tensor:
        return torch.logit((1 + mean) / 2, eps=1e-3) / 2


class Categorical(Units):
    """Groups of units of which exactly one is 1 and the others are 0: the categories of a column.

    mean softmax(f) in each group, cumulant Σ_groups log Σ_k e^{f_k}
    """

    support = (0.0, 1.0)
    is_discrete = True

    def __init__(self, sizes: Sequence[int]):
        self.sizes = list(sizes)
        n_groups, widest = len(self.sizes), max(self.sizes)
        place = torch.arange(widest).expand(n_groups, -1)
        self.is_there = place < torch.tensor(self.sizes)[:, None]  # (n_groups, widest)
        # Where each unit stands in the table of groups, which is filled up to the widest.
        self.slot = self.is_there.flatten().nonzero()[:, 0]  # (n_units,)
        self.first = torch.tensor(self.sizes).cumsum(0) - torch.tensor(self.sizes)  # (n_groups,)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        shares = self._table(field).softmax(-1).flatten(-2)  # (…, n_groups · widest)
        return torch.index_select(shares, -1, self.slot, out=out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        # The largest of fields with Gumbel noise is a draw from their softmax.
        gumbel = noise.uniform(field).log().neg_().log_().neg_()
        return self._one_hot(self._table(gumbel.add_(field)).argmax(-1), field, out)

    def cumulant(self, field: Tensor) -> Tensor:
        return self._table(field).logsumexp(-1).sum(-1)

    def natural(self, mean: Tensor) -> Tensor:
        return mean.clamp(min=1e-3).log()

    def n_states(self, n_units: int) -> float:
        return float(math.prod(self.sizes))

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        digits = []
        for size in self.sizes:
            digits.append(index % size)
            index = index // size
        return self._one_hot(torch.stack(digits, -1), like.new_empty(len(index), n_units), None)

    def n_sites(self, n_units: int) -> int:
        return len(self.sizes)

    def moves(self, x: Tensor) -> Moves:
        emptied = self._table(x).argmax(-1, keepdim=True) + self.first[:, None]  # (n, n_sites, 1)
        place = torch.arange(self.is_there.shape[1], device=x.device)
        unit = (self.first[:, None] + place).clamp(max=x.shape[1] - 1)[None]  # (1, n_sites, widest)
        return Moves(unit, x.new_ones(1, 1, 1), emptied, self.is_there & (unit != emptied))

    def _table(self, x: Tensor) -> Tensor:
        """The units by groups, with −∞ where a group has fewer: (…, n_groups, widest)."""
        self._move(x.device)
        table = x.new_full((*x.shape[:-1], self.is_there.numel()), -math.inf)
        return table.index_copy(-1, self.slot, x).unflatten(-1, self.is_there.shape)

    def _one_hot(self, place: Tensor, like: Tensor, out: Tensor | None) -> Tensor:
        """The state with the unit at this place of each group on, place (…, n_groups)."""
        out = torch.empty_like(like) if out is None else out
        self._move(place.device)
        return out.zero_().scatter_(-1, place + self.first, 1.0)

    def _move(self, device: torch.device) -> None:
        """Have the index on this device: copied once, and not in every update."""
        if self.slot.device != device:
            self.slot, self.first = self.slot.to(device), self.first.to(device)
            self.is_there = self.is_there.to(device)


class Pooled(Units):
    """Maps of binary units, of which in each block at most one is 1 (probabilistic max-pooling).

    mean e^{f_i} / (1 + Σ_block e^f), cumulant Σ_blocks log(1 + Σ_block e^f)

    The units are those of maps (n_maps, height, width), in this order; blocks are squares of
    `size`, cut off at the far edges. A feature is the probability that some unit of a block is 1.

    H. Lee, R. Grosse, R. Ranganath, A. Y. Ng (2009). Convolutional deep belief networks for
    scalable unsupervised learning of hierarchical representations. ICML.
    """

    support = (0.0, 1.0)

    def __init__(self, maps: Sequence[int], size: int):
        self.maps, self.block = tuple(maps), size
        n_maps, *sides = self.maps
        n_blocks = [-(-side // size) for side in sides]
        self.pooled = (n_maps, *n_blocks)
        # Blocks that are cut off are filled up with units that are never 1.
        self.edge = [size * n - side for n, side in zip(n_blocks, sides)]

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        return self._units(self._shares(field), out)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        # One number picks the unit between whose bounds it falls, or none above the last.
        bounds = self._shares(field).cumsum(0)
        below = noise.uniform(bounds[0]) < bounds
        below[1:] ^= below[:-1].clone()
        return self._units(below.to(field.dtype), out)

    def cumulants(self, field: Tensor) -> Tensor:
        return softplus(self._blocks(field).logsumexp(0)).flatten(-3)  # (…, n_blocks)

    def cumulant(self, field: Tensor) -> Tensor:
        return self.cumulants(field).sum(-1)

    def natural(self, mean: Tensor) -> Tensor:
        share = self._blocks(mean, 0.0)
        rest = (1 - share.sum(0)).clamp(min=1e-3)  # of none
        return self._units((share.clamp(min=1e-3) / rest).log(), None)

    def features(self, field: Tensor) -> Tensor:
        return self._blocks(field).logsumexp(0).sigmoid().flatten(-3)  # (…, n_blocks)

    def of_features(self, features: Tensor) -> Tensor:
        # Whichever unit of a block it is that is 1, they are alike.
        of_blocks = features.unflatten(-1, self.pooled)
        ones = features.new_ones(*features.shape[:-1], math.prod(self.maps))
        there = self._blocks(ones, 0.0)
        return self._units(there.mul_(of_blocks / there.sum(0)), None)

    def n_states(self, n_units: int) -> float:
        there = self._blocks(torch.ones(n_units), 0.0)
        return math.prod((there.sum(0) + 1).flatten().tolist())

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        states = like.new_zeros(len(index), n_units)
        for block in self._blocks(torch.arange(n_units), -1).flatten(1).T:
            units = block[block >= 0]
            which = index % (len(units) + 1)  # of them is 1, or none
            states[:, units] = (which[:, None] == torch.arange(len(units)).to(index)).to(like)
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
        n, (n_maps, down, across), size = x.shape[:-1], self.pooled, self.block
        maps = x.reshape(-1, *self.maps)
        if any(self.edge):
            maps = functional.pad(maps, (0, self.edge[1], 0, self.edge[0]), value=fill)
        tiles = maps.view(-1, n_maps, down, size, across, size).permute(3, 5, 0, 1, 2, 4)
        return tiles.reshape(size**2, *n, n_maps, down, across)

    def _units(self, blocks: Tensor, out: Tensor | None) -> Tensor:
        """The inverse of `_blocks`."""
        n, (n_maps, down, across), size = blocks.shape[1:-3], self.pooled, self.block
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
    """x ∈ ℝ:  log_base −x²/2T, mean T f, cumulant (T f² + log 2πT)/2: a variance of T."""

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

    def natural(self, mean: Tensor) -> Tensor:
        return mean / self.temperature

    def growth(self) -> float:
        return self.temperature


class Rectified(Units):
    """x ≥ 0:  log_base −x²/2s, a Gaussian cut off at zero; s is the temperature.

    With t = √s f:  cumulant log(√(πs/2) erfcx(−t/√2)),  mean √s (t + φ(t)/Φ(t))
    """

    support = (0.0, math.inf)

    def __init__(self, temperature: float = 1.0):
        self.temperature, self.spread = temperature, math.sqrt(temperature)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        t = self.spread * field
        far, a = t < -12, (-t).clamp(min=12)
        # Mills' ratio, whose leading terms cancel far from zero.
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

    def growth(self) -> float:
        return self.temperature


class SteppedSigmoid(Units):
    """x ∈ {0, …, N}:  the number of ones among N binary copies, of biases −½, −3/2, ….

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

    def growth(self) -> float:
        return self.temperature


class NoisyRelu(SteppedSigmoid):
    """Stepped sigmoid units with a quick sampler: max(0, x + N(0, σ(x))), an approximation.

    V. Nair, G. E. Hinton (2010). Rectified linear units improve restricted Boltzmann machines.
    """

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        spread = (self.temperature * field.sigmoid()).sqrt_()
        x = self.temperature * field + spread.mul_(noise.normal(field))
        return _into(out, x.clamp_(0, self.n_copies))

    def law(self) -> Units:
        return SteppedSigmoid(self.temperature)


class Mixed(Units):
    """Units of several kinds side by side, so many of each."""

    def __init__(self, parts: Sequence[tuple[Units, int]]):
        self.kinds = [units for units, _ in parts]
        self.sizes = [size for _, size in parts]

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

    def cumulant(self, field: Tensor) -> Tensor:
        return torch.stack([units.cumulant(f) for units, f in self._each(field)]).sum(0)

    def log_base(self, x: Tensor) -> Tensor:
        return torch.stack([units.log_base(part) for units, part in self._each(x)]).sum(0)

    def natural(self, mean: Tensor) -> Tensor:
        return torch.cat([units.natural(part) for units, part in self._each(mean)], -1)

    def law(self) -> Units:
        return Mixed([(units.law(), size) for units, size in zip(self.kinds, self.sizes)])

    def growth(self) -> float:
        return max(units.growth() for units in self.kinds)

    def n_states(self, n_units: int) -> float:
        return math.prod(units.n_states(size) for units, size in zip(self.kinds, self.sizes))

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        parts = []
        for units, size in zip(self.kinds, self.sizes):
            n = int(units.n_states(size))
            parts.append(units.states(index % n, size, like))
            index = index // n
        return torch.cat(parts, -1)


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

    def mean_and_cumulant(self, field: Tensor) -> tuple[Tensor, Tensor]:
        shift = field @ self.offset.expand(field.shape[-1])
        mean, cumulant = self.units.mean_and_cumulant(field)
        return mean.sub_(self.offset), cumulant.sub_(shift)

    def log_base(self, x: Tensor) -> Tensor:
        return self.units.log_base(x + self.offset)

    def natural(self, mean: Tensor) -> Tensor:
        return self.units.natural(mean + self.offset)

    def plain(self, x: Tensor) -> Tensor:
        return x + self.offset

    def told(self, x: Tensor, out: Tensor) -> Tensor:
        return torch.sub(x, self.offset, out=out)

    def growth(self) -> float:
        return self.units.growth()

    def n_states(self, n_units: int) -> float:
        return self.units.n_states(n_units)

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        return self.units.states(index, n_units, like) - self.offset

    def n_sites(self, n_units: int) -> int:
        return self.units.n_sites(n_units)

    def moves(self, x: Tensor) -> Moves:
        return self.units.moves(x + self.offset)
