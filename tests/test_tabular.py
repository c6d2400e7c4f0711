"""Tables: categories and mixed columns in, the same out."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skebm import (
    DBM,
    BernoulliRBM,
    CategoricalRBM,
    Checkpoint,
    ConvRBM,
    RBMClassifier,
    TabularRBM,
    log_likelihood,
    log_partition,
)
from tests.test_callbacks import Stop


def weather(n=400, seed=0):
    """A table whose columns all depend on the season."""
    rng = np.random.default_rng(seed)
    summer = rng.uniform(size=n) < 0.5
    return pd.DataFrame(
        {
            "season": np.where(summer, "summer", "winter"),
            "degrees": np.where(summer, 22.0, 2.0) + 3 * rng.normal(size=n),
            "snow": ~summer & (rng.uniform(size=n) < 0.7),
            "clouds": pd.Categorical(
                np.where(rng.uniform(size=n) < np.where(summer, 0.3, 0.7), "many", "few"),
                categories=["few", "many", "all"],
                ordered=True,
            ),
            "visitors": np.where(summer, 900, 100) + rng.integers(0, 100, n),
            "humidity": rng.uniform(np.where(summer, 0.0, 0.5), np.where(summer, 0.6, 1.0)),
        }
    )


@pytest.fixture(scope="module")
def rbm():
    kinds = {"humidity": "continuous"}
    return TabularRBM(24, gradient="pt", kinds=kinds, random_state=0).fit(weather())


def test_kinds_are_inferred_and_can_be_set(rbm):
    table = weather()
    assert rbm.kinds_ == [
        "categorical",
        "gaussian",
        "bernoulli",
        "categorical",
        "gaussian",
        "continuous",
    ]
    other = TabularRBM(4, n_iter=1, kinds={"visitors": "categorical"})
    assert other.fit(table).kinds_[4:] == ["categorical", "gaussian"]
    for wrong in ({"rain": "gaussian"}, {"snow": "poisson"}, {"season": "gaussian"}):
        with pytest.raises(ValueError, match=repr(next(iter(wrong)))):
            TabularRBM(4, kinds=wrong).fit(table)
    with pytest.raises(ValueError, match=r"'degrees' has values outside of \[0, 1\]"):
        TabularRBM(4, kinds={"degrees": "continuous"}).fit(table)
    binned = TabularRBM(4, n_iter=1, numbers="binned", kinds={"degrees": "gaussian"}).fit(table)
    assert binned.kinds_[1::3] == ["gaussian", "binned"]


@pytest.mark.parametrize("method", ["sample", "gibbs", "impute", "inverse_transform"])
def test_rows_come_out_as_they_went_in(rbm, method):
    table = weather(50, seed=1)
    out = {
        "sample": lambda: rbm.sample(50, 20, random_state=0),
        "gibbs": lambda: rbm.gibbs(table, random_state=0),
        "impute": lambda: rbm.impute(table, random_state=0),
        "inverse_transform": lambda: rbm.inverse_transform(rbm.transform(table)),
    }[method]()
    pd.testing.assert_series_equal(out.dtypes, table.dtypes)
    assert set(out.season) <= {"summer", "winter"}
    assert out.humidity.between(0, 1).all()
    if method == "impute":
        pd.testing.assert_frame_equal(out, table.reset_index(drop=True))
    if method == "inverse_transform":
        assert (out.season == table.season).mean() > 0.9
        assert (out.snow == table.snow).mean() > 0.6
        assert np.corrcoef(out.degrees, table.degrees)[0, 1] > 0.9


def test_samples_have_the_dependencies_of_the_table(rbm):
    drawn, table = rbm.sample(1000, 200, random_state=0), weather()
    for frame in (drawn, table):
        summer = frame.season == "summer"
        assert 0.2 < summer.mean() < 0.8
        assert frame.degrees[summer].mean() > 17
        assert frame.degrees[~summer].mean() < 7
        assert not frame.snow[summer].mean() > 0.1
        assert 0.5 < frame.snow[~summer].mean() < 0.9
        assert frame.visitors[summer].mean() > 800
        assert frame.humidity[~summer].mean() > frame.humidity[summer].mean() + 0.2
    assert_allclose(drawn.degrees.std(), table.degrees.std(), rtol=0.15)
    by_season = drawn[drawn.season == "summer"].degrees.std()
    assert_allclose(by_season, 3, rtol=0.35)
    clamped = rbm.gibbs(table, 50, clamped=table.columns == "season", random_state=0)
    assert_array_equal(clamped.season, table.season)
    assert ((clamped.degrees > 12) == (table.season == "summer")).mean() > 0.9


def test_missing_entries_are_taken_everywhere():
    table, rng = weather(), np.random.default_rng(3)
    holes = table.astype({"snow": object, "visitors": float})
    for name in holes:
        holes.loc[rng.uniform(size=len(holes)) < 0.25, name] = None
    model = TabularRBM(24, random_state=0).fit(holes)
    filled = model.impute(holes, random_state=0)
    lost = holes.season.isna()
    assert lost.sum() > 50
    assert (filled.season[lost] == table.season[lost]).mean() > 0.8
    lost = holes.degrees.isna()
    error = np.square(filled.degrees - table.degrees)[lost].mean()
    assert error < 0.7 * table.degrees.var()
    assert_array_equal(filled.degrees[~lost], table.degrees[~lost])
    # What becomes of a row does not depend on the others.
    features = model.transform(holes)
    assert np.isfinite(features).all()
    assert_allclose(model.transform(holes[40:43]), features[40:43], rtol=1e-6)
    assert np.isfinite(model.score_samples(holes)).all()
    with pytest.raises(ValueError, match="Column 'degrees' has the value infinity"):
        model.transform(holes.assign(degrees=np.inf))
    with pytest.raises(ValueError, match="'snow' has no value"):
        TabularRBM(4).fit(holes.assign(snow=None))


def test_scores_are_densities_that_tell_likely_rows():
    table = weather(200, seed=5)
    # Small enough for an exact log Z; and both take the rows in the same order.
    settings = {"shuffle": False, "random_state": 0}
    rbm = TabularRBM(12, **settings).fit(weather())
    strange = table.assign(degrees=table.degrees.sample(frac=1, random_state=0).to_numpy())
    wrong = np.abs(strange.degrees - table.degrees) > 10
    gap = rbm.score_samples(table) - rbm.score_samples(strange)
    assert np.median(gap[wrong]) > 3
    # In other units of temperature the density changes by the ratio of the units.
    other = TabularRBM(12, **settings).fit(weather().assign(degrees=lambda t: t.degrees * 8))
    scaled = table.assign(degrees=table.degrees * 8)
    gaps = rbm.score_samples(table) - other.score_samples(scaled)
    assert_allclose(gaps, np.log(8), rtol=1e-6)


def test_a_pipeline_on_a_data_frame():
    table = weather()
    X, y = table.drop(columns="season"), table.season
    model = make_pipeline(TabularRBM(16, n_iter=30, random_state=0), LogisticRegression())
    grid = GridSearchCV(model, {"tabularrbm__n_components": [4, 16]}, cv=3).fit(X, y)
    assert grid.best_score_ > 0.95
    again = pickle.loads(pickle.dumps(grid))
    assert_array_equal(again.predict(X), grid.predict(X))


# Categories


def cards(n=300, seed=0):
    rng = np.random.default_rng(seed)
    suit = rng.choice(["clubs", "hearts", "spades"], size=n)
    return np.column_stack([suit, np.where(suit == "hearts", "red", "black")])


def test_categories_of_any_kind():
    X = cards()
    by_name = CategoricalRBM(8, n_iter=50, random_state=0).fit(X)
    codes = np.unique(X[:, 0], return_inverse=True)[1] * 10, (X[:, 1] == "red") * 1
    by_number = CategoricalRBM(8, n_iter=50, random_state=0).fit(np.column_stack(codes))
    assert_allclose(by_name.score(X), by_number.score(np.column_stack(codes)), atol=0.05)
    assert [list(c) for c in by_name.categories_] == [
        ["clubs", "hearts", "spades"],
        ["black", "red"],
    ]
    assert_array_equal(by_number.categories_[0], [0, 10, 20])
    drawn = by_name.sample(500, 100, random_state=0)
    assert ((drawn[:, 0] == "hearts") == (drawn[:, 1] == "red")).mean() > 0.95
    assert set(drawn[:, 0]) == {"clubs", "hearts", "spades"}
    assert_array_equal(by_name.inverse_transform(by_name.transform(X))[:, 1], X[:, 1])


def test_the_score_is_the_sum_of_the_log_conditionals():
    X = cards(60)
    rbm = CategoricalRBM(3, n_iter=20, random_state=0).fit(X)
    everything = np.array([[s, c] for s in rbm.categories_[0] for c in rbm.categories_[1]])
    log_p = dict(zip(map(tuple, everything), log_likelihood(rbm, everything)))
    assert_allclose(np.exp(list(log_p.values())).sum(), 1, rtol=1e-5)
    for row, score in zip(X[:10], rbm.score_samples(X[:10])):
        own = log_p[tuple(row)]
        suits = np.logaddexp.reduce([log_p[s, row[1]] for s in rbm.categories_[0]])
        colours = np.logaddexp.reduce([log_p[row[0], c] for c in rbm.categories_[1]])
        assert_allclose(score, 2 * own - suits - colours, rtol=1e-5)
    ais = log_partition(rbm, method="ais", random_state=0)
    assert abs(ais.value - log_partition(rbm).value) < 4 * ais.stderr + 1e-6


def test_unknown_categories_are_named_or_taken_for_missing():
    X = cards()
    rbm = CategoricalRBM(8, n_iter=50, random_state=0).fit(X)
    joker = np.array([["joker", "red"], ["hearts", "red"]])
    with pytest.raises(ValueError, match="unknown category 'zebra'"):
        rbm.transform(np.array([["zebra", "red"]]))
    with pytest.raises(ValueError, match="Column 0 has the unknown category 'joker'"):
        rbm.transform(joker)
    with pytest.raises(ValueError, match="Column 1 has missing values"):
        rbm.transform(np.array([["hearts", None]], dtype=object))
    rbm.set_params(handle_unknown="ignore")
    features = rbm.transform(joker)
    # A red card can only be of hearts.
    assert_allclose(features[0], features[1], atol=0.1)
    assert rbm.impute(np.array([[None, "red"]], dtype=object), random_state=0)[0, 0] == "hearts"


def test_columns_of_two_categories_are_those_of_a_bernoulli_rbm():
    """One-hot rows of a BernoulliRBM have the features of the categories."""
    rng = np.random.default_rng(0)
    X = rng.integers(2, size=(100, 3))
    rbm = CategoricalRBM(4, n_iter=10, random_state=0).fit(X)
    plain = BernoulliRBM(4).fit(OneHotEncoder().fit_transform(X))
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(plain, name, getattr(rbm, name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_hot = OneHotEncoder().fit_transform(X)
    assert_allclose(plain.transform(one_hot), rbm.transform(X))
    assert_allclose(plain.free_energy(one_hot), rbm.free_energy(X))


@pytest.mark.parametrize("as_dict", [False, True])
def test_given_categories_that_no_row_has_are_improbable(as_dict):
    rng = np.random.default_rng(0)
    X = rng.choice(["a", "b"], p=[0.7, 0.3], size=(500, 2))
    letters = ["c", "a", "b"]
    categories = {0: letters, 1: letters} if as_dict else [letters] * 2
    rbm = CategoricalRBM(4, n_iter=20, categories=categories, random_state=0).fit(X)
    assert [list(known) for known in rbm.categories_] == [["a", "b", "c"]] * 2
    every = np.array([[i, j] for i in "abc" for j in "abc"])
    p = np.exp(log_likelihood(rbm, every)).reshape(3, 3)
    assert_allclose(p.sum(), 1, rtol=1e-5)
    assert p[2].sum() < 0.01
    assert p[:, 2].sum() < 0.01
    assert_allclose(p[0].sum(), 0.7, atol=0.1)
    # the same with chunks, from the first one on
    chunks = CategoricalRBM(4, categories=categories, random_state=0).partial_fit(X[:10])
    assert chunks.partial_fit(X[10:]).transform(every).shape == (9, 4)


def test_given_categories_are_checked_and_keep_types():
    X = pd.DataFrame({"n": [3, 1, 3, 1], "s": pd.Categorical(["x", "y", "x", "y"])})
    rbm = TabularRBM(2, n_iter=1, categories={"n": [1, 2, 3], "s": ["x", "y", "z"]}).fit(X)
    assert rbm.kinds_ == ["categorical"] * 2
    drawn = rbm.sample(50, 5, random_state=0)
    assert drawn.n.dtype == X.n.dtype
    assert list(drawn.s.cat.categories) == ["x", "y", "z"]
    for wrong, message in [
        ({"m": [1]}, "has the column 'm'"),
        ([[1, 3]], "1 entries for 2 columns"),
        ({"n": [1, 1, 3]}, "'n' must be different values"),
        ({"n": [[1], [3]]}, "'n' must be a list"),
        ({"n": [1, 3, None]}, "'n' have a missing value"),
        ({"n": ["1", "3"]}, "'n' must have the type of its values"),
        ({"s": ["x", "y", 1]}, "'s' must have the type of its values"),
        ({"n": [1, 2]}, "unknown category 3;"),
    ]:
        with pytest.raises(ValueError, match=message):
            TabularRBM(2, n_iter=1, categories=wrong).fit(X)
    with pytest.raises(ValueError, match="remove it from one of the two"):
        TabularRBM(2, kinds={"n": "gaussian"}, categories={"n": [1, 3]}).fit(X)


def test_rows_can_hold_all_of_the_given_categories():
    strings = np.array([["a", "x"], ["b", "y"]] * 50)
    names = ["a", "b", "longer"]
    rbm = CategoricalRBM(4, n_iter=2, categories={0: names}, random_state=0).fit(strings)
    longer = np.array([["longer", "x"]])
    assert rbm.categories_[0].tolist() == names
    rbm.components_ = np.zeros_like(rbm.components_)
    rbm.intercept_visible_[2] = 50.0
    assert rbm.sample(1, 5, random_state=0)[0, 0] == "longer"
    assert np.isfinite(rbm.transform(longer)).all()
    small = pd.DataFrame({"c": pd.Series([0, 1] * 50, dtype="int8")})
    rbm = TabularRBM(4, n_iter=2, categories={"c": [0, 1, 300]}, random_state=0).fit(small)
    rbm.intercept_visible_[2] = 50.0
    assert rbm.sample(1, 5, random_state=0).c[0] == 300
    with pytest.raises(ValueError, match="type Int8, which cannot hold"):
        TabularRBM(4, categories={"c": [0, 1, 300]}).fit(small.astype("Int8"))


def test_all_training_rows_must_have_given_categories():
    X = np.array([["a"], ["c"], ["b"]] * 10)
    rbm = CategoricalRBM(4, n_iter=1, categories=[["a", "b"]], handle_unknown="ignore")
    with pytest.raises(ValueError, match="unknown category 'c'; in `fit`, categories must have"):
        rbm.fit(X)
    rbm.set_params(categories=[np.array(["a", "b", "c"])], warm_start=True).fit(X).fit(X)
    with pytest.raises(ValueError, match=r"categories=.* differs from"):
        rbm.set_params(categories=[np.array(["a", "b", "c", "d"])]).fit(X)


def test_an_unknown_category_may_come_last():
    rbm = CategoricalRBM(2, n_iter=1, handle_unknown="ignore", random_state=0)
    rbm.fit(np.array([["a"], ["b"]] * 10))
    assert np.isfinite(rbm.transform(np.array([["zebra"], ["0"], ["b"]]))).all()


@pytest.mark.parametrize(("bias", "expected"), [(-1.0, False), (1.0, True)])
def test_booleans_are_the_likelier_value(bias, expected):
    rbm = TabularRBM(1, n_iter=1, random_state=0).fit(pd.DataFrame({"b": [True, False] * 10}))
    rbm.components_, rbm.intercept_visible_ = np.zeros((1, 1)), np.array([bias])
    assert rbm.inverse_transform(np.ones((1, 1))).b.tolist() == [expected]


def test_whole_numbers_stay_within_their_type():
    n = pd.DataFrame({"n": np.array([0, 255] * 40, np.uint8)})
    rbm = TabularRBM(2, kinds={"n": "gaussian"}, n_iter=5, random_state=0).fit(n)
    drawn = rbm.sample(200, 20, random_state=0)
    assert drawn.n.dtype == np.uint8
    raw = rbm.sample_chains(1, 1, random_state=0)  # noqa
    rbm.location_ = np.array([400.0])
    assert (rbm.sample(200, 20, random_state=0).n == 255).mean() > 0.3
    rbm.location_, rbm.scale_ = np.array([7.6]), np.array([1e-6])
    assert (rbm.sample(20, 5, random_state=0).n == 8).all()


def test_kinds_do_not_depend_on_the_range_of_the_training_rows():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(0, 1, 50), rng.integers(2, size=50)])
    rbm = TabularRBM(2, n_iter=1, random_state=0).fit(X)
    assert rbm.kinds_ == ["gaussian", "gaussian"]
    assert np.isfinite(rbm.score_samples(2 * X)).all()
    declared = TabularRBM(2, kinds={0: "continuous", 1: "bernoulli"}, n_iter=1).fit(X)
    with pytest.raises(
        ValueError, match=r"Column 1 has values outside .* kinds=\{1: \"gaussian\"\}"
    ):
        declared.transform(X * [1, 2])


DAYS = pd.to_datetime(["2020-03-01", "2020-03-05", "2020-02-01"] * 2)
COLUMNS = {
    "int64": [3, 5, 4, 3, 5, 4],
    "uint8": [3, 5, 4, 3, 5, 4],
    "float32": [0.5, 1.5, -2.5, 0.5, 1.5, 0.25],
    "bool": [True, False, True, True, False, False],
    "Int64": [3, None, 4, 3, 5, 4],
    "UInt16": [3, 5, 4, 3, 5, 4],
    "Float32": [0.5, None, -2.5, 0.5, 1.5, 0.25],
    "boolean": [True, None, True, True, False, False],
    "string": ["a", None, "b", "a", "a", "b"],
    "str": ["a", "c", "b", "a", "a", "b"],
    "int64[pyarrow]": [3, 5, 4, 3, 5, 4],
    "int32[pyarrow]": [3, None, 4, 3, 5, 4],
    "double[pyarrow]": [0.5, None, -2.5, 0.5, 1.5, 0.25],
    "bool[pyarrow]": [True, None, True, True, False, False],
    "string[pyarrow]": ["a", None, "b", "a", "a", "b"],
    "category of str": pd.Categorical(["a", None, "b", "a", "a", "b"], categories=list("cba")),
    "category of int": pd.Categorical([10, 30, 20, 10, 10, 30], ordered=True),
    "object of bool": np.array([True, None, True, True, False, False], dtype=object),
    "object of int": np.array([3, None, 4, 3, 5, 4], dtype=object),
    "object of str": np.array(["a", None, "b", "a", "a", "b"], dtype=object),
    "constant": [7, 7, 7, 7, 7, 7],
    "datetime64[s]": DAYS,
    "datetime64[ns]": [*DAYS[:5], None],
    "datetime64[us, Europe/Paris]": DAYS.tz_localize("Europe/Paris"),
    "timedelta64[us]": DAYS - DAYS[0],
    "timestamp[ns][pyarrow]": [*DAYS[:5], None],
}


@pytest.mark.parametrize("numbers", ["gaussian", "binned"])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_of_column_comes_back_as_it_was(name, numbers):
    values = COLUMNS[name]
    plain = " " in name or name == "constant"
    column = pd.Series(values) if plain else pd.Series(values, dtype=name)
    table = pd.DataFrame({"column": column, "other": np.arange(6) * 1.0})
    rbm = TabularRBM(2, n_iter=1, numbers=numbers, random_state=0).fit(table)
    is_category = "str" in name or "category" in name
    is_bool, is_time = "bool" in name, "time" in name
    assert rbm.kinds_[0] == ("categorical" if is_category else "bernoulli" if is_bool else numbers)
    filled = rbm.impute(table, n_steps=4, random_state=0)
    drawn = rbm.sample(50, 5, random_state=0)
    known = column.notna()
    assert filled.column[known].tolist() == column[known].tolist()
    assert filled.notna().all(axis=None)
    for result in (filled, drawn):
        assert result.column.dtype == column.dtype
        seen = set(column[known])
        if is_time:
            assert result.column.between(column.min(), column.max()).all()
        elif is_category or is_bool or name == "constant":
            assert set(result.column) <= seen
        elif "float" not in name.lower() and "double" not in name:
            assert all(value in range(3, 6) for value in result.column)
        if name.startswith("object"):
            assert {type(v) for v in result.column} == {type(v) for v in column[known]}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            ["a", 7, "b"],
            r"'c' has values of several types, \['int', 'str'\]; convert it to strings",
        ),
        ([None, None, None], "'c' has no value at all; remove it"),
        ([1j, 2j, 3j], "'c' is of type complex128; convert it to numbers"),
        ([1.0, np.inf, 3.0], "'c' has the value infinity"),
    ],
    ids=str,
)
def test_columns_that_cannot_be_used_are_named(column, message):
    with pytest.raises(ValueError, match=message):
        TabularRBM(2).fit(pd.DataFrame({"x": [0.0, 1.0, 2.0], "c": column}))


def test_times_are_not_numbers_or_categories():
    table = pd.DataFrame({"day": DAYS, "n": np.arange(6.0)})
    rbm = TabularRBM(2, n_iter=1).fit(table)
    with pytest.raises(ValueError, match="Column 'day' has numbers, where times were in `fit`"):
        rbm.transform(table.assign(day=1.0))
    with pytest.raises(ValueError, match="Column 'n' has times, where numbers were in `fit`"):
        rbm.transform(table.assign(n=DAYS))
    for model in (CategoricalRBM(2), TabularRBM(2, kinds={"day": "categorical"})):
        with pytest.raises(ValueError, match="Column 'day' has times, which cannot be 'categoric"):
            model.fit(table)
    frame = pd.DataFrame({"day": [DAYS[0]] * 20})
    for conditions in ({"day": pd.Timestamp("2020-03-01")}, frame):
        drawn = rbm.sample(20, 5, conditions=conditions, random_state=0)
        assert (drawn.day == DAYS[0]).all()


def test_an_unknown_category_that_is_a_number_is_filled_in():
    X = np.random.default_rng(0).integers(3, size=(60, 2))
    rbm = CategoricalRBM(2, n_iter=2, handle_unknown="ignore", random_state=0).fit(X)
    assert rbm.impute([[7, 1]], random_state=0)[0, 0] in (0, 1, 2)
    whole = TabularRBM(2, n_iter=2, random_state=0).fit(X)
    assert_array_equal(whole.impute([[7.6, np.nan]], random_state=0)[0, 0], 8)


def test_names_of_columns_are_distinct():
    with pytest.raises(ValueError, match="several columns of the name 'a'; rename them"):
        TabularRBM(2).fit(pd.DataFrame(np.eye(3), columns=["a", "b", "a"]))


def test_text_where_numbers_were_is_named():
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0], "n": [1, 2, 3]})
    rbm = TabularRBM(2, n_iter=1).fit(table)
    with pytest.raises(ValueError, match="Column 'n' has the value 'many', where numbers were"):
        rbm.transform(table.assign(n=["many", "few", "few"]))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float32, object])
def test_arrays_come_back_as_they_were(dtype):
    X = np.random.default_rng(0).integers(2, size=(30, 3)).astype(dtype)
    drawn = TabularRBM(2, n_iter=2, random_state=0).fit(X).sample(10, 5, random_state=0)
    assert drawn.dtype == X.dtype
    if dtype != np.float32:
        assert set(drawn.ravel().tolist()) <= {0, 1}


def test_a_polars_frame_comes_back_as_one():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame(
        {
            "n": [3, None, 4, 5],
            "x": [0.5, 1.5, None, 2.5],
            "b": [True, None, False, True],
            "s": ["a", "b", None, "a"],
        },
        schema={"n": polars.Int16, "x": polars.Float32, "b": polars.Boolean, "s": polars.String},
    )
    table = table.with_columns(day=DAYS[:4].to_numpy().astype("M8[D]"))
    table = table.with_columns(
        time=polars.col("day").cast(polars.Datetime("ms", "Europe/Paris")),
        gap=polars.col("day") - polars.col("day").min(),
    )
    rbm = TabularRBM(2, n_iter=1, random_state=0).fit(table)
    assert rbm.kinds_[:4] == ["gaussian", "gaussian", "bernoulli", "categorical"]
    assert_array_equal(rbm.feature_names_in_, table.columns)
    filled = rbm.impute(table, n_steps=4)
    for result in (rbm.sample(5, 5), filled):
        assert result.schema == table.schema
        assert sum(result.null_count().row(0)) == 0
    assert filled.select("day", "time", "gap").equals(table.select("day", "time", "gap"))


@pytest.mark.parametrize("Estimator", [CategoricalRBM, TabularRBM])
def test_an_unknown_category_lowers_the_likelihood(Estimator):
    X = np.random.default_rng(0).choice(list("aab"), size=(80, 3)).astype(object)
    rbm = Estimator(2, n_iter=3, handle_unknown="ignore", random_state=0).fit(X)
    known, unknown = X[:1].repeat(2, axis=0), X[:1].repeat(2, axis=0)
    unknown[1, 1] = "z"
    unknown[1, 2] = 7
    filled = known.copy()
    filled[1, 1:] = None
    for score in (rbm.score_samples, lambda X: log_likelihood(rbm, X)):
        known_score, of_unknown = score(unknown)
        assert of_unknown < known_score - np.log(80)
        if Estimator is TabularRBM:
            assert_allclose(of_unknown, score(filled)[1] - 2 * np.log(81), rtol=1e-5)


def test_weights_of_rows_of_a_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=60), "c": rng.choice(["a", "b"], 60)})
    table.loc[59, "c"] = "only here"
    weight = np.repeat([0, 1, 3, 0], [10, 20, 29, 1])
    settings = {"n_iter": 5, "random_state": 0}
    weighted = TabularRBM(3, **settings).fit(table, sample_weight=weight)
    repeated = TabularRBM(3, **settings).fit(table.loc[table.index.repeat(weight)])
    assert list(weighted.categories_[1]) == ["a", "b"]
    assert_array_equal(weighted.location_, repeated.location_)
    assert_array_equal(weighted.scale_, repeated.scale_)
    assert_array_equal(weighted.components_, repeated.components_)


def test_the_missing_values_of_pandas():
    table = pd.DataFrame(
        {
            "c": pd.array(["a", "b", None] * 10, dtype="string"),
            "n": pd.array([1, 5, None] * 10, dtype="Int64"),
        }
    )
    rbm = TabularRBM(3, n_iter=2, random_state=0).fit(table)
    assert rbm.kinds_ == ["categorical", "gaussian"]
    filled = rbm.impute(table, random_state=0)
    assert filled.notna().all().all()
    pd.testing.assert_series_equal(filled.dtypes, table.dtypes)
    assert list(filled.c[:2]) == ["a", "b"]


def test_numbers_of_a_table_have_the_variance_of_their_temperature():
    X = np.random.default_rng(0).normal(5, [1, 10], size=(200, 2))
    rbm = TabularRBM(1, temperature=2.0, n_iter=3, random_state=0).fit(X)
    rbm.components_ = np.zeros((1, 2))
    drawn = rbm.sample(20_000, 1, random_state=0)
    assert np.allclose(drawn.var(0), 2 * (rbm.scale_ * np.exp(rbm.log_scales_)) ** 2, rtol=0.05)


def holes(n=300, seed=0):
    """Two columns of correlation −.94; most rows lack an entry of one of them."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 1.0], size=n)
    X = np.column_stack([x, -x]) + 0.25 * rng.normal(size=(n, 2))
    missing = rng.integers(3, size=n)
    X[missing == 0, 0] = X[missing == 1, 1] = np.nan
    return 10 * X + 50


