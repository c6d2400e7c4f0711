"""The time of what users wait for, beside scikit-learn and other peers.

    python -m pip install learnergy==2.0.2 rbms==0.5.0
    python benchmarks/against_peers.py

Runs in turn, medians, in one process with two threads unless the row says something else. Peers
get the same float32 rows and the same arguments. "products" are the matrix products of as many
updates alone, with torch.addmm: the floor of a fit. learnergy and rbms make the same number of
updates with one Gibbs sweep each, and are left out where they are not installed; of rbms it is the
updates alone, since its own training writes a file after each.
"""

import argparse
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from data import mnist
from scipy import sparse
from scipy.ndimage import shift
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM as ScikitRBM
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from skebm import BernoulliRBM, DBNClassifier, DropoutRBM, GaussianRBM

DEFAULTS = {"n_components": 256, "batch_size": 10, "n_iter": 10, "learning_rate": 0.1}


def grey_mnist(n):
    return (mnist()[0][:n] / 255).astype(np.float32)


def digits():
    return (load_digits().data / 16).astype(np.float32)


def nudged():
    """The digits and their neighbours, one pixel up, down, left and right: (8985, 64)."""
    images = load_digits().images
    moves = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    nudged = [shift(images, (0, *move), order=0) for move in moves]
    return (np.concatenate(nudged).reshape(-1, 64) / 16).astype(np.float32)


def seconds(call):
    """The seconds of a call, or those that it measured and returns."""
    begin = time.perf_counter()
    result = call()
    return result if isinstance(result, float) else time.perf_counter() - begin


