"""
============================
Pre-training with few labels
============================

Of 1347 handwritten digits, only 20 to 300 have labels. A stack of two RBMs is trained on all rows
without labels. It is then fine-tuned as a network on the rows with labels. The same network with
two kinds of random weights shows the effect of the pre-training: it improves the accuracy by a few
per cent, and by less if there are more labels. A logistic regression on pixels is about as good
for these small images.

As a script, this example prints tables and draws `pretraining_on_few_labels.png`.
"""
# sphinx_gallery_thumbnail_path = "pretraining_on_few_labels.png"

# %%
# Data
# ----

import tempfile
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skebm import DBN, BernoulliRBM, ComponentsDisplay, DBNClassifier, GaussianRBM

pixels, digits = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    pixels, digits, test_size=450, stratify=digits, random_state=0
)


def with_labels(n, seed):
    """Indices of n training rows, stratified by class."""
    rows = np.arange(len(y_train))
    return train_test_split(rows, train_size=n, stratify=y_train, random_state=seed)[0]


# %%
# Pre-training
# ------------
# Pre-training uses all rows and no labels. The first layer is a `GaussianRBM`. The stack of two
# layers contains the fitted first layer of the stack of one layer.

scaler = MinMaxScaler().fit(X_train)
rows = scaler.transform(X_train)
one_layer = DBN([GaussianRBM(128, n_iter=40)], random_state=0).fit(rows)
second = BernoulliRBM(
    128, learning_rate=0.5, learning_rate_schedule="linear", batch_size=20, n_iter=40
)
two_layers = DBN([FrozenEstimator(one_layer.estimators_[0]), second], random_state=0).fit(rows)

# %%
# Fine-tuning
# -----------
# The same network is trained with 400 updates from three initial states: the weights of the stack,
# random weights of the same scale in each layer, and the random weights of `torch.nn.Linear`. There
# are five choices of the rows with labels. The stack is in a `FrozenEstimator`, because `clone`
# would discard its fitted attributes.

STARTS = {
    "pretrained": "pre-trained",
    "scaled": "random, of the same scale",
    "default": "random, as torch.nn.Linear",
}
N_LABELS, SEEDS = (20, 50, 100, 300), range(5)


def network(n_labels, **settings):
    """The scaler of the stack, and the network."""
    classifier = DBNClassifier(
        FrozenEstimator(two_layers), batch_size=10, n_iter=4000 // n_labels, learning_rate=0.003
    )
    return make_pipeline(FrozenEstimator(scaler), classifier.set_params(**settings))


makers = {
    name: lambda n, seed, init=init: network(n, init=init, random_state=seed)
    for init, name in STARTS.items()
}
makers["logistic regression on pixels"] = lambda n, seed: make_pipeline(
    FrozenEstimator(scaler), LogisticRegression(max_iter=1000)
)
accuracy = {name: np.empty((len(N_LABELS), len(SEEDS))) for name in makers}
for i, n in enumerate(N_LABELS):
    for seed in SEEDS:
        known = with_labels(n, seed)
        for name, make in makers.items():
            model = make(n, seed).fit(X_train[known], y_train[known])
            accuracy[name][i, seed] = model.score(X_test, y_test)
print("test accuracy, mean of 5 choices of labels (standard deviation)\n")
print(f"{'labels':<32}" + "".join(f"{n:<16}" for n in N_LABELS))
for name, values in accuracy.items():
    cells = [f"{row.mean():.3f} ({row.std(ddof=1):.3f})" for row in values]
    print(f"{name:<32}" + "".join(f"{cell:<16}" for cell in cells))

# %%
# Tuning
# ------
# A grid search over the number of layers, the number of frozen layers, and dropout, with 100
# labels. The layers were trained on all training rows without labels.

known = with_labels(100, 0)
search = GridSearchCV(
    network(100, random_state=0),
    {
        "dbnclassifier__layers": [FrozenEstimator(one_layer), FrozenEstimator(two_layers)],
        "dbnclassifier__freeze": [0, 1],
        "dbnclassifier__dropout": [0.0, 0.3],
    },
    cv=3,
).fit(X_train[known], y_train[known])
best = {name.removeprefix("dbnclassifier__"): value for name, value in search.best_params_.items()}
best["layers"] = len(best["layers"].estimators_)
print(f"\nbest of the grid, with 100 labels: {best}")
print(f"accuracy in validation {search.best_score_:.3f}, on the test rows ", end="")
print(f"{search.score(X_test, y_test):.3f}")

# %%
# In one call of `fit`: rows with the label -1 are used in pre-training, but not in fine-tuning.

y_partly = np.full_like(y_train, -1)
y_partly[known] = y_train[known]
layers = [GaussianRBM(128, n_iter=40), second]
both = DBNClassifier(
    layers, batch_size=10, n_iter=40, learning_rate=0.003, unlabeled=-1, random_state=0
)
at_once = make_pipeline(MinMaxScaler(), both).fit(X_train, y_partly)
print(f"pre-trained and fine-tuned in one call of fit: {at_once.score(X_test, y_test):.3f}")

# %%
# Saving
# ------

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "digits.joblib")
    joblib.dump(search.best_estimator_, path)
    loaded = joblib.load(path)
is_same = np.array_equal(loaded.predict_proba(X_test), search.predict_proba(X_test))
print(f"saved and loaded, it predicts the same, bit for bit: {is_same}")

# %%
# The figure shows half of the weights of the first layer before fine-tuning, and the accuracy
# against the number of labels. Bars are standard deviations.

figure = plt.figure(figsize=(10.4, 4.4))
left, right = figure.subplots(
    1,
    2,
    width_ratios=(4, 5),
    gridspec_kw={"left": 0.02, "right": 0.98, "bottom": 0.12, "top": 0.91, "wspace": 0.2},
)
left.set_title("first layer, from rows without labels")
ComponentsDisplay.from_estimator(two_layers.estimators_[0], n_components=64, ax=left)
right.set_title("digits: accuracy on 450 others")
for k, (name, values) in enumerate(accuracy.items()):
    moved = np.array(N_LABELS) * 1.03 ** (k - 1.5)  # side by side
    style = {"ls": ":", "color": "gray"} if name.startswith("logistic") else {}
    mean, spread = values.mean(axis=1), values.std(axis=1, ddof=1)
    right.errorbar(moved, mean, spread, marker="o", ms=4, capsize=3, label=name, **style)
right.set_xscale("log")
right.set_xticks(N_LABELS, map(str, N_LABELS))
right.minorticks_off()
right.set_xlabel("rows with labels, of 1347")
right.grid(alpha=0.3)
right.legend(loc="lower right")
figure.savefig("pretraining_on_few_labels.png", dpi=150)
print("\nFilters and curves are drawn in pretraining_on_few_labels.png")