@pytest.mark.parametrize("early_stopping", [False, True])
def test_going_on_with_missing_entries_is_one_fit(early_stopping, tmp_path):
    X, names = holes(60), ("components_", "intercept_visible_", "intercept_hidden_", "log_scales_")
    settings = {"batch_size": 10, "random_state": 0, "learning_rate_schedule": "constant"}
    settings |= {"early_stopping": early_stopping, "n_iter_no_change": 99, "tol": 0.0}
    whole = TabularRBM(4, n_iter=4, **settings).fit(X)
    checkpoint = Checkpoint(tmp_path / "rbm")
    with pytest.raises(KeyboardInterrupt):
        TabularRBM(4, n_iter=4, **settings).set_callbacks(checkpoint, Stop(2)).fit(X)
    others = {"resumed": checkpoint.resume(X)}
    if not early_stopping:
        others["half"] = TabularRBM(4, n_iter=2, warm_start=True, **settings).fit(X)
        others["half"] = pickle.loads(pickle.dumps(others["half"])).fit(X)
        others["parts"] = TabularRBM(4, **settings)
        for _ in range(4):
            others["parts"].partial_fit(X)
    for way, other in others.items():
        for name in names:
            assert_array_equal(getattr(other, name), getattr(whole, name), err_msg=f"{way} {name}")


