"""Exact log-likelihood of a small RBM on MNIST, in the protocol of the PyDeep tutorial.

    python benchmarks/mnist_likelihood.py

Images thresholded at 0.5, 16 hidden units, PCD-1 with 100 chains, centred, rate 0.01, batches
of 100, 50 epochs of 60,000 rows; log Z by enumerating the 2^16 hidden states. The same on
flipped images (zeros and ones exchanged). PyDeep reports −142.56 and −142.09 nats a test row.
"""

import argparse
import time

import numpy as np
import torch
from data import mnist

from skebm import PCD, BernoulliRBM, log_likelihood


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(2)

    X_train, _, X_test, _ = mnist()
    for kind in ("images", "flipped images"):
        train, test = (((X > 127) ^ (kind != "images")).view(np.uint8) for X in (X_train, X_test))
        figures = []
        for seed in range(options.seeds):
            begin = time.perf_counter()
            rbm = BernoulliRBM(
                16,
                learning_rate=0.01,
                batch_size=100,
                n_iter=options.epochs,
                gradient=PCD(n_steps=1, n_chains=100),
                random_state=seed,
            ).fit(train)
            seconds = time.perf_counter() - begin
            figures.append(log_likelihood(rbm, test).mean())
            print(f"{kind}, seed {seed}: {figures[-1]:.2f} nats, {seconds:.0f} s", flush=True)
        print(f"{kind}: mean {np.mean(figures):.2f}, standard deviation {np.std(figures):.2f}")


if __name__ == "__main__":
    main()
