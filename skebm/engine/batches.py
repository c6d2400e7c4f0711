"""Rows of a dense or CSR array, as batches of one fixed shape on the device.

An epoch visits every row once. The order depends on the values of the rows and on the noise, but
not on the order of the rows in the array. If all weights are integers, and at most 10 on average, a
row with weight k counts as k rows. Otherwise each weight multiplies the gradient of its row. The
last batch is filled up with rows of weight zero.

If several processes train one model, a batch consists of rows of all of them. Each process divides
its rows evenly among the batches, and fills them up in the same way.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from skebm.engine.noise import Noise
from skebm.engine.parallel import ALONE, Processes, parts
from skebm.engine.scaling import Scaling

#: How many numbers a piece holds when a pass over all rows is made in pieces; on CUDA, where a
#: piece costs as many calls but less time.
CHUNK, CUDA_CHUNK = 2**20, 2**25
#: How many numbers are gathered at a time for training, on a CPU and on CUDA.
BLOCK, CUDA_BLOCK = 2**17, 2**24
#: Integer weights mean repeated rows if they are at most this large on average.
MOST_REPEATS = 10
#: How many rows the sample `Batches.probe` holds at most, and how many numbers if these are more
#: than LEAST_MEASURED rows.
PROBE, PROBE_NUMBERS = 1000, 2**20
#: How many rows are measured after an epoch: this share of its visits, or the least number.
MEASURED, LEAST_MEASURED = 1 / 5, 200

_MOVED_AS_THEY_ARE = tuple(np.dtype(t) for t in ("float32", "float64", "uint8", "bool"))


def to_device(rows, device: torch.device, dtype: np.dtype) -> Tensor:
    """Rows of an array or tensor as a floating-point tensor; the device converts small types."""
    if isinstance(rows, Tensor):
        return rows.to(device, getattr(torch, dtype.name))
    if sparse.issparse(rows):
        rows = rows.toarray()
    if rows.dtype not in _MOVED_AS_THEY_ARE or not rows.flags.writeable:
        rows = rows.astype(dtype)
    tensor = torch.from_numpy(np.ascontiguousarray(rows))
    return tensor.to(device, getattr(torch, dtype.name))  # (n, n_features)


def resident(X, device: torch.device) -> Tensor | None:
    """All rows as a tensor on the device; None if X needs a conversion or does not fit there."""
    if isinstance(X, Tensor):
        return X.to(device)
    if sparse.issparse(X) or X.dtype not in _MOVED_AS_THEY_ARE or not X.flags.writeable:
        return None
    if not (X.flags.c_contiguous or X.flags.f_contiguous):
        return None
    if device.type == "cuda" and X.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return None
    X = X.view(np.uint8) if X.dtype == bool else X
    return torch.from_numpy(X).to(device)  # (n_samples, n_features)


def chunk_size(device: torch.device) -> int:
    """How many numbers a piece holds on this device."""
    return CUDA_CHUNK if device.type == "cuda" else CHUNK


def in_pieces(x: Tensor, row_size: int) -> Sequence[Tensor]:
    """The rows of a tensor in pieces, with `row_size` numbers per row."""
    return x.split(max(1, chunk_size(x.device) // row_size))


def chunks(X, row_size: int, numbers: int | None = None) -> Iterator[slice]:
    """Slices of X: pieces of about `numbers` numbers (default CHUNK), with `row_size` per row."""
    size = max(1, (numbers or CHUNK) // max(1, row_size))
    return (slice(first, first + size) for first in range(0, X.shape[0], size))


class Batches:
    """The batches of a fit. A call with a Noise yields the pairs (rows, weight) of one epoch.

    The weights of an epoch sum to its number of rows divided by the batch size. So every row has
    the same share in the updates, whichever batch contains it. Rows have the type in which they
    are stored, and they are valid only until the next batch. X stays on the device if it fits
    there; otherwise a few batches at a time are moved to the device.

    Parameters
    ----------
    X : ndarray, csr_array or Tensor of shape (n_samples, n_features)
        The rows of this process.
    sample_weight : ndarray of shape (n_samples,) or None
    batch_size : int
        Rows in a batch, of all processes together. It is reduced to the number of visits of an
        epoch if that is smaller.
    shuffle : bool
        False keeps the order of the rows in X.
    device : torch.device
    dtype : numpy.dtype
        float32 or float64.
    scaling : Scaling or None
        The map from rows of X to rows of the model, on the device; None means the identity.
    targets : ndarray or csr_array of shape (n_samples, n_targets) or None
        More columns. They follow the columns of X in every row and are not encoded.
    left_out : ndarray of bool of shape (n_samples, n_features) or None
        Entries that are NaN in the batches; `mean` and `probe` have what X has.
    processes : Processes
        Those that train the model.

    Attributes
    ----------
    n : int
        Number of visits of an epoch, of all processes together.
    batch_size : int
        Rows of this process in a batch.
    mean : Tensor of shape (n_features + n_targets,)
        Weighted mean of the rows of all processes.
    probe : Tensor of shape (≤ PROBE, n_features + n_targets)
        The rows that an epoch visits or, if they are too many, a random sample of them, the same
        in every epoch and in every process.
    """

    def __init__(
        self,
        X,
        sample_weight,
        *,
        batch_size,
        shuffle,
        device,
        dtype,
        scaling: Scaling | None = None,
        targets=None,
        left_out: np.ndarray | None = None,
        processes: Processes = ALONE,
    ):
        self.processes = processes
        self.X, self.shuffle = X, shuffle
        self.targets = targets
        self.device, self.dtype = device, dtype
        self.scaling = Scaling() if scaling is None else scaling
        self.resident = resident(X, device)
        self.left_out: Tensor | None = None  # on the device if X is
        if left_out is not None:
            where = "cpu" if self.resident is None else device
            self.left_out = torch.from_numpy(left_out).to(where)
        visits, weight = visits_of(sample_weight, X.shape[0], processes)
        on_cuda = device.type == "cuda" and self.resident is not None
        mean, key = summarise(self.resident if on_cuda else X, visits, weight, processes)
        if targets is not None:
            target_mean, target_key = summarise(targets, visits, weight, processes)
            key += np.pi * target_key  # without π, a target could cancel a column of X
        if shuffle:
            order = np.lexsort((weight, key[visits]))
            visits, weight = visits[order], weight[order]
        #: The number of visits of each process.
        self.counts = processes.exchange("the number of rows", len(visits))
        self.n = sum(self.counts)
        batch_size = min(batch_size, self.n)
        self.n_batches = -(-self.n // batch_size)
        self.batch_size, self.slots = self._slots(len(visits), batch_size)
        self.equal = processes.size == 1 and bool((weight == 1).all())
        kind = getattr(torch, dtype.name)
        self.visits = torch.as_tensor(visits, device=device)  # (n_visits,)
        self.weight = torch.as_tensor(weight / batch_size, device=device).to(kind)
        self.mean = self.encode(torch.as_tensor(mean, device=device)).to(kind)
        if targets is not None:
            self.mean = torch.cat([self.mean, torch.as_tensor(target_mean).to(self.mean)])
        if sparse.issparse(targets):
            known = targets.sum(1)[visits] != 0
            if any(processes.exchange("known labels", bool(known.any()))):
                visits = visits[known]  # figures are those of rows whose label is known
        most = min(PROBE, max(LEAST_MEASURED, PROBE_NUMBERS // X.shape[1]))
        n = processes.total("the number of rows to measure", len(visits))
        if n > most:
            share = -(-most * len(visits) // n)
            visits = np.random.default_rng(0).choice(visits, size=share) if share else visits
        self.probed = visits
        self.placed = self._placed_targets()
        self.probe = self._read_probe()

    def encode(self, rows: Tensor) -> Tensor:
        """Rows of X as rows of the model."""
        return self.scaling.encode(rows)

    def refresh(self) -> None:
        """Read X again, after it was changed in place."""
        self.resident = resident(self.X, self.device)
        self.probe = self._read_probe()

    def _read_probe(self) -> Tensor:
        rows = self.encode(to_device(self.X[self.probed], self.device, self.dtype))
        rows = self._join(rows, self.probed)
        if self.processes.size == 1:
            return rows
        shares = self.processes.exchange("rows to measure", rows.cpu().numpy())
        return torch.from_numpy(np.concatenate(shares)).to(rows)

    @property
    def measured(self) -> Tensor:
        """Some rows of `probe`, so that measures take a small part of the time of an epoch."""
        n = max(LEAST_MEASURED, int(MEASURED * self.n))
        return self.probe[:: max(1, len(self.probe) // n)]

    def __len__(self) -> int:
        """Number of batches."""
        return self.n_batches

    def _slots(self, n: int, batch_size: int) -> tuple[int, slice | Tensor]:
        """The size of a batch, and the places of `n` visits in the batches of an epoch."""
        if self.processes.size == 1:
            return batch_size, slice(n)
        size = max(1, -(-n // self.n_batches))
        first = torch.arange(self.n_batches + 1, device=self.device) * n // self.n_batches
        of_batch = torch.arange(self.n_batches, device=self.device) * size - first[:-1]
        return size, torch.arange(n, device=self.device) + of_batch.repeat_interleave(first.diff())

    def part(self, n_chains: int) -> int:
        """How many of `n_chains` chains of all processes this process has."""
        return parts(n_chains, self.counts)[self.processes.rank]

    def __call__(self, noise: Noise) -> Iterator[tuple[Tensor, Tensor]]:
        n, size = len(self.visits), self.batch_size
        order = noise.permutation(n) if self.shuffle else torch.arange(n, device=self.device)
        first = self.visits[:1] if n else self.visits.new_zeros(1)
        index = first.repeat(len(self) * size)
        index[self.slots] = self.visits[order]
        weight = self.weight.new_zeros(len(index))
        weight[self.slots] = self.weight[order]
        weights = weight.view(-1, size).unbind()
        if self.equal and len(self) > 1:  # full batches share one tensor
            weights = (weights[0],) * (len(self) - 1) + (weights[-1],)
        n_numbers = CUDA_BLOCK if self.device.type == "cuda" else BLOCK
        n_block = size * max(1, n_numbers // (size * self.X.shape[1]))
        pieces = index.split(n_block)
        resident = self.resident is not None
        blocks = self._gather(pieces) if resident else self._stream(index.cpu().split(n_block))
        encoded = map(self._without, map(self.encode, blocks), pieces)
        joined = map(self._join, encoded, pieces)
        yield from zip((rows for block in joined for rows in block.split(size)), weights)

    def _without(self, rows: Tensor, index: Tensor) -> Tensor:
        """Encoded rows with NaN where an entry is left out."""
        if self.left_out is None:
            return rows
        mask = self.left_out[index.to(self.left_out.device)].to(rows.device)
        return rows.masked_fill(mask, math.nan)

    def _join(self, rows: Tensor, index) -> Tensor:
        """Encoded rows of X, followed by their targets."""
        if self.targets is None:
            return rows
        if self.placed is not None:
            targets = self.placed[torch.as_tensor(index, device=self.device)]
        else:
            chosen = self.targets[torch.as_tensor(index).cpu().numpy()]
            targets = to_device(chosen, self.device, self.dtype)
        return torch.cat([rows.to(targets), targets], 1)

    def _placed_targets(self) -> Tensor | None:
        """All targets on a CUDA device; None if there are none, or if they do not fit there."""
        if self.targets is None or self.device.type != "cuda":
            return None
        n_bytes = math.prod(self.targets.shape) * self.dtype.itemsize
        if n_bytes > torch.cuda.mem_get_info(self.device)[0] // 4:
            return None
        return to_device(self.targets, self.device, self.dtype)

    def _gather(self, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Rows of X from the device, gathered in one buffer."""
        X = self.resident
        assert X is not None
        buffer = X.new_empty(len(pieces[0]), X.shape[1])
        for piece in pieces:
            yield torch.index_select(X, 0, piece, out=buffer[: len(piece)])

    def _stream(self, pieces: Sequence[Tensor]) -> Iterator[Tensor]:
        """Rows of X, moved to the device; for CUDA, through two pinned buffers in turn."""
        shape, kind = (len(pieces[0]), self.X.shape[1]), self.weight.dtype
        on_cuda = self.device.type == "cuda"
        buffers = [torch.empty(shape, dtype=kind, pin_memory=on_cuda) for _ in range(1 + on_cuda)]
        copied = [torch.cuda.Event() for _ in buffers] if on_cuda else []
        for i, piece in enumerate(pieces):
            buffer = buffers[i % len(buffers)][: len(piece)]
            if on_cuda:
                copied[i % 2].synchronize()  # the copy from two blocks ago
            rows = self.X[piece.numpy()]
            if sparse.issparse(rows):
                rows.astype(self.dtype, copy=False).toarray(out=buffer.numpy())
            else:
                np.copyto(buffer.numpy(), rows, casting="unsafe")
            yield buffer.to(self.device, non_blocking=True)
            if on_cuda:
                copied[i % 2].record(torch.cuda.current_stream(self.device))


