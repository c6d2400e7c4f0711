"""The time of a whole fit, over that of scikit-learn's BernoulliRBM on the same float32 rows.

    python -m pip install learnergy==2.0.2 rbms==0.5.0
    python benchmarks/against_peers.py

One process, two threads, runs in turn; medians. "products" are the matrix products of as many
epochs alone, with torch.addmm. learnergy and rbms make the same number of updates with one Gibbs
sweep each, and are left out where they are not installed; of rbms it is the updates alone, since
its own training writes a file after each.
"""

import argparse
import time

import numpy as np
import torch
from data import mnist
from scipy import sparse
from scipy.ndimage import shift
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM as ScikitRBM

from skebm import BernoulliRBM


def digits():
    """The digits and their neighbours, one pixel up, down, left and right: (8985, 64)."""
    images = load_digits().images
    moves = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    nudged = [shift(images, (0, *move), order=0) for move in moves]
    return (np.concatenate(nudged).reshape(-1, 64) / 16).astype(np.float32)


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def products(X, n_components, batch_size, n_iter):
    v = torch.from_numpy(X[:batch_size].copy())
    W, h = torch.rand(n_components, X.shape[1]), torch.rand(batch_size, n_components)
    b, c, both = torch.rand(X.shape[1]), torch.rand(n_components), torch.cat([v, v])
    two = torch.cat([h, h]).T
    for _ in range(n_iter * (len(X) // batch_size)):
        torch.addmm(c, v, W.T)
        torch.addmm(b, h, W)
        torch.addmm(c, v, W.T)
        torch.mm(two, both)


def learnergy(X, n_components, batch_size, n_iter, rate):
    try:
        from learnergy.models.bernoulli import RBM
    except ImportError:
        return None
    import logging

    logging.disable(logging.INFO)
    rows = torch.from_numpy(X)
    data = torch.utils.data.TensorDataset(rows, torch.zeros(len(rows)))
    model = RBM(n_visible=X.shape[1], n_hidden=n_components, steps=1, learning_rate=rate)
    return lambda: model.fit(data, batch_size=batch_size, epochs=n_iter)


def rbms(X, n_components, batch_size, n_iter, rate):
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
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, maximize=True)
        chains = model.init_chains(batch_size)
        for _ in range(n_iter):
            for index in torch.randperm(len(rows)).split(batch_size):
                batch = rows[index], ones[: len(index)]
                optimizer.zero_grad(set_to_none=False)
                chains, _ = fit_batch_pcd(batch, chains, model, gibbs_steps=1, beta=1.0)
                optimizer.step()

    return fit


def compare(name, X, repeats, *, peers=True, **params):
    calls = {"scikit-learn": lambda: ScikitRBM(random_state=0, **params).fit(X)}
    for precision in ("high", "medium"):
        calls[f"skebm, {precision}"] = lambda precision=precision: BernoulliRBM(
            random_state=0, precision=precision, **params
        ).fit(X)
    if peers:
        sizes = [params[key] for key in ("n_components", "batch_size", "n_iter")]
        calls["products"] = lambda: products(X, *sizes)
        for peer in (learnergy, rbms):
            call = peer(X, *sizes, params["learning_rate"])
            if call is not None:
                calls[peer.__name__] = call
    report(name, calls, repeats)


def report(name, calls, repeats):
    times = {peer: [] for peer in calls}
    for _ in range(repeats):
        for peer, call in calls.items():
            times[peer].append(seconds(call))
    base = times["scikit-learn"]
    print(f"\n{name}: median seconds of {repeats} runs, and ratio to scikit-learn (range)")
    for peer, values in times.items():
        ratios = np.divide(values, base)
        print(
            f"  {peer:<14} {np.median(values):7.3f} s   {np.median(ratios):.2f} "
            f"({ratios.min():.2f} to {ratios.max():.2f})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)

    pixels, *_ = mnist()
    X = (pixels / 255).astype(np.float32)
    for batch_size, n_components in ((128, 128), (128, 500), (512, 1024)):
        compare(
            f"20,000 rows of MNIST, batch {batch_size}, {n_components} hidden, 3 epochs",
            X[:20000],
            options.repeats,
            n_components=n_components,
            batch_size=batch_size,
            n_iter=3,
            learning_rate=0.05,
        )
    compare(
        "digits, nudged, batch 10, 100 hidden, 10 epochs",
        digits(),
        options.repeats,
        n_components=100,
        batch_size=10,
        n_iter=10,
        learning_rate=0.06,
    )
    fitted = [Estimator(500, n_iter=0).fit(X[:128]) for Estimator in (BernoulliRBM, ScikitRBM)]
    calls = dict(zip(("skebm", "scikit-learn"), (lambda m=m: m.transform(X) for m in fitted)))
    report("transform of 60,000 rows, 500 hidden", calls, options.repeats)
    rows = sparse.random_array((60000, 10000), density=0.01, format="csr", dtype=np.float32, rng=0)
    rows.data[:] = 1
    compare(
        "CSR, 60,000 × 10,000 with 1 % ones, batch 128, 256 hidden, 1 epoch",
        rows,
        1,
        peers=False,
        n_components=256,
        batch_size=128,
        n_iter=1,
        learning_rate=0.05,
    )


if __name__ == "__main__":
    main()
