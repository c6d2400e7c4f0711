"""Lattice proteins: log-likelihood per site of 46,265 sequences of 27 letters.

    python benchmarks/proteins.py                 the table
    python benchmarks/proteins.py --tune          the rows that the settings were chosen on

The folder that SKEBM_DATA names has lattice_proteins.npz (J. Tubiana, S. Cocco, R. Monasson:
Learning protein constitutive motifs from sequence data. eLife 8, 2019). As in the notebook of its
authors, the last 10,000 sequences are the test rows. Their model has 100 dReLU hidden units, the
penalty l1b with 0.025, PCD-5 and 100 epochs: −1.8134 nats a site on the test rows, −1.7998 on the
training rows.

log Z is between annealed importance sampling from below and from above, with 20,000 levels.
Settings were chosen on 4000 training rows, by `--tune`; the table trains on all training rows.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from skebm import PCD, CategoricalRBM, log_likelihood, log_partition

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")
LONG = {"batch_size": 100, "learning_rate": 0.2, "learning_rate_schedule": "linear"}
DRELU = {
    "hidden": "drelu",
    "batch_size": 100,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "learning_rate_schedule": "linear",
}
MODELS = {
    "CategoricalRBM()": {},
    "800 binary units, weight_decay=0.0008, PCD-2, 150 epochs": LONG
    | {"n_components": 800, "weight_decay": 0.0008, "gradient": PCD(2), "n_iter": 150},
    "100 dReLU units, l1b=0.025, PCD-2, 60 epochs": DRELU
    | {"n_components": 100, "l1b": 0.025, "gradient": PCD(2), "n_iter": 60},
}
TUNED = [
    *(
        LONG | {"n_components": n, "weight_decay": decay, "gradient": PCD(2), "n_iter": 60}
        for n in (200, 400, 800)
        for decay in (0.0003, 0.0006, 0.001)
    ),
    *(
        DRELU | {"n_components": 100, "weight_decay": decay, "gradient": PCD(2), "n_iter": 30}
        for decay in (0.0006, 0.003)
    ),
    LONG | {"n_components": 800, "weight_decay": 0.0008, "gradient": PCD(2), "n_iter": 150},
    LONG | {"n_components": 1500, "weight_decay": 0.0006, "gradient": PCD(2), "n_iter": 60},
]


def sequences():
    """(train, test): letters, (n, 27)."""
    path = Path(os.environ.get("SKEBM_DATA", "")) / "lattice_proteins.npz"
    if not path.exists():
        raise SystemExit("lattice_proteins.npz is needed in the folder that SKEBM_DATA names.")
    rows = np.load(path)["sequences"].astype("U1")
    return rows[:-10_000], rows[-10_000:]


def fit(settings, rows, seed=0):
    """The fitted model, and the seconds of the fit."""
    begin = time.perf_counter()
    rbm = CategoricalRBM(categories=[LETTERS] * rows.shape[1], random_state=seed, **settings)
    return rbm.fit(rows), time.perf_counter() - begin


def per_site(rbm, *tables, betas):
    """(low, high) of the mean log-likelihood per site of each table."""
    log_z = log_partition(rbm, method="bracket", betas=betas, random_state=0)
    for rows in tables:
        mean = log_likelihood(rbm, rows, log_z=0.0).mean()
        yield tuple((mean - value) / rows.shape[1] for value in (log_z.upper, log_z.lower))


def table():
    train, test = sequences()
    print("| model | fit, s | test rows, nats a site | training rows |")
    print("|---|---|---|---|")
    print("| published: 100 dReLU units | | −1.8134 | −1.7998 |")
    for name, settings in MODELS.items():
        rbm, seconds = fit(settings, train)
        found = per_site(rbm, test, train, betas=20_000)
        cells = " | ".join(f"{low:.4f} to {high:.4f}" for low, high in found)
        print(f"| {name} | {seconds:.0f} | {cells} |", flush=True)


def tune():
    train, _ = sequences()
    order = np.random.default_rng(0).permutation(len(train))
    held_out, rows = train[order[:4000]], train[order[4000:]]
    print("| settings | fit, s | held-out rows, nats a site | training rows |")
    print("|---|---|---|---|")
    for settings in TUNED:
        rbm, seconds = fit(settings, rows)
        found = per_site(rbm, held_out, rows[:4000], betas=2000)
        cells = " | ".join(f"{low:.4f} to {high:.4f}" for low, high in found)
        print(f"| {settings} | {seconds:.0f} | {cells} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    if arguments.tune:
        tune()
    else:
        table()


if __name__ == "__main__":
    main()
