"""Likelihoods of fitted estimators, beside enumeration written out in numpy."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skebm import (
    BernoulliRBM,
    CategoricalRBM,
    GaussianRBM,
    LogPartition,
    log_likelihood,
    log_partition,
    pseudo_likelihood,
)
from tests.conftest import exact_log_z
from tests.test_callbacks import Stop

ROWS = np.array(list(np.ndindex(*[2] * 6)), dtype=float)


def fitted(Estimator=BernoulliRBM, n_components=5, **params):
    X = (np.random.default_rng(0).uniform(size=(60, 6)) < [0.1, 0.3, 0.5, 0.5, 0.7, 0.9]) * 1.0
    settings = {"n_iter": 30, "learning_rate": 0.2, "random_state": 0} | params
    if Estimator is GaussianRBM:
        X, settings["learning_rate"] = X * 2 - 1, 0.02
    return Estimator(n_components, **settings).fit(X)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_log_likelihoods_sum_to_one(temperature):
    rbm = fitted(temperature=temperature)
    log_p = log_likelihood(rbm, ROWS)
    assert log_p.dtype == np.float64
    assert_allclose(logsumexp(log_p), 0, atol=1e-9)
    assert_allclose(log_likelihood(rbm, ROWS, log_z=log_partition(rbm).value), log_p)


@pytest.mark.parametrize("Estimator", [BernoulliRBM, GaussianRBM])
def test_every_method_finds_the_partition_function(Estimator):
    rbm = fitted(Estimator)
    expected = exact_log_z(rbm)
    exact = log_partition(rbm)
    assert (exact.method, exact.stderr, exact.ess) == ("exact", 0, np.inf)
    for value in (exact.value, exact.lower, exact.upper):
        assert_allclose(value, expected)
    ais = log_partition(rbm, method="ais", betas=100, random_state=0)
    assert 0 < ais.stderr < 0.1
    assert abs(ais.value - expected) < 4 * ais.stderr
    assert_allclose([ais.upper - ais.value, ais.value - ais.lower], 1.96 * ais.stderr)
    assert 50 < ais.ess <= 100
    samples = rbm.sample(200, n_steps=200, random_state=0)
    for given in (None, samples):
        bracket = log_partition(rbm, method="bracket", betas=50, samples=given, random_state=0)
        assert bracket.lower < expected < bracket.upper < bracket.lower + 1


def test_error_bars_cover_the_truth_as_often_as_they_say():
    rbm = fitted(n_components=4)
    expected, inside, errors = exact_log_z(rbm), 0, []
    levels = np.linspace(0, 1, 11)
    for seed in range(200):
        found = log_partition(rbm, method="ais", betas=levels, random_state=seed)
        inside += found.lower <= expected <= found.upper
        errors.append((found.value - expected) / found.stderr)
    assert 0.9 <= inside / 200 <= 0.995
    assert 0.85 < np.std(errors) < 1.2


def test_mean_field_chains_do_not_touch_the_estimate():
    rbm = fitted(visible="mean")
    found = log_partition(rbm, method="ais", betas=100, n_chains=1000, random_state=0)
    assert abs(found.value - exact_log_z(rbm)) < 4 * found.stderr < 0.1


@pytest.mark.parametrize("betas", [2, [0, 1], 4, 101])
def test_any_number_of_levels_is_right_on_average(betas):
    rbm = fitted(n_components=3, n_iter=5)
    found = log_partition(rbm, method="ais", betas=betas, n_chains=5000, random_state=0)
    assert abs(found.value - exact_log_z(rbm)) < 4 * found.stderr < 0.2


def test_seeds_fix_the_estimate_and_leave_the_estimator_alone():
    rbm = fitted()
    state = rbm.random_state_.get_state()[1].copy()
    first, again, other = (
        log_partition(rbm, method="ais", betas=20, random_state=s).value for s in (0, 0, 1)
    )
    assert first == again != other
    assert_array_equal(rbm.random_state_.get_state()[1], state)


def test_too_few_effective_samples_are_warned_of():
    rbm = fitted(n_components=50)
    rbm.components_ *= 5
    with pytest.warns(ConvergenceWarning, match=r"effective sample size is .* Pass larger betas"):
        log_partition(rbm, method="ais", betas=2, n_chains=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_partition(rbm, method="ais", betas=500, random_state=0)


def test_an_estimate_prints_itself_in_a_line():
    estimate = LogPartition(12.345, 0.05, 63.0, 12.25, 12.44, "ais")
    expected = "log Z = 12.35 ± 0.05 nats (ais: 12.25 to 12.44, effective sample size 63)"
    assert str(estimate) in (expected, expected.replace("12.35", "12.34"))
    assert str(log_partition(fitted())).endswith("nats (exact)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "guess"}, "'method' parameter of log_partition"),
        ({"betas": 1}, "'betas' parameter of log_partition"),
        ({"n_chains": 1}, "'n_chains' parameter of log_partition"),
        ({"betas": [0, 0.5]}, "levels, from 0 to 1"),
        ({"betas": [0, 0.6, 0.5, 1]}, "must rise"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        log_partition(fitted(), **({"method": "ais"} | arguments))


def test_unfitted_and_unsupported_models_are_named():
    for function in (log_likelihood, pseudo_likelihood):
        with pytest.raises(NotFittedError):
            function(BernoulliRBM(), ROWS)
    with pytest.raises(NotFittedError):
        log_partition(BernoulliRBM())
    for function in (lambda e: log_likelihood(e, ROWS), log_partition):
        with pytest.raises(ValueError, match=r"such as BernoulliRBM .* got PCA"):
            function(PCA().fit(ROWS))
    with pytest.raises(ValueError, match="categorical rows, such as BernoulliRBM; got GaussianRBM"):
        pseudo_likelihood(fitted(GaussianRBM), ROWS)
    with pytest.raises(ValueError, match="To enumerate a layer"):
        log_partition(fitted(GaussianRBM, n_components=30), method="exact")


def test_pseudo_likelihood_is_exact_or_unbiased():
    rbm = fitted()
    log_p = log_likelihood(rbm, ROWS)
    place = [2 ** np.arange(5, -1, -1) @ (abs(row - np.eye(6)).T) for row in ROWS]
    other = log_p[np.array(place).astype(int)]  # (64, 6): each feature flipped
    expected = -np.logaddexp(0, other - log_p[:, None]).sum(1)
    assert_allclose(pseudo_likelihood(rbm, ROWS), expected)
    assert_allclose(pseudo_likelihood(rbm, ROWS, n_flips=6), expected)
    assert_allclose(pseudo_likelihood(rbm, ROWS, n_flips=99), expected)
    for n_flips in (1, 3):
        many = [pseudo_likelihood(rbm, ROWS, n_flips=n_flips, random_state=s) for s in range(400)]
        error = np.std(many, axis=0) / 20 + 1e-12
        assert np.abs((np.mean(many, axis=0) - expected) / error).max() < 4.5
        assert np.std(many, axis=0).max() > 0.01


def test_score_samples_of_real_valued_models_are_log_likelihoods():
    rbm = fitted(GaussianRBM)
    X = np.random.default_rng(1).normal(size=(20, 6))
    expected = -rbm.free_energy(X) - exact_log_z(rbm)
    assert_allclose(rbm.score_samples(X), expected)
    assert_allclose(rbm.score(X), expected.mean())
    weight = np.arange(20)
    assert_allclose(rbm.score(X, sample_weight=weight), np.average(expected, weights=weight))
    rbm.partial_fit(X)  # with another log Z
    assert_allclose(rbm.score_samples(X), -rbm.free_energy(X) - exact_log_z(rbm))
    wide = fitted(GaussianRBM, n_components=40)
    assert_array_equal(wide.score_samples(X), wide.score_samples(X))
    known = log_partition(wide, method="ais", random_state=5)
    error = wide.score_samples(X) - log_likelihood(wide, X, log_z=known)
    assert np.abs(error).max() < 5 * known.stderr


@pytest.mark.parametrize("change", [{"temperature": 2.0}, {"hidden": "spin"}, "weights"])
def test_scores_follow_a_change_of_the_model(change):
    X = np.random.default_rng(0).normal(size=(50, 3))
    rbm = GaussianRBM(2, n_iter=5, random_state=0).fit(X)
    before = rbm.score_samples(X)
    if change == "weights":
        rbm.components_ = rbm.components_ + 1.0
    else:
        rbm.set_params(**change)
    assert abs(rbm.score_samples(X) - before).max() > 0.01
    assert_allclose(rbm.score_samples(X), log_likelihood(rbm, X))


def test_scores_in_a_callback_are_those_of_the_epoch():
    class Score(Stop):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch":
                scores.append((fitted_estimator.score(X), log_likelihood(fitted_estimator, X)))

    scores, X = [], np.random.default_rng(0).normal(size=(50, 3))
    rbm = GaussianRBM(2, n_iter=3, warm_start=True, random_state=0).fit(X)
    rbm.score(X)
    rbm.set_callbacks(Score(0)).fit(X)
    assert len(scores) == 3
    for score, expected in scores:
        assert_allclose(score, expected.mean())


@pytest.mark.parametrize("temperature", [0.5, 3.0])
@pytest.mark.parametrize("variance", ["learned", "fixed"])
def test_densities_are_normalised_at_any_temperature(temperature, variance):
    X = np.random.default_rng(0).normal(5, 3, size=(200, 1))
    settings = {"temperature": temperature, "variance": variance, "learning_rate": 0.02}
    rbm = GaussianRBM(2, n_iter=10, random_state=0, **settings).fit(X)
    grid = np.linspace(-60, 70, 20_001)[:, None]
    density = np.exp(log_likelihood(rbm, grid))
    assert_allclose(np.trapezoid(density, grid[:, 0]), 1, rtol=1e-4)


def test_the_score_is_weighted():
    rbm, weight = fitted(), np.arange(len(ROWS))
    expected = np.average(rbm.score_samples(ROWS), weights=weight)
    assert_allclose(rbm.score(ROWS, sample_weight=weight), expected)
    assert abs(rbm.score(ROWS) - expected) > 1e-3


def test_a_bracket_has_the_smaller_of_two_sample_sizes():
    rbm = fitted(n_components=5)
    smaller = []
    for seed in range(10):
        settings = {"betas": 4, "n_chains": 30, "random_state": seed}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            forward = log_partition(rbm, method="ais", **settings).ess
            both = log_partition(rbm, method="bracket", **settings).ess
        assert both <= forward
        smaller.append(both < forward)
    assert any(smaller)


@pytest.mark.parametrize("betas", [[0, np.nan, 1], [0, 0.7, 0.2, 1], [0.1, 1]])
def test_levels_rise_from_zero_to_one(betas):
    with pytest.raises(ValueError, match="betas must"):
        log_partition(fitted(), method="ais", betas=betas)


def test_models_that_do_not_depend_on_the_level_have_a_log_partition():
    rbm = CategoricalRBM(2, n_iter=0, random_state=0).fit(np.zeros((5, 1)))  # one category
    found = log_partition(rbm, method="ais", betas=10, random_state=0)
    assert_allclose(found.value, log_partition(rbm, method="exact").value, atol=1e-5)


def test_unbounded_layers_have_a_finite_log_partition_before_training():
    X = np.random.default_rng(0).normal(size=(30, 5))
    rbm = GaussianRBM(20, hidden="relu", temperature=25.0, n_iter=0, random_state=0).fit(X)
    assert np.isfinite(rbm.score_samples(X)).all()


@pytest.mark.parametrize("kind", ["binary", "categorical", "gaussian"])
def test_wide_layers_have_an_estimate_and_no_exact_sum(kind):
    X = np.random.default_rng(0).integers(0, 2, size=(5, 1100))
    rbm = {
        "binary": BernoulliRBM(1100, n_iter=0, random_state=0),
        "categorical": CategoricalRBM(1100, n_iter=0, random_state=0),
        "gaussian": GaussianRBM(1100, n_iter=0, random_state=0),
    }[kind].fit(X)
    assert log_partition(rbm, betas=3, random_state=0).method == "ais"
    with pytest.raises(ValueError, match="To enumerate a layer"):
        log_partition(rbm, method="exact")
