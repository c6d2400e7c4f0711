"""skebm beside scikit-learn's BernoulliRBM: the same data, the same arguments.

    python benchmarks/against_sklearn.py            # digits
    python benchmarks/against_sklearn.py --mnist    # every third row of MNIST besides

For each setting: seconds of `fit`, the exact pseudo-log-likelihood of test rows (computed by
skebm for both), and the test accuracy of a logistic regression on the features. The two fits
alternate; printed are medians over seeds, with the lowest and the highest value.
"""

import argparse
import time

import numpy as np
import torch
from data import mnist
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import BernoulliRBM as ScikitRBM

from skebm import BernoulliRBM


def exact_score(rbm, X):
    """Pseudo-log-likelihood of rows under a model that either package has fitted."""
    ours = BernoulliRBM(len(rbm.components_), n_iter=0).fit(X[:1])
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(ours, name, getattr(rbm, name))
    return ours.score(X)


def compare(name, data, repeats, **params):
    X_train, X_test, y_train, y_test = data
    figures = {ScikitRBM: [], BernoulliRBM: []}
    for seed in range(repeats):
        for Estimator, rows in figures.items():
            rbm = Estimator(random_state=seed, **params)
            begin = time.perf_counter()
            rbm.fit(X_train)
            seconds = time.perf_counter() - begin
            classifier = LogisticRegression(C=100, max_iter=100)
            classifier.fit(rbm.transform(X_train), y_train)
            accuracy = classifier.score(rbm.transform(X_test), y_test)
            rows.append((seconds, exact_score(rbm, X_test[:1000]), accuracy))
    print(f"\n{name}, {params}: medians of {repeats} seeds (lowest to highest)")
    for Estimator, rows in figures.items():
        cells = [
            f"{label} {np.median(values):.{digits}f} ({min(values):.{digits}f} to "
            f"{max(values):.{digits}f})"
            for label, values, digits in zip(
                ("seconds", "pseudo-likelihood", "accuracy"), zip(*rows), (2, 2, 4)
            )
        ]
        print(f"  {Estimator.__module__.split('.')[0]:<8}", ", ".join(cells), flush=True)
    ratio = np.median([ours[0] / theirs[0] for theirs, ours in zip(*figures.values())])
    print(f"  time of skebm / time of scikit-learn: {ratio:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)

    X, y = load_digits(return_X_y=True)
    digits = train_test_split((X / 16).astype(np.float32), y, random_state=0)
    compare("digits", digits, options.repeats, n_components=100)
    compare("digits", digits, options.repeats, n_components=100, n_iter=50, learning_rate=0.05)
    if options.mnist:
        X_train, y_train, X_test, y_test = mnist()
        rows = slice(0, None, 3)
        scaled = [(X / 255).astype(np.float32) for X in (X_train[rows], X_test)]
        params = {"n_components": 256, "batch_size": 100, "n_iter": 5}
        compare("MNIST", (*scaled, y_train[rows], y_test), options.repeats, **params)


if __name__ == "__main__":
    main()
