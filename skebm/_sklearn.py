"""The names of scikit-learn that it does not export, and the bases of estimators, in one place.

scikit-learn has no types; `_sklearn.pyi` has those of what is imported here, so that a type checker
knows the methods of the estimators. This file also has what versions from 1.6 to 1.8 lack.
"""

from contextlib import contextmanager
from inspect import signature

import numpy as np
from sklearn import base
from sklearn.base import (
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.base import _fit_context as fit_context
from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params
from sklearn.utils.class_weight import compute_class_weight as sklearn_class_weights
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _check_y as check_y
from sklearn.utils.validation import _num_samples as num_samples

from skebm.engine.parallel import current

#: Address of the documentation.
DOCUMENTATION = "https://skebm.readthedocs.io/en/latest"


class Linked:
    """An estimator whose HTML diagram links to its page in the documentation."""

    _doc_link_module = "skebm"
    _doc_link_template = f"{DOCUMENTATION}/api/generated/skebm.{{estimator_name}}.html"


class BaseEstimator(Linked, base.BaseEstimator):
    """scikit-learn's base class, with the link."""


class BaseComposition(Linked, _BaseComposition):
    """scikit-learn's base class of estimators that hold others, with the link."""


def scale_of_moments(mean, variance, n_samples):
    """The scale_ that a StandardScaler has, given its other attributes: one for constants."""
    constant = _is_constant_feature(variance, mean, n_samples)
    return _handle_zeros_in_scale(np.sqrt(variance), copy=False, constant_mask=constant)


HAS_WEIGHTED_CLASS_WEIGHTS = "sample_weight" in signature(sklearn_class_weights).parameters


def compute_class_weight(class_weight, *, classes, y, sample_weight):
    """The weight of each class; scikit-learn takes `sample_weight` since 1.7."""
    if HAS_WEIGHTED_CLASS_WEIGHTS or class_weight != "balanced":
        given = {"sample_weight": sample_weight} if HAS_WEIGHTED_CLASS_WEIGHTS else {}
        return sklearn_class_weights(class_weight, classes=classes, y=y, **given)
    of_class = np.bincount(np.searchsorted(classes, y), weights=sample_weight)
    return of_class.sum() / (len(classes) * of_class)


class SilentTask:
    """A task of a fit that no callback hears of."""

    def __init__(self, task_name="fit", task_id=0):
        self.task_name, self.task_id = task_name, task_id
        self.n_subtasks = 0

    def subcontext(self, task_name="", **settings):
        self.n_subtasks += 1
        return SilentTask(task_name, self.n_subtasks - 1)

    def call_on_fit_task_begin(self, **given):
        return None

    def call_on_fit_task_end(self, **given):
        return False

    @contextmanager
    def propagate_callback_context(self, estimator):
        estimator._parent_callback_ctx = self
        try:
            yield
        finally:
            del estimator._parent_callback_ctx


try:
    from sklearn.callback import CallbackSupportMixin as ScikitCallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class ScikitCallbackSupportMixin:
        """Estimators without callbacks."""

        def set_callbacks(self, *callbacks):
            raise NotImplementedError("Callbacks need scikit-learn 1.9 or newer; update it.")

        def _init_callback_context(self, task_name="fit", **settings):
            return SilentTask(task_name)


class CallbackSupportMixin(ScikitCallbackSupportMixin):
    """Estimators with callbacks. Of several processes, only that of rank 0 calls them."""

    def _init_callback_context(self, task_name="fit", **settings):
        if current().rank > 0:
            return SilentTask(task_name)
        return super()._init_callback_context(task_name, **settings)


__all__ = [
    "BaseComposition",
    "BaseEstimator",
    "CallbackSupportMixin",
    "ClassNamePrefixFeaturesOutMixin",
    "ClassifierMixin",
    "Interval",
    "OneToOneFeatureMixin",
    "Options",
    "RegressorMixin",
    "StrOptions",
    "TransformerMixin",
    "check_sample_weight",
    "check_y",
    "compute_class_weight",
    "fit_context",
    "num_samples",
    "safe_indexing",
    "scale_of_moments",
    "validate_params",
]