def test_rows_with_missing_entries_may_come_in_parts():
    rbm = TabularRBM(8, learning_rate=0.02, random_state=0)
    for seed in range(40):  # rows are seen once
        rbm.partial_fit(holes(500, seed))
    drawn = rbm.sample(2000, n_steps=300, random_state=0)
    assert np.corrcoef(drawn.T)[0, 1] < -0.8


def test_early_stopping_scores_the_entries_as_they_were_last_drawn(monkeypatch):
    seen = []
    scores = TabularRBM._held_out_scores
    monkeypatch.setattr(
        TabularRBM,
        "_held_out_scores",
        lambda self, m: lambda rows, y: seen.append(rows.clone()) or scores(self, m)(rows, y),
    )
    TabularRBM(4, n_iter=2, early_stopping=True, random_state=0).fit(holes(100))
    first, second = (rows.numpy() for rows in seen)
    assert ((abs(first) < 1e-5) == (first != second)).all()  # only the first has means, near 0


def test_early_stopping_draws_entries_that_training_leaves_out(monkeypatch):
    seen = []
    scores = TabularRBM._held_out_scores
    monkeypatch.setattr(
        TabularRBM,
        "_held_out_scores",
        lambda self, m: lambda rows, y: seen.append(rows.clone()) or scores(self, m)(rows, y),
    )
    rbm = TabularRBM(4, n_iter=60, gradient="cd", learning_rate=0.05, random_state=0)
    rbm.set_params(early_stopping=True, n_iter_no_change=60).fit(holes(600))
    drawn = (seen[-1] != seen[-2]).any(1).numpy()  # rows that lack an entry
    assert 0.5 < drawn.mean() < 0.85
    assert np.corrcoef(seen[-1].numpy()[drawn].T)[0, 1] < -0.8


