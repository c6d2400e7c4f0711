"""The model: units in two layers and their coupling; fields, free energy, transition, gradient.

    −E(v, h)   = v·b + h·c + h·W v + log_base_v(v) + log_base_h(h)
    F(v)       = −[v·b + log_base_v(v) + cumulant_h(c + W v)]
    −∂E/∂(W, b, c) = (h vᵀ,  v,  h),      −∂F/∂θ = −∂E/∂θ at h = mean_h(c + W v)
    path(beta) : W → beta W,  c → beta c,  b → b0 + beta (b − b0)
    log Z(0)   = cumulant_v(b0) + cumulant_h(0)

beta goes from a reference model with independent units (0) to the model itself (1). It is a number,
or a column with one value for each row.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skebm.engine.noise import Noise
from skebm.engine.products import product
from skebm.engine.units import SiteChanges, Units, softplus

Beta = float | Tensor
Pair = tuple[Tensor, Tensor]

#: Largest norm of the weights between two layers of unbounded units.
LARGEST_NORM = 0.98


def grad(parameter: Tensor) -> Tensor:
    """The gradient of a parameter."""
    assert parameter.grad is not None
    return parameter.grad


def pack(*parameters: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One vector with a gradient, and the parameters and their gradients as views of it."""
    vector = torch.cat([p.reshape(-1) for p in parameters])
    vector.grad = torch.zeros_like(vector)
    sizes = [p.numel() for p in parameters]
    pieces = [t.view_as(p) for t, p in zip(vector.split(sizes), parameters)]
    for piece, gradient in zip(pieces, vector.grad.split(sizes)):
        piece.grad = gradient.view_as(piece)
    return vector, pieces


class Joint:
    """Weighted joint states (v, h), one in each row.

    One layer holds states. The other layer, `at_mean`, holds its means given these states.
    """

    at_mean = "hidden"

    def __init__(self, v: Tensor, h: Tensor, weight: Tensor):
        self.v, self.h, self.weight = v, h, weight  # (n, n_visible), (n, n_hidden), (n,)
        # The transposed tensors, made once: training makes thousands of small updates a second.
        self.v_t, self.h_t, self.column = v.T, h.T, weight[:, None]
        self.ones = torch.ones_like(weight)  # (n,)
        #: The labels of rows of data, one-hot, or zeros where a label is not known.
        self.labels: Tensor | None = None  # (n, n_classes)
        #: Which visible units the model of a row has; the others are fixed. None means all.
        self.observed: Tensor | None = None  # (n, n_visible), of bool

    @property
    def phases(self) -> Sequence["Joint"]:
        """The parts of the rows; each part has its own `at_mean`."""
        return (self,)

    def bias_grads_(
        self, v: Tensor, gb: Tensor, gc: Tensor, offsets: Pair | None = None, rate: float = 1.0
    ) -> None:
        """gb ← Σ_i weight_i v_i and gc ← Σ_i h_i, for weights that sum to zero.

        v is centred, and h is centred and weighted, so that gW = hᵀ v. With offsets (μ, λ), these
        are gb − gWᵀ λ and rate · gc − gW μ, from fewer numbers than gW has.
        """
        of_v, of_h = self.weight, self.ones  # (n,)
        if offsets is not None:
            mu, lam = offsets
            of_v = torch.addmv(of_v, self.h, lam, alpha=-1)
            of_h = torch.addmv(of_h, v, mu, beta=rate, alpha=-1)
        torch.mv(v.T, of_v, out=gb)
        torch.mv(self.h_t, of_h, out=gc)


def spectral_norm(matrices: Tensor, n_squarings: int = 10) -> Tensor:
    """An upper bound of ‖A‖₂ that is at most 0.3 % too large: one value for each matrix.

    ‖A‖₂² = λ, the largest eigenvalue of G = A Aᴴ, and λ ≤ ‖Gᵐ‖_F^(1/m) ≤ n^(1/2m) λ for an n × n
    matrix G. A singular value decomposition would make the host wait for CUDA.
    """
    A = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT
    power = A @ A.mH  # (…, n, n)
    logs, tiny = [], torch.finfo(A.dtype).tiny
    for k in range(n_squarings + 1):
        size = torch.linalg.vector_norm(power, dim=(-2, -1), keepdim=True).clamp(min=tiny)
        logs.append(size.log() / 2**k)
        power = power / size
        power = power @ power
    return (torch.stack(logs).sum(0)[..., 0, 0] / 2).exp()


