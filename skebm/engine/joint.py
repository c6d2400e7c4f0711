"""Labels: in training they are additional visible units; in prediction they are summed out.

    −E(v, y, h)    = v·b + d_y + h·c + h·W v + h·U_y + log_base_v(v) + log_base_h(h)
    p(y | v)       = softmax_y (d_y + cumulant_h(c + W v + U_y))
    −F(v)          = v·b + log_base_v(v) + log Σ_y exp(d_y + cumulant_h(c + W v + U_y))
    ∂ log p(y | v) = Σ_k ([k = y] − p(k | v)) ∂(−F(v, k))

H. Larochelle, Y. Bengio (2008). Classification using discriminative restricted Boltzmann
machines. ICML.
"""

import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from skebm.engine.gradients import Gradient, Phases, State
from skebm.engine.models import RBM, Dense, Joint, Pair
from skebm.engine.noise import Noise
from skebm.engine.units import Categorical, Mixed, Units, perturbed


class Labelled(Units):
    """Hidden units h that are coupled to a label y, which is summed out.

    log_base(h) = log_base_h(h) + log Σ_y exp(d_y + h·U_y)
    cumulant(f) = log Σ_y exp(d_y + cumulant_h(f + U_y))
    mean(f)     = Σ_y p(y | f) mean_h(f + U_y),     p(y | f) ∝ exp(d_y + cumulant_h(f + U_y))
    """

    energy_parameters = ("label_components", "intercept_label")

    def __init__(self, units: Units, U: Tensor, d: Tensor):
        self.units, self.U, self.d = units, U, d  # U (n_hidden, n_classes), d (n_classes,)
        self.support, self.fields_per_unit = units.support, len(d)
        self.capturable = units.capturable

    def on(self, device: torch.device) -> Units:
        return Labelled(self.units.on(device), self.U, self.d)

    def parameters(self) -> dict[str, Tensor]:
        return {"label_components": self.U, "intercept_label": self.d}

    def bound(self, parameters: dict[str, Tensor]) -> Units:
        return Labelled(self.units, parameters["label_components"], parameters["intercept_label"])

    def log_base_grad(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        share = (self.d + x @ self.U).softmax(-1) * weight[:, None]  # (n, n_classes)
        return {"label_components": x.T @ share, "intercept_label": share.sum(0)}

    def cumulant_grad(self, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        means, logits = self.given_labels(field)
        share = logits.softmax(-1) * weight[:, None]  # (n, n_classes)
        of_U = torch.einsum("nk,nkh->hk", share, means)
        return {"label_components": of_U, "intercept_label": share.sum(0)}

    def given_labels(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """The means of the hidden units given each label, and log p(y | field) up to a constant.

        (…, n_classes, n_hidden) and (…, n_classes)
        """
        fields = self._fields(field)
        if fields.requires_grad:  # autograd needs `fields` later: do not overwrite it
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
        y = sample_labels(self.logits(field), noise)  # (…, n_classes)
        return self.units.sample(field + y @ self.U.T, noise, out)

    def cumulant(self, field: Tensor) -> Tensor:
        return self.logits(field).logsumexp(-1)

    def log_base(self, x: Tensor) -> Tensor:
        return self.units.log_base(x) + (self.d + x @ self.U).logsumexp(-1)

    def exact(self) -> Units:
        return Labelled(self.units.exact(), self.U, self.d)

    def cumulant_curvature(self) -> float:
        return self.units.cumulant_curvature()

    def n_states(self, n_units: int) -> float:
        return self.units.n_states(n_units)

    def states(self, index: Tensor, n_units: int, like: Tensor) -> Tensor:
        return self.units.states(index, n_units, like)


def sample_labels(logits: Tensor, noise: Noise) -> Tensor:
    """One label of each row, drawn from the softmax of the logits, one-hot: (…, n_classes)."""
    label = perturbed(logits, noise).argmax(-1, keepdim=True)
    return torch.zeros_like(logits).scatter_(-1, label, 1.0)


def mix(share: Tensor, x: Tensor) -> Tensor:
    """Σ_y share_y x_y, of shares (…, n_classes) and x (…, n_classes, n): (…, n)."""
    return (share[..., None, :] @ x)[..., 0, :]


def posterior(model: RBM, v: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y | v) and E[h | v] of a model with labelled units: (n, n_classes), (n, n_hidden)."""
    assert isinstance(model.hidden, Labelled)
    means, logits = model.hidden.given_labels(model.hidden_field(v))
    log_p = logits.log_softmax(-1)
    return log_p, mix(log_p.exp(), means)


class LabelLaw(NamedTuple):
    """The labels of the rows of an update, and the means and errors of the model for them."""

    label: Tensor  # (n, n_classes): one-hot, known or drawn
    means: Tensor  # (n, n_classes, n_hidden): E[h | v, y] for each y
    error: Tensor  # (n, n_classes): [k = y] − p(k | v) where y is known, else zero


class JointRBM(RBM):
    """A labelled RBM in training: its visible units are the units of a row and of its label.

    Each row contributes the gradient of

        generative · log p(v, y) + discriminative · log p(y | v)      where y is known,
        generative · log p(v)                                        where it is not.

    In the data, the units of an unknown label are all zero. Each update draws such a label from
    p(y | v), so that the gradient is unbiased. `partly` says whether some labels are unknown.
    """

    labels: LabelLaw | None = None

    def __init__(self, model: RBM, generative: float, discriminative: float, partly: bool = True):
        labelled, coupling = model.hidden, model.coupling
        assert isinstance(labelled, Labelled)
        assert isinstance(coupling, Dense)
        U, d = labelled.U, labelled.d
        self.n_features, self.n_classes = model.n_visible, len(d)
        self.features, classes = model.visible, Categorical([self.n_classes])
        visible = Mixed([(self.features, self.n_features), (classes, self.n_classes)])
        W, b = torch.cat([model.W, U], 1), torch.cat([model.b, d])
        b0 = torch.cat([model.b0, torch.zeros_like(d)])
        self._dense = partial(Dense, precision=coupling.precision)
        super().__init__(visible, labelled.units, W, b, model.c, b0, self._dense)
        self.generative, self.discriminative = generative, discriminative
        self.partly = partly and generative > 0

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split the last axis into the features and the classes."""
        return x[..., : self.n_features], x[..., self.n_features :]

    def parameters(self) -> dict[str, Tensor]:
        W, U = self._split(self.W)
        b, d = self._split(self.b)
        return {
            "components": W,
            "intercept_visible": b,
            "intercept_hidden": self.c,
            "label_components": U,
            "intercept_label": d,
        }

    def without_dropout(self) -> RBM:
        (W, U), (b, d), (b0, _) = map(self._split, (self.W, self.b, self.b0))
        hidden = Labelled(self.hidden, U, d)
        return RBM(self.features, hidden, W, b, self.c, b0, self._dense)

    def normalise_(self) -> None:
        W, _ = self._split(self.W)  # labels are bounded, so U needs no bound
        self._bound_norm(W, Dense(W))

    def begin_update(self, data: Joint, noise: Noise) -> RBM:
        """The model with the `labels` of these rows; unknown labels are drawn into `data.v`."""
        if not (self.discriminative or self.partly):
            return self
        U, d = self._split(self.W)[1], self._split(self.b)[1]
        label = self._split(data.v)[1]  # (n, n_classes)
        field = self.hidden_field(data.v) - label @ U.T  # (n, n_hidden)
        means, logits = Labelled(self.hidden, U, d).given_labels(field)
        known = label.sum(1, keepdim=True)  # (n, 1), one or zero
        error = known * (label - logits.softmax(-1))  # (n, n_classes)
        if self.partly:
            label.add_(sample_labels(logits, noise).mul_(1 - known))
        update = copy.copy(self)
        update.labels = LabelLaw(label, means, error)
        return update

    def set_grad(
        self, states: Joint, data: Joint | None = None, offsets: Pair | None = None
    ) -> Tensor | None:
        states.h.mul_(self.generative)
        if self.labels is None or not self.discriminative:
            super().set_grad(states, data)
            self.gradients[1].mul_(self.generative)
        else:
            self._set_labelled_grad(states, data, self.labels)
        if offsets is not None:
            self.coupling.center_(*self.gradients, *offsets)
        return None

    def _set_labelled_grad(self, states: Joint, data: Joint | None, labels: LabelLaw) -> None:
        label, means, error = labels
        rows = slice(len(label))
        slope = self.discriminative * error  # (n, n_classes)
        h = mix(slope, means)  # (n, n_hidden)
        states.h[rows] += h
        super().set_grad(states, data)
        gW, gb, _ = self.gradients
        gb.mul_(self.generative)
        column = states.column[rows]
        slope *= column
        grad_U, grad_d = self._split(gW)[1], self._split(gb)[1]
        grad_d += slope.sum(0)
        # For U, `super` multiplied h by the row's own label. Each label has its own term instead.
        grad_U += torch.bmm(slope.T[:, None], means.transpose(0, 1))[:, 0].T
        grad_U -= (column * h).T @ label


class Conditional(Gradient):
    """The gradient of log p(y | v) alone; it needs no states of the model."""

    def n_model(self, model: RBM, n_data: int) -> int:
        return 0

    def __call__(self, model: RBM, phases: Phases, state: State, noise: Noise) -> None:
        assert isinstance(model, JointRBM)
        assert model.labels is not None
        phases.data.h.copy_(mix(model.labels.label, model.labels.means))
