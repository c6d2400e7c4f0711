"""Tensors in, tensors out: what scikit-learn's `array_api_dispatch` asks for.

With the dispatch, a method that is given a torch tensor returns a tensor on the same device. Rows
on CUDA then stay there: they are validated, computed on and returned as tensors. Rows of a tensor
on the CPU are arrays that share its memory; so are all rows without the dispatch.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import sklearn
import torch

from skebm._sklearn import check_sample_weight, num_samples

Method = TypeVar("Method", bound=Callable[..., Any])


def dispatches(X) -> bool:
    """Whether X is a tensor for which tensors are returned."""
    return isinstance(X, torch.Tensor) and sklearn.get_config()["array_api_dispatch"]


def as_rows(X):
    """A tensor as an array, or as it is if it is on CUDA and tensors are returned for it.

    Any other X is returned unchanged.
    """
    return _single(X).detach() if dispatches(X) and X.is_cuda else as_array(X)


def as_array(X):
    """A tensor as an array, which shares its memory on the CPU; any other X unchanged."""
    return _single(X).detach().cpu().numpy() if isinstance(X, torch.Tensor) else X


def _single(X):
    """A tensor of half precision in single precision; any other tensor unchanged."""
    return X.float() if X.dtype in (torch.float16, torch.bfloat16) else X


def in_double(x):
    """An array or a tensor in double precision."""
    return x.double() if isinstance(x, torch.Tensor) else x.astype(np.float64)


def check_weights(sample_weight, X, **settings) -> np.ndarray:
    """The validated weights of the rows of X, as an array: (n_samples,)."""
    n_rows = np.empty(num_samples(X))
    return check_sample_weight(
        as_array(sample_weight), n_rows, ensure_non_negative=True, **settings
    )


def returns_like_x(method: Method) -> Method:
    """Let a method with a first argument X return a tensor if `dispatches(X)`."""

    @wraps(method)
    def wrapper(self, X, *args, **kwargs):
        result = method(self, X, *args, **kwargs)
        if dispatches(X) and isinstance(result, np.ndarray) and result.dtype.kind in "biuf":
            return torch.from_numpy(result).to(X.device)
        return result

    return wrapper  # type: ignore[return-value]
