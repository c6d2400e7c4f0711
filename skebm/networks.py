"""DBNClassifier, DBNRegressor: a stack and a linear output, fine-tuned by backpropagation.

output = V x_L + d,   x_k = features_k(c_k + W_k x_{k−1}),   all of V, d, W_k, c_k trained
"""

import copy
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, check_consistent_length, get_tags
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    documented,
    estimator,
)
from skebm._sklearn import RegressorMixin, fit_context, num_samples
from skebm.dbm import DBM
from skebm.dbn import DBN, random_stream
from skebm.encoding import moments
from skebm.engine import devices
from skebm.engine.backprop import Backprop, Network, cross_entropy, squared_error
from skebm.engine.batches import in_pieces
from skebm.engine.noise import seed_of
from skebm.engine.parallel import current
from skebm.engine.stack import Layer
from skebm.fitted import FittedModel, FittedStack
from skebm.fitting import Trained, TrainingData, as_numpy, as_tensor
from skebm.targets import ClassifierTargets, is_minus_one
from skebm.tensors import check_weights, returns_like_x


class NetworkAttributes:
    """The types of the attributes of a fitted network."""

    dbn_: DBN
    coef_: np.ndarray
    intercept_: np.ndarray


@estimator
class BaseNetwork(NetworkAttributes, Trained):
    """Base class of the classifier and the regressor: a stack and a linear output layer."""

    layers: list | tuple | DBN | DBM | FrozenEstimator = field(default=(256, 128), kw_only=False)
    pretrain: bool = True
    posterior_inputs: bool = False
    init: Literal["pretrained", "default", "scaled"] = "pretrained"
    freeze: NonNegativeInt | Literal["all"] = 0
    learning_rate: PositiveFloat = 0.001
    batch_size: PositiveInt = 64
    n_iter: NonNegativeInt | None = None
    optimizer: Literal["sgd", "adam"] = "adam"
    dropout: Probability = 0.0
    input_dropout: Probability = 0.0

    _epochs = (1000, 10, 50)
    _n_first_tasks = 1
    _loss: ClassVar[Callable]

    # Training

    def _targets(self, y, X, sample_weight, *, reset, classes):
        """Validate y; return the target outputs of each row and the weights of the rows."""
        raise NotImplementedError

    def _prepare_training(
        self, X, y, sample_weight, *, task, rng, resume, classes=None, **settings
    ):
        given = sample_weight
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, X, dtype=np.float64)
        targets, weight = self._targets(y, X, sample_weight, reset=not resume, classes=classes)
        if not resume:
            self.dbn_ = self._stack(X, y, given, task, rng)
        first = FittedModel(self.dbn_.estimators_[0])
        dtype = self.coef_.dtype if resume else None
        scaling = first.scaling(devices.resolve(self.device))
        return TrainingData(first.read(X), targets, weight, scaling, dtype)

    def _row_products(self, data):
        return sum(layer.components_.size for layer in self.dbn_.estimators_)

    def _stack(self, X, y, sample_weight, task, rng):
        """The stack to fine-tune: a copy of a fitted one, or a newly trained one."""
        init, subtask = self._init, task.subcontext(task_name="pre-training")
        given = self.layers.estimator if isinstance(self.layers, FrozenEstimator) else self.layers
        if isinstance(given, DBN | DBM) and given.__sklearn_is_fitted__():
            stack = copy.deepcopy(given)  # its random stream, too
            return self._network_of(stack)
        if given is not self.layers:
            raise ValueError(
                f"layers={self.layers} must hold a DBN or DBM that is fitted; fit it before it is "
                "frozen."
            )
        stack = clone(given) if isinstance(given, DBN | DBM) else DBN(clone(given, safe=False))
        if init == "default":  # only the shapes and the scaling of the stack are used
            untrained = {"pretrain": False} if isinstance(stack, DBM) else {"fine_tune": None}
            stack.set_params(n_iter=0, **untrained)
        for name in ("device", "verbose"):
            if getattr(stack, name) is None:
                stack.set_params(**{name: getattr(self, name)})
        with random_stream(stack, rng), subtask.propagate_callback_context(stack):
            subtask.call_on_fit_task_begin(estimator=self, X=X, y=y)
            stack.fit(X, y, sample_weight)
            subtask.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self._network_of(stack)

    def _network_of(self, stack):
        """The fitted stack as layers from the rows to the top."""
        if isinstance(stack, DBM):
            return stack.as_dbn(posterior_inputs=self.posterior_inputs)
        if self.posterior_inputs:
            raise ValueError(
                "posterior_inputs=True needs a DBM, in which what is above a layer counts; set it "
                "to False, or pass layers=DBM(...)."
            )
        return stack

    @property
    def _init(self):
        """How to initialise the hidden layers."""
        if not self.pretrain and self.init == "scaled":
            raise ValueError(
                'init="scaled" takes the scale of pre-trained weights; set pretrain=True.'
            )
        return self.init if self.pretrain else "default"

    def _trainer(self, data, batches, rng, resume):
        dtype = getattr(torch, batches.dtype.name)
        layers = FittedStack(self.dbn_).layers(batches.device, self.precision, dtype)
        layers[0] = Layer(layers[0].model, residual=layers[0].residual)  # batches are encoded
        if resume:
            V, d = (as_tensor(a, batches.device, dtype) for a in (self.coef_, self.intercept_))
        else:
            self._initialise(layers, rng)
            n_outputs = data.targets.shape[1]
            n_features = self.dbn_.estimators_[-1]._n_features_out
            V = _uniform(rng, (n_outputs, n_features), n_features).to(batches.device, dtype)
            d = _uniform(rng, (n_outputs,), n_features).to(batches.device, dtype)
        n_frozen = len(layers) if isinstance(self.freeze, str) else self.freeze
        if n_frozen > len(layers):
            raise ValueError(
                f"freeze={self.freeze}, but there are {len(layers)} layers; set a number up to "
                "this."
            )
        trainer = Backprop(
            Network(layers, V, d, n_frozen),
            self._loss,
            (batches.batch_size, len(batches.mean)),
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            max_norm=self.max_norm,
            dropout=(self.input_dropout, self.dropout),
            processes=batches.processes,
        )
        if resume:
            self._load_state(trainer, batches.device)
        return trainer

    def _initialise(self, layers, rng):
        """Replace the weights of the stack if `init` is "default" or "scaled"."""
        # A new stream, since the stack may have drawn its weights from the same one.
        rng = np.random.default_rng(seed_of(rng))
        for layer in layers:
            W, c = layer.model.W, layer.model.c
            if self._init == "default":
                W.copy_(_uniform(rng, W.shape, W[0].numel()))
                c.copy_(_uniform(rng, c.shape, W[0].numel()))
            elif self._init == "scaled":
                scale = W.square().mean().sqrt().item()
                W.copy_(torch.from_numpy(rng.normal(0, scale, W.shape)))
                c.fill_(c.mean())

    def _is_done(self, history, schedule):
        if self.n_iter is not None or self.early_stopping:
            return False
        losses = self._losses(history)[schedule.first - 1 :]
        best = min(losses[: -self.n_iter_no_change], default=np.inf)
        return bool(len(losses)) and min(losses) > best - self.tol

    def _losses(self, history):
        """The loss of the training rows after each epoch."""
        raise NotImplementedError

    def _training_settings(self):
        momentum = self.momentum > 0
        return {"optimizer": self.optimizer, "momentum": momentum, "freeze": self.freeze}

    def _parameters(self, model):
        return {
            "dbn_": FittedStack(self.dbn_).replaced([layer.model for layer in model.layers]),
            "coef_": as_numpy(model.V),
            "intercept_": as_numpy(model.d),
        }

    def _measure(self, model, rows):
        x, target = rows.to(model.V).split([rows.shape[1] - len(model.d), len(model.d)], 1)
        with torch.inference_mode():
            outputs = [model(piece) for piece in in_pieces(x, model.row_size)]
            return self._figures(torch.cat(outputs), target)

    def _figures(self, output, target):
        """Measures of the outputs, by their names in `history_`."""
        raise NotImplementedError

    # Methods of a fitted network

    def _linear(self, X):
        """The outputs for each row: (n_samples, n_outputs)."""
        check_is_fitted(self)
        *_, H = FittedStack(self.dbn_).features(X)
        if isinstance(H, torch.Tensor):
            V, d = (as_tensor(a, H.device) for a in (self.coef_, self.intercept_))
            with devices.precision(H.device):
                return torch.addmm(d, H, V.T)
        return H @ self.coef_.T + self.intercept_

    @property
    def n_features_in_(self) -> int:
        """Number of features seen during fit."""
        return self.dbn_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, if X had column names that are all strings."""
        return self.dbn_.feature_names_in_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        given = self.layers.estimator if isinstance(self.layers, FrozenEstimator) else self.layers
        stack = given if isinstance(given, DBN | DBM) else DBN(given)
        tags.input_tags = copy.deepcopy(get_tags(stack).input_tags)
        return tags


@estimator
class DBNClassifier(ClassifierTargets, BaseNetwork):
    """Classifier: a deep belief network with a linear output, fine-tuned by backpropagation.

    The stack of a :class:`DBN` is trained greedily on the rows. Then it becomes a network that
    computes p(y | x), and all its weights are trained by backpropagation [1]_ ::

        p(y | x) = softmax(V x_L + d),     x_k = features_k(c_k + W_k x_{k−1}),     x_0 = x
        minimised: −log p(y | x), mean over rows, + ½ weight_decay ‖W, V‖²

    The features x_k are the output of `transform` of a layer: σ(c_k + W_k x_{k−1}) for binary
    units, the means for other units, and the pooled features for pooled units. Rows without
    a label are used in pre-training, but not in fine-tuning.

    Parameters
    ----------
    %(stack)s
    learning_rate : float, default=0.001
        Learning rate of the optimiser.
    batch_size : int, default=64
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs of fine-tuning. None makes as many as 1000 updates take, at least 10 and at
        most 50; without `early_stopping`, it ends when the loss of the training rows has not
        fallen by more than `tol` for `n_iter_no_change` epochs.
    %(trained)s
    %(unlabeled)s
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; in fine-tuning, `sample_weight` is multiplied by them. "balanced"
        means n_samples / (n_classes · n_samples_of_class).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    dbn_ : DBN
        The fine-tuned stack: `dbn_.transform` gives the features that the output layer sees.
    coef_ : ndarray of shape (n_classes, n_top_features)
        Weights V of the output layer.
    intercept_ : ndarray of shape (n_classes,)
        Biases d of the output layer.
    %(network)s

    Notes
    -----
    `history_` has "log_loss" (in nats) and "accuracy" on up to 1000 training rows. The history of
    pre-training is in `dbn_.history_`. For a generative classifier, with the labels as visible
    units of the top layer, use a :class:`DBN` whose last layer is an :class:`RBMClassifier`.

    See Also
    --------
    DBN : The stack alone, for a pipeline.
    RBMClassifier : One layer, whose p(y | x) is exact.

    References
    ----------
    .. [1] G. E. Hinton, R. R. Salakhutdinov (2006). Reducing the dimensionality of data with
       neural networks. Science 313.
    .. [2] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov (2014). Dropout:
       a simple way to prevent neural networks from overfitting. JMLR 15.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import DBNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = DBNClassifier((128, 64), random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> clf.score(X[1000:] / 16, y[1000:]) > 0.9
    True
    """

    unlabeled: Literal["auto", -1] | None = "auto"
    class_weight: dict | Literal["balanced"] | None = None

    _loss = staticmethod(cross_entropy)

    def _targets(self, y, X, sample_weight, *, reset, classes):
        one_hot, weight = self._one_hot(y, X, sample_weight, classes=classes, reset=reset)
        self._class_shares(one_hot, weight)
        return one_hot, weight

    def _n_rows(self, X, y):
        if y is None or self.unlabeled is None:
            return num_samples(X)
        return int((~is_minus_one(np.asarray(y))).sum())

    def _losses(self, history):
        return history.columns.get("log_loss", [])

    def _held_out_scores(self, model):
        return lambda rows, targets: (model(rows).argmax(1) == targets.argmax(1)).double()

    def _figures(self, output, target):
        right = output.argmax(1) == target.argmax(1)
        return {
            "log_loss": self._loss(output, target).mean().item(),
            "accuracy": right.double().mean().item(),
        }

    @returns_like_x
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y | x) of every class.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
            In nats, in the order of `classes_`.
        """
        output = self._linear(X)
        is_tensor = isinstance(output, torch.Tensor)
        return output.log_softmax(1) if is_tensor else log_softmax(output, axis=1)


@estimator
class DBNRegressor(RegressorMixin, BaseNetwork):
    """Regressor: a deep belief network with a linear output, fine-tuned by backpropagation.

    The stack of a :class:`DBN` is trained greedily on the rows. Then it becomes a network that
    predicts y, and all its weights are trained by backpropagation [1]_ ::

        y(x) = location + scale · (V x_L + d),     x_k = features_k(c_k + W_k x_{k−1}),     x_0 = x
        minimised: ½ Σ_j (y_j − y_j(x))² / scale_j², mean over rows, + ½ weight_decay ‖W, V‖²

    Parameters
    ----------
    %(stack)s
    learning_rate : float, default=0.001
        Learning rate of the optimiser.
    batch_size : int, default=64
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs of fine-tuning. None makes as many as 1000 updates take, at least 10 and at
        most 50; without `early_stopping`, it ends when the loss of the training rows has not
        fallen by more than `tol` for `n_iter_no_change` epochs.
    %(trained)s

    Attributes
    ----------
    dbn_ : DBN
        The fine-tuned stack: `dbn_.transform` gives the features that the output layer sees.
    coef_ : ndarray of shape (n_outputs, n_top_features)
        Weights V of the output layer.
    intercept_ : ndarray of shape (n_outputs,)
        Biases d of the output layer.
    target_location_ : ndarray of shape (n_outputs,)
        Means of the targets.
    target_scale_ : ndarray of shape (n_outputs,)
        Standard deviations of the targets; 1 for a constant target.
    %(network)s

    Notes
    -----
    `history_` has the "mean_squared_error" on up to 1000 training rows. The history of pre-training
    is in `dbn_.history_`.

    See Also
    --------
    DBN : The stack alone, for a pipeline.
    DBNClassifier : The same for labels.

    References
    ----------
    .. [1] G. E. Hinton, R. R. Salakhutdinov (2006). Reducing the dimensionality of data with
       neural networks. Science 313.
    .. [2] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov (2014). Dropout:
       a simple way to prevent neural networks from overfitting. JMLR 15.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skebm import DBNRegressor, GaussianRBM
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = DBNRegressor([GaussianRBM(32)], n_iter=100, random_state=0).fit(X[:300], y[:300])
    >>> model.score(X[300:], y[300:]) > 0.4
    True
    """

    _loss = staticmethod(squared_error)
    _held_out = "The score is minus the mean squared error."
    _reported = {"mean_squared_error": "mean squared error = {:.4g}"}

    @documented
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Pre-train the stack, then fine-tune the whole network.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data that the first layer accepts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; NaN where a target is unknown. Rows without any target are used in
            pre-training alone.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. If all weights are integers, and at most 10 on average, the fit is
            the same, bit for bit, as if each row was repeated that many times. Other weights are
            relative.

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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fine-tune for one epoch, starting from the current parameters.

        The first call pre-trains the stack on its rows, as `fit` does, and computes the location
        and scale of the targets from these rows. `early_stopping` is ignored.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data: any number of rows, which are split into batches of `batch_size`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; NaN where a target is unknown.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._partial_fit(X, y, sample_weight)

    def _targets(self, y, X, sample_weight, *, reset, classes):
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; pass "
                "the targets."
            )
        finite = "allow-nan"
        y = check_array(y, dtype=None, ensure_2d=False, ensure_all_finite=finite, input_name="y")
        try:
            y = y.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"DBNRegressor needs targets that are numbers: {error}") from None
        check_consistent_length(X, y)
        y, unknown = y.reshape(len(y), -1), _without_target(y)
        found = current().exchange(
            "unknown targets", (bool(unknown.any()), np.isnan(y).all(axis=0))
        )
        some_unknown, all_unknown = zip(*found)
        if any(some_unknown):
            sample_weight = ~unknown * (1.0 if sample_weight is None else sample_weight)
        if len(y) and np.all(all_unknown, axis=0).any():
            raise ValueError("y has an output without any target; every output needs some.")
        if reset:
            self.target_location_, self.target_scale_ = moments(y, sample_weight)
        elif y.shape[1] != len(self.target_scale_):
            raise ValueError(
                f"y has {y.shape[1]} outputs, but {len(self.target_scale_)} were fitted; to "
                "continue training, pass as many."
            )
        return (y - self.target_location_) / self.target_scale_, sample_weight

    def _n_rows(self, X, y):
        return num_samples(X) if y is None else int((~_without_target(y)).sum())

    def _losses(self, history):
        scale = np.square(self.target_scale_).mean()
        return np.array(history.columns.get("mean_squared_error", [])) / scale

    def _held_out_scores(self, model):
        return lambda rows, targets: -(model(rows) - targets).square().nanmean(1).nan_to_num()

    def _figures(self, output, target):
        error = (output - target) * torch.tensor(self.target_scale_).to(output)
        return {"mean_squared_error": error.double().square().nanmean().item()}

    @returns_like_x
    def predict(self, X: Any) -> np.ndarray:
        """The prediction for each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self)
        output, moments = self._linear(X), (self.target_location_, self.target_scale_)
        if isinstance(output, torch.Tensor):
            moments = tuple(as_tensor(a, output.device) for a in moments)
        y = moments[0] + moments[1] * output
        return y[:, 0] if y.shape[1] == 1 else y

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _without_target(y):
    """A mask of the rows whose targets are all NaN."""
    y = np.asarray(y)
    return (y != y).reshape(len(y), -1).all(axis=1) if y.size else np.zeros(len(y), dtype=bool)


def _uniform(rng, shape, n_inputs):
    """Uniform numbers between ±1/√n_inputs, like the initial weights of a torch.nn.Linear."""
    return torch.from_numpy(rng.uniform(-1, 1, shape) / n_inputs**0.5)
