"""A grid search with one and with two workers: processes of joblib, and of a Dask cluster.

    python benchmarks/searches.py

4 candidates and 3 folds of BernoulliRBM (40 epochs) and LogisticRegression on scikit-learn's
digits. Seconds of `fit` without the final fit on all rows, in runs that alternate: median (lowest
to highest). Every worker has one thread. The workers are started before, by a search of the same
kind on a few rows. Needs `pip install dask distributed`.
"""

import argparse
import statistics
import time
from contextlib import ExitStack

import joblib
import threadpoolctl
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skebm import BernoulliRBM

GRID = {
    "bernoullirbm__n_components": [128, 256],
    "logisticregression__C": [0.1, 1.0],
}


def seconds(backend, n_workers):
    """The time of a search."""
    X, y = load_digits(return_X_y=True)
    X /= 16
    model = make_pipeline(
        BernoulliRBM(n_iter=40, random_state=0), LogisticRegression(max_iter=1000)
    )
    search = GridSearchCV(model, GRID, cv=3, refit=False)
    with ExitStack() as stack:
        if backend == "dask":
            from dask.distributed import Client, LocalCluster

            settings = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
            cluster = stack.enter_context(LocalCluster(n_workers=n_workers, **settings))
            stack.enter_context(Client(cluster))
            stack.enter_context(joblib.parallel_config("dask", scatter=[X, y]))
        else:
            # n_jobs=1 runs in this process, whose products would have more threads.
            stack.enter_context(threadpoolctl.threadpool_limits(1))
            torch.set_num_threads(1)
            stack.enter_context(joblib.parallel_config(backend, n_jobs=n_workers))
        search.fit(X[:100], y[:100])
        begin = time.perf_counter()
        search.fit(X, y)
        return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    cases = [(backend, n) for backend in ("loky", "dask") for n in (1, 2)]
    found = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            found[case].append(seconds(*case))
    print("| backend | workers | seconds | one worker's time over it |\n|---|---|---|---|")
    for (backend, n), times in found.items():
        median = statistics.median(times)
        ratio = statistics.median(found[backend, 1]) / median
        print(
            f"| {backend} | {n} | {median:.1f} ({min(times):.1f}–{max(times):.1f}) | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
