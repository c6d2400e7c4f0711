"""
================================
Spins with two far ground states
================================

Eight spins are measured, and all of them have the same sign: all are up or all are down, each half
of the time. These are the outcomes of a GHZ state in physics. A Gibbs chain hardly moves from one
state to the other. A model that is trained with such chains may give one of them no probability,
and its scores do not show this. Trajectory tempering keeps both.
"""

# %%
# Data and models
# ---------------
# The rows have values −1 and 1, so that `visible="spin"`.

import matplotlib.pyplot as plt
import numpy as np

from skebm import BernoulliRBM, ModeDisplay, mode_report

rng = np.random.default_rng(0)
X = np.repeat(rng.choice([-1.0, 1.0], size=(2000, 1)), 8, axis=1)

models = {
    gradient: BernoulliRBM(32, visible="spin", gradient=gradient, random_state=0).fit(X)
    for gradient in ("pcd", "ptt")
}

# %%
# The probability of both states
# ------------------------------
# The model has 256 rows, so that the sum over all of them is possible. `score` is a mean of
# pseudo-log-likelihoods.

rows = 2.0 * ((np.arange(256)[:, None] >> np.arange(8)) & 1) - 1
for gradient, rbm in models.items():
    p = np.exp(-rbm.free_energy(rows).astype(float))
    p /= p.sum()
    print(f"{gradient}: all down {p[0]:.2f}, all up {p[-1]:.2f}, score {rbm.score(X):.2f}")

# %%
# Samples and data
# ----------------
# For larger models, compare the shares of clusters in new samples with those in the data. The
# samples of the second model are those of trajectory tempering.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
for ax, (gradient, rbm) in zip(axes, models.items()):
    method = "ptt" if gradient == "ptt" else "gibbs"
    drawn = rbm.sample(500, n_steps=200, method=method, random_state=0)
    report = mode_report(rbm, X, samples=drawn, n_clusters=2, random_state=0)
    ModeDisplay(report).plot(ax=ax)
    ax.set_title(f'gradient="{gradient}": {ax.get_title()}')
plt.show()
