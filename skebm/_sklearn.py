"""The names of scikit-learn that it does not export, and the bases of estimators, in one place.

scikit-learn has no types; `_sklearn.pyi` has those of what is imported here, so that a type checker
knows the methods of the estimators.
"""

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.base import _fit_context as fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _check_y as check_y
from sklearn.utils.validation import _num_samples as num_samples

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
    "fit_context",
    "num_samples",
    "safe_indexing",
    "validate_params",
]
