"""Log-likelihood of sampled MNIST with 500 hidden units, by forward and reverse annealing.

    python benchmarks/mnist_500.py

Trained on grey images whose pixels are drawn anew, with their grey value as probability, before
every epoch; tested on one such draw of the 10,000 test images. log Z by annealed importance
sampling on the levels of Salakhutdinov and Murray (2008): 14,500 levels, 100 chains; backwards
from the ends of long chains. They report −86.34 for CD-25.
"""

import argparse
import time

import numpy as np
import torch
from data import mnist

from skebm import PCD, BernoulliRBM, log_likelihood, log_partition

LEVELS = np.concatenate(
    [np.arange(0, 0.5, 1e-3), np.arange(0.5, 0.9, 1e-4), np.arange(0.9, 1, 1e-5), [1.0]]
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--chains", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)

    X_train, _, X_test, _ = mnist()
    rng = np.random.default_rng(options.seed)

    def coins(X):
        return (rng.random(X.shape, dtype=np.float32) < X / np.float32(255)).view(np.uint8)

    test = coins(X_test)
    rbm = BernoulliRBM(
        500,
        batch_size=options.batch,
        gradient=PCD(n_chains=options.chains),
        random_state=options.seed,
    )
    begin = time.perf_counter()
    for epoch in range(options.epochs):
        rbm.set_params(learning_rate=options.rate * (1 - epoch / options.epochs))
        rbm.partial_fit(coins(X_train))
        if (epoch + 1) % max(1, options.epochs // 8) == 0:
            estimate = log_partition(rbm, method="ais", betas=1000, random_state=0)
            score = log_likelihood(rbm, test, log_z=estimate).mean()
            print(
                f"epoch {epoch + 1}, {time.perf_counter() - begin:.0f} s: about {score:.2f} nats; "
                f"{estimate}",
                flush=True,
            )
    print(f"training: {time.perf_counter() - begin:.0f} s")

    begin = time.perf_counter()
    found = log_partition(rbm, method="bracket", betas=LEVELS, random_state=0)
    free_energy = rbm.free_energy(test).astype(np.float64).mean()
    print(f"{found}, {time.perf_counter() - begin:.0f} s")
    for name, value in (("forward", found.value), ("reverse", found.upper)):
        print(f"test log-likelihood, {name} annealing: {-free_energy - value:.2f} nats a row")


if __name__ == "__main__":
    main()