def visits_of(
    sample_weight: np.ndarray | None, n: int, processes: Processes = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that an epoch visits, and the weight of each visit; the mean weight is one."""
    if sample_weight is None:
        return np.arange(n), np.ones(n)
    visits = np.flatnonzero(sample_weight)
    weight = sample_weight[visits].astype(np.float64)
    are_integers = np.array_equal(weight, np.floor(weight))
    of_processes = processes.exchange("weights", (are_integers, n, len(weight), weight.sum()))
    integers, rows, positive, totals = zip(*of_processes)
    total = sum(totals)
    if all(integers) and total <= MOST_REPEATS * sum(rows):
        visits = np.repeat(np.arange(n), sample_weight.astype(np.int64))
        return visits, np.ones(len(visits))
    return visits, weight / (total / sum(positive))


def summarise(
    X, visits: np.ndarray, weight: np.ndarray, processes: Processes = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean of all rows, and a key that sorts the rows of X by their values.

    The key is a fixed random projection: equal rows get equal keys, and different rows get
    different keys. The sorted order therefore does not depend on the order of the rows in X.
    """
    n, n_features = X.shape
    total = processes.total("the sum of the weights", weight.sum())
    share: Any = np.bincount(visits, weight, minlength=n) / total  # (n,)
    direction: Any = np.random.default_rng(0).standard_normal(n_features)
    mean: Any = np.zeros(n_features)
    key: Any = np.empty(n)
    if isinstance(X, Tensor):
        share, direction, mean, key = (
            torch.from_numpy(array).to(X.device) for array in (share, direction, mean, key)
        )
    # On a CPU, pieces fit into the cache.
    numbers = chunk_size(X.device) if isinstance(X, Tensor) else 2**16
    for piece in chunks(X, n_features, numbers):
        rows = X[piece].double() if isinstance(X, Tensor) else X[piece].astype(np.float64)
        mean += share[piece] @ rows
        key[piece] = rows @ direction
    if isinstance(X, Tensor):
        mean, key = mean.cpu().numpy(), key.cpu().numpy()
    mean = processes.total("means", mean)
    # float32 drops the last bits, which depend on the order of summation.
    return mean.astype(np.float32), key
