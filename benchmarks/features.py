"""Features for a linear classifier: BernoulliRBM beside scikit-learn's class of the same name.

    python benchmarks/features.py --jobs 2                 at equal arguments
    python benchmarks/features.py --jobs 2 --table default everything at default settings

At equal arguments: 10,000 grey rows of MNIST, tested on 5,000, and scikit-learn's digits, tested on
a third; learning rate 0.05. `LogisticRegression` gets the features; its C, of 0.1, 1 and 10, is
chosen on a fifth of the training rows. The pseudo-log-likelihood is exact, on 1,000 test rows. The
default table has three stratified folds; "faces" are 40 smooth random images with ten smooth
variations each.
"""

import argparse
import warnings
from itertools import product

import numpy as np
import torch
from data import mnist
from joblib import Parallel, delayed
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.neural_network import BernoulliRBM as ScikitRBM
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skebm import (
    DBN,
    BernoulliRBM,
    DBNClassifier,
    DBNRegressor,
    GaussianRBM,
    RBMClassifier,
    pseudo_likelihood,
)


def logistic(C=1.0):
    return LogisticRegression(C=C, max_iter=2000)


def faces(n_people=40, n_images=10, size=32):
    """Smooth random images: a mean face, people, and variations; with the people as labels."""
    rng = np.random.default_rng(0)
    f = np.fft.fftfreq(size)
    amplitude = 1 / (np.hypot(f[:, None], f) + 1 / size) ** 2

    def smooth(n):
        images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, size, size))) * amplitude).real
        images -= images.mean((1, 2), keepdims=True)
        return images / images.std((1, 2), keepdims=True)

    people, variations = 0.1 * smooth(n_people), 0.06 * smooth(n_people * n_images)
    X = 0.5 + 0.15 * smooth(1) + np.repeat(people, n_images, axis=0) + variations
    return X.reshape(len(X), -1).clip(0, 1), np.repeat(np.arange(n_people), n_images)


def some_mnist(seed, n_train=10_000, n_test=5_000):
    X, y, X_test, y_test = mnist()
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(len(X))[:n_train], rng.permutation(len(X_test))[:n_test]
    scaled = ((X[rows] / 255).astype(np.float32) for X, rows in ((X, i), (X_test, j)))
    return (*scaled, y[i], y_test[j])


def split(data, seed):
    """(X_train, X_test, y_train, y_test)."""
    if data == "MNIST":
        return some_mnist(seed)
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=1 / 3, stratify=y, random_state=seed)


def accuracy(train, y_train, test, y_test, seed):
    """Accuracy on the test rows, with C chosen on a fifth of the training rows."""
    fit, held_out, y_fit, y_held = train_test_split(
        train, y_train, test_size=0.2, stratify=y_train, random_state=seed
    )
    best = max((0.1, 1.0, 10.0), key=lambda C: logistic(C).fit(fit, y_fit).score(held_out, y_held))
    return logistic(best).fit(train, y_train).score(test, y_test)


def exact_pseudo_likelihood(rbm, X):
    """The exact mean pseudo-log-likelihood; scikit-learn's own is a random estimate."""
    if not isinstance(rbm, BernoulliRBM):
        ours = BernoulliRBM(rbm.n_components, n_iter=0).fit(X)
        for name in ("components_", "intercept_hidden_", "intercept_visible_"):
            setattr(ours, name, getattr(rbm, name).astype(ours.components_.dtype))
        rbm = ours
    return pseudo_likelihood(rbm, X[:1000]).mean()


def alone(function):
    """Run a function on one thread, without warnings of too few epochs."""

    def run(*args):
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args)

    return run


@alone
def equal_arguments(data, n_components, batch_size, n_iter, seed):
    train, test, y_train, y_test = split(data, seed)
    figures = []
    for Estimator in (ScikitRBM, BernoulliRBM):
        rbm = Estimator(
            n_components,
            learning_rate=0.05,
            batch_size=batch_size,
            n_iter=n_iter,
            random_state=seed,
        ).fit(train)
        H, H_test = rbm.transform(train), rbm.transform(test)
        figures.append(accuracy(H, y_train, H_test, y_test, seed))
        figures.append(exact_pseudo_likelihood(rbm, test))
    return figures


@alone
def without_rbm(data, seed):
    train, test, y_train, y_test = split(data, seed)
    pca = make_pipeline(StandardScaler(), PCA(min(256, train.shape[1]), random_state=seed))
    return (
        accuracy(train, y_train, test, y_test, seed),
        accuracy(pca.fit_transform(train), y_train, pca.transform(test), y_test, seed),
    )


