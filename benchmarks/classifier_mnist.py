"""RBMClassifier on MNIST and digits: three objectives, few labels, and learnergy's classes.

    python -m pip install learnergy==2.0.2
    python benchmarks/classifier_mnist.py

Grey images, all 60,000 training rows, two threads; medians and ranges over the seeds. Settings were
chosen on 10,000 of the training rows, held out (`--validate` prints the errors on these). "digits"
are scikit-learn's, at default settings, in cross-validation. In "labels" as many of the 60,000 rows
have a label, drawn anew with every seed and as many of each class. learnergy is left out where it
is not installed.
"""

import argparse
import logging
import time

import numpy as np
import torch
from data import mnist
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.semi_supervised import SelfTrainingClassifier

from skebm import PCD, RBMClassifier

DISCRIMINATIVE = RBMClassifier(
    n_components=500,
    objective="discriminative",
    n_iter=30,
    batch_size=100,
    learning_rate=20.0,
    momentum=0.0,
    max_grad_norm=2.0,
    max_norm=3.0,
    weight_decay=1e-5,
    precision="medium",
)
HYBRID = RBMClassifier(
    n_components=1500,
    alpha=0.02,
    gradient=PCD(n_chains=50),
    n_iter=60,
    batch_size=100,
    learning_rate=8.0,
    momentum=0.0,
    max_grad_norm=2.0,
    max_norm=4.0,
    weight_decay=1e-5,
    precision="medium",
)
OBJECTIVES = {
    "discriminative": DISCRIMINATIVE,
    "hybrid": HYBRID,
    "sparse hybrid": clone(HYBRID).set_params(
        n_iter=100, sparsity_target=0.05, sparsity_cost=0.001
    ),
}
FEW = {
    n: clone(HYBRID).set_params(
        n_components=500, n_iter=15, alpha=alpha, unlabeled_weight=weight, learning_rate=rate
    )
    for n, alpha, weight, rate in ((100, 0.3, 0.03, 2.0), (1000, 0.02, 0.1, 8.0))
}


def spread(values, digits=2):
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, np.median, max))
    return f"{middle} ({low} to {high})"


def timed(call):
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def objectives(data, options):
    X, y, X_test, y_test = data
    if options.validate:
        X, X_test, y, y_test = train_test_split(X, y, test_size=10_000, random_state=0, stratify=y)
    print("| objective | error, % | s a fit |\n|---|---|---|")
    for name in options.objectives:
        errors, seconds = [], []
        for seed in range(options.seeds):
            clf = clone(OBJECTIVES[name]).set_params(random_state=seed)
            if options.epochs:
                clf.set_params(n_iter=options.epochs)
            seconds.append(timed(lambda clf=clf: clf.fit(X, y))[1])
            errors.append(100 * (1 - clf.score(X_test, y_test)))
        print(f"| {name} | {spread(errors)} | {spread(seconds, 0)} |", flush=True)


def digits():
    X, y = load_digits(return_X_y=True)
    print("| digits, 5 folds | accuracy, % | s, all folds |\n|---|---|---|")
    folds = {"as they come": 5, "shuffled": StratifiedKFold(5, shuffle=True, random_state=0)}
    for name, cv in folds.items():
        scores, seconds = [], []
        for seed in range(3):
            clf = RBMClassifier(random_state=seed)
            score, taken = timed(lambda clf=clf, cv=cv: cross_val_score(clf, X / 16, y, cv=cv))
            scores.append(100 * score.mean())
            seconds.append(taken)
        print(f"| {name} | {spread(scores)} | {spread(seconds, 1)} |", flush=True)


