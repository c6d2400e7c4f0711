"""
==========================
Samples of a table of data
==========================

`TabularRBM` models a data frame with columns of different types. It then draws new rows with the
same columns, and it fills in missing entries.
"""

# %%
# Data
# ----
# The iris flowers, with a column of categories and 10 % missing entries.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_iris

from skebm import TabularRBM

iris = load_iris()
flowers = pd.DataFrame(iris.data, columns=["sepal l.", "sepal w.", "petal l.", "petal w."])
flowers["species"] = iris.target_names[iris.target]
with_holes = flowers.mask(np.random.default_rng(0).uniform(size=flowers.shape) < 0.1)
print(with_holes.head())

# %%
# Model
# -----

rbm = TabularRBM(32, random_state=0)
rbm.fit(with_holes)

# %%
# The kind of each column follows from its type.

for column, kind in zip(flowers.columns, rbm.kinds_):
    print(f"{column:<10}{kind}")

# %%
# Missing entries
# ---------------

completed = rbm.impute(with_holes, random_state=0)
was_missing = with_holes["species"].isna()
right = (completed["species"] == flowers["species"])[was_missing]
print(f"species filled in correctly: {right.sum()} of {was_missing.sum()}")

# %%
# Samples
# -------
# New rows on the right, the data on the left.

samples = rbm.sample(len(flowers), random_state=0)
print(samples.head())
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharex=True, sharey=True)
for ax, (title, table) in zip(axes, {"data": flowers, "samples": samples}.items()):
    for species, group in table.groupby("species"):
        ax.scatter(group["petal l."], group["petal w."], s=12, label=species)
    ax.set_title(title)
    ax.set_xlabel("petal length in cm")
axes[0].set_ylabel("petal width in cm")
axes[0].legend()
plt.show()
