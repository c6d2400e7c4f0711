"""Energy models: parameters, fields, free energy, one transition, gradient in closed form.

    −E(v, h)   = v·b + h·c + h·W v + log_base_v(v) + log_base_h(h)
    F(v)       = −[v·b + log_base_v(v) + cumulant_h(c + W v)]
    −∂E/∂(W, b, c) = (h vᵀ,  v,  h),      −∂F/∂θ = −∂E/∂θ at h = mean_h(c + W v)
    path(beta) : W → beta W,  c → beta c,  b → b0 + beta (b − b0)
    log Z(0)   = cumulant_v(b0) + cumulant_h(0)

beta runs from an independent reference model (0) to the model itself (1); it is a number or
a column, one value for each row.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from skebm.engine.noise import Noise
from skebm.engine.products import product
from skebm.engine.units import Shifted, Units, softplus

Beta = float | Tensor

#: Norm of the weights between layers of unbounded units.
LARGEST_NORM = 0.98
#: Bounds of a learned log scale, of standardised features.
LOG_SCALES = (math.log(0.1), math.log(2) / 2)


def grad(parameter: Tensor) -> Tensor:
    """The gradient of a parameter."""
    assert parameter.grad is not None
    return parameter.grad


def pack(*parameters: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One vector with a gradient, and the parameters and their gradients as pieces of it."""
    vector = torch.cat([p.reshape(-1) for p in parameters])
    vector.grad = torch.zeros_like(vector)
    sizes = [p.numel() for p in parameters]
    pieces = [t.view_as(p) for t, p in zip(vector.split(sizes), parameters)]
    for piece, gradient in zip(pieces, vector.grad.split(sizes)):
        piece.grad = gradient.view_as(piece)
    return vector, pieces


class Joint:
    """Weighted joint states (v, h), a row each."""

    def __init__(self, v: Tensor, h: Tensor, weight: Tensor):
        self.v, self.h, self.weight = v, h, weight  # (n, n_visible), (n, n_hidden), (n,)
        # The transposed tensors, made once: training makes thousands of small updates a second.
        self.v_t, self.h_t, self.column = v.T, h.T, weight[:, None]
        self.ones = torch.ones_like(weight)  # (n,)