def path(field: Tensor, beta: Beta, reference: Tensor | float = 0.0) -> Tensor:
    """The natural parameter at `beta`, linear in beta: `reference` at 0, `field` at 1."""
    if isinstance(beta, float) and beta == 1.0:
        return field
    return reference + beta * (field - reference)


class Coupling(ABC):
    """The term h·W v of the energy: a linear map of v and its transpose.

    Several units may share one bias (`visible_bias`, `hidden_bias`).
    """

    weight: Tensor
    n_visible: int
    n_hidden: int
    #: How many hidden units share a bias; that number / how many visible units share a bias.
    n_places: int = 1
    places_per_pixel: float = 1.0

    @abstractmethod
    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        """W v plus the biases of the hidden layer, for each row: (n, n_hidden)."""

    @abstractmethod
    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        """Wᵀ h plus the biases of the visible layer, for each row: (n, n_visible)."""

    @abstractmethod
    def correlate_(self, out: Tensor, states: Joint) -> None:
        """out ← Σ_i ∂(h_i·W v_i)/∂W, like W."""

    @abstractmethod
    def norm(self) -> Tensor:
        """The spectral norm of the map, or an upper bound of it: ()."""

    def sum_states_(self, gb: Tensor, gc: Tensor, states: Joint) -> None:
        """gb ← Σ_i weight_i v_i and gc ← Σ_i h_i, also summed over units that share a bias."""
        torch.mv(states.v_t, states.weight, out=gb)
        torch.mv(states.h_t, states.ones, out=gc)

    @abstractmethod
    def hidden_gains(self, hidden: Units, v: Tensor, c: Tensor, changes: SiteChanges) -> Tensor:
        """The gain of the hidden cumulant by each single change of v.

        The tensor has a value for each element of `changes.unit` in each row.
        """

    @abstractmethod
    def change_size(self, n_sites: int) -> int:
        """How many hidden fields `hidden_gains` computes for each row with `n_sites` sites."""

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """The parts of W, or of its gradient, whose first axes run over the units of a layer."""
        return [weight]

    def visible_bias(self, b: Tensor) -> Tensor:
        """The bias of each visible unit: (n_visible,)."""
        return b

    def hidden_bias(self, c: Tensor) -> Tensor:
        """The bias of each hidden unit: (n_hidden,)."""
        return c

    def sum_hidden(self, x: Tensor) -> Tensor:
        """x (n_hidden,), summed over the units that share a bias: like c."""
        return x

    def mean_visible(self, x: Tensor) -> Tensor:
        """x (n_visible,), averaged over the units that share a bias: like b."""
        return x

    def mean_hidden(self, x: Tensor) -> Tensor:
        """x (n_hidden,), averaged over the units that share a bias: like c."""
        return x

    # The centred gradient: its biases are b′ = b + Wᵀ λ and c′ = c + W μ, expressed in b and c

    def weight_sums(self, W: Tensor) -> Tensor:
        """W summed over all axes except those of the hidden and visible biases: (n_c, n_b)."""
        return W

    def center_(self, gW: Tensor, gb: Tensor, gc: Tensor, mu: Tensor, lam: Tensor) -> None:
        """gW −= gc μᵀ + λ gbᵀ."""
        by_bias = gW.movedim((0, 1), (-2, -1))  # (…, n_c, n_b)
        by_bias.addcmul_(gc[:, None], mu, value=-1)
        by_bias.addcmul_(lam[:, None], gb, value=-self.places_per_pixel)

    def correlate_centered_(
        self, out: Tensor, gb: Tensor, gc: Tensor, states: Joint, mu: Tensor, lam: Tensor
    ) -> Tensor | None:
        """`sum_states_`, `correlate_` and `center_` in one, for weights that sum to zero.

        A coupling whose `out` is the product of centred states centres `states.h`, returns the
        centred v, and leaves gb and gc to `Joint.bias_grads_`.
        """
        self.sum_states_(gb, gc, states)
        self.correlate_(out, states)
        self.center_(out, gb, gc, mu, lam)
        return None

    def compensate_(self, b: Tensor, c: Tensor, dW: Tensor, mu: Tensor, lam: Tensor) -> None:
        """b −= dWᵀ λ,  c −= dW μ: a change dW of the weights then does not change b′ and c′."""
        sums = self.weight_sums(dW)  # (n_c, n_b)
        b.addmv_(sums.T, lam, alpha=-self.places_per_pixel)
        c.addmv_(sums, mu, alpha=-1)


