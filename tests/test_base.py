"""Training and using an estimator: what it learns, and how it works with scikit-learn."""

import copy
import inspect
import pickle
import re
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.callback.tests._utils import RecordingCallback, StopFitCallback
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import BernoulliRBM as ScikitRBM
from sklearn.pipeline import Pipeline, make_pipeline

from skebm import (
    CD,
    DBN,
    PCD,
    BernoulliRBM,
    ConvRBM,
    DBNClassifier,
    DBNRegressor,
    DropoutRBM,
    Exact,
    GaussianRBM,
    PoissonRBM,
    RBMClassifier,
    TabularRBM,
    __version__,
    log_likelihood,
)
from tests.conftest import exact_log_z, model_mean

BARS_AND_STRIPES = np.array(
    [np.tile(bits, (3, 1)).ravel() for bits in np.ndindex(2, 2, 2)]
    + [np.tile(np.array(bits)[:, None], 3).ravel() for bits in np.ndindex(2, 2, 2)],
    dtype=float,
)


def mean_log_likelihood(estimator, X):
    return float(np.mean(-estimator.free_energy(X)) - exact_log_z(estimator))


# What it learns


def rows_with_mean(n, seed=0):
    return (np.random.default_rng(seed).uniform(size=(n, 4)) < [0.2, 0.5, 0.7, 0.9]) * 1.0


def fit_11(estimator):
    X = rows_with_mean(11)
    return estimator.set_params(batch_size=10, n_iter=3000).fit(X), X


def fit_20(estimator):
    X = rows_with_mean(20)
    return estimator.set_params(batch_size=64, n_iter=3000).fit(X), X


def partial_fit_100(estimator):
    X = rows_with_mean(100)
    estimator.set_params(batch_size=10)
    for _ in range(600):
        estimator.partial_fit(X)
    return estimator, X


@pytest.mark.parametrize("train", [fit_11, fit_20, partial_fit_100])
def test_the_mean_is_learned_whatever_the_number_of_rows(train):
    settings = {"n_components": 2, "learning_rate": 0.02, "random_state": 0}
    ours, X = train(BernoulliRBM(gradient=PCD(n_chains=500), **settings))
    assert np.abs(model_mean(ours) - X.mean(0)).max() < 0.02
    theirs, X = train(ScikitRBM(**settings))
    assert np.abs(model_mean(theirs) - X.mean(0)).max() > 0.05


@pytest.mark.parametrize(
    ("gradient", "at_least", "centered", "rate"),
    [
        (CD(10), -3.2, True, 0.2),
        (PCD(5, 200), -3.1, True, 0.2),
        (Exact(), -2.9, True, 0.4),
        (Exact(), -2.9, False, 0.4),
        pytest.param(CD(10), -3.2, False, 0.1, marks=pytest.mark.slow),
        pytest.param(PCD(5, 200), -3.0, False, 0.1, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_bars_and_stripes_are_learned(gradient, at_least, centered, rate):
    # The entropy is 2.599 nats a row; independent pixels give −6.24.
    settings = {"batch_size": 16, "learning_rate": rate, "n_iter": int(400 / rate)}
    rbm = BernoulliRBM(8, gradient=gradient, centered=centered, random_state=0, **settings)
    assert at_least < mean_log_likelihood(rbm.fit(BARS_AND_STRIPES), BARS_AND_STRIPES) < -2.599


@pytest.mark.parametrize(
    "change",
    [{"momentum": 0.9, "learning_rate": 0.04}, {"optimizer": "adam", "learning_rate": 0.03}],
    ids=str,
)
def test_every_optimiser_learns(change):
    rbm = BernoulliRBM(8, gradient=Exact(), batch_size=16, n_iter=1000, random_state=0)
    rbm.set_params(**change).fit(BARS_AND_STRIPES)
    assert mean_log_likelihood(rbm, BARS_AND_STRIPES) > -2.9


def test_a_gaussian_rbm_learns_the_means_of_a_mixture():
    rng = np.random.default_rng(0)
    centres = np.array([[-3.0, 0.0], [3.0, 2.0]])
    X = centres[rng.integers(2, size=1000)] + rng.normal(size=(1000, 2))
    rbm = GaussianRBM(1, gradient=Exact(), variance="unit", learning_rate=0.05, random_state=0)
    learned = rbm.fit(X).means_ + [[0.0], [1.0]] @ rbm.components_
    assert np.abs(learned[learned[:, 0].argsort()] - centres).max() < 0.2
    best = np.mean(
        np.logaddexp.reduce([-((X - c) ** 2).sum(1) / 2 - np.log(4 * np.pi) for c in centres])
    )
    assert mean_log_likelihood(rbm, X) > best - 0.1


def test_data_far_from_zero_are_no_harder():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) + 100
    here = GaussianRBM(20, n_iter=20, random_state=0).fit(X)
    there = GaussianRBM(20, n_iter=20, random_state=0).fit(X - 100)
    assert_allclose(here.means_ - 100, there.means_, atol=0.02)
    assert_allclose(here.inverse_transform(here.transform(X)).mean(0), X.mean(0), atol=0.1)


def test_zeros_and_ones_are_exchangeable():
    X = (np.random.default_rng(0).uniform(size=(300, 8)) < 0.1).astype(float)
    X[:150, :4] = 1
    settings = {"gradient": Exact(), "n_iter": 200, "random_state": 0, "learning_rate": 0.05}
    scores = [
        mean_log_likelihood(BernoulliRBM(4, centered=centered, **settings).fit(rows), rows)
        for centered in (True, False)
        for rows in (X, 1 - X)
    ]
    assert abs(scores[0] - scores[1]) < 0.02


def test_weights_shift_the_model():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 50, axis=0)
    weight = np.repeat([0.25, 0.75], 50)
    rbm = BernoulliRBM(2, gradient=Exact(), n_iter=300, random_state=0)
    assert_allclose(model_mean(rbm.fit(X, sample_weight=weight)), 0.75, atol=0.02)


def test_a_row_of_weight_zero_is_not_there():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 50, axis=0)
    rbm = BernoulliRBM(2, n_iter=5, random_state=0)
    with_ = clone(rbm).fit(X, sample_weight=np.repeat([0.0, 0.3], 50))
    without = clone(rbm).fit(X[50:])
    assert_allclose(with_.components_, without.components_, rtol=1e-9)


