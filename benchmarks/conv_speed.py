"""The time of an epoch of ConvRBM, over that of learnergy's, on the same images.

    python -m pip install learnergy==2.0.2
    python benchmarks/conv_speed.py

One process, two threads, float32, runs in turn; medians of the time of an epoch. Both make the
same number of updates with one Gibbs sweep each (contrastive divergence), at the same shapes.
learnergy pools after training alone; ours with `pool_size` trains with pooling.
"""

import argparse
import logging
import time

import numpy as np
import torch
from data import mnist
from learnergy.models.bernoulli import ConvRBM as LearnergyRBM
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from skebm import ConvRBM


def colours(n):
    """Patches of two photographs, 16 pixels wide: (n, 3, 16, 16)."""
    patches = [
        extract_patches_2d(image, (16, 16), max_patches=n // 2, random_state=0)
        for image in load_sample_images().images
    ]
    return (np.concatenate(patches) / 255).astype(np.float32).transpose(0, 3, 1, 2).copy()


def ours(X, filters, kernel, batch, pool):
    model = ConvRBM(
        filters,
        kernel_size=kernel,
        channels_last=False,
        batch_size=batch,
        pool_size=pool,
        learning_rate=0.1,
        n_iter=1,
        random_state=0,
    )
    return model.fit(X).history_["seconds"][0]


def learnergy(X, filters, kernel, batch):
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))
    model = LearnergyRBM(
        visible_shape=X.shape[2:],
        filter_shape=(kernel, kernel),
        n_filters=filters,
        n_channels=X.shape[1],
        learning_rate=1e-4,
    )
    begin = time.perf_counter()
    model.fit(data, batch_size=batch, epochs=1)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4000)
    options = parser.parse_args()
    torch.set_num_threads(2)
    logging.disable(logging.INFO)
    digits = (mnist()[0][: options.rows] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    print("| images | filters | batch | skebm, s | pooled, s | learnergy, s | ratio | pooled |")
    print("|---|---|---|---|---|---|---|---|")
    for name, X, filters, kernel, batch in (
        ("28 x 28 x 1", digits, 32, 5, 10),
        ("28 x 28 x 1", digits, 32, 7, 128),
        ("28 x 28 x 1", digits, 40, 9, 20),
        ("28 x 28 x 1", digits, 5, 7, 128),
        ("16 x 16 x 3", colours(options.rows), 32, 5, 10),
        ("16 x 16 x 3", colours(options.rows), 64, 7, 128),
    ):
        times = np.array(
            [
                (
                    ours(X, filters, kernel, batch, None),
                    ours(X, filters, kernel, batch, 2),
                    learnergy(X, filters, kernel, batch),
                )
                for _ in range(options.runs)
            ]
        )
        plain, pooled, theirs = np.median(times, axis=0)
        ratios = times[:, :2] / times[:, 2:]
        spread = [f"{np.median(r):.2f} ({r.min():.2f} to {r.max():.2f})" for r in ratios.T]
        print(
            f"| {name} | {filters} of {kernel} x {kernel} | {batch} | {plain:.2f} | {pooled:.2f} | "
            f"{theirs:.2f} | {spread[0]} | {spread[1]} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
