"""Labels: units beside the visible ones while a model is trained, summed out when it is used.

    −E(v, y, h)    = v·b + d_y + h·c + h·W v + h·U_y + log_base_v(v) + log_base_h(h)
    p(y | v)       = softmax_y (d_y + cumulant_h(c + W v + U_y))
    −F(v)          = v·b + log_base_v(v) + log Σ_y exp(d_y + cumulant_h(c + W v + U_y))
    ∂ log p(y | v) = Σ_k ([k = y] − p(k | v)) ∂(−F(v, k))

H. Larochelle, Y. Bengio (2008). Classification using discriminative restricted Boltzmann
machines. ICML.
"""

import torch
from torch import Tensor

from skebm.engine.gradients import Gradient, Phases, State
from skebm.engine.models import RBM, Dense, Joint, grad
from skebm.engine.noise import Noise
from skebm.engine.units import Categorical, Mixed, Units


class Labelled(Units):
    """Hidden units h and a label y that only they see; what is told of y is its law.

    log_base(h) = log_base_h(h) + log Σ_y exp(d_y + h·U_y)
    cumulant(f) = log Σ_y exp(d_y + cumulant_h(f + U_y))
    mean(f)     = Σ_y p(y | f) mean_h(f + U_y),     p(y | f) ∝ exp(d_y + cumulant_h(f + U_y))
    """

    def __init__(self, units: Units, U: Tensor, d: Tensor):
        self.units, self.U, self.d = units, U, d  # U (n_hidden, n_classes), d (n_classes,)
        self.support = units.support

    def given_labels(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """The means of the hidden units given each label, and log p(y | field) up to a constant.

        (…, n_classes, n_hidden) and (…, n_classes)
        """
        fields = self._fields(field)
        if fields.requires_grad:  # nothing is overwritten then
            return self.units.mean(fields), self.units.cumulant(fields) + self.d
        means, cumulants = self.units.mean_and_cumulant(fields)
        return means, cumulants + self.d

    def logits(self, field: Tensor) -> Tensor:
        """log p(y | field), up to a constant: (…, n_classes)."""
        return self.d + self.units.cumulant(self._fields(field))

    def _fields(self, field: Tensor) -> Tensor:
        return field[..., None, :] + self.U.T.contiguous()  # (…, n_classes, n_hidden)

    def mean(self, field: Tensor, out: Tensor | None = None) -> Tensor:
        means, logits = self.given_labels(field)
        mean = mix(logits.softmax(-1), means)
        return mean if out is None else out.copy_(mean)

    def sample(self, field: Tensor, noise: Noise, out: Tensor | None = None) -> Tensor:
        y = Categorical([len(self.d)]).sample(self.logits(field), noise)  # (…, n_classes)
        return self.units.sample(field + y @ self.U.T, noise, out)

    def cumulant(self, field: Tensor) -> Tensor:
        return self.logits(field).logsumexp(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return self.units.log_base(x) + (self.d + x @ self.U).logsumexp(-1)

    def law(self) -> Units:
        return Labelled(self.units.law(), self.U, self.d)

    def growth(self) -> float:
        return self.units.growth()

    def n_states(self, n_units: int) -> float:
        return self.units.n_states(n_units)

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        return self.units.states(index, n_units, like)


def mix(share: Tensor, x: Tensor) -> Tensor:
    """Σ_y share_y x_y, of shares (…, n_classes) and x (…, n_classes, n): (…, n)."""
    return (share[..., None, :] @ x)[..., 0, :]


class LabelledRBM(RBM):
    """The law of rows whose labels are summed out."""

    def __init__(
        self,
        visible: Units,
        units: Units,
        W: Tensor,
        b: Tensor,
        c: Tensor,
        U: Tensor,
        d: Tensor,
        b0: Tensor | None = None,
        precision: str = "highest",
    ):
        self.labelled = Labelled(units, U, d)
        super().__init__(visible, self.labelled, W, b, c, b0, precision)

    @property
    def row_size(self) -> int:
        return self.n_visible + len(self.labelled.d) * self.n_hidden

    def flip_size(self, n_sites: int) -> int:
        return len(self.labelled.d) * super().flip_size(n_sites)

    def posterior(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """log p(y | v) and E[h | v]: (n, n_classes) and (n, n_hidden)."""
        means, logits = self.labelled.given_labels(self.hidden_field(v))
        log_p = logits.log_softmax(-1)
        return log_p, mix(log_p.exp(), means)


class JointRBM(RBM):
    """A labelled RBM as it is trained: its visible units are those of a row and its label.

    The gradient is that of, for each row,

        generative · log p(v, y) + discriminative · log p(y | v)      where y is known,
        generative · log p(v)                                        where its units are all zero:

    there, y is drawn from p(y | v) for the update, which leaves the gradient unbiased. `partly`
    tells whether there are such rows.
    """

    def __init__(
        self, model: LabelledRBM, generative: float, discriminative: float, partly: bool = True
    ):
        U, d = model.labelled.U, model.labelled.d
        self.n_features, self.n_classes = model.n_visible, len(d)
        self.features, self.labels = model.visible, Categorical([self.n_classes])
        visible = Mixed([(self.features, self.n_features), (self.labels, self.n_classes)])
        W, b = torch.cat([model.W, U], 1), torch.cat([model.b, d])
        b0 = torch.cat([model.b0, torch.zeros_like(d)])
        super().__init__(visible, model.labelled.units, W, b, model.c, b0, model.precision)
        self.generative, self.discriminative = generative, discriminative
        self.partly = partly and generative > 0

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What belongs to the features, and to the classes."""
        return x[..., : self.n_features], x[..., self.n_features :]

    def parameters(self) -> dict[str, Tensor]:
        W, U = self._split(self.W)
        b, d = self._split(self.b)
        return {
            "components": W,
            "label_components": U,
            "intercept_visible": b,
            "intercept_label": d,
            "intercept_hidden": self.c,
        }

    def at_test(self) -> LabelledRBM:
        (W, U), (b, d), (b0, _) = map(self._split, (self.W, self.b, self.b0))
        return LabelledRBM(self.features, self.hidden, W, b, self.c, U, d, b0)

    def normalise_(self) -> None:
        W, _ = self._split(self.W)  # a label is bounded, whatever its weights
        self.bound_norm_(W, Dense(W))

    def begin_update(self, data: Joint, noise: Noise) -> None:
        """Find the law of each row's label, and draw those that are not known."""
        if not (self.discriminative or self.partly):
            return
        U, d = self._split(self.W)[1], self._split(self.b)[1]
        label = self._split(self.visible.plain(data.v))[1]  # (n, n_classes)
        field = self.hidden_field(data.v) - label @ U.T  # (n, n_hidden)
        # self.means (n, n_classes, n_hidden), logits (n, n_classes)
        self.means, logits = Labelled(self.hidden, U, d).given_labels(field)
        known = label.sum(1, keepdim=True)  # (n, 1), one or zero
        self.error = known * (label - logits.softmax(-1))  # (n, n_classes)
        if self.partly:
            drawn = self.labels.sample(logits, noise).mul_(1 - known)
            self._split(data.v)[1].add_(drawn)
            label = label + drawn
        self.label = label

    def set_grad(self, states: Joint) -> None:
        states.h.mul_(self.generative)
        if self.discriminative:
            data = slice(len(self.label))
            slope = self.discriminative * self.error  # (n, n_classes)
            h = mix(slope, self.means)  # (n, n_hidden)
            states.h[data] += h
        super().set_grad(states)
        grad(self.b).mul_(self.generative)
        if self.discriminative:
            column = states.column[data]
            slope *= column
            grad_U, grad_d = self._split(grad(self.W))[1], self._split(grad(self.b))[1]
            grad_d += slope.sum(0)
            # Beside h stood the row's own label, in the place of each.
            grad_U += torch.bmm(slope.T[:, None], self.means.transpose(0, 1))[:, 0].T
            grad_U -= (column * h).T @ self.label


class Conditional(Gradient):
    """No states stand for the model: log p(y | v) has a gradient without them."""

    def n_model(self, model: RBM, n_data: int) -> int:
        return 0

    def __call__(self, model: RBM, phases: Phases, state: State, noise: Noise) -> None:
        assert isinstance(model, JointRBM)
        phases.data.h.copy_(mix(model.label, model.means))
