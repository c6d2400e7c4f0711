"""Random estimators, parameters, data and calls: a finite result, or a clear error."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skebm import (
    CD,
    DBN,
    PCD,
    BernoulliRBM,
    CategoricalRBM,
    ConvRBM,
    DBNClassifier,
    DBNRegressor,
    DropoutRBM,
    Exact,
    GaussianRBM,
    ParallelTempering,
    PoissonRBM,
    RBMClassifier,
    RBMImputer,
    TabularRBM,
)

#: Parts of messages that a user cannot act on.
UNCLEAR = (
    "size of tensor",
    "not supported between",
    "out of bounds",
    "out of range",
    "NoneType' object",
    "unsupported operand",
    "has no attribute",
    "shapes",
    "broadcast",
    "ambiguous",
    "not iterable",
    "zero-size array",
    "must match",
    "mat1",
)
TRAINING = {
    "learning_rate": [0.01, 0.1, 1.0],
    "batch_size": [1, 3, 10, 1000],
    "n_iter": [0, 1, 3],
    "optimizer": ["sgd", "adam"],
    "learning_rate_schedule": ["constant", "linear", "invscaling"],
    "momentum": [0.0, 0.9],
    "weight_decay": [0.0, 0.01],
    "max_norm": [None, 1.0],
    "shuffle": [True, False],
    "warm_start": [True, False],
    "early_stopping": [False, False, True],
    "precision": ["highest", "high", "medium"],
}
ENERGY = {
    **TRAINING,
    "n_components": [1, 3, 20],
    "gradient": ["cd", "pcd", "pt", CD(2), PCD(2, 6), ParallelTempering(3), Exact()],
    "l1": [0.0, 0.01],
    "l1b": [0.0, 0.1],
    "max_grad_norm": [None, 1.0],
    "centered": [True, False],
    "sparsity_target": [None, 0.1],
    "temperature": [0.5, 1.0, 25.0],
}
HIDDEN = {"hidden": ["bernoulli", "spin", "relu", "nrelu"]}
LABELS = {"class_weight": [None, "balanced"], "unlabeled": ["auto", -1, None]}
CHOICES = {
    BernoulliRBM: {**ENERGY, **HIDDEN, "visible": ["bernoulli", "mean", "continuous", "spin"]},
    DropoutRBM: {**ENERGY, "drop": ["units", "weights", "energy"], "dropout": [0.0, 0.5]},
    GaussianRBM: {**ENERGY, **HIDDEN, "variance": ["learned", "fixed", "unit"]},
    PoissonRBM: {**ENERGY, "hidden": ["bernoulli", "spin"]},
    CategoricalRBM: {**ENERGY, **HIDDEN, "handle_unknown": ["error", "ignore"]},
    TabularRBM: {
        **ENERGY,
        **HIDDEN,
        "handle_unknown": ["error", "ignore"],
        "numbers": ["gaussian", "binned"],
    },
    ConvRBM: {
        **ENERGY,
        "kernel_size": [1, 2, 5],
        "visible": ["bernoulli", "gaussian", "continuous"],
        "variance": ["learned", "fixed"],
        "pool_size": [None, 2],
        "stride": [1, 2],
    },
    RBMClassifier: {
        **ENERGY,
        **HIDDEN,
        **LABELS,
        "objective": ["hybrid", "discriminative", "generative"],
        "visible": ["bernoulli", "gaussian", "spin"],
    },
    RBMImputer: {
        "estimator": [None, BernoulliRBM(3), GaussianRBM(3, n_iter=2), CategoricalRBM(2)],
        "method": ["mean", "mean_field"],
        "n_steps": [1, 5],
    },
    DBN: {
        "layers": [(3,), (4, 2), (GaussianRBM(3), 2), (ConvRBM(2), 3), (3, RBMClassifier(2))],
        "output": ["top", "all"],
        "residual": [None, (1, 1)],
        "fine_tune": [None, "up-down"],
        "fine_tune_n_iter": [1],
        "n_iter": [0, 2],
        "warm_start": [True, False],
    },
    DBNClassifier: {
        **TRAINING,
        **LABELS,
        "layers": [(3,), (GaussianRBM(3, n_iter=2), 2), (TabularRBM(3, n_iter=1),)],
        "init": ["pretrained", "default", "scaled"],
        "freeze": [0, 1, "all"],
        "dropout": [0.0, 0.5],
    },
    DBNRegressor: {
        **TRAINING,
        "layers": [(3,), (GaussianRBM(3, n_iter=2), 2)],
        "init": ["pretrained", "default", "scaled"],
        "dropout": [0.0, 0.5],
    },
}


def choice(rng, options):
    return options[rng.integers(len(options))]


def draw_estimator(rng):
    Estimator = choice(rng, list(CHOICES))
    choices = CHOICES[Estimator]
    chosen = [name for name in choices if rng.uniform() < 0.25]
    params = {name: copy.deepcopy(choice(rng, choices[name])) for name in chosen}
    for name, value in (("n_iter", 2), ("n_components", 5)):
        if name in choices:
            params.setdefault(name, value)
    return Estimator(**params, random_state=0)


def draw_rows(rng):
    """Rows of one of many kinds; some of them are no legal rows."""
    n, d = int(choice(rng, [1, 2, 5, 12, 30])), int(choice(rng, [1, 4, 9]))
    X = rng.integers(2, size=(n, d)).astype(np.float64)
    kind = choice(rng, [*"bbbbrrcsifntogmexuw"])
    if kind == "r":
        X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4)
    elif kind == "c":
        X = rng.poisson(3, size=(n, d))
    elif kind == "s":
        X = sparse.csr_array(X)
    elif kind == "i":
        X = X.astype(choice(rng, [np.uint8, np.int64, bool, np.float32, np.float16]))
    elif kind == "f":
        X = pd.DataFrame(X, columns=[f"x{j}" for j in range(d)])
    elif kind == "n":
        X[rng.uniform(size=X.shape) < 0.3] = np.nan
    elif kind == "t":
        X = rng.choice(["a", "b", "c"], size=(n, d))
    elif kind == "o":
        X = rng.choice(np.array(["a", 3, None, True], dtype=object), size=(n, d))
    elif kind == "g":
        X = np.full((n, d), choice(rng, [0.0, 1.0, -7.0, 1e6]))
    elif kind == "m":
        columns = {"c": rng.choice(["a", "b"], n), "x": rng.normal(size=n), "n": np.arange(n)}
        X = pd.DataFrame(columns)
    elif kind == "e":
        X = X[:0]
    elif kind == "x":
        X[0, 0] = choice(rng, [np.inf, 1e300, 1e20])
    elif kind == "u":
        X = X[:, :1].ravel()
    elif kind == "w":
        X = X[::-1, ::-1]
    return X


def draw_targets(rng, n):
    options = [
        None,
        rng.integers(2, size=n),
        rng.integers(-1, 3, size=n),
        rng.normal(size=n),
        rng.choice(["a", "b"], size=n),
        np.where(rng.uniform(size=n) < 0.3, np.nan, rng.normal(size=n)),
        rng.normal(size=(n, 2)) * 1e20,
        rng.choice(np.array(["a", 3, -1, None], dtype=object), size=n),
    ]
    return options[int(choice(rng, [0, 1, 1, 1, 2, 3, 3, 4, 5, 6, 7]))]


def draw_weight(rng, n):
    options = [
        None,
        rng.integers(3, size=n),
        rng.uniform(size=n),
        np.zeros(n),
        np.full(n, 1e15),
        np.full(n, 10.0**9),
        rng.normal(size=n),
    ]
    return options[int(choice(rng, [0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6]))]


def numbers(result):
    """All arrays of numbers in a result."""
    if isinstance(result, dict):
        return [a for value in result.values() for a in numbers(value)]
    if isinstance(result, (tuple, list)):
        return [a for value in result for a in numbers(value)]
    if isinstance(result, pd.DataFrame):
        return [a for name in result for a in numbers(result[name].to_numpy())]
    if isinstance(result, (np.ndarray, float)):
        array = np.asarray(result)
        return [array] if array.dtype.kind == "f" else []
    return []


def calls_of(estimator, X, y, rng):
    """Calls of public methods with legal arguments."""
    calls = {
        name: [X]
        for name in (
            "transform",
            "score_samples",
            "free_energy",
            "predict",
            "predict_proba",
            "gibbs",
        )
    }
    calls |= {"score": [X, y], "impute": [X], "reconstruction_error": [X]}
    calls |= {"decision_function": [X], "sample": [3, 2], "partial_fit": [X, y], "fit": [X, y]}
    names = [name for name in calls if hasattr(estimator, name)]
    for _ in range(3):
        name = choice(rng, names)
        keywords = {}
        if name == "sample" and rng.uniform() < 0.3 and not isinstance(estimator, ConvRBM):
            keywords = {"method": "pt"}
        if name == "partial_fit" and hasattr(estimator, "classes_"):
            keywords = {"classes": estimator.classes_}
        yield name, calls[name], keywords


def check_error(error, what):
    """Whether an error is of a clear kind."""
    text = str(error)
    assert isinstance(error, (ValueError, TypeError, NotFittedError)), f"{what}: {error!r}"
    assert len(text) > 15, f"{what}: {error!r}"
    assert not text.startswith("could not convert"), f"{what}: {error!r}"
    for part in UNCLEAR:
        assert part not in text, f"{what}: {error!r}"


def one_fit(seed):
    """A random fit, and calls of the fitted estimator."""
    rng = np.random.default_rng(seed)
    estimator, X = draw_estimator(rng), draw_rows(rng)
    n = X.shape[0]
    y, weight = draw_targets(rng, n), draw_weight(rng, n)
    what = f"seed {seed}: {estimator!r} on {type(X).__name__} of {getattr(X, 'shape', None)}"
    given = {} if weight is None or isinstance(estimator, RBMImputer) else {"sample_weight": weight}
    try:
        estimator.fit(X, y, **given)
    except Exception as error:
        check_error(error, what)
        left = [name for name in vars(estimator) if name.endswith("_")]
        assert not left, f"{what} left {left}"
        return
    for name, value in vars(estimator).items():
        if name.endswith("_"):
            for array in numbers(value):
                assert np.isfinite(array).all(), f"{what}: {name} is not finite"
    for array in numbers(getattr(estimator, "history_", {})):
        assert not np.isinf(array).any(), f"{what}: history_ is infinite"
    if rng.uniform() < 0.2:
        estimator = pickle.loads(pickle.dumps(estimator))
    clone(estimator)
    for name, arguments, keywords in calls_of(estimator, X, y, rng):
        before = {k: v for k, v in vars(estimator).items() if k.endswith("_")}
        try:
            result = getattr(estimator, name)(*arguments, **keywords)
        except Exception as error:
            check_error(error, f"{what}, then {name}")
            after = {k: v for k, v in vars(estimator).items() if k.endswith("_")}
            assert before.keys() == after.keys(), f"{what}, then {name}: half fitted"
            continue
        for array in numbers(result):
            assert np.isfinite(array).all(), f"{what}, then {name}: not finite"


def run(seeds):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for seed in seeds:
            one_fit(seed)


@pytest.mark.parametrize("part", range(4))
def test_a_result_is_finite_or_an_error_is_clear(part):
    run(range(100 * part, 100 * part + 45))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(50))
def test_a_result_is_finite_or_an_error_is_clear_in_many_fits(part):
    run(range(10_000 + 100 * part, 10_000 + 100 * part + 100))