class EnergyModel(ABC):
    """A density proportional to exp(−free_energy(v)), and a transition that keeps it."""

    #: All parameters as one vector, so that an optimiser makes one call for all of them.
    theta: Tensor

    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """What is learned, by name."""

    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The parameters that weight decay, l1 and the cap on norms act on."""

    @abstractmethod
    def free_energy(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        """F(v) of each row, in nats: (n,)."""

    @abstractmethod
    def transition(
        self, v: Tensor, noise: Noise, beta: Beta = 1.0, out: Tensor | None = None
    ) -> Tensor:
        """One step of a Markov chain that leaves the density at `beta` invariant."""

    def anneal_step(
        self, v: Tensor, noise: Noise, beta: float, target: float
    ) -> tuple[Tensor, Tensor]:
        """From one level to another: F(v, beta) − F(v, target), and a transition at `target`."""
        log_ratio = self.free_energy(v, beta) - self.free_energy(v, target)  # (n,)
        return log_ratio, self.transition(v, noise, target)

    def begin_update(self, data: Joint, noise: Noise) -> None:  # noqa: B027
        """Make ready for an update on the rows `data.v`."""

    def report(self) -> dict[str, Tensor]:
        """Figures of the epoch for the history, one number each."""
        return {}

    @abstractmethod
    def set_grad(self, states: Joint) -> None:
        """Σ_i weight_i ∂(−E)(v_i, h_i)/∂θ into every `.grad`; `h` is multiplied by `weight`."""

    def confine_(self) -> None:  # noqa: B027
        """Bring parameters that have bounds back into them, after an update."""

    def normalise_(self) -> None:  # noqa: B027
        """Make sure that there is a partition function, before and after an epoch."""

    @abstractmethod
    def start(self, n: int, noise: Noise) -> Tensor:
        """`n` exact draws from the reference model: (n, n_visible)."""

    @abstractmethod
    def log_partition_reference(self) -> Tensor:
        """log Z of the reference model, exactly: ()."""


def path(field: Tensor, beta: Beta, reference: Tensor | float = 0.0) -> Tensor:
    """The natural parameter at `beta`: from `reference` (0) straight to `field` (1)."""
    if isinstance(beta, float) and beta == 1.0:
        return field
    return reference + beta * (field - reference)


class Coupling(ABC):
    """What binds the layers, h·W v: a linear map and its transpose."""

    @abstractmethod
    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        """W v and the biases of the hidden layer, of each row: (n, n_hidden)."""

    @abstractmethod
    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        """Wᵀ h and the biases of the visible layer, of each row: (n, n_visible)."""

    @abstractmethod
    def correlate_(self, out: Tensor, states: Joint) -> None:
        """out ← Σ_i ∂(h_i·W v_i)/∂W, like W."""

    @abstractmethod
    def norm(self) -> Tensor:
        """The largest factor by which the map lengthens a vector, or a bound of it: ()."""


class Dense(Coupling):
    """The coupling of every hidden with every visible unit."""

    def __init__(self, weight: Tensor, precision: str = "highest"):
        self.weight = weight  # (n_hidden, n_visible)
        self.precision = precision

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        return product(v, self.weight.T, bias, self.precision)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        return product(h, self.weight, bias, self.precision)

    def correlate_(self, out: Tensor, states: Joint) -> None:
        product(states.h_t, states.v, None, self.precision, out)  # (n_hidden, n_visible)

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(self.weight, 2)


class RBM(EnergyModel):
    """Two layers of units and the coupling between them."""

    #: How many places of the hidden layer share a parameter.
    n_places = 1

    def __init__(
        self,
        visible: Units,
        hidden: Units,
        W: Tensor,
        b: Tensor,
        c: Tensor,
        b0: Tensor | None = None,
        precision: str = "highest",
        log_scale: Tensor | None = None,
    ):
        self.visible, self.hidden = visible, hidden
        # W (n_hidden, n_visible), b (n_visible,), c (n_hidden,), and log_scale (n_scaled,)
        scales = () if log_scale is None else (log_scale,)
        self.theta, (self.W, self.b, self.c, *rest) = pack(W, b, c, *scales)
        self.log_scale = rest[0] if rest else None
        self.b0 = self.b if b0 is None else b0  # (n_visible,), the reference model's bias
        self.precision = precision
        self.coupling: Coupling = Dense(self.W, precision)
        self.n_visible, self.n_hidden = len(b), len(c)

    def parameters(self) -> dict[str, Tensor]:
        coupled = {"components": self.W, "intercept_visible": self.b, "intercept_hidden": self.c}
        return coupled if self.log_scale is None else coupled | {"log_scales": self.log_scale}

    def weights(self) -> list[Tensor]:
        return [self.W]

    @property
    def row_size(self) -> int:
        """How many numbers a joint state has."""
        return self.n_visible + self.n_hidden

    def biases(self) -> tuple[Tensor, Tensor]:
        """The biases, to which the coupling adds its fields."""
        return self.b, self.c

    def visible_bias(self) -> Tensor:
        """The field of the visible units where no hidden unit is on: (n_visible,)."""
        return self.b

    def hidden_bias(self) -> Tensor:
        """The field of the hidden units where no visible unit is on: (n_hidden,)."""
        return self.c

    def hidden_field(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.up(v, self.biases()[1]), beta)  # (n, n_hidden)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.down(h, self.biases()[0]), beta, self.b0)  # (n, n_visible)

    def free_energy(self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None) -> Tensor:
        """F(v) of each row, given the hidden field at beta = 1 where it is known: (n,)."""
        field = self.hidden_field(v) if field is None else field  # (n, n_hidden)
        linear = (v * path(self.visible_bias(), beta, self.b0)).sum(-1)  # (n,)
        return -(linear + self.visible.log_base(v) + self.hidden.cumulant(path(field, beta)))

    def hidden_free_energy(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        """−log Σ_v exp(−E(v, h)): the free energy of the other layer, (n,)."""
        linear = (h * path(self.hidden_bias(), beta)).sum(-1)  # (n,)
        cumulant = self.visible.cumulant(self.visible_field(h, beta))  # (n,)
        return -(linear + self.hidden.log_base(h) + cumulant)

    def sample_hidden(
        self, v: Tensor, noise: Noise, beta: Beta = 1.0, out: Tensor | None = None
    ) -> Tensor:
        return self.hidden.sample(self.hidden_field(v, beta), noise, out)  # (n, n_hidden)

    def sample_visible(
        self, h: Tensor, noise: Noise, beta: Beta = 1.0, out: Tensor | None = None
    ) -> Tensor:
        return self.visible.sample(self.visible_field(h, beta), noise, out)  # (n, n_visible)

    def transition(
        self, v: Tensor, noise: Noise, beta: Beta = 1.0, out: Tensor | None = None
    ) -> Tensor:
        return self.sample_visible(self.sample_hidden(v, noise, beta), noise, beta, out)

    def anneal_step(
        self, v: Tensor, noise: Noise, beta: float, target: float
    ) -> tuple[Tensor, Tensor]:
        field = self.hidden_field(v)  # (n, n_hidden), for both levels and the transition
        log_ratio = self.free_energy(v, beta, field) - self.free_energy(v, target, field)  # (n,)
        h = self.hidden.sample(path(field, target), noise)  # (n, n_hidden)
        return log_ratio, self.sample_visible(h, noise, target)

    def set_grad(self, states: Joint) -> None:
        states.h.mul_(states.column)
        self.coupling.correlate_(grad(self.W), states)
        torch.mv(states.v_t, states.weight, out=grad(self.b))
        torch.mv(states.h_t, states.ones, out=grad(self.c))

    # The first visible units may have scales that are learned: v = x exp(−log_scale)

    def unit_scales(self) -> Tensor:
        """The log scale of each of the units that have one: (n_scaled,)."""
        assert self.log_scale is not None
        return self.log_scale

    def share_scales(self, x: Tensor) -> Tensor:
        """What belongs to these units, (n_scaled,), summed over those that share a scale."""
        return x

    def inward(self, x: Tensor) -> Tensor:
        """The visible units of rows x: (n, n_visible)."""
        return self._scaled(x, -1)

    def outward(self, v: Tensor) -> Tensor:
        """Rows, of visible units: (n, n_visible)."""
        return self._scaled(v, 1)

    def _scaled(self, x: Tensor, sign: int) -> Tensor:
        if self.log_scale is None:
            return x
        scaled, scales = x.clone(), self.unit_scales()
        scaled[..., : len(scales)] *= torch.exp(sign * scales)
        return scaled

    def set_scale_grad(self, data: Joint) -> None:
        """∂ log p(x)/∂log_scale = Σ_i weight_i [v_i ∂F(v_i)/∂v − 1], exactly, without any chain.

        log p(x) = −F(x exp(−log_scale)) − Σ log_scale − log Z, where Z knows of no scale.
        """
        if self.log_scale is None:
            return
        scaled = slice(len(self.unit_scales()))
        v = self.visible.plain(data.v)[:, scaled]  # (n, n_scaled)
        slope = v / self.visible.growth() - self.visible_field(data.h)[:, scaled]  # ∂F/∂v
        total = torch.mv((v * slope).sub_(1).T, data.weight)  # (n_scaled,)
        grad(self.log_scale).copy_(self.share_scales(total))

    def normalise_(self) -> None:
        """Keep weights between two layers of unbounded units below the norm where Z diverges.

        Where cumulants grow as s f²/2, exp(−E) falls in all directions if √(s_v s_h) ‖W‖₂ < 1.
        """
        self.bound_norm_(self.W, self.coupling)

    def bound_norm_(self, W: Tensor, coupling: Coupling) -> None:
        growth = self.visible.growth() * self.hidden.growth()
        if growth:
            norm = coupling.norm() * growth**0.5
            W.mul_((LARGEST_NORM / norm).clamp(max=1))

    def confine_(self) -> None:
        if self.log_scale is not None:
            self.log_scale.clamp_(*LOG_SCALES)

    def at_test(self) -> "RBM":
        """The model as it is used, where it is trained in another form."""
        return self

    def origin(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets of the centred gradient, a number for each bias, from means of the units."""
        return v, h

    def move_origin_(self, mu: Tensor, lam: Tensor, sign: int) -> None:
        """Tell the biases from (mu, lam) where they were told from zero, or (−1) back.

        v·b + h·c + h·W v = (v−mu)·(b + lam W) + (h−lam)·(c + W mu) + (h−lam)·W (v−mu) + constant
        """
        self.b.addmv_(self.W.T, lam, alpha=sign)
        self.c.addmv_(self.W, mu, alpha=sign)

    @contextmanager
    def centered(self, mu: Tensor, lam: Tensor) -> Iterator[None]:
        """Write the model in v − mu and h − lam: the same law, whose gradient is centred."""
        plain = self.visible, self.hidden
        self.visible, self.hidden = Shifted(self.visible, mu), Shifted(self.hidden, lam)
        self.move_origin_(mu, lam, 1)
        try:
            yield
        finally:
            self.visible, self.hidden = plain
            self.move_origin_(mu, lam, -1)

    def missing_activity(self, data: Joint, target: float) -> Tensor:
        """Σ_i weight_i (target − E[h | v_i]), for each hidden bias."""
        return torch.mv((target - self.hidden.plain(data.h)).T, data.weight)  # (n_hidden,)

    def start(self, n: int, noise: Noise) -> Tensor:
        return self.visible.sample(self.b0.expand(n, -1), noise)  # (n, n_visible)

    def log_partition_reference(self) -> Tensor:
        no_field = self.b0.new_zeros(self.n_hidden)
        return self.visible.cumulant(self.b0) + self.hidden.cumulant(no_field)

    def flip_size(self, n_sites: int) -> int:
        """Numbers for each row that the pseudo-log-likelihood of so many sites works on."""
        return n_sites * self.n_hidden

    def pseudo_log_likelihood(self, v: Tensor, sites: Tensor | None = None) -> Tensor:
        """Σ_i log p(v_i | the rest of v), over the sites of discrete visible units: (n,).

        With `sites` (n, k), the sum is estimated from these k of each row.
        """
        moves, share = self.visible.moves(v), 1.0
        if sites is not None:
            n_sites = self.visible.n_sites(v.shape[1])
            moves, share = moves.at(sites, n_sites), n_sites / sites.shape[1]
        field = self.hidden_field(v)[:, None, None]  # (n, 1, 1, n_hidden)
        gain = moves.change * self.b[moves.unit]  # (n, n_sites, n_moves)
        moved = field + moves.change[..., None] * self.W.T[moves.unit]  # (…, n_hidden)
        if moves.emptied is not None:
            gain = gain - self.b[moves.emptied]
            moved = moved - self.W.T[moves.emptied]
        gain = gain + self.hidden.cumulant(moved) - self.hidden.cumulant(field)
        if moves.allowed is not None:
            gain = gain.masked_fill(~moves.allowed, -math.inf)
        return -softplus(gain.logsumexp(-1)).sum(-1) * share
