"""Energy models: parameters, fields, free energy, one transition, gradient in closed form.

    −E(v, h)   = v·b + h·c + h·W v + log_base_v(v) + log_base_h(h)
    F(v)       = −[v·b + log_base_v(v) + cumulant_h(c + W v)]
    −∂F/∂(W, b, c) = (mean_h(c + W v) vᵀ,  v,  mean_h(c + W v))
    path(beta) : W → beta W,  c → beta c,  b → b0 + beta (b − b0)
    log Z(0)   = cumulant_v(b0) + cumulant_h(0)

beta runs from an independent reference model (0) to the model itself (1); it is a number or
a column, one value for each row.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import softplus

from skebm.engine.noise import Noise
from skebm.engine.units import Units

Beta = float | Tensor


def grad(parameter: Tensor) -> Tensor:
    """The gradient of a parameter, once `zero_grad` has made it."""
    assert parameter.grad is not None
    return parameter.grad


class EnergyModel(ABC):
    """A density proportional to exp(−free_energy(v)), and a transition that keeps it."""

    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """What is learned, by name."""

    def zero_grad(self) -> None:
        """Make every `.grad` zero, allocating it the first time."""
        for parameter in self.parameters().values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.zero_()

    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The parameters that weight decay and l1 act on."""

    @abstractmethod
    def free_energy(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        """F(v) of each row, in nats: (n,)."""

    @abstractmethod
    def transition(self, v: Tensor, noise: Noise, beta: Beta = 1.0) -> Tensor:
        """One step of a Markov chain that leaves the density at `beta` invariant."""

    @abstractmethod
    def add_grad(self, v: Tensor, weight: Tensor) -> Tensor:
        """Add Σ_i weight_i ∂F(v_i)/∂θ to every `.grad`; return the hidden field at `v`."""

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

    def __init__(self, weight: Tensor):
        self.weight = weight  # (n_hidden, n_visible)

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, v, self.weight.T)  # (n, n_hidden)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, h, self.weight)  # (n, n_visible)

    def correlate_(self, out: Tensor, h: Tensor, v: Tensor) -> None:
        """out ← out + Σ_i h_i v_iᵀ."""
        out.addmm_(h.T, v)  # (n_hidden, n_visible)


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
    ):
        self.visible, self.hidden = visible, hidden
        self.W = W  # (n_hidden, n_visible)
        self.b = b  # (n_visible,)
        self.c = c  # (n_hidden,)
        self.b0 = b if b0 is None else b0  # (n_visible,), the reference model's bias
        self.coupling = Dense(W)

    def parameters(self) -> dict[str, Tensor]:
        return {"components": self.W, "intercept_visible": self.b, "intercept_hidden": self.c}

    def weights(self) -> list[Tensor]:
        return [self.W]

    def hidden_field(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.up(v, self.c), beta)  # (n, n_hidden)

    def visible_field(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        return path(self.coupling.down(h, self.b), beta, self.b0)  # (n, n_visible)

    def free_energy(self, v: Tensor, beta: Beta = 1.0) -> Tensor:
        linear = (v * path(self.b, beta, self.b0)).sum(-1)  # (n,)
        cumulant = self.hidden.cumulant(self.hidden_field(v, beta))  # (n,)
        return -(linear + self.visible.log_base(v) + cumulant)

    def hidden_free_energy(self, h: Tensor, beta: Beta = 1.0) -> Tensor:
        """−log Σ_v exp(−E(v, h)): the free energy of the other layer, (n,)."""
        linear = (h * path(self.c, beta)).sum(-1)  # (n,)
        cumulant = self.visible.cumulant(self.visible_field(h, beta))  # (n,)
        return -(linear + self.hidden.log_base(h) + cumulant)

    def sample_hidden(self, v: Tensor, noise: Noise, beta: Beta = 1.0) -> Tensor:
        return self.hidden.sample(self.hidden_field(v, beta), noise)  # (n, n_hidden)

    def sample_visible(self, h: Tensor, noise: Noise, beta: Beta = 1.0) -> Tensor:
        return self.visible.sample(self.visible_field(h, beta), noise)  # (n, n_visible)

    def transition(self, v: Tensor, noise: Noise, beta: Beta = 1.0) -> Tensor:
        return self.sample_visible(self.sample_hidden(v, noise, beta), noise, beta)

    def add_grad(self, v: Tensor, weight: Tensor) -> Tensor:
        field = self.hidden_field(v)  # (n, n_hidden)
        self.add_joint_grad(v, self.hidden.mean(field), weight)
        return field

    def add_joint_grad(self, v: Tensor, h: Tensor, weight: Tensor) -> None:
        """Add Σ_i weight_i ∂E(v_i, h_i)/∂θ to every `.grad`."""
        h = h * -weight[:, None]  # (n, n_hidden)
        self.coupling.correlate_(grad(self.W), h, v)
        grad(self.b).addmv_(v.T, weight, alpha=-1)
        grad(self.c).add_(h.sum(0))

    def center_grad_(self, mu: Tensor, lam: Tensor) -> None:
        """Turn the gradient into that of the model whose coupling is (h − lam)·W (v − mu)."""
        grad(self.W).addr_(lam, grad(self.b), alpha=-1).addr_(grad(self.c), mu, alpha=-1)
        grad(self.b).addmv_(grad(self.W).T, lam, alpha=-1)
        grad(self.c).addmv_(grad(self.W), mu, alpha=-1)

    def start(self, n: int, noise: Noise) -> Tensor:
        return self.visible.sample(self.b0.expand(n, -1), noise)  # (n, n_visible)

    def log_partition_reference(self) -> Tensor:
        return self.visible.cumulant(self.b0) + self.hidden.cumulant(torch.zeros_like(self.c))

    def pseudo_log_likelihood(self, v: Tensor) -> Tensor:
        """Σ_i log p(v_i | the rest of v), for visible units of two states: (n,)."""
        change = self.visible.flip(v) - v  # (n, n_visible)
        field = self.hidden_field(v)  # (n, n_hidden)
        flipped = field[:, None, :] + change[:, :, None] * self.W.T  # (n, n_visible, n_hidden)
        gain = self.hidden.cumulant(flipped) - self.hidden.cumulant(field)[:, None]
        return -softplus(gain + change * self.b).sum(-1)
