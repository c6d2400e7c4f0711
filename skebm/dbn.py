"""DBN: a stack of RBMs, each trained on the features of the RBM below."""

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import field
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    NonNegativeInt,
    PerLayer,
    PositiveFloat,
    PositiveInt,
    Seed,
    Unvalidated,
    estimator,
    validated,
)
from skebm._sklearn import (
    BaseComposition,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    fit_context,
)
from skebm.base import BaseRBM
from skebm.chains import ChainMethod
from skebm.encoding import Table
from skebm.engine.batches import chunks, to_device
from skebm.engine.devices import device_of
from skebm.engine.gradients import Gradient
from skebm.engine.noise import Noise, seed_of
from skebm.engine.parallel import current
from skebm.engine.stack import Residual, bound
from skebm.engine.updown import UpDown
from skebm.evaluation import kept_log_partition
from skebm.fitted import FittedModel, FittedStack
from skebm.fitting import (
    Fit,
    History,
    Schedule,
    TrainingData,
    generator_of,
    level_of_caller,
    unchanged_on_error,
)
from skebm.rbm import MOST_NOISE, BernoulliRBM, GaussianRBM, noise_share
from skebm.tensors import as_array, as_rows, check_weights, dispatches, returns_like_x


class OfLastLayer:
    """A method that calls the last layer's method of the same name on the features below it.

    The stack has this method if the last layer has it, before and after fit.
    """

    def __init__(self, summary):
        self.summary = summary

    def __get__(self, stack, owner=None) -> Callable[[Any], np.ndarray]:
        raise AttributeError  # `__set_name__` has put a method into this place

    def __set_name__(self, owner, name):
        def is_there(stack):
            is_fitted = stack.__sklearn_is_fitted__()
            getattr(stack.estimators_[-1] if is_fitted else stack._last_layer, name)
            return True

        @returns_like_x
        def method(stack, X):
            check_is_fitted(stack)
            return getattr(stack.estimators_[-1], name)(stack._below(X))

        method.__name__, method.__qualname__ = name, f"{owner.__qualname__}.{name}"
        method.__doc__ = self.summary + ROWS
        setattr(owner, name, available_if(is_there)(method))


ROWS = """

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        result : ndarray of shape (n_samples,) or (n_samples, n_classes)
            The result of the last layer.
        """


class HasLayers(BaseComposition):
    """An estimator whose parameter `layers` has numbers, estimators, or pairs of name and layer."""

    layers: list | tuple

    @property
    def _named_layers(self):
        """The layers with their names."""
        if not isinstance(self.layers, (list, tuple)):
            return []
        return [
            layer
            if isinstance(layer, tuple) and len(layer) == 2 and isinstance(layer[0], str)
            else (f"layer{number}", layer)
            for number, layer in enumerate(self.layers, 1)
        ]

    @_named_layers.setter
    def _named_layers(self, layers):
        self.layers = layers

    @property
    def _last_layer(self):
        named = self._named_layers
        return named[-1][1] if named else None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of this estimator; with deep=True, also the layers and their parameters.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        params : dict
        """
        return self._get_params("_named_layers", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator, its layers by name, and parameters of the layers.

        Parameters
        ----------
        **params : dict
            For example `layer1=GaussianRBM(64)` or `layer1__learning_rate=0.1`.

        Returns
        -------
        self : object
        """
        if "layers" in params:
            self.layers = params.pop("layers")
        return self._set_params("_named_layers", **params)

    def _set_tags_of_layers(self, tags):
        """Set scikit-learn's tags that come from the first and from the last layer."""
        named = self._named_layers
        of_first, of_last = (
            get_tags(layer if hasattr(layer, "fit") else BernoulliRBM())
            for _, layer in (named[:1] + named[-1:] or [(None, None)] * 2)
        )
        tags.input_tags = copy.deepcopy(of_first.input_tags)
        tags.estimator_type = of_last.estimator_type
        tags.classifier_tags = copy.deepcopy(of_last.classifier_tags)
        tags.target_tags = copy.deepcopy(of_last.target_tags)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]


