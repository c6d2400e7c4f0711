"""Held-out densities of GaussianRBM() and TabularRBM() beside independent columns.

    python benchmarks/densities.py

Log-likelihood of a held-out third of the rows, nats a row, 5 splits: mean and standard deviation.
Independent columns are normal distributions with the means and variances of the training rows and,
for the categories of cars, their shares with a pseudocount of one. Of cars (vega_datasets), the
rows without missing values are used.
"""

import argparse

import numpy as np
import torch
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.model_selection import train_test_split
from tabular import cars

from skebm import GaussianRBM, TabularRBM


def tables():
    """(name, estimator, rows) of each table."""
    for load in (load_wine, load_diabetes, load_breast_cancer):
        yield load.__name__.removeprefix("load_"), GaussianRBM(), load().data
    yield "cars", TabularRBM(), cars()[0].dropna().reset_index(drop=True)


def independent(train, test):
    """The log-likelihood of the test rows under independent columns: (n,)."""
    if not hasattr(train, "columns"):
        return norm(train.mean(0), train.std(0)).logpdf(test).sum(1)
    total = np.zeros(len(test))
    for name in train.columns:
        column, of_test = train[name], test[name]
        if column.dtype.kind in "if":
            total += norm(column.mean(), column.std()).logpdf(of_test)
        else:
            counts = column.value_counts() + 1
            total += np.log(of_test.map(counts).fillna(1).astype(float) / counts.sum())
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=5)
    splits = parser.parse_args().splits
    torch.set_num_threads(2)
    print("| table | independent columns | skebm | splits in which skebm is above |")
    print("|---|---|---|---|")
    for name, estimator, rows in tables():
        found = []
        for seed in range(splits):
            train, test = train_test_split(rows, test_size=1 / 3, random_state=seed)
            if hasattr(estimator, "handle_unknown"):
                estimator.set_params(handle_unknown="ignore")
            model = estimator.set_params(random_state=seed).fit(train)
            found.append((independent(train, test).mean(), model.score(test)))
        columns = np.transpose(found)
        cells = [f"{np.mean(c):.2f} ± {np.std(c):.2f}" for c in columns]
        above = (columns[1] > columns[0]).sum()
        print(f"| {name} | {cells[0]} | {cells[1]} | {above} of {splits} |", flush=True)


if __name__ == "__main__":
    main()