def cell(values, digits):
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def table_of_equal_arguments(parallel, seeds):
    cells = list(product(("MNIST", "digits"), (64, 256), (20, 100), (2, 10, 30)))
    jobs = [(*c, seed) for c in cells for seed in range(seeds)]
    jobs.sort(key=lambda job: (job[0] == "digits", -job[3]))  # the longest first
    found = dict(zip(jobs, parallel(delayed(equal_arguments)(*job) for job in jobs)))
    print("| data, units, batch, epochs | scikit-learn | skebm | PLL, scikit-learn | PLL, skebm |")
    print("|---|---|---|---|---|")
    for c in cells:
        columns = np.transpose([found[(*c, seed)] for seed in range(seeds)])
        print(
            f"| {c[0]}, {c[1]}, {c[2]}, {c[3]} | {cell(columns[0], 4)} | {cell(columns[2], 4)} "
            f"| {cell(columns[1], 1)} | {cell(columns[3], 1)} |",
            flush=True,
        )
    for data in ("MNIST", "digits"):
        columns = np.transpose(parallel(delayed(without_rbm)(data, s) for s in range(seeds)))
        print(f"| {data}, raw pixels | {cell(columns[0], 4)} | | | |")
        print(f"| {data}, PCA | {cell(columns[1], 4)} | | | |")


def transformers(seed):
    """Transformers at default settings, for columns in [0, 1]."""
    yield "raw", None
    yield "PCA", make_pipeline(StandardScaler(), PCA(random_state=seed))
    yield "scikit-learn BernoulliRBM()", ScikitRBM(random_state=seed)
    yield "BernoulliRBM()", BernoulliRBM(random_state=seed)
    yield (
        "BernoulliRBM(), StandardScaler()",
        make_pipeline(BernoulliRBM(random_state=seed), StandardScaler()),
    )
    yield "GaussianRBM()", GaussianRBM(random_state=seed)
    yield "DBN()", DBN(random_state=seed)
    yield "DBN(), StandardScaler()", make_pipeline(DBN(random_state=seed), StandardScaler())


def models(data, seed):
    """(name, estimator): features under logistic regression, and classifiers or regressors."""
    if data == "diabetes":
        yield "RidgeCV()", make_pipeline(StandardScaler(), RidgeCV())
        yield "MLPRegressor()", make_pipeline(StandardScaler(), MLPRegressor(random_state=seed))
        yield "DBNRegressor()", DBNRegressor(random_state=seed)
        return
    for name, transformer in transformers(seed):
        steps = [logistic()] if transformer is None else [transformer, logistic()]
        yield name, make_pipeline(MinMaxScaler(), *steps)
    yield "MLPClassifier()", make_pipeline(StandardScaler(), MLPClassifier(random_state=seed))
    yield "MLPClassifier(), [0, 1]", make_pipeline(MinMaxScaler(), MLPClassifier(random_state=seed))
    yield "RBMClassifier()", make_pipeline(MinMaxScaler(), RBMClassifier(random_state=seed))
    yield "DBNClassifier()", make_pipeline(MinMaxScaler(), DBNClassifier(random_state=seed))


LOADERS = {
    "digits": lambda: load_digits(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "faces": faces,
    "wine": lambda: load_wine(return_X_y=True),
    "diabetes": lambda: load_diabetes(return_X_y=True),
}


@alone
def default_settings(data, name, seed):
    """The mean score of three folds; for MNIST, the score on 5,000 test rows."""
    estimator = dict(models(data, seed))[name]
    if data == "MNIST":
        train, test, y_train, y_test = some_mnist(seed)
        return estimator.fit(train, y_train).score(test, y_test)
    X, y = LOADERS[data]()
    kind = KFold if data == "diabetes" else StratifiedKFold
    folds = kind(3, shuffle=True, random_state=seed).split(X, y)
    return np.mean([estimator.fit(X[a], y[a]).score(X[b], y[b]) for a, b in folds])


def table_of_default_settings(parallel, seeds, only, data):
    sets = ("MNIST", *LOADERS) if data is None else data
    named = [(d, n) for d in sets for n, _ in models(d, 0) if only is None or n in only]
    jobs = [(*pair, seed) for pair in named for seed in range(seeds)]
    found = dict(zip(jobs, parallel(delayed(default_settings)(*job) for job in jobs)))
    names = list(dict.fromkeys(name for _, name, _ in jobs))
    print("| model | " + " | ".join(sets) + " |")
    print("|---" * (len(sets) + 1) + "|")
    for name in names:
        scores = [[found.get((data, name, seed)) for seed in range(seeds)] for data in sets]
        cells = ["" if s[0] is None else cell(s, 3) for s in scores]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=["equal", "default"], default="equal")
    parser.add_argument("--models", nargs="*", help="rows of the table of default settings")
    parser.add_argument("--data", nargs="*", help="columns of the table of default settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    parallel = Parallel(args.jobs, batch_size=1, verbose=0)
    if args.table == "equal":
        table_of_equal_arguments(parallel, args.seeds)
    else:
        table_of_default_settings(parallel, args.seeds, args.models, args.data)