def few_labels(data, options):
    X, y, X_test, y_test = data
    teachers = {
        "LogisticRegression": LogisticRegression(max_iter=100),
        "MLPClassifier": MLPClassifier((256,), max_iter=20),
    }
    print("| labels | classifier | error, % | s a fit |\n|---|---|---|---|")
    for n in options.labels:
        clf = FEW[n]
        makers = {
            "RBMClassifier, all rows": clf,
            "RBMClassifier, labelled rows": clone(clf).set_params(n_iter=200, batch_size=20),
            **{f"{name}, labelled rows": one for name, one in teachers.items()},
            **{
                f"self-training {name}, all rows": SelfTrainingClassifier(
                    one, threshold=0.95, max_iter=3
                )
                for name, one in teachers.items()
            },
        }
        for name, maker in makers.items():
            errors, seconds = [], []
            for seed in range(options.seeds):
                rows = np.arange(len(y))
                known = train_test_split(rows, train_size=n, random_state=seed, stratify=y)[0]
                labels = np.where(np.isin(rows, known), y, -1)
                used = known if "labelled" in name else rows
                if options.validate:
                    X_test, y_test = X[:10_000], y[:10_000]
                one = clone(maker)
                seeded = {k: seed for k in one.get_params() if k.endswith("random_state")}
                one.set_params(**seeded)
                seconds.append(timed(lambda one=one, u=used, la=labels: one.fit(X[u], la[u]))[1])
                errors.append(100 * (1 - one.score(X_test, y_test)))
            print(f"| {n} | {name} | {spread(errors)} | {spread(seconds, 0)} |", flush=True)


def learnergy(data, options):
    try:
        from learnergy.models.bernoulli import DiscriminativeRBM, HybridDiscriminativeRBM
    except ImportError:
        return
    logging.disable(logging.INFO)
    X, y, X_test, y_test = data
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y).long())
    tests = torch.utils.data.TensorDataset(torch.from_numpy(X_test), torch.from_numpy(y_test))
    n_epochs = 2
    print("| 500 hidden, 2 epochs | error, % | s a fit | time over learnergy's |")
    print("|---|---|---|---|")
    for name, Peer in (("discriminative", DiscriminativeRBM), ("hybrid", HybridDiscriminativeRBM)):
        ours = clone(DISCRIMINATIVE if name == "discriminative" else HYBRID)
        ours.set_params(n_components=500, n_iter=n_epochs)
        table = {"skebm": ([], []), "learnergy, rate 0.1": ([], []), "learnergy, rate 1": ([], [])}
        for seed in range(options.seeds):
            clf = ours.set_params(random_state=seed)
            fits = {"skebm": (lambda clf=clf: clf.fit(X, y))}
            peers = {}
            for rate in (0.1, 1):
                torch.manual_seed(seed)
                peer = Peer(n_visible=784, n_hidden=500, n_classes=10, learning_rate=rate)
                peers[f"learnergy, rate {rate}"] = peer
                fits[f"learnergy, rate {rate}"] = lambda peer=peer: peer.fit(rows, 100, n_epochs)
            for who, fit in fits.items():
                errors, seconds = table[who]
                seconds.append(timed(fit)[1])
                right = clf.score(X_test, y_test)
                if who in peers:
                    right = float(peers[who].predict(tests)[0])
                errors.append(100 * (1 - right))
        base = np.array(table["learnergy, rate 0.1"][1])
        for who, (errors, seconds) in table.items():
            ratio = spread(np.array(seconds) / base)
            cells = f"{spread(errors)} | {spread(seconds, 0)} | {ratio}"
            print(f"| {name}, {who} | {cells} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="other than the settings say")
    parser.add_argument("--validate", action="store_true", help="errors on held-out training rows")
    parts = ["objectives", "digits", "labels", "learnergy"]
    parser.add_argument("--only", nargs="*", default=parts, choices=parts)
    parser.add_argument("--labels", nargs="*", type=int, default=list(FEW), choices=list(FEW))
    parser.add_argument("--objectives", nargs="*", default=list(OBJECTIVES))
    options = parser.parse_args()
    torch.set_num_threads(2)
    X_train, y_train, X_test, y_test = mnist()
    X_train, X_test = (X_train / 255).astype(np.float32), (X_test / 255).astype(np.float32)
    data = X_train, y_train.astype(int), X_test, y_test.astype(int)
    if "digits" in options.only:
        digits()
    if "objectives" in options.only:
        objectives(data, options)
    if "labels" in options.only:
        few_labels(data, options)
    if "learnergy" in options.only:
        learnergy(data, options)


if __name__ == "__main__":
    main()
