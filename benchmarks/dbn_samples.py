"""Samples of each class from a deep belief network on MNIST, as a separate classifier sees them.

784-500-500, and on top of them 2000 units with the labels beside (Hinton, Osindero, Teh 2006);
pixels are binarised by chance, p = grey value. For a sample of a class, Gibbs sampling starts
from random units of the top with the label held fixed; pixels are probabilities. The judge is
scikit-learn's MLPClassifier, trained on the grey images. "variety" is the variance of the pixels
within a class, mean over pixels and classes, over that of test rows: samples that are all alike
have 0.
With `--validate` 10,000 of the training rows stand for the test rows, and the judge starts from
another seed: settings are chosen so.
`--picture` writes ten samples of each class, a row for each.
"""

import argparse
import warnings

import numpy as np
import torch
from classifier_mnist import spread, timed
from data import mnist
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skebm import DBN, PCD, BernoulliRBM, RBMClassifier

SIZES = (500, 500, 2000)
LAYER = BernoulliRBM(
    gradient="cd",
    batch_size=100,
    learning_rate=0.05,
    learning_rate_schedule="linear",
    momentum=0.9,
    weight_decay=2e-4,
    n_iter=20,
)
TOP = RBMClassifier(
    objective="hybrid",
    alpha=1.0,
    gradient=PCD(n_chains=100),
    batch_size=100,
    learning_rate=0.1,
    momentum=0.5,
    weight_decay=2e-4,
    max_grad_norm=None,
    n_iter=30,
)


def binarised(X, rng):
    return (rng.random_sample(X.shape) < X).astype(np.float32)


def judge(X, y, options):
    seed = int(options.validate)
    net = MLPClassifier((500, 500), max_iter=options.judge_epochs, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return net.fit(X, y)


def stack(options, seed):
    *below, last = SIZES
    layers = [clone(LAYER).set_params(n_components=size) for size in below]
    for layer in layers:
        layer.set_params(n_iter=options.epochs)
    gradient = PCD(n_chains=100) if options.gradient == "pcd" else options.gradient
    top = clone(TOP).set_params(
        n_components=last,
        n_iter=options.top_epochs,
        gradient=gradient,
        objective=options.objective,
        alpha=options.alpha,
        learning_rate=options.top_rate,
    )
    return DBN(
        [*layers, top],
        fine_tune="up-down" if options.up_down else None,
        fine_tune_n_iter=options.up_down,
        fine_tune_learning_rate=options.up_down_rate,
        random_state=seed,
    )


def variety(X, y):
    return np.mean([X[y == label].var(0).mean() for label in np.unique(y)])


def picture(rows, path):
    """Ten rows of ten samples, those of a class side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    grid = rows.reshape(10, 10, 28, 28).transpose(0, 2, 1, 3).reshape(280, 280)
    plt.imsave(path, grid, cmap="gray_r", vmin=0, vmax=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=LAYER.n_iter, help="of the lower layers")
    parser.add_argument("--top-epochs", type=int, default=TOP.n_iter)
    parser.add_argument("--top-rate", type=float, default=TOP.learning_rate)
    parser.add_argument("--objective", default=TOP.objective, choices=("generative", "hybrid"))
    parser.add_argument("--alpha", type=float, default=TOP.alpha, help="of the hybrid objective")
    parser.add_argument("--gradient", default="pcd", choices=("cd", "pcd", "pt"), help="of the top")
    parser.add_argument("--up-down", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--up-down-rate", type=float, default=0.01)
    parser.add_argument("--n-steps", nargs="*", type=int, default=[200, 1000, 4000])
    parser.add_argument("--each", type=int, default=100, help="samples of a class")
    parser.add_argument("--judge-epochs", type=int, default=15)
    parser.add_argument("--picture", metavar="PATH", help="where to write some of the samples")
    parser.add_argument("--validate", action="store_true", help="without the test rows")
    options = parser.parse_args()
    torch.set_num_threads(2)
    X, y, X_test, y_test = mnist()
    if options.validate:
        X, X_test, y, y_test = train_test_split(X, y, test_size=10_000, random_state=0, stratify=y)
    chosen = np.random.RandomState(0).permutation(len(y))[: options.rows]
    X, y = (X[chosen] / 255).astype(np.float32), y[chosen]
    test = binarised(X_test / 255, np.random.RandomState(1))
    net = judge(X, y, options)
    print(f"judge: {100 * net.score(X_test / 255, y_test):.2f} % of held-out rows are right\n")
    labels = np.repeat(np.arange(10), options.each)
    shares, varieties, errors, seconds, of_class = {}, {}, [], [], {}
    for seed in range(options.seeds):
        dbn = stack(options, seed)
        rows = binarised(X, np.random.RandomState(seed))
        seconds.append(timed(lambda dbn=dbn, rows=rows: dbn.fit(rows, y))[1])
        errors.append(100 * (1 - dbn.score(test, y_test)))
        for n_steps in options.n_steps:
            samples = dbn.sample(len(labels), n_steps, y=labels, mean=True, random_state=seed)
            right = 100 * (net.predict(samples) == labels).reshape(10, -1).mean(1)
            shares.setdefault(n_steps, []).append(right.mean())
            of_class.setdefault(n_steps, []).append(right)
            ratio = variety(samples, labels) / variety(X_test / 255, y_test)
            varieties.setdefault(n_steps, []).append(ratio)
    if options.picture:
        picture(samples.reshape(10, options.each, -1)[:, :10], options.picture)
    print(f"{options.seeds} seeds; fit {spread(seconds, 0)} s; the stack's own error ", end="")
    print(f"{spread(errors)} %\n")
    print(f"| steps | recognised, % | variety | {' | '.join(map(str, range(10)))} |")
    print("|---" * 13 + "|")
    for n_steps in options.n_steps:
        each = (f"{share:.0f}" for share in np.median(of_class[n_steps], axis=0))
        cells = [str(n_steps), spread(shares[n_steps], 1), spread(varieties[n_steps]), *each]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