@pytest.mark.parametrize("columns", [["season"], ["season", "snow"], ["season", "degrees"]])
def test_the_score_of_a_table_is_its_log_likelihood_whatever_the_columns(columns):
    table = weather(60)[columns]
    rbm = TabularRBM(3, n_iter=2, random_state=0).fit(table)
    assert_allclose(rbm.score_samples(table), log_likelihood(rbm, table), rtol=1e-6)


def deck(n=300):
    """Two columns of categories, the second a number, and a boolean; all depend on each other."""
    rng = np.random.default_rng(0)
    red = rng.uniform(size=n) < 0.5
    suits = np.where(red, rng.choice(["hearts", "diamonds"], n), rng.choice(["clubs", "spades"], n))
    rank = np.where(suits == "clubs", 1, np.where(red, rng.choice([1, 2, 3], n), 3))
    return pd.DataFrame({"suit": suits, "rank": rank, "red": red})


@pytest.fixture(scope="module")
def card_rbm():
    return TabularRBM(4, kinds={"rank": "categorical"}, n_iter=60, random_state=0).fit(deck())


def every_card(rbm):
    """All rows, and their probabilities."""
    suits, ranks = rbm.categories_[:2]
    rows = pd.DataFrame(
        [(s, r, red) for s in suits for r in ranks for red in (False, True)],
        columns=["suit", "rank", "red"],
    )
    F = rbm.free_energy(rows).astype(float)
    return rows, np.exp(-F) / np.exp(-F).sum()


