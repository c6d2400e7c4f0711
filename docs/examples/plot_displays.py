"""
======================
Plots of fitted models
======================

Each display is a class with the method `from_estimator`, as in scikit-learn. It takes a fitted
estimator, a pipeline or a grid search, draws with matplotlib, and keeps the data in its attributes.
This example draws each of the five displays, for images, signals and tables.
"""

# %%
# Weights
# -------
# `ComponentsDisplay` draws the weights of each hidden unit. The 64 features of a digit have no
# names, and 64 is a square number: the weights are drawn as images of 8 x 8 pixels.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skebm import (
    DBN,
    PCD,
    BernoulliRBM,
    ComponentsDisplay,
    GaussianRBM,
    LikelihoodDisplay,
    RBMClassifier,
    ReconstructionDisplay,
    SamplesDisplay,
    TabularRBM,
    TrainingDisplay,
)

images, digits = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    images / 16, digits, test_size=500, random_state=0
)
rbm = BernoulliRBM(
    128,
    learning_rate=0.05,
    learning_rate_schedule="linear",
    batch_size=20,
    gradient=PCD(n_steps=5),
    n_iter=100,
    random_state=0,
).fit(X_train > 0.5)
ComponentsDisplay.from_estimator(rbm, n_components=60, n_columns=12)

# %%
# Weights of signals
# ------------------
# The columns t0, t1, … t63 have names, so that a window of 64 values does not become an image: its
# weights are lines. `kind` and `image_shape` choose something else; the attribute `kind_` says what
# was chosen.

rng = np.random.default_rng(0)
phase, frequency = rng.uniform(0, 2 * np.pi, (500, 1)), rng.choice([2, 5], (500, 1))
waves = np.sin(2 * np.pi * frequency * np.arange(64) / 64 + phase)
signals = pd.DataFrame(
    waves + rng.normal(0, 0.3, waves.shape), columns=[f"t{i}" for i in range(64)]
)
of_signals = GaussianRBM(12, n_iter=30, random_state=0).fit(signals)
display = ComponentsDisplay.from_estimator(of_signals)
print(f"The weights of signals are drawn as: {display.kind_}")

# %%
# Weights of tables
# -----------------
# The weights of a table are a heat map. It has one line for each number, and one for each category.

n = 600
ripe = rng.uniform(size=n) < 0.5
fruit = pd.DataFrame(
    {
        "colour": np.where(ripe, rng.choice(["red", "yellow"], n), "green"),
        "sugar": np.where(ripe, 14.0, 6.0) + rng.normal(size=n),
        "soft": ripe ^ (rng.uniform(size=n) < 0.1),
    }
)
of_fruit = TabularRBM(8, n_iter=40, random_state=0).fit(fruit)
ComponentsDisplay.from_estimator(of_fruit)

# %%
# Training
# --------
# `TrainingDisplay` draws the measures of `history_`. A stack has one line for each layer.

dbn = DBN([BernoulliRBM(64), 32], n_iter=10, random_state=0).fit(X_train > 0.5)
TrainingDisplay.from_estimator(dbn)

# %%
# `from_estimators` compares several estimators. The largest learning rate learns fastest at first,
# and then the score rises and falls from epoch to epoch.

rates = {
    f"learning_rate={rate}": BernoulliRBM(64, learning_rate=rate, n_iter=15, random_state=0)
    for rate in (0.02, 0.1, 0.5)
}
for estimator in rates.values():
    estimator.fit(X_train > 0.5)
TrainingDisplay.from_estimators(rates)

# %%
# Reconstructions
# ---------------
# `ReconstructionDisplay` draws rows, their reconstructions, and the differences. Here the lower
# half of each image is missing (NaN). `impute` fills it in, and the display marks it.

halves = np.where(np.arange(64) < 32, X_test > 0.5, np.nan)
ReconstructionDisplay.from_estimator(rbm, halves, n_steps=300, random_state=0)

# %%
# Signals are drawn as lines.

ReconstructionDisplay.from_estimator(of_signals, signals, n_rows=6)

# %%
# Samples
# -------
# `SamplesDisplay` draws chains. Rows of the grid are chains, and columns are steps of Gibbs
# sampling: the samples of a row show how fast the chain moves between digits.

SamplesDisplay.from_estimator(rbm, n_chains=6, n_steps=1000, random_state=0)

# %%
# For a classifier, the rows of the grid are classes.

classifier = RBMClassifier(128, alpha=1.0, learning_rate=0.1, n_iter=100, random_state=0)
classifier.fit(X_train > 0.5, y_train)
SamplesDisplay.from_estimator(classifier, n_steps=500, random_state=0)

# %%
# Likelihoods, and a threshold for outliers
# -----------------------------------------
# `LikelihoodDisplay` draws the likelihoods of several sets of rows. The threshold is a quantile of
# the first set, here 5 %. The legend says which share of each set is below it. The pipeline was
# fitted to benign tumours only; malignant ones are outside.

X, benign = load_breast_cancer(return_X_y=True)
train, test = train_test_split(X[benign == 1], random_state=0)
model = make_pipeline(MinMaxScaler(), GaussianRBM("auto", random_state=0)).fit(train)
LikelihoodDisplay.from_estimator(
    model, {"train": train, "test": test, "malignant": X[benign == 0]}, threshold=0.05
)

# %%
# All displays draw into given axes, too.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
ComponentsDisplay.from_estimator(rbm, n_components=25, ax=left)
TrainingDisplay.from_estimator(rbm, measures="score", ax=right)
plt.show()
