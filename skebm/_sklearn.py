"""The names that scikit-learn does not export, imported in this one place."""

from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _check_y as check_y
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "BaseComposition",
    "Interval",
    "Options",
    "StrOptions",
    "check_sample_weight",
    "check_y",
    "fit_context",
    "num_samples",
    "safe_indexing",
    "validate_params",
]