def products(X, n_components, batch_size, n_iter, **_):
    v = torch.from_numpy(X[:batch_size].copy())
    W, h = torch.rand(n_components, X.shape[1]), torch.rand(batch_size, n_components)
    b, c, both = torch.rand(X.shape[1]), torch.rand(n_components), torch.cat([v, v])
    two = torch.cat([h, h]).T
    for _ in range(n_iter * (len(X) // batch_size)):
        torch.addmm(b, h, W)
        torch.addmm(c, both, W.T)
        torch.mm(two, both)


def learnergy(X, n_components, batch_size, n_iter, learning_rate, name="RBM"):
    try:
        from learnergy.models import bernoulli
    except ImportError:
        return None
    import logging

    logging.disable(logging.INFO)
    rows = torch.from_numpy(X)
    data = torch.utils.data.TensorDataset(rows, torch.zeros(len(rows)))
    sizes = {"n_visible": X.shape[1], "n_hidden": n_components}
    model = getattr(bernoulli, name)(**sizes, steps=1, learning_rate=learning_rate)
    return lambda: model.fit(data, batch_size=batch_size, epochs=n_iter)


def rbms(X, n_components, batch_size, n_iter, learning_rate):
    try:
        from rbms.bernoulli_bernoulli.classes import BBRBM
        from rbms.training.pcd import fit_batch_pcd
    except ImportError:
        return None
    rows, ones = torch.from_numpy(X), torch.ones(batch_size)

    @torch.no_grad()
    def fit():
        weights = 0.01 * torch.randn(X.shape[1], n_components)
        model = BBRBM(weights, torch.zeros(X.shape[1]), torch.zeros(n_components))
        model.init_grad()
        optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, maximize=True)
        chains = model.init_chains(batch_size)
        for _ in range(n_iter):
            for index in torch.randperm(len(rows)).split(batch_size):
                batch = rows[index], ones[: len(index)]
                optimizer.zero_grad(set_to_none=False)
                chains, _ = fit_batch_pcd(batch, chains, model, gibbs_steps=1, beta=1.0)
                optimizer.step()

    return fit


def fits(X, *, peers=True, precisions=("high", "medium"), **params):
    """Fits of BernoulliRBM at equal arguments."""
    calls = {"scikit-learn": lambda: ScikitRBM(random_state=0, **params).fit(X)}
    for precision in precisions:
        calls[f"skebm, {precision}"] = lambda precision=precision: BernoulliRBM(
            random_state=0, precision=precision, **params
        ).fit(X)
    if peers:
        calls["products"] = lambda: products(X, **params)
        for peer in (learnergy, rbms):
            call = peer(X, **params)
            if call is not None:
                calls[peer.__name__] = call
    return calls


def wide_sparse():
    rows = sparse.random_array((60000, 10000), density=0.01, format="csr", dtype=np.float32, rng=0)
    rows.data[:] = 1
    params = {"n_components": 256, "batch_size": 128, "n_iter": 1, "learning_rate": 0.05}
    return fits(rows, peers=False, **params)


def fit_of(n_components, batch_size):
    sizes = {"n_components": n_components, "batch_size": batch_size}
    return lambda: fits(grey_mnist(20_000), n_iter=3, learning_rate=0.05, **sizes)


def search(estimator, n_threads, n_jobs):
    """Eight candidates and three folds of a pipeline on the digits."""
    X, y = digits(), load_digits().target
    model = Pipeline([("rbm", estimator), ("classifier", LogisticRegression(max_iter=300))])
    grid = {"n_components": [64, 128], "n_iter": [20, 40], "learning_rate": [0.05, 0.1]}
    grid = {f"rbm__{name}": values for name, values in grid.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            GridSearchCV(model, grid, cv=3, n_jobs=n_jobs).fit(X, y)
    finally:
        torch.set_num_threads(before)


def searches(n_jobs, n_threads):
    """A grid search; joblib gives its processes one thread if there are as many as cores."""
    estimators = {
        "scikit-learn": ScikitRBM(random_state=0),
        "skebm": BernoulliRBM(random_state=0, grey_values="mean"),
    }
    return {
        name: lambda estimator=estimator: search(estimator, n_threads, n_jobs)
        for name, estimator in estimators.items()
    }


def in_process(kind):
    """Seconds of a fit at default settings, in a process of its own with default threads."""
    X, y = digits(), load_digits().target
    return seconds(lambda: kind(random_state=0).fit(X, y))


def concurrent(kind):
    """A fit alone, and two processes that fit at the same time."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(2, mp_context=context)
    list(pool.map(in_process, [kind] * 4))  # both have imported everything

    def at_once(n):
        return float(np.mean(list(pool.map(in_process, [kind] * n))))

    return {"alone": lambda: at_once(1), "two at once": lambda: at_once(2)}


def threads(kind):
    """The same fit with one thread and with two."""

    def fit(n):
        before = torch.get_num_threads()
        torch.set_num_threads(n)
        kind(random_state=0).fit(digits(), load_digits().target)
        torch.set_num_threads(before)

    return {"one thread": lambda: fit(1), "two threads": lambda: fit(2)}


def dropped_weights():
    X = grey_mnist(10_000)
    params = {"n_components": 256, "batch_size": 128, "n_iter": 10, "learning_rate": 0.1}
    calls = {
        "units": lambda: DropoutRBM(random_state=0, **params).fit(X),
        "weights": lambda: DropoutRBM(random_state=0, drop="weights", **params).fit(X),
    }
    call = learnergy(X, name="DropConnectRBM", **params)
    return calls if call is None else calls | {"learnergy": call}


def gaussian():
    X = grey_mnist(10_000)
    model = GaussianRBM(random_state=0)
    n_iter = model._n_epochs(len(X))
    sizes = {"n_components": 256, "batch_size": model.batch_size, "n_iter": n_iter}
    return {"products": lambda: products(X, **sizes), "skebm": lambda: model.fit(X)}


def scores():
    X = grey_mnist(2_000)
    model = BernoulliRBM(n_iter=1, random_state=0).fit(X)
    numbers = torch.rand(len(X) * 16, model.n_components)

    def softplus():
        for _ in range(X.shape[1] // 16):
            torch.nn.functional.softplus(numbers)

    return {"softplus alone": softplus, "skebm, exact": lambda: model.score_samples(X)}


def transform():
    X = grey_mnist(60_000)
    fitted = [Estimator(500, n_iter=0).fit(X[:128]) for Estimator in (ScikitRBM, BernoulliRBM)]
    return dict(
        zip(("scikit-learn", "skebm"), (lambda model=model: model.transform(X) for model in fitted))
    )


def imports():
    def of(names):
        return lambda: subprocess.run([sys.executable, "-c", f"import {names}"], check=True)

    modules = "torch, sklearn.linear_model, sklearn.model_selection, sklearn.neural_network"
    return {"torch and scikit-learn": of(modules), "skebm": of("skebm")}


ROWS = {
    "20,000 rows of MNIST, batch 128, 128 hidden, 3 epochs": fit_of(128, 128),
    "20,000 rows of MNIST, batch 128, 500 hidden, 3 epochs": fit_of(500, 128),
    "20,000 rows of MNIST, batch 512, 1024 hidden, 3 epochs": fit_of(1024, 512),
    "10,000 rows of MNIST, default arguments": lambda: fits(
        grey_mnist(10_000), peers=False, precisions=("medium",), **DEFAULTS
    ),
    "digits, default arguments": lambda: fits(digits(), precisions=("medium",), **DEFAULTS),
    "digits, nudged, batch 10, 100 hidden, 10 epochs": lambda: fits(
        nudged(), n_components=100, batch_size=10, n_iter=10, learning_rate=0.06
    ),
    "CSR, 60,000 × 10,000 with 1 % ones, batch 128, 256 hidden, 1 epoch": wide_sparse,
    "transform of 60,000 rows, 500 hidden": transform,
    "grid search, n_jobs=1": lambda: searches(1, 2),
    "grid search, n_jobs=1, one thread": lambda: searches(1, 1),
    "grid search, n_jobs=2": lambda: searches(2, 2),
    "BernoulliRBM() of digits, threads": lambda: threads(BernoulliRBM),
    "DBNClassifier() of digits, threads": lambda: threads(DBNClassifier),
    "BernoulliRBM() of digits, processes": lambda: concurrent(BernoulliRBM),
    "DBNClassifier() of digits, processes": lambda: concurrent(DBNClassifier),
    "dropout, 10,000 rows of MNIST, batch 128, 10 epochs": dropped_weights,
    "GaussianRBM(), 10,000 rows of MNIST": gaussian,
    "score_samples of 2,000 rows of MNIST, 256 hidden": scores,
    "import": imports,
}


def report(name, calls, repeats):
    times = {peer: [] for peer in calls}
    for _ in range(repeats):
        for peer, call in calls.items():
            times[peer].append(seconds(call))
    first = next(iter(calls))
    print(f"\n{name}: median seconds of {repeats} runs, and ratio to {first} (range)")
    for peer, values in times.items():
        ratios = np.divide(values, times[first])
        print(
            f"  {peer:<22} {np.median(values):7.3f} s   {np.median(ratios):.2f} "
            f"({ratios.min():.2f} to {ratios.max():.2f})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="rows whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name, calls in ROWS.items():
        if options.only is None or options.only in name:
            report(name, calls(), options.repeats)


if __name__ == "__main__":
    main()
