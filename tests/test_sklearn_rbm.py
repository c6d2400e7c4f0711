"""scikit-learn's own tests of BernoulliRBM, run on ours.

The module `sklearn.neural_network.tests.test_rbm` is loaded with `BernoulliRBM` replaced, and
every test in it that is not listed below has to pass.
"""

import inspect

import pytest
import sklearn.neural_network.tests.test_rbm as theirs

from skebm import BernoulliRBM

NOT_OURS = {
    "test_transform": "calls the private method _mean_hiddens",
    "test_sample_hiddens": "calls the private methods _mean_hiddens and _sample_hiddens",
    "test_fit_gibbs": "asserts the weights that one particular random stream leads to",
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
