"""Features of two-layer DBNs, ours and learnergy's, with and without a residual path.

    python -m pip install learnergy==2.0.2
    python benchmarks/dbn_against_learnergy.py

The same rows of MNIST, sizes, epochs and batches of 128. The accuracy is that of scikit-learn's
logistic regression on the features, on the 10,000 test rows. Fits alternate, ours before theirs in
every second seed; "time" is over that of learnergy at its default rate in the same seed. "as
learnergy" is ours with learnergy's settings.

    python benchmarks/dbn_against_learnergy.py --choose

compares rates and momenta of ours on a fifth of the training rows, which is held out; test rows
are not used.
"""

import argparse
import itertools
import logging
import warnings

import numpy as np
import torch
from classifier_mnist import spread, timed
from data import mnist
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skebm import DBN, BernoulliRBM

BATCH = 128
OURS = BernoulliRBM(
    gradient="cd",
    batch_size=BATCH,
    learning_rate=0.1,
    learning_rate_schedule="linear",
    momentum=0.9,
)
AS_LEARNERGY = BernoulliRBM(gradient="cd", batch_size=BATCH, learning_rate=0.1, centered=False)


def skebm_model(layer, residual, options, seed):
    """What fits a stack of ours, and what gives features."""
    layers = [clone(layer).set_params(n_components=size) for size in options.sizes]
    dbn = DBN(layers, n_iter=options.epochs, residual=residual, random_state=seed)
    return lambda rows, _: dbn.fit(rows), dbn.transform


def choose(residual, X, y, options):
    """Print the accuracy on held-out rows for rates and momenta of ours."""
    X, X_held, y, y_held = train_test_split(X, y, test_size=0.2, random_state=0)
    for rate, momentum in itertools.product((0.05, 0.1, 0.2), (0.5, 0.9)):
        layer, right = clone(OURS).set_params(learning_rate=rate, momentum=momentum), []
        for seed in range(options.seeds):
            fit, transform = skebm_model(layer, residual, options, seed)
            fit(X, None)
            classifier = LogisticRegression(max_iter=options.max_iter).fit(transform(X), y)
            right.append(100 * classifier.score(transform(X_held), y_held))
        print(
            f"| residual={residual}, rate {rate}, momentum {momentum} | {spread(right)} |",
            flush=True,
        )


def learnergy_model(rate, residual, options, seed):
    """The same of learnergy's."""
    from learnergy.models import deep

    torch.manual_seed(seed)
    n = len(options.sizes)
    settings = {
        "model": (options.model,) * n if options.model else ("bernoulli",),
        "n_visible": 784,
        "n_hidden": tuple(options.sizes),
        "learning_rate": (rate,) * n,
        "steps": (1,) * n,
        "momentum": (0.0,) * n,
        "decay": (0.0,) * n,
        "temperature": (1.0,) * n,
    }
    peer = deep.DBN(**settings)
    if residual is not None:
        peer = deep.ResidualDBN(**settings, zetta1=residual[0], zetta2=residual[1])

    def fit(_, dataset):
        peer.fit(dataset, batch_size=BATCH, epochs=(options.epochs,) * n)

    def transform(rows):
        with torch.no_grad():
            return peer(torch.from_numpy(rows)).numpy()

    return fit, transform


def compare(residual, data, options):
    """For each model: accuracies, seconds, and times over learnergy's at its default rate."""
    X, y, X_test, y_test = data
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    makers = {
        "skebm": (skebm_model, OURS),
        "skebm, as learnergy": (skebm_model, AS_LEARNERGY),
        **{f"learnergy, rate {rate}": (learnergy_model, rate) for rate in options.rates},
    }
    base = f"learnergy, rate {options.rates[0]}"
    results = {name: ([], [], []) for name in makers}
    for seed in range(options.seeds):
        seconds = {}
        for name in list(makers)[:: -1 if seed % 2 else 1]:
            make, setting = makers[name]
            fit, transform = make(setting, residual, options, seed)
            seconds[name] = timed(lambda fit=fit: fit(X, dataset))[1]
            classifier = LogisticRegression(max_iter=options.max_iter)
            classifier.fit(transform(X), y)
            results[name][0].append(100 * classifier.score(transform(X_test), y_test))
        for name, taken in seconds.items():
            results[name][1].append(taken)
            results[name][2].append(taken / seconds[base])
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10, help="of each layer")
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 128])
    parser.add_argument("--rates", nargs="*", type=float, default=[0.1, 1.0], help="learnergy's")
    parser.add_argument("--model", help="all of learnergy's layers; by default as it chooses")
    parser.add_argument("--residual", nargs=2, type=float, default=[1.0, 1.0])
    parser.add_argument("--max-iter", type=int, default=300, help="of logistic regression")
    parser.add_argument("--choose", action="store_true", help="compare settings on held-out rows")
    options = parser.parse_args()
    torch.set_num_threads(2)
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y, X_test, y_test = mnist()
    rows = np.random.RandomState(0).permutation(len(y))[: options.rows]
    X, X_test = (X[rows] / 255).astype(np.float32), (X_test / 255).astype(np.float32)
    data = X, y[rows].astype(int), X_test, y_test.astype(int)
    if options.choose:
        for residual in (None, tuple(options.residual)):
            choose(residual, data[0], data[1], options)
        return
    sizes = "-".join(map(str, options.sizes))
    print(f"784-{sizes}, {len(X):,} rows, {options.epochs} epochs, {options.seeds} seeds\n")
    print("| model | right, % | s a fit | time |\n|---|---|---|---|")
    for name, residual in (("DBN", None), ("residual DBN", tuple(options.residual))):
        for who, (right, seconds, ratio) in compare(residual, data, options).items():
            cells = f"{spread(right)} | {spread(seconds, 1)} | {spread(ratio)}"
            print(f"| {name}, {who} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
