"""
=====================================
RBM features in front of a classifier
=====================================

A restricted Boltzmann machine (RBM) learns features of handwritten digits without their labels.
A logistic regression on these features then classifies digits that were moved by one pixel. It
does this better than a logistic regression on raw pixels.

Each of the 1797 digits of scikit-learn is used five times: in its place, and moved by one pixel in
each of four directions. The test digits are not used in training. The RBMs have 100 hidden units,
and default values of all other arguments.
"""

# %%
# Data
# ----

import time

import numpy as np
from scipy.ndimage import shift
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import BernoulliRBM as ScikitRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skebm import BernoulliRBM, ComponentsDisplay

MOVES = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]


def moved(digits):
    """All digits in all five places, one per row."""
    images = digits.reshape(-1, 8, 8) / 16
    return np.concatenate([shift(images, (0, *move), order=0).reshape(-1, 64) for move in MOVES])


digits, labels = load_digits(return_X_y=True)
digits_train, digits_test, labels_train, labels_test = train_test_split(
    digits, labels, random_state=0
)
X_train, X_test = moved(digits_train), moved(digits_test)
y_train, y_test = np.tile(labels_train, len(MOVES)), np.tile(labels_test, len(MOVES))
print(f"{len(X_train)} rows to train on, {len(X_test)} of other digits to test on")

# %%
# Pipelines
# ---------
# The same classifier on raw pixels, on features of scikit-learn's `BernoulliRBM`, and on features
# of `skebm.BernoulliRBM`, with five seeds each.

features = {
    "raw pixels": lambda seed: FunctionTransformer(),
    "sklearn.neural_network.BernoulliRBM": lambda seed: ScikitRBM(100, random_state=seed),
    "skebm.BernoulliRBM": lambda seed: BernoulliRBM(100, random_state=seed),
}
print(f"\n{'features':<38}{'test accuracy, mean of 5 seeds':<34}seconds to fit them")
for name, make in features.items():
    accuracy, seconds = [], []
    for seed in range(1 if name == "raw pixels" else 5):
        classifier = LogisticRegression(C=10, max_iter=500)
        model = make_pipeline(make(seed), classifier)
        begin = time.perf_counter()
        model[0].fit(X_train)
        seconds.append(time.perf_counter() - begin)
        classifier.fit(model[0].transform(X_train), y_train)
        accuracy.append(model.score(X_test, y_test))
    spread = f"({min(accuracy):.4f}, {max(accuracy):.4f})"
    print(f"{name:<38}{np.mean(accuracy):.4f} {spread:<27}{np.median(seconds):.2f}")

# %%
# Learned weights
# ---------------
# Each image shows the weights of one hidden unit.

display = ComponentsDisplay.from_estimator(model)
display.figure_.savefig("digits_components.png", dpi=150)
print("\nThe learned components are drawn in digits_components.png")
