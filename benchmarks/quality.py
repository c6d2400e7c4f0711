"""How good the models are that a training time buys, and what precision costs.

    python benchmarks/quality.py

Gradients: exact log-likelihood after training for the same time with each of them. Bars and
stripes of 3 × 3 pixels (8 hidden units), mushrooms (23) and MNIST thresholded at 0.5 (16); log Z
by enumerating the hidden states. Every fit makes as many epochs as its time allows, at a rate
that falls to zero from the one that is best on the validation rows, on average over seeds. Nats
a row, medians of the seeds. Then mushrooms with more time and tempering.

Precision: what the model loses by faster products, beside the spread of the seeds: exact
log-likelihood with 16 hidden units, pseudo-log-likelihood with 500.

Time: until the pseudo-log-likelihood of sampled test images is what scikit-learn's
BernoulliRBM has after 10 epochs; both train on grey images, 500 hidden units.
"""

import argparse
import time

import numpy as np
import torch
from data import mnist, mushrooms
from sklearn.neural_network import BernoulliRBM as ScikitRBM

from skebm import CD, PCD, BernoulliRBM, ParallelTempering, log_likelihood, log_partition

GRADIENTS = {
    "CD-1": CD(),
    "CD-10": CD(n_steps=10),
    "PCD-1": PCD(),
    "PCD-10": PCD(n_steps=10),
    "PT": ParallelTempering(),
}


def bars_and_stripes():
    """The 16 rows, all-on and all-off counted twice, for training, validation and test."""
    stripes = np.repeat(np.arange(8)[:, None] >> np.arange(3) & 1, 3, axis=1)  # (8, 9)
    bars = stripes.reshape(-1, 3, 3).transpose(0, 2, 1).reshape(-1, 9)  # (8, 9)
    rows = np.vstack([stripes, bars]).astype(np.uint8)
    return np.tile(rows, (50, 1)), rows, rows


def thresholded_mnist():
    X, _, test, _ = mnist()
    order = np.random.default_rng(0).permutation(len(X))
    X, test = (X[order] > 127).view(np.uint8), (test > 127).view(np.uint8)
    return X[:50000], X[50000:], test


