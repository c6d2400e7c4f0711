"""Dropout in three forms, beside no dropout and learnergy's three models, on MNIST.

CD-1, 256 hidden units, p = .5, batches of 128, 10,000 rows, the same epochs and rate for all.
Columns: mean squared error per pixel of the reconstruction of 2,000 held-out rows; mean activation,
and the share of activations below .1; accuracy of logistic regression on the features.

learnergy's "own" rows are what its `reconstruct` and `forward` return, where dropout stays on;
"means" are those of its weights without any mask. Needs `pip install learnergy==2.0.2`, or leave
its rows out with --ours.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from data import mnist
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from skebm import BernoulliRBM, DropoutRBM

SETTINGS = {"n_components": 256, "gradient": "cd", "batch_size": 128, "learning_rate": 0.1}


def ours(choice, data, epochs, seed):
    (X, _, T, _), (drop, centered) = data, choice
    settings = {**SETTINGS, "n_iter": epochs, "random_state": seed, "centered": centered}
    rbm = BernoulliRBM(**settings) if drop is None else DropoutRBM(drop=drop, **settings)
    begin = time.perf_counter()
    rbm.fit(X)
    seconds = time.perf_counter() - begin
    H = rbm.transform(T)
    yield "", rbm.inverse_transform(H), rbm.transform(X), H, seconds


def theirs(name, data, epochs, seed):
    from learnergy.models import bernoulli
    from torch.utils.data import TensorDataset

    X, y, T, t = (torch.from_numpy(np.asarray(a)) for a in data)
    torch.manual_seed(seed)
    dropout = {"DropoutRBM": {"dropout": 0.5}, "DropConnectRBM": {"dropout": 0.5}}.get(name, {})
    model = getattr(bernoulli, name)(
        n_visible=784, n_hidden=256, steps=1, learning_rate=0.1, use_gpu=False, **dropout
    )
    begin = time.perf_counter()
    model.fit(TensorDataset(X, y), batch_size=128, epochs=epochs)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        _, own = model.reconstruct(TensorDataset(T, t))
        features = [model.forward(rows).numpy() for rows in (X, T)]
    yield " (own)", own.reshape(len(T), -1).numpy(), *features, seconds
    W, a, b = (p.detach().numpy() for p in (model.W, model.a, model.b))
    H = expit(T.numpy() @ W + b)
    yield " (means)", expit(H @ W.T + a), expit(X.numpy() @ W + b), H, seconds


def main(seeds, epochs, with_theirs, only):
    X, y, T, t = mnist()
    data = (
        X[:10000].astype(np.float32) / 255,
        y[:10000],
        T[:2000].astype(np.float32) / 255,
        t[:2000],
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    mean = np.square(data[0].mean(0) - data[2]).mean()
    print(f"{epochs} epochs, {seeds} seeds; error of the mean of the training rows: {mean:.4f}")
    print("| model | error | activation | below .1 | accuracy | s |\n|---|---|---|---|---|---|")
    models = []
    for centered in (True, False):
        note = "" if centered else ", centered=False"
        models.append((f"BernoulliRBM{note}", ours, (None, centered)))
        for drop in ("units", "energy"):
            models.append((f'DropoutRBM("{drop}"){note}', ours, (drop, centered)))
    models.append(('DropoutRBM("weights")', ours, ("weights", True)))
    if with_theirs:
        names = ("RBM", "DropoutRBM", "DropConnectRBM", "EDropoutRBM")
        models += [(f"learnergy {name}", theirs, name) for name in names]
    for label, train, argument in models:
        if only is not None and label not in only:
            continue
        rows = {}
        for seed in range(seeds):
            for suffix, back, H_train, H, seconds in train(argument, data, epochs, seed):
                classifier = LogisticRegression(max_iter=300)
                right = classifier.fit(H_train, data[1]).score(H, data[3])
                error = np.square(back - data[2]).mean()
                rows.setdefault(suffix, []).append(
                    (error, H.mean(), (H < 0.1).mean(), right, seconds)
                )
        for suffix, values in rows.items():
            values = np.array(values)
            middle, low, high = (f(values, axis=0) for f in (np.median, np.min, np.max))
            print(
                f"| {label}{suffix} | {middle[0]:.4f} ({low[0]:.4f} to {high[0]:.4f}) "
                f"| {middle[1]:.2f} | {middle[2]:.2f} "
                f"| {middle[3]:.4f} ({low[3]:.4f} to {high[3]:.4f}) | {middle[4]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--ours", action="store_true", help="without learnergy")
    parser.add_argument("--only", nargs="*", help="rows of the table")
    args = parser.parse_args()
    torch.set_num_threads(2)
    main(args.seeds, args.epochs, not args.ours, args.only)