@estimator
class DBN(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    HasLayers,
):
    """Deep belief network: a stack of restricted Boltzmann machines.

    Each layer is trained on the output of `transform` of the layer below [1]_. The stack is a
    generative model of rows x = h_0: the top RBM generates h_{L−1}, and each layer below
    generates its visible units from its hidden units ::

        p(x)  = Σ_h p(x | h_1) p(h_1 | h_2) … p_top(h_{L−1})
        log p(x) ≥ Σ_k E_q[log p(h_{k−1} | h_k) − log q(h_k | h_{k−1})] + E_q[log p_top(h_{L−1})]

    where q(h_k | h_{k−1}) is the conditional distribution of a layer's hidden units; its mean
    gives the features. With `fine_tune="up-down"` all layers are then trained together by
    contrastive wake-sleep [1]_, with separate weights for the way up and the way down.

    Parameters
    ----------
    layers : sequence, default=(256, 128)
        The layers, from the data up. Each is a number of hidden units, an RBM of this package, or
        a pair of a name and one of these. A number stands for a :class:`BernoulliRBM`; in the
        first layer, for a :class:`GaussianRBM` if X has values below 0 or above 1, or values
        between them that are mostly noise as probabilities (`noise_share_` above 0.3). A
        grid search sets a layer by its name, and its parameters by `name__parameter`; layers
        without a name are called layer1, layer2, … A fitted layer in a
        :class:`~sklearn.frozen.FrozenEstimator` is not trained. A :class:`ConvRBM` on top of
        another one takes the maps of the layer below as its images. If the last layer is an
        :class:`RBMClassifier`, it is trained with the labels, and the stack is a classifier [1]_.
    learning_rate, learning_rate_schedule, batch_size, n_iter, gradient : default=None
        Parameters of the layers: a single value is set in all layers, a sequence has one value
        for each layer. None, also in a sequence, keeps the layer's own value.
    momentum, weight_decay, temperature, device, precision, verbose : default=None
        More parameters of the layers, in the same way.
    output : {"top", "all"}, default="top"
        What `transform` returns: the features of the top layer, or of all layers, concatenated.
    residual : tuple of two floats or None, default=None
        ζ₁ and ζ₂ of a residual path around the units of every layer [2]_. With a = c + W v, the
        features are (ζ₁ σ(a) + ζ₂ max(a, 0) / r) / m, where r is the largest a over the training
        rows, and m is the largest numerator, or 1 if that is smaller. None and (1, 0) give the
        same features. All layers must have binary hidden units.
    fine_tune : {"up-down"} or None, default=None
        How to train all layers together after they are trained one by one; None does not.
    fine_tune_n_iter : int, default=10
        Number of epochs of fine-tuning.
    fine_tune_learning_rate : float, default=0.01
        Learning rate of fine-tuning.
    warm_start : bool, default=False
        Whether a second call of `fit` continues from the fitted stack. Each layer is trained
        further, from the first to the last; after "up-down", all layers together.
    random_state : int, RandomState instance or None, default=None
        Seeds the layers that have no `random_state` of their own; they draw from it one after
        the other.

    Attributes
    ----------
    estimators_ : list
        The fitted layers. They are the way up, from visible to hidden units.
    generative_ : list
        The layers of the way down, from hidden to visible units. They are the layers of
        `estimators_`, except after "up-down", which gives the way down its own weights.
    residual_maxima_ : ndarray of shape (n_layers, 2)
        r and m of each layer, with `residual`.
    history_ : dict of ndarrays
        One entry for each epoch of each layer: "layer", counted from 0, and the columns of the
        layers' `history_`. Layer −1 stands for epochs of "up-down".
    classes_ : ndarray of shape (n_classes,)
        The labels, if the top layer is a classifier.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had column names that are all strings.

    See Also
    --------
    DBNClassifier : The stack, fine-tuned for classification by backpropagation.
    DBNRegressor : The same for regression.

    References
    ----------
    .. [1] G. E. Hinton, S. Osindero, Y.-W. Teh (2006). A fast learning algorithm for deep belief
       nets. Neural Computation 18.
    .. [2] M. Roder, L. A. Passos, L. C. F. Ribeiro, C. Pereira, J. P. Papa (2020). A layer-wise
       information reinforcement approach to improve learning in deep belief networks. ICAISC.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skebm import DBN, GaussianRBM
    >>> X, y = load_digits(return_X_y=True)
    >>> dbn = DBN([GaussianRBM(100), 50], random_state=0)
    >>> model = make_pipeline(dbn, LogisticRegression(max_iter=1000))
    >>> model.fit(X[:1000] / 16, y[:1000]).score(X[1000:] / 16, y[1000:]) > 0.85
    True
    >>> dbn.sample(3, random_state=0).shape
    (3, 64)
    """

    layers: list | tuple = field(default=(256, 128), kw_only=False)
    learning_rate: PerLayer[float] = None
    learning_rate_schedule: PerLayer[str] = None
    batch_size: PerLayer[int] = None
    n_iter: PerLayer[int] = None
    gradient: PerLayer[str | Gradient] = None
    momentum: PerLayer[float] = None
    weight_decay: PerLayer[float] = None
    temperature: PerLayer[float] = None
    device: PerLayer[str] = None
    precision: PerLayer[str] = None
    verbose: PerLayer[int] = None
    output: Literal["top", "all"] = "top"
    residual: tuple[float, float] | list[float] | None = None
    fine_tune: Literal["up-down"] | None = None
    fine_tune_n_iter: NonNegativeInt = 10
    fine_tune_learning_rate: PositiveFloat = 0.01
    warm_start: bool = False
    random_state: Seed = None

    # The layers

    def _configured(self, first):
        """Copies of the layers, with the parameters that the stack sets in them.

        `first` makes the RBM that a number stands for in the first layer.
        """
        named = self._named_layers
        if not named:
            raise ValueError("layers must have at least one layer; got none.")
        self._validate_names([name for name, _ in named])
        layers: list[Any] = []
        for name, layer in named:
            if isinstance(layer, Integral) and not isinstance(layer, bool):
                layers.append((BernoulliRBM if layers else first)(int(layer)))
            elif isinstance(layer, BaseRBM) or _is_frozen(layer):
                layers.append(clone(layer))
            else:
                raise ValueError(
                    f"layers: {name} must be a number of hidden units or an estimator of this "
                    f"package, such as BernoulliRBM(64); got {layer!r}."
                )
        constraints = self._parameter_constraints.items()
        for name in [name for name, rule in constraints if rule == "no_validation"]:
            for layer, value in zip(layers, self._of_layers(name, len(layers))):
                if value is not None and not _is_frozen(layer):
                    layer.set_params(**{name: value})
        return layers

    def _of_layers(self, name, n_layers):
        """The values of a parameter, one for each layer."""
        value = getattr(self, name)
        if not isinstance(value, (list, tuple, np.ndarray)):
            return [value] * n_layers
        if len(value) != n_layers:
            raise ValueError(
                f"{name} has {len(value)} values for {n_layers} layers; give one value for each "
                "layer, or a single value for all."
            )
        return value

    # Training

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the layers one after the other, then together if `fine_tune` is set.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data that the first layer accepts.
        y : array-like of shape (n_samples,), default=None
            Labels, used by layers that are classifiers; other layers ignore them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in :meth:`BernoulliRBM.fit`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument or the data are invalid, or if a layer diverges. The estimator is then
            unchanged.
        """
        resume = self.warm_start and self.__sklearn_is_fitted__()
        return self._train(X, y, sample_weight, resume=resume)

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train each layer for one epoch, on the features of the newly trained layers below.

        After "up-down" fine-tuning, train for one epoch of "up-down" instead.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data: any number of rows.
        y : array-like of shape (n_samples,), default=None
            Labels, used by layers that are classifiers.
        classes : array-like of shape (n_classes,), default=None
            All possible labels; a classifier needs them in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        resume = self.__sklearn_is_fitted__()
        return self._train(X, y, sample_weight, resume=resume, partial=True, classes=classes)

    def _train(self, X, y, sample_weight, *, resume, partial=False, classes=None):
        with current().guarded(), unchanged_on_error(self):

            def first(n_components):
                kind = type(self.estimators_[0]) if resume else kind_of_rows(X, sample_weight)
                return kind(n_components)

            layers = self._configured(first)
            self._check_layers(layers)
            if resume and len(layers) != len(self.estimators_):
                raise ValueError(
                    f"layers has {len(layers)} layers, but {len(self.estimators_)} were fitted; "
                    "to continue training, keep the number of layers."
                )
            was_tuned = resume and bool(self.untied_)
            tune = was_tuned or (self.fine_tune is not None and not partial)
            task = self._init_callback_context(max_subtasks=len(layers) + tune)
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            if was_tuned:
                self.estimators_: list[BaseRBM] = [*map(_resumed, layers, self.estimators_)]
            else:
                old = self.estimators_ if resume else None
                given = {"y": y, "classes": classes} if partial else {"y": y}
                self._fit_layers(layers, X, given, sample_weight, task, old=old, partial=partial)
                self.untied_: list[BaseRBM] = []
                self.fine_tuning_: dict = {}
            if tune:
                n_epochs = 1 if partial else self.fine_tune_n_iter
                subtask = task.subcontext(task_name="up-down", max_subtasks=n_epochs)
                self._tune(X, y, sample_weight, subtask, n_epochs)
            task.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def _check_layers(self, layers):
        """Refuse combinations of layers that cannot be trained."""
        for layer, (name, _) in zip(layers, self._named_layers):
            if (layer.estimator if _is_frozen(layer) else layer).output == "field":
                raise ValueError(
                    f'layers: {name} has output="field", but the layers of a stack take means; set '
                    'output="mean" in it.'
                )
        for layer, (name, _) in list(zip(layers, self._named_layers))[1:]:
            if not _is_frozen(layer) and isinstance(layer._encoding(), Table):
                raise ValueError(
                    f"layers: {name} is a {type(layer).__name__}, which can only be the first "
                    "layer: features of a layer are not columns of a table."
                )
        if self.fine_tune is None:
            return
        if current().size > 1:
            raise ValueError(
                'fine_tune="up-down" is not supported inside of data_parallel; set fine_tune=None.'
            )
        if self._residual_shares() is not None:
            raise ValueError('fine_tune="up-down" allows no residual path; set residual=None.')
        if any(getattr(layer, "pool_size", None) for layer in layers[:-1]):
            raise ValueError(
                'fine_tune="up-down" allows no pooled layer below the top; set pool_size=None.'
            )
        if getattr(layers[-1], "objective", None) == "discriminative":
            raise ValueError(
                'fine_tune="up-down" needs states that the top layer generates; set objective='
                '"hybrid" or "generative" in it.'
            )

    def _fit_layers(self, layers, X, given, sample_weight, task, *, old, partial):
        """Fit the layers from the first to the last, and the maxima of their residual paths.

        `given` holds the extra arguments for layers that are classifiers; `old` holds the fitted
        layers to continue from, or is None.
        """
        shares, maxima = self._residual_shares(), []
        rng = generator_of(self.random_state)
        before = self._residuals if old and partial else [None] * len(layers)
        fitted: list[BaseRBM] = []
        for k, layer in enumerate(layers):
            if fitted:
                _set_image_shape(layer, fitted[-1])
            subtask = task.subcontext(task_name="layer")
            layer = self._fit_layer(
                layer, X, given, sample_weight, subtask, rng, old and old[k], partial
            )
            fitted.append(layer)
            residual = None
            if shares is not None:
                residual = _fitted_residual(layer, X, shares, before[k], sample_weight)
                maxima.append(residual.maxima)
            if k + 1 < len(layers):
                X = FittedModel(layer).features(X, residual)
        self.estimators_ = fitted
        self.__dict__.pop("residual_maxima_", None)
        if shares is not None:
            self.residual_maxima_ = np.array(maxima)

    def _fit_layer(self, layer, X, given, sample_weight, task, rng, old, partial):
        """Fit a layer to the features of the layers below."""
        if _is_frozen(layer):
            return layer.estimator
        layer = layer if old is None else _resumed(layer, old)
        train = layer.partial_fit if partial else layer.fit
        labels = given if get_tags(layer).estimator_type == "classifier" else {}
        with random_stream(layer, rng), task.propagate_callback_context(layer):
            task.call_on_fit_task_begin(estimator=self, X=X, y=given["y"])
            train(X, sample_weight=sample_weight, **labels)
            task.call_on_fit_task_end(estimator=self, X=X, y=given["y"])
        return layer

    def _residual_shares(self):
        if self.residual is None:
            return None
        shares = [s for s in self.residual if isinstance(s, Real) and 0 <= s < math.inf]
        if len(shares) != 2 or len(self.residual) != 2 or sum(shares) == 0:
            raise ValueError(
                "residual must be two finite numbers, not negative and not both zero; got "
                f"{self.residual!r}."
            )
        return tuple(float(share) for share in shares)

    def _tune(self, X, y, sample_weight, task, n_epochs):
        """Train all layers together by contrastive wake-sleep."""
        first, top = FittedModel(self.estimators_[0]), self.estimators_[-1]
        rows = first.read(X)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, rows)
        targets, weight = top._validate_targets(y, rows, sample_weight, classes=None, reset=False)
        data = TrainingData(rows, targets, weight, dtype=first.dtype)
        batches = top._batches(data)
        up, down = (
            [FittedModel(layer).layer(batches.device) for layer in layers[:-1]]
            for layers in (self.estimators_, self.generative_)
        )
        top_layer, rng = FittedModel(top).layer(batches.device), copy.deepcopy(top.random_state_)
        trainer = top._trainer(data, batches, rng, resume=True)
        stack = UpDown(trainer, up, down, top_layer, rows.shape[1])
        history = History(self.fine_tuning_)

        def rates(epoch, schedule):
            return self.fine_tune_learning_rate, top.momentum

        schedule = Schedule(history.n_epochs + 1, n_epochs, rates)
        fit = Fit(top, stack, batches, history, schedule, rng, keeps_epochs=False)
        fit.probe = lambda: stack.raised(batches.measured)
        fit.run(task, estimator=self, X=X, y=y)
        tuned = copy.copy(top)
        tuned.__dict__.update(top._fitted_attributes(trainer, History(top.history_), rng))
        lower, untied = (
            [FittedModel(e).replaced(layer.model) for e, layer in zip(estimators, layers)]
            for estimators, layers in ((self.estimators_, up), (self.generative_, down))
        )
        self.estimators_, self.untied_ = [*lower, tuned], untied
        self.fine_tuning_ = history.as_arrays()

    # Methods of a fitted stack

    @returns_like_x
    def transform(self, X: Any) -> np.ndarray:
        """Features of each row, from the top layer or, with `output="all"`, from all layers.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        H : ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        features: Any = list(FittedStack(self).features(X))
        if self.output == "top":
            return features[-1]
        hstack: Any = torch.hstack if dispatches(features[-1]) else np.hstack
        return hstack(features)

    def _below(self, X):
        """The input of the last layer."""
        return FittedStack(self).below(X)

    @returns_like_x
    def inverse_transform(self, X: Any) -> Any:
        """Rows given features: each layer passes down the means of its visible units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            With `output="all"`, only the last columns are used, the features of the top layer.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        n_features = self.estimators_[-1]._n_features_out
        X = as_rows(X)
        X = X if isinstance(X, torch.Tensor) else np.asarray(X)
        if self.output == "all" and X.shape[1:] == (self._n_features_out,):
            X = X[:, -n_features:]
        for layer, residual in zip(self.generative_[::-1], self._residuals[::-1]):
            if residual is not None:
                means = residual.means(torch.as_tensor(X))
                X = means if isinstance(X, torch.Tensor) else means.numpy()
            X = layer.inverse_transform(X)
        return X

    @returns_like_x
    def reconstruction_error(self, X: Any) -> np.ndarray:
        """Mean squared error of the reconstruction of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        error : ndarray of shape (n_samples,)
            The error of `inverse_transform(transform(X))`; categories are compared as one-hot
            vectors.
        """
        first, (*_, H) = FittedModel(self.estimators_[0]), FittedStack(self).features(X)
        rows, again = first.read(X), first.read(self.inverse_transform(H))
        return (((rows.toarray() if issparse(rows) else rows) - again) ** 2).mean(1)

    @returns_like_x
    @validated
    def score_samples(
        self,
        X: Unvalidated,
        *,
        method: Literal["auto", "bound", "top"] = "auto",
        n_draws: PositiveInt = 10,
    ) -> np.ndarray:
        """Log-likelihood bound, or score by the top layer, of each row, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        method : {"auto", "bound", "top"}, default="auto"
            "bound" is the variational lower bound of log p(x). The log Z of the top layer comes
            from :func:`skebm.log_partition`: exact for up to 18 units, else estimated with a fixed
            seed. The expectation over q is the mean of `n_draws` draws with a fixed seed, the same
            for every row. For a single layer the bound is log p(x). "top" is `score_samples` of
            the top layer, applied to the features of the layers below. "auto" is "bound" if the
            stack has a bound, else "top".
        n_draws : int, default=10
            Number of draws for "bound".

        Returns
        -------
        score : ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If `method` is "bound" and the features of a layer are not the means of its units
            (pooled layers, or a residual path).
        """
        check_is_fitted(self)
        if method == "bound" and not self._has_bound:
            raise ValueError(
                'method="bound" needs layers whose features are means of their units; set '
                'pool_size=None below the top and residual=None, or use method="top".'
            )
        if method == "auto" and not self._has_bound:
            warnings.warn(
                "A stack with a residual path or pooled layers has no bound of log p(x): these are "
                'scores of the features below the top layer. method="top" says so without this '
                "warning; scores of different stacks cannot be compared.",
                UserWarning,
                stacklevel=level_of_caller(),
            )
        if method == "top" or not self._has_bound:
            return self.estimators_[-1].score_samples(self._below(X))
        stack = FittedStack(self)
        top = stack.models[-1]
        rows = stack.models[0].read(X)
        with top.computing():
            layers = stack.layers(top.device)
            layers[-1].model = top.exact_rbm()
            down = [FittedModel(layer).rbm(top.device) for layer in self.generative_[:-1]]
            volume = sum(m.log_volume(layer.model) for m, layer in zip(stack.models, layers))
            constant = -volume - kept_log_partition(top.estimator)
            settings: dict[str, Any] = {"dtype": torch.float64, "device": device_of(rows)}
            scores: Any = torch.full(rows.shape[:1], constant, **settings)
            for piece in chunks(rows, sum(layer.model.row_size for layer in layers)):
                tensor = to_device(rows[piece], top.device, stack.models[0].dtype)
                noise = Noise(0, top.device, shared=True)
                for _ in range(n_draws):
                    draw = bound(layers, down, tensor, noise)
                    scores[piece] += draw.double().to(scores.device) / n_draws
        return scores if dispatches(rows) else scores.numpy()

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of :meth:`score_samples`; for a stack that is a classifier, the accuracy.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels, for a classifier.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        if hasattr(self, "predict"):
            return self.estimators_[-1].score(self._below(X), y, sample_weight)
        scores = as_array(self.score_samples(X))
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, scores)
        return float(np.average(scores, weights=sample_weight))

    @validated
    def sample(
        self,
        n_samples: PositiveInt = 1,
        n_steps: NonNegativeInt = 1000,
        *,
        y: Unvalidated = None,
        mean: bool = False,
        method: ChainMethod = "gibbs",
        init: Unvalidated = None,
        temperature: PositiveFloat | None = None,
        random_state: Seed = None,
    ) -> Any:
        """Draw rows: run chains in the top layer, then draw once from each layer below.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows; each is the last state of its own independent chain.
        n_steps : int, default=1000
            Number of Gibbs sweeps in each chain.
        y : label, or array-like of shape (n_samples,), default=None
            One class for all rows, or one for each row, if the top layer is a classifier.
        mean : bool, default=False
            Whether the first layer, which models the rows, returns means instead of a draw, for
            example grey values for images.
        method : {"gibbs", "pt"}, default="gibbs"
            As in :meth:`BernoulliRBM.sample`.
        init : array-like of shape (n_samples, n_features), default=None
            Rows to start from; the chains start at their features below the top layer.
        temperature : float, default=None
            Sample the top layer from p ∝ exp(−E/temperature); None uses its own temperature.
        random_state : int, RandomState instance or None, default=None
            None continues the random stream of the top layer: each call gives new samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Approximate samples, which become exact as `n_steps` grows. In a pooled layer, the
            units of a block are set to their means.
        """
        check_is_fitted(self)
        *below, top = self.generative_
        rng = top.random_state_ if random_state is None else check_random_state(random_state)
        labels = {}
        if y is not None:
            if not hasattr(self, "predict"):
                raise ValueError(
                    "y needs a top layer that is a classifier; pass y=None, or use RBMClassifier."
                )
            labels = {"y": y}
        if mean and not below:
            raise ValueError("mean=True needs a layer below the top; set mean=False.")
        start = None if init is None else self._below(init)
        rows = top.sample(
            n_samples,
            n_steps,
            method=method,
            init=start,
            temperature=temperature,
            random_state=rng,
            **labels,
        )
        for layer, residual in zip(below[::-1], self._residuals[-2::-1]):
            if residual is not None:
                rows = residual.means(torch.as_tensor(rows)).numpy()
            fitted, noise = FittedModel(layer), None
            if not mean or layer is not below[0]:
                noise = Noise(seed_of(rng), fitted.device)
            rows = fitted.reconstruct(rows, noise)
        return rows

    # Methods of a stack whose top layer is a classifier

    predict = OfLastLayer("The most likely class of each row, if the last layer is a classifier.")
    predict_proba = OfLastLayer("p(y | features below the last layer), for each row.")
    predict_log_proba = OfLastLayer("The logarithm of :meth:`predict_proba`.")
    decision_function = OfLastLayer("Scores of the classes, if the last layer is a classifier.")

    @property
    def classes_(self) -> np.ndarray:
        """The labels: ndarray of shape (n_classes,)."""
        return self.estimators_[-1].classes_  # type: ignore[attr-defined]

    # Attributes that come from the layers

    @property
    def history_(self) -> dict[str, np.ndarray]:
        """The epochs of all layers: dict of ndarrays."""
        history = History()
        parts = [*enumerate(layer.history_ for layer in self.estimators_), (-1, self.fine_tuning_)]
        for number, part in parts:
            for values in zip(*part.values()):
                history.append({"layer": number, **dict(zip(part, values))})
        return history.as_arrays()

    @property
    def n_features_in_(self) -> int:
        """Number of features seen during fit."""
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, if X had column names that are all strings."""
        return self.estimators_[0].feature_names_in_

    @property
    def _residuals(self):
        shares = self._residual_shares()
        if shares is None or not hasattr(self, "residual_maxima_"):
            return [None] * len(self.estimators_)
        return [Residual(shares, maxima) for maxima in self.residual_maxima_.tolist()]

    @property
    def generative_(self) -> list[BaseRBM]:
        """The layers of the way down: list of fitted layers."""
        return [*self.untied_, *self.estimators_[len(self.untied_) :]]

    @property
    def _n_features_out(self):
        sizes = [layer._n_features_out for layer in self.estimators_]
        return sizes[-1] if self.output == "top" else sum(sizes)

    @property
    def _has_bound(self):
        """Whether the features of every layer below the top are the means of its hidden units."""
        pooled = [FittedModel(layer).rbm().hidden.block_size > 1 for layer in self.estimators_[:-1]]
        return self.residual is None and not any(pooled)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimators_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        self._set_tags_of_layers(tags)
        return tags


