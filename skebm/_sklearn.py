"""The names of scikit-learn that it does not export, and the bases of estimators, in one place.

scikit-learn has no types; `_sklearn.pyi` has those of what is imported here, so that a type checker
knows the methods of the estimators.
"""

from sklearn import base
from sklearn.base import (
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
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _check_y as check_y
from sklearn.utils.validation import _num_samples as num_samples

#: Address of the documentation.
DOCUMENTATION = "https://contrib.scikit-learn.org/skebm"


class Linked:
    """An estimator whose HTML diagram links to its page in the documentation."""

    _doc_link_module = "skebm"
    _doc_link_template = f"{DOCUMENTATION}/api/generated/skebm.{{estimator_name}}.html"


class BaseEstimator(Linked, base.BaseEstimator):
    """scikit-learn's base class, with the link."""


class BaseComposition(Linked, _BaseComposition):
    """scikit-learn's base class of estimators that hold others, with the link."""


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
