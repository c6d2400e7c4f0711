"""A fitted estimator as a model of the engine, for chains, scores and stacks.

rows of X ─▶ visible units ─▶ function(model, units) ─▶ array
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional

from skebm.engine import devices
from skebm.engine.batches import chunk_size, chunks, to_device
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.sampling import conditional_mean, mean_field, run
from skebm.engine.scaling import Scaling
from skebm.engine.stack import Layer, features
from skebm.fitting import level_of_caller

#: Below this probability of acceptance, states do not climb from one rung to the next.
BROKEN = 0.05

#: Updates of missing entries by `method="reconstruction"`.
N_RECONSTRUCTIONS = 2


class FittedModel:
    """A fitted RBM of this package: converts its arrays to a model of tensors and back.

    Parameters
    ----------
    estimator : BaseRBM
        A fitted estimator. It is not changed.
    """

    def __init__(self, estimator):
        if not hasattr(estimator, "_model"):
            raise ValueError(
                "estimator must be an RBM of this package, such as BernoulliRBM or "
                f"GaussianRBM; got {type(estimator).__name__}. For a pipeline, pass its last step."
            )
        check_is_fitted(estimator)
        self.estimator, self.encoding = estimator, estimator.encoding_
        self.dtype = estimator.feature_means_.dtype
        self._scalings: dict[torch.device, Scaling] = {}

    @property
    def device(self) -> torch.device:
        """The device on which the model is computed."""
        return devices.resolve(self.estimator.device, fall_back=True)

    # The model

    def rbm(self, device=None, *, precision="highest", dtype=None) -> RBM:
        """The model without dropout; changing its tensors does not change the estimator."""
        model = self.as_trained(device, precision=precision, dtype=dtype)
        return self.estimator._without_dropout(model)

    def as_trained(self, device=None, *, precision="highest", dtype=None) -> RBM:
        """The model with the parameters that are trained, before any correction for dropout."""
        device = self.device if device is None else device
        dtype = getattr(torch, self.dtype.name) if dtype is None else dtype
        return self.estimator._model(device, dtype, precision)

    def check_ladder(self, accepted) -> None:
        """Warn if states cannot climb the ladder, given the probabilities of acceptance."""
        worst = int(np.argmin(accepted))
        if accepted[worst] < BROKEN:
            warnings.warn(
                f"States cannot climb the ladder of this {type(self.estimator).__name__}: the "
                f"exchange between rungs {worst} and {worst + 1} is accepted with a probability of "
                f"{accepted[worst]:.2g}. Samples may lack modes, and log Z may be wrong. Train it "
                "with a lower learning_rate.",
                ConvergenceWarning,
                stacklevel=level_of_caller(),
            )

    def ladder(self, model) -> list[RBM]:
        """The past models on which trajectory tempering can run, and `model`, which is `rbm()`."""
        rungs = getattr(self.estimator, "training_state_", {}).get("rungs")
        name = type(self.estimator).__name__
        if rungs is None:
            raise ValueError(
                f'method="ptt" needs the ladder of a fit with gradient="ptt", which this {name} '
                'does not have; fit it with gradient="ptt", or use another method.'
            )
        if model.unit_parameters().keys() & {"label_components"}:
            raise ValueError(f'method="ptt" is not supported for {name}; use another method.')
        return [*(model.at(torch.tensor(theta).to(model.W)) for theta in rungs), model]

    def exact_rbm(self, device=None, dtype=None) -> RBM:
        """The model with units that sample exactly, even if training used approximate ones."""
        return self.rbm(device, dtype=dtype).exact()

    @contextmanager
    def computing(self, n_rows=None) -> Iterator[None]:
        """Compute without gradients and in full precision during a block.

        The block has one thread if its products with `n_rows` rows are small.
        """
        small = n_rows is not None
        threads = devices.threads(n_rows * self.rbm("cpu").row_products) if small else nullcontext()
        with torch.inference_mode(), devices.precision(self.device), threads:
            yield

    def scaling(self, device) -> Scaling:
        """The map between rows and rows of the model, on a device."""
        if device not in self._scalings:
            self._scalings[device] = self.encoding.scaling(device)
        return self._scalings[device]

    def layer(self, device=None, residual=None, *, precision="highest", dtype=None) -> Layer:
        """The model as a layer of a stack."""
        model = self.rbm(device, precision=precision, dtype=dtype)
        return Layer(model, self.scaling(model.W.device), residual)

    def replaced(self, model):
        """A copy of the estimator with the parameters of `model`, which is one like `rbm()`."""
        other = copy.copy(self.estimator)
        other.__dict__.update(other._parameters_of_use(model))
        other.feature_means_ = other.feature_means_.astype(other.components_.dtype)
        return other

    # Rows

    def read(self, X, *, allow_nan=False):
        """Validate X; return its rows with one column for each visible unit."""
        return self.estimator._read(X, reset=False, allow_nan=allow_nan)

    def present(self, rows, like=None, *, keep=False):
        """Convert rows to the form that X had in `fit`, with the index of the data frame `like`.

        With `keep`, the entries of `like` that are not missing stay as they are.
        """
        table = self.encoding.present(rows, like if keep else None)
        if hasattr(table, "index") and hasattr(like, "index"):
            table.index = like.index
        return table

    def visible_units(self, model, rows):
        """The visible units of rows: tensors (n, n_visible)."""
        return model.visible.from_rows(self.scaling(rows.device).encode(rows))

    def rows(self, model, v):
        """The inverse of `visible_units`."""
        return self.scaling(v.device).decode(model.visible.to_rows(v))

    def log_volume(self, model):
        """log |∂row/∂units|: log p(row) = log p(units) − log_volume."""
        return self.encoding.log_volume() + model.visible.log_volume()

    # Functions of rows

    def apply(self, function, X, row_size=None):
        """Apply function(model, visible units) to the rows of X; return one array."""
        return self.apply_to_rows(function, self.read(X), row_size)

    def apply_to_rows(self, function, rows, row_size=None, *, mask=None, encode=True):
        """Apply function(model, visible units) to validated rows, in pieces of bounded memory.

        If `mask`, an array like `rows`, is given, its rows are a third argument. `row_size` is a
        function of the model that returns how many numbers a row needs; None means the size of a
        joint state. encode=False passes the rows to the function without encoding them.
        """
        device = self.device
        with self.computing():
            model, result, where = self.rbm(device), torch.empty(0), devices.device_of(rows)
            size = row_size(model) if row_size else model.row_size
            for piece in chunks(rows, size, chunk_size(device)):
                tensor = to_device(rows[piece], device, self.dtype)
                tensors = [self.visible_units(model, tensor) if encode else tensor]
                if mask is not None:
                    n_latent = model.n_visible - mask.shape[1]
                    part = torch.tensor(mask[piece], device=device)
                    tensors.append(functional.pad(part, (0, n_latent)))
                part = function(model, *tensors)
                if len(result) == 0:
                    shape = rows.shape[0], *part.shape[1:]
                    result = torch.empty(shape, dtype=part.dtype, device=where)
                result[piece] = part
        return result if isinstance(rows, torch.Tensor) else result.numpy()

    def features(self, X, residual=None):
        """The features of each row: (n_samples, n_features_out)."""
        return self.apply(lambda model, v: features(model, v, residual), X)

    def fields(self, X):
        """The field of each feature of each row: (n_samples, n_features_out)."""
        return self.apply(lambda model, v: model.hidden.feature_fields(model.hidden_field(v)), X)

    def reconstruct(self, H, noise: Noise | None = None, *, of_fields=False):
        """Rows given features: the means of the visible units, or samples if noise is given.

        With `of_fields`, H holds the fields of the features.
        """

        def rows(model, features):
            if of_fields:
                features = model.hidden.features_of_fields(features)
            field = model.visible_field(model.hidden.mean_of_features(features))  # (n, n_visible)
            visible = model.visible.exact()
            v = visible.mean(field) if noise is None else visible.sample(field, noise)
            return self.rows(model, v)

        return self.present(self.apply_to_rows(rows, H, encode=False))

    def fill(self, rows, noise, *, n_steps, method="mean"):
        """Fill in the missing entries (NaN) of rows, given the other entries."""

        def filled(model, v):
            observed = ~v.isnan()
            # Means say nothing about the hidden units; draws would hold a chain in their mode.
            # Mean field needs draws, since it cannot leave a point of symmetry.
            at_means = model.visible.mean(model.b0).expand_as(v)
            start = model.start(len(v), noise) if method == "mean_field" else at_means
            v = torch.where(observed, v, start)
            if method == "sample":
                v = run(model, v, noise, n_steps=n_steps, clamped=observed)
            elif method in ("mean_field", "reconstruction"):
                n_updates = n_steps if method == "mean_field" else N_RECONSTRUCTIONS
                v = mean_field(model, v, n_steps=n_updates, clamped=observed)
            else:
                v = conditional_mean(model, v, noise, n_steps=n_steps, clamped=observed)
            return self.rows(model, v)

        return np.where(np.isnan(rows), self.apply_to_rows(filled, rows), rows)


class FittedStack:
    """A fitted DBN as layers of the engine.

    Parameters
    ----------
    dbn : DBN
        A fitted stack. It is not changed.
    """

    def __init__(self, dbn):
        self.dbn, self.residuals = dbn, dbn._residuals
        self.models = [FittedModel(estimator) for estimator in dbn.estimators_]

    def layers(self, device, precision="highest", dtype=None) -> list[Layer]:
        """The layers, from the first to the last."""
        pairs = zip(self.models, self.residuals)
        return [m.layer(device, r, precision=precision, dtype=dtype) for m, r in pairs]

    def features(self, X):
        """The features of each layer, from the first to the last."""
        for model, residual in zip(self.models, self.residuals):
            X = model.features(X, residual)
            yield X

    def below(self, X):
        """The features that are the input of the last layer."""
        for model, residual in zip(self.models[:-1], self.residuals):
            X = model.features(X, residual)
        return X

    def replaced(self, models):
        """A copy of the stack with the parameters of `models`."""
        other = copy.copy(self.dbn)
        other.estimators_ = [fitted.replaced(model) for fitted, model in zip(self.models, models)]
        return other
