"""The targets of classifiers: labels of any type as columns, and labels from probabilities."""

from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from skebm._shared import documented
from skebm._sklearn import check_y, fit_context


class ClassifierTargets(ClassifierMixin):
    """Labels of any type, −1 where none is known; in training, one column for each class."""

    _held_out = """The score is the accuracy; among the
        rows held back, classes are as frequent as among all."""
    _reported = {"log_loss": "log loss = {:.4f}"}

    @property
    def _weight_of_unknown(self):
        """The weight of rows whose label is not known."""
        return 0.0

    # Training

    @documented
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the model to rows and their labels.

        Parameters
        ----------
        %(X)s
            Training data. Small types (uint8, bool) are converted batch by batch.
        y : array-like of shape (n_samples,)
            Labels of any type; −1 stands for a label that is not known.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows. Integers count: the fit is the same, bit for bit, as on the
            rows repeated that often. Other weights are relative.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        %(raised)s
        """
        return self._fit(X, y, sample_weight)

    @documented
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch on the rows of X, going on from where training stopped.

        No rows are held back, whatever `early_stopping` says. The first call of a network
        pre-trains its stack, as `fit` does.

        Parameters
        ----------
        %(X)s
            Training data: any number of rows, taken in batches of `batch_size`.
        y : array-like of shape (n_samples,)
            Labels, of those in `classes`, or −1.
        classes : array-like of shape (n_classes,), default=None
            All labels that there are; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._check_partial(classes)
        return self._partial_fit(X, y, sample_weight, classes=classes)

    def _check_partial(self, classes):
        """What a call of `partial_fit` needs to be told."""
        if not self.__sklearn_is_fitted__() and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" is not known to partial_fit, which sees a part of the '
                "rows; pass the weights as a dict."
            )

    def _one_hot(self, y, X, sample_weight, *, classes, reset):
        """A column for each class, (n_samples, n_classes), and the weights of the rows."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; −1 "
                "stands for a label that is not known."
            )
        y = check_y(y, multi_output=False, estimator=self)
        check_consistent_length(X, y)
        known = self._find_classes(y, classes, reset)
        self._check_labels(y[known])
        code = np.searchsorted(self.classes_, y[known])
        one_hot = sparse.csr_array(
            (np.ones(len(code)), (np.flatnonzero(known), code)), shape=(len(y), len(self.classes_))
        )
        return one_hot, self._weights(y, known, sample_weight)

    def _class_shares(self, one_hot, weight):
        """How frequent the classes are."""
        share = one_hot.T @ (np.ones(one_hot.shape[0]) if weight is None else weight)
        if not share.any():
            raise ValueError("sample_weight leaves no row that has a label.")
        return share / share.sum()

    def _find_classes(self, y, classes, reset):
        """Which labels are known, −1 being one of them where it is a class."""
        known = ~is_minus_one(y)
        check_classification_targets(y[known])
        if classes is not None:
            classes = np.unique(classes)
        elif reset:
            classes = np.unique(y[known])
            if len(classes) == 1:  # −1 is the other class of two
                classes = np.unique(y)
            if not len(classes):
                raise ValueError(
                    f"y has no label at all; {type(self).__name__} needs some to learn from."
                )
        if reset:
            self.classes_: np.ndarray = classes
        elif classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(f"classes={classes} differ from those before, {self.classes_}.")
        return known | is_minus_one(self.classes_).any()

    def _weights(self, y, known, sample_weight):
        """The weights of the rows, by their labels too."""
        of_unknown = self._weight_of_unknown
        if self.class_weight is None and (known.all() or of_unknown == 1):
            return sample_weight
        weight = np.ones(len(y)) if sample_weight is None else sample_weight.copy()
        of_classes = compute_class_weight(
            self.class_weight, classes=np.unique(y[known]), y=y[known], sample_weight=weight[known]
        )
        weight[known] *= of_classes[np.unique(y[known], return_inverse=True)[1]]
        weight[~known] *= of_unknown
        return weight

    def _strata(self, targets):
        return targets @ np.arange(1, targets.shape[1] + 1)

    def _weigh_held_out(self, weight, targets):
        weight = weight * targets.sum(1)  # zero where a label is not known
        if not weight.any():
            raise ValueError(
                f"validation_fraction={self.validation_fraction} holds back no row that has a "
                "label; raise it, or set early_stopping=False."
            )
        return weight

    # Classes

    def predict_proba(self, X):
        """p(y | v) of every class.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def decision_function(self, X):
        """Scores of the classes: log p(y | v), or with two classes their log odds.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) with two classes
            Of two classes log p(classes_[1] | v) − log p(classes_[0] | v).
        """
        log_p = self.predict_log_proba(X)
        return log_p[:, 1] - log_p[:, 0] if log_p.shape[1] == 2 else log_p

    def predict(self, X):
        """The likeliest class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        log_p = self.predict_log_proba(X)
        return self.classes_[log_p.argmax(1)]

    def _check_labels(self, labels):
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"y has the labels {unknown}, which are not in {self.classes_}.")


def is_minus_one(y):
    """Where a label is −1, which stands for none unless it is a class."""
    if y.dtype.kind in "iuf":
        return y == -1
    if y.dtype.kind != "O":
        return np.zeros(len(y), dtype=bool)
    return np.array([isinstance(label, Real) and label == -1 for label in y], dtype=bool)
