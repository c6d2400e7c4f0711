"""RBMOutlierDetector: the rows to which a model gives a low density."""

from dataclasses import field
from typing import Annotated, Any, Self

import numpy as np
from sklearn.base import OutlierMixin, clone
from sklearn.utils.validation import check_is_fitted

from skebm._shared import Interval, Real, Seed, estimator
from skebm._sklearn import BaseEstimator, CallbackSupportMixin, fit_context
from skebm.energy import EnergyModel
from skebm.engine.noise import seed_of
from skebm.engine.parallel import current
from skebm.fitting import fit_inner, generator_of, unchanged_on_error
from skebm.rbm import GaussianRBM
from skebm.tensors import as_array, check_weights, returns_like_x


@estimator
class RBMOutlierDetector(CallbackSupportMixin, OutlierMixin, BaseEstimator):
    """Detector of outliers: rows whose density is low under a model of all rows.

    The score of a row is log p(v) + log Z, so that log Z need not be known: −F(v) of an RBM, and
    the variational bound of it for a :class:`DBM` of several layers. A row is an outlier if its
    score is below that of the share `contamination` of the training rows.

    Parameters
    ----------
    estimator : RBM or DBM, default=None
        The model, which is cloned. None is `GaussianRBM(8, variance="fixed", hidden="spin")`: with
        few hidden units, rare rows have no units of their own. Take a :class:`BernoulliRBM` for
        binary rows, and a :class:`TabularRBM` for tables.
    contamination : float, default=0.1
        The share of outliers in the training rows, in (0, 0.5].
    random_state : int, RandomState instance or None, default=None
        Seeds the training of the model.

    Attributes
    ----------
    estimator_ : RBM or DBM
        The fitted model.
    offset_ : float
        `decision_function` is `score_samples` minus this number.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had column names that are all strings.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Rows that random splits isolate early.

    References
    ----------
    S. Zhai, Y. Cheng, W. Lu, Z. Zhang (2016). Deep structured energy based models for anomaly
    detection. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import RBMOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> detector = RBMOutlierDetector(contamination=0.01, random_state=0).fit(X)
    >>> detector.predict([[0, 0], [8, -8]])
    array([ 1, -1])
    """

    estimator: EnergyModel | None = field(default=None, kw_only=False)
    contamination: Annotated[float, Interval(Real, 0, 0.5, closed="right")] = 0.1
    random_state: Seed = None

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the model, and find the score below which a row is an outlier.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
            What the model takes.
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, also in the share of outliers.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As `fit` of the model.
        """
        with current().guarded(), unchanged_on_error(self):
            task = self._init_callback_context(max_subtasks=1)
            task.call_on_fit_task_begin(estimator=self, X=X)
            model = clone(self._model())
            model.set_params(random_state=seed_of(generator_of(self.random_state)))
            self.estimator_ = fit_inner(self, model, task, X, sample_weight)
            scores = as_array(self.score_samples(X))
            self.offset_ = self._quantile(scores, sample_weight)
            task.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes=dict)
        return self

    def _model(self):
        if self.estimator is not None:
            return self.estimator
        return GaussianRBM(8, variance="fixed", hidden="spin")

    def _quantile(self, scores, sample_weight):
        """The score below which that share of the rows, by their weights, lies."""
        if sample_weight is None:
            return float(np.quantile(scores, self.contamination))
        order = np.argsort(scores)
        total = np.cumsum(check_weights(sample_weight, scores)[order])
        first = np.searchsorted(total, self.contamination * total[-1])
        return float(scores[order[first]])

    @returns_like_x
    def score_samples(self, X: Any) -> np.ndarray:
        """log p(v) + log Z of each row, in nats; low for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.estimator_._log_unnormalised(X, 0)

    def decision_function(self, X: Any) -> np.ndarray:
        """The score of each row minus `offset_`: negative for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """−1 for outliers, and 1 for other rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        label : ndarray of shape (n_samples,)
        """
        return np.where(as_array(self.decision_function(X)) < 0, -1, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = self._model().__sklearn_tags__().input_tags
        return tags
