"""Detection of outliers beside detectors of scikit-learn and PyOD: areas under the ROC curve.

    python -m pip install pyod
    python benchmarks/outliers.py

Five tables of PyOD's comparison, from the folder `anomalies` of SKEBM_DATA, in its protocol: 60 %
of the rows train a detector, without labels and with the outliers among them; the others are
scored; features are standardised; ten splits. All detectors have their default settings. "PCA" is
the squared distance along whitened principal components, all but those with 0.01 % of the variance.
Detectors of PyOD are left out where it is not installed.

`--choose` compares settings of our detector; 40 % of the training rows stand for the test rows.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from skebm import GaussianRBM, RBMOutlierDetector

TABLES = ("cardio", "ionosphere", "optdigits", "pima", "satellite")


def splits(name, n, choose=False):
    """Training rows, other rows, and which of these are outliers."""
    path = Path(os.environ.get("SKEBM_DATA", "")) / "anomalies" / f"{name}.mat"
    if not path.exists():
        raise SystemExit(f"{path} is needed; let SKEBM_DATA name the folder with `anomalies`.")
    data = loadmat(path)
    X, y = data["X"].astype(float), data["y"].ravel().astype(int)
    for seed in range(n):
        train, other, *labels = train_test_split(X, y, test_size=0.4, random_state=seed)
        if choose:
            train, other, *labels = train_test_split(
                train, labels[0], test_size=0.4, random_state=seed
            )
        scaler = StandardScaler().fit(train)
        yield scaler.transform(train), scaler.transform(other), labels[1]


def ours(detector):
    def scores(train, other, seed):
        model = clone(detector).set_params(random_state=seed)
        return -model.fit(train).score_samples(other)

    return scores


def forest(train, other, seed):
    return -IsolationForest(random_state=seed).fit(train).score_samples(other)


def local_factor(train, other, seed):
    return -LocalOutlierFactor(novelty=True).fit(train).score_samples(other)


def neighbours(train, other, seed):
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(other)[0][:, -1]


def principal_components(train, other, seed):
    pca = PCA(n_components=0.9999, whiten=True).fit(train)
    return np.square(pca.transform(other)).sum(1)


def of_pyod(Detector):
    return lambda train, other, seed: Detector().fit(train).decision_function(other)


def peers():
    found = {
        "IsolationForest": forest,
        "LocalOutlierFactor": local_factor,
        "5 nearest neighbours": neighbours,
        "PCA": principal_components,
    }
    try:
        from pyod.models.ecod import ECOD
        from pyod.models.hbos import HBOS
    except ImportError:
        return found
    return found | {"ECOD": of_pyod(ECOD), "HBOS": of_pyod(HBOS)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="compare settings of our detector")
    options = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore", ConvergenceWarning)
    detectors = {"RBMOutlierDetector": ours(RBMOutlierDetector())} | peers()
    if options.choose:
        settings = [
            {"n_components": n, "variance": variance, "hidden": hidden}
            for n in (4, 8, 12, 16)
            for variance in ("learned", "fixed")
            for hidden in ("bernoulli", "spin")
        ]
        detectors = {"IsolationForest": forest} | {
            str(given): ours(RBMOutlierDetector(GaussianRBM(**given))) for given in settings
        }
    print(f"| AUC, % | {' | '.join(TABLES)} | mean | s |\n|{'---|' * (len(TABLES) + 3)}")
    for name, scores in detectors.items():
        begin, areas = time.perf_counter(), []
        for table in TABLES:
            of_splits = [
                100 * roc_auc_score(y, scores(train, other, seed))
                for seed, (train, other, y) in enumerate(
                    splits(table, options.splits, options.choose)
                )
            ]
            areas.append((np.median(of_splits), np.mean(of_splits), np.ptp(of_splits)))
        seconds = (time.perf_counter() - begin) / options.splits
        cells = [f"{middle:.1f} ± {width / 2:.1f}" for middle, _, width in areas]
        mean = np.mean([m for _, m, _ in areas])
        print(f"| {name} | {' | '.join(cells)} | {mean:.2f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