@pytest.mark.parametrize("known", [["rank", "red"], ["red"], ["rank"], []])
def test_probabilities_and_means_given_the_other_entries_are_those_of_the_model(card_rbm, known):
    rows, p = every_card(card_rbm)
    asked = pd.DataFrame({"suit": ["clubs"] * 6, "rank": [1, 2, 3] * 2, "red": [False, True] * 3})
    holes = asked.astype({"rank": object, "red": object})
    holes.loc[:, [name for name in ("rank", "red") if name not in known]] = None
    proba = card_rbm.conditional_proba(holes, "suit", n_steps=4000)
    for i in range(6):
        fits = np.all([rows[name] == asked[name][i] for name in known], axis=0) * p
        expected = [fits[rows.suit == suit].sum() / fits.sum() for suit in card_rbm.categories_[0]]
        assert_allclose(proba[i], expected, atol=0.05)
    assert_allclose(proba.sum(1), 1, rtol=1e-5)


def test_a_mean_is_that_of_categories_that_are_numbers_and_of_booleans(card_rbm):
    asked = deck(5)
    proba = card_rbm.conditional_proba(asked, "rank")
    assert_allclose(card_rbm.conditional_mean(asked, "rank"), proba @ [1, 2, 3], rtol=1e-6)
    assert_allclose(
        card_rbm.conditional_mean(asked, "red"), card_rbm.conditional_proba(asked, "red")[:, 1]
    )
    other = asked.assign(rank=[3, 1, 2, 1, 1])
    assert_array_equal(card_rbm.conditional_proba(other, "rank"), proba)  # it is not used itself
    for call, match in (
        (lambda: card_rbm.conditional_mean(asked, "suit"), "not numbers; use conditional_proba"),
        (lambda: card_rbm.conditional_proba(asked, "colour"), "column='colour'; the columns are"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_numbers_have_the_mean_of_their_units(rbm):
    table = weather(6)
    mean = rbm.conditional_mean(table, "visitors", n_steps=200)
    filled = rbm.impute(table.astype(object).assign(visitors=None), 200, random_state=0)
    assert_allclose(np.rint(mean), filled.visitors, atol=1)
    with pytest.raises(ValueError, match="has numbers; use conditional_mean"):
        rbm.conditional_proba(table, "visitors")


def test_samples_with_conditions_are_those_of_the_conditional_distribution(card_rbm):
    rows, p = every_card(card_rbm)
    given = {"rank": 3, "red": False}
    drawn = card_rbm.sample(4000, 50, conditions=given, random_state=0)
    assert drawn.dtypes.equals(deck().dtypes)
    assert (drawn["rank"] == 3).all()
    assert not drawn.red.any()
    fits = ((rows["rank"] == 3) & ~rows.red) * p
    for suit in card_rbm.categories_[0]:
        expected = fits[rows.suit == suit].sum() / fits.sum()
        assert_allclose((drawn.suit == suit).mean(), expected, atol=0.04)


def test_conditions_are_a_dict_a_frame_or_rows(card_rbm):
    frame = pd.DataFrame({"suit": ["clubs", None, "hearts"]})
    drawn = card_rbm.sample(3, 20, conditions=frame, random_state=0)
    assert drawn.suit[0] == "clubs"
    assert drawn.suit[2] == "hearts"
    again = card_rbm.sample(3, 20, conditions={"suit": ["clubs", None, "hearts"]}, random_state=0)
    pd.testing.assert_frame_equal(drawn, again)
    array = CategoricalRBM(4, n_iter=5, random_state=0).fit(deck()[["suit", "rank"]].to_numpy())
    for conditions in ({0: "clubs"}, ["clubs", None], [["clubs", None]] * 3):
        assert (array.sample(3, 5, conditions=conditions, random_state=0)[:, 0] == "clubs").all()
    bits = BernoulliRBM(4, n_iter=2, random_state=0).fit(np.eye(4))
    drawn = bits.sample(5, 5, conditions=[1, np.nan, np.nan, 0], random_state=0)
    assert_array_equal(drawn[:, [0, 3]], np.tile([1.0, 0.0], (5, 1)))
    assert len(np.unique(drawn, axis=0)) > 1
    for model, conditions, match in (
        (card_rbm, {"colour": "red"}, "has the column 'colour'; the columns are"),
        (card_rbm, frame[:2], "2 values of column 'suit' for n_samples=3"),
        (card_rbm, {"suit": "stars"}, "unknown category 'stars'"),
        (bits, [1, 0], r"shape \(2,\); it must be that of a row, \(4,\)"),
    ):
        with pytest.raises(ValueError, match=match):
            model.sample(3, 5, conditions=conditions)
    with pytest.raises(ValueError, match="conditions is for Gibbs sampling"):
        card_rbm.sample(3, 5, conditions=frame, method="pt")


def test_images_deep_and_labelled_models_take_conditions():
    X = (np.random.default_rng(0).uniform(size=(40, 4, 4)) < 0.3).astype(float)
    given = np.full((4, 4), np.nan)
    given[:2] = 1
    flat, y = X.reshape(40, 16), np.arange(40) % 2
    settings = {"n_iter": 1, "random_state": 0}
    images = ConvRBM(2, kernel_size=2, **settings).fit(X)
    deep = DBM((4, 3), **settings).fit(flat)
    labelled = RBMClassifier(4, **settings).fit(flat, y)
    for model, conditions in ((images, given), (deep, given.ravel()), (labelled, given.ravel())):
        drawn = model.sample(50, 3, conditions=conditions, random_state=0).reshape(50, 16)
        assert (drawn[:, :8] == 1).all()
        assert 0 < drawn[:, 8:].mean() < 1
    with pytest.raises(ValueError, match="conditions and y cannot be combined"):
        labelled.sample(2, 3, y=1, conditions=given.ravel())


def test_missing_entries_follow_the_known_ones_at_once():
    # Two modes, which a chain does not leave: all features are on, or all are off.
    rbm = BernoulliRBM(1, n_iter=1, random_state=0).fit(np.eye(10))
    rbm.components_, rbm.intercept_hidden_ = np.full((1, 10), 12.0), np.array([-60.0])
    rbm.intercept_visible_ = np.full(10, -6.0)
    rbm.feature_means_ = np.full(10, 0.5)
    X = np.full((200, 10), np.nan)
    X[:100, :3], X[100:, :3] = 1, 0
    for method in ("mean", "sample"):
        filled = rbm.impute(X, 4, method=method, random_state=0)
        assert_allclose(filled[:100].mean(), 1, atol=0.02)
        assert_allclose(filled[100:].mean(), 0, atol=0.02)


def test_missing_entries_that_run_away_are_said():
    rng = np.random.default_rng(0)
    X = 10 * rng.normal(size=(100, 12))
    X[rng.uniform(size=X.shape) < 0.8] = np.nan
    rbm = TabularRBM(100, n_iter=200, learning_rate=0.2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="draws for missing entries vary .* times as much"):
        rbm.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rbm.set_params(n_components=4, n_iter=5, learning_rate=0.02).fit(X)


def test_memory_is_a_small_multiple_of_the_table():
    X = np.random.default_rng(0).integers(2, size=(20_000, 100)).astype(np.uint8)
    rbm = TabularRBM(2, n_iter=0, kinds=dict.fromkeys(range(100), "bernoulli")).fit(X)
    tracemalloc.start()
    rbm.transform(X)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * X.nbytes
