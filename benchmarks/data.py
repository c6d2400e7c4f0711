"""The data of the benchmarks, from the folder SKEBM_DATA or from OpenML."""

import os
from pathlib import Path

import numpy as np


def mnist():
    """(X_train, y_train, X_test, y_test): uint8 images of 784 pixels, in the standard split."""
    folder = Path(os.environ.get("SKEBM_DATA", ""))
    if "SKEBM_DATA" in os.environ and (folder / "mnist.npz").exists():
        data = np.load(folder / "mnist.npz")
        return tuple(data[name] for name in ("X_train", "y_train", "X_test", "y_test"))
    from sklearn.datasets import fetch_openml

    try:
        X, y = fetch_openml("mnist_784", return_X_y=True, as_frame=False)
    except OSError as error:
        raise SystemExit(
            "MNIST is needed: let SKEBM_DATA name a folder with mnist.npz (X_train, y_train, "
            f"X_test, y_test), or connect this machine to OpenML ({error})."
        ) from error
    X, y = X.astype(np.uint8), y.astype(int)
    return X[:60000], y[:60000], X[60000:], y[60000:]


def mushrooms():
    """(train, valid, test): 2000, 500 and 5624 binary rows of 112 features."""
    path = Path(os.environ.get("SKEBM_DATA", "")) / "mushrooms.npz"
    if not path.exists():
        raise SystemExit(
            "mushrooms.npz (train, valid, test) is needed in the folder that SKEBM_DATA names."
        )
    data = np.load(path)
    return data["train"], data["valid"], data["test"]
