"""
=======================
Anomalies and denoising
=======================

A row that is unlike the training data has a high free energy, so `free_energy` can detect
anomalies. The digit 9 is a difficult case for a model of the digits 0 to 8, because 4 and 7 have
similar strokes.

The model also removes noise: by `inverse_transform(transform(X))`, or by `impute` if the wrong
pixels are known.

The MNIST images are read from `mnist.npz` in the folder that the environment variable SKEBM_DATA
names, or from OpenML. As a script, this example prints two tables and writes `denoising.png`.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from skebm import PCD, BernoulliRBM

# %%
# The training rows are binary images of the digits 0 to 8. The test rows contain all ten digits.


def mnist():
    """Images and labels, in the standard split."""
    path = Path(os.environ.get("SKEBM_DATA", ".")) / "mnist.npz"
    if path.exists():
        data = np.load(path)
        return data["X_train"], data["y_train"], data["X_test"], data["y_test"]
    X, y = fetch_openml("mnist_784", return_X_y=True, as_frame=False)
    return X[:60000], y[:60000].astype(int), X[60000:], y[60000:].astype(int)


X_train, y_train, X_test, y_test = mnist()
X_train, X_test = (X_train > 127).astype(np.uint8), (X_test > 127).astype(np.uint8)
known = X_train[y_train != 9]

rbm = BernoulliRBM(
    500,
    learning_rate=0.05,
    learning_rate_schedule="linear",
    batch_size=100,
    n_iter=60,
    gradient=PCD(n_steps=1),
    random_state=0,
).fit(known)

# %%
# Anomalies: the area under the ROC curve (AUC) for 9 against the digits 0 to 8.

forest = IsolationForest(random_state=0).fit(known)
scores = {"free energy": rbm.free_energy(X_test), "IsolationForest": -forest.score_samples(X_test)}
print(f"{'score':<18} AUC, 9 against 0 to 8")
for name, score in scores.items():
    print(f"{name:<18} {roc_auc_score(y_test == 9, score):.3f}")

# %%
# Noise: one pixel in ten is flipped.

rng = np.random.default_rng(0)
clean = X_test[:1000]
wrong = rng.uniform(size=clean.shape) < 0.1
noisy = clean ^ wrong
denoised = rbm.inverse_transform(rbm.transform(noisy))
filled = rbm.impute(np.where(wrong, np.nan, clean), 50, random_state=0)
print(f"\n{'':<42} pixels that are wrong")
for name, images in (
    ("noisy", noisy),
    ("denoised", denoised),
    ("imputed, where the wrong pixels are known", filled),
):
    print(f"{name:<42} {((images > 0.5) != clean).mean():.3f}")

figure, axes = plt.subplots(4, 10, figsize=(10, 4))
for row, images in zip(axes, (clean, noisy, denoised, filled)):
    for place, image in zip(row, images):
        place.imshow(image.reshape(28, 28), cmap="gray")
        place.set_axis_off()
figure.savefig("denoising.png")
