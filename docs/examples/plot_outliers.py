"""
=========================
Outliers with a threshold
=========================

A model of normal rows gives low scores to unusual rows. A threshold on the score separates outliers
from normal rows. It is a quantile of the scores of normal rows that were not used in training.

The rows are measurements of breast tumours. Benign tumours are the normal rows, and malignant
tumours are the outliers. The model is trained on benign tumours only.
"""

# %%
# Data
# ----
# The normal rows are split into training rows, rows for the threshold, and test rows.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skebm import GaussianRBM

X, y = load_breast_cancer(return_X_y=True)
normal, outliers = X[y == 1], X[y == 0]
train, others = train_test_split(normal, test_size=0.5, random_state=0)
held_out, test = train_test_split(others, test_size=0.5, random_state=0)
print(f"{len(train)} training rows, {len(held_out)} rows for the threshold")
print(f"{len(test)} normal test rows, {len(outliers)} outliers")

# %%
# Model and threshold
# -------------------
# `score_samples` of a `GaussianRBM` is the log-likelihood. About 5 % of the normal rows are below
# the threshold. An isolation forest with the same threshold rule is shown for comparison.

models = {
    "GaussianRBM": GaussianRBM(random_state=0).fit(train),
    "IsolationForest": IsolationForest(random_state=0).fit(train),
}
is_outlier = np.repeat([0, 1], [len(test), len(outliers)])
print(f"{'':<18}{'false alarms':<15}{'outliers found':<17}AUC")
for name, model in models.items():
    threshold = np.quantile(model.score_samples(held_out), 0.05)
    scores = model.score_samples(np.concatenate([test, outliers]))
    below = scores < threshold
    shares = f"{below[is_outlier == 0].mean():<15.3f}{below[is_outlier == 1].mean():<17.3f}"
    print(f"{name:<18}{shares}{roc_auc_score(is_outlier, -scores):.3f}")

# %%
# Scores
# ------
# Rows to the left of the dashed line are reported as outliers.

rbm = models["GaussianRBM"]
groups = {"normal": rbm.score_samples(test), "outliers": rbm.score_samples(outliers)}
threshold = np.quantile(rbm.score_samples(held_out), 0.05)
edges = np.linspace(threshold - 150, groups["normal"].max(), 60)
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, values in groups.items():
    ax.hist(values.clip(edges[0]), edges, density=True, alpha=0.6, label=name)
ax.axvline(threshold, color="black", ls="--", label="threshold")
ax.set_xlabel("log-likelihood in nats (the first bar contains all lower values)")
ax.set_ylabel("density of rows")
ax.legend()
plt.show()
