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


class Dense:
    """The coupling h·W v of every hidden with every visible unit."""

    def __init__(self, weight: Tensor, precision: str = "highest"):
        self.weight = weight  # (n_hidden, n_visible)
        self.precision = precision

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        return product(v, self.weight.T, bias, self.precision)  # (n, n_hidden)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        return product(h, self.weight, bias, self.precision)  # (n, n_visible)

    def correlate_(self, out: Tensor, h_t: Tensor, v: Tensor) -> None:
        """out ← Σ_i h_i v_iᵀ, for h_t (n_hidden, n)."""
        product(h_t, v, None, self.precision, out)  # (n_hidden, n_visible)


class RBM(EnergyModel):
    """Two layers of units and the coupling between them."""

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
        self.coupling = Dense(self.W, precision)

    def parameters(self) -> dict[str, Tensor]:
        coupled = {"components": self.W, "intercept_visible": self.b, "intercept_hidden": self.c}
        return coupled if self.log_scale is None else coupled | {"log_scales": self.log_scale}

    def weights(self) -> list[Tensor]:
        return [self.W]

    def hidden_field(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.up(v, self.c), beta)  # (n, n_hidden)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.down(h, self.b), beta, self.b0)  # (n, n_visible)

    def free_energy(self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None) -> Tensor:
        """F(v) of each row, given the hidden field at beta = 1 where it is known: (n,)."""
        field = self.hidden_field(v) if field is None else field  # (n, n_hidden)
        linear = (v * path(self.b, beta, self.b0)).sum(-1)  # (n,)
        return -(linear + self.visible.log_base(v) + self.hidden.cumulant(path(field, beta)))

    def hidden_free_energy(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        """−log Σ_v exp(−E(v, h)): the free energy of the other layer, (n,)."""
        linear = (h * path(self.c, beta)).sum(-1)  # (n,)
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
        self.coupling.correlate_(grad(self.W), states.h_t, states.v)
        torch.mv(states.v_t, states.weight, out=grad(self.b))
        torch.mv(states.h_t, states.ones, out=grad(self.c))

    # The first visible units may have scales that are learned: v = x exp(−log_scale)

    def inward(self, x: Tensor) -> Tensor:
        """The visible units of rows x: (n, n_visible)."""
        return self._scaled(x, -1)

    def outward(self, v: Tensor) -> Tensor:
        """Rows, of visible units: (n, n_visible)."""
        return self._scaled(v, 1)

    def _scaled(self, x: Tensor, sign: int) -> Tensor:
        if self.log_scale is None:
            return x
        scaled = x.clone()
        scaled[..., : len(self.log_scale)] *= torch.exp(sign * self.log_scale)
        return scaled

    def set_scale_grad(self, data: Joint) -> None:
        """∂ log p(x)/∂log_scale = Σ_i weight_i [v_i ∂F(v_i)/∂v − 1], exactly, without any chain.

        log p(x) = −F(x exp(−log_scale)) − Σ log_scale − log Z, where Z knows of no scale.
        """
        if self.log_scale is None:
            return
        scaled = slice(len(self.log_scale))
        v = self.visible.plain(data.v)[:, scaled]  # (n, n_scaled)
        slope = v / self.visible.growth() - self.visible_field(data.h)[:, scaled]  # ∂F/∂v
        torch.mv((v * slope).sub_(1).T, data.weight, out=grad(self.log_scale))

    def normalise_(self) -> None:
        """Keep weights between two layers of unbounded units below the norm where Z diverges.

        Where cumulants grow as s f²/2, exp(−E) falls in all directions if √(s_v s_h) ‖W‖₂ < 1.
        """
        growth = self.visible.growth() * self.hidden.growth()
        if growth:
            norm = torch.linalg.matrix_norm(self.W, 2) * growth**0.5
            self.W.mul_((LARGEST_NORM / norm).clamp(max=1))

    def confine_(self) -> None:
        if self.log_scale is not None:
            self.log_scale.clamp_(*LOG_SCALES)

    def at_test(self) -> "RBM":
        """The model as it is used, where it is trained in another form."""
        return self

    @contextmanager
    def centered(self, mu: Tensor, lam: Tensor) -> Iterator[None]:
        """Write the model in v − mu and h − lam: the same law, whose gradient is centred.

        v·b + h·c + h·W v = (v−mu)·(b + lam W) + (h−lam)·(c + W mu) + (h−lam)·W (v−mu) + constant
        """
        plain = self.visible, self.hidden
        self.visible, self.hidden = Shifted(self.visible, mu), Shifted(self.hidden, lam)
        self.b.addmv_(self.W.T, lam)
        self.c.addmv_(self.W, mu)
        try:
            yield
        finally:
            self.visible, self.hidden = plain
            self.b.addmv_(self.W.T, lam, alpha=-1)
            self.c.addmv_(self.W, mu, alpha=-1)

    def start(self, n: int, noise: Noise) -> Tensor:
        return self.visible.sample(self.b0.expand(n, -1), noise)  # (n, n_visible)

    def log_partition_reference(self) -> Tensor:
        return self.visible.cumulant(self.b0) + self.hidden.cumulant(torch.zeros_like(self.c))

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
