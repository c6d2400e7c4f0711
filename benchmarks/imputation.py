"""Pixels of digits that are missing: mean squared error of what imputers fill in.

    python benchmarks/imputation.py

The 1797 digits of scikit-learn, scaled to [0, 1], with 30 % of all pixels missing at random;
three draws of the holes. The error is that of the pixels that were taken out.
"""

import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skebm import CD, BernoulliRBM, GaussianRBM, RBMImputer

#: The standard deviation of the pixels given the hidden units.
NOISE = 0.12


def gaussian():
    rbm = GaussianRBM(
        400,
        variance="unit",
        n_iter=300,
        learning_rate=0.005,
        learning_rate_schedule="constant",
        batch_size=100,
        weight_decay=0.01,
        gradient=CD(5),
    )
    return make_pipeline(
        FunctionTransformer(lambda X: X / NOISE),
        RBMImputer(rbm, method="mean_field", random_state=0),
        FunctionTransformer(lambda X: X * NOISE),
    )


IMPUTERS = {
    "mean of the feature": SimpleImputer,
    "IterativeImputer": lambda: IterativeImputer(random_state=0),
    "KNNImputer": lambda: KNNImputer(n_neighbors=10),
    "RBMImputer, binary": lambda: RBMImputer(
        BernoulliRBM(256, n_iter=100, learning_rate=0.05), method="mean_field", random_state=0
    ),
    "RBMImputer, Gaussian": gaussian,
}


def main():
    torch.set_num_threads(2)
    X = load_digits().data / 16
    errors = {name: [] for name in IMPUTERS}
    seconds = {name: [] for name in IMPUTERS}
    for seed in range(3):
        missing = np.random.default_rng(seed).uniform(size=X.shape) < 0.3
        holes = np.where(missing, np.nan, X)
        for name, make in IMPUTERS.items():
            begin = time.perf_counter()
            filled = make().fit_transform(holes)
            seconds[name].append(time.perf_counter() - begin)
            errors[name].append(np.square(filled - X)[missing].mean())
    print(f"{'':<22} mean squared error, median of 3 (lowest to highest)   seconds")
    for name, values in errors.items():
        print(
            f"{name:<22} {np.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"
            f"{np.median(seconds[name]):36.1f}"
        )


if __name__ == "__main__":
    main()
