"""RBMClassifier: a restricted Boltzmann machine of rows and their labels, with exact p(y | x)."""

import copy
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
    documented,
    estimator,
)
from skebm._sklearn import safe_indexing
from skebm.base import BaseRBM, OfEncoding, squared_errors
from skebm.chains import ChainMethod
from skebm.encoding import Standardised
from skebm.engine.batches import in_pieces
from skebm.engine.joint import Conditional, JointRBM, Labelled, posterior
from skebm.engine.units import Gaussian
from skebm.fitted import FittedModel
from skebm.fitting import RateSchedule
from skebm.rbm import HIDDEN, VISIBLE, Hidden, Visible
from skebm.targets import ClassifierTargets
from skebm.tensors import as_array, returns_like_x


def label_figures(log_p, labels) -> dict[str, float]:
    """Log loss and accuracy of the rows whose labels are known, given log p(y | v)."""
    known = labels.sum(1)
    right = (log_p.argmax(1) == labels.argmax(1)) * known
    return {
        "log_loss": (-(log_p * labels).sum() / known.sum()).item(),
        "accuracy": (right.sum() / known.sum()).item(),
    }


class LabelAttributes:
    """The types of the attributes that belong to the labels."""

    class_prior_: np.ndarray
    label_components_: np.ndarray
    intercept_label_: np.ndarray


class SamplesClasses:
    """A part of classifiers that are models of rows: samples of a class, from `_given(label)`."""

    random_state_: np.random.RandomState
    feature_means_: np.ndarray
    n_features_in_: int
    _check_labels: Callable[[Any], None]

    @documented
    def sample(
        self,
        n_samples: int = 1,
        n_steps: int = 1000,
        *,
        y: Any = None,
        method: ChainMethod = "gibbs",
        init: Any = None,
        temperature: float | None = None,
        marginal: bool = False,
        conditions: Any = None,
        random_state: Seed = None,
    ) -> np.ndarray:
        """Draw rows from the model, or from p(v | y).

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows; each is the last state of its own independent chain.
        n_steps : int, default=1000
            Number of Gibbs sweeps in each chain.
        y : label, or array-like of shape (n_samples,), default=None
            The class, or the class of each row. None draws rows of all classes.
        %(sampling)s
        conditions : array-like, dict or None, default=None
            Entries that all sweeps keep, as in :meth:`BernoulliRBM.sample`; without `y`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Approximate samples, which become exact as `n_steps` grows.

        %(sampling_references)s
        """
        settings: dict[str, Any] = {
            "method": method,
            "temperature": temperature,
            "marginal": marginal,
        }
        if y is None:
            settings |= {"init": init, "conditions": conditions, "random_state": random_state}
            return super().sample(n_samples, n_steps, **settings)  # type: ignore[misc]
        check_is_fitted(self)
        if conditions is not None:
            raise ValueError("conditions and y cannot be combined; pass one of them.")
        labels = np.asarray(y)
        labels = np.full(n_samples, labels) if labels.ndim == 0 else labels
        if labels.shape != (n_samples,):
            raise ValueError(
                f"y has the shape {labels.shape}; it must be a label, or one for each of the "
                f"{n_samples} rows."
            )
        rng = self.random_state_ if random_state is None else check_random_state(random_state)
        rows = np.empty((n_samples, self.n_features_in_), dtype=self.feature_means_.dtype)
        for label, index in self._by_class(labels):
            start = None if init is None else safe_indexing(init, index)
            given = self._given(label)
            rows[index] = given.sample(
                len(index), n_steps, init=start, random_state=rng, **settings
            )
        return rows

    def _by_class(self, labels):
        """Pairs of each distinct label and the indices of its rows."""
        self._check_labels(labels)
        return [(label, np.flatnonzero(labels == label)) for label in np.unique(labels)]

    def _given(self, label):
        """The model of the rows of one class."""
        raise NotImplementedError


