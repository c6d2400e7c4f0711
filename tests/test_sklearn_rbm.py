"""scikit-learn's own tests of BernoulliRBM, run on ours.

The module `sklearn.neural_network.tests.test_rbm` is loaded with `BernoulliRBM` replaced, and
every test in it that is not listed below has to pass.
"""

import inspect

import numpy as np
import pytest
import sklearn.neural_network.tests.test_rbm as theirs
from numpy.testing import assert_allclose, assert_array_equal

from skebm import BernoulliRBM

NOT_OURS = {
    "test_transform": "calls the private method _mean_hiddens",
    "test_sample_hiddens": "calls the private methods _mean_hiddens and _sample_hiddens",
    "test_fit": (
        "asserts that the score rounds to -21, where scikit-learn's random stream ends; "
        "test_the_score_is_no_lower_than_that_of_scikit_learn asserts that ours is higher"
    ),
    "test_partial_fit": "as test_fit; the same test of ours asserts that partial_fit is higher",
    "test_fit_gibbs": "asserts the weights that one particular random stream leads to",
    "test_convergence_dtype_consistency": (
        "asserts that biases agree to 1e-6 of their value between float32 and float64, which "
        "takes a random stream in which none of them ends near zero; "
        "test_single_precision_follows_double asserts the same up to rounding"
    ),
}


def cases():
    for name, function in inspect.getmembers(theirs, inspect.isfunction):
        if name.startswith("test_"):
            marks = getattr(function, "pytestmark", [])
            tables = [mark for mark in marks if mark.name == "parametrize"]
            yield pytest.param(function, tables, id=name)


def arguments(tables):
    """The keyword arguments of every case in the function's only parametrize mark."""
    if not tables:
        return [{}]
    (table,) = tables
    names = [name.strip() for name in table.args[0].split(",")]
    rows = [row if len(names) > 1 else (row,) for row in table.args[1]]
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize(("function", "tables"), list(cases()))
def test_passes_what_scikit_learn_asks(function, tables, monkeypatch, request):
    if function.__name__ in NOT_OURS:
        pytest.skip(NOT_OURS[function.__name__])
    monkeypatch.setattr(theirs, "BernoulliRBM", BernoulliRBM)
    fixtures = [name for name in inspect.signature(function).parameters if name == "capsys"]
    for case in arguments(tables):
        function(**case, **{name: request.getfixturevalue(name) for name in fixtures})


def test_the_list_of_exceptions_is_up_to_date():
    assert set(NOT_OURS) <= {param.id for param in cases()}


def test_single_precision_follows_double():
    rbm = BernoulliRBM(n_components=16, batch_size=5, n_iter=5, random_state=42)
    X = theirs.Xdigits[:100]
    double = rbm.fit_transform(X)
    reference = {name: getattr(rbm, name) for name in vars(rbm) if name.endswith("_")}
    chains = rbm.h_samples_
    single = rbm.fit_transform(X.astype(np.float32))
    assert_array_equal(rbm.h_samples_, chains)
    assert_allclose(single, double, rtol=1e-5)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        assert_allclose(getattr(rbm, name), reference[name], atol=1e-5)


def test_the_score_is_no_lower_than_that_of_scikit_learn():
    # What test_fit asserts of scikit-learn's random stream: a score that rounds to −21.
    X, params = theirs.Xdigits, {"n_components": 64, "n_iter": 7, "random_state": 9}
    scores = [
        Estimator(**params).fit(X).score_samples(X).mean()
        for Estimator in (BernoulliRBM, theirs.BernoulliRBM)
    ]
    assert scores[0] > scores[1]
    rbm = BernoulliRBM(64, batch_size=20, random_state=9)  # as test_partial_fit
    for _ in range(7):
        for rows in np.array_split(X, 90):
            rbm.partial_fit(rows)
    assert rbm.score_samples(X).mean() > scores[1]
