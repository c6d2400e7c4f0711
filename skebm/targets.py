"""The targets of classifiers: one column for each class, and labels from probabilities."""

import warnings
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets

from skebm._shared import documented
from skebm._sklearn import ClassifierMixin, check_y, compute_class_weight, fit_context
from skebm.engine.parallel import current
from skebm.fitting import level_of_caller
from skebm.tensors import as_array


class ClassifierTargets(ClassifierMixin):
    """Labels of any type; −1 may mean unknown. For training they become one column per class."""

    classes_: np.ndarray
    unlabeled: str | int | None
    class_weight: dict | str | None
    validation_fraction: float

    _held_out = """The score is the accuracy. The split
        is stratified by class."""
    _reported = {"log_loss": "log loss = {:.4f}"}

    @property
    def _weight_of_unknown(self):
        """The weight of rows with an unknown label."""
        return 0.0

    # Training

    @documented
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to rows and their labels.

        Parameters
        ----------
        %(X)s
            Training data. Small types (uint8, bool) are converted batch by batch.
        y : array-like of shape (n_samples,)
            Labels of any type; −1 stands for an unknown label, see `unlabeled`.
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
        return self._fit(X, y, sample_weight)  # type: ignore[attr-defined]

    @documented
    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on the rows of X, starting from the current parameters.

        `early_stopping` is ignored: all rows are used for training. The first call of a
        DBNClassifier pre-trains its stack, as `fit` does.

        Parameters
        ----------
        %(X)s
            Training data: any number of rows, which are split into batches of `batch_size`.
        y : array-like of shape (n_samples,)
            Labels; each is one of `classes`, or −1.
        classes : array-like of shape (n_classes,), default=None
            All possible labels; required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, as in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._check_partial(classes)
        return self._partial_fit(X, y, sample_weight, classes=classes)  # type: ignore[attr-defined]

    def _check_partial(self, classes):
        """Check the arguments that `partial_fit` needs."""
        if not self.__sklearn_is_fitted__() and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" is not supported by partial_fit, which sees only a part '
                "of the rows; pass the weights as a dict."
            )

    def _one_hot(self, y, X, sample_weight, *, classes, reset):
        """One column for each class, (n_samples, n_classes), and the weights of the rows."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; pass "
                "labels, with −1 for a row whose label is unknown."
            )
        y = check_y(as_array(y), multi_output=False, estimator=self)
        check_consistent_length(X, y)
        known = self._find_classes(y, classes, reset)
        self._check_labels(y[known])
        code = np.searchsorted(self.classes_, y[known])
        one_hot = sparse.csr_array(
            (np.ones(len(code)), (np.flatnonzero(known), code)), shape=(len(y), len(self.classes_))
        )
        return one_hot, self._weights(y, known, sample_weight)

    def _class_shares(self, one_hot, weight):
        """The weighted share of each class among the labelled rows."""
        share = one_hot.T @ (np.ones(one_hot.shape[0]) if weight is None else weight)
        share = current().total("shares of classes", share)
        if not share.any():
            raise ValueError(
                "sample_weight is zero for all rows with a label; at least one must be positive."
            )
        return share / share.sum()

    def _find_classes(self, y, classes, reset):
        """Set `classes_`; return a mask of the known labels. −1 is known if it is a class."""
        known = ~is_minus_one(y) | (self.unlabeled is None)
        found, processes = _sorted(y[known]), current()
        check_classification_targets(y[known])
        found = _union(processes.exchange("classes", found))
        all_known = all(processes.exchange("known labels", bool(known.all())))
        if classes is not None:
            classes = _sorted(classes)
        elif reset:
            classes = found
            if self.unlabeled == "auto" and len(classes) == 1:  # −1 is the other class of two
                classes = _union(processes.exchange("labels", _sorted(y)))
            elif self.unlabeled == "auto" and len(classes) and not all_known:
                warnings.warn(
                    f"y has the label −1 beside {len(classes)} others: its rows are taken for rows "
                    "without a label. Set unlabeled=-1 to say that they are, or unlabeled=None if "
                    "−1 is a class.",
                    UserWarning,
                    stacklevel=level_of_caller(),
                )
            if not len(classes):
                raise ValueError(
                    f"y has no label at all; {type(self).__name__} needs at least one label."
                )
        if reset:
            self.classes_ = classes
        elif classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes={classes} differ from those of the first call, {self.classes_}; pass "
                "the same classes, or None."
            )
        return known | is_minus_one(self.classes_).any()

    def _weights(self, y, known, sample_weight):
        """The weights of the rows, multiplied by the weights of their classes."""
        of_unknown, processes = self._weight_of_unknown, current()
        all_known = all(processes.exchange("known labels", bool(known.all())))
        if self.class_weight is None and (all_known or of_unknown == 1):
            return sample_weight
        weight = np.ones(len(y)) if sample_weight is None else sample_weight.copy()
        labelled = processes.exchange("labels and weights", (y[known], weight[known]))
        labels, of_labels = map(_joined, zip(*labelled))
        classes = np.unique(labels)
        settings = {"classes": classes, "y": labels, "sample_weight": of_labels}
        with np.errstate(divide="ignore", invalid="ignore"):  # classes of weight zero: see below
            of_classes = compute_class_weight(self.class_weight, **settings)
        if not np.isfinite(of_classes).all():
            empty = classes[~np.isfinite(of_classes)]
            raise ValueError(
                f'class_weight="balanced" needs rows of a positive weight of every class; {empty} '
                "have none."
            )
        weight[known] *= of_classes[np.searchsorted(classes, y[known])]
        weight[~known] *= of_unknown
        return weight

    def _strata(self, targets):
        return targets @ np.arange(1, targets.shape[1] + 1)

    def _weigh_held_out(self, weight, targets):
        weight = weight * targets.sum(1)  # zero where a label is not known
        if not any(current().exchange("held-out labels", bool(weight.any()))):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} holds back no row that has a "
                "label; increase it, or set early_stopping=False."
            )
        return weight

    # Classes

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y | v) of every class; subclasses define it."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(y | v) of every class.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        log_p = self.predict_log_proba(X)
        return log_p.exp() if isinstance(log_p, torch.Tensor) else np.exp(log_p)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes: log p(y | v), or with two classes their log odds.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) with two classes
            With two classes, log p(classes_[1] | v) − log p(classes_[0] | v).
        """
        log_p = self.predict_log_proba(X)
        return log_p[:, 1] - log_p[:, 0] if log_p.shape[1] == 2 else log_p

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        best: Any = self.predict_log_proba(X).argmax(1)
        if isinstance(best, torch.Tensor) and self.classes_.dtype.kind in "biuf":
            labels: Any = torch.from_numpy(self.classes_).to(best.device)[best]
            return labels
        return self.classes_[as_array(best)]

    def _check_labels(self, labels):
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has the labels {unknown}, which are not in {self.classes_}; pass only these."
            )


def _joined(arrays):
    """One array of all values; the type of an empty array does not count."""
    return np.concatenate([array for array in arrays if len(array)] or arrays)


def _union(arrays):
    """All labels, sorted."""
    return _sorted(_joined(arrays))


def _sorted(labels):
    try:
        return np.unique(labels)
    except TypeError:
        raise ValueError(
            f"y has labels of several types, {sorted({type(x).__name__ for x in labels})}; "
            "use labels of one type."
        ) from None


def is_minus_one(y):
    """A mask of the labels that are −1."""
    if y.dtype.kind in "iuf":
        return y == -1
    if y.dtype.kind != "O":
        return np.zeros(len(y), dtype=bool)
    return np.array([isinstance(label, Real) and label == -1 for label in y], dtype=bool)
