"""
==============================
A deep Boltzmann machine
==============================

Digits of 8 × 8 pixels, as zeros and ones. A deep Boltzmann machine has layers that are trained
together; all of them have a say in each pixel. Here it is compared with a machine of one layer by
the log-likelihood of held-out rows. Then the lower half of some digits is filled in.
"""

# %%
# Two models
# ----------
# Both have 64 units above the pixels. The deep one has 32 more units above these.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skebm import DBM, BernoulliRBM, SamplesDisplay, TrainingDisplay, log_likelihood, log_partition

X = (load_digits().data > 7).astype(float)
order = np.random.default_rng(0).permutation(len(X))
train, test = X[order[:1400]], X[order[1400:]]

settings = {"batch_size": 32, "learning_rate": 0.05, "learning_rate_schedule": "linear"}
rbm = BernoulliRBM(64, n_iter=50, random_state=0, **settings).fit(train)
dbm = DBM((64, 32), n_iter=50, random_state=0, **settings).fit(train)

# %%
# Likelihoods of held-out rows
# ----------------------------
# For the deep model, `score_samples` is a lower bound, and `log_likelihood` estimates what the
# bound leaves out. log Z is estimated by annealed importance sampling.

for name, model in (("one layer", rbm), ("deep", dbm)):
    log_z = log_partition(model, random_state=0)
    print(name, log_z)
    print(f"    log-likelihood {log_likelihood(model, test, log_z=log_z).mean():.2f} nats a row")
    if model is dbm:
        print(f"    bound {model.score_samples(test, log_z=log_z).mean():.2f} nats a row")

# %%
# Mean field
# ----------
# In training, the layers above a row are found by mean field. A few sweeps are enough for most
# rows; `mean_field_unconverged` is the share of those for which they were not.

TrainingDisplay.from_estimator(dbm, measures=["mean_field_sweeps", "mean_field_unconverged"])

# %%
# Samples
# -------

SamplesDisplay.from_estimator(dbm, n_chains=4, n_steps=1000, kind="image", random_state=0)

# %%
# A larger model, of the 28 × 28 pixels of MNIST, takes longer than this page may. It has 500 and
# 1000 units, with the labels at the top. `benchmarks/dbm.py --table samples` trains it. Another
# classifier recognises 96.0 % of its samples; here are ten of each class.
#
# .. image:: /dbm_samples.png
#    :alt: Ten samples of each of the ten digits
#    :align: center

# %%
# Half of a digit
# ---------------
# The lower half is missing. `impute` gives its mean given the upper half.

holes = test[:8].copy()
holes[:, 32:] = np.nan
filled = dbm.impute(holes, n_steps=1000, random_state=0)
figure, axes = plt.subplots(2, 8, figsize=(8, 2.2))
for (above, below), row, again in zip(axes.T, test, filled):
    above.imshow(row.reshape(8, 8), cmap="gray_r")
    below.imshow(again.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
for axis in axes.flat:
    axis.set_axis_off()
axes[0, 0].set_title("rows", loc="left")
axes[1, 0].set_title("the lower half filled in", loc="left")
