"""Missing values, filled in by a machine that is trained without them."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.callback.tests._utils import RecordingCallback
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from skebm import (
    BernoulliRBM,
    CategoricalRBM,
    GaussianRBM,
    RBMClassifier,
    RBMImputer,
    TabularRBM,
)
from skebm.engine.noise import Noise
from skebm.fitted import FittedModel
from skebm.missing import MissingEntries


def with_holes(X, share=0.3, seed=0):
    missing = np.random.default_rng(seed).uniform(size=X.shape) < share
    return np.where(missing, np.nan, X), missing


def pairs(n=400):
    """Rows of two pairs of features, equal in each pair."""
    bits = np.random.default_rng(1).integers(2, size=(n, 2)).astype(float)
    return np.repeat(bits, 2, axis=1)


def test_scikit_learn_has_no_objections():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(RBMImputer(BernoulliRBM(4, n_iter=3), n_steps=10), on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {
        "check_array_api_input"
    }


def test_training_uses_the_rows_with_holes():
    X, missing = with_holes(pairs(), 0.4)
    assert not (~np.isnan(X)).all(axis=1).sum() > 80  # hardly a row is complete
    rbm = BernoulliRBM(6, n_iter=150, learning_rate=0.1)
    filled = RBMImputer(rbm, random_state=0).fit_transform(X)
    assert_array_equal(filled[~missing], X[~missing])
    partner = X[:, [1, 0, 3, 2]]
    known = missing & ~np.isnan(partner)
    assert np.abs(filled - partner)[known].mean() < 0.15


def test_where_nothing_is_missing_the_machine_is_the_plain_one():
    X = pairs(50)
    imputer = RBMImputer(BernoulliRBM(3, n_iter=4), random_state=0).fit(X)
    plain = BernoulliRBM(3, n_iter=4, random_state=imputer.estimator_.random_state).fit(X)
    assert_array_equal(imputer.estimator_.components_, plain.components_)
    assert_array_equal(imputer.transform(X), X)


@pytest.mark.parametrize("method", ["mean", "mean_field"])
def test_a_row_is_filled_in_alike_whatever_others_there_are(method):
    X, _ = with_holes(pairs(60))
    for rbm in (BernoulliRBM(5, n_iter=5), GaussianRBM(5, n_iter=5)):
        imputer = RBMImputer(rbm, method=method, n_steps=20, random_state=0).fit(X)
        whole = imputer.transform(X)
        assert_allclose(imputer.transform(X[30:33]), whole[30:33])
        assert_allclose(imputer.transform(X[::-1]), whole[::-1])


def test_values_are_filled_in_on_the_scale_of_the_data():
    # Two columns that tell each other, of very different scales and spreads given the other.
    rng = np.random.default_rng(0)
    side = rng.integers(2, size=(500, 1))
    X = side * [400.0, 0.04] + rng.normal(size=(500, 2)) * [20.0, 0.002] + [1000.0, 0.0]
    holes = X.copy()
    holes[:150, 0] = np.nan
    holes[150:300, 1] = np.nan
    rbm = GaussianRBM(8, n_iter=100, learning_rate=0.01)
    filled = RBMImputer(rbm, random_state=0).fit(holes).transform(holes)
    for column, rows in ((0, slice(0, 150)), (1, slice(150, 300))):
        error = np.square(filled - X)[rows, column].mean()
        assert error < 0.1 * X[:, column].var()


def test_the_first_step_of_a_pipeline():
    X, missing = with_holes(pairs())
    y = pairs()[:, 0]
    rbm = BernoulliRBM(6, n_iter=100)
    model = make_pipeline(RBMImputer(rbm, n_steps=50, random_state=0), LogisticRegression())
    model.fit(X, y)
    decided = ~missing[:, :2].all(axis=1)
    assert model.score(X[decided], y[decided]) > 0.95
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert clone(model).get_params()["rbmimputer__estimator__n_components"] == 6


def test_the_same_seed_fills_in_the_same():
    X, _ = with_holes(pairs(60))
    rbm = BernoulliRBM(4, n_iter=5)
    first, again, other = (RBMImputer(rbm, random_state=s).fit_transform(X) for s in (0, 0, 1))
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not hasattr(rbm, "components_")


def test_features_without_a_value_are_named():
    X, _ = with_holes(pairs(60))
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"no value at all in the features \[2\]"):
        RBMImputer(BernoulliRBM(2)).fit(X)


def test_a_failed_fit_leaves_nothing_behind():
    X, _ = with_holes(pairs(60))
    X[:, 2] = np.nan
    for imputer in (RBMImputer(BernoulliRBM(2)), RBMImputer(RBMClassifier(2))):
        with pytest.raises(ValueError):  # noqa: PT011
            imputer.fit(X)
        assert not [name for name in vars(imputer) if name.endswith("_") or "callback" in name]


def test_models_with_labels_do_not_impute():
    with pytest.raises(ValueError, match="needs an RBM without labels"):
        RBMImputer(RBMClassifier(2)).fit(with_holes(pairs(60))[0])


def fruit(n=400, seed=0):
    """A table whose columns all say whether the fruit is ripe, and the same with holes."""
    rng = np.random.default_rng(seed)
    ripe = rng.uniform(size=n) < 0.5
    table = pd.DataFrame(
        {
            "colour": np.where(ripe, "red", "green"),
            "sugar": np.where(ripe, 140, 60) + rng.integers(-9, 10, size=n),
            "soft": ripe,
        }
    )
    holes = table.astype({"sugar": "Int64", "soft": "boolean"}).mask(rng.uniform(size=(n, 3)) < 0.3)
    kept = holes.notna().any(axis=1)
    return table[kept], holes[kept]


def test_tables_are_filled_in_with_their_types():
    table, holes = fruit()
    rbm = TabularRBM(8, gradient="cd", n_iter=60)
    imputer = RBMImputer(rbm, n_steps=40, random_state=0).fit(holes)
    filled = imputer.transform(holes)
    assert filled.dtypes.equals(holes.dtypes)
    assert list(imputer.feature_names_in_) == list(table)
    missing = holes.isna()
    for name in ("colour", "soft"):
        assert (filled[name] == table[name])[missing[name]].mean() > 0.97
    assert (filled.sugar - table.sugar)[missing.sugar].abs().mean() < 12
    pd.testing.assert_frame_equal(imputer.transform(holes[30:40]), filled[30:40])
    categories = holes[["colour"]].assign(twin=table.colour).to_numpy(dtype=object)
    of_categories = RBMImputer(CategoricalRBM(4, n_iter=60, gradient="cd"), random_state=0)
    filled = of_categories.fit_transform(categories)
    assert (filled[:, 0] == filled[:, 1]).mean() > 0.97


def test_the_default_takes_numbers_on_any_scale_and_tables():
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], size=(300, 1))
    X = 50 * side * [1, -1, 1] + rng.normal(size=(300, 3)) + [257, 0, 1e5]
    holes, missing = with_holes(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = RBMImputer(random_state=0).fit_transform(holes)
    told = missing & ~missing.all(axis=1, keepdims=True)
    assert_array_equal(filled[~missing], X[~missing])
    assert np.abs(filled - X)[told].mean() < 3
    table, holes = fruit(100)
    filled = RBMImputer(random_state=0).fit_transform(holes)
    assert (filled.colour == table.colour).mean() > 0.95


def test_most_ratings_may_be_missing():
    # Users of two opposite tastes; 80 % of their ratings, from 1 to 5, are missing.
    rng = np.random.default_rng(0)
    likes = np.outer(rng.choice([-1, 1], 300), rng.choice([-1, 1], 30))
    ratings = np.clip(np.rint(3 + 1.6 * likes + rng.normal(0, 0.5, size=(300, 30))), 1, 5)
    holes, missing = with_holes(ratings, 0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = RBMImputer(random_state=0).fit_transform(holes)
    error = np.sqrt(np.square(filled - ratings)[missing].mean())
    assert error < 0.6
    assert ratings.std() > 1.5  # the error of means


@pytest.mark.parametrize("gradient", ["cd", "pcd"])
def test_entries_that_training_leaves_out_are_reconstructed(gradient):
    X = np.random.default_rng(0).normal(size=(60, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    holes, missing = with_holes(X, 0.3)
    rbm = GaussianRBM(4, variance="fixed", n_iter=5, gradient=gradient)
    imputer = RBMImputer(rbm, random_state=0).fit(holes)
    filled = imputer.transform(holes)
    rbm = imputer.estimator_
    by_hand = np.where(missing, np.nanmean(holes, axis=0), holes)
    for _ in range(2):
        by_hand = np.where(missing, rbm.inverse_transform(rbm.transform(by_hand)), holes)
    assert np.allclose(filled, by_hand, rtol=1e-5) == (gradient == "cd")
    assert_allclose(rbm.impute(holes, method="reconstruction"), by_hand, rtol=1e-5)
    imputer.set_params(method="mean")
    assert np.allclose(imputer.transform(holes), filled) == (gradient == "pcd")


def test_several_imputations_are_draws():
    # Half of the missing values are 1, whatever else is known.
    rng = np.random.default_rng(0)
    X = rng.integers(2, size=(400, 2)).astype(float)
    X[:200, 0] = np.nan
    imputer = RBMImputer(BernoulliRBM(2, n_iter=5), n_steps=20, random_state=0).fit(X)
    draws = np.array(imputer.sample_imputations(X, n_draws=200))
    assert draws.shape == (200, 400, 2)
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert_array_equal(draws[:, 200:], np.broadcast_to(X[200:], (200, 200, 2)))
    assert_allclose(draws[:, :200, 0].mean(), 0.5, atol=0.1)
    assert_allclose(draws[:, :200, 0].mean(0), imputer.transform(X)[:200, 0], atol=0.15)
    assert_array_equal(imputer.sample_imputations(X[5:8], n_draws=3), draws[:3, 5:8])


def test_weights_of_rows_are_those_of_repeated_rows():
    X, _ = with_holes(pairs(40))
    for rbm in (BernoulliRBM(3, n_iter=4, gradient="cd"), BernoulliRBM(3, n_iter=4)):
        weight = np.arange(len(X)) % 3
        weighted = RBMImputer(rbm, random_state=0).fit(X, sample_weight=weight)
        plain = RBMImputer(rbm, random_state=0).fit(X)
        assert abs(weighted.estimator_.components_ - plain.estimator_.components_).max() > 1e-3
    repeated = RBMImputer(BernoulliRBM(3, n_iter=4, gradient="cd"), random_state=0)
    weighted = RBMImputer(BernoulliRBM(3, n_iter=4, gradient="cd"), random_state=0)
    weighted.fit(X, sample_weight=weight)
    repeated.fit(np.repeat(X, weight, axis=0))
    assert_allclose(
        weighted.estimator_.components_, repeated.estimator_.components_, rtol=1e-4, atol=1e-6
    )


def test_values_that_the_machine_does_not_model_give_a_warning():
    X = 400 * with_holes(pairs(60))[0] + 23
    with pytest.warns(UserWarning, match="models values between 0 and 1, but X has values from 23"):
        RBMImputer(BernoulliRBM(2, n_iter=1)).fit(X)


def test_it_takes_callbacks_and_can_be_saved_by_skops():
    X, _ = with_holes(pairs(60))
    callback = RecordingCallback()
    imputer = RBMImputer(BernoulliRBM(2, n_iter=3), random_state=0).set_callbacks(callback).fit(X)
    assert callback.count_hooks("setup") == callback.count_hooks("teardown") == 1
    assert not [name for name in vars(imputer.estimator_) if "callback" in name]
    imputer.set_callbacks()
    data = skops.io.dumps(imputer)
    trusted = skops.io.get_untrusted_types(data=data)
    assert not [name for name in trusted if not name.startswith(("skebm.", "numpy."))]
    again = skops.io.loads(data, trusted=trusted)
    assert_array_equal(again.transform(X), imputer.transform(X))


def test_noise_that_is_alike_is_the_same_for_every_row():
    for draw in (Noise.uniform, Noise.normal):
        x = draw(Noise(0, shared=True), torch.empty(5, 1000))
        assert x.shape == (5, 1000)
        assert (x == x[0]).all()
        assert_allclose(x[0].mean(), draw(Noise(1), torch.empty(100_000)).mean(), atol=0.1)
    p = torch.linspace(0, 1, 5)[:, None].expand(5, 20_000)
    assert_allclose(Noise(0, shared=True).bernoulli(p).mean(1), p[:, 0], atol=0.02)


def test_redrawn_values_follow_the_observed_ones():
    rbm = BernoulliRBM(1, n_iter=1).fit(np.eye(2))
    rbm.components_, rbm.intercept_hidden_ = np.full((1, 2), 4.0), np.array([-4.0])
    rbm.intercept_visible_ = np.full(2, -2.0)
    X = np.repeat([[0.0, np.nan], [1.0, np.nan], [1.0, 0.0]], [5000, 5000, 1], axis=0)
    entries = MissingEntries(X, rbm.encoding_.scaling("cpu"), n_sweeps=50)
    entries.redraw(FittedModel(rbm).rbm(), Noise(0))
    assert_array_equal(entries.rows[-1], X[-1])
    X = entries.rows[:-1]
    for start in (0.0, 1.0):
        F = rbm.free_energy(np.array([[start, 0.0], [start, 1.0]]))
        expected = 1 / (1 + np.exp(F[1] - F[0]))
        assert abs(X[X[:, 0] == start, 1].mean() - expected) < 0.03


@pytest.mark.parametrize("Estimator", [GaussianRBM, TabularRBM])
def test_redrawn_rows_have_the_scale_of_the_data(Estimator):
    rbm = Estimator(1, n_iter=1, random_state=0).fit(np.random.default_rng(0).normal(size=(50, 2)))
    rbm.components_, rbm.intercept_visible_ = np.array([[0.0, 20.0]]), np.array([0.0, -10.0])
    rbm.intercept_hidden_ = np.array([-10.0])
    rbm.components_[0, 0] = 10.0
    rbm.log_scales_ = np.log([0.25, 0.5])
    encoding = rbm.encoding_
    encoding.location_, encoding.scale_ = np.array([7.0, 100.0]), np.array([3.0, 2.0])
    # σ is 0.75 and 1: v_0 = 2 switches h on, and with it v_1 = 10 ± 1; else it is −10 ± 1.
    X = np.vstack([np.tile([[8.5, np.nan], [7.0, np.nan]], (2000, 1)), [0.0, 100.0]])
    entries = MissingEntries(X, encoding.scaling("cpu"), n_sweeps=1)
    entries.redraw(FittedModel(rbm).rbm(), Noise(0))
    X = entries.rows[:-1]
    for start, expected in ((8.5, 110), (7.0, 90)):
        x = X[X[:, 0] == start, 1]
        assert_allclose(x.mean(), expected, atol=0.1)
        assert_allclose(x.std(), 1, rtol=0.06)


def test_figures_of_an_epoch_are_of_the_rows_as_they_were_last_drawn(monkeypatch):
    probes = []
    measure = BernoulliRBM._measure
    monkeypatch.setattr(
        BernoulliRBM, "_measure", lambda self, m, v: probes.append(v.clone()) or measure(self, m, v)
    )
    X = np.random.default_rng(0).integers(2, size=(50, 4)).astype(float)
    X[::2, 0] = np.nan
    RBMImputer(BernoulliRBM(2, n_iter=2), random_state=0).fit(X)
    assert not torch.isin(probes[0], torch.tensor([0.0, 1.0])).all()  # the means, at first
    assert torch.isin(probes[1], torch.tensor([0.0, 1.0])).all()


def test_the_settings_of_the_imputer_are_used():
    X, _ = with_holes(pairs(60))
    rbm = BernoulliRBM(4, n_iter=3)
    few, many = (RBMImputer(rbm, n_sweeps=n, random_state=0).fit(X) for n in (1, 9))
    assert not np.array_equal(few.estimator_.components_, many.estimator_.components_)
    mean, field = (
        RBMImputer(rbm, method=method, n_steps=50, random_state=0).fit(X).transform(X)
        for method in ("mean", "mean_field")
    )
    assert abs(mean - field).max() > 1e-3
    machine = RBMImputer(rbm, method="mean_field", n_steps=50, random_state=0).fit(X).estimator_
    again = machine.impute(
        field[:5] * np.where(np.isnan(X[:5]), np.nan, 1), 50, method="mean_field"
    )
    assert_allclose(again, field[:5], atol=0.05)
