"""BaseRBM: the base class of all RBMs of the package, with scikit-learn's methods.

Fitted attributes are numpy arrays; tensors exist only during a method call. A subclass defines its
parameters, the encoding of the rows (`_encoding`) and the units (`_units`).
"""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Any, ClassVar, Literal

import joblib
import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    PositiveInt,
    estimator,
)
from skebm.encoding import Encoding
from skebm.energy import EnergyModel
from skebm.engine import devices
from skebm.engine.batches import in_pieces
from skebm.engine.copies import copied
from skebm.engine.models import RBM, Coupling, Dense
from skebm.engine.noise import Noise
from skebm.engine.partition import quick_log_partition
from skebm.engine.units import Units
from skebm.evaluation import kept_log_partition, log_likelihood, pseudo_likelihood
from skebm.fitted import FittedModel
from skebm.fitting import TrainingData, as_numpy, as_tensor, level_of_caller
from skebm.missing import with_missing
from skebm.tensors import as_rows, check_weights, in_double, returns_like_x

#: Largest number of terms that the score of one piece of the held-out rows may need.
FLIPS = 2**24
#: Those of the parameters below that may change; training then starts new chains.
WITH_NEW_CHAINS = ("stride", "pool_size")
#: Parameters, of this class or of subclasses, that define the units and their coupling.
OF_MODEL = (
    *("n_components", "visible", "hidden", "variance"),
    *("kinds", "categories", "numbers", "n_bins"),
    *("kernel_size", "image_shape", "channels_last", "stride", "pool_size"),
)
#: Values that are outside of the support by less than this are rounded ones, as scalers return.
ROUNDING = 1e-6


class FittedArrays:
    """The types of the attributes of every fitted RBM."""

    components_: np.ndarray
    intercept_visible_: np.ndarray
    intercept_hidden_: np.ndarray
    feature_means_: np.ndarray
    feature_names_in_: np.ndarray


