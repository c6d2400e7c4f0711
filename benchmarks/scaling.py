"""Time and peak memory of a fit against the numbers of rows, features and hidden units.

    python benchmarks/scaling.py

One number varies; the others are 10,000 rows, 256 features and 256 hidden units. Rows are random
zeros and ones in float32; batches of 100, two epochs with default settings. Seconds are those of
the second epoch, measures included: median of the runs. "memory" is what the peak of the process
is above its memory before the fit, which holds the rows; "weights" is the same in multiples of the
weights' size.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np

BASE = {"rows": 10_000, "features": 256, "units": 256}
VALUES = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "features": (64, 256, 1_024, 4_096, 20_000),
    "units": (64, 256, 1_024, 4_096),
}


def megabytes():
    """The peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def one_fit(n_rows, n_features, n_units):
    """Print the seconds of the second epoch, and by how many megabytes the fit raises the peak."""
    import torch

    from skebm import BernoulliRBM

    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    X = np.empty((n_rows, n_features), dtype=np.float32)
    for piece in np.array_split(X, max(1, X.size // 2**22)):
        rng.random(out=piece, dtype=np.float32)
        np.less(piece, 0.3, out=piece)
    warm = BernoulliRBM(8, batch_size=100, n_iter=1, random_state=0).fit(X[:200, :8])
    before = megabytes()
    rbm = warm.set_params(n_components=n_units, n_iter=2).fit(X)
    print(rbm.history_["seconds"][1], megabytes() - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one_fit(*options.one)
    print(
        "| varied | value | s an epoch | MB, weights | MB, memory | weights |\n" + "|---" * 6 + "|"
    )
    for varied, values in VALUES.items():
        for value in values:
            sizes = {**BASE, varied: value}
            command = [sys.executable, __file__, "--one", *map(str, sizes.values())]
            runs = [
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
                for _ in range(options.repeats)
            ]
            seconds, memory = np.median(np.array(runs, dtype=float), axis=0)
            weights = sizes["features"] * sizes["units"] * 4 / 2**20
            cells = f"{seconds:.3f} | {weights:.2f} | {memory:.1f} | {memory / weights:.1f}"
            print(f"| {varied} | {value:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
