"""BaseEBM: the scikit-learn face that every estimator shares.

What is fitted is numpy; tensors live inside a method call. The members of the family differ
in their units (`_units`) and, where they have one, in how a row is scored.
"""

import copy
import time
import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_array, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from skebm._sklearn import Interval, StrOptions, check_sample_weight, fit_context
from skebm.engine import devices
from skebm.engine.batches import Batches, chunks, to_device
from skebm.engine.gradients import CD, PCD, Centered, Gradient
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.sampling import run
from skebm.engine.training import Trainer
from skebm.engine.units import Units

GRADIENTS = {"cd": CD, "pcd": PCD}


class BaseEBM(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of all estimators: validation, training, and what a fitted model can do."""

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_iter": [Interval(Integral, 0, None, closed="left")],
        "gradient": [StrOptions(set(GRADIENTS)), Gradient],
        "optimizer": [StrOptions({"sgd", "adam"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "centered": ["boolean"],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    #: The entry of `history_` that `verbose` prints, and what it is called there.
    _progress = ("reconstruction_error", "reconstruction error")

    def _units(self, X) -> tuple[Units, Units]:
        """The visible and the hidden units of this model; X is None once it is fitted."""
        raise NotImplementedError

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
        return self._train(X, sample_weight, n_epochs=self.n_iter, resume=resume)

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train for one epoch on the rows of X, going on from where training stopped.

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
        return self._train(X, sample_weight, n_epochs=1, resume=self.__sklearn_is_fitted__())

    def _train(self, X, sample_weight, *, n_epochs, resume):
        with _unchanged_on_error(self):
            X, sample_weight = self._validate_training(X, sample_weight, reset=not resume)
            rng = self._random_stream(resume)
            device = devices.resolve(self.device)
            batches = Batches(
                X,
                sample_weight,
                batch_size=self.batch_size,
                shuffle=self.shuffle,
                device=device,
                dtype=self.components_.dtype if resume else devices.float_type(X.dtype),
            )
            trainer = self._trainer(X, batches, rng, resume)
            history = {k: list(v) for k, v in self.history_.items()} if resume else {}
            measured = np.random.default_rng(0).choice(batches.visits, size=1000)

            def snapshot():
                return self._fitted_attributes(trainer, history, rng)

            fit_task = self._init_callback_context(max_subtasks=n_epochs)
            fit_task.call_on_fit_task_begin(estimator=self, X=X)
            first = len(history.get("epoch", ())) + 1
            for epoch in range(first, first + n_epochs):
                task = fit_task.subcontext(task_name="epoch")
                task.call_on_fit_task_begin(estimator=self, X=X)
                begin = time.perf_counter()
                trainer.epoch(batches, Noise(_seed(rng), device))
                self._check_finite(trainer.model, epoch)
                row = {"epoch": epoch, "seconds": time.perf_counter() - begin}
                row |= self._measure(trainer.model, batches.take(measured))
                for key, value in row.items():
                    history.setdefault(key, []).append(value)
                self._report(row)
                if task.call_on_fit_task_end(
                    estimator=self, X=X, reconstruction_attributes=snapshot
                ):
                    break
            self.__dict__.update(snapshot())
            fit_task.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes=dict)
        return self

    def _trainer(self, X, batches, rng, resume):
        """The model as it stands, or a new one, with what trains it."""
        trainer = Trainer(
            self._model(batches.device) if resume else self._new_model(X, batches, rng),
            self._gradient(),
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            l1=self.l1,
        )
        # Chains and moments of other settings would be of no use.
        if resume and self.training_settings_ == self._training_settings():
            trainer.load_state(
                {k: _tensor(v, batches.device) for k, v in self.training_state_.items()}
            )
        return trainer

    def _training_settings(self):
        return repr((self.gradient, self.optimizer, self.momentum > 0, self.centered))

    def _gradient(self):
        gradient = self.gradient
        if isinstance(gradient, str):
            gradient = GRADIENTS[gradient]()
        gradient._validate_params()
        return Centered(gradient) if self.centered else gradient

    def _new_model(self, X, batches, rng):
        """Random weights, and biases at which the mean field has the mean of the data.

        Hidden units start at a field of −1, on a quarter of the time if they are binary: they
        then come to stand for something that is not always there.
        """
        visible, hidden = self._units(X)
        W = rng.normal(0, 0.1, (self.n_components, X.shape[1])).astype(batches.dtype)
        W = _tensor(W, batches.device)  # (n_components, n_features)
        field = W.new_full((self.n_components,), -1.0)
        b = visible.natural(batches.mean) - hidden.mean(field) @ W  # (n_features,)
        return RBM(visible, hidden, W, b, field - W @ batches.mean)

    def _model(self, device):
        """The fitted model on `device`; changing its tensors does not change the estimator."""
        visible, hidden = self._units(None)
        arrays = (self.components_, self.intercept_visible_, self.intercept_hidden_)
        return RBM(visible, hidden, *(_tensor(array, device) for array in arrays))

    def _fitted_attributes(self, trainer, history, rng):
        parameters = {f"{name}_": _array(p) for name, p in trainer.parameters.items()}
        return parameters | {
            "training_state_": {name: _array(t) for name, t in trainer.state().items()},
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

    def _measure(self, model, v):
        """Figures of merit on the rows v (n, n_features), for `history_`."""
        h = model.hidden.mean(model.hidden_field(v))  # (n, n_components)
        error = v - model.visible.mean(model.visible_field(h))  # (n, n_features)
        return {"reconstruction_error": error.square().mean().item()}

    def _report(self, row):
        if self.verbose:
            key, label = self._progress
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
        return self._apply(lambda model, v: model.hidden.mean(model.hidden_field(v)), X)

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
        H = check_array(H, dtype=(np.float64, np.float32), input_name="H")
        if H.shape[1] != len(self.components_):
            raise ValueError(
                f"H has {H.shape[1]} features, but {type(self).__name__}.inverse_transform "
                f"expects n_components = {len(self.components_)} of them."
            )
        return self._apply_validated(lambda model, h: model.visible.mean(model.visible_field(h)), H)

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
        return self._apply(lambda model, v: model.free_energy(v), X)

    def gibbs(self, X, n_steps=1):
        """Sweeps of Gibbs sampling that start at the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        n_steps : int, default=1
            Number of sweeps (hidden units given visible ones, then visible given hidden).

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            The visible units after the last sweep; another call gives other samples.
        """
        check_is_fitted(self)
        check_scalar(n_steps, "n_steps", Integral, min_val=0)
        noise = self._next_noise()
        return self._apply(lambda model, v: run(model, v, noise, n_steps=n_steps), X)

    def sample(self, n_samples=1, n_steps=1000):
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows: the ends of as many independent chains.
        n_steps : int, default=1000
            Sweeps of Gibbs sampling in each chain, which starts at visible units that are
            independent of each other.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Approximate samples: exact as `n_steps` grows. Another call gives other samples.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        check_scalar(n_steps, "n_steps", Integral, min_val=0)
        noise = self._next_noise()
        with torch.inference_mode():
            model = self._model(noise.device)
            return _array(run(model, model.start(n_samples, noise), noise, n_steps=n_steps))

    def _next_noise(self):
        return Noise(_seed(self.random_state_), devices.resolve(self.device, fall_back=True))

    def _apply(self, function, X, row_size=None):
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        return self._apply_validated(function, X, row_size)

    def _apply_validated(self, function, X, row_size=None):
        """function(model, rows) over pieces of X that need bounded memory, as one array."""
        device = devices.resolve(self.device, fall_back=True)
        dtype = self.components_.dtype
        with torch.inference_mode():
            model = self._model(device)
            pieces = [
                _array(function(model, to_device(X[piece], device, dtype)))
                for piece in chunks(X, row_size or sum(self.components_.shape))
            ]
        return np.concatenate(pieces)

    # Validation

    def _validate_rows(self, X, *, reset):
        if isinstance(X, torch.Tensor):
            X = _array(X.float() if X.dtype == torch.bfloat16 else X)
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype="numeric")

    def _validate_training(self, X, sample_weight, *, reset):
        X = self._validate_rows(X, reset=reset)
        if not reset and self.n_components != len(self.components_):
            raise ValueError(
                f"n_components={self.n_components} differs from the {len(self.components_)} "
                "components that were fitted; training goes on only with the same number."
            )
        if sample_weight is not None:
            sample_weight = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        low, high = self._units(X)[0].support
        if X.min() < low or X.max() > high:
            warnings.warn(
                f"{type(self).__name__} models values between {low:g} and {high:g}, but X has "
                f"values from {X.min():g} to {X.max():g}. Scale it with MinMaxScaler, or use "
                "GaussianRBM for real-valued data.",
                UserWarning,
                stacklevel=5,  # the line that calls fit
            )
        return X, sample_weight

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


def _tensor(array, device):
    return torch.tensor(array, device=device)


def _array(tensor):
    return tensor.detach().cpu().numpy().copy()
