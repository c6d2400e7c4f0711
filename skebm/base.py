"""BaseEBM: the scikit-learn face that every estimator shares.

What is fitted is numpy; tensors live inside a method call. The members of the family differ
in their units (`_units`) and, where they have one, in how a row is scored.
"""

import copy
import warnings
from dataclasses import field
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skebm._shared import estimator
from skebm._sklearn import (
    Interval,
    StrOptions,
    check_sample_weight,
    fit_context,
    num_samples,
)
from skebm.engine import devices
from skebm.engine.batches import CHUNK, chunks, to_device
from skebm.engine.gradients import CD, PCD, Gradient, ParallelTempering
from skebm.engine.models import RBM
from skebm.engine.sampling import run
from skebm.engine.stack import Level
from skebm.engine.training import Trainer
from skebm.engine.units import Units
from skebm.fitting import Trained, as_numpy, as_tensor, level_of_caller

#: Conditionals whose sum scoring a piece of the held-out rows may cost.
FLIPS = 2**24
GRADIENTS = {"cd": CD, "pcd": PCD, "pt": ParallelTempering}


@estimator
class BaseEBM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Trained):
    """Base of all models of rows: validation, training, and what a fitted model can do."""

    n_components: int = field(default=256, kw_only=False)
    gradient: str | Gradient = "pcd"
    l1: float = 0.0
    max_grad_norm: float | None = None
    centered: bool = True
    sparsity_target: float | None = None
    sparsity_cost: float = 1.0
    temperature: float = 1.0

    _parameter_constraints: ClassVar[dict] = {
        **Trained._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "gradient": [StrOptions(set(GRADIENTS)), Gradient],
        "l1": [Interval(Real, 0, None, closed="left")],
        "centered": ["boolean"],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither"), None],
        "sparsity_cost": [Interval(Real, 0, None, closed="left")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    # What a member of the family says of itself

    _learned = (
        "components_",
        "intercept_visible_",
        "intercept_hidden_",
        "log_scales_",
        "label_components_",
        "intercept_label_",
    )
    _held_out = """The score of rows of binary or categorical
        features is the pseudo-log-likelihood (exact for few rows, else estimated from some
        features of each), that of others minus the mean squared reconstruction error."""
    _reported = {
        "score": "pseudo-likelihood = {:.2f}",
        "reconstruction_error": "reconstruction error = {:.2f}",
    }
    #: Sweeps that draw missing values of training rows after an epoch, where they may be missing.
    _n_sweeps: ClassVar[int | None] = None
    #: What to do where features are real-valued.
    _for_real_values: ClassVar[str] = "use GaussianRBM"

    def _units(self) -> tuple[Units, Units]:
        """The visible and the hidden units of this model."""
        raise NotImplementedError

    def _prepare(self, X, sample_weight):
        """Fitted attributes that are found from the rows before training."""
        return {}

    def _decode(self, v):
        """Rows of data, in the place of visible units."""
        return v

    def _weights_shape(self, n_visible):
        """The shape of `components_`."""
        return self.n_components, n_visible

    def _n_biases(self, n_visible):
        """How many visible biases there are."""
        return n_visible

    def _compose(self, visible, hidden, W, b, c, b0, precision, log_scale):
        """The model of these units and parameters, tensors."""
        return RBM(visible, hidden, W, b, c, b0, precision, log_scale)

    def _n_scaled(self, n_visible):
        """How many of the visible units, from the first on, have scales that are learned."""
        return 0

    def _initial_spread(self, n_visible):
        """Standard deviation of the initial weights."""
        return 0.1

    def _present(self, rows):
        """Rows as the user is given them."""
        return rows

    def _flat(self, array):
        """Rows, or one row, of an array in the form that the user is given them."""
        return array

    def _log_volume(self):
        """log dx/dv: the volume of data that a unit of volume of visible units stands for."""
        return float(getattr(self, "log_scales_", np.zeros(1)).sum(dtype=np.float64))

    def _test_scale(self):
        """What weights and hidden biases are multiplied by once training is over."""
        return 1.0, 1.0

    def _in_training(self, model, batches):
        """The model as it is trained."""
        return model

    def _validate_targets(self, y, X, sample_weight, *, classes, reset):
        """What stands beside the rows in training, of y, and their weights."""
        return None, sample_weight

    # Training

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the model to the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data. Small types (uint8, bool) are converted batch by batch.
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. Integers count: the fit is the same, bit for bit, as on the
            rows repeated that often, and takes as long. Other weights are relative: every
            row is visited once an epoch, its share of the gradient multiplied by its weight
            over the mean weight.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            Where an argument or the data are invalid, and where the parameters are no longer
            finite at the end of an epoch. The estimator is then as it was before the call.
        """
        resume = self.warm_start and self.__sklearn_is_fitted__()
        n_epochs = self._n_epochs(num_samples(X))
        return self._train(X, y, sample_weight, n_epochs=n_epochs, resume=resume)

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train for one epoch on the rows of X, going on from where training stopped.

        No rows are held back, whatever `early_stopping` says.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data: any number of rows, taken in batches of `batch_size`.
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        resume = self.__sklearn_is_fitted__()
        return self._train(X, y, sample_weight, n_epochs=1, resume=resume, hold_back=False)

    def _prepare_training(
        self, X, y, sample_weight, *, task, rng, resume, classes=None, n_sweeps=None, **settings
    ):
        """What training starts from.

        Where `n_sweeps` or the estimator gives a number of sweeps, X may have missing values:
        after each epoch they are drawn again, by as many sweeps given the observed ones.
        """
        n_sweeps = self._n_sweeps if n_sweeps is None else n_sweeps
        X, sample_weight = self._validate_training(
            X, sample_weight, reset=not resume, allow_nan=n_sweeps is not None
        )
        beside, sample_weight = self._validate_targets(
            y, X, sample_weight, classes=classes, reset=not resume
        )
        if not resume:
            self.__dict__.pop("log_scales_", None)
            self.__dict__.update(self._prepare(X, sample_weight))
        if n_sweeps is None or not np.isnan(X).any():
            return X, beside, sample_weight, None
        missing = np.isnan(X)
        if missing.all(axis=0).any():
            raise ValueError("X has a feature with no value at all; leave it out.")
        X = np.where(missing, np.nanmean(X, axis=0), X)

        def redraw(model, noise):
            self._redraw(X, missing, model, noise, n_sweeps)

        return X, beside, sample_weight, redraw

    def _dtype(self):
        return self.components_.dtype

    def _redraw(self, X, missing, model, noise, n_sweeps):
        """Sweep over the missing values of X, in place, with the observed ones clamped."""
        rows = np.flatnonzero(missing.any(axis=1))
        with torch.inference_mode():
            for piece in chunks(rows, model.row_size):
                index = rows[piece]
                v = self._inward(model, to_device(X[index], model.W.device, X.dtype)).to(model.W)
                clamped = torch.tensor(~missing[index], device=v.device)
                v = run(model, v, noise, n_steps=n_sweeps, clamped=clamped)
                X[index] = np.where(missing[index], as_numpy(self._outward(model, v)), X[index])

    def _trainer(self, X, batches, rng, resume):
        """The model as it stands, or a new one, with what trains it."""
        if resume:
            model = self._model(batches.device, precision=self.precision, scale=(1.0, 1.0))
        else:
            model = self._new_model(X, batches, rng)
            self.feature_means_ = as_numpy(batches.mean[: X.shape[1]])
        trainer = Trainer(
            self._in_training(model, batches),
            self._gradient(),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            momentum=self.momentum > 0,
            centered=self.centered,
            weight_decay=self.weight_decay,
            l1=self.l1,
            sparsity_target=self.sparsity_target,
            sparsity_cost=self.sparsity_cost,
            max_norm=self.max_norm,
            max_grad_norm=self.max_grad_norm,
        )
        if resume:
            state = {
                name: as_tensor(array, batches.device)
                for name, array in self.training_state_.items()
                if name not in ("call", "held_out", "best")
            }
            theta = state.pop("theta", None)
            if theta is not None:
                trainer.model.theta.copy_(theta)
            # Chains and moments of other settings would be of no use, and none have begun yet in
            # a fit of no epochs.
            if self.n_iter_ and self.training_settings_ == self._training_settings():
                trainer.load_state(state)
        return trainer

    def _training_settings(self):
        return repr(
            (self.gradient, self.batch_size, self.optimizer, self.momentum > 0, self.centered)
        )

    def _gradient(self):
        gradient = self.gradient
        if isinstance(gradient, str):
            gradient = GRADIENTS[gradient]()
        gradient._validate_params()
        return gradient

    def _new_model(self, X, batches, rng):
        """Random weights, and biases at which the mean field has the mean of the data.

        Hidden units start at a field of −1, on a quarter of the time if they are binary: they
        then come to stand for something that is not always there.
        """
        spread = self._initial_spread(X.shape[1])
        W = rng.normal(0, spread, self._weights_shape(X.shape[1])).astype(batches.dtype)
        W = as_tensor(W, batches.device)
        visible, hidden = self._units()
        n_scaled = self._n_scaled(X.shape[1])
        log_scale = W.new_zeros(n_scaled) if n_scaled else None
        mean = batches.mean[: X.shape[1]]
        b0 = visible.natural(mean)  # (n_visible,)
        b, c = W.new_zeros(self._n_biases(X.shape[1])), W.new_full((self.n_components,), -1.0)
        model = self._compose(visible, hidden, W, b, c, b0, self.precision, log_scale)
        mu, lam = model.origin(mean, hidden.mean(model.hidden_bias()))
        model.b.copy_(visible.natural(mu))
        model.move_origin_(mu, lam, -1)
        return model

    def _model(self, device, *, precision="highest", dtype=None, scale=None):
        """The fitted model on `device`; changing its tensors does not change the estimator."""
        of_weights, of_biases = self._test_scale() if scale is None else scale
        arrays = (self.components_, self.intercept_visible_, self.intercept_hidden_)
        # The law exp(−E/T) is that of the parameters over T at temperature one.
        W, b, c = (as_tensor(array, device, dtype).div_(self.temperature) for array in arrays)
        W, c = W.mul_(of_weights), c.mul_(of_biases)
        visible, hidden = self._units()
        b0 = visible.natural(as_tensor(self.feature_means_, device, dtype))  # (n_visible,)
        log_scale = None
        if hasattr(self, "log_scales_"):
            log_scale = as_tensor(self.log_scales_, device, dtype)
        return self._compose(visible, hidden, W, b, c, b0, precision, log_scale)

    def _with(self, model):
        """A copy of this estimator that has the weights and biases of a model like `_model`'s."""
        of_weights, of_biases = self._test_scale()
        W, b, c = (as_numpy(p * self.temperature) for p in (model.W, model.b, model.c))
        other = copy.copy(self)
        other.components_, other.intercept_hidden_ = W / of_weights, c / of_biases
        other.intercept_visible_ = b
        other.feature_means_ = self.feature_means_.astype(b.dtype)
        if model.log_scale is not None:
            other.log_scales_ = as_numpy(model.log_scale)
        other.training_state_ = {k: v for k, v in self.training_state_.items() if k != "theta"}
        other.__dict__.pop("_log_z", None)  # that of other parameters
        return other

    def _level(self, device, residual=None, precision="highest", dtype=None):
        """The fitted model in a stack."""
        model = self._model(device, precision=precision, dtype=dtype)
        return Level(model, self._encode, self._decode, residual)

    def _inward(self, model, rows):
        """Visible units, of rows of data: (n, n_visible)."""
        return model.inward(self._encode(rows))

    def _outward(self, model, v):
        """Rows of data, of visible units: (n, n_visible)."""
        return self._decode(model.outward(v))

    def _fitted_attributes(self, trainer, history, rng):
        attributes = super()._fitted_attributes(trainer, history, rng)
        if self.temperature != 1:  # what was multiplied cannot be divided without rounding
            attributes["training_state_"]["theta"] = as_numpy(trainer.model.theta)
        parameters = {
            f"{name}_": as_numpy(p if name == "log_scales" else p * self.temperature)
            for name, p in trainer.model.parameters().items()
        }
        return parameters | attributes

    def _measure(self, model, rows):
        v = model.inward(rows)
        pieces = v.split(max(1, CHUNK // model.row_size))
        errors = torch.cat([squared_errors(model, piece) for piece in pieces])
        figures = {"reconstruction_error": errors.mean().item()}
        if model.visible.is_discrete:
            sites = _sites(model, v, 1)
            sites = [None] * len(pieces) if sites is None else sites.split(len(pieces[0]))
            scores = torch.cat([*map(model.pseudo_log_likelihood, pieces, sites)])
            figures["score"] = scores.mean().item()
        return figures

    def _held_out_scores(self, model, rows, beside):
        v = model.inward(rows)
        if not model.visible.is_discrete:
            return -squared_errors(model, v)
        n_flips = 1 + FLIPS // (len(v) * model.n_hidden)
        return model.pseudo_log_likelihood(v, _sites(model, v, n_flips))

    # What a fitted model can do

    def transform(self, X):
        """Features of each row: the means of the hidden units given the row.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        H : ndarray of shape (n_samples, n_components)
            E[h | v], in the type of `components_`.
        """
        return self._apply(lambda model, v: model.hidden.features(model.hidden_field(v)), X)

    def inverse_transform(self, H):
        """Means of the visible units given features, for a row of features each.

        Parameters
        ----------
        H : array-like of shape (n_samples, n_components)

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            E[v | h].
        """
        check_is_fitted(self)
        return self._present(self._reconstruct(H))

    def _reconstruct(self, H, noise=None):
        """Means of the visible units given features, or with noise draws."""
        H = check_array(H, dtype=(np.float64, np.float32), input_name="H")
        if H.shape[1] != self._n_features_out:
            raise ValueError(
                f"H has {H.shape[1]} features, but {type(self).__name__}.inverse_transform "
                f"expects {self._n_features_out}, as many as transform gives."
            )

        def rows(model, features):
            field = model.visible_field(model.hidden.of_features(features))  # (n, n_visible)
            visible = model.visible.law()
            v = visible.mean(field) if noise is None else visible.sample(field, noise)
            return self._outward(model, v)

        return self._apply_validated(rows, H, encode=False)

    def free_energy(self, X):
        """Free energy of each row, F(v) = −log Σ_h exp(−E(v, h)), in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        F : ndarray of shape (n_samples,)
            log p(v) = −F(v) − log Z; the lower, the likelier.
        """
        return self._apply(
            lambda model, v: (model.free_energy(v) + self._log_volume()) * self.temperature, X
        )

    def _apply(self, function, X, row_size=None):
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return self._apply_validated(function, X, row_size)

    def _apply_validated(self, function, X, row_size=None, beside=None, encode=True):
        """function(model, v) over pieces of X that need bounded memory, as one array.

        The rows of a mask `beside` X, where there is one, are a third argument. `row_size` tells
        how many numbers a row of a model needs; None takes those of its joint state.
        """
        device = devices.resolve(self.device, fall_back=True)
        dtype = self.components_.dtype
        with torch.inference_mode():
            model, result = self._model(device), torch.empty(0)
            for piece in chunks(X, row_size(model) if row_size else model.row_size):
                rows = to_device(X[piece], device, dtype)
                tensors = [self._inward(model, rows) if encode else rows]
                if beside is not None:
                    tensors.append(torch.tensor(beside[piece], device=device))
                part = function(model, *tensors)
                if len(result) == 0:
                    result = torch.empty((X.shape[0], *part.shape[1:]), dtype=part.dtype)
                result[piece] = part
        return result.numpy()

    # Validation

    def _validate_rows(self, X, *, reset, allow_nan=False):
        """The rows of X as numbers, one column for each visible unit."""
        finite = "allow-nan" if allow_nan else True
        X = as_array(X)
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse=False if allow_nan else "csr",
            dtype="numeric" if not allow_nan else [np.float64, np.float32],
            ensure_all_finite=finite,
        )

    def _validate_training(self, X, sample_weight, *, reset, allow_nan):
        X = self._validate_rows(X, reset=reset, allow_nan=allow_nan)
        if not reset and self.n_components != len(self.components_):
            raise ValueError(
                f"n_components={self.n_components} differs from the {len(self.components_)} "
                "components that were fitted; training goes on only with the same number."
            )
        if sample_weight is not None:
            sample_weight = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        if not allow_nan:
            self._check_support(X)
        return X, sample_weight

    def _check_support(self, X):
        low, high = self._units()[0].support
        smallest, largest = X.min(), X.max()
        if smallest < low or largest > high:
            warnings.warn(
                f"{type(self).__name__} models values between {low:g} and {high:g}, but X has "
                f"values from {smallest:g} to {largest:g}. Scale it with MinMaxScaler, or "
                f"{self._for_real_values} for real-valued data.",
                UserWarning,
                stacklevel=level_of_caller(),
            )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "components_")

    @property
    def _n_features_out(self):
        return len(self.components_)

    @property
    def h_samples_(self):
        """Hidden states of the persistent chains: ndarray (n_chains, n_components)."""
        if "chains" not in getattr(self, "training_state_", {}):
            raise AttributeError("h_samples_ exists after a fit with persistent chains.")
        return self.training_state_["chains"]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def squared_errors(model, v, features=None):
    """Mean squared error of each row's reconstruction, of its features: (n,)."""
    features = model.hidden.features(model.hidden_field(v)) if features is None else features
    h = model.hidden.of_features(features)  # (n, n_hidden)
    return model.outward(v - model.visible.mean(model.visible_field(h))).square().mean(1)


def _sites(model, v, n):
    """Sites of each row, at random but the same in every call: (n_rows, n); None for all."""
    n_sites = model.visible.n_sites(v.shape[1])
    if n >= n_sites:
        return None
    drawn = np.random.default_rng(0).integers(n_sites, size=(len(v), n))
    return torch.as_tensor(drawn, device=v.device)


def as_array(X):
    """X as it is, or a tensor as an array."""
    if isinstance(X, torch.Tensor):
        return as_numpy(X.float() if X.dtype == torch.bfloat16 else X)
    return X
