"""Far modes: PCD, parallel tempering and trajectory tempering.

    python benchmarks/modes.py                       far modes, at default settings
    python benchmarks/modes.py --table mnist         MNIST zeros and ones, at equal time
    python benchmarks/modes.py --table cost          time of an epoch, of MNIST zeros and ones

Far modes: 18 bits near one of two complementary patterns (each bit flipped with probability 0.05),
in shares of 0.8 and 0.2; 8 bits that are all 0 or all 1, in equal shares (the outcomes of a GHZ
state); four normal distributions in two dimensions, at the corners of a square of side 8 with unit
variance, in shares of 0.4, 0.3, 0.2, 0.1. 2000 rows. Shares of the first two are exact sums over
all rows; shares of Gaussian models are those of 1000 samples by parallel tempering.

MNIST zeros and ones: all training rows of these digits, thresholded at 0.5, 200 hidden units,
batches of 100, 100 chains; every method trains for the same time. The learning rate is the best
of three on 1000 held-out training rows, for each method. Log-likelihoods are those of the test
rows, with log Z between annealed importance sampling from below and from above. The share of
zeros is that of samples, by the nearest mean of a digit; the mixing time is the autocorrelation
time of the projection on the difference of the means of both digits, in Gibbs sweeps of one chain:
a sweep of parallel or trajectory tempering counts as many as it has levels.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from data import mnist

from skebm import (
    PCD,
    PTT,
    BernoulliRBM,
    GaussianRBM,
    ParallelTempering,
    autocorrelation_time,
    log_likelihood,
    log_partition,
)

SEEDS = 5


def two_patterns(seed):
    rng = np.random.default_rng(seed)
    pattern = rng.integers(2, size=18).astype(bool)
    first = np.arange(2000)[:, None] < 1600
    X = (pattern == first) ^ (rng.uniform(size=(2000, 18)) < 0.05)
    return X.astype(np.float32), np.stack([pattern, ~pattern])


def ghz(seed):
    X = np.repeat(np.arange(2000)[:, None] % 2, 8, axis=1)
    return X.astype(np.float32), np.array([[False] * 8, [True] * 8])


def exact_shares(rbm, patterns):
    """The probability of the rows that are nearest to each pattern, over all rows."""
    n = patterns.shape[1]
    rows = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    log_p = -rbm.free_energy(rows.astype(np.float32)).astype(float)
    p = np.exp(log_p - log_p.max())
    nearest = (rows[:, None] != patterns).sum(2).argmin(1)
    return np.bincount(nearest, p / p.sum(), len(patterns))


CORNERS = np.array([[-4, -4], [-4, 4], [4, -4], [4, 4]])


def clusters(seed):
    rng = np.random.default_rng(seed)
    centres = np.repeat(CORNERS, [800, 600, 400, 200], axis=0)
    return centres + rng.normal(size=(2000, 2)), None


def sampled_shares(rbm, _):
    rows = rbm.sample(1000, 200, method="pt", random_state=0)
    nearest = ((rows[:, None] - CORNERS) ** 2).sum(2).argmin(1)
    return np.bincount(nearest, minlength=4) / len(rows)


FAR = {
    "two patterns, .8 and .2": (two_patterns, BernoulliRBM, exact_shares, [0.8, 0.2]),
    "GHZ, .5 and .5": (ghz, BernoulliRBM, exact_shares, [0.5, 0.5]),
    "four Gaussians": (clusters, GaussianRBM, sampled_shares, [0.4, 0.3, 0.2, 0.1]),
}


def far():
    print("| data | gradient | largest error of a share, by seed | median |")
    print("|---|---|---|---|")
    for name, (make, Estimator, shares, expected) in FAR.items():
        for gradient in ("pcd", "pt", "ptt"):
            errors = []
            for seed in range(SEEDS):
                X, patterns = make(seed)
                rbm = Estimator(gradient=gradient, random_state=seed).fit(X)
                errors.append(np.abs(shares(rbm, patterns) - expected).max())
            text = ", ".join(f"{error:.3f}" for error in errors)
            print(f"| {name} | {gradient} | {text} | {np.median(errors):.3f} |", flush=True)


# MNIST zeros and ones

METHODS = {
    "PCD-1": (PCD(1, n_chains=100), "gibbs"),
    "PCD-10": (PCD(10, n_chains=100), "gibbs"),
    "PT": (ParallelTempering(n_chains=100), "pt"),
    "PTT": (PTT(n_chains=100), "ptt"),
}
RATES = (0.01, 0.03, 0.1)


def zeros_and_ones():
    X, y, X_test, y_test = mnist()
    rows, test = ((x[t <= 1] > 127).astype(np.float32) for x, t in ((X, y), (X_test, y_test)))
    return rows, y[y <= 1], test


def fit_for(seconds, X, gradient, learning_rate, seed):
    rbm = BernoulliRBM(
        200, gradient=gradient, learning_rate=learning_rate, batch_size=100, random_state=seed
    )
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        rbm.partial_fit(X)
    return rbm


def bracket(rbm, X):
    """The mean log-likelihood of rows, with log Z from above and from below."""
    log_z = log_partition(rbm, method="bracket", betas=2000, random_state=0)
    mean = log_likelihood(rbm, X, log_z=0.0).mean()
    return mean - log_z.upper, mean - log_z.lower


def mixing(rbm, method, means):
    """The share of zeros in samples, and the mixing time in sweeps of one chain."""
    chains = rbm.sample_chains(100, 500, method=method, random_state=0)
    axis = means[1] - means[0]
    places = (chains.draws[:, 100:] - means.mean(0)) @ axis  # (n_chains, n_sweeps)
    n_levels = 1 if chains.swap_rates is None else len(chains.swap_rates) + 1
    return (places < 0).mean(), n_levels * autocorrelation_time(places)


def zeros_table(seconds, seeds):
    X, y, test = zeros_and_ones()
    means = np.stack([X[y == digit].mean(0) for digit in (0, 1)])
    axis = means[1] - means[0]
    of_test = ((test - means.mean(0)) @ axis < 0).mean()
    print(f"{seconds:.0f} s each; share of zeros in the test rows {of_test:.3f}\n")
    print("| method | rate | epochs | log-likelihood of the test rows | zeros | mixing time |")
    print("|---|---|---|---|---|---|")
    held_out = np.random.default_rng(0).permutation(len(X))
    for name, (gradient, method) in METHODS.items():
        scores = []
        for rate in RATES:
            rbm = fit_for(seconds / 2, X[held_out[1000:]], gradient, rate, 0)
            scores.append(bracket(rbm, X[held_out[:1000]])[0])
        rate = RATES[int(np.argmax(scores))]
        for seed in range(seeds):
            rbm = fit_for(seconds, X, gradient, rate, seed)
            low, high = bracket(rbm, test)
            zeros, tau = mixing(rbm, method, means)
            print(
                f"| {name} | {rate} | {rbm.n_iter_} | {low:.1f} to {high:.1f} | {zeros:.3f} "
                f"| {tau:.0f} |",
                flush=True,
            )


def cost():
    X, _, _ = zeros_and_ones()
    seconds = {}
    for _ in range(3):
        for name, (gradient, _) in METHODS.items():
            rbm = BernoulliRBM(200, gradient=gradient, batch_size=100, n_iter=10, random_state=0)
            times = rbm.fit(X).history_["seconds"]
            seconds.setdefault(name, []).append(np.median(times[-5:]))
    print("| method | epoch, in epochs of PCD-1 |")
    print("|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {np.median(times) / np.median(seconds['PCD-1']):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=["far", "mnist", "cost"], default="far")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    if arguments.table == "far":
        far()
    elif arguments.table == "cost":
        cost()
    else:
        zeros_table(arguments.seconds, arguments.seeds)


if __name__ == "__main__":
    main()