def _is_frozen(layer):
    return isinstance(layer, FrozenEstimator) and isinstance(layer.estimator, BaseRBM)


def kind_of_rows(X, sample_weight):
    """The kind of RBM for these rows: BernoulliRBM for values that are mostly near 0 or 1."""
    sums = current().exchange("the kind of the rows", _sums_of_probabilities(X, sample_weight))
    if any(isinstance(found, type) for found in sums):
        is_gaussian = any(found is GaussianRBM for found in sums)
        return GaussianRBM if is_gaussian else BernoulliRBM
    total, of_squares, n = (np.sum(values, axis=0) for values in zip(*sums))
    return GaussianRBM if noise_share(total / n, of_squares / n) > MOST_NOISE else BernoulliRBM


def _sums_of_probabilities(X, sample_weight):
    """Weighted sums of the rows, of their squares, and of one; or the kind of RBM, if it is clear.

    The kind is clear if the rows are not numbers in [0, 1], or if they are sparse.
    """
    try:
        X = check_array(as_array(X), accept_sparse="csr", ensure_all_finite=False)
    except (TypeError, ValueError):  # training says what is wrong with X
        return BernoulliRBM
    if issparse(X):  # GaussianRBM takes no sparse rows
        return BernoulliRBM
    if X.min() < 0 or X.max() > 1:
        return GaussianRBM
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    total, of_squares, n = np.zeros(X.shape[1]), np.zeros(X.shape[1]), 0.0
    for piece in chunks(X, X.shape[1]):
        w = np.ones(len(X[piece])) if weight is None else weight[piece]
        total, of_squares, n = total + w @ X[piece], of_squares + w @ X[piece] ** 2.0, n + w.sum()
    return total, of_squares, n


