"""DBM: a deep Boltzmann machine, whose layers are trained together."""

import copy
from dataclasses import field
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Unvalidated,
    estimator,
    validated,
)
from skebm._sklearn import fit_context
from skebm.base import BaseRBM, check_features, squared_errors
from skebm.classifier import RBMClassifier, SamplesClasses, label_figures
from skebm.conv import ConvRBM
from skebm.dbn import DBN, HasLayers, random_stream
from skebm.encoding import Encoding
from skebm.energy import GRADIENTS, EnergyModel
from skebm.engine import devices
from skebm.engine.batches import in_pieces
from skebm.engine.deep import MOST_SWEEPS, DeepBoltzmann
from skebm.engine.gradients import PCD
from skebm.engine.noise import Noise, seed_of
from skebm.engine.parallel import current
from skebm.engine.partition import quick_log_partition
from skebm.engine.scaling import Scaling
from skebm.engine.units import Bernoulli, Mixed
from skebm.evaluation import LogPartition, kept_log_partition
from skebm.fitted import FittedModel
from skebm.fitting import RateSchedule, TrainingData
from skebm.missing import FIRST_SWEEPS, with_missing
from skebm.rbm import BernoulliRBM, DropoutRBM
from skebm.targets import ClassifierTargets
from skebm.tensors import as_array, check_weights, returns_like_x


class GreedyDBN(DBN):
    """The layers of a deep Boltzmann machine, before they are trained together.

    A layer below another one gets as much from above as from below. The first is trained with two
    copies of the rows, and the last with two copies of its units, which have the same weights.
    """

    def _configured(self, first):
        layers = super()._configured(first)
        for k, (layer, (name, _)) in enumerate(zip(layers, self._named_layers)):
            is_dense = isinstance(layer, BaseRBM) and not isinstance(layer, ConvRBM | DropoutRBM)
            is_last = k + 1 == len(layers)
            takes_units = k == 0 or isinstance(layer, BernoulliRBM | RBMClassifier)
            if (
                not is_dense
                or not takes_units
                or getattr(layer, "hidden", "bernoulli") != "bernoulli"
                or (k and layer.visible != "bernoulli")
                or (isinstance(layer, RBMClassifier) and not is_last)
            ):
                raise ValueError(
                    f"layers: {name} of a DBM must be a number or an RBM with dense weights and "
                    "binary hidden units, without dropout; above the first layer a BernoulliRBM, "
                    f"and only the last may be an RBMClassifier; got {layer!r}."
                )
        if len(layers) > 1:
            for layer in layers:
                layer._copies = 1, 1
            layers[0]._copies = 2, 1
            if not isinstance(layers[-1], RBMClassifier):  # its label is above it
                layers[-1]._copies = 1, 2
        return layers

    def halved(self):
        """Copies of the fitted layers, with the weights and biases of a deep Boltzmann machine.

        W_k and the biases of a layer in the middle, c of the first layer and b of the last are
        halved, since each layer now gets its field from both sides. b_k is added to c_{k−1}.
        """
        layers = [copy.copy(layer) for layer in self.estimators_]
        last = len(layers) - 1
        for k, layer in enumerate(layers):
            layer.__dict__.pop("_copies", None)
            # The chains and moments of the layer belong to the training that is over.
            layer.training_state_ = {}
            layer.training_settings_ = {"model": layer._model_settings()}
            if k < last:
                of_next = self.estimators_[k + 1].intercept_visible_
                layer.intercept_hidden_ = (layer.intercept_hidden_ + of_next) / 2
            if 0 < k < last:
                layer.components_ = layer.components_ / 2
            if k > 0:
                layer.intercept_visible_ = np.zeros_like(layer.intercept_visible_)
        return layers


def _last(dbm):
    """The last layer."""
    return dbm.estimators_[-1] if dbm.__sklearn_is_fitted__() else dbm._last_layer


def _has_labels(dbm):
    """Whether the last layer is a classifier."""
    return isinstance(_last(dbm), RBMClassifier)


def _has_free_energy(dbm):
    """Whether there is one hidden layer, so that the sum over its states has a closed form."""
    if len(dbm._named_layers) == 1:
        return True
    raise AttributeError(
        "The free energy of a DBM with several hidden layers has no closed form. score_samples "
        "gives a bound of log p(v), and skebm.log_likelihood an estimate."
    )