# The parameters do what they say


def weights(**change):
    X = BARS_AND_STRIPES
    rbm = BernoulliRBM(8, gradient=Exact(), batch_size=16, n_iter=500, random_state=0)
    return rbm.set_params(**change).fit(X)


def test_weight_decay_and_l1_act_on_weights_alone():
    free, decayed, sparse_ = weights(), weights(weight_decay=0.3), weights(l1=0.3)
    for penalised in (decayed, sparse_):
        assert np.abs(penalised.components_).sum() < 0.1 * np.abs(free.components_).sum()
    X = (np.random.default_rng(0).uniform(size=(200, 3)) < 0.1).astype(float)
    rbm = BernoulliRBM(1, gradient=Exact(), n_iter=300, weight_decay=10, learning_rate=0.02)
    rbm.fit(X)
    assert_allclose(model_mean(rbm), X.mean(0), atol=0.02)
    assert rbm.intercept_visible_.max() < -1


def test_verbose_prints_a_line_an_epoch_and_nothing_by_default(capsys):
    X = BARS_AND_STRIPES
    BernoulliRBM(4, n_iter=2).fit(X)
    assert capsys.readouterr().out == ""
    BernoulliRBM(4, n_iter=2, verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"\[BernoulliRBM\] Iteration 2, pseudo-likelihood = -\d+\.\d\d, time = \d+\.\d\ds \(2/2\)",
        lines[1],
    )
    GaussianRBM(4, n_iter=1, verbose=1).fit(X)
    assert "[GaussianRBM] Iteration 1, reconstruction error = 0." in capsys.readouterr().out


def test_the_score_in_the_history_estimates_the_score(digits):
    X = digits[0]
    rbm = BernoulliRBM(16, n_iter=3, random_state=0).fit(X)
    assert abs(rbm.history_["score"][-1] - rbm.score(X)) < 2
    error = ((X - rbm.inverse_transform(rbm.transform(X))) ** 2).mean()
    assert_allclose(rbm.history_["reconstruction_error"][-1], error, rtol=0.05)


@pytest.mark.parametrize("Estimator", [BernoulliRBM, GaussianRBM])
def test_a_new_model_starts_at_the_mean_of_the_data(Estimator):
    X = rows_with_mean(100)
    rbm = Estimator(8, n_iter=0, random_state=0).fit(X)
    assert rbm.n_iter_ == 0
    assert 0.05 < rbm.components_.std() < 1.7
    features = rbm.transform(X.mean(0)[None])
    assert_allclose(features, 1 / (1 + np.e), rtol=1e-6)
    assert_allclose(rbm.inverse_transform(features)[0], X.mean(0), rtol=1e-6)


def test_the_order_of_rows_counts_without_shuffling():
    X = rows_with_mean(40)
    settings = {"n_iter": 2, "shuffle": False, "random_state": 0}
    first = BernoulliRBM(3, **settings).fit(X).components_
    assert_array_equal(first, BernoulliRBM(3, **settings).fit(X).components_)
    assert np.abs(first - BernoulliRBM(3, **settings).fit(X[::-1]).components_).max() > 1e-6


