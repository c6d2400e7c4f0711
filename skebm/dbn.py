"""DBN: restricted Boltzmann machines, each trained on the features of the one below."""

import copy
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import field
from numbers import Integral, Real

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skebm._shared import estimator
from skebm._sklearn import (
    BaseComposition,
    Interval,
    StrOptions,
    check_sample_weight,
    fit_context,
    validate_params,
)
from skebm.base import BaseRBM
from skebm.encoding import Encoding
from skebm.engine.batches import chunks, to_device
from skebm.engine.noise import Noise
from skebm.engine.stack import Residual, bound
from skebm.engine.updown import UpDown
from skebm.evaluation import kept_log_partition
from skebm.fitted import FittedModel, FittedStack
from skebm.fitting import Fit, History, Schedule, TrainingData, seed_of, unchanged_on_error
from skebm.rbm import BernoulliRBM

#: Parameters of the layers that the stack can set in all of them.
OF_LAYERS = (
    "learning_rate",
    "learning_rate_schedule",
    "batch_size",
    "n_iter",
    "gradient",
    "momentum",
    "weight_decay",
    "temperature",
    "device",
    "precision",
    "verbose",
)


class OfLastLayer:
    """A method of the last layer, which is given what the layers below make of the rows.

    The stack has it where the last layer has it, before and after fit.
    """

    def __init__(self, summary):
        self.summary = summary

    def __set_name__(self, owner, name):
        def is_there(stack):
            is_fitted = stack.__sklearn_is_fitted__()
            getattr(stack.estimators_[-1] if is_fitted else stack._last_layer, name)
            return True

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
            As that of the last layer.
        """


@estimator
class DBN(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseComposition,
):
    """Deep belief network: a stack of restricted Boltzmann machines.

    Each layer is trained on exactly what `transform` of the layer below gives [1]_. What comes
    out of it, x = h_0, is a model of rows in which the top machine makes h_{L−1}, and the layers
    below pass it down ::

        p(x)  = Σ_h p(x | h_1) p(h_1 | h_2) … p_top(h_{L−1})
        log p(x) ≥ Σ_k E_q[log p(h_{k−1} | h_k) − log q(h_k | h_{k−1})] + E_q[log p_top(h_{L−1})]

    where q(h_k | h_{k−1}), a layer's law of its hidden units, also gives the features. With
    `fine_tune="up-down"` all layers are then trained together, by contrastive wake-sleep [1]_:
    the way up and the way down get weights of their own.

    Parameters
    ----------
    layers : sequence, default=(256, 128)
        The layers, from the data up: each a number, which stands for a :class:`BernoulliRBM` with
        so many hidden units, an estimator of this package, or a pair of a name and one of these. A
        grid search reaches a layer by its name, and its parameters as `name__parameter`; layers
        without a name are called layer1, layer2, … A fitted layer in a
        :class:`~sklearn.frozen.FrozenEstimator` is taken as it is. The images of a
        :class:`ConvRBM` on another one are the maps of the one below. A last layer that is an
        :class:`RBMClassifier` is given the labels, and the stack is a classifier [1]_.
    learning_rate, learning_rate_schedule, batch_size, n_iter, gradient, momentum, weight_decay, \
            temperature, device, precision, verbose : a value, a sequence or None, default=None
        Parameters of the layers: a value is set in all of them, a sequence has one for each
        layer. None, also in a sequence, leaves a layer what it has.
    output : {"top", "all"}, default="top"
        What `transform` gives: the features of the top layer, or those of all layers side by side.
    residual : tuple of two floats or None, default=None
        ζ₁ and ζ₂ of a residual path around the units of every layer [2]_: with a = c + W v, its
        features are (ζ₁ σ(a) + ζ₂ max(a, 0) / r) / m, where r is the largest a over the training
        rows, and m the largest result, if that is above 1. (1, 0) is as good as None. It needs
        layers with binary hidden units.
    fine_tune : {"up-down"} or None, default=None
        Whether the layers are trained together in the end.
    fine_tune_n_iter : int, default=10
        Number of epochs of it.
    fine_tune_learning_rate : float, default=0.01
        Learning rate of it.
    warm_start : bool, default=False
        Whether a second call of `fit` goes on from the first: each layer does, from the first to
        the last; after "up-down" all layers together.
    random_state : int, RandomState instance or None, default=None
        Seeds the layers that have no `random_state` of their own: they draw from it one after
        another.

    Attributes
    ----------
    estimators_ : list
        The fitted layers. Their hidden units given their visible ones are the way up.
    generative_ : list
        The way down: layers whose visible units given their hidden ones lead from one level to
        the next. Those of `estimators_`, until "up-down" has given it weights of its own.
    residual_maxima_ : ndarray of shape (n_layers, 2)
        r and m of each layer, with `residual`.
    history_ : dict of ndarrays
        One entry for each epoch of each layer: "layer", from 0 on, and what the `history_` of the
        layers has. −1 stands for epochs of "up-down".
    classes_ : ndarray of shape (n_classes,)
        The labels, where the top layer is a classifier.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are strings.

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

    layers: Sequence = field(default=(256, 128), kw_only=False)
    learning_rate: float | Sequence | None = None
    learning_rate_schedule: str | Sequence | None = None
    batch_size: int | Sequence | None = None
    n_iter: int | Sequence | None = None
    gradient: object = None
    momentum: float | Sequence | None = None
    weight_decay: float | Sequence | None = None
    temperature: float | Sequence | None = None
    device: str | Sequence | None = None
    precision: str | Sequence | None = None
    verbose: int | Sequence | None = None
    output: str = "top"
    residual: tuple[float, float] | None = None
    fine_tune: str | None = None
    fine_tune_n_iter: int = 10
    fine_tune_learning_rate: float = 0.01
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints = {
        "layers": [list, tuple],
        **dict.fromkeys(OF_LAYERS, "no_validation"),
        "output": [StrOptions({"top", "all"})],
        "residual": [list, tuple, None],
        "fine_tune": [StrOptions({"up-down"}), None],
        "fine_tune_n_iter": [Interval(Integral, 0, None, closed="left")],
        "fine_tune_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    # The layers and their parameters

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

    def get_params(self, deep=True):
        """The parameters of this estimator, with deep=True also the layers and theirs.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        params : dict
        """
        return self._get_params("_named_layers", deep=deep)

    def set_params(self, **params):
        """Set parameters of this estimator, its layers by their names, and theirs.

        Parameters
        ----------
        **params : dict
            Such as `layer1=GaussianRBM(64)` or `layer1__learning_rate=0.1`.

        Returns
        -------
        self : object
        """
        if "layers" in params:
            self.layers = params.pop("layers")
        return self._set_params("_named_layers", **params)

    def _configured(self):
        """The layers as they are to be fitted, and how a message names each."""
        named = self._named_layers
        if not named:
            raise ValueError("layers must have at least one layer; got none.")
        self._validate_names([name for name, _ in named])
        layers = []
        for name, layer in named:
            if isinstance(layer, Integral) and not isinstance(layer, bool):
                layers.append(BernoulliRBM(layer))
            elif isinstance(layer, BaseRBM) or _is_frozen(layer):
                layers.append(clone(layer))
            else:
                raise ValueError(
                    f"layers: {name} must be a number of hidden units or an estimator of this "
                    f"package, such as BernoulliRBM(64); got {layer!r}."
                )
        for name in OF_LAYERS:
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
                f"{name} has {len(value)} values for {n_layers} layers; give one for each, or a "
                "single one for all."
            )
        return value

    # Training

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Train the layers, one after another, and where `fine_tune` says so all together.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data, of the kind that the first layer takes.
        y : array-like of shape (n_samples,), default=None
            Labels, for layers that are classifiers; others ignore them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in :meth:`BernoulliRBM.fit`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            Where an argument or the data are invalid, and where a layer diverges. The estimator
            is then as it was before the call.
        """
        resume = self.warm_start and self.__sklearn_is_fitted__()
        return self._train(X, y, sample_weight, resume=resume)

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        """Train each layer for one epoch, on what those below, just trained, make of the rows.

        After "up-down", an epoch of that.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data: any number of rows.
        y : array-like of shape (n_samples,), default=None
            Labels, for layers that are classifiers.
        classes : array-like of shape (n_classes,), default=None
            All labels that there are; a classifier needs them in the first call.
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
        with unchanged_on_error(self):
            layers = self._configured()
            if self.fine_tune is not None and self._residual_shares() is not None:
                raise ValueError('fine_tune="up-down" has no residual path; set residual=None.')
            if resume and len(layers) != len(self.estimators_):
                raise ValueError(
                    f"layers has {len(layers)} layers, but {len(self.estimators_)} were fitted; "
                    "training goes on only with as many."
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

    def _fit_layers(self, layers, X, given, sample_weight, task, *, old, partial):
        """Fit the layers from the first to the last, and the maxima of their residual paths.

        `given` is what layers that are classifiers get besides, `old` are the fitted layers that
        training goes on from.
        """
        shares, maxima = self._residual_shares(), []
        rng = check_random_state(self.random_state)
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
        """A layer, fitted to what the layers below make of the rows."""
        if _is_frozen(layer):
            return layer.estimator
        layer = layer if old is None else _resumed(layer, old)
        train = layer.partial_fit if partial else layer.fit
        labels = given if get_tags(layer).estimator_type == "classifier" else {}
        with _stream(layer, rng), task.propagate_callback_context(layer):
            task.call_on_fit_task_begin(estimator=self, X=X)
            train(X, sample_weight=sample_weight, **labels)
            task.call_on_fit_task_end(estimator=self, X=X)
        return layer

    def _residual_shares(self):
        if self.residual is None:
            return None
        shares = [s for s in self.residual if isinstance(s, Real) and s >= 0]
        if len(shares) != 2 or len(self.residual) != 2 or sum(shares) == 0:
            raise ValueError(
                "residual must be two numbers, none negative and not both zero; got "
                f"{self.residual!r}."
            )
        return tuple(float(share) for share in shares)

    def _tune(self, X, y, sample_weight, task, n_epochs):
        """Contrastive wake-sleep: epochs of all layers together."""
        first, top = FittedModel(self.estimators_[0]), self.estimators_[-1]
        rows = first.read(X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        targets, weight = top._validate_targets(y, rows, sample_weight, classes=None, reset=False)
        batches = top._batches(TrainingData(rows, targets, weight), first.dtype, Encoding().encode)
        up, down = (
            [FittedModel(layer).layer(batches.device) for layer in layers[:-1]]
            for layers in (self.estimators_, self.generative_)
        )
        top_layer, rng = FittedModel(top).layer(batches.device), copy.deepcopy(top.random_state_)
        trainer = top._trainer(TrainingData(rows, targets), batches, rng, resume=True)
        stack = UpDown(trainer, up, down, top_layer, rows.shape[1])
        history = History(self.fine_tuning_)

        def rates(epoch, schedule):
            return self.fine_tune_learning_rate, top.momentum

        schedule = Schedule(history.n_epochs + 1, n_epochs, rates)
        fit = Fit(
            top, stack, batches, history, schedule, rng, probe=lambda: stack.raised(batches.probe)
        )
        fit.run(task, estimator=self, X=X, y=y)
        tuned = copy.copy(top)
        tuned.__dict__.pop("_log_z", None)
        tuned.__dict__.update(top._fitted_attributes(trainer, History(top.history_), rng))
        lower, untied = (
            [FittedModel(e).replaced(layer.model) for e, layer in zip(estimators, layers)]
            for estimators, layers in ((self.estimators_, up), (self.generative_, down))
        )
        self.estimators_, self.untied_ = [*lower, tuned], untied
        self.fine_tuning_ = history.as_arrays()

    # What a fitted stack can do

    def transform(self, X):
        """Features of each row: those of the top layer, or with `output="all"` of all layers.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        H : ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        features = list(FittedStack(self).features(X))
        return features[-1] if self.output == "top" else np.hstack(features)

    def _below(self, X):
        """What the last layer is given."""
        return FittedStack(self).below(X)

    def inverse_transform(self, H):
        """Rows, of features: from layer to layer, the means of the visible units.

        Parameters
        ----------
        H : array-like of shape (n_samples, n_features_out)
            With `output="all"` those of the top layer, which stand last, count.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        n_features = self.estimators_[-1]._n_features_out
        if self.output == "all" and np.shape(H)[1:] == (self._n_features_out,):
            H = np.asarray(H)[:, -n_features:]
        for layer, residual in zip(self.generative_[::-1], self._residuals[::-1]):
            if residual is not None:
                H = residual.means(torch.as_tensor(np.asarray(H))).numpy()
            H = layer.inverse_transform(H)
        return H

    def reconstruction_error(self, X):
        """Mean squared error of each row that comes up and down again.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        error : ndarray of shape (n_samples,)
            Of `inverse_transform(transform(X))`; of a table in numbers, one-hot for categories.
        """
        first, (*_, H) = FittedModel(self.estimators_[0]), FittedStack(self).features(X)
        rows, again = first.read(X), first.read(self.inverse_transform(H))
        return np.square((rows.toarray() if issparse(rows) else rows) - again).mean(1)

    @validate_params(
        {
            "X": "no_validation",
            "method": [StrOptions({"auto", "bound", "top"})],
            "n_draws": [Interval(Integral, 1, None, closed="left")],
        },
        prefer_skip_nested_validation=True,
    )
    def score_samples(self, X, *, method="auto", n_draws=10):
        """How likely each row is, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        method : {"auto", "bound", "top"}, default="auto"
            "auto" is "bound" where there is one. "bound": the variational lower bound of log p(x),
            with log Z of the top layer as in :func:`skebm.log_partition`, exact for up to 18 units
            and else estimated with a fixed seed. The expectation over q is the mean of `n_draws`
            draws, also with a fixed seed, the same for every row. Of a single layer it is
            log p(x). "top": what `score_samples`
            of the top layer says of what the layers below make of the row.
        n_draws : int, default=10
            Number of draws for "bound".

        Returns
        -------
        score : ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            For "bound", where the features of a layer are no means of its units: pooled layers,
            and a residual path.
        """
        check_is_fitted(self)
        if method == "bound" and not self._has_bound:
            raise ValueError(
                'method="bound" needs layers whose features are means of their units: no pool_size '
                "below the top, and residual=None."
            )
        if method == "top" or not self._has_bound:
            return self.estimators_[-1].score_samples(self._below(X))
        stack = FittedStack(self)
        top = stack.models[-1]
        rows = stack.models[0].read(X)
        with torch.inference_mode():
            layers = stack.layers(top.device)
            layers[-1].model = top.exact_law()
            down = [FittedModel(layer).rbm(top.device) for layer in self.generative_[:-1]]
            volume = sum(m.log_volume(layer.model) for m, layer in zip(stack.models, layers))
            scores = np.full(rows.shape[0], -volume - kept_log_partition(top.estimator))
            for piece in chunks(rows, sum(layer.model.row_size for layer in layers)):
                tensor = to_device(rows[piece], top.device, stack.models[0].dtype)
                noise = Noise(0, top.device, alike=True)
                for _ in range(n_draws):
                    draw = bound(layers, down, tensor, noise)
                    scores[piece] += draw.double().cpu().numpy() / n_draws
        return scores

    def score(self, X, y=None, sample_weight=None):
        """Mean of :meth:`score_samples`; of a stack that is a classifier, the accuracy.

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
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X, ensure_non_negative=True)
        return float(np.average(scores, weights=sample_weight))

    @validate_params(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            "n_steps": [Interval(Integral, 0, None, closed="left")],
            "y": "no_validation",
            "mean": ["boolean"],
            "method": [StrOptions({"gibbs", "pt"})],
            "init": "no_validation",
            "temperature": [Interval(Real, 0, None, closed="neither"), None],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def sample(
        self,
        n_samples=1,
        n_steps=1000,
        *,
        y=None,
        mean=False,
        method="gibbs",
        init=None,
        temperature=None,
        random_state=None,
    ):
        """Draw rows: chains in the top layer, then one draw from each layer on the way down.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows: the ends of as many independent chains.
        n_steps : int, default=1000
            Sweeps in each chain.
        y : label, or array-like of shape (n_samples,), default=None
            The class, or the class of each row, where the top layer is a classifier.
        mean : bool, default=False
            Whether the last layer on the way, that of the rows, gives its means instead of a draw:
            grey values for pictures.
        method : {"gibbs", "pt"}, default="gibbs"
            As in :meth:`BernoulliRBM.sample`.
        init : array-like of shape (n_samples, n_features), default=None
            Rows that the chains start from, as the layers below the top see them.
        temperature : float, default=None
            The top is sampled at, p ∝ exp(−E/temperature); None takes its own temperature.
        random_state : int, RandomState instance or None, default=None
            None goes on with the stream of the top layer: another call gives other samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Approximate samples: exact as `n_steps` grows. Where a layer is pooled, the units of a
            block are given their means.
        """
        check_is_fitted(self)
        *below, top = self.generative_
        rng = top.random_state_ if random_state is None else check_random_state(random_state)
        labels = {}
        if y is not None:
            if not hasattr(self, "predict"):
                raise ValueError("y needs a top layer that is a classifier, RBMClassifier.")
            labels = {"y": y}
        if mean and not below:
            raise ValueError("mean=True needs a layer below the top, whose means it gives.")
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

    # Where the top layer is a classifier

    predict = OfLastLayer("The likeliest class of each row, where the last layer is a classifier.")
    predict_proba = OfLastLayer("p(y | what the layers below the last one make of the row).")
    predict_log_proba = OfLastLayer("The logarithm of :meth:`predict_proba`.")
    decision_function = OfLastLayer("Scores of the classes, where the last layer is a classifier.")

    @property
    def classes_(self):
        """The labels: ndarray of shape (n_classes,)."""
        return self.estimators_[-1].classes_

    # What is known of the layers

    @property
    def history_(self):
        """The epochs of all layers: dict of ndarrays."""
        history = History()
        parts = [*enumerate(layer.history_ for layer in self.estimators_), (-1, self.fine_tuning_)]
        for number, part in parts:
            for values in zip(*part.values()):
                history.append({"layer": number, **dict(zip(part, values))})
        return history.as_arrays()

    @property
    def n_features_in_(self):
        """Number of features seen during fit."""
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self):
        """Names of the features, where X had names that are strings."""
        return self.estimators_[0].feature_names_in_

    @property
    def _residuals(self):
        shares = self._residual_shares()
        if shares is None or not hasattr(self, "residual_maxima_"):
            return [None] * len(self.estimators_)
        return [Residual(shares, maxima) for maxima in self.residual_maxima_.tolist()]

    @property
    def generative_(self):
        """The way down: list of fitted layers."""
        return [*self.untied_, *self.estimators_[len(self.untied_) :]]

    @property
    def _n_features_out(self):
        sizes = [layer._n_features_out for layer in self.estimators_]
        return sizes[-1] if self.output == "top" else sum(sizes)

    @property
    def _has_bound(self):
        """Whether the features that a layer gives the next one are means of its units."""
        pooled = [FittedModel(layer).rbm().hidden.block_size > 1 for layer in self.estimators_[:-1]]
        return self.residual is None and not any(pooled)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimators_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        named = self._named_layers
        first, last = (
            layer if hasattr(layer, "fit") else BernoulliRBM()
            for _, layer in (named[:1] + named[-1:] or [(None, None)] * 2)
        )
        tags.input_tags = copy.deepcopy(get_tags(first).input_tags)
        of_last = get_tags(last)
        tags.estimator_type = of_last.estimator_type
        tags.classifier_tags = copy.deepcopy(of_last.classifier_tags)
        tags.target_tags = copy.deepcopy(of_last.target_tags)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _is_frozen(layer):
    return isinstance(layer, FrozenEstimator) and isinstance(layer.estimator, BaseRBM)


def _resumed(layer, fitted):
    """The fitted layer, with the parameters of the other, ready to go on."""
    if _is_frozen(layer):
        return fitted
    params = layer.get_params(deep=False) | {"warm_start": True}
    return copy.copy(fitted).set_params(**params)


@contextmanager
def _stream(layer, rng):
    """Let a layer that has no random stream of its own draw from another."""
    has_none = layer.random_state is None
    if has_none:
        layer.set_params(random_state=rng)
    try:
        yield
    finally:
        if has_none:
            layer.set_params(random_state=None)


def _set_image_shape(layer, below):
    """Let a layer of images take the maps of the layer below for its images."""
    if getattr(layer, "image_shape", None) == "auto" and hasattr(below, "maps_shape_"):
        layer.set_params(image_shape=below.maps_shape_, channels_last=False)


def _fitted_residual(layer, X, shares, before, sample_weight):
    """The residual path of a layer, with maxima over the rows of X."""
    fitted = FittedModel(layer)
    units = fitted.rbm().hidden
    if not (units.is_discrete and units.support == (0.0, 1.0)):
        raise ValueError(
            f"residual needs layers with binary hidden units, and no pool_size; got {layer!r}."
        )
    field = fitted.apply(lambda model, v: model.hidden_field(v), X)
    if sample_weight is not None:
        field = field[np.asarray(sample_weight) > 0]
    maxima = (0.0, 0.0) if before is None else before.maxima
    return Residual(shares).fitted(torch.from_numpy(field), maxima)
