"""Updates as CUDA graphs: an update is recorded once and then replayed as a whole.

A replay runs the recorded operations on the same tensors. So an update must read its rows from
tensors that stay, and write its results to such tensors. A number of Python is a constant of the
graph; what changes between updates, such as a rate, is a tensor. An update that waits for the
device, for example by `.item()`, cannot be recorded.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from skebm.engine.noise import Noise

#: How many updates run before one is recorded. A recording takes the time of tens of updates.
WARM_UP = 10


class Captured:
    """Calls an update; on CUDA, records and replays it.

    Parameters
    ----------
    device : torch.device
    capturable : bool, default=True
        False never records.
    """

    def __init__(self, device: torch.device, capturable: bool = True):
        self.device, self.capturable = device, capturable and device.type == "cuda"
        self.graph: torch.cuda.CUDAGraph | None = None
        self._noise: Noise | None = None
        self._n_calls = 0

    def __call__(self, update: Callable[[Noise], None], noise: Noise) -> None:
        """Make the update; it is the same one in every call."""
        if self.graph is None and self.capturable and self._n_calls >= WARM_UP:
            self.graph, self._noise = self._record(update, noise), noise
        if self.graph is not None:
            assert noise is self._noise, "the graph draws from the noise of its recording"
            self.graph.replay()
            return
        self._n_calls += 1
        update(noise)

    def _record(self, update: Callable[[Noise], None], noise: Noise) -> torch.cuda.CUDAGraph:
        """Record the update, without running it."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(noise.generator)
        with torch.cuda.device(self.device), no_garbage_collection():
            stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    update(noise)
                except BaseException:
                    with suppress(RuntimeError):  # the error of the update says what is wrong
                        graph.capture_end()
                    raise
                graph.capture_end()
            current.wait_stream(stream)
        return graph


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect no reference cycles: to destroy another graph would break a recording."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
