"""Time of annealed importance sampling: 500 hidden units, 784 visible, 100 chains.

    python -m pip install rbms==0.5.0
    python benchmarks/ais.py

The 14,500 levels of Salakhutdinov and Murray (2008); the matrix products of as many sweeps
alone, with torch.addmm; and rbms with as many levels and chains, left out where it is not
installed. One process, two threads, runs in turn.
"""

import argparse
import time

import numpy as np
import torch
from data import mnist
from mnist_500 import LEVELS

from skebm import BernoulliRBM, log_partition


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)

    X = (mnist()[0][:20000] > 127).view(np.uint8)
    rbm = BernoulliRBM(500, batch_size=100, learning_rate=0.05, n_iter=5, random_state=0).fit(X)
    calls = {
        "skebm": lambda: log_partition(rbm, method="ais", betas=LEVELS, random_state=0).value,
        "products": lambda: products(rbm),
    }
    if (call := rbms(rbm)) is not None:
        calls["rbms"] = call
    times = {name: [] for name in calls}
    for _ in range(options.repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            result = call()
            times[name].append(time.perf_counter() - begin)
            print(f"{name:<9} {times[name][-1]:6.1f} s   log Z = {result:.2f}", flush=True)
    ours = np.array(times.pop("skebm"))
    for name, values in times.items():
        print(f"skebm over {name}: {np.median(ours / values):.2f}")


def products(rbm):
    v, h = torch.rand(100, 784), torch.rand(100, 500)
    W, b, c = (
        torch.from_numpy(a)
        for a in (rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_)
    )
    for _ in range(len(LEVELS) - 1):
        torch.addmm(c, v, W.T)
        torch.addmm(b, h, W)
    return np.nan


def rbms(rbm):
    try:
        from rbms.bernoulli_bernoulli.classes import BBRBM
        from rbms.partition_function.ais import compute_partition_function_ais
    except ImportError:
        return None
    arrays = rbm.components_.T.copy(), rbm.intercept_visible_, rbm.intercept_hidden_
    model = BBRBM(*(torch.from_numpy(a) for a in arrays))
    return lambda: compute_partition_function_ais(100, len(LEVELS), model)


if __name__ == "__main__":
    main()