#: name: rows, seconds of a fit, rates, arguments
GRADIENT_SETTINGS = {
    "bars": (bars_and_stripes, 3, (0.05, 0.2), {"n_components": 8, "batch_size": 16}),
    "mushrooms": (mushrooms, 10, (0.01, 0.05), {"n_components": 23, "batch_size": 50}),
    "mnist": (thresholded_mnist, 10, (0.01, 0.05), {"n_components": 16, "batch_size": 100}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=[*GRADIENT_SETTINGS, "long", "precision", "time"])
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name, setting in GRADIENT_SETTINGS.items():
        if options.only in (None, name):
            compare_gradients(name, *setting, options.seeds)
    if options.only in (None, "long"):
        train_long(options.seeds)
    if options.only in (None, "precision"):
        compare_precisions(5)
    if options.only in (None, "time"):
        compare_times(options.seeds)


def compare_gradients(name, load, budget, rates, params, n_seeds):
    train, valid, test = load()
    print(f"\n{name}: {train.shape[0]} rows, {budget} s a fit, {params}", flush=True)
    for label, gradient in GRADIENTS.items():
        choose_rate(label, gradient, rates, params, (train, valid, test), budget, n_seeds)


def train_long(n_seeds):
    print("\nmushrooms, tempering with 20 levels of 25 chains, 1000 epochs", flush=True)
    gradient = ParallelTempering(n_levels=20, n_chains=25)
    params = {"n_components": 23, "batch_size": 50, "n_iter": 1000}
    choose_rate("PT", gradient, (0.05, 0.1), params, mushrooms(), None, n_seeds)


def choose_rate(label, gradient, rates, params, rows, budget, n_seeds):
    """Fit with each rate, and print what the one that is best on the validation rows gives."""
    results = {}
    for rate in rates:
        rbm = BernoulliRBM(
            gradient=gradient, learning_rate=rate, learning_rate_schedule="linear", **params
        )
        results[rate] = [fit(rbm, rows, budget, seed) for seed in range(n_seeds)]
    best = max(results, key=lambda rate: np.mean(results[rate], axis=0)[0])
    valid, test, seconds, epochs = np.transpose(results[best])
    print(
        f"  {label:<7} rate {best:<5} valid {np.median(valid):8.2f}   "
        f"test {np.median(test):8.2f} ({test.min():.2f} to {test.max():.2f})   "
        f"{np.median(epochs):5.0f} epochs, {np.median(seconds):.1f} s",
        flush=True,
    )


def fit(rbm, rows, budget, seed):
    """(log-likelihood on valid, on test, seconds, epochs) of a fit that takes `budget` seconds."""
    train, valid, test = rows
    rbm.set_params(random_state=seed)
    if budget is not None:
        rbm.set_params(n_iter=3).fit(train)
        rbm.set_params(n_iter=max(1, int(budget / np.median(rbm.history_["seconds"]))))
    begin = time.perf_counter()
    rbm.fit(train)
    seconds = time.perf_counter() - begin
    log_z = log_partition(rbm, method="exact")
    scores = [log_likelihood(rbm, X, log_z=log_z).mean() for X in (valid, test)]
    return *scores, seconds, rbm.n_iter_


def compare_precisions(n_seeds):
    train, _, test = thresholded_mnist()
    grey, sampled = grey_mnist()
    for name, figure in (
        ("16 hidden, exact log-likelihood", lambda **p: small(train, test, **p)),
        ("500 hidden, pseudo-log-likelihood", lambda **p: large(grey, sampled, **p)),
    ):
        print(f"\nprecision, {name}, {n_seeds} seeds", flush=True)
        base = None
        for precision in ("highest", "high", "medium"):
            figures = [figure(precision=precision, random_state=s) for s in range(n_seeds)]
            base = figures if base is None else base
            print(
                f"  {precision:<8} median {np.median(figures):8.3f}   standard deviation of the "
                f"seeds {np.std(figures, ddof=1):.3f}   mean difference to highest "
                f"{np.mean(np.subtract(figures, base)):+.3f}",
                flush=True,
            )


def small(train, test, **params):
    rbm = BernoulliRBM(16, batch_size=100, learning_rate=0.01, n_iter=20, **params).fit(train)
    return log_likelihood(rbm, test).mean()


def large(train, test, **params):
    rbm = BernoulliRBM(500, batch_size=100, learning_rate=0.05, n_iter=5, **params).fit(train)
    return rbm.score(test)


def grey_mnist():
    """Grey training images, and a sample of 2000 test images."""
    X, _, test, _ = mnist()
    rng = np.random.default_rng(0)
    test = test[rng.choice(len(test), 2000, replace=False)]
    return (X / 255).astype(np.float32), (rng.random(test.shape) < test / 255).view(np.uint8)


def compare_times(n_seeds):
    train, test = grey_mnist()
    params = {"n_components": 500, "batch_size": 100, "learning_rate": 0.05}
    BernoulliRBM(n_iter=1, **params).fit(train[:1000])  # what the first call costs
    print("\ntime to the pseudo-log-likelihood of scikit-learn after 10 epochs", flush=True)
    for seed in range(n_seeds):
        begin = time.perf_counter()
        peer = ScikitRBM(n_iter=10, random_state=seed, **params).fit(train)
        peer_seconds = time.perf_counter() - begin
        rbm = BernoulliRBM(n_iter=0, random_state=seed, **params).fit(test)
        for name in ("components_", "intercept_hidden_", "intercept_visible_"):
            setattr(rbm, name, getattr(peer, name))
        goal, path, seconds = rbm.score(test), [], 0.0
        rbm = BernoulliRBM(random_state=seed, **params)
        while not path or path[-1] < goal:
            begin = time.perf_counter()
            rbm.partial_fit(train)
            seconds += time.perf_counter() - begin
            path.append(rbm.score(test))
        print(
            f"  seed {seed}: scikit-learn {goal:.2f} in {peer_seconds:.1f} s; skebm "
            f"{', '.join(f'{score:.2f}' for score in path)} in {seconds:.1f} s: "
            f"{seconds / peer_seconds:.2f} of the time",
            flush=True,
        )


if __name__ == "__main__":
    main()
