"""Groups of real processes that run the functions of a test, with gloo on the loopback device."""

import datetime
import multiprocessing
import os
from multiprocessing.connection import wait

import torch
import torch.distributed as dist

import skebm

TIMEOUT = 60  # seconds


def worker(rank, size, port, connection):
    """Run functions that arrive at the connection, inside of `data_parallel`, until None comes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, size + 1, False)
    timeout = datetime.timedelta(seconds=TIMEOUT)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    while (task := connection.recv()) is not None:
        function, args = task
        try:
            with skebm.data_parallel():
                result = function(*args)
            connection.send((result, None))
        except Exception as error:
            connection.send((None, f"{type(error).__name__}: {error}"))


class Group:
    """Processes of one group; a call runs a function in all of them.

    Parameters
    ----------
    size : int
    """

    def __init__(self, size):
        self.size, context = size, multiprocessing.get_context("spawn")
        self.store = dist.TCPStore("127.0.0.1", 0, size + 1, True, wait_for_workers=False)
        pairs = [context.Pipe() for _ in range(size)]
        self.connections = [own for own, _ in pairs]
        self.processes = [
            context.Process(target=worker, args=(rank, size, self.store.port, other), daemon=True)
            for rank, (_, other) in enumerate(pairs)
        ]
        for process in self.processes:
            process.start()
        for _, other in pairs:
            other.close()

    def __call__(self, function, *args):
        """The results of function(rank, size, *args), and the errors, by rank; "killed" is one."""
        for rank, connection in enumerate(self.connections):
            connection.send((function, (rank, self.size, *args)))
        results, errors = [None] * self.size, [None] * self.size
        for rank, connection in enumerate(self.connections):
            ready = wait([connection], 2 * TIMEOUT)
            assert ready, f"The process of rank {rank} hangs."
            try:
                results[rank], errors[rank] = connection.recv()
            except EOFError:
                errors[rank] = "killed"
        return results, errors

    def results(self, function, *args):
        """The results of function(rank, size, *args) by rank; no process may fail."""
        results, errors = self(function, *args)
        assert errors == [None] * self.size, errors
        return results

    def close(self):
        for connection, process in zip(self.connections, self.processes):
            if process.is_alive():
                connection.send(None)
            process.join(10)
            process.kill()