def _resumed(layer, fitted):
    """A copy of the fitted layer with the parameters of `layer`, to continue training."""
    if _is_frozen(layer):
        return fitted
    params = layer.get_params(deep=False) | {"warm_start": True}
    return copy.copy(fitted).set_params(**params)


@contextmanager
def random_stream(layer, rng):
    """Let a layer without a `random_state` use `rng` inside the block."""
    has_none = layer.random_state is None
    if has_none:
        layer.set_params(random_state=rng)
    try:
        yield
    finally:
        if has_none:
            layer.set_params(random_state=None)


def _set_image_shape(layer, below):
    """If both are convolutional, use the maps of the layer below as images of this layer."""
    if getattr(layer, "image_shape", None) == "auto" and hasattr(below, "maps_shape_"):
        layer.set_params(image_shape=below.maps_shape_, channels_last=False)


def _fitted_residual(layer, X, shares, before, sample_weight):
    """The residual path of a layer, with maxima over the rows of X."""
    fitted = FittedModel(layer)
    units = fitted.rbm().hidden
    if not (units.is_discrete and units.support == (0.0, 1.0)):
        raise ValueError(
            f"residual needs layers with binary hidden units and no pool_size; got {layer!r}."
        )
    field = fitted.apply(lambda model, v: model.hidden_field(v), X)
    if sample_weight is not None:
        field = field[np.asarray(sample_weight) > 0]
    maxima = (0.0, 0.0) if before is None else before.maxima
    # The features grow with the field.
    highest = torch.as_tensor(field.max() if len(field) else -math.inf)
    highest = max(current().exchange("the largest field", highest))
    return Residual(shares).fitted(highest, maxima)
