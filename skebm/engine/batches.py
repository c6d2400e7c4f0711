"""Rows of a dense or CSR array, as batches of one fixed shape on the device.

An epoch visits every row once, in an order that depends on the rows and the noise but not on
how the rows were ordered. A row of integer weight k is k rows; other weights multiply the
row's share of the gradient. The last batch is filled up with rows of weight zero.
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from skebm.engine.noise import Noise

#: How many numbers are worked on at a time where a pass over all rows is made in pieces.
CHUNK = 2**22

_MOVED_AS_THEY_ARE = tuple(np.dtype(t) for t in ("float32", "float64", "uint8", "bool"))


def to_device(rows, device: torch.device, dtype: np.dtype) -> Tensor:
    """Some rows of an array as a floating-point tensor; small types are widened there."""
    if sparse.issparse(rows):
        rows = rows.toarray()
    if rows.dtype not in _MOVED_AS_THEY_ARE or not rows.flags.writeable:
        rows = rows.astype(dtype)
    tensor = torch.from_numpy(np.ascontiguousarray(rows))
    return tensor.to(device, getattr(torch, dtype.name))  # (n, n_features)


def chunks(X, row_size: int) -> Iterator[slice]:
    """Slices that cut the rows of X into pieces of about CHUNK numbers, `row_size` a row."""
    size = max(1, CHUNK // max(1, row_size))
    return (slice(first, first + size) for first in range(0, X.shape[0], size))


class Batches:
    """The epochs of a fit: calling it with a Noise gives one epoch of (v, weight).

    The weights of an epoch sum to its number of rows over the rows of a batch, so that every
    row has the same share in the updates whatever batch it falls into.

    Parameters
    ----------
    X : ndarray or csr_array of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,) or None
    batch_size : int
    shuffle : bool
        False takes the rows as they come.
    device : torch.device
    dtype : numpy.dtype
        float32 or float64.

    Attributes
    ----------
    mean : Tensor of shape (n_features,)
        Weighted mean of the rows.
    """

    def __init__(self, X, sample_weight, *, batch_size, shuffle, device, dtype):
        self.X, self.batch_size, self.shuffle = X, batch_size, shuffle
        self.device, self.dtype = device, dtype
        visits, weight = visits_of(sample_weight, X.shape[0])
        mean, key = summarise(X, visits, weight)
        if shuffle:
            order = np.argsort(key[visits], kind="stable")
            visits, weight = visits[order], weight[order]
        self.visits, self.weight = visits, weight / min(batch_size, len(visits))
        self.mean = torch.as_tensor(mean, device=device).to(getattr(torch, dtype.name))

    def take(self, index: np.ndarray) -> Tensor:
        """The rows of X with these indices: (len(index), n_features)."""
        return to_device(self.X[index], self.device, self.dtype)

    def __call__(self, noise: Noise) -> Iterator[tuple[Tensor, Tensor]]:
        n, size = len(self.visits), self.batch_size
        order = noise.permutation(n).cpu().numpy() if self.shuffle else np.arange(n)
        n_batches = -(-n // size)
        index = np.full(n_batches * size, self.visits[0])
        index[:n] = self.visits[order]
        padded = np.zeros(n_batches * size)
        padded[:n] = self.weight[order]
        weight = torch.as_tensor(padded, device=self.device).to(self.mean.dtype)
        for first in range(0, n, size):
            batch = slice(first, first + size)
            yield self.take(index[batch]), weight[batch]


def visits_of(sample_weight: np.ndarray | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that an epoch visits, and the weight of each visit, one on average."""
    if sample_weight is None:
        return np.arange(n), np.ones(n)
    if np.array_equal(sample_weight, np.floor(sample_weight)):
        visits = np.repeat(np.arange(n), sample_weight.astype(np.int64))
        return visits, np.ones(len(visits))
    visits = np.flatnonzero(sample_weight)
    weight = sample_weight[visits].astype(np.float64)
    return visits, weight / weight.mean()


def summarise(X, visits: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean of the rows, and a key that sorts rows by what is in them.

    The key is a fixed random projection: equal rows get equal keys, others do not. Sorted by
    it, the rows have an order that is theirs and not that of the file they came from.
    """
    n, n_features = X.shape
    share = np.bincount(visits, weight, minlength=n) / weight.sum()  # (n,)
    direction = np.random.default_rng(0).standard_normal(n_features)
    mean, key = np.zeros(n_features), np.empty(n)
    for piece in chunks(X, n_features):
        rows = X[piece].astype(np.float64)
        mean += share[piece] @ rows
        key[piece] = rows @ direction
    # Single precision: the bits beyond it depend on the order of summation.
    return mean.astype(np.float32), key