class PosteriorAttributes:
    """The types of the attributes of a :class:`PosteriorRBM`."""

    dbm_: Any


@estimator
class PosteriorRBM(PosteriorAttributes, BaseRBM):
    """The first layer of a network that is made of a DBM: its inputs are v and q(h_2 | v)."""

    @classmethod
    def _of(cls, dbm):
        """The layer of a fitted DBM, which gives q(h_2 | v)."""
        first, second, *_ = dbm.estimators_
        layer = cls(first.n_components_, device=dbm.device, temperature=dbm.temperature)
        layer.dbm_ = copy.copy(dbm).set_params(output="all")
        layer.n_components_ = first.n_components_
        layer.encoding_ = WithMeans(first.encoding_, second.n_components_)
        layer.components_ = np.hstack([first.components_, second.components_.T])
        layer.intercept_hidden_ = first.intercept_hidden_
        zeros = np.zeros_like(second.intercept_hidden_)
        layer.intercept_visible_ = np.concatenate([first.intercept_visible_, zeros])
        layer.feature_means_ = np.concatenate([first.feature_means_, zeros])
        layer.random_state_, layer.n_features_in_ = dbm.random_state_, dbm.n_features_in_
        names = (*first._units()[0].parameters(), "feature_names_in")
        layer.__dict__.update(
            {f"{n}_": getattr(first, f"{n}_") for n in names if hasattr(first, f"{n}_")}
        )
        layer.history_, layer.n_iter_ = {}, 0
        return layer

    def _units(self):
        first = self.dbm_.estimators_[0]._units()
        sizes = self.dbm_.feature_means_.size, self.dbm_.estimators_[1].n_components_
        return Mixed([(first[0], sizes[0]), (Bernoulli(), sizes[1])]), first[1]

    def _train(self, *args, **settings):
        raise ValueError(
            "A stack with posterior inputs is trained by DBNClassifier or DBNRegressor alone; "
            "train the DBM instead."
        )

    def _read(self, X, *, reset, allow_nan=False, sample_weight=None):
        rows = self.dbm_._read(X, reset=reset, allow_nan=allow_nan)
        n_first, n_second = self.dbm_._sizes[:2]
        q = self.dbm_.transform(X)[:, n_first : n_first + n_second]
        if isinstance(q, torch.Tensor):
            return torch.hstack([torch.as_tensor(rows).to(q), q])
        rows = rows.toarray() if issparse(rows) else rows
        return np.hstack([rows.astype(q.dtype), q])


class WithMeans(Encoding):
    """The encoding of rows that have more columns, which are means of units."""

    def __init__(self, encoding, n_means):
        self.encoding, self.n_means = encoding, n_means

    def scaling(self, device):
        """The map from rows with means to rows of the model, and back, on a device."""
        of_rows = self.encoding.scaling("cpu")
        if of_rows.is_identity:
            return of_rows
        location = np.concatenate([of_rows.location.numpy(), np.zeros(self.n_means)])
        scale = np.concatenate([of_rows.scale.numpy(), np.ones(self.n_means)])
        return Scaling(location, scale, device)


