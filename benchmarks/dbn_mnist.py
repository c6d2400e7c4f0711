"""A deep network, pre-trained and fine-tuned: MNIST, 784-500-500-2000-10, and scikit-learn's MLP.

    python benchmarks/dbn_mnist.py
    python benchmarks/dbn_mnist.py --dropout

Grey images, 60,000 to train on and 10,000 to test on. The MLPClassifier has the same hidden
layers, and as many epochs as it can start in the wall time that pre-training and fine-tuning took
together in the same run.

    python benchmarks/dbn_mnist.py --choose

compares settings of fine-tuning on 10,000 of the training rows, which are held out; test rows are
not used.
"""

import argparse
import time
from itertools import product

import numpy as np
import torch
from classifier_mnist import spread, timed
from data import mnist
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skebm import DBN, BernoulliRBM, DBNClassifier

SIZES = (500, 500, 2000)
LAYER = BernoulliRBM(
    gradient="cd",
    batch_size=100,
    learning_rate=0.05,
    learning_rate_schedule="linear",
    momentum=0.9,
    momentum_ramp=4,
    weight_decay=2e-4,
    n_iter=30,
)
PLAIN = DBNClassifier(
    optimizer="sgd",
    learning_rate=1.0,
    learning_rate_schedule="linear",
    momentum=0.9,
    batch_size=100,
    weight_decay=0.0,
    n_iter=20,
    precision="medium",
)
DROPOUT = clone(PLAIN).set_params(
    weight_decay=0.0, dropout=0.25, input_dropout=0.2, max_norm=6.0, n_iter=120
)


def stack(seed, options):
    layers = [clone(LAYER).set_params(n_components=size) for size in SIZES]
    return DBN(layers, n_iter=options.pretraining_epochs, random_state=seed)


def ours(data, seed, options):
    """Error in per cent, and minutes of pre-training and of fine-tuning."""
    X, y, X_test, y_test = data
    dbn = stack(seed, options)
    first = timed(lambda: dbn.fit(X))[1]
    clf = clone(DROPOUT if options.dropout else PLAIN)
    clf.set_params(layers=dbn, random_state=seed)
    if options.epochs is not None:
        clf.set_params(n_iter=options.epochs)
    second = timed(lambda: clf.fit(X, y))[1]
    if options.trace:
        print({name: np.round(values, 4) for name, values in clf.history_.items()})
    return 100 * (1 - clf.score(X_test, y_test)), first / 60, second / 60


def choose(data, options):
    """Print the error on held-out rows after fine-tuning with each setting, from equal stacks."""
    X, y, X_held, y_held = data
    template = DROPOUT if options.dropout else PLAIN
    varied = {"learning_rate": (0.2, 0.5, 1.0)}
    if options.dropout:
        varied["dropout"] = (0.25, 0.5)
    else:
        varied["weight_decay"] = (0.0, 3e-5, 1e-4)
    print(f"| {' | '.join(varied)} | error on held-out rows, % |" + "\n" + "|---" * 3 + "|")
    results = {values: [] for values in product(*varied.values())}
    for seed in range(options.seeds):
        dbn = stack(seed, options).fit(X)
        for values in results:
            clf = clone(template).set_params(layers=dbn, random_state=seed)
            clf.set_params(n_iter=options.epochs or clf.n_iter, **dict(zip(varied, values)))
            results[values].append(100 * (1 - clf.fit(X, y).score(X_held, y_held)))
            if seed == options.seeds - 1:
                print(f"| {values[0]} | {values[1]} | {spread(results[values])} |", flush=True)


def mlp(data, activation, minutes, seed):
    """Error in per cent, minutes and epochs of a multi-layer perceptron that has so much time."""
    X, y, X_test, y_test = data
    net = MLPClassifier(SIZES, activation=activation, random_state=seed)
    begin, epochs = time.perf_counter(), 0
    while time.perf_counter() - begin < 60 * minutes:
        net.partial_fit(X, y, classes=np.unique(y))
        epochs += 1
    taken = (time.perf_counter() - begin) / 60
    return 100 * (1 - net.score(X_test, y_test)), taken, epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dropout", action="store_true", help="with dropout and max-norm")
    parser.add_argument("--pretraining-epochs", type=int, default=LAYER.n_iter, help="of a layer")
    parser.add_argument("--epochs", type=int, help="of fine-tuning, other than the settings say")
    parser.add_argument("--rows", type=int, default=60_000, help="to train on, the first shuffled")
    parser.add_argument("--choose", action="store_true", help="compare settings on held-out rows")
    parser.add_argument("--mlp", nargs="*", default=["relu"], help="activations of the MLP")
    parser.add_argument("--trace", action="store_true", help="print the history of fine-tuning")
    options = parser.parse_args()
    torch.set_num_threads(2)
    X, y, X_test, y_test = mnist()
    X, X_test = (X / 255).astype(np.float32), (X_test / 255).astype(np.float32)
    if options.choose:
        X, X_test, y, y_test = train_test_split(X, y, test_size=10_000, random_state=0, stratify=y)
    chosen = np.random.RandomState(0).permutation(len(y))[: options.rows]
    data = X[chosen], y[chosen], X_test, y_test
    if options.choose:
        return choose(data, options)
    results = {}
    for seed in range(options.seeds):
        error, first, second = ours(data, seed, options)
        name = "DBNClassifier" + ", dropout" * options.dropout
        epochs = options.epochs or (DROPOUT if options.dropout else PLAIN).n_iter
        results.setdefault(name, []).append((error, first, second, epochs))
        for activation in options.mlp:
            error, taken, epochs = mlp(data, activation, first + second, seed)
            name = f"MLPClassifier, {activation}"
            results.setdefault(name, []).append((error, 0.0, taken, epochs))
        print(f"seed {seed}: { ({k: np.round(v[-1], 2).tolist() for k, v in results.items()}) }")
    print("\n| 784-500-500-2000-10 | error, % | min, pre-training | min, training | epochs |")
    print("|---|---|---|---|---|")
    for name, rows in results.items():
        errors, first, second, epochs = zip(*rows)
        cells = (spread(errors), spread(first, 1), spread(second, 1), spread(epochs, 0))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
