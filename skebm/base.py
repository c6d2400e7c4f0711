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
from typing import Any, ClassVar, Literal, Self

import joblib
import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    documented,
    estimator,
)
from skebm._sklearn import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    fit_context,
)
from skebm.chains import ChainsMixin
from skebm.encoding import Encoding
from skebm.engine import devices
from skebm.engine.batches import in_pieces
from skebm.engine.gradients import CD, PCD, PTT, Gradient, ParallelTempering
from skebm.engine.models import RBM, Coupling, Dense
from skebm.engine.noise import Noise
from skebm.engine.parallel import current
from skebm.engine.partition import quick_log_partition
from skebm.engine.training import Trainer
from skebm.engine.units import Units
from skebm.evaluation import kept_log_partition, log_likelihood, pseudo_likelihood
from skebm.fitted import FittedModel
from skebm.fitting import Trained, TrainingData, as_numpy, as_tensor, level_of_caller
from skebm.missing import MissingEntries
from skebm.tensors import as_array, as_rows, check_weights, returns_like_x

#: Largest number of terms that the score of one piece of the held-out rows may need.
FLIPS = 2**24
#: Those of the parameters below that may change; training then starts new chains.
WITH_NEW_CHAINS = ("stride", "pool_size")
#: Parameters, of this class or of subclasses, that define the units and their coupling.
OF_MODEL = (
    *("n_components", "visible", "hidden", "variance", "kinds", "categories"),
    *("kernel_size", "image_shape", "channels_last", "stride", "pool_size"),
)
#: Values that are outside of the support by less than this are rounded ones, as scalers return.
ROUNDING = 1e-6
GradientName = Literal["cd", "pcd", "pt", "ptt"]
GRADIENTS: dict[str, Callable[[], Gradient]] = {
    "cd": CD,
    "pcd": PCD,
    "pt": ParallelTempering,
    "ptt": PTT,
}


