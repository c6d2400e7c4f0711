"""
=========================
Filling in missing pixels
=========================

`RBMImputer` is trained on rows with missing values, and fills them in with their conditional means.
Here 30 % of all pixels of the digits are missing. The error is compared with that of two imputers
of scikit-learn.
"""

# %%
# Data
# ----

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer, SimpleImputer

from skebm import GaussianRBM, RBMImputer

X = load_digits().data / 16
missing = np.random.default_rng(0).uniform(size=X.shape) < 0.3
holes = np.where(missing, np.nan, X)

# %%
# Imputers
# --------
# The table shows the mean squared error of the missing pixels. The `RBMImputer` is trained for a
# short time here. `benchmarks/imputation.py` compares imputers on four tables.

imputers = {
    "SimpleImputer": SimpleImputer(keep_empty_features=True),
    "KNNImputer": KNNImputer(n_neighbors=10),
    "RBMImputer": RBMImputer(
        GaussianRBM(128, learning_rate=0.05, n_iter=40), n_steps=50, random_state=0
    ),
}
filled = {}
print(f"{'imputer':<16}mean squared error")
for name, imputer in imputers.items():
    filled[name] = imputer.fit_transform(holes)
    print(f"{name:<16}{np.mean((filled[name] - X)[missing] ** 2):.4f}")

# %%
# Images
# ------
# The first row shows the digits. The second row shows the input; missing pixels are blue. The other
# rows show the results.

gray = plt.get_cmap("gray").with_extremes(bad="tab:blue")
rows = {"digits": X, "input": holes} | filled
figure, axes = plt.subplots(len(rows), 10, figsize=(8, 4.4), layout="constrained")
for places, (name, images) in zip(axes, rows.items()):
    for place, image in zip(places, images):
        place.imshow(image.reshape(8, 8), cmap=gray, vmin=0, vmax=1)
        place.set_xticks([])
        place.set_yticks([])
    places[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()