class Dense(Coupling):
    """The coupling of every hidden unit with every visible unit."""

    def __init__(self, weight: Tensor, precision: str = "highest"):
        self.weight = weight  # (n_hidden, n_visible)
        self.n_hidden, self.n_visible = weight.shape
        self.precision = precision

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        return product(v, self.weight.T, bias, self.precision)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        return product(h, self.weight, bias, self.precision)

    def correlate_(self, out: Tensor, states: Joint) -> None:
        product(states.h_t, states.v, None, self.precision, out)  # (n_hidden, n_visible)

    def correlate_centered_(
        self, out: Tensor, gb: Tensor, gc: Tensor, states: Joint, mu: Tensor, lam: Tensor
    ) -> Tensor | None:
        v = states.v - mu  # (n, n_visible)
        states.h.addcmul_(states.column, lam, value=-1)
        product(states.h_t, v, None, self.precision, out)
        return v

    def norm(self) -> Tensor:
        return spectral_norm(self.weight)

    def hidden_gains(self, hidden: Units, v: Tensor, c: Tensor, changes: SiteChanges) -> Tensor:
        field = self.up(v, c)[:, None, None]  # (n, 1, 1, n_hidden)
        steps, change = self.weight.T[changes.unit], changes.change[..., None]
        if changes.emptied is not None:
            steps, change = change * steps - self.weight.T[changes.emptied], change.new_ones(())
        return hidden.gains(field, steps, change)

    def change_size(self, n_sites: int) -> int:
        return n_sites * self.n_hidden