@estimator
class DBM(SamplesClasses, EnergyModel, HasLayers):
    """Deep Boltzmann machine: layers of units, each coupled to the layers below and above it.

    The joint distribution of a row v and its hidden layers h_1, …, h_L is
    p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)  = −v·b − Σ_k h_k·c_k − Σ_k h_k·W_k h_{k−1},          h_0 = v
        field_k  = c_k + W_k h_{k−1} + W_{k+1}ᵀ h_{k+1}
        log p(v) ≥ E_q[−E(v, h)] + H(q) − log Z,      q(h) = Π_k Π_j q(h_kj)

    Given the other layers, the units of a layer are independent; binary ones are on with
    probability σ(field_k). The model is an RBM between its even layers (v, h_2, …) and its odd
    ones, so that Gibbs sampling, tempering and annealed importance sampling are those of an RBM.
    The layers above a row are latent: mean field gives q, whose means are the features, and the
    data's term of the gradient is its expectation under q [1]_. Other terms of the energy, of
    real-valued units, are those of the first layer's RBM.

    Parameters
    ----------
    layers : sequence, default=(256, 128)
        The hidden layers, from the data up. Each is a number of units, an RBM of this package, or
        a pair of a name and one of these, as in :class:`DBN`. All hidden units are binary. The
        first RBM says what rows are, for example a :class:`CategoricalRBM`; a number stands for a
        :class:`BernoulliRBM` or, as in :class:`DBN`, for a :class:`GaussianRBM`. The layers above
        it are numbers or :class:`BernoulliRBM`. If the last is an :class:`RBMClassifier`, the label
        is a layer above it, with one unit for each class, and the model is a classifier. With one
        layer, the model is that RBM.
    learning_rate : float, default=%(learning_rate)s
        Step along the mean gradient of a batch, when the layers are trained together.
    batch_size : int, default=%(batch_size)s
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs in which the layers are trained together. None makes as many as 2000
        updates take, at least 20 and at most 100.
    %(energy)s
    pretrain : bool, default=True
        Whether to train the layers one after the other first [1]_, each with its own parameters.
        Since a layer of the model gets as much from above as from below, the first RBM is trained
        with two copies of the visible units and the last with two copies of the hidden units,
        which have the same weights; then weights and biases of layers in the middle are halved.
        False starts from the weights of layers that are not trained, which the centred gradient
        makes possible [2]_.
    mean_field_sweeps : int, default=10
        Largest number of mean-field sweeps for a row in training. A sweep updates the odd layers
        and then the even ones, and never lowers the bound.
    mean_field_tol : float, default=0.01
        A row has converged if a sweep changes none of its means by more than this. Methods of a
        fitted model make up to 100 sweeps until then.
    output : {"top", "all"}, default="top"
        What `transform` returns: the means of the top layer, or of all layers, concatenated.

    Attributes
    ----------
    estimators_ : list
        The fitted layers, as estimators: W_k is `components_` of layer k and c_k is its
        `intercept_hidden_`. b is `intercept_visible_` of the first layer; it is zero in the others.
    history_ : dict of ndarrays of shape (`n_iter_`,)
        One entry for each epoch in which the layers are trained together: "epoch", "seconds",
        "reconstruction_error" (mean squared error on some of the training rows, at most 1000),
        "mean_field_sweeps" (mean for a row), "mean_field_unconverged" (the share of rows), and
        "chain_distance" as for an RBM. The histories of pre-training are those of `estimators_`.
    n_iter_ : int
        Number of these epochs so far.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had column names that are all strings.

    See Also
    --------
    DBN : Layers that are trained one after the other only; its top two layers are an RBM.
    BernoulliRBM : One layer.

    Notes
    -----
    If the first layer takes missing entries, as :class:`TabularRBM` does, so does the model: in
    training they are drawn again after each epoch, given the other entries of the row.

    References
    ----------
    .. [1] R. Salakhutdinov, G. Hinton (2009). Deep Boltzmann machines. AISTATS.
    .. [2] G. Montavon, K.-R. Müller (2012). Deep Boltzmann machines and the centering trick. In:
       Neural Networks: Tricks of the Trade. Springer.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import DBM
    >>> X = load_digits().data > 7
    >>> dbm = DBM((64, 32), n_iter=20, random_state=0).fit(X[:1000])
    >>> dbm.transform(X[1000:]).shape
    (797, 32)
    >>> bool(dbm.score_samples(X[1000:]).mean() > -25)
    True
    """

    layers: list | tuple = field(default=(256, 128), kw_only=False)
    learning_rate: PositiveFloat = 0.02
    batch_size: PositiveInt = 32
    n_iter: NonNegativeInt | None = None
    learning_rate_schedule: RateSchedule = "linear"
    max_grad_norm: PositiveFloat | None = 10.0
    precision: Literal["highest", "high", "medium"] = "medium"
    pretrain: bool = True
    mean_field_sweeps: PositiveInt = 10
    mean_field_tol: PositiveFloat = 0.01
    output: Literal["top", "all"] = "top"

    #: Few chains are noise for all layers at once.
    _pcd = " (of PCD, here with 100 chains)"
    _gradients = GRADIENTS | {"pcd": partial(PCD, n_chains=100)}
    _n_first_tasks = 1
    _held_out = """The score of a row is the
        variational bound of log p(v); log Z is computed after every epoch, exactly for up to 12
        binary units of the odd layers, else by a short run of annealed importance sampling with
        the same random numbers in each epoch."""

    # The layers

    def _greedy(self) -> GreedyDBN:
        """The unfitted stack of the layers."""
        names = ("temperature", "device", "verbose")
        return GreedyDBN(self.layers, **{name: getattr(self, name) for name in names})

    def _fitted_layers(self):
        """The layers at the temperature of the model."""
        layers = [copy.copy(layer) for layer in self.estimators_]
        return [FittedModel(e.set_params(temperature=self.temperature)) for e in layers]

    def _model(self, device, dtype, precision):
        layers = self._fitted_layers()
        models = [m.as_trained(device, dtype=dtype, precision=precision) for m in layers]
        return DeepBoltzmann(models, self.mean_field_sweeps, self.mean_field_tol)

    def _model_settings(self):
        return [(type(layer).__name__, layer._model_settings()) for layer in self.estimators_]

    def _parameters(self, model):
        pairs = zip(self._fitted_layers(), model.rbms)
        return {"estimators_": [fitted.replaced(layer) for fitted, layer in pairs]}

    def _check_same_model(self):
        """Raise an error if `layers` asks for another model than the fitted one."""
        layers = self._greedy()._configured(type(self.estimators_[0]))
        settings = [(type(layer).__name__, layer._model_settings()) for layer in layers]
        if settings != self._model_settings():
            raise ValueError(
                f"layers={self.layers!r} differs from the layers of the fitted model. To continue "
                "training, set it back; to change it, fit a new model."
            )

    # Training

    def _prepare_training(
        self, X, y, sample_weight, *, task, rng, resume, classes=None, **settings
    ):
        if resume:
            self._check_same_model()
        else:
            self.estimators_ = self._pretrained(X, y, sample_weight, task, rng, classes)
        first = FittedModel(self.estimators_[0])
        X, sample_weight = first.encoding.keep_weighted(X, sample_weight)
        n_sweeps = first.estimator._n_sweeps
        rows = self._read(X, reset=False, allow_nan=n_sweeps is not None)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, rows, dtype=np.float64)
        targets, weight = self.estimators_[-1]._validate_targets(
            y, rows, sample_weight, classes=classes, reset=False
        )
        scaling = first.scaling(devices.resolve(self.device))
        data = TrainingData(rows, targets, weight, scaling, first.dtype)
        return with_missing(data, n_sweeps)

    def _trainer(self, data, batches, rng, resume):
        if self.sparsity_target is not None and len(self.estimators_) > 1:
            raise ValueError(
                f"sparsity_target={self.sparsity_target} is for one hidden layer; set it in the "
                "layers, for their pre-training."
            )
        trainer = super()._trainer(data, batches, rng, resume)
        if data.missing is not None and not resume and self.pretrain:
            noise = Noise(current().seed(seed_of(rng)), batches.device)
            data.missing.redraw(trainer.model, noise, FIRST_SWEEPS)
            batches.refresh()
        return trainer

    def _pretrained(self, X, y, sample_weight, task, rng, classes):
        """The layers before they are trained together."""
        if sample_weight is not None:
            check_weights(sample_weight, X)
        stack, subtask = self._greedy(), task.subcontext(task_name="pre-training")
        if not self.pretrain:
            stack.set_params(n_iter=0)
        with random_stream(stack, rng), subtask.propagate_callback_context(stack):
            subtask.call_on_fit_task_begin(estimator=self, X=X, y=y)
            if classes is not None and self.pretrain:
                stack.partial_fit(X, y, classes, sample_weight)
            else:
                stack.fit(X, y, sample_weight)
            subtask.call_on_fit_task_end(estimator=self, X=X, y=y)
        return stack.halved()

    def _is_pretrained(self):
        return self.pretrain

    def _row_products(self, data):
        return sum(layer.components_.size for layer in self.estimators_)

    def _new(self, batches, rng):
        return FittedModel(self).as_trained(batches.device, precision=self.precision)

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(  # type: ignore[override]
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train all layers together for one epoch; the first call pre-trains them before.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            Training data: any number of rows, which are split into batches of `batch_size`.
        y : array-like of shape (n_samples,), default=None
            Labels, if the last layer is a classifier.
        classes : array-like of shape (n_classes,), default=None
            All possible labels; a classifier needs them in the first call, which then pre-trains
            each layer for one epoch only.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if _has_labels(self):
            _last(self)._check_partial(classes)
        return self._partial_fit(X, y, sample_weight, classes=classes)

    def _trainer_settings(self):
        settings = self.estimators_[0]._trainer_settings()
        if len(self.estimators_) > 1:  # all layers learn alike
            settings = {k: v for k, v in settings.items() if k == "sample_rows"}
        return settings

    def _measure(self, model, rows):
        v = model.visible.from_rows(rows)
        first, pieces = model.rbms[0], in_pieces(v, model.row_size)
        h = torch.cat([model.layer_means(piece)[0] for piece in pieces])
        x = v[:, : first.n_visible]
        errors = squared_errors(first, x, self.encoding_.error_scale(x), h)
        figures = {"reconstruction_error": errors.mean().item()}
        if _has_labels(self):
            labels = rows[:, first.n_visible :]
            log_p = torch.cat([model.log_label(piece) for piece in pieces])
            figures |= label_figures(log_p, labels)
        return figures

    def _strata(self, targets):
        return self.estimators_[-1]._strata(targets)

    def _held_out_scores(self, model):
        constant = quick_log_partition(model.exact())
        constant += self.encoding_.log_volume() + model.visible.log_volume()
        return lambda rows, _: model.bound(model.visible.from_rows(rows)) - constant

    def as_dbn(self, *, posterior_inputs: bool = False) -> DBN:
        """A stack that gives features in one pass from the rows to the top.

        Parameters
        ----------
        posterior_inputs : bool, default=False
            Whether the first layer also has the means of the second, q(h_2 | v), as inputs: its
            field is c_1 + W_1 v + W_2ᵀ q(h_2 | v), as in the model. With False, and in other
            layers below the top, weights count twice, as if what comes from above was the same as
            what comes from below.

        Returns
        -------
        dbn : DBN
            A fitted stack with its own copies of the layers. :class:`DBNClassifier` fine-tunes it;
            it is no generative model of rows.
        """
        check_is_fitted(self)
        dbn = DBN(self.layers)
        *lower, top = (copy.copy(layer) for layer in self.estimators_)
        for layer in lower:
            layer.components_ = 2 * layer.components_
        if posterior_inputs and lower:
            lower[0] = PosteriorRBM._of(self)
        dbn.estimators_, dbn.untied_, dbn.fine_tuning_ = [*lower, top], [], {}
        return dbn

    # Methods of a fitted model

    @returns_like_x
    def transform(self, X: Any) -> np.ndarray:
        """Features of each row: the mean-field means of the top layer or of all layers.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        H : ndarray of shape (n_samples, n_features_out)
        """

        def features(model, v):
            means = model.layer_means(v, MOST_SWEEPS)
            return means[-1] if self.output == "top" else torch.cat(means, 1)

        return FittedModel(self).apply(features, X)

    @returns_like_x
    def inverse_transform(self, X: Any) -> Any:
        """Means of the visible units given features, for each row of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            The means of the top layer, or of all layers, as `output` says. The means of all layers
            give E[v | h_1]. Given the top layer alone, mean field of the other layers gives the
            means of the rows.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
        """
        fitted, n_first = FittedModel(self), self._sizes[0]
        X = check_features(self, X)

        def rows(model, h):
            if self.output == "top":
                return fitted.rows(model, model.rows_given_top(h))
            first = model.rbms[0]
            return fitted.rows(model, first.visible.mean(first.visible_field(h[:, :n_first])))

        return fitted.present(fitted.apply_to_rows(rows, X, encode=False))

    @available_if(_has_free_energy)
    def free_energy(self, X: Any) -> np.ndarray:
        """Free energy of each row, in nats; only of a model with one hidden layer.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        F : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self._fitted_layers()[0].estimator.free_energy(X)

    @returns_like_x
    @validated
    def score_samples(
        self,
        X: Unvalidated,
        *,
        method: Literal["bound", "importance"] = "bound",
        log_z: LogPartition | float | None = None,
        n_draws: PositiveInt = 100,
    ) -> np.ndarray:
        """Variational bound of log p(v), or an estimate of it, of each row, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        method : {"bound", "importance"}, default="bound"
            "bound": E_q[−E(v, h)] + H(q) − log Z, a lower bound of log p(v). "importance": the
            estimate of :func:`skebm.log_likelihood`, which is above the bound on average.
        log_z : LogPartition, float or None, default=None
            log Z, where it is known. None takes that of :func:`skebm.log_partition`: exact for up
            to 18 units in the odd or in the even layers, else estimated with a fixed seed. The
            first call after a fit stores it.
        n_draws : int, default=100
            Draws of q for "importance", with a fixed seed, the same for every row.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            In double precision.
        """
        check_is_fitted(self)
        if log_z is None:
            log_z = kept_log_partition(self)
        value = log_z.value if isinstance(log_z, LogPartition) else log_z
        return self._log_unnormalised(X, n_draws if method == "importance" else 0) - value

    def _log_unnormalised(self, X, n_draws):
        """log p(v) + log Z of each row, estimated from draws of q; its bound if n_draws is 0."""
        fitted = FittedModel(self)

        def total(model, v):
            if n_draws:
                noise = Noise(0, v.device, shared=True)
                return model.log_weight(v, n_draws, noise) - fitted.log_volume(model)
            return model.bound(v, MOST_SWEEPS).double() - fitted.log_volume(model)

        return fitted.apply(total, X) + self.encoding_.log_of_rows(X)

    # Classes, if the last layer is a classifier

    @available_if(_has_labels)
    @returns_like_x
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y | v) of every class; exact for one hidden layer.

        For several layers, the bound of log p(v, y) stands for log p(v, y); it is computed with
        each label in turn, by mean field of the layers between.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
            In nats, in the order of `classes_`.
        """
        return FittedModel(self).apply(lambda model, v: model.log_label(v), X)

    predict_proba = available_if(_has_labels)(ClassifierTargets.predict_proba)
    predict = available_if(_has_labels)(ClassifierTargets.predict)
    decision_function = available_if(_has_labels)(ClassifierTargets.decision_function)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of :meth:`score_samples`; if the last layer is a classifier, the accuracy.

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
        if _has_labels(self):
            if y is None:
                raise ValueError("score of a DBM with labels is the accuracy: pass y.")
            return accuracy_score(y, as_array(self.predict(X)), sample_weight=sample_weight)
        return super().score(X, y, sample_weight)

    @property
    def classes_(self) -> np.ndarray:
        """The labels: ndarray of shape (n_classes,)."""
        return self.estimators_[-1].classes_

    def _check_labels(self, labels):
        if not _has_labels(self):
            raise ValueError(
                "y needs a last layer that is a classifier; pass y=None, or use RBMClassifier."
            )
        self.estimators_[-1]._check_labels(labels)

    def _given(self, label):
        given = copy.copy(self)
        given.estimators_ = [*self.estimators_[:-1], self.estimators_[-1]._given(label)]
        return given

    # Attributes and methods that scikit-learn uses

    @property
    def encoding_(self) -> Any:  # type: ignore[override]
        """The fitted encoding between rows and visible units."""
        return self.estimators_[0].encoding_

    @property
    def feature_means_(self) -> np.ndarray:  # type: ignore[override]
        """Means of the visible units in training."""
        return self.estimators_[0].feature_means_

    @property
    def n_features_in_(self) -> int:  # type: ignore[override]
        """Number of features seen during fit."""
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, if X had column names that are all strings."""
        return self.estimators_[0].feature_names_in_

    def _read(self, X, *, reset, allow_nan=False):
        first, takes_nan = self.estimators_[0], self.encoding_.reads_nan
        rows = first._read(X, reset=reset, allow_nan=allow_nan or takes_nan)
        if takes_nan and not allow_nan and np.isnan(rows).any():
            # Missing and unknown entries are replaced by their means given the other entries.
            fitted = FittedModel(self)
            rows = fitted.fill(rows, Noise(0, fitted.device, shared=True), n_steps=50)
        return rows

    @property
    def _sizes(self):
        return [layer.n_components_ for layer in self.estimators_]

    @property
    def _n_features_out(self):
        return self._sizes[-1] if self.output == "top" else sum(self._sizes)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimators_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        self._set_tags_of_layers(tags)
        return tags