@pytest.mark.parametrize("gradient", ["cd", "pcd"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_goes_on_from_a_fit_of_no_epochs(gradient, optimizer):
    X = np.random.default_rng(0).integers(0, 2, (50, 6))
    settings = {"gradient": gradient, "optimizer": optimizer, "random_state": 0}
    rbm = BernoulliRBM(4, n_iter=0, **settings).fit(X)
    at_once = BernoulliRBM(4, n_iter=1, **settings).fit(X)
    assert_allclose(rbm.partial_fit(X).components_, at_once.components_)


def test_training_goes_on_under_other_settings():
    rbm = BernoulliRBM(4, n_iter=2, warm_start=True, random_state=0).fit(BARS_AND_STRIPES)
    changes = [
        {"gradient": "cd"},
        {"gradient": PCD(n_chains=7)},
        {"optimizer": "adam"},
        {"optimizer": "sgd", "momentum": 0.5},
        {"centered": False},
    ]
    for n, change in enumerate(changes, start=2):
        before = rbm.components_
        rbm.set_params(**change).fit(BARS_AND_STRIPES)
        assert rbm.n_iter_ == 2 * n
        assert 0 < np.abs(rbm.components_ - before).max() < 0.5
    assert rbm.h_samples_.shape == (7, 4)


@pytest.mark.parametrize("target", [0.05, 0.4])
def test_the_sparsity_target_is_met(target, digits):
    X = digits[0]
    settings = {"n_iter": 20, "grey_values": "mean", "random_state": 0}
    rbm = BernoulliRBM(50, sparsity_target=target, **settings).fit(X)
    free = BernoulliRBM(50, **settings).fit(X)
    activation = rbm.transform(X).mean(0)
    assert abs(activation.mean() - target) < 0.02
    assert np.median(np.abs(activation - target)) < 0.02
    assert np.median(np.abs(free.transform(X).mean(0) - target)) > 0.03


def test_max_norm_caps_the_weights_of_each_hidden_unit():
    norms = np.linalg.norm(weights(max_norm=0.7).components_, axis=1)
    assert norms.max() < 0.7 + 1e-6
    assert np.linalg.norm(weights().components_, axis=1).max() > 1


@pytest.mark.parametrize(
    ("schedule", "by_hand"),
    [
        (
            {"learning_rate_schedule": "linear"},
            [{"learning_rate": r} for r in (0.8, 0.6, 0.4, 0.2)],
        ),
        (
            {"learning_rate_schedule": "invscaling"},
            [{"learning_rate": 0.8 / np.sqrt(epoch)} for epoch in (1, 2, 3, 4)],
        ),
        (
            {"momentum": 0.9, "momentum_ramp": 2},
            [{"momentum": momentum} for momentum in (0.3, 0.6, 0.9, 0.9)],
        ),
    ],
    ids=["linear", "invscaling", "ramp"],
)
def test_a_schedule_is_what_setting_the_rates_by_hand_is(schedule, by_hand):
    X, settings = rows_with_mean(50), {"learning_rate": 0.8, "random_state": 0}
    rbm = BernoulliRBM(5, n_iter=4, **schedule, **settings).fit(X)
    steps = BernoulliRBM(5, **settings)
    for params in by_hand:
        steps.set_params(**params).partial_fit(X)
    assert_allclose(steps.components_, rbm.components_, rtol=1e-9)
    assert (
        np.abs(rbm.components_ - BernoulliRBM(5, n_iter=4, **settings).fit(X).components_).max()
        > 0.01
    )


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_model_of_any_temperature_reproduces_the_data(temperature):
    X = rows_with_mean(200)
    settings = {"gradient": Exact(), "n_iter": 200, "learning_rate": 0.05, "random_state": 0}
    rbm = BernoulliRBM(3, temperature=temperature, **settings).fit(X)
    v = np.array(list(np.ndindex(2, 2, 2, 2)), dtype=float)
    W, b, c = rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_
    field = c + v @ W.T
    free_energy = -v @ b - temperature * np.logaddexp(0, field / temperature).sum(1)
    assert_allclose(rbm.free_energy(v), free_energy, rtol=1e-10)
    assert_allclose(rbm.transform(v), 1 / (1 + np.exp(-field / temperature)), rtol=1e-10)
    p = np.exp(-free_energy / temperature)
    p /= p.sum()
    assert_allclose(p @ v, X.mean(0), atol=0.01)
    assert_allclose(rbm.sample(20_000, n_steps=50).mean(0), X.mean(0), atol=0.02)
    H = rbm.transform(v)
    expected = 1 / (1 + np.exp(-(b + H @ W) / temperature))
    assert_allclose(rbm.inverse_transform(H), expected, rtol=1e-10)
    plain = BernoulliRBM(3, **settings).fit(X)
    assert_allclose(W, temperature * plain.components_, rtol=1e-6)


def test_the_variance_of_a_gaussian_rbm_is_its_temperature():
    X = np.random.default_rng(0).normal([5.0, -2.0], 2, size=(500, 2))
    rbm = GaussianRBM(2, temperature=4.0, variance="unit", n_iter=20, random_state=0)
    rbm.set_params(learning_rate=0.01, batch_size=10).fit(X)
    assert_allclose(rbm.variances_, 4)
    drawn = rbm.sample(4000, n_steps=50)
    assert_allclose(drawn.mean(0), X.mean(0), atol=0.3)
    assert_allclose(drawn.std(0), 2, atol=0.3)
    H = rbm.transform(X)
    expected = rbm.intercept_visible_ + H @ rbm.components_
    assert_allclose(rbm.inverse_transform(H), expected, rtol=1e-10)


def test_early_stopping_stops_after_so_many_bad_epochs_and_keeps_the_best(digits):
    X = digits[0][:300]
    settings = {"n_iter": 200, "learning_rate": 0.3, "random_state": 0, "early_stopping": True}
    rbm = BernoulliRBM(100, n_iter_no_change=4, tol=0.0, **settings).fit(X)
    scores = rbm.history_["validation_score"]
    assert 5 < rbm.n_iter_ == len(scores) < 200
    assert scores.argmax() == len(scores) - 5  # four bad epochs after the best, no more
    best = BernoulliRBM(100, n_iter_no_change=500, **settings)
    best.set_params(n_iter=int(scores.argmax()) + 1).fit(X)
    assert_array_equal(best.components_, rbm.components_)
    assert_array_equal(best.h_samples_, rbm.h_samples_)
    strict = BernoulliRBM(100, n_iter_no_change=4, tol=1e9, **settings).fit(X)
    assert strict.n_iter_ == 5
    assert rbm.partial_fit(X).n_iter_ == len(scores) + 1


def test_the_scale_goes_back_to_the_best_epoch_too():
    X = np.random.default_rng(0).normal(size=(200, 4)) * 3
    settings = {"learning_rate": 0.3, "learning_rate_schedule": "constant", "random_state": 0}
    rbm = GaussianRBM(8, early_stopping=True, n_iter=60, **settings).fit(X)
    best = int(rbm.history_["validation_score"].argmax()) + 1
    assert best < rbm.n_iter_
    again = GaussianRBM(8, early_stopping=True, n_iter=best, n_iter_no_change=99, **settings)
    assert_array_equal(again.fit(X).log_scales_, rbm.log_scales_)
    assert_array_equal(again.score_samples(X), rbm.score_samples(X))


def test_held_out_rows_are_not_trained_on_and_weights_count_in_their_score():
    X = rows_with_mean(60)
    settings = {"n_iter": 1, "early_stopping": True, "validation_fraction": 0.5, "random_state": 0}
    plain = BernoulliRBM(3, **settings).fit(X)
    # The held-out rows are those whose weight changes nothing but the score.
    seed = int(plain.training_progress_["held_out_seed"])
    train, held_out = train_test_split(np.arange(60), test_size=0.5, random_state=seed)
    weight = np.ones(60)
    weight[held_out[:5]] = 7
    weighted = BernoulliRBM(3, **settings).fit(X, sample_weight=weight)
    assert_array_equal(weighted.components_, plain.components_)
    scores = [fit.history_["validation_score"][-1] for fit in (plain, weighted)]
    samples = plain.score_samples(X[held_out])
    assert_allclose(scores[0], samples.mean())
    assert_allclose(scores[1], np.average(samples, weights=weight[held_out]))
    assert scores[0] != scores[1]
    weight[train[:5]] = 7
    other = BernoulliRBM(3, **settings).fit(X, sample_weight=weight)
    assert np.abs(other.components_ - plain.components_).max() > 1e-4


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_every_precision_learns_and_evaluation_is_always_exact(precision, digits):
    X = np.tile(digits[0], (1, 12)).astype(np.float32)
    rbm = BernoulliRBM(128, batch_size=128, n_iter=3, precision=precision, random_state=0).fit(X)
    W, c = rbm.components_.astype(np.float64), rbm.intercept_hidden_
    assert_allclose(rbm.transform(X), 1 / (1 + np.exp(-(c + X @ W.T))), atol=1e-5)
    start = BernoulliRBM(128, n_iter=0, random_state=0).fit(X)
    assert rbm.history_["reconstruction_error"][-1] < 0.06
    assert np.abs(W - start.components_).max() > 0.1


# Warnings and errors


@pytest.mark.parametrize("low_high", [(0, 255), (-1, 1)])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_one_warning_for_values_outside_the_unit_interval(low_high, container):
    X = container(np.random.default_rng(0).uniform(*low_high, size=(50, 3)).round(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        BernoulliRBM(2, n_iter=3).fit(X)
    (warning,) = [w for w in caught if "models values between" in str(w.message)]
    assert "MinMaxScaler" in str(warning.message)
    assert "GaussianRBM" in str(warning.message)
    assert warning.filename.endswith("test_base.py")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianRBM(2, n_iter=3).fit(X)
        BernoulliRBM(2, n_iter=3).fit(np.random.default_rng(0).integers(2, size=(9, 3)) > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_divergence_is_an_error_that_names_the_epoch(dtype, digits):
    X = digits[0].astype(dtype)
    rbm = GaussianRBM(20, learning_rate=1e6, max_grad_norm=None)
    with pytest.raises(ValueError, match=r"diverged in epoch 1: .*learning_rate.*1000000"):
        rbm.fit(X)
    assert not hasattr(rbm, "components_")
    rbm.set_params(learning_rate=0.01, n_iter=1, warm_start=True, random_state=0).fit(X)
    before = copy.deepcopy(rbm)
    with pytest.raises(ValueError, match="diverged in epoch 2"):
        rbm.set_params(learning_rate=1e6).fit(X)
    assert_array_equal(rbm.components_, before.components_)
    assert rbm.n_iter_ == 1


# Sampling


def test_gibbs_counts_its_steps_and_samples_come_from_the_model():
    rbm = weights()
    X = np.tile(BARS_AND_STRIPES[:1], (4000, 1))
    near, far = rbm.gibbs(X), rbm.gibbs(X, n_steps=300)
    assert near.mean() < far.mean()
    for drawn in (far, rbm.sample(4000, n_steps=300)):
        error = np.abs(drawn.mean(0) - model_mean(rbm))
        assert error.max() < 5 * 0.5 / np.sqrt(4000)
    assert not np.array_equal(rbm.sample(20), rbm.sample(20))


def test_samples_of_a_gaussian_rbm_have_its_mean_and_spread():
    rng = np.random.default_rng(0)
    X = rng.normal([5.0, -2.0], 1, size=(500, 2))
    rbm = GaussianRBM(2, n_iter=10, random_state=0).fit(X)
    drawn = rbm.sample(4000, n_steps=50)
    assert_allclose(drawn.mean(0), X.mean(0), atol=0.15)
    assert_allclose(drawn.std(0), 1, atol=0.15)


@pytest.mark.parametrize(
    "rbm",
    [
        BernoulliRBM(3, temperature=2.0),
        GaussianRBM(3),
        GaussianRBM(3, hidden="spin"),
        GaussianRBM(3, hidden="nrelu"),
        PoissonRBM(3),
        RBMClassifier(3),
        ConvRBM(2, kernel_size=2),
        ConvRBM(2, kernel_size=2, pool_size=2),
    ],
    ids=str,
)
def test_fields_are_the_features_before_the_mean(rbm):
    X = (np.random.default_rng(0).random((40, 16)) < 0.4).astype(float)
    rbm.set_params(random_state=0, n_iter=3).fit(X, np.arange(40) % 2)
    means = rbm.transform(X)
    back = rbm.inverse_transform(means)
    fields = rbm.set_params(output="field").transform(X)
    if not isinstance(rbm, ConvRBM):
        v = X
        if isinstance(rbm, GaussianRBM):
            v = (X - rbm.location_) / rbm.scale_ / np.exp(rbm.log_scales_)
        field = v @ rbm.components_.T + rbm.intercept_hidden_
        assert_allclose(fields, field / rbm.temperature, rtol=1e-9)
    hidden = getattr(rbm, "hidden", "bernoulli")
    if hidden != "nrelu" and not isinstance(rbm, RBMClassifier):  # the mean is one over classes
        assert_allclose(means, np.tanh(fields) if hidden == "spin" else expit(fields), rtol=1e-9)
    assert_allclose(rbm.inverse_transform(fields), back, rtol=1e-9)


def test_a_stack_refuses_layers_whose_features_are_fields():
    for layer in (GaussianRBM(3, output="field"), FrozenEstimator(GaussianRBM(3, output="field"))):
        with pytest.raises(ValueError, match=r'layers: .*has output="field".*set output="mean"'):
            DBN([layer, 2]).fit(np.random.default_rng(0).normal(size=(20, 4)))


def test_inverse_transform_is_the_mean_of_the_visible_units():
    rbm = weights()
    H = rbm.transform(BARS_AND_STRIPES)
    expected = 1 / (1 + np.exp(-(rbm.intercept_visible_ + H @ rbm.components_)))
    assert_allclose(rbm.inverse_transform(H), expected, rtol=1e-12)
    gaussian = GaussianRBM(3, n_iter=1).fit(BARS_AND_STRIPES)
    H = gaussian.transform(BARS_AND_STRIPES)
    expected = gaussian.means_ + H @ gaussian.components_ * np.sqrt(gaussian.variances_)
    assert_allclose(gaussian.inverse_transform(H), expected, rtol=1e-12)


# With the rest of scikit-learn


def pipeline(**params):
    rbm = BernoulliRBM(n_components=20, n_iter=2, random_state=0, **params)
    return Pipeline([("rbm", rbm), ("clf", LogisticRegression(max_iter=200))])


def test_grid_search_gives_the_same_results_with_two_jobs(digits):
    X, y = digits[0][:300], digits[1][:300]
    grid = {
        "rbm__n_components": [10, 20],
        "rbm__learning_rate": [0.05, 0.1],
        "rbm__gradient__n_steps": [1, 2],
    }
    searches = [
        GridSearchCV(pipeline(gradient=PCD()), grid, cv=2, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    ]
    one, two = (search.cv_results_ for search in searches)
    assert_array_equal(one["mean_test_score"], two["mean_test_score"])
    assert len(set(one["mean_test_score"])) > 4
    assert searches[0].best_params_ == searches[1].best_params_
    assert_array_equal(
        searches[0].best_estimator_["rbm"].components_,
        searches[1].best_estimator_["rbm"].components_,
    )


def test_grid_search_needs_no_labels_and_no_scorer(digits):
    search = GridSearchCV(BernoulliRBM(8, random_state=0), {"n_iter": [1, 10]}, cv=2)
    search.fit(digits[0])
    assert search.best_params_ == {"n_iter": 10}


def test_sample_weight_is_routed(digits):
    import sklearn

    X, y = digits[0][:100], digits[1][:100]
    weight = np.arange(100) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(
            BernoulliRBM(5, n_iter=2, random_state=0).set_fit_request(sample_weight=True),
            LogisticRegression(max_iter=200).set_fit_request(sample_weight=False),
        )
        model.fit(X, y, sample_weight=weight)
    direct = BernoulliRBM(5, n_iter=2, random_state=0).fit(X, sample_weight=weight)
    assert_array_equal(model[0].components_, direct.components_)


def test_callbacks_see_every_epoch_and_the_model_as_it_is_then():
    callback = RecordingCallback()
    rbm = BernoulliRBM(3, n_iter=4, random_state=0).set_callbacks(callback)
    rbm.fit(BARS_AND_STRIPES)
    assert callback.count_hooks("setup") == callback.count_hooks("teardown") == 1
    assert callback.count_hooks("on_fit_task_begin") == 5  # the fit and its epochs
    ends = [r for r in callback.record if r["name"] == "on_fit_task_end"]
    models = [r["kwargs"]["fitted_estimator"] for r in ends[:4]]
    assert [model.n_iter_ for model in models] == [1, 2, 3, 4]
    for n_iter, model in enumerate(models, start=1):
        same = BernoulliRBM(3, n_iter=n_iter, random_state=0).fit(BARS_AND_STRIPES)
        assert_array_equal(model.components_, same.components_)


def test_what_a_callback_draws_does_not_change_the_fit():
    class Sampling(RecordingCallback):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            fitted_estimator.sample(3, n_steps=1)

    alone = BernoulliRBM(3, n_iter=4, random_state=0).fit(BARS_AND_STRIPES)
    watched = BernoulliRBM(3, n_iter=4, random_state=0).set_callbacks(Sampling())
    assert_array_equal(watched.fit(BARS_AND_STRIPES).components_, alone.components_)


def test_a_callback_can_stop_the_fit():
    rbm = BernoulliRBM(3, n_iter=4).set_callbacks(StopFitCallback()).fit(BARS_AND_STRIPES)
    assert rbm.n_iter_ == 1


def test_a_failing_callback_leaves_nothing_behind():
    class Failing(RecordingCallback):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("stop")

    rbm = BernoulliRBM(3, n_iter=4).set_callbacks(Failing())
    with pytest.raises(RuntimeError, match="stop"):
        rbm.fit(BARS_AND_STRIPES)
    assert not [name for name in vars(rbm) if name.endswith("_")]
    assert not hasattr(rbm, "_callback_fit_ctx")


@pytest.mark.parametrize("place", ["estimator", "pipeline", "search"])
def test_progress_bars_work_everywhere(place, capsys, digits):
    X, y = digits[0][:100], digits[1][:100]
    if place == "estimator":
        model = BernoulliRBM(3, n_iter=2)
    elif place == "pipeline":
        model = pipeline()
    else:
        model = GridSearchCV(pipeline(), {"rbm__n_components": [2, 3]}, cv=2)
    with warnings.catch_warnings():
        # Pipelines say of every step whether it supports callbacks.
        warnings.simplefilter("ignore")
        model.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    out = capsys.readouterr().out
    assert "BernoulliRBM - fit" in out
    assert "100%" in out


# Size


@pytest.mark.slow
def test_two_gigabytes_of_bytes_are_never_held_in_memory(tmp_path):
    import subprocess
    import sys

    code = """
import sys, threading, time, warnings
import numpy as np
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 2**20
peak = 0.0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
from skebm import BernoulliRBM
X = np.load(sys.argv[1], mmap_mode="r")
rbm = BernoulliRBM(16, batch_size=5000, n_iter=1, random_state=0).fit(X)
assert np.abs(rbm.components_).max() > 0
print(X.nbytes / 2**30, peak)
"""
    path = tmp_path / "X.npy"
    shape = (2_700_000, 800)
    X = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    rng = np.random.default_rng(0)
    for first in range(0, shape[0], 100_000):
        X[first : first + 100_000] = rng.integers(2, size=(100_000, shape[1]), dtype=np.uint8)
    X.flush()
    del X
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    size, peak = map(float, run.stdout.split())
    print(f"{size:.2f} GiB of rows, at most {peak:.2f} GiB of anonymous memory")
    assert size > 2
    assert peak < 1


def test_the_doc_names_every_parameter():
    for Estimator in (BernoulliRBM, DropoutRBM, GaussianRBM):
        documented = re.findall(r"^    (\w+) : ", Estimator.__doc__, re.MULTILINE)
        params = list(inspect.signature(Estimator).parameters)
        assert documented[: len(params)] == params
        fitted = set(vars(Estimator(2, n_iter=1).fit(BARS_AND_STRIPES)))
        assert {name for name in fitted if name.endswith("_")} <= set(documented)


def test_a_pickle_of_another_form_is_refused_by_name():
    rbm = BernoulliRBM(2, n_iter=1).fit(np.eye(3))
    state = rbm.__getstate__()
    assert state.pop("_format") == 3
    with pytest.raises(ValueError, match=r"another version of skebm.* form 1.*Fit it"):
        BernoulliRBM().__setstate__(state)
    unfitted = {name: value for name, value in state.items() if not name.endswith("_")}
    again = BernoulliRBM()
    again.__setstate__(unfitted)
    assert again.n_components == 2


@pytest.mark.parametrize("Estimator", [BernoulliRBM, GaussianRBM])
@pytest.mark.parametrize(("before", "after"), [(2.0, 1.0), (2.0, 4.0), (1.0, 0.5), (0.7, 0.7)])
def test_training_goes_on_from_the_attributes_at_any_temperature(Estimator, before, after):
    X = rows_with_mean(50)
    rbm = Estimator(3, n_iter=3, temperature=before, warm_start=True, random_state=0).fit(X)
    given = np.full((3, 4), 5.0), np.full(4, -2.0)
    for weights, biases in ((rbm.components_, rbm.intercept_visible_), given):
        rbm.components_, rbm.intercept_visible_ = weights, biases
        rbm.set_params(temperature=after, learning_rate=1e-12, n_iter=1).fit(X)
        assert_allclose(rbm.components_, weights, rtol=1e-6)
        assert_allclose(rbm.intercept_visible_, biases, rtol=1e-6)


@pytest.mark.parametrize(
    ("Estimator", "fitted", "changed"),
    [
        (GaussianRBM, {"variance": "learned"}, {"variance": "fixed"}),
        (GaussianRBM, {"variance": "fixed"}, {"variance": "learned"}),
        (BernoulliRBM, {"visible": "bernoulli"}, {"visible": "spin"}),
        (BernoulliRBM, {"hidden": "bernoulli"}, {"hidden": "relu"}),
        (ConvRBM, {"visible": "bernoulli"}, {"visible": "gaussian"}),
        (ConvRBM, {"kernel_size": 2}, {"kernel_size": 1}),
        (TabularRBM, {"kinds": "auto"}, {"kinds": {0: "gaussian"}}),
        (TabularRBM, {"numbers": "binned"}, {"numbers": "gaussian"}),
        (TabularRBM, {"numbers": "binned"}, {"n_bins": 5}),
    ],
    ids=str,
)
def test_another_model_cannot_continue_training(Estimator, fitted, changed):
    X = rows_with_mean(20)
    rbm = Estimator(2, n_iter=1, warm_start=True, random_state=0, **fitted).fit(X)
    expected = pickle.dumps(rbm.components_)
    rbm.set_params(**changed)
    (name,) = changed
    for train in (rbm.fit, rbm.partial_fit):
        with pytest.raises(ValueError, match=rf"{name}=.* differs from the .* fit a new model"):
            train(X)
        assert pickle.dumps(rbm.components_) == expected
    rbm.set_params(warm_start=False).fit(X)


@pytest.mark.parametrize(("n_components", "atol"), [(5, 1e-4), (14, 0.3)])
@pytest.mark.parametrize("Estimator", [GaussianRBM, PoissonRBM])
def test_early_stopping_watches_the_likelihood(Estimator, n_components, atol):
    X = np.random.default_rng(0).poisson(4, size=(200, 6)) / 1.0
    rbm = Estimator(n_components, n_iter=3, early_stopping=True, tol=0.0, random_state=0).fit(X)
    scores = rbm.history_["validation_score"]
    rbm.set_params(n_iter=int(scores.argmax()) + 1).fit(X)  # ends with the best epoch
    seed = rbm.training_progress_["held_out_seed"]
    _, held_out = train_test_split(X, test_size=0.1, random_state=seed)
    expected = log_likelihood(rbm, held_out).mean()
    assert_allclose(rbm.history_["validation_score"][-1], expected, atol=atol)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_row_has_no_scale(method):
    y, X = [1.0], np.array([[1.0, 2.0]])
    table = pd.DataFrame({"a": [1.5], "b": [30.0]})
    for fit in (
        lambda: getattr(GaussianRBM(2), method)(X),
        lambda: getattr(GaussianRBM(2), method)(X[[0, 0]], sample_weight=[2.0, 0.0]),
        lambda: getattr(TabularRBM(2), method)(table),
        lambda: getattr(DBNRegressor([2], n_iter=1), method)(X, y),
    ):
        with pytest.raises(ValueError, match="1 sample has no standard deviation"):
            fit()
    getattr(GaussianRBM(2, variance="unit"), method)(X)


@pytest.mark.parametrize("total", [1e-15, 1e15])
def test_the_scale_does_not_depend_on_the_sum_of_the_weights(total):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(5, 2, size=(30, 3)), rng.uniform(0.5, 2, size=30)
    X[:, 0] = 1 / 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rbm = GaussianRBM(2, n_iter=1).fit(X, sample_weight=weight * total)
        expected = GaussianRBM(2, n_iter=1).fit(X, sample_weight=weight)
    assert_allclose(rbm.scale_, expected.scale_)
    assert rbm.scale_[0] == 1


@pytest.mark.parametrize(
    ("rbm", "X", "advice"),
    [
        (BernoulliRBM(2, n_iter=1), [[-1.0, 1.0], [1.0, 1.0]], 'set visible="spin"'),
        (BernoulliRBM(2, n_iter=1), [[0.0, 2.0], [1.0, 1.0]], "MinMaxScaler"),
        (BernoulliRBM(2, n_iter=1, visible="spin"), [[0.0, 1.0]], 'set visible="bernoulli"'),
    ],
    ids=str,
)
@pytest.mark.parametrize("convert", [np.array, sparse.csr_array])
def test_values_outside_of_the_support_give_a_warning_everywhere(rbm, X, advice, convert):
    X = convert(X)
    with pytest.warns(UserWarning, match=advice):
        rbm = clone(rbm).fit(X)
    for method in (rbm.transform, rbm.score_samples, rbm.gibbs, rbm.partial_fit):
        with pytest.warns(UserWarning, match=advice):
            method(X)


@pytest.mark.parametrize(
    "estimator",
    [
        BernoulliRBM(2, n_iter=3),
        TabularRBM(2, n_iter=3),
        RBMClassifier(2, n_iter=3),
        DBNClassifier([2], n_iter=3),
        DBNRegressor([2], n_iter=3),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_callbacks_are_given_what_the_fit_was_given(estimator):
    X, weight = rows_with_mean(40), np.arange(40) % 3
    y = X[:, 0] if isinstance(estimator, DBNRegressor) else X[:, 0] > 0
    calls = []

    class Given(RecordingCallback):
        def on_fit_task_end(
            self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
        ):
            if context.task_name == "epoch":
                calls.append((X, y, metadata["sample_weight"]))

    estimator = clone(estimator)
    monitor = ScoringMonitor(scoring=lambda m, X, y, **kw: {"own": m.score(X, y, **kw)})
    estimator.set_callbacks(Given(), monitor).fit(X, y, sample_weight=weight)
    assert len(calls) == 3
    assert all(a is b for call in calls for a, b in zip(call, (X, y, weight)))
    epochs = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert_allclose(epochs[-1]["own"], estimator.score(X, y, sample_weight=weight))


def test_errors_of_reconstruction_are_in_the_units_of_the_data():
    X = np.random.default_rng(0).normal(size=(100, 3))
    small, large = (GaussianRBM(2, n_iter=3, random_state=0).fit(k * X) for k in (1, 1000))
    ratio = large.history_["reconstruction_error"] / small.history_["reconstruction_error"]
    assert_allclose(ratio, 1e6, rtol=1e-3)
    error = np.square(X - small.inverse_transform(small.transform(X))).mean()
    assert_allclose(small.history_["reconstruction_error"][-1], error, rtol=0.05)


def test_what_cannot_be_held_back_is_said():
    X = rows_with_mean(3)
    with pytest.raises(ValueError, match=r"validation_fraction=0.01 of 1 rows cannot be"):
        BernoulliRBM(2, early_stopping=True, validation_fraction=0.01).fit(X[:1])
    with pytest.raises(ValueError, match="with rows of every class on both sides"):
        RBMClassifier(2, early_stopping=True).fit(X, [0, 1, 2])


def test_balanced_classes_need_a_weight():
    X = rows_with_mean(6)
    clf = RBMClassifier(2, class_weight="balanced")
    with pytest.raises(ValueError, match=r"positive weight of every class; \[1\] have none"):
        clf.fit(X, [0, 0, 0, 0, 1, 1], sample_weight=[1, 1, 1, 1, 0, 0])


def test_large_integer_weights_are_relative():
    X, weight = rows_with_mean(40), np.arange(1, 41)
    settings = {"n_components": 3, "n_iter": 2, "random_state": 0}
    large = BernoulliRBM(**settings).fit(X, sample_weight=weight * 10.0**9)
    relative = BernoulliRBM(**settings).fit(X, sample_weight=weight * np.pi)
    assert_allclose(large.components_, relative.components_, rtol=1e-4)
    begin = time.perf_counter()
    RBMClassifier(2, n_iter=1, class_weight={True: 10**9}).fit(X, X[:, 0] > 0)
    assert time.perf_counter() - begin < 5


def test_equal_rows_of_different_weights_may_come_in_any_order():
    X = np.repeat(np.eye(4), 5, axis=0)
    rng = np.random.default_rng(0)
    weight, order = rng.uniform(0.5, 2, size=20), rng.permutation(20)
    settings = {"n_components": 3, "n_iter": 3, "random_state": 0, "batch_size": 4}
    rbm = BernoulliRBM(**settings).fit(X, sample_weight=weight)
    other = BernoulliRBM(**settings).fit(X[order], sample_weight=weight[order])
    assert_array_equal(other.components_, rbm.components_)


@pytest.mark.parametrize("gradient", ["cd", "pcd", "pt", PCD(n_chains=6)], ids=str)
@pytest.mark.parametrize("Estimator", [BernoulliRBM, DropoutRBM])
def test_a_batch_is_not_larger_than_the_data(Estimator, gradient):
    X = rows_with_mean(12)
    settings = {"n_components": 3, "gradient": gradient, "random_state": 0}
    large = Estimator(batch_size=20_000, n_iter=4, **settings)
    if Estimator is DropoutRBM and isinstance(gradient, PCD):
        with pytest.raises(ValueError, match="n_chains=6"):
            large.fit(X)
        return
    exact = Estimator(batch_size=12, n_iter=4, **settings)
    assert_array_equal(large.fit(X).components_, exact.fit(X).components_)
    parts = Estimator(batch_size=20_000, **settings)
    for n in (12, 5, 12, 7):  # the chains go on, whatever the number of rows
        parts.partial_fit(X[:n])
    if gradient == "pcd":
        assert len(parts.h_samples_) == 7
    assert np.isfinite(parts.components_).all()


def test_the_names_of_gradients_take_nested_settings():
    rbm = clone(BernoulliRBM(3, n_iter=1)).set_params(gradient__n_steps=4)
    assert rbm.gradient.get_params() == {"n_steps": 4, "n_chains": None}
    search = GridSearchCV(BernoulliRBM(3, n_iter=1), {"gradient__n_steps": [1, 2]}, cv=2)
    assert search.fit(BARS_AND_STRIPES).best_estimator_.gradient.n_steps in (1, 2)
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        BernoulliRBM().set_params(gradient__nothing=4)


def test_missing_entries_are_refused_with_advice():
    with pytest.raises(
        ValueError, match=r"missing entries \(NaN\), which BernoulliRBM .*RBMImputer"
    ):
        BernoulliRBM().fit([[0.0, np.nan]])


@pytest.mark.parametrize(
    ("Estimator", "rate"), [(BernoulliRBM, 1e6), (GaussianRBM, 3.0), (TabularRBM, 3.0)]
)
def test_a_fit_that_is_worse_than_the_means_says_so(Estimator, rate):
    X = rows_with_mean(100)
    rbm = Estimator(5, n_iter=5, gradient="pcd", max_grad_norm=None, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rbm.set_params(learning_rate=0.02).fit(X)
    rbm.set_params(learning_rate=rate)
    with pytest.warns(ConvergenceWarning, match="has not converged: the mean squared error"):
        rbm.fit(X)


def test_a_pickle_has_the_version_of_the_package():
    assert __version__.encode() in pickle.dumps(BernoulliRBM())