class RBM:
    """A density proportional to exp(−F(v)), and a Markov transition that leaves it invariant.

    Parameters
    ----------
    visible, hidden : Units
        The parameters that these units own are trained together with W, b and c.
    W : Tensor
        Weights in the shape that the coupling needs; for `Dense`, (n_hidden, n_visible).
    b : Tensor of shape (n_visible,)
    c : Tensor of shape (n_hidden,)
    b0 : Tensor of shape (n_visible,) or None
        The visible field of the reference model; None means `b`.
    coupling : callable
        Makes the coupling from the weights.
    """

    #: The factor of the gradient of log p(v) in an update.
    generative: float = 1.0

    def __init__(
        self,
        visible: Units,
        hidden: Units,
        W: Tensor,
        b: Tensor,
        c: Tensor,
        b0: Tensor | None = None,
        coupling: Callable[[Tensor], Coupling] = Dense,
    ):
        self.make_coupling = coupling
        owned = [visible.parameters(), hidden.parameters()]
        tensors = [t.to(W) for parameters in owned for t in parameters.values()]
        #: All parameters as one vector, so that an optimiser makes one call for all of them.
        self.theta, (self.W, self.b, self.c, *rest) = pack(W, b, c, *tensors)
        #: The gradients of W, b and c.
        self.gradients = grad(self.W), grad(self.b), grad(self.c)
        self.visible, self.hidden = (
            units.on(W.device).bound({name: rest.pop(0) for name in parameters})
            for units, parameters in zip((visible, hidden), owned)
        )
        self.has_unit_parameters = bool(tensors)
        self.coupling = coupling(self.W)
        self.n_visible, self.n_hidden = self.coupling.n_visible, self.coupling.n_hidden
        #: How many of the visible units are those of rows; others are latent, and NaN in rows.
        self.n_rows = self.n_visible
        self.b0 = self.coupling.visible_bias(self.b) if b0 is None else b0  # (n_visible,)

    def at(self, theta: Tensor) -> "RBM":
        """The same model with other parameters, which are packed like `theta`; it has no gradient.

        The reference model stays the same.
        """
        model, owned = copy.copy(self), [self.visible.parameters(), self.hidden.parameters()]
        packed = [self.W, self.b, self.c, *(t for of_layer in owned for t in of_layer.values())]
        pieces = theta.split([t.numel() for t in packed])
        model.theta = theta
        model.W, model.b, model.c, *rest = (t.view_as(p) for t, p in zip(pieces, packed))
        model.visible, model.hidden = (
            units.bound({name: rest.pop(0) for name in parameters})
            for units, parameters in zip((self.visible, self.hidden), owned)
        )
        model.coupling = self.make_coupling(model.W)
        return model

    @property
    def can_be_powered(self) -> bool:
        """Whether `power` is possible: dense weights, and no base measure of the visible units."""
        plain = type(self.visible).log_base is Units.log_base and not self.visible.parameters()
        of_units = all(t.ndim == 1 for t in self.hidden.parameters().values())  # no labels
        return plain and of_units and isinstance(self.coupling, Dense)

    def power(self, n: int) -> "RBM":
        """The model of p(v)^n up to a constant: n copies of each hidden unit, n times b."""
        copies = {name: t.repeat(n) for name, t in self.hidden.parameters().items()}
        hidden = self.hidden.bound(copies) if copies else self.hidden
        W, c = self.W.repeat(n, 1), self.c.repeat(n)
        return RBM(self.visible, hidden, W, n * self.b, c, self.b0, self.make_coupling)

    def parameters(self) -> dict[str, Tensor]:
        """The learned parameters. A key is the name of the fitted attribute without the "_"."""
        coupled = {"components": self.W, "intercept_visible": self.b, "intercept_hidden": self.c}
        return coupled | self.unit_parameters()

    def unit_parameters(self) -> dict[str, Tensor]:
        """The parameters that the units own."""
        return self.visible.parameters() | self.hidden.parameters()

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can hold a transition and an update."""
        return self.visible.capturable and self.hidden.capturable

    @property
    def row_size(self) -> int:
        """How many numbers the model computes for one row."""
        return self.n_visible + self.hidden.fields_per_unit * self.n_hidden

    @property
    def row_products(self) -> int:
        """How many multiplications the fields of one row take."""
        return self.W.numel() * self.coupling.n_places

    def hidden_field(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.up(v, self.c), beta)  # (n, n_hidden)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.down(h, self.b), beta, self.b0)  # (n, n_visible)

    def free_energy(self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None) -> Tensor:
        """F(v) of each row: (n,). `field` is the hidden field at beta = 1, if it is known."""
        field = self.hidden_field(v) if field is None else field  # (n, n_hidden)
        linear = (v * path(self.coupling.visible_bias(self.b), beta, self.b0)).sum(-1)  # (n,)
        return -(linear + self.visible.log_base(v) + self.hidden_cumulant(path(field, beta)))

    def hidden_cumulant(self, field: Tensor) -> Tensor:
        """log Σ_h exp(h·field + log_base_h(h)) of each row: (n,)."""
        return self.hidden.cumulant(field)

    def hidden_free_energy(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        """−log Σ_v exp(−E(v, h)): the free energy of the other layer, (n,)."""
        linear = (h * path(self.coupling.hidden_bias(self.c), beta)).sum(-1)  # (n,)
        cumulant = self.visible.cumulant(self.visible_field(h, beta))  # (n,)
        return -(linear + self.hidden.log_base(h) + cumulant)

    # Markov chains

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
        """One step of a Markov chain that leaves the density at `beta` invariant."""
        return self.sample_visible(self.sample_hidden(v, noise, beta), noise, beta, out)

    def anneal_step(
        self, v: Tensor, noise: Noise, beta: Beta, target: Beta
    ) -> tuple[Tensor, Tensor]:
        """F(v, beta) − F(v, target), and the new states after one transition at `target`."""
        field = self.hidden_field(v)  # (n, n_hidden), for both levels and the transition
        log_ratio = self.free_energy(v, beta, field) - self.free_energy(v, target, field)  # (n,)
        h = self.hidden.sample(path(field, target), noise)  # (n, n_hidden)
        return log_ratio, self.sample_visible(h, noise, target)

    def start(self, n: int, noise: Noise) -> Tensor:
        """`n` exact draws from the reference model: (n, n_visible)."""
        return self.visible.sample(self.b0.expand(n, -1), noise)

    def log_partition_reference(self) -> Tensor:
        """log Z of the reference model, exactly: ()."""
        no_field = self.b0.new_zeros(self.n_hidden)
        return self.visible.cumulant(self.b0) + self.hidden.cumulant(no_field)

    # Training

    def complete(self, v: Tensor) -> Tensor:
        """v with the means of latent visible units, which are NaN in rows: like v."""
        return v

    def observe_(self, data: Joint, rows: Tensor) -> None:
        """Set the states of the data that rows, and targets beside them, determine."""
        data.v.copy_(self.visible.from_rows(rows))

    def begin_update(self, data: Joint, noise: Noise) -> "RBM":
        """The model for one update on the rows `data.v`; it has the same parameter tensors.

        The method fills in what is latent in `data.v`: labels that are missing, and deep layers.
        """
        return self

    def kept_shares(self) -> tuple[float, float]:
        """The shares of the visible and of the hidden units that dropout keeps in training."""
        return 1.0, 1.0

    def figures(self) -> dict[str, Tensor]:
        """Figures of one update; the history reports their means over an epoch."""
        return {}

    def set_grad(
        self, states: Joint, data: Joint | None = None, offsets: Pair | None = None
    ) -> Tensor | None:
        """Write Σ_i weight_i ∂(−E)(v_i, h_i)/∂θ into every `.grad`; `states.h` is overwritten.

        `data` is the part of `states` that belongs to rows of data. It trains the parameters that
        map rows to units: their gradient is that of log p(row), since log Z does not depend on
        them.

        With offsets (μ, λ), the gradient of W is the centred one; `compensate_` of the coupling
        completes those of b and c. If a centred v is returned, `bias_grads_` of the states writes
        them.
        """
        self._set_unit_grad(states, data)
        states.h.mul_(states.column)
        if offsets is not None:
            return self.coupling.correlate_centered_(*self.gradients, states, *offsets)
        gW, gb, gc = self.gradients
        self.coupling.sum_states_(gb, gc, states)
        self.coupling.correlate_(gW, states)
        return None

    def _set_unit_grad(self, states: Joint, data: Joint | None) -> None:
        if not self.has_unit_parameters:
            return
        owned = self.unit_parameters()
        for parameter in owned.values():
            grad(parameter).zero_()
        grads = []
        for part in states.phases:
            v, h, weight = part.v, part.h, part.weight
            if part.at_mean == "hidden":
                grads.append(self.visible.log_base_grad(v, weight))
                if self.hidden.parameters():
                    grads.append(self.hidden.cumulant_grad(self.hidden_field(v), weight))
            else:
                grads.append(self.hidden.log_base_grad(h, weight))
                if self.visible.parameters():
                    grads.append(self.visible.cumulant_grad(self.visible_field(h), weight))
        if data is not None:
            field = self.visible_field(data.h)  # (n_data, n_visible)
            grads.append(self.visible.from_rows_grad(data.v, field, data.weight))
        for gradients in grads:
            for name, gradient in gradients.items():
                grad(owned[name]).add_(gradient)

    def missing_activity(self, data: Joint, target: float) -> Tensor:
        """Σ_i weight_i (target − E[h | v_i]), for each hidden bias."""
        return self.coupling.sum_hidden(torch.mv((target - data.h).T, data.weight))

    def confine_(self) -> None:
        """After an update, clip the parameters that have bounds to these bounds."""
        self.visible.confine_()
        self.hidden.confine_()

    def normalise_(self) -> None:
        """Scale down the weights between two layers of unbounded units if Z could diverge.

        If the cumulants grow as s_v f²/2 and s_h f²/2, Z is finite for √(s_v s_h) ‖W‖₂ < 1.
        """
        self._bound_norm(self.W, self.coupling)

    def _bound_norm(self, W: Tensor, coupling: Coupling) -> None:
        curvature = self.visible.cumulant_curvature() * self.hidden.cumulant_curvature()
        if curvature:
            norm = coupling.norm() * curvature**0.5
            W.mul_((LARGEST_NORM / norm).clamp(max=1))

    def exact(self) -> "RBM":
        """The model with units that sample exactly, even if training uses approximate ones."""
        model = copy.copy(self)
        model.visible, model.hidden = self.visible.exact(), self.hidden.exact()
        return model

    def without_dropout(self) -> "RBM":
        """The model for use after training."""
        return self

    # The pseudo-likelihood

    def change_size(self, n_sites: int) -> int:
        """How many numbers `pseudo_log_likelihood` computes for each row with `n_sites` sites."""
        return self.hidden.fields_per_unit * self.coupling.change_size(n_sites)

    def pseudo_log_likelihood(self, v: Tensor, sites: Tensor | None = None) -> Tensor:
        """Σ_i log p(v_i | the rest of v), over the sites of discrete visible units: (n,).

        With `sites` (n, k), the sum is estimated from these k sites of each row.
        """
        changes, share = self.visible.site_changes(v), 1.0
        if sites is not None:
            n_sites = self.visible.n_sites(v.shape[1])
            changes, share = changes.at(sites, n_sites), n_sites / sites.shape[1]
        bias = self.coupling.visible_bias(self.b)  # (n_visible,)
        gain = changes.change * bias[changes.unit]  # (n, n_sites, n_changes)
        if changes.emptied is not None:
            gain = gain - bias[changes.emptied]
        gain = gain + self.coupling.hidden_gains(self.hidden, v, self.c, changes)
        if changes.allowed is not None:
            gain = gain.masked_fill(~changes.allowed, -math.inf)
        return -softplus(gain.logsumexp(-1)).sum(-1) * share