@estimator
class RBMClassifier(SamplesClasses, ClassifierTargets, LabelAttributes, BaseRBM):  # type: ignore[misc]
    """Classifier: a restricted Boltzmann machine of rows and their labels.

    A label y is one visible unit for each class, of which exactly one is 1. With x = c + W v
    and the weights U_y of label y ::

        E(v, y, h) = −v·b − d_y − h·c − h·W v − h·U_y
        p(y | v)   = softmax_y [d_y + Σ_j softplus(x_j + U_jy)]       exact, for all classes at once
        P(h_j = 1 | v) = Σ_y p(y | v) σ(x_j + U_jy)                  the features, without the label
        F(v)       = −v·b − log Σ_y exp(d_y + Σ_j softplus(x_j + U_jy))

    The training loss, a mean over rows and their labels [1]_ ::

        objective="discriminative"  −log p(y | v)
        objective="generative"      −log p(v, y)
        objective="hybrid"          −log p(y | v) − alpha log p(v, y)

    The gradient of log p(y | v) has a closed form; that of log p(v, y) is estimated by the chains
    of `gradient`, which sample labels together with features. The label −1 marks a row without
    a label, as elsewhere in scikit-learn; its loss is only the generative term, −log p(v). (If
    there is only one other label, or −1 is one of the `classes` of `partial_fit`, −1 is a class.)

    Parameters
    ----------
    n_components : int, default=256
        Number of hidden units.
    learning_rate : float, default=%(learning_rate)s
        Step along the mean gradient of a batch.
    batch_size : int, default=%(batch_size)s
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs. None makes as many as 1000 updates take, at least 15 and at most 50.
    %(training)s
    objective : {"hybrid", "discriminative", "generative"}, default="hybrid"
        The training loss, see above.
    alpha : float, default=0.01
        Weight of the generative term of "hybrid"; 0 is the same as "discriminative", bit for bit.
    unlabeled_weight : float, default=1.0
        Weight of a row with the label −1; a labelled row has weight 1. If the objective has no
        generative term, rows with the label −1 are not used.
    visible : {"bernoulli", "mean", "continuous", "spin", "gaussian"}, default="bernoulli"
        Type of the visible units, as in :class:`BernoulliRBM`. "gaussian": a real number whose
        variance given the hidden units is the variance of the feature in the training data.
    hidden : {"bernoulli", "spin", "relu", "nrelu"}, default="bernoulli"
        Type of the hidden units, as in :class:`BernoulliRBM`. For other types than "bernoulli",
        their cumulant and mean replace softplus and σ above.
    %(unlabeled)s
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; `sample_weight` is multiplied by them. "balanced" means
        n_samples / (n_classes · n_samples_of_class).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    class_prior_ : ndarray of shape (n_classes,)
        Weighted shares of the classes among the labelled training rows.
    components_ : ndarray of shape (n_components, n_features)
        Weights W.
    label_components_ : ndarray of shape (n_components, n_classes)
        Weights U of the labels.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    intercept_label_ : ndarray of shape (n_classes,)
        Biases d of the labels.
    location_ : ndarray of shape (n_features,)
        Means of the training rows if `visible` is "gaussian", else zeros.
    scale_ : ndarray of shape (n_features,)
        Standard deviations of the training rows if `visible` is "gaussian", else ones.
    %(fitted)s

    Notes
    -----
    Penalties on weights and `max_norm` act on W and U together. `history_` has "log_loss" (mean
    −log p(y | v), in nats) and "accuracy" instead of "score". Both are computed on those of 1000
    training rows that have a label.

    See Also
    --------
    BernoulliRBM : Features for another classifier.

    References
    ----------
    .. [1] H. Larochelle, Y. Bengio (2008). Classification using discriminative restricted
       Boltzmann machines. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skebm import RBMClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = RBMClassifier(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> clf.score(X[1000:] / 16, y[1000:]) > 0.93
    True

    Samples of the class 3:

    >>> threes = clf.sample(5, n_steps=100, y=3, random_state=0)
    >>> threes.shape
    (5, 64)

    Labels of fifty rows, and 950 rows without any:

    >>> few = np.where(np.arange(1000) < 50, y[:1000], -1)
    >>> clf = RBMClassifier(unlabeled=-1, alpha=0.1, unlabeled_weight=0.1, random_state=0)
    >>> clf.fit(X[:1000] / 16, few).score(X[1000:] / 16, y[1000:]) > 0.8
    True
    """

    n_components: PositiveInt = field(default=256, kw_only=False)
    learning_rate: PositiveFloat = 2.0
    batch_size: PositiveInt = 20
    n_iter: NonNegativeInt | None = None
    learning_rate_schedule: RateSchedule = "linear"
    momentum: Probability = 0.5
    max_grad_norm: PositiveFloat | None = 1.0
    objective: Literal["hybrid", "discriminative", "generative"] = "hybrid"
    alpha: NonNegativeFloat = 0.01
    unlabeled_weight: NonNegativeFloat = 1.0
    visible: Visible | Literal["gaussian"] = "bernoulli"
    hidden: Hidden = "bernoulli"
    unlabeled: Literal["auto", -1] | None = "auto"
    class_weight: dict | Literal["balanced"] | None = None

    _outside_support = 'Scale it with MinMaxScaler, or set visible="gaussian" for real-valued data.'
    _epochs = (1000, 15, 50)

    location_ = OfEncoding()
    scale_ = OfEncoding()

    # The model

    def _encoding(self):
        return Standardised(self.visible == "gaussian")

    def _units(self):
        gaussian = self.visible == "gaussian"
        visible = Gaussian(self.temperature) if gaussian else VISIBLE[self.visible]()
        U = torch.zeros(self.n_components, len(self.classes_))
        d = torch.from_numpy(np.log(np.maximum(self.class_prior_, 1e-3)) / self.temperature)
        return visible, Labelled(HIDDEN[self.hidden](self.temperature), U, d)

    # Training

    @property
    def _shares(self):
        """The weights of log p(v, y) and of log p(y | v) in the objective."""
        generative = {"generative": 1.0, "discriminative": 0.0, "hybrid": self.alpha}
        return generative[self.objective], float(self.objective != "generative")

    def _in_training(self, model, batches):
        known = batches.targets.sum(1)[batches.visits.cpu().numpy()]
        generative, discriminative = self._shares
        return JointRBM(model, generative, discriminative, partly=not known.all())

    def _resolved_gradient(self):
        gradient = super()._resolved_gradient()
        return gradient if self._shares[0] else Conditional()

    @property
    def _weight_of_unknown(self):
        return self.unlabeled_weight if self._shares[0] else 0.0

    def _validate_targets(self, y, X, sample_weight, *, classes, reset):
        one_hot, weight = self._one_hot(y, X, sample_weight, classes=classes, reset=reset)
        if reset:
            self.class_prior_ = self._class_shares(one_hot, weight)
        return one_hot, weight

    def _held_out_scores(self, model):
        def right(rows, targets):
            log_p, _ = posterior(model, model.visible.from_rows(rows))
            return (log_p.argmax(1) == targets.argmax(1)).double()

        return right

    def _measure(self, model, rows):
        rows, labels = rows.split([self.n_features_in_, len(self.classes_)], 1)
        v = model.visible.from_rows(rows)
        pieces = in_pieces(v, model.row_size)
        log_p, features = map(torch.cat, zip(*(posterior(model, piece) for piece in pieces)))
        errors = squared_errors(model, v, self.encoding_.error_scale(v), features)
        return {"reconstruction_error": errors.mean().item()} | label_figures(log_p, labels)

    # Classes

    @returns_like_x
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y | v) of every class, exactly.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
            In nats, in the order of `classes_`.
        """
        return FittedModel(self).apply(lambda model, v: posterior(model, v)[0], X)

    @returns_like_x
    def score_samples(self, X: Any, y: Any = None) -> np.ndarray:
        """Log-likelihood or pseudo-log-likelihood of each row or labelled row, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The labels; each is one of `classes_`. None scores the rows without labels.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            For real-valued features, the log-likelihood (a density) log p(v), or log p(v, y), with
            log Z as in :meth:`GaussianRBM.score_samples`. For binary features, the exact
            pseudo-log-likelihood: Σ_i log p(v_i | the other features), or log p(y | v) +
            Σ_i log p(v_i | the other features and y). Without labels, this takes n_classes times
            as long.
        """
        if y is None:
            return super().score_samples(X)
        log_p = as_array(self.predict_log_proba(X))
        labels = np.asarray(as_array(y))
        check_consistent_length(X, labels)
        if not self._units()[0].is_discrete:
            scores = as_array(super().score_samples(X))
        else:
            scores = np.empty_like(log_p[:, 0])
            for label, index in self._by_class(labels):
                rows = safe_indexing(X, index)
                scores[index] = as_array(self._given(label).score_samples(rows))
        for label, index in self._by_class(labels):
            scores[index] += log_p[index, np.flatnonzero(self.classes_ == label)[0]]
        return scores

    def _given(self, label):
        """The model of the rows of one class: its hidden biases are c + U_y."""
        k = np.flatnonzero(self.classes_ == label)
        given = copy.copy(self)
        given.classes_ = self.classes_[k]
        given.intercept_hidden_ = self.intercept_hidden_ + self.label_components_[:, k[0]]
        given.class_prior_ = np.ones(1)
        given.label_components_ = np.zeros_like(self.label_components_[:, k])
        given.intercept_label_ = np.zeros_like(self.intercept_label_[k])
        return given