@estimator
class BaseRBM(ChainsMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Trained):
    """Base class of all RBMs: validation, training, features and scores."""

    n_components: PositiveInt | Literal["auto"] = field(default=256, kw_only=False)
    gradient: GradientName | Gradient = "pcd"
    l1: NonNegativeFloat = 0.0
    l1b: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat | None = None
    centered: bool = True
    sparsity_target: Fraction | None = None
    sparsity_cost: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    output: Literal["mean", "field"] = "mean"

    _held_out = """The score of rows of binary or categorical
        features is the pseudo-log-likelihood (exact for few rows, else estimated from some
        features of each), that of others the log-likelihood, with log Z exact for up to 12
        binary hidden units, else from a short run of annealed importance sampling."""
    _reported = {
        "score": "pseudo-likelihood = {:.2f}",
        "reconstruction_error": "reconstruction error = {:.2f}",
    }
    #: Where "pcd" has other settings, for the docstrings.
    _pcd: ClassVar[str] = ""
    #: What the short names of gradients stand for.
    _gradients: ClassVar[dict[str, Callable[[], Gradient]]] = GRADIENTS
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

    def _trainer_settings(self) -> dict[str, Any]:
        """Settings of the trainer that are no parameters of the estimator."""
        return {}

    def _in_training(self, model, batches) -> RBM:
        """Return the model to train, for example one with dropout."""
        return model

    def _without_dropout(self, model) -> RBM:
        """Return the model that predicts, given the model with the fitted parameters."""
        return model

    def _validate_targets(self, y, X, sample_weight, *, classes, reset):
        """Validate y; return the targets and the weights of the rows."""
        return None, sample_weight

    def set_params(self, **params: Any) -> Self:
        """Set parameters; `gradient__n_steps` also works if `gradient` is a name.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        name = params.get("gradient", self.gradient)
        nested = any(key.startswith("gradient__") for key in params)
        if nested and isinstance(name, str) and name in self._gradients:
            params["gradient"] = self._gradients[name]()
        return super().set_params(**params)

    # Training

    @documented
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model to the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data. Small types (uint8, bool) are converted batch by batch.
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. If all weights are integers, and at most 10 on average, the fit is
            the same, bit for bit, as if each row was repeated that many times, and takes as
            long; with `early_stopping`, a row and its repetitions stay together. Other weights
            are relative: every row is visited once per epoch, and its gradient is multiplied
            by its weight divided by the mean weight.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        %(raised)s
        """
        return self._fit(X, y, sample_weight)

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on the rows of X, starting from the current parameters.

        `early_stopping` is ignored: all rows are used for training.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data: any number of rows, which are split into batches of `batch_size`.
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._partial_fit(X, y, sample_weight)

    def _prepare_training(
        self, X, y, sample_weight, *, task, rng, resume, classes=None, **settings
    ):
        """Validate the arguments of `fit`; return the data to train on."""
        encoding = self.encoding_ if resume else self._encoding()
        X, sample_weight = encoding.keep_weighted(X, sample_weight)
        rows = self._read(X, reset=not resume, allow_nan=self._n_sweeps is not None)
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
        if self._n_sweeps is None:
            return data
        if not any(current().exchange("missing entries", bool(np.isnan(rows).any()))):
            return data
        missing = MissingEntries(rows, scaling, self._n_sweeps)
        return data._replace(rows=missing.rows, missing=missing)

    def _read(self, X, *, reset, allow_nan=False):
        """Validate X; return its rows with one column for each visible unit."""
        encoding = self._encoding()
        if not reset:
            encoding.load(self.encoding_)
        rows = encoding.read(self, X, reset=reset, allow_nan=allow_nan)
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

    def _trainer(self, data, batches, rng, resume):
        if resume:
            model = FittedModel(self).as_trained(batches.device, precision=self.precision)
        else:
            mean = batches.mean[: data.rows.shape[1]]
            if not mean.isfinite().all():
                raise ValueError("X has values that are too large for single precision; scale X.")
            self.feature_means_ = as_numpy(mean)
            self.n_components_ = self._n_hidden(batches.n)
            rows = batches.probe[:, : data.rows.shape[1]]
            self._examine(rows)
            model = self._new_model(mean, rows, batches.dtype, rng)
        if self.l1b * self.learning_rate >= 1:
            raise ValueError(
                f"l1b={self.l1b} with learning_rate={self.learning_rate} changes the sign of all "
                "weights in an update; their product must be below 1."
            )
        trainer = Trainer(
            self._in_training(model, batches),
            self._gradient_of_process(batches),
            batch_size=batches.batch_size,
            optimizer=self.optimizer,
            momentum=self.momentum > 0,
            centered=self.centered,
            weight_decay=self.weight_decay,
            l1=self.l1,
            l1b=self.l1b,
            sparsity_target=self.sparsity_target,
            sparsity_cost=self.sparsity_cost,
            max_norm=self.max_norm,
            max_grad_norm=self.max_grad_norm,
            processes=batches.processes,
            **self._trainer_settings(),
        )
        if resume:
            self._load_state(trainer, batches.device)
        return trainer

    def _load_state(self, trainer, device):
        model, theta = trainer.model, self.training_state_.get("theta")
        if theta is not None:
            before = model.theta.clone()
            model.theta.copy_(as_tensor(theta, device))
            pairs = [(getattr(self, name), p) for name, p in self._parameters(model).items()]
            if not all(np.array_equal(*pair) for pair in pairs):  # the attributes were changed
                model.theta.copy_(before)
        super()._load_state(trainer, device)

    def _training_state(self, trainer):
        state = super()._training_state(trainer)
        if self.temperature != 1:  # multiplying by T and dividing again would round
            state["theta"] = as_numpy(trainer.model.theta)
        return state

    def _training_settings(self):
        gradient = self._resolved_gradient()
        return {
            "model": self._model_settings(),
            "temperature": self.temperature,
            "gradient": (type(gradient).__name__, gradient.get_params(deep=False)),
            "batch_size": self.batch_size,
            "optimizer": self.optimizer,
            "momentum": self.momentum > 0,
            "centered": self.centered,
        }

    def _resolved_gradient(self) -> Gradient:
        """The gradient object; a short name such as "pcd" is replaced by an object."""
        gradient = self.gradient
        if isinstance(gradient, str):
            gradient = self._gradients[gradient]()
        gradient._validate_params()
        return gradient

    def _gradient_of_process(self, batches) -> Gradient:
        """The gradient with the share of its chains that this process has."""
        gradient = self._resolved_gradient()
        n_chains = getattr(gradient, "n_chains", None)
        if batches.processes.size > 1 and not gradient.divisible:
            raise ValueError(f"gradient={gradient} is not supported inside of data_parallel.")
        if n_chains is None or batches.processes.size == 1:
            return gradient
        return copy.copy(gradient).set_params(n_chains=batches.part(n_chains))

    def _new_model(self, mean, rows, dtype, rng):
        """A model with random weights, whose mean field has the mean of the data."""
        visible, hidden = self._units()
        n_visible = len(mean)
        shape = self._weights_shape(n_visible)
        spread, field = self._start(visible, hidden, rows)
        spread = min(spread, self._resolved_gradient().largest_start)
        W = rng.normal(0, spread, shape).astype(dtype)
        W = as_tensor(W, mean.device)
        b, c = W.new_zeros(shape[1]), W.new_full((self.n_components_,), field)
        b0 = visible.field_of_mean(mean)  # (n_visible,)
        model = RBM(visible, hidden, W, b, c, b0, self._coupling(self.precision))
        coupling = model.coupling
        mu = coupling.mean_visible(mean)
        lam = coupling.mean_hidden(model.hidden.mean(coupling.hidden_bias(model.c)))
        model.b.copy_(visible.field_of_mean(mu))
        coupling.compensate_(model.b, model.c, model.W, mu, lam)
        model.normalise_()
        return model

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

    def _parameters_of_use(self, model) -> dict[str, Any]:
        """The fitted attributes, given a model that `_without_dropout` returned."""
        return self._parameters(model)

    def _check_convergence(self, history, batches, missing):
        errors = history.columns.get("reconstruction_error", ())
        rows = batches.probe[:, : len(self.feature_means_)]
        spread = (rows - rows.mean(0)) * self.encoding_.error_scale(rows)
        of_means, excess = spread.square().mean().item(), missing.excess() if missing else 0.0
        # Draws of a row have its noise, whatever the model.
        sampled = self._trainer_settings().get("sample_rows", False)
        noise = (rows * (1 - rows)).mean().item() if sampled else 0.0
        if len(errors) and errors[-1] + noise > 1.5 * (of_means + noise) > 0:
            what = (
                f"the mean squared error of its reconstructions is {errors[-1]:.3g}, that of the "
                f"means of the features {of_means:.3g}"
            )
        elif excess > 3:
            what = (
                f"the values that it draws for missing entries vary {excess:.3g} times as much as "
                "the observed ones"
            )
        else:
            return
        warnings.warn(
            f"{type(self).__name__} has not converged: {what}. Lower learning_rate (now "
            f"{self.learning_rate}), or use fewer components.",
            ConvergenceWarning,
            stacklevel=level_of_caller(),
        )

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
        X = as_rows(X)
        of: Any = torch if isinstance(X, torch.Tensor) else np
        X = check_array(X, dtype=(of.float64, of.float32), input_name="X")
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__}.inverse_transform "
                f"expects {self._n_features_out}, as many as transform gives."
            )
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

        unknown = self.temperature * self.encoding_.log_unknown(X)
        return fitted.apply(free_energy, X) - unknown

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

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of :meth:`score_samples`, for model selection.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in this mean.

        Returns
        -------
        score : float
        """
        scores = as_array(self.score_samples(X))
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, scores)
        return float(np.average(scores, weights=sample_weight))

    # Attributes and methods that scikit-learn uses

    def __sklearn_is_fitted__(self):
        return hasattr(self, "components_")

    @property
    def _n_features_out(self):
        return len(self.components_)

    @property
    def h_samples_(self) -> np.ndarray:
        """Hidden states of the persistent chains: ndarray (n_chains, n_components)."""
        if "chains" not in getattr(self, "training_state_", {}):
            raise AttributeError("h_samples_ exists only after a fit with persistent chains.")
        return self.training_state_["chains"]

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
