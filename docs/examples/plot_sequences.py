"""
=================================
Sequences: couplings and contacts
=================================

Sequences of a protein family have columns that change together, since the residues are in contact.
A `CategoricalRBM` learns such dependencies. Its effective couplings show which pairs of columns
depend on each other directly.

The sequences are simulated: 20 columns of four letters, six pairs of columns in contact. In two
thirds of the sequences, the two letters of a contact match.
"""

# %%
# Data
# ----
# Many sequences are nearly equal to others, as in databases of families. Weights count them once.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import CenteredNorm

from skebm import CategoricalRBM, contact_map, sequence_weights, zero_sum_gauge

rng = np.random.default_rng(0)
n_columns, letters = 20, np.array(list("ACDE"))
contacts = [(0, 19), (1, 18), (2, 17), (5, 12), (6, 11), (8, 15)]
X = rng.choice(letters, size=(3000, n_columns))
for i, j in contacts:
    X[:, j] = np.where(rng.uniform(size=len(X)) < 2 / 3, X[:, i], X[:, j])
X = np.concatenate([X, np.repeat(X[:100], 10, axis=0)])  # one hundred are there eleven times
weight = sequence_weights(X)
print(f"{len(X)} sequences, effective number {weight.sum():.0f}")

# %%
# Model
# -----
# The penalty `l1b` keeps the number of columns small that a hidden unit depends on. `categories`
# names all letters, so that a letter that is missing in a column gets a small probability.

rbm = CategoricalRBM(
    30,
    n_iter=30,
    batch_size=50,
    learning_rate_schedule="linear",
    l1b=0.05,
    categories=[letters] * n_columns,
    random_state=0,
).fit(X, sample_weight=weight)

# %%
# Contacts
# --------
# The score of a pair of columns is the norm of its couplings, with average-product correction. The
# upper triangle has the scores, the lower triangle the true contacts.

score = contact_map(rbm, X)
pairs = np.argwhere(np.triu(np.ones_like(score), 1) > 0)
best = sorted(pairs.tolist(), key=lambda pair: -score[tuple(pair)])[: len(contacts)]
found = sum(tuple(pair) in contacts for pair in best)
print(f"{found} of the {len(contacts)} pairs with the highest scores are contacts")

picture = np.triu(score, 1)
for i, j in contacts:
    picture[j, i] = np.nanmax(score)
figure, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
ax.imshow(picture, cmap="Blues")
ax.set(title="scores (above), contacts (below)", xlabel="column", ylabel="column")
ax.set(xticks=range(0, n_columns, 5), yticks=range(0, n_columns, 5))
plt.show()

# %%
# Weights of one hidden unit
# --------------------------
# In the zero-sum gauge, weights of different units and models can be compared. The hidden unit with
# the largest weights depends on the two columns of a contact.

W = zero_sum_gauge(rbm).components_.reshape(30, n_columns, len(letters))
strongest = np.abs(W).max((1, 2)).argmax()
figure, ax = plt.subplots(figsize=(7, 2.5), layout="constrained")
image = ax.imshow(W[strongest].T, cmap="RdBu_r", norm=CenteredNorm())
ax.set(title="weights of one hidden unit", xlabel="column", xticks=range(n_columns))
ax.set_yticks(range(len(letters)), letters)
figure.colorbar(image)
plt.show()
