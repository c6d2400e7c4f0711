"""RBM features and logistic regression on all of MNIST: test accuracy and seconds.

python benchmarks/mnist_pipeline.py
"""

import argparse
import time

import numpy as np
import torch
from data import mnist
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skebm import BernoulliRBM


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--C", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(2)

    X_train, y_train, X_test, y_test = mnist()
    X_train, X_test = (X_train / 255).astype(np.float32), (X_test / 255).astype(np.float32)
    for seed in range(options.seeds):
        model = make_pipeline(
            BernoulliRBM(
                n_components=256,
                learning_rate=options.rate,
                batch_size=options.batch,
                n_iter=options.epochs,
                random_state=seed,
            ),
            LogisticRegression(C=options.C, max_iter=300),
        )
        begin = time.perf_counter()
        model.fit(X_train, y_train)
        seconds = time.perf_counter() - begin
        accuracy = model.score(X_test, y_test)
        epochs = model[0].history_["seconds"].sum()
        print(
            f"seed {seed}: {accuracy:.4f} of the test rows right; {seconds:.0f} s, of which "
            f"{epochs:.0f} s in the epochs of the RBM",
            flush=True,
        )


if __name__ == "__main__":
    main()