@estimator
class BaseRBM(FittedArrays, EnergyModel):
    """Base class of all RBMs: validation, training, features and scores."""

    n_components: PositiveInt | Literal["auto"] = field(default=256, kw_only=False)
    output: Literal["mean", "field"] = "mean"

    _held_out = """The score of rows of binary or categorical
        features is the pseudo-log-likelihood (exact for few rows, else estimated from some
        features of each), that of others the log-likelihood, with log Z exact for up to 12
        binary hidden units, else from a short run of annealed importance sampling."""
    #: The numbers of copies of the visible and of the hidden units, in a layer of a :class:`DBM`
    #: that is trained before the others are there.
    _copies: ClassVar[tuple[int, int] | None] = None
    #: Gibbs sweeps of missing entries after an epoch; None means that no entry may be missing.
    _n_sweeps: ClassVar[int | None] = None
    #: Advice on values outside of the support, for a warning.
    _outside_support: ClassVar[str] = (
        "Scale it with MinMaxScaler, or use GaussianRBM for real-valued data; in a stack, "
        "GaussianRBM as the first layer: DBN([GaussianRBM(256), 128])."
    )

    # Every subclass defines its units, and its encoding if it is not the plain one

    def _encoding(self) -> Any:
        """Return a new, unfitted encoding between rows and visible units."""
        return Encoding()

    def _units(self) -> tuple[Units, Units]:
        """Return the visible and the hidden units, with initial values of their parameters."""
        raise NotImplementedError

    # Subclasses with another coupling, or with another model during training, override these

    def _weights_shape(self, n_visible) -> tuple[int, ...]:
        """The shape of `components_`; its second number is the number of visible biases."""
        return self.n_components_, n_visible

    def _start(self, visible, hidden, rows) -> tuple[float, float]:
        """Standard deviation of the weights, and mean field of the hidden units, of a new model.

        `rows` is a sample of the encoded rows.
        """
        if self._copies and not self.encoding_.is_standardised:
            # In a deep model, the fewer units are on, the less noise the chains have.
            return 1.3 / rows.shape[1] ** 0.5, -2.0
        # With a negative field, binary units are on about a quarter of the time. This makes them
        # learn patterns that are present in some of the rows only.
        return self._weights_spread(visible, hidden, rows.shape[1]), -1.0

    def _weights_spread(self, visible, hidden, n_visible) -> float:
        """Standard deviation of the weights of a new model."""
        if not (self.encoding_.is_standardised or visible.cumulant_curvature()):
            return 0.1
        if hidden.cumulant_curvature():  # a norm of about one third
            return 0.3 / (n_visible**0.5 + self.n_components_**0.5)
        return 1.7 / n_visible**0.5

    def _coupling(self, precision) -> Callable[[torch.Tensor], Coupling]:
        """Return a function that makes the coupling from the weights."""
        return partial(Dense, precision=precision)

    def _n_hidden(self, n_rows) -> int:
        """The number of hidden units (of a convolutional layer, filters) for so many rows."""
        if self.n_components != "auto":
            return self.n_components
        return int(np.clip(n_rows // 10, 16, 256))

    def _row_products(self, data):
        n_rows, n_features = data.rows.shape
        return self._n_hidden(n_rows) * n_features

    def _examine(self, rows) -> None:
        """Record what a new fit depends on, given a sample of the encoded rows."""

    def _without_dropout(self, model):
        return copied(model, *(self._copies or (1, 1)))

    def _validate_targets(self, y, X, sample_weight, *, classes, reset):
        """Validate y; return the targets and the weights of the rows."""
        return None, sample_weight

    def _prepare_training(
        self, X, y, sample_weight, *, task, rng, resume, classes=None, **settings
    ):
        """Validate the arguments of `fit`; return the data to train on."""
        encoding = self.encoding_ if resume else self._encoding()
        X, sample_weight = encoding.keep_weighted(X, sample_weight)
        takes_missing = self._n_sweeps is not None
        rows = self._read(X, reset=not resume, allow_nan=takes_missing, sample_weight=sample_weight)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, rows, dtype=np.float64)
        targets, weight = self._validate_targets(
            y, rows, sample_weight, classes=classes, reset=not resume
        )
        if resume:
            self._check_same_model()
        else:
            self.encoding_.fit(rows, weight)
            self._check_support(rows)
        dtype = self.components_.dtype if resume else None
        scaling = self.encoding_.scaling(devices.resolve(self.device))
        data = TrainingData(rows, targets, weight, scaling, dtype)
        return with_missing(data, self._n_sweeps, self._resolved_gradient().paired)

    def _read(self, X, *, reset, allow_nan=False, sample_weight=None):
        """Validate X; return its rows with one column for each visible unit."""
        encoding = self._encoding()
        if not reset:
            encoding.load(self.encoding_)
        rows = encoding.read(self, X, reset=reset, allow_nan=allow_nan, sample_weight=sample_weight)
        if reset:
            self.encoding_: Any = encoding
        elif encoding.reads_nan and not allow_nan and np.isnan(rows).any():
            # Missing and unknown entries are replaced by their means given the other entries.
            fitted = FittedModel(self)
            rows = fitted.fill(rows, Noise(0, fitted.device, shared=True), n_steps=50)
        if not reset:
            self._check_support(rows)
        return rows

    def _model_settings(self):
        """The parameters that define the units and their coupling."""
        return {name: getattr(self, name) for name in OF_MODEL if hasattr(self, name)}

    def _check_same_model(self):
        """Raise an error if a parameter asks for another model than the fitted one."""
        for name, fitted in self.training_settings_["model"].items():
            value = getattr(self, name)
            if _differ(value, fitted) and name not in WITH_NEW_CHAINS:
                raise ValueError(
                    f"{name}={value!r} differs from the {fitted!r} of the fitted model. To "
                    "continue training, set it back; to change it, fit a new model."
                )

    def _check_support(self, rows):
        """Warn if the visible units do not have the values of the rows."""
        low, high = self._units()[0].support
        if isinstance(rows, torch.Tensor):
            smallest, largest = (t.item() for t in torch.aminmax(rows))
        elif issparse(rows):
            smallest, largest = rows.min(), rows.max()
        else:  # these functions ignore NaN
            smallest, largest = np.fmin.reduce(rows, axis=None), np.fmax.reduce(rows, axis=None)
        if devices.numpy_type(rows.dtype).kind == "f":
            limit = float(np.finfo(devices.float_type(rows.dtype)).max) ** 0.5 / 1000
            if smallest < -limit or largest > limit:
                raise ValueError(
                    f"X has values from {smallest:g} to {largest:g}, whose squares are too large "
                    f"for {rows.dtype}; scale X."
                )
        if smallest < low - ROUNDING or largest > high + ROUNDING:
            advice = self._outside_support
            if (smallest, largest) == (-1, 1) and hasattr(self, "visible"):
                advice = 'For values −1 and 1, set visible="spin".'
        elif math.isfinite(low) and low < 0 == smallest:
            advice = 'For values 0 and 1, set visible="bernoulli".'
        else:
            return
        warnings.warn(
            f"{type(self).__name__} models values between {low:g} and {high:g}, but X has "
            f"values from {smallest:g} to {largest:g}. {advice}",
            UserWarning,
            stacklevel=level_of_caller(),
        )

    def _new(self, batches, rng):
        """A model with random weights, whose mean field has the mean of the data."""
        n_features = batches.X.shape[1]
        mean, rows = batches.mean[:n_features], batches.probe[:, :n_features]
        if not mean.isfinite().all():
            raise ValueError("X has values that are too large for single precision; scale X.")
        self.feature_means_ = as_numpy(mean)
        self.n_components_ = self._n_hidden(batches.n)
        self._examine(rows)
        visible, hidden = self._units()
        n_visible = len(mean)
        shape = self._weights_shape(n_visible)
        spread, field = self._start(visible, hidden, rows)
        spread = min(spread, self._resolved_gradient().largest_start)
        W = rng.normal(0, spread, shape).astype(batches.dtype)
        W = as_tensor(W, mean.device)
        b, c = W.new_zeros(shape[1]), W.new_full((self.n_components_,), field)
        b0 = visible.field_of_mean(mean)  # (n_visible,)
        model = RBM(visible, hidden, W, b, c, b0, self._coupling(self.precision))
        n_below, n_above = self._copies or (1, 1)
        model = copied(model, n_below, n_above)
        coupling = model.coupling
        mu = coupling.mean_visible(mean.repeat(n_below))
        lam = coupling.mean_hidden(model.hidden.mean(coupling.hidden_bias(model.c)))
        model.b.copy_(visible.field_of_mean(mu))
        coupling.compensate_(model.b, model.c, model.W, mu, lam)
        model.normalise_()
        return model

    def _model(self, device, dtype, precision):
        def tensor(name, divisor=1.0):
            return torch.tensor(getattr(self, name), device=device, dtype=dtype).div_(divisor)

        # exp(−E/T) is the model with parameters divided by T, at temperature one.
        T = self.temperature
        names = ("components_", "intercept_visible_", "intercept_hidden_")
        W, b, c = (tensor(name, T) for name in names)
        visible, hidden = (
            units.bound(
                {
                    name: tensor(f"{name}_", T if name in units.energy_parameters else 1.0)
                    for name in units.parameters()
                }
            )
            for units in self._units()
        )
        b0 = visible.field_of_mean(tensor("feature_means_"))  # (n_visible,)
        return RBM(visible, hidden, W, b, c, b0, self._coupling(precision))

    def _parameters(self, model) -> dict[str, Any]:
        # The model uses parameters divided by T; the fitted arrays hold the parameters of E.
        energy = (*model.visible.energy_parameters, *model.hidden.energy_parameters)
        unscaled = model.unit_parameters().keys() - set(energy)
        if self.temperature == 1:  # without another copy of the weights
            unscaled = model.parameters().keys()
        return {
            f"{name}_": as_numpy(p if name in unscaled else p * self.temperature)
            for name, p in model.parameters().items()
        }

    def _has_pseudo_likelihood(self, visible):
        """Whether the score of a row is its pseudo-log-likelihood, else its log-likelihood."""
        return visible.is_discrete

    def _measure(self, model, rows):
        v = model.visible.from_rows(rows)
        pieces = in_pieces(v, model.row_size)
        scale = self.encoding_.error_scale(v)
        errors = torch.cat([squared_errors(model, piece, scale) for piece in pieces])
        figures = {"reconstruction_error": errors.mean().item()}
        if model.visible.is_discrete:
            sites = _sites(model, v, 1)
            sites = [None] * len(pieces) if sites is None else sites.split(len(pieces[0]))
            scores = torch.cat([*map(model.pseudo_log_likelihood, pieces, sites)])
            figures["score"] = scores.mean().item()
        return figures

    def _held_out_scores(self, model):
        if not self._has_pseudo_likelihood(model.visible):
            constant = quick_log_partition(model.exact())
            constant += self.encoding_.log_volume() + model.visible.log_volume()
            return lambda rows, _: -model.free_energy(model.visible.from_rows(rows)) - constant

        def scores(rows, targets):
            v = model.visible.from_rows(rows)
            n_flips = 1 + FLIPS // (len(v) * model.n_hidden)
            return model.pseudo_log_likelihood(v, _sites(model, v, n_flips))

        return scores

    # Methods of a fitted model

    @returns_like_x
    def transform(self, X: Any) -> np.ndarray:
        """Features of each row: means of the hidden units, or fields with `output="field"`.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        H : ndarray of shape (n_samples, n_components)
            E[h | v], or (c + W v)/T, with the dtype of `components_`.
        """
        fitted = FittedModel(self)
        return fitted.fields(X) if self.output == "field" else fitted.features(X)

    @returns_like_x
    def inverse_transform(self, X: Any) -> Any:
        """Means of the visible units given the hidden features, for each row of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Means or fields of the hidden units, as `output` says.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            E[v | h], where h is the mean of the hidden units.
        """
        fitted = FittedModel(self)
        X = check_features(self, X)
        return fitted.reconstruct(X, of_fields=self.output == "field")

    @returns_like_x
    def free_energy(self, X: Any) -> np.ndarray:
        """Free energy of each row, F(v) = −log Σ_h exp(−E(v, h)), in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        F : ndarray of shape (n_samples,)
            log p(v) = −F(v) − log Z; a lower free energy means a more likely row.
        """
        fitted = FittedModel(self)

        def free_energy(model, v):
            return (model.free_energy(v) + fitted.log_volume(model)) * self.temperature

        of_rows = self.temperature * self.encoding_.log_of_rows(X)
        return fitted.apply(free_energy, X) - of_rows

    @returns_like_x
    def score_samples(self, X: Any) -> np.ndarray:
        """Pseudo-log-likelihood or log-likelihood of each row, in nats.

        For binary and categorical features this is the exact pseudo-log-likelihood,
        Σ_i log p(v_i | the other features of v). If a binary feature has a value v_i between 0
        and 1, its other state is 1 − v_i. :class:`sklearn.neural_network.BernoulliRBM`
        estimates the same sum from one random flip.

        For counts and real-valued features it is the log-likelihood (of the latter a density),
        log p(v) = −F(v) / T − log Z. The first call after a fit computes log Z and stores it:
        exactly for up to 18 binary hidden units, else by annealed importance sampling with a
        fixed seed (see :func:`skebm.log_partition`, which also returns the error).

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,)
            The pseudo-log-likelihood evaluates n_samples · n_features · n_components softplus
            functions.

        References
        ----------
        J. Besag (1975). Statistical analysis of non-lattice data. The Statistician 24.
        """
        check_is_fitted(self)
        if self._has_pseudo_likelihood(self._units()[0]):
            return pseudo_likelihood(self, X)
        return log_likelihood(self, X, log_z=kept_log_partition(self))

    def _log_unnormalised(self, X, n_draws):
        return -in_double(self.free_energy(X)) / self.temperature

    # Attributes and methods that scikit-learn uses

    def __sklearn_is_fitted__(self):
        return hasattr(self, "components_")

    @property
    def _n_features_out(self):
        return len(self.components_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        self._encoding().set_input_tags(tags.input_tags)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class OfEncoding:
    """A fitted attribute whose value is stored in the encoding."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return self if instance is None else getattr(instance.encoding_, self.name)

    def __set__(self, instance, value):
        instance.encoding_ = copy.copy(instance.encoding_)  # other estimators may share it
        setattr(instance.encoding_, self.name, value)


def _differ(a, b):
    """Whether two values of a parameter are different; lists may hold arrays."""
    if isinstance(a, list | dict) and isinstance(b, list | dict):
        return joblib.hash(a) != joblib.hash(b)
    return a != b


def check_features(estimator, X):
    """The validated argument of `inverse_transform`: as many features as `transform` gives."""
    X = as_rows(X)
    of: Any = torch if isinstance(X, torch.Tensor) else np
    X = check_array(X, dtype=(of.float64, of.float32), input_name="X")
    if X.shape[1] != estimator._n_features_out:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__}.inverse_transform "
            f"expects {estimator._n_features_out}, as many as transform gives."
        )
    return X


def squared_errors(model, v, scale, features=None):
    """Mean squared error of the reconstruction of each row from its features: (n,).

    `scale` converts differences of encoded rows to differences of rows.
    """
    features = model.hidden.features(model.hidden_field(v)) if features is None else features
    h = model.hidden.mean_of_features(features)  # (n, n_hidden)
    error = v - model.visible.mean(model.visible_field(h))  # (n, n_visible)
    return (model.visible.to_rows(error) * scale).square().mean(1)


def _sites(model, v, n):
    """n random sites of each row, the same in every call: (n_rows, n); None means all sites."""
    n_sites = model.visible.n_sites(v.shape[1])
    if n >= n_sites:
        return None
    drawn = np.random.default_rng(0).integers(n_sites, size=(len(v), n))
    return torch.as_tensor(drawn, device=v.device)
