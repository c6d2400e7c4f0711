"""DBN: what a stack is, given its layers; the bound; residual paths; the way down."""

import copy
import itertools

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logsumexp
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skebm import (
    CD,
    DBN,
    PCD,
    BernoulliRBM,
    CategoricalRBM,
    Checkpoint,
    ConvRBM,
    DBNClassifier,
    DropoutRBM,
    GaussianRBM,
    RBMClassifier,
    TabularRBM,
    log_likelihood,
    log_partition,
)
from skebm.engine.stack import Residual
from skebm.fitted import FittedModel

ARRAYS = ("components_", "intercept_hidden_", "intercept_visible_")


def rows(n=60, n_features=7, seed=0):
    """Binary rows near one of two templates."""
    rng = np.random.default_rng(seed)
    pattern = np.arange(n_features) % 3 == 0
    patterns = np.array([pattern, ~pattern])
    y = rng.integers(2, size=n)
    return (patterns[y] ^ (rng.uniform(size=(n, n_features)) < 0.2)).astype(np.float64), y


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return rows()[0]


def assert_same_layers(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        for name in ARRAYS:
            assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# A stack and its layers


@pytest.mark.parametrize(
    "layer",
    [
        BernoulliRBM(5, n_iter=3),
        GaussianRBM(5, n_iter=3),
        DropoutRBM(5, n_iter=3, temperature=2.0),
        ConvRBM(3, kernel_size=2, pool_size=2, n_iter=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_stack_of_one_layer_is_that_layer_bit_for_bit(layer, X):
    rbm = clone(layer).set_params(random_state=0).fit(X)
    for stack in (DBN([layer], random_state=0), DBN([clone(rbm)])):
        dbn = stack.fit(X)
        assert_same_layers(dbn.estimators_, [rbm])
        assert_array_equal(dbn.transform(X), rbm.transform(X))
        H = rbm.transform(X)
        assert_array_equal(dbn.inverse_transform(H), rbm.inverse_transform(H))
        assert_array_equal(
            dbn.sample(4, n_steps=9, random_state=1), rbm.sample(4, n_steps=9, random_state=1)
        )
        assert_array_equal(dbn.score_samples(X, method="top"), rbm.score_samples(X))
        assert_allclose(
            dbn.score_samples(X, method="bound"), log_likelihood(rbm, X, log_z=log_z_of(rbm))
        )
        for name, values in rbm.history_.items():
            if name != "seconds":
                assert_array_equal(dbn.history_[name], values)


def log_z_of(rbm):
    return log_partition(rbm, random_state=0).value


def test_a_stack_is_a_pipeline_of_its_layers(X):
    layers = [
        GaussianRBM(6, n_iter=3, random_state=3),
        BernoulliRBM(5, n_iter=4, gradient="cd", random_state=4),
        BernoulliRBM(3, n_iter=2, learning_rate=0.5, random_state=5),
    ]
    pipeline = make_pipeline(*map(clone, layers)).fit(X)
    dbn = DBN(layers).fit(X)
    assert_same_layers(dbn.estimators_, [step for _, step in pipeline.steps])
    assert_array_equal(dbn.transform(X), pipeline.transform(X))


def test_each_layer_is_trained_on_what_transform_of_those_below_gives(X):
    dbn = DBN([GaussianRBM(6, n_iter=3), 5, 4], n_iter=3, random_state=0).fit(X)
    H = X
    for k, layer in enumerate(dbn.estimators_):
        rng = np.random.RandomState(0) if k == 0 else dbn.estimators_[k - 1].random_state_
        alone = clone(layer).set_params(random_state=copy.deepcopy(rng)).fit(H)
        assert_same_layers([alone], [layer])
        H = layer.transform(H)
    assert_array_equal(dbn.transform(X), H)


def test_all_layers_side_by_side(X):
    dbn = DBN([6, 5, 4], n_iter=2, random_state=0).fit(X)
    levels, H = [], X
    for layer in dbn.estimators_:
        H = layer.transform(H)
        levels.append(H)
    everything = copy.copy(dbn).set_params(output="all")
    assert_array_equal(everything.transform(X), np.hstack(levels))
    assert len(everything.get_feature_names_out()) == 15
    assert_array_equal(
        everything.inverse_transform(everything.transform(X)), dbn.inverse_transform(levels[-1])
    )
    error = np.square(X - dbn.inverse_transform(levels[-1])).mean(1)
    assert_allclose(dbn.reconstruction_error(X), error)


def test_features_of_the_whole_config_do_not_disturb_the_stack(X):
    plain = DBN([4, 3], n_iter=2, random_state=0).fit(X)
    with config_context(transform_output="pandas"):
        framed = DBN([4, 3], n_iter=2, random_state=0).fit(X)
        assert list(framed.transform(X).columns) == ["dbn0", "dbn1", "dbn2"]
    assert_same_layers(plain.estimators_, framed.estimators_)


# Parameters


def test_a_value_is_for_all_layers_and_a_sequence_has_one_for_each(X):
    dbn = DBN(
        [BernoulliRBM(6, momentum=0.3), GaussianRBM(5), 4],
        n_iter=(1, 2, 3),
        learning_rate=0.05,
        momentum=(None, 0.5, None),
        gradient=["cd", PCD(2), CD(3)],
        random_state=0,
    ).fit(X)
    fitted = dbn.estimators_
    assert [layer.n_iter_ for layer in fitted] == [1, 2, 3]
    assert [layer.learning_rate for layer in fitted] == [0.05] * 3
    assert [layer.momentum for layer in fitted] == [0.3, 0.5, 0.0]
    assert [str(layer.gradient) for layer in fitted] == ["cd", "PCD(n_steps=2)", "CD(n_steps=3)"]
    assert_array_equal(dbn.history_["layer"], [0, 1, 1, 2, 2, 2])
    assert_array_equal(dbn.history_["epoch"], [1, 1, 2, 1, 2, 3])
    assert np.isnan(dbn.history_["score"][1:3]).all()  # of a Gaussian layer there is none
    assert not np.isnan(dbn.history_["reconstruction_error"]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": (0.1, 0.2, 0.3)}, "learning_rate has 3 values for 2 layers"),
        ({"n_iter": [5]}, "n_iter has 1 values for 2 layers"),
        ({"learning_rate": -1.0}, "'learning_rate' parameter of BernoulliRBM"),
        ({"layers": []}, "layers must have at least one layer"),
        ({"layers": 5}, "'layers' parameter of DBN"),
        ({"layers": (5, "bernoulli")}, "layer2 must be a number of hidden units or an estimator"),
        ({"layers": (5, True)}, "layer2 must be a number"),
        ({"layers": (5, LogisticRegression())}, "layer2 must be a number"),
        ({"layers": (5, 0)}, "'n_components' parameter of BernoulliRBM"),
        ({"layers": [("a", 5), ("a", 4)]}, "not unique"),
        ({"layers": [("n_iter", 5)]}, "conflict with constructor arguments"),
        ({"layers": [("a__b", 5)]}, "must not contain __"),
        ({"residual": (1.0,)}, "residual must be two finite numbers"),
        ({"residual": (1.0, -1.0)}, "residual must be two finite numbers"),
        ({"residual": (0, 0)}, "residual must be two finite numbers"),
        ({"residual": (np.inf, 1)}, "residual must be two finite numbers"),
        ({"residual": (1, 1), "layers": (GaussianRBM(3, hidden="relu"),)}, "binary hidden units"),
        ({"residual": (1, 1), "layers": (ConvRBM(2, pool_size=2),)}, "no pool_size"),
        ({"residual": (1, 1), "fine_tune": "up-down"}, "no residual path"),
        ({"layers": (5, RBMClassifier(4))}, "requires y"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_and_nothing_is_left(change, message, X):
    dbn = DBN((5, 4), n_iter=1).set_params(**change)
    with pytest.raises(ValueError, match=message):
        dbn.fit(X)
    assert not [name for name in vars(dbn) if name.endswith("_")]


def test_a_layer_that_diverges_leaves_the_stack_as_it_was(X):
    dbn = DBN((5, 4), n_iter=1, random_state=0).fit(X)
    before = copy.deepcopy(dbn)
    dbn.set_params(layers=[5, GaussianRBM(4, learning_rate=1e200, max_grad_norm=None)])
    with pytest.raises(ValueError, match="GaussianRBM diverged in epoch"):
        dbn.fit(X)
    assert_array_equal(dbn.transform(X), before.transform(X))


def test_layers_are_reached_by_their_names():
    dbn = DBN([("bottom", GaussianRBM(5)), 7, BernoulliRBM(3)])
    dbn.set_params(bottom__learning_rate=0.5, layer2=9, layer3__n_components=4)
    assert dbn.get_params()["bottom__learning_rate"] == 0.5
    assert [layer for _, layer in dbn._named_layers[1:2]] == [9]
    assert dbn.get_params()["layer3"].n_components == 4
    dbn.set_params(bottom=BernoulliRBM(2))
    assert isinstance(dbn.get_params()["bottom"], BernoulliRBM)
    dbn.set_params(layers=[("other", BernoulliRBM(2))], other__n_iter=1)
    assert dbn.get_params()["other__n_iter"] == 1
    with pytest.raises(ValueError, match="Invalid parameter"):
        dbn.set_params(bottom__n_iter=3)


def test_a_grid_search_goes_over_layers_and_their_parameters():
    X, y = rows(120)
    model = make_pipeline(
        DBN([("bottom", BernoulliRBM(6)), 4], n_iter=2, random_state=0), LogisticRegression()
    )
    grid = {
        "dbn__layers": [[("bottom", BernoulliRBM(5)), 3], [("bottom", GaussianRBM(4))]],
        "dbn__bottom__learning_rate": [0.01, 0.2],
    }
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_[0]
    assert best.get_params()["bottom__learning_rate"] in (0.01, 0.2)
    assert search.best_score_ > 0.8
    layers = GridSearchCV(DBN((5, 4), n_iter=1), {"layer2": [2, 3], "n_iter": [1, (2, 1)]}, cv=2)
    assert len(layers.fit(X).best_estimator_.estimators_) == 2


def test_fit_does_not_touch_the_layers_it_was_given(X):
    layers = [GaussianRBM(5, n_iter=2), BernoulliRBM(4)]
    before = [str(layer.get_params()) for layer in layers]
    DBN(layers, learning_rate=0.01, n_iter=1, random_state=0).fit(X)
    assert [str(layer.get_params()) for layer in layers] == before
    assert not [name for layer in layers for name in vars(layer) if name.endswith("_")]


def test_a_frozen_layer_is_taken_as_it_is(X):
    bottom = BernoulliRBM(5, n_iter=3, random_state=7).fit(X)
    dbn = DBN([FrozenEstimator(bottom), 4], n_iter=2, random_state=0)
    for stack in (dbn, clone(dbn)):
        stack.fit(X)
        assert_same_layers(stack.estimators_[:1], [bottom])
        top = BernoulliRBM(4, n_iter=2, random_state=0).fit(bottom.transform(X))
        assert_same_layers(stack.estimators_[1:], [top])
        stack.partial_fit(X)
        assert_same_layers(stack.estimators_[:1], [bottom])
        assert_same_layers(stack.estimators_[1:], [top.partial_fit(bottom.transform(X))])
    tuned = DBN([FrozenEstimator(bottom), 4], fine_tune="up-down", warm_start=True).fit(X).fit(X)
    assert tuned.transform(X).shape == (60, 4)
    assert not bottom.warm_start


# Going on


def test_partial_fit_is_an_epoch_of_each_layer_on_the_layers_below(X):
    dbn = DBN([5, 4], random_state=0).partial_fit(X).partial_fit(X[:30])
    bottom = BernoulliRBM(5, random_state=0)
    rng = np.random.RandomState(0)
    bottom.set_params(random_state=rng).partial_fit(X)
    top = BernoulliRBM(4, random_state=rng).partial_fit(bottom.transform(X))
    bottom.partial_fit(X[:30])
    top.partial_fit(bottom.transform(X[:30]))
    assert_same_layers(dbn.estimators_, [bottom, top])
    assert_array_equal(dbn.history_["epoch"], [1, 2, 1, 2])


def test_a_warm_start_goes_on_in_every_layer(X):
    dbn = DBN([5, 4], n_iter=2, warm_start=True, random_state=0).fit(X)
    first = copy.deepcopy(dbn.estimators_)
    dbn.set_params(n_iter=3).fit(X)
    bottom = first[0].set_params(warm_start=True, n_iter=3).fit(X)
    top = first[1].set_params(warm_start=True, n_iter=3).fit(bottom.transform(X))
    assert_same_layers(dbn.estimators_, [bottom, top])
    assert [layer.n_iter_ for layer in dbn.estimators_] == [5, 5]
    with pytest.raises(ValueError, match="layers has 3 layers, but 2 were fitted"):
        dbn.set_params(layers=[5, 4, 3]).fit(X)
    with pytest.raises(ValueError, match="n_components=6 differs"):
        dbn.set_params(layers=[6, 4]).fit(X)


def test_callbacks_see_every_epoch_of_every_layer(X):
    seen = []

    class Watch:
        max_propagation_depth = None

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            if context.task_name in ("epoch", "up-down"):
                seen.append((context.parent.task_id, context.task_name))

        def teardown(self, estimator, context):
            pass

    DBN([5, 4], n_iter=(2, 3), fine_tune="up-down", fine_tune_n_iter=2).set_callbacks(Watch()).fit(
        X
    )
    epochs = [number for number, name in seen if name == "epoch"]
    assert epochs == [0, 0, 1, 1, 1, 2, 2]


def test_a_progress_bar_runs(X, capsys):
    pytest.importorskip("rich")
    DBN([5, 4], n_iter=2).set_callbacks(ProgressBar()).fit(X)
    out = capsys.readouterr().out
    assert "DBN" in out
    assert "BernoulliRBM" in out


def test_verbose_prints_a_line_an_epoch_of_each_layer(X, capsys):
    DBN([5, 4], n_iter=2, verbose=1).fit(X)
    out = capsys.readouterr().out
    assert out.count("[BernoulliRBM, layer 1] Iteration 2,") == 1
    assert out.count("[BernoulliRBM, layer 2] Iteration 2,") == 1


# What a stack says of rows


def binary_states(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def tiny(seed=0, **params):
    """A stack of 4, 3 and 2 units whose weights are large."""
    X = binary_states(4)
    dbn = DBN([3, 2], n_iter=0, random_state=0, **params).fit(X)
    rng = np.random.default_rng(seed)
    for layer in dbn.estimators_:
        for name in ARRAYS:
            setattr(layer, name, rng.normal(0, 1.0, getattr(layer, name).shape))
    return dbn


def bernoulli_log_probability(x, field):
    """log p(x | field) for all pairs of states and fields: (n_states, n_fields)."""
    return x @ field.T - np.logaddexp(0, field).sum(1)


def exact(dbn):
    """log p(v), and the bound, of all rows of a stack of two layers, by enumeration."""
    down, up, top = dbn.generative_[0], dbn.estimators_[0], dbn.estimators_[-1]
    V, H = binary_states(4), binary_states(3)
    G = binary_states(2)
    energy = (H @ top.intercept_visible_)[:, None] + G @ top.intercept_hidden_
    energy = energy + H @ top.components_.T @ G.T
    log_top = logsumexp(energy, axis=1) - logsumexp(energy)  # (n_H,)
    log_down = bernoulli_log_probability(V, H @ down.components_ + down.intercept_visible_)
    field = V @ up.components_.T + up.intercept_hidden_
    log_q = bernoulli_log_probability(H, field).T  # (n_V, n_H)
    log_p = logsumexp(log_down + log_top, axis=1)
    bound = (np.exp(log_q) * (log_down + log_top - log_q)).sum(1)
    return log_p, bound


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bound_is_a_bound_and_its_mean_is_the_exact_one(seed):
    dbn = tiny(seed)
    log_p, bound = exact(dbn)
    assert (bound <= log_p).all()
    assert (log_p - bound).max() > 0.05
    estimate = dbn.score_samples(binary_states(4), method="bound", n_draws=20_000)
    assert_allclose(estimate, bound, atol=0.03)
    assert_array_equal(
        dbn.score_samples(binary_states(4)[3:5]), dbn.score_samples(binary_states(4))[3:5]
    )
    assert_allclose(dbn.score(binary_states(4)), dbn.score_samples(binary_states(4)).mean())


def test_the_bound_of_real_valued_rows_is_a_density():
    X = np.random.default_rng(0).normal(3.0, [0.5, 2.0], size=(200, 2))
    dbn = DBN([GaussianRBM(2, n_iter=5), 2], n_iter=5, random_state=0).fit(X)
    bottom, top = dbn.estimators_
    states = binary_states(2)
    means = bottom.inverse_transform(states)  # (4, 2)
    log_top = log_likelihood(top, states)
    grid = np.linspace(-8, 14, 221)
    points = np.array(list(itertools.product(grid, grid)))
    log_x = -np.square(points[:, None] - means) / (2 * bottom.variances_)
    log_x = (log_x - np.log(2 * np.pi * bottom.variances_) / 2).sum(2)  # (n, 4)
    log_p = logsumexp(log_x + log_top, axis=1)
    assert_allclose(logsumexp(log_p) + 2 * np.log(grid[1] - grid[0]), 0, atol=1e-3)
    q = bottom.transform(points)
    log_q = np.log(np.where(states[None] == 1, q[:, None], 1 - q[:, None]) + 1e-300).sum(2)
    bound = (np.exp(log_q) * (log_x + log_top - log_q)).sum(1)
    some = np.random.default_rng(1).choice(len(points), 200)
    estimate = dbn.score_samples(points[some], method="bound", n_draws=4000)
    assert_allclose(estimate, bound[some], atol=0.2)
    assert (bound <= log_p + 1e-9).all()


def test_samples_follow_the_law_of_the_stack():
    dbn = tiny(2)
    log_p, _ = exact(dbn)
    drawn = dbn.sample(20_000, n_steps=50, random_state=0)
    code = drawn @ (2 ** np.arange(3, -1, -1))
    share = np.bincount(code.astype(int), minlength=16) / len(drawn)
    assert np.abs(share - np.exp(log_p)).sum() < 0.05
    assert_array_equal(drawn[:5], dbn.sample(20_000, n_steps=50, random_state=0)[:5])
    again = dbn.sample(50, n_steps=5)
    assert np.abs(again - dbn.sample(50, n_steps=5)).max() == 1


def test_chains_start_where_they_are_told():
    dbn = tiny(3)
    for layer in dbn.estimators_:
        layer.components_, layer.intercept_visible_ = (
            layer.components_ * 0,
            np.full(layer.n_features_in_, 50.0),
        )
        layer.intercept_hidden_ = np.full(layer.n_components, 50.0)
    start = np.zeros((2, 4))
    assert_array_equal(dbn.sample(2, n_steps=0, init=start), np.ones((2, 4)))
    cold = tiny(3).sample(2000, n_steps=50, temperature=0.2, random_state=0)
    warm = tiny(3).sample(2000, n_steps=50, temperature=5.0, random_state=0)
    top = tiny(3).estimators_[-1]
    H = [
        top.sample(2000, n_steps=50, temperature=t, random_state=np.random.RandomState(0))
        for t in (0.2, 5.0)
    ]
    bottom = tiny(3).estimators_[0]
    for drawn, below in zip((cold, warm), H):
        assert_allclose(drawn.mean(0), bottom.inverse_transform(below).mean(0), atol=0.05)
    means = tiny(3).sample(2000, n_steps=50, temperature=0.2, mean=True, random_state=0)
    assert_array_equal(means, bottom.inverse_transform(H[0]))
    with pytest.raises(ValueError, match="mean=True needs a layer below the top"):
        DBN([3], n_iter=0).fit(binary_states(4)).sample(2, mean=True)
    with pytest.raises(ValueError, match="init has 2 rows for 3 chains"):
        dbn.sample(3, init=start)
    with pytest.raises(ValueError, match="y needs a top layer that is a classifier"):
        dbn.sample(3, y=1)


# Contrastive wake-sleep


def test_up_down_makes_the_rows_likelier():
    X = binary_states(4)[[0, 15, 15, 6, 9]].repeat(40, axis=0)
    gains = []
    for seed in range(3):
        start = DBN([3, 2], n_iter=20, random_state=seed).fit(X)
        tuned = DBN(
            [3, 2],
            n_iter=20,
            random_state=seed,
            fine_tune="up-down",
            fine_tune_n_iter=100,
            fine_tune_learning_rate=0.05,
        ).fit(X)
        code = (X @ (2 ** np.arange(3, -1, -1))).astype(int)
        before, after = exact(start), exact(tuned)
        gains.append([(now - then)[code].mean() for then, now in zip(before, after)])
        assert_array_equal(tuned.history_["layer"][-100:], np.full(100, -1))
        assert tuned.estimators_[-1] is tuned.generative_[-1]
        difference = tuned.estimators_[0].components_ - tuned.generative_[0].components_
        assert np.abs(difference).max() > 0.05
    assert np.median(gains, axis=0).min() > 0.1  # of log p(v), and of the bound


def test_up_down_moves_nothing_at_a_rate_of_nothing(X):
    plain = DBN([5, 4], n_iter=2, random_state=0).fit(X)
    tuned = DBN(
        [5, 4], n_iter=2, random_state=0, fine_tune="up-down", fine_tune_learning_rate=1e-300
    ).fit(X)
    for first, second in ((plain, tuned.estimators_), (plain, tuned.generative_)):
        for one, other in zip(first.estimators_, second):
            for name in ARRAYS:
                assert_allclose(getattr(one, name), getattr(other, name), atol=1e-12)


def test_up_down_of_one_layer_is_training_of_that_layer(X):
    settings = {"learning_rate": 0.1, "learning_rate_schedule": "constant"}
    single = DBN(
        [GaussianRBM(4, n_iter=3, **settings)],
        fine_tune="up-down",
        fine_tune_n_iter=2,
        fine_tune_learning_rate=0.1,
        random_state=0,
    ).fit(X)
    rbm = GaussianRBM(4, n_iter=5, random_state=0, **settings).fit(X)
    assert_allclose(single.estimators_[0].components_, rbm.components_, rtol=0.05, atol=0.01)


def test_checkpoints_belong_to_the_layers(X, tmp_path):
    with pytest.raises(ValueError, match="give it to the estimators that it is made of"):
        DBN([5, 4]).set_callbacks(Checkpoint(tmp_path / "dbn.joblib")).fit(X)
    path = tmp_path / "layer.joblib"
    layer = BernoulliRBM(5, n_iter=2).set_callbacks(Checkpoint(path))
    dbn = DBN([layer, 4], n_iter=2, random_state=0).fit(X)
    assert_array_equal(joblib.load(path).transform(X), dbn.estimators_[0].transform(X))


def test_after_up_down_partial_fit_and_warm_start_tune_on(X):
    dbn = DBN([5, 4], n_iter=2, fine_tune="up-down", fine_tune_n_iter=3, random_state=0)
    dbn.partial_fit(X)
    assert -1 not in dbn.history_["layer"]
    dbn.fit(X)
    bottom = dbn.estimators_[0].n_iter_
    dbn.partial_fit(X)
    assert dbn.estimators_[0].n_iter_ == bottom
    assert (dbn.history_["layer"] == -1).sum() == 4
    assert np.abs(dbn.untied_[0].components_ - dbn.estimators_[0].components_).max() > 0
    dbn.set_params(warm_start=True).fit(X)
    assert_array_equal(dbn.history_["epoch"][dbn.history_["layer"] == -1], np.arange(1, 8))
    assert dbn.estimators_[0].n_iter_ == bottom


def test_up_down_with_labels_beside_the_top():
    X, y = rows(300)
    stack = DBN(
        [BernoulliRBM(6, n_iter=30), RBMClassifier(6, objective="generative", gradient="cd")],
        fine_tune="up-down",
        fine_tune_n_iter=20,
        random_state=0,
    ).fit(X, y)
    test, labels = rows(300, seed=1)
    assert stack.score(test, labels) > 0.9
    for label in (0, 1):
        drawn = stack.sample(500, n_steps=100, y=label, random_state=0)
        assert (stack.predict(drawn) == label).mean() > 0.8
        assert np.abs(drawn.mean(0) - X[y == label].mean(0)).max() < 0.2


# A classifier on top


def test_a_stack_with_a_classifier_on_top_is_a_classifier():
    X, y = rows(200)
    y = np.array(["no", "yes"])[y]
    stack = DBN([BernoulliRBM(6, n_iter=30), RBMClassifier(6)], random_state=0).fit(X, y)
    below = stack.estimators_[0].transform(X)
    top = stack.estimators_[1]
    assert_array_equal(stack.classes_, ["no", "yes"])
    assert_array_equal(stack.predict(X), top.predict(below))
    assert_array_equal(stack.predict_proba(X), top.predict_proba(below))
    assert_array_equal(stack.predict_log_proba(X), top.predict_log_proba(below))
    assert_array_equal(stack.decision_function(X), top.decision_function(below))
    assert stack.score(X, y) == (stack.predict(X) == y).mean() > 0.9
    assert stack.sample(3, n_steps=2, y=["no", "yes", "no"]).shape == X[:3].shape
    plain = DBN([6, 5])
    assert not hasattr(plain, "predict")
    assert not hasattr(plain.fit(X), "predict_proba")
    parts = DBN([6, RBMClassifier(6)], random_state=0)
    with pytest.raises(ValueError, match="classes must be passed"):
        parts.partial_fit(X, y)
    parts.partial_fit(X, y, classes=["no", "perhaps", "yes"]).partial_fit(X, y)
    assert parts.predict_proba(X).shape == (200, 3)


# Residual paths


def test_a_residual_path_has_the_maxima_of_the_training_rows(X):
    shares = (0.7, 1.3)
    settings = {"n_iter": 60, "learning_rate": 0.2}
    dbn = DBN([5, 4], random_state=0, residual=shares, **settings).fit(X)
    H = X
    for layer, (largest, final) in zip(dbn.estimators_, dbn.residual_maxima_):
        field = H @ layer.components_.T + layer.intercept_hidden_
        rectified = np.maximum(field, 0)
        assert_allclose(largest, rectified.max() or 1)
        mixed = shares[0] * expit(field) + shares[1] * rectified / largest
        assert_allclose(final, max(1, mixed.max()))
        H = mixed / final
    assert (dbn.residual_maxima_[0] > 1.5).all()
    assert_allclose(dbn.transform(X), H)
    assert H.max() <= 1
    apart = np.vstack([dbn.transform(row[None]) for row in X])
    assert_allclose(dbn.transform(X), apart, rtol=1e-12)
    top = BernoulliRBM(4, **settings)
    top.random_state = copy.deepcopy(dbn.estimators_[0].random_state_)
    below = copy.copy(dbn)
    below.estimators_ = dbn.estimators_[:1]
    assert_same_layers([top.fit(below.transform(X))], dbn.estimators_[1:])


def test_a_residual_path_of_no_share_is_none(X):
    plain = DBN([5, 4], n_iter=2, random_state=0).fit(X)
    path = DBN([5, 4], n_iter=2, random_state=0, residual=(1, 0)).fit(X)
    assert_same_layers(plain.estimators_, path.estimators_)
    assert_array_equal(plain.transform(X), path.transform(X))
    H = plain.transform(X)
    assert_allclose(plain.inverse_transform(H), path.inverse_transform(H), atol=1e-9)
    path.set_params(residual=None).fit(X)
    assert_array_equal(plain.transform(X), path.transform(X))


@pytest.mark.parametrize("shares", [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (1.0, 0.0)])
def test_features_with_a_residual_path_lead_back_to_the_means(shares):
    field = torch.linspace(-6, 60, 300, dtype=torch.float64)
    path = Residual(shares).fitted(field[:200])
    means = path.means(path(field))
    expected = field.sigmoid() if shares[0] else field.clamp(min=0).sigmoid()
    found = means if shares[0] else means.clamp(min=0.5)
    assert_allclose(found, expected, atol=1e-9)


def test_later_rows_raise_the_maxima_and_never_lower_them(X):
    dbn = DBN([5], residual=(1, 1), random_state=0, learning_rate=1.0, n_iter=20).fit(X)
    before = dbn.residual_maxima_.copy()
    assert before[:, 0].min() > 1.5
    dbn.set_params(learning_rate=1e-9).partial_fit(X[dbn.transform(X).max(1).argsort()[:1]])
    assert_allclose(dbn.residual_maxima_, before, rtol=1e-5)
    dbn.set_params(learning_rate=1.0)
    for _ in range(20):
        dbn.partial_fit(X)
    assert (dbn.residual_maxima_[:, 0] > 1.2 * before[:, 0]).all()


def test_reconstruction_errors_of_tables_are_of_their_numbers():
    X = pd.DataFrame({"a": ["x", "y", "x", "x"] * 10, "b": np.arange(40.0)})
    dbn = DBN([TabularRBM(4, n_iter=2), 3], n_iter=2, random_state=0).fit(X)
    error = dbn.reconstruction_error(X)
    rows, again = (
        FittedModel(dbn.estimators_[0]).read(Z)
        for Z in (X, dbn.inverse_transform(dbn.transform(X)))
    )
    assert_allclose(error, np.square(rows - again).mean(1))
    assert error.shape == (40,)


# Images


def test_images_go_up_and_come_down():
    images = (np.random.default_rng(0).uniform(size=(40, 9, 11)) < 0.4).astype(np.float64)
    dbn = DBN(
        [
            ConvRBM(4, kernel_size=3, pool_size=2, n_iter=2),
            ConvRBM(3, kernel_size=2, n_iter=2),
            ConvRBM(2, kernel_size=2, pool_size=2, n_iter=2),
            6,
        ],
        random_state=0,
    ).fit(images)
    first, second, third, top = dbn.estimators_
    assert first.maps_shape_ == second.image_shape_ == (4, 4, 5)
    assert second.maps_shape_ == third.image_shape_ == (3, 3, 4)
    assert third.maps_shape_ == (2, 1, 2)
    assert top.n_features_in_ == 4
    maps = first.transform_maps(images)
    seen = np.einsum("ncij,ocij->no", maps[:, :, :2, :2], second.components_)
    field = seen + second.intercept_hidden_
    assert_allclose(second.transform_maps(first.transform(images))[:, :, 0, 0], expit(field))
    again = dbn.inverse_transform(dbn.transform(images))
    assert again.shape == images.shape
    assert dbn.sample(2, n_steps=3).shape == (2, 9, 11)
    assert_allclose(dbn.reconstruction_error(images), np.square(images - again).mean((1, 2)))
    with pytest.raises(ValueError, match='method="bound" needs layers'):
        dbn.score_samples(images, method="bound")
    assert_array_equal(dbn.score_samples(images), dbn.score_samples(images, method="top"))


@pytest.mark.parametrize(
    ("dbn", "message"),
    [
        (DBN([BernoulliRBM(4), TabularRBM(2)]), "layer2 is a TabularRBM, which can only be the"),
        (DBN([4, ("top", CategoricalRBM(2))]), "top is a CategoricalRBM, which can only be the"),
        (DBN([ConvRBM(2, pool_size=2), 3], fine_tune="up-down"), "no pooled layer below the top"),
        (
            DBN([4, RBMClassifier(2, objective="discriminative")], fine_tune="up-down"),
            "needs states that the top layer generates",
        ),
    ],
    ids=str,
)
def test_layers_that_do_not_fit_are_refused_before_training(dbn, message):
    X = np.random.default_rng(0).integers(2, size=(20, 16)) / 1.0
    for train in (dbn.fit, dbn.partial_fit):
        with pytest.raises(ValueError, match=message):
            train(X, X[:, 0])
    with pytest.raises(ValueError, match=message):
        DBNClassifier(dbn).fit(X, X[:, 0])
    assert not hasattr(dbn, "estimators_")


def test_scores_that_are_no_bound_say_so():
    X = np.random.default_rng(0).integers(2, size=(20, 16)) / 1.0
    dbn = DBN([4, 3], residual=(1, 1), n_iter=1, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="has no bound of log p"):
        scores = dbn.score_samples(X)
    assert_array_equal(scores, dbn.score_samples(X, method="top"))


def test_rows_of_weight_zero_have_no_say_in_the_maxima():
    X = np.vstack([rows(30)[0], np.full((1, 7), 50.0)])
    weight = np.append(np.ones(30), 0.0)
    settings = {"residual": (1, 1), "random_state": 0, "n_iter": 3}
    layers = [GaussianRBM(5, variance="unit"), 4]
    weighted = DBN(layers, **settings).fit(X, sample_weight=weight)
    left_out = DBN(layers, **settings).fit(X[:30])
    assert_allclose(weighted.residual_maxima_, left_out.residual_maxima_, rtol=1e-5)


def test_samples_pass_the_residual_path_of_their_layer():
    dbn = DBN([3, 3], residual=(1, 1), n_iter=1, random_state=0).fit(rows(40)[0])
    lower, top = dbn.estimators_
    lower.components_ = np.eye(3, 7) * 40
    lower.intercept_hidden_, lower.intercept_visible_ = np.full(3, -20.0), np.full(7, -20.0)
    top.components_ = np.zeros((3, 3))
    dbn.residual_maxima_ = np.array([[20.0, 2.0], [1e3, 1e-3]])
    # Units of the first layer that are on have σ = 1 and a = 20, so the feature (1 + 1) / 2 = 1.
    for level, expected in ((30.0, 1.0), (-30.0, 0.0)):
        top.intercept_visible_ = np.full(3, level)
        drawn = dbn.sample(20, 5, random_state=0)
        assert_allclose(drawn[:, :3], expected)


def test_the_bound_has_the_exact_rbm_of_noisy_units():
    X = np.random.default_rng(0).normal(size=(30, 2))
    lower = GaussianRBM(1, hidden="nrelu", variance="unit", n_iter=1)
    dbn = DBN([lower, GaussianRBM(1, variance="unit", n_iter=1)], random_state=0).fit(X)
    for layer, c in zip(dbn.estimators_, (0.7, 0.0)):
        layer.components_[:] = 0
        layer.intercept_visible_[:], layer.intercept_hidden_[:] = 0, c
    # h, the number of ones of 64 units of biases c − ½, c − 3/2, …, does not depend on x.
    law = np.ones(1)
    for k in range(64):
        on = 1 / (1 + np.exp(k + 0.5 - 0.7))
        law = np.convolve(law, [1 - on, on])
    h = np.arange(65)
    top = -(h**2) / 2 - np.log(2 * np.pi) / 2
    expected = -(X[:1] ** 2).sum() / 2 - np.log(2 * np.pi)
    # The bound's second term: E log p_top(h) − E log q(h) + E log p(x | h) − log p(x).
    kept = law > 0
    expected += law @ top - law[kept] @ np.log(law[kept])
    found = dbn.score_samples(X[:1], method="bound", n_draws=4000)
    assert_allclose(found, expected, atol=0.06)


def test_a_copy_with_the_same_parameters_is_the_same():
    for layer in (DropoutRBM(3, dropout=0.3), GaussianRBM(3, temperature=2.0), BernoulliRBM(3)):
        fitted = FittedModel(layer.set_params(n_iter=2, random_state=0).fit(rows()[0]))
        again = fitted.replaced(fitted.rbm())
        for name in ARRAYS:
            assert_allclose(getattr(again, name), getattr(layer, name), rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (lambda grey: grey > 0.5, BernoulliRBM),
        (lambda grey: np.where(grey > 0.5, 0.99, 0.01), BernoulliRBM),
        (lambda grey: grey, GaussianRBM),
        (lambda grey: 16 * grey, GaussianRBM),
        (lambda grey: (grey > 0.5) - 0.5, GaussianRBM),
    ],
)
def test_a_number_is_the_first_layer_that_the_rows_ask_for(rows, kind):
    X = rows(load_digits().data[:200] / 16)
    dbn = DBN((4, 3), n_iter=1, random_state=0).fit(X)
    assert [type(layer) for layer in dbn.estimators_] == [kind, BernoulliRBM]
    assert dbn.set_params(warm_start=True).fit(X).estimators_[0].n_iter_ == 2


def test_rows_of_weight_zero_have_no_say_in_the_first_layer():
    grey = load_digits().data[:200] / 16
    X, weight = np.vstack([grey > 0.5, grey]), np.repeat([1.0, 0.0], 200)
    kinds = [
        type(DBN((4,), n_iter=1).fit(X, sample_weight=w).estimators_[0])
        for w in (weight, 1 - weight)
    ]
    assert kinds == [BernoulliRBM, GaussianRBM]
