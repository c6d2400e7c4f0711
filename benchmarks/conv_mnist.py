"""MNIST with few and with all labels: pixels, their principal components, and ConvRBM features.

    python benchmarks/conv_mnist.py

Features are learned from the 60,000 training images without labels; the classifier, an SVM with
RBF kernel or a linear one, sees as many labels as the column says, drawn anew with every seed.
With `--validate` errors are those on 10,000 of the training rows, held out of training.
All but the raw pixels are 200 numbers: principal components, found from the labelled rows, of
rows of norm one. Test errors in per cent, medians and ranges over the seeds; seconds are those of
learning and computing the features, on all images, and of the slowest classifier, test included.
"""

import argparse
import itertools
import time
from collections import defaultdict
from functools import partial

import numpy as np
import torch
from data import mnist
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.svm import SVC

from skebm import ConvRBM

#: How many rows have labels; None are all.
LABELS = (1000, 3000, None)


def one_layer(seed, n_components=40):
    return ConvRBM(
        n_components=n_components,
        kernel_size=9,
        pool_size=4,
        gradient="pcd",
        learning_rate=8.0,
        batch_size=20,
        n_iter=2,
        sparsity_target=0.01,
        max_grad_norm=None,
        random_state=seed,
    )


def two_layers(seed):
    first = one_layer(seed).set_params(kernel_size=7, pool_size=2)
    second = one_layer(seed).set_params(
        n_components=64,
        kernel_size=4,
        pool_size=2,
        image_shape=(40, 11, 11),
        channels_last=False,
        learning_rate=2.0,
        n_iter=1,
        sparsity_target=0.02,
    )
    return make_pipeline(first, second)


def svm(width):
    reduced = PCA(width, svd_solver="covariance_eigh") if width else FunctionTransformer()
    return make_pipeline(Normalizer(), reduced, SVC(C=10))


def linear(width):
    reduced = PCA(width, svd_solver="covariance_eigh")
    return make_pipeline(Normalizer(), reduced, StandardScaler(), LogisticRegression(max_iter=300))


FEATURES = {
    "raw pixels": (lambda seed: FunctionTransformer(), {"SVM": svm(None)}),
    "PCA of pixels": (lambda seed: FunctionTransformer(), {"SVM": svm(200), "linear": linear(200)}),
    "ConvRBM": (one_layer, {"SVM": svm(200), "linear": linear(200)}),
    "ConvRBM, 64 filters": (partial(one_layer, n_components=64), {"SVM": svm(200)}),
    "two ConvRBMs": (two_layers, {"SVM": svm(200), "linear": linear(200)}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--features", nargs="*", default=list(FEATURES), choices=list(FEATURES))
    parser.add_argument("--validate", action="store_true", help="errors on held-out training rows")
    options = parser.parse_args()
    torch.set_num_threads(2)
    X_train, y_train, X_test, y_test = mnist()
    X_train, X_test = (X_train / 255).astype(np.float32), (X_test / 255).astype(np.float32)
    if options.validate:
        X_train, X_test, y_train, y_test = train_test_split(
            X_train, y_train, test_size=10_000, random_state=0, stratify=y_train
        )
    print("| features, classifier | 1,000 labels | 3,000 | all | s, features | s, classifier |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in options.features:
        make, classifiers = FEATURES[name]
        errors, seconds = defaultdict(list), defaultdict(list)
        for seed in range(options.seeds):
            begin = time.perf_counter()
            model = make(seed)
            train, test = model.fit(X_train).transform(X_train), model.transform(X_test)
            seconds["features"].append(time.perf_counter() - begin)
            for (kind, classifier), n in itertools.product(classifiers.items(), LABELS):
                if n is None and "pixels" in name and seed:
                    continue  # the same again
                rows = np.arange(len(y_train))
                if n is not None:
                    rows = train_test_split(
                        rows, train_size=n, stratify=y_train, random_state=seed
                    )[0]
                begin = time.perf_counter()
                fitted = clone(classifier).fit(train[rows], y_train[rows])
                errors[kind, n].append(100 * (1 - fitted.score(test, y_test)))
                seconds[kind].append(time.perf_counter() - begin)
        for kind in classifiers:
            cells = [
                f"{np.median(e):.2f} ({min(e):.2f} to {max(e):.2f})"
                if len(e) > 1
                else f"{e[0]:.2f}"
                for e in (errors[kind, n] for n in LABELS)
            ]
            times = f"{np.median(seconds['features']):.0f} | {max(seconds[kind]):.0f}"
            print(f"| {name}, {kind} | {' | '.join(cells)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
