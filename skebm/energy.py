"""EnergyModel: the base class of RBMs and of deep Boltzmann machines, trained by a gradient.

Fitted attributes are numpy arrays; tensors exist only during a method call. A subclass defines how
a model of the engine is made for a new fit (`_new`) and of the fitted attributes (`_model`).
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skebm._shared import Fraction, NonNegativeFloat, PositiveFloat, documented, estimator
from skebm._sklearn import ClassNamePrefixFeaturesOutMixin, TransformerMixin, fit_context
from skebm.chains import ChainsMixin
from skebm.engine.gradients import CD, PCD, PTT, Gradient, ParallelTempering
from skebm.engine.models import RBM
from skebm.engine.training import Trainer
from skebm.fitted import FittedModel
from skebm.fitting import Trained, as_numpy, as_tensor, level_of_caller
from skebm.tensors import as_array, check_weights

GradientName = Literal["cd", "pcd", "pt", "ptt"]
GRADIENTS: dict[str, Callable[[], Gradient]] = {
    "cd": CD,
    "pcd": PCD,
    "pt": ParallelTempering,
    "ptt": PTT,
}


@estimator
class EnergyModel(ChainsMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Trained):
    """Base class of models with an energy: training by a gradient of the log-likelihood."""

    gradient: GradientName | Gradient = "pcd"
    l1: NonNegativeFloat = 0.0
    l1b: NonNegativeFloat = 0.0
    max_grad_norm: PositiveFloat | None = None
    centered: bool = True
    sparsity_target: Fraction | None = None
    sparsity_cost: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0

    _reported = {
        "score": "pseudo-likelihood = {:.2f}",
        "reconstruction_error": "reconstruction error = {:.2f}",
    }
    #: Where "pcd" has other settings, for the docstrings.
    _pcd: ClassVar[str] = ""
    #: What the short names of gradients stand for.
    _gradients: ClassVar[dict[str, Callable[[], Gradient]]] = GRADIENTS

    # The model

    def _new(self, batches, rng) -> RBM:
        """Return the model of a new fit to these rows."""
        raise NotImplementedError

    def _model(self, device, dtype, precision) -> RBM:
        """Return the model of the fitted attributes, before any correction for dropout."""
        raise NotImplementedError

    def _is_pretrained(self) -> bool:
        """Whether the model of a new fit is trained already."""
        return False

    def _model_settings(self) -> Any:
        """The parameters that define the units and their coupling."""
        raise NotImplementedError

    def _in_training(self, model, batches) -> RBM:
        """Return the model to train, for example one with dropout."""
        return model

    def _without_dropout(self, model) -> RBM:
        """Return the model that predicts, given the model with the fitted parameters."""
        return model

    def _trainer_settings(self) -> dict[str, Any]:
        """Settings of the trainer that are no parameters of the estimator."""
        return {}

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

    def _trainer(self, data, batches, rng, resume):
        if resume:
            fitted = FittedModel(self)
            model = fitted.as_trained(batches.device, precision=self.precision)
        else:
            model = self._new(batches, rng)
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
            leaves_out=data.left_out is not None,
            processes=batches.processes,
            **self._trainer_settings(),
        )
        trainer.start_at_rows = (resume and self.n_iter_ > 0) or self._is_pretrained()
        if resume:
            self._load_state(trainer, batches.device)
        return trainer

    def _load_state(self, trainer, device):
        model, theta = trainer.model, self.training_state_.get("theta")
        if theta is not None:
            before = model.theta.clone()
            model.theta.copy_(as_tensor(theta, device))
            learned = self._parameters(model)
            fitted = {name: getattr(self, name) for name in learned}
            if joblib.hash(fitted) != joblib.hash(learned):  # the attributes were changed
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

    def _parameters_of_use(self, model) -> dict[str, Any]:
        """The fitted attributes, given a model that `_without_dropout` returned."""
        return self._parameters(model)

    def _check_convergence(self, history, batches, trainer, missing):
        if batches.left_out is not None:
            return  # rows with means have errors of their own
        errors = history.columns.get("reconstruction_error", ())
        rows = batches.probe[:, : batches.X.shape[1]]
        spread = (rows - rows.mean(0)) * self.encoding_.error_scale(rows)
        of_means, excess = spread.square().mean().item(), 0.0
        if missing and not trainer.model.visible.is_discrete:
            excess = missing.excess()
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

    # Methods and attributes of a fitted model

    def score_samples(self, X: Any) -> np.ndarray:
        """The score of each row."""
        raise NotImplementedError

    def _log_unnormalised(self, X, n_draws) -> np.ndarray:
        """log p(v) + log Z of each row, in double precision; `n_draws` is for estimates of it."""
        raise NotImplementedError

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

    @property
    def h_samples_(self) -> np.ndarray:
        """Hidden states of the persistent chains: ndarray (n_chains, n_components)."""
        if "chains" not in getattr(self, "training_state_", {}):
            raise AttributeError("h_samples_ exists only after a fit with persistent chains.")
        return self.training_state_["chains"]
