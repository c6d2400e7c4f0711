"""Processes that train one model together, each on its share of the rows.

    ∂/∂θ log-likelihood of a batch = Σ_processes ∂/∂θ log-likelihood of the rows of the process

Every process makes the same calls in the same order. In each of them, the processes exchange either
small Python objects or, once in an update, the gradient. A process that fails takes part in the
next exchange, to report its failure: no other process then waits for it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class Processes:
    """One process that trains alone."""

    rank, size = 0, 1

    def exchange(self, what: str, value: T) -> list[T]:
        """The values of all processes, by rank; `what` names the values in errors."""
        return [value]

    def first(self, what: str, value: T) -> T:
        """The value of the process of rank 0."""
        return self.exchange(what, value)[0]

    def total(self, what: str, value: Any) -> Any:
        """The sum of the values of all processes; of tuples, the sums of their items."""
        values = self.exchange(what, value)
        return tuple(map(sum, zip(*values))) if isinstance(value, tuple) else sum(values)

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace the tensor by that of the process of rank 0."""

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by their sums over the processes, once in an update."""

    def seed(self, seed: int) -> int:
        """The seed of this process; that of rank 0 is `seed`."""
        return seed

    @contextmanager
    def updates(self, tensors: Sequence[Tensor], n_updates: int) -> Iterator[None]:
        """A block that calls `sum_` for these tensors `n_updates` times."""
        yield

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """If the block raises in one process, all processes raise."""
        yield


class Group(Processes):
    """The processes of a group of torch.distributed.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or None
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        #: The gradient of an update, and a number that is positive if a process has failed.
        self._buffer: Tensor | None = None
        self._updates_left = 0
        #: The last exception that all processes know of.
        self._known: BaseException | None = None
        self._is_lost = False

    def exchange(self, what: str, value: T) -> list[T]:
        messages = self._gather((what, value, None))
        self._check(messages)
        return [value for _, value, _ in messages]

    def broadcast_(self, tensor: Tensor) -> None:
        self.exchange("the start of a broadcast", None)
        source = dist.get_global_rank(self.group, 0) if self.group is not None else 0
        self._call(dist.broadcast, tensor, source, group=self.group)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        assert self._buffer is not None
        total = self._buffer[:-1]
        torch.cat([tensor.flatten() for tensor in tensors], out=total)
        self._reduce(failed=False)
        pieces = total.split([tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces):
            tensor.copy_(piece.view_as(tensor))

    def seed(self, seed: int) -> int:
        if self.rank == 0:
            return seed
        words = np.random.SeedSequence([seed, self.rank]).generate_state(1)
        return int(words[0]) % np.iinfo(np.int32).max

    @contextmanager
    def updates(self, tensors: Sequence[Tensor], n_updates: int) -> Iterator[None]:
        self.exchange("the start of an epoch", None)  # failures from before are reported here
        self._buffer = tensors[0].new_zeros(1 + sum(tensor.numel() for tensor in tensors))
        self._updates_left = n_updates
        try:
            yield
        except BaseException as error:
            if error is not self._known and self._updates_left and not self._is_lost:
                self._known = error
                self._buffer.zero_()
                with suppress(RuntimeError):
                    self._reduce(failed=True)
                self._report(error)
            raise
        finally:
            self._buffer = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if error is not self._known:
                self._report(error)
            raise

    def _reduce(self, *, failed: bool) -> None:
        """Sum the buffer over the processes; raise if one of them has failed."""
        buffer = self._buffer
        assert buffer is not None
        buffer[-1] = float(failed)
        self._updates_left -= 1
        self._call(dist.all_reduce, buffer, group=self.group)
        if not failed and buffer[-1] != 0:
            self._check(self._gather(("an update", None, None)))

    def _report(self, error: BaseException) -> None:
        """Tell the other processes of an exception of this one."""
        self._known = error
        if not self._is_lost:
            with suppress(RuntimeError):
                self._gather(("a failure", None, f"{type(error).__name__}: {error}"))

    def _gather(self, message: tuple[str, Any, str | None]) -> list[Any]:
        """The messages of all processes: what is exchanged, the value, and a failure or None."""
        messages: list[Any] = [None] * self.size
        self._call(dist.all_gather_object, messages, message, group=self.group)
        return messages

    def _check(self, messages: list[tuple[str, Any, str | None]]) -> None:
        """Raise if a process has failed, or if the processes exchange different things."""
        failures = [
            f"The process of rank {rank} (of {self.size}) failed: {failure}"
            for rank, (_, _, failure) in enumerate(messages)
            if failure is not None
        ]
        names = [what for what, _, _ in messages]
        if failures:
            self._known = RuntimeError("\n".join(failures))
        elif len(set(names)) > 1:
            other = next(rank for rank, what in enumerate(names) if what != names[0])
            self._known = RuntimeError(
                "The processes do not make the same calls: the process of rank 0 is at "
                f"{names[0]!r}, that of rank {other} at {names[other]!r}. Every process must call "
                "`fit` of the same estimators in the same order."
            )
        else:
            return
        raise self._known

    def _call(self, collective: Callable[..., Any], *args: Any, **settings: Any) -> None:
        """Call a function of torch.distributed."""
        try:
            collective(*args, **settings)
        except RuntimeError as error:
            self._is_lost = True
            self._known = RuntimeError(
                f"The process of rank {self.rank} lost the connection to the other processes: one "
                "of them may have been killed, or the timeout of the group is too short. Start all "
                "processes again; a Checkpoint keeps the epochs that were finished."
            )
            raise self._known from error


ALONE = Processes()
#: The processes of the block of `data_parallel`, and the thread that opened it.
_active: tuple[Processes, int] | None = None


def current() -> Processes:
    """The processes that take part in a fit that starts now."""
    if _active is None:
        return ALONE
    processes, thread = _active
    if thread != threading.get_ident():
        raise RuntimeError(
            "A fit inside of `data_parallel` must be called by the thread that opened the block; "
            "set n_jobs=None in searches and ensembles."
        )
    return processes


@contextmanager
def data_parallel(group: dist.ProcessGroup | None = None) -> Iterator[None]:
    """Train each model in the block with all processes of a group of torch.distributed.

    Every process runs the same program, and calls `fit` or `partial_fit` of the same estimators in
    the same order, each with its own share of the rows. The model is that of all rows::

        θ.grad = Σ_processes θ.grad of the rows of the process

    All arguments mean what they mean in one process: `batch_size` and `n_chains` are numbers of
    all processes together. Every row has the same weight, however many rows a process has. Means,
    deviations, categories and classes are those of all rows. After a fit, the estimators of all
    processes have the same fitted attributes, bit for bit, and work without the group.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, default=None
        The processes; None means all.

    Raises
    ------
    RuntimeError
        If there is no process group, or if another process fails: the message names its rank, and
        its exception. If a process is killed, the others raise within the timeout of the group.

    Notes
    -----
    An update has one collective operation, the sum of the gradient. Each process visits its rows in
    its own random order, with its own chains: a process with a tenth of the rows has a tenth of the
    chains. Hence a fit has the same distribution as one in a single process, but not the same
    numbers; with :class:`Exact` and one batch for all rows they are equal up to rounding. Two fits
    with the same number of processes and the same rows in each of them are equal bit for bit.

    `history_` has the means of the processes. Callbacks and `verbose` act in the process of rank 0
    only. All other methods, such as `transform`, work on the rows of their process alone. Every
    process needs a row whose weight is positive.
    `fine_tune="up-down"` and `gradient="ptt"` are not supported. Searches and ensembles must not
    start threads or processes of their own (n_jobs=None): a fit in a process that they start would
    use one share of the rows only.

    See Also
    --------
    Checkpoint : Continue a fit after a process was killed.

    Examples
    --------
    A program for ``torchrun --nproc-per-node=4``:

    >>> import torch.distributed as dist
    >>> import skebm
    >>> def main(load_rows):
    ...     dist.init_process_group("gloo")
    ...     X = load_rows(dist.get_rank(), dist.get_world_size())
    ...     with skebm.data_parallel():
    ...         return skebm.BernoulliRBM(1024, batch_size=4096).fit(X)
    """
    global _active
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "data_parallel needs a process group; call torch.distributed.init_process_group() "
            "first, and start the program with torchrun."
        )
    if _active is not None:
        raise RuntimeError("data_parallel is active already; a block cannot be inside of another.")
    processes = Group(group) if dist.get_world_size(group) > 1 else ALONE
    _active = processes, threading.get_ident()
    try:
        with processes.guarded():
            yield
            processes.exchange("the end of data_parallel", None)
    finally:
        _active = None


def parts(n: int, counts: Sequence[int]) -> list[int]:
    """Split n items among processes in proportion to `counts`, at least one for each."""
    if n < len(counts):
        raise ValueError(
            f"n_chains={n} is less than the number of processes, {len(counts)}; every process "
            "needs a chain."
        )
    quota = np.array(counts) * n / sum(counts)
    share = np.maximum(1, np.floor(quota).astype(int))
    while share.sum() != n:
        step = 1 if share.sum() < n else -1
        surplus = step * (share - quota) + np.where((share == 1) & (step < 0), n, 0)
        share[np.argmin(surplus)] += step
    return share.tolist()
