"""One model trained by two processes, against one process with one and with two threads.

    python benchmarks/data_parallel.py

BernoulliRBM with 1,024 hidden units on the 60,000 grey images of MNIST, batches of 2,048, default
gradient (PCD-1 with as many chains as a batch has rows). Each process has one half of the rows.
Rows a second of the epochs after the first, in runs that alternate: median (lowest to highest).
"collective" is the share of the time in which a process sums gradients; it includes the wait for
the other process. "MB" is what a process sends for an update with a ring: 2 (n − 1)/n times the
size of the parameters.

Then a model of the cost (calculated, not measured): the smallest number of rows of one process in a
batch for which the sum of the gradients takes at most a fifth of the time of an update ::

    time of an update   = 10 n_visible n_hidden rows / operations a second      (PCD-1)
    time of the sum     = 2 (n − 1)/n · 4 n_visible n_hidden / bytes a second + 2 (n − 1) · latency

At the end, the log-likelihood of 1,000 test images, whose pixels are drawn by their grey values,
after the same number of epochs, log Z by annealed importance sampling: mean and deviation of the
seeds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np

CASES = {
    "1 process of 1 thread": (1, 1),
    "2 processes of 1 thread": (2, 1),
    "1 process of 2 threads": (1, 2),
}
LEVELS = 1000
#: Bytes a second and latency in seconds of networks, as they are sold.
NETWORKS = {
    "1 Gbit/s": (0.125e9, 50e-6),
    "10 Gbit/s": (1.25e9, 30e-6),
    "100 Gbit/s": (12.5e9, 10e-6),
    "400 Gbit/s": (50e9, 5e-6),
    "NVLink, one machine": (300e9, 3e-6),
}
#: What the products of an update reach on an H200 with 4,096 rows (benchmarks/gpu.py).
GPU_RATE = 43e12


def least_rows(rate, n_processes, bandwidth, latency, n_weights=784 * 1024, share=0.2):
    """The rows of a process in a batch for which the sum takes this share of an update."""
    n = n_processes
    of_sum = 2 * (n - 1) / n * 4 * n_weights / bandwidth + 2 * (n - 1) * latency
    return (1 - share) / share * of_sum * rate / (10 * n_weights)


def fit(n_threads, n_epochs, seed, scored):
    """Fit in this process of a group; rank 0 prints its figures."""
    import torch
    import torch.distributed as dist
    from data import mnist

    import skebm

    torch.set_num_threads(n_threads)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    reduce, seconds = dist.all_reduce, []

    def timed(*args, **settings):
        begin = time.perf_counter()
        reduce(*args, **settings)
        seconds.append(time.perf_counter() - begin)

    dist.all_reduce = timed
    X, X_test = (images / np.float32(255) for images in mnist()[::2])
    rbm = skebm.BernoulliRBM(1024, batch_size=2048, n_iter=n_epochs, random_state=seed)
    with skebm.data_parallel():
        rbm.fit(np.array_split(X, size)[rank])
    dist.destroy_process_group()
    warnings.simplefilter("ignore")  # log Z is estimated in the same way for both
    if rank > 0:
        return
    whole = rbm.history_["seconds"]
    collective = sum(seconds) / whole.sum()
    n_updates = -(-len(X) // 2048)
    bytes_sent = 4 * sum(
        array.size for array in (rbm.components_, rbm.intercept_hidden_, rbm.intercept_visible_)
    )
    score = float("nan")
    if scored:
        rows = np.random.default_rng(0).uniform(size=X_test[:1000].shape) < X_test[:1000]
        log_z = skebm.log_partition(rbm, betas=LEVELS, random_state=0)
        score = skebm.log_likelihood(rbm, rows.astype(np.float32), log_z=log_z).mean()
    median = statistics.median(whole[1:])
    print("figures", len(X) / median, median / n_updates, collective, bytes_sent, score)


def run(case, *arguments):
    """The figures of one fit, in a group of processes of its own."""
    size, n_threads = CASES[case]
    command = [sys.executable, __file__, "--fit", str(n_threads), *map(str, arguments)]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | where | {"RANK": str(rank)}
        )
        for rank in range(size)
    ]
    output = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes)
    line = next(line for line in output[0].splitlines() if line.startswith("figures"))
    return [float(word) for word in line.split()[1:]]


def free_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="for the likelihood")
    parser.add_argument("--seeds", type=int, default=3, help="for the likelihood")
    parser.add_argument("--fit", nargs=4, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        return fit(*options.fit)
    found = {case: [] for case in CASES}
    for _ in range(options.repeats):
        for case in CASES:
            found[case].append(run(case, 3, 0, 0))
    base = statistics.median(figures[0] for figures in found["1 process of 1 thread"])
    print("| | rows/s | ratio | ms an update | collective | MB an update |\n" + "|---" * 6 + "|")
    for case, runs in found.items():
        rates, seconds, shares, sizes, _ = zip(*runs)
        low, high = min(rates), max(rates)
        size = CASES[case][0]
        sent = 2 * (size - 1) / size * sizes[0] / 1e6
        print(
            f"| {case} | {statistics.median(rates):,.0f} ({low:,.0f}–{high:,.0f}) "
            f"| {statistics.median(rates) / base:.2f} | {1000 * statistics.median(seconds):.0f} "
            f"| {100 * statistics.median(shares):.1f} % | {sent:.1f} |"
        )
    cpu_rate = 10 * 784 * 1024 * base
    print(f"\nOperations a second: {cpu_rate:.2g} (one thread), {GPU_RATE:.2g} (H200)\n")
    print("| network | processes | one thread | H200 |\n|---|---|---|---|")
    for network, settings in NETWORKS.items():
        for n in (2, 8) if "one machine" in network else (2, 8, 64):
            rows = [least_rows(rate, n, *settings) for rate in (cpu_rate, GPU_RATE)]
            print(f"| {network} | {n} | {rows[0]:,.0f} | {rows[1]:,.0f} |")
    print("\n| | log-likelihood |\n|---|---|")
    for case in list(CASES)[:2]:
        scores = [run(case, options.epochs, seed, 1)[-1] for seed in range(options.seeds)]
        print(f"| {case} | {np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f} |", flush=True)


if __name__ == "__main__":
    main()
