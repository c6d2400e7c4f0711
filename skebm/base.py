"""BaseEBM: the scikit-learn face that every estimator shares.

What is fitted is numpy; tensors live inside a method call. The members of the family differ
in their units (`_units`) and, where they have one, in how a row is scored.
"""

import copy
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import field
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
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
from skebm.engine.batches import CHUNK, Batches, chunks, to_device
from skebm.engine.gradients import CD, PCD, Gradient, ParallelTempering
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.sampling import run
from skebm.engine.training import Trainer
from skebm.engine.units import Units

#: Packages whose lines a warning does not point at.
OUR_FRAMES = ("skebm", "sklearn")
#: Conditionals whose sum scoring a piece of the held-out rows may cost.
FLIPS = 2**24
#: The fitted attributes that training changes.
PARAMETERS = (
    "components_",
    "intercept_visible_",
    "intercept_hidden_",
    "log_scales_",
    "label_components_",
    "intercept_label_",
)
GRADIENTS = {"cd": CD, "pcd": PCD, "pt": ParallelTempering}


@estimator
class BaseEBM(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Base of all estimators: validation, training, and what a fitted model can do."""

    n_components: int = field(default=256, kw_only=False)
    learning_rate: float = 0.1
    batch_size: int = 10
    n_iter: int | None = 10
    gradient: str | Gradient = "pcd"
    optimizer: str = "sgd"
    learning_rate_schedule: str = "constant"
    momentum: float = 0.0
    momentum_ramp: int = 0
    weight_decay: float = 0.0
    l1: float = 0.0
    max_norm: float | None = None
    max_grad_norm: float | None = None
    centered: bool = True
    sparsity_target: float | None = None
    sparsity_cost: float = 1.0
    temperature: float = 1.0
    shuffle: bool = True
    warm_start: bool = False
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 5
    tol: float = 1e-4
    device: str = "auto"
    precision: str = "high"
    verbose: int = 0
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"constant", "linear", "invscaling"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_iter": [Interval(Integral, 0, None, closed="left")],
        "gradient": [StrOptions(set(GRADIENTS)), Gradient],
        "optimizer": [StrOptions({"sgd", "adam"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "momentum_ramp": [Interval(Integral, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "centered": ["boolean"],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither"), None],
        "sparsity_cost": [Interval(Real, 0, None, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"highest", "high", "medium"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    # What a member of the family says of itself

    #: How many updates n_iter=None stands for, and the least and largest number of epochs.
    _epochs: ClassVar[tuple[int, int, int]] = (2000, 20, 100)
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

    def _encode(self, rows):
        """Visible units, a tensor, of rows of validated data."""
        return rows

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

    def _strata(self, beside):
        """The groups of rows that are held back in proportion, a number for each row."""
        return None

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
        return self._train(X, y, sample_weight, n_epochs=self._n_epochs(X), resume=resume)

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

    def _n_epochs(self, X):
        """How many epochs a fit to X makes."""
        if self.n_iter is not None:
            return self.n_iter
        n_batches = -(-max(1, num_samples(X)) // self.batch_size)
        n_updates, least, most = self._epochs
        return int(np.clip(-(-n_updates // n_batches), least, most))

    def _finish(self, X, y=None, sample_weight=None):
        """Make the epochs that were left when a callback got this estimator."""
        first, n_epochs = (int(number) for number in self.training_state_["call"])
        return self._train(X, y, sample_weight, n_epochs=n_epochs, resume=True, first=first)

    def _train(
        self,
        X,
        y,
        sample_weight,
        *,
        n_epochs,
        resume,
        first=None,
        hold_back=True,
        n_sweeps=None,
        classes=None,
    ):
        """Train for so many epochs.

        Where `n_sweeps` or the estimator gives a number of sweeps, X may have missing values:
        after each epoch they are drawn again, by as many sweeps given the observed ones.
        """
        n_sweeps = self._n_sweeps if n_sweeps is None else n_sweeps
        with _unchanged_on_error(self):
            X, sample_weight = self._validate_training(
                X, sample_weight, reset=not resume, allow_nan=n_sweeps is not None
            )
            beside, sample_weight = self._validate_targets(
                y, X, sample_weight, classes=classes, reset=not resume
            )
            if not resume:
                self.__dict__.pop("log_scales_", None)
                self.__dict__.update(self._prepare(X, sample_weight))
            missing = None
            if n_sweeps is not None and np.isnan(X).any():
                missing = np.isnan(X)
                if missing.all(axis=0).any():
                    raise ValueError("X has a feature with no value at all; leave it out.")
                X = np.where(missing, np.nanmean(X, axis=0), X)
            rng = self._random_stream(resume)
            device = devices.resolve(self.device)
            dtype = self.components_.dtype if resume else devices.float_type(X.dtype)
            history = {k: list(v) for k, v in self.history_.items()} if resume else {}
            stopping = None
            if self.early_stopping and hold_back:
                stopping, sample_weight = self._hold_back(
                    X, beside, sample_weight, history, rng, resume
                )
            batches = Batches(
                X,
                sample_weight,
                batch_size=self.batch_size,
                shuffle=self.shuffle,
                device=device,
                dtype=dtype,
                encode=self._encode,
                beside=beside,
            )
            trainer = self._trainer(X, batches, rng, resume)
            means = self.feature_means_ if resume else _array(batches.mean[: X.shape[1]])
            noise = Noise(0, device)
            done = len(history.get("epoch", ()))
            if first is None:
                first = done + 1
                if stopping is not None:
                    stopping.n_bad = 0

            def fitted():
                return self._fitted_attributes(trainer, history, rng) | {"feature_means_": means}

            def snapshot():
                attributes = fitted()
                state = attributes["training_state_"]
                state["call"] = np.array([first, n_epochs])
                if stopping is not None:
                    state |= stopping.state()
                return attributes

            fit_task = self._init_callback_context(max_subtasks=first + n_epochs - 1 - done)
            fit_task.call_on_fit_task_begin(estimator=self, X=X)
            for epoch in range(done + 1, first + n_epochs):
                if stopping is not None and stopping.is_over:
                    break
                task = fit_task.subcontext(task_name="epoch")
                task.call_on_fit_task_begin(estimator=self, X=X)
                begin = time.perf_counter()
                noise.restart(_seed(rng))
                with devices.precision(device, self.precision):
                    trainer.epoch(batches, noise, *self._rates(epoch, first, n_epochs))
                self._check_finite(trainer.model, epoch)
                row = {"epoch": epoch, "seconds": time.perf_counter() - begin}
                tested = trainer.model.at_test()
                row |= self._measure(tested, batches.probe)
                row |= {k: v.item() for k, v in trainer.report().items()}
                if stopping is not None:
                    row["validation_score"] = stopping.measure(self, tested, dtype)
                _append(history, row)
                self._report(row)
                if stopping is not None and stopping.is_best:
                    stopping.best = _of_this_epoch(fitted())
                if missing is not None:
                    self._redraw(X, missing, tested, noise, n_sweeps)
                    batches.look()
                if task.call_on_fit_task_end(
                    estimator=self, X=X, reconstruction_attributes=snapshot
                ):
                    break
            attributes = fitted()
            if stopping is not None:
                attributes = stopping.restore(attributes)
            self.__dict__.update(attributes)
            self.__dict__.pop("_log_z", None)  # that of other parameters
            fit_task.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes=dict)
        return self

    def _redraw(self, X, missing, model, noise, n_sweeps):
        """Sweep over the missing values of X, in place, with the observed ones clamped."""
        rows = np.flatnonzero(missing.any(axis=1))
        with torch.inference_mode():
            for piece in chunks(rows, model.row_size):
                index = rows[piece]
                v = self._inward(model, to_device(X[index], model.W.device, X.dtype)).to(model.W)
                clamped = torch.tensor(~missing[index], device=v.device)
                v = run(model, v, noise, n_steps=n_sweeps, clamped=clamped)
                X[index] = np.where(missing[index], _array(self._outward(model, v)), X[index])

    def _rates(self, epoch, first, n_epochs):
        """Learning rate and momentum of an epoch, of those that a call makes from `first` on."""
        rate = self.learning_rate
        if self.learning_rate_schedule == "linear":
            rate *= 1 - (epoch - first) / n_epochs
        elif self.learning_rate_schedule == "invscaling":
            rate /= epoch**0.5
        return rate, self.momentum * min(1, epoch / (self.momentum_ramp + 1))

    def _hold_back(self, X, beside, sample_weight, history, rng, resume):
        """What watches the held-out rows, and weights that are zero on them."""
        if resume and "held_out" in self.training_state_:
            seed = int(self.training_state_["held_out"])
        else:
            seed = _seed(rng)
        n = X.shape[0]
        train, held_out = train_test_split(
            np.arange(n),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=self._strata(beside),
        )
        weight = np.ones(n) if sample_weight is None else sample_weight.copy()
        if not weight[train].any() or not weight[held_out].any():
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves rows of weight zero alone "
                "to train or to validate on; change it, or set early_stopping=False."
            )
        stopping = _EarlyStopping(
            self,
            X[held_out],
            None if beside is None else beside[held_out],
            weight[held_out],
            seed,
            history,
            resume,
        )
        weight[held_out] = 0
        return stopping, weight

    def _trainer(self, X, batches, rng, resume):
        """The model as it stands, or a new one, with what trains it."""
        if resume:
            model = self._model(batches.device, precision=self.precision, scale=(1.0, 1.0))
        else:
            model = self._new_model(X, batches, rng)
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
                name: _tensor(array, batches.device)
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
        W = _tensor(W, batches.device)
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
        W, b, c = (_tensor(array, device, dtype).div_(self.temperature) for array in arrays)
        W, c = W.mul_(of_weights), c.mul_(of_biases)
        visible, hidden = self._units()
        b0 = visible.natural(_tensor(self.feature_means_, device, dtype))  # (n_visible,)
        log_scale = None
        if hasattr(self, "log_scales_"):
            log_scale = _tensor(self.log_scales_, device, dtype)
        return self._compose(visible, hidden, W, b, c, b0, precision, log_scale)

    def _inward(self, model, rows):
        """Visible units, of rows of data: (n, n_visible)."""
        return model.inward(self._encode(rows))

    def _outward(self, model, v):
        """Rows of data, of visible units: (n, n_visible)."""
        return self._decode(model.outward(v))

    def _fitted_attributes(self, trainer, history, rng):
        state = {name: _array(t) for name, t in trainer.state().items()}
        if self.temperature != 1:  # what was multiplied cannot be divided without rounding
            state["theta"] = _array(trainer.model.theta)
        parameters = {
            f"{name}_": _array(p if name == "log_scales" else p * self.temperature)
            for name, p in trainer.model.parameters().items()
        }
        return parameters | {
            "training_state_": state,
            "training_settings_": self._training_settings(),
            "history_": {name: np.array(values) for name, values in history.items()},
            "n_iter_": len(history.get("epoch", ())),
            # A copy, so that what a callback draws from it does not change the fit.
            "random_state_": copy.deepcopy(rng),
        }

    def _random_stream(self, resume):
        # A copy, so that a call that fails leaves the fitted stream where it was.
        return (
            copy.deepcopy(self.random_state_) if resume else check_random_state(self.random_state)
        )

    def _check_finite(self, model, epoch):
        finite = [p.isfinite().all() for p in model.parameters().values()]
        if not torch.stack(finite).all():
            raise ValueError(
                f"{type(self).__name__} diverged in epoch {epoch}: its parameters are no longer "
                f"finite. Lower learning_rate (now {self.learning_rate}), or scale the data, "
                "with StandardScaler for instance."
            )

    def _measure(self, model, rows):
        """Figures of merit on standardised rows (n, n_features), for `history_`."""
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

    def _held_out_scores(self, model, v, beside):
        """What early stopping watches, for each of the rows v (n, n_features): (n,)."""
        if not model.visible.is_discrete:
            return -squared_errors(model, v)
        n_flips = 1 + FLIPS // (len(v) * model.n_hidden)
        return model.pseudo_log_likelihood(v, _sites(model, v, n_flips))

    def _report(self, row):
        if self.verbose:
            key, label = (
                ("score", "pseudo-likelihood")
                if "score" in row
                else ("reconstruction_error", "reconstruction error")
            )
            print(
                f"[{type(self).__name__}] Iteration {row['epoch']}, {label} = {row[key]:.2f}, "
                f"time = {row['seconds']:.2f}s",
                flush=True,
            )

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

    def _reconstruct(self, H):
        H = check_array(H, dtype=(np.float64, np.float32), input_name="H")
        if H.shape[1] != self._n_features_out:
            raise ValueError(
                f"H has {H.shape[1]} features, but {type(self).__name__}.inverse_transform "
                f"expects {self._n_features_out}, as many as transform gives."
            )

        def rows(model, features):
            field = model.visible_field(model.hidden.of_features(features))  # (n, n_visible)
            return self._outward(model, model.visible.mean(field))

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
                stacklevel=_level_of_caller(),
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


class _EarlyStopping:
    """Scores of held-out rows after every epoch, and the model that had the best."""

    def __init__(self, estimator, X, beside, weight, seed, history, resume):
        self.X, self.beside, self.weight, self.seed = X, beside, weight, seed
        self.tol, self.patience = estimator.tol, estimator.n_iter_no_change
        self.best_score, self.n_bad, self.is_best = -np.inf, 0, False
        for score in history.get("validation_score", ()):
            self._add(score)
        self.best = {}
        if resume:
            self.best = estimator.training_state_.get("best", _of_this_epoch(vars(estimator)))

    def measure(self, estimator, model, dtype):
        """The weighted mean score of the held-out rows, noted."""
        total = 0.0
        with torch.inference_mode():
            for piece in chunks(self.X, model.row_size):
                rows = to_device(self.X[piece], model.W.device, dtype)
                v, beside = estimator._inward(model, rows), None
                if self.beside is not None:
                    beside = to_device(self.beside[piece], model.W.device, dtype)
                scores = _array(estimator._held_out_scores(model, v, beside))
                total += scores.astype(np.float64) @ self.weight[piece]
        score = float(total / self.weight.sum())
        self._add(score)
        return score

    def _add(self, score):
        self.n_bad = 0 if score > self.best_score + self.tol else self.n_bad + 1
        self.is_best = score > self.best_score
        self.best_score = max(score, self.best_score)

    @property
    def is_over(self):
        return self.n_bad >= self.patience

    def state(self):
        """What an interrupted fit goes on from."""
        return {"held_out": np.array(self.seed), "best": self.best}

    def restore(self, attributes):
        """The attributes of a finished fit: those of the best epoch, and the whole history."""
        attributes = attributes | self.best
        held_out = {"held_out": np.array(self.seed)}
        return attributes | {"training_state_": attributes["training_state_"] | held_out}


def _of_this_epoch(attributes):
    """The fitted attributes that go back with the weights to the best epoch."""
    return {k: v for k, v in attributes.items() if k in (*PARAMETERS, "training_state_")}


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
        return _array(X.float() if X.dtype == torch.bfloat16 else X)
    return X


def _append(history, row):
    """Add an epoch to the history, whose columns stay equally long."""
    n = len(history.get("epoch", ()))
    for name in dict.fromkeys([*history, *row]):
        history.setdefault(name, [np.nan] * n).append(row.get(name, np.nan))


def _level_of_caller():
    """The `stacklevel` of the line that called this package, through scikit-learn's wrappers."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in OUR_FRAMES:
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def _unchanged_on_error(estimator):
    """Leave the fitted attributes as they were if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        for name in [name for name in vars(estimator) if name.endswith("_")]:
            delattr(estimator, name)
        estimator.__dict__.update({k: v for k, v in before.items() if k.endswith("_")})
        raise


def _seed(rng):
    return int(rng.randint(np.iinfo(np.int32).max))


def _tensor(array, device, dtype=None):
    return torch.tensor(array, device=device, dtype=dtype)


def _array(tensor):
    return tensor.detach().cpu().numpy().copy()
