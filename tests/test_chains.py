"""Samples, conditional samples and imputed values, beside enumeration."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

from skebm import (
    BernoulliRBM,
    GaussianRBM,
    autocorrelation_time,
    effective_sample_size,
    log_likelihood,
    r_hat,
)

ROWS = np.array(list(np.ndindex(2, 2, 2, 2)), dtype=float)
CODE = 2 ** np.arange(3, -1, -1)


@pytest.fixture(scope="module")
def rbm():
    X = np.repeat([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]], [30, 15, 5], axis=0)
    return BernoulliRBM(3, n_iter=60, learning_rate=0.3, random_state=0).fit(X)


def bimodal(share=0.8):
    """All features on with probability `share`, or all off; hardly anything between."""
    rbm = BernoulliRBM(4, n_iter=0, random_state=0).fit(np.array([[0.0] * 10, [1.0] * 10]))
    rbm.components_ = np.full((4, 10), 3.0)
    rbm.intercept_visible_ = np.full(10, -6.0)
    rbm.intercept_hidden_ = np.full(4, -15.0)
    log_p = log_likelihood(rbm, np.array([[0.0] * 10, [1.0] * 10]))
    tilt = (np.log(share / (1 - share)) - (log_p[1] - log_p[0])) / 10
    rbm.intercept_visible_ = rbm.intercept_visible_ + tilt
    return rbm


def probabilities(rbm):
    return np.exp(log_likelihood(rbm, ROWS))


def assert_drawn_from(drawn, p):
    """The rows drawn have the probabilities p of ROWS, within 4.5 standard errors."""
    share = np.bincount((drawn @ CODE).astype(int), minlength=16) / len(drawn)
    error = np.sqrt(p * (1 - p) / len(drawn)) + 1e-9
    assert np.abs((share - p) / error).max() < 4.5


@pytest.mark.parametrize("method", ["gibbs", "pt"])
def test_samples_have_the_law_of_the_model(rbm, method):
    drawn = rbm.sample(20_000, n_steps=60, method=method, random_state=0)
    assert_drawn_from(drawn, probabilities(rbm))


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_samples_at_another_temperature(rbm, temperature):
    log_p = -rbm.set_params(temperature=temperature).free_energy(ROWS) / temperature
    rbm.set_params(temperature=1.0)
    settings = {"temperature": temperature, "method": "pt", "random_state": 0}
    drawn = rbm.sample(20_000, n_steps=100, **settings)
    assert_drawn_from(drawn, np.exp(log_p - logsumexp(log_p)))


@pytest.mark.parametrize("clamped", [[True, False, True, False], [False, True, True, True]])
def test_conditional_samples_have_the_conditional_law(rbm, clamped):
    clamped = np.array(clamped)
    X = np.tile(ROWS, (1500, 1))
    drawn = rbm.gibbs(X, n_steps=100, clamped=clamped, random_state=0)
    assert_array_equal(drawn[:, clamped], X[:, clamped])
    joint = probabilities(rbm)
    for values in np.unique(ROWS[:, clamped], axis=0):
        fits = (ROWS[:, clamped] == values).all(1)
        conditional = np.where(fits, joint, 0)
        mine = (X[:, clamped] == values).all(1)
        assert_drawn_from(drawn[mine], conditional / conditional.sum())


def test_every_row_may_have_features_of_its_own_clamped(rbm):
    X = np.tile(ROWS, (50, 1))
    clamped = np.random.default_rng(0).uniform(size=X.shape) < 0.5
    drawn = rbm.gibbs(X, n_steps=5, clamped=clamped)
    assert_array_equal(drawn[clamped], X[clamped])
    assert (drawn != X).any()
    with pytest.raises(ValueError, match=r"clamped has the shape \(3,\)"):
        rbm.gibbs(X, clamped=[True, True, False])


def test_imputing_what_is_observed_is_the_identity(rbm):
    for method in ("mean", "sample", "mean_field"):
        assert_array_equal(rbm.impute(ROWS, 3, method=method), ROWS)


def test_imputed_means_and_samples_follow_the_conditional_law(rbm):
    joint = probabilities(rbm)
    missing = np.array([False, True, False, True])
    X = np.where(missing, np.nan, ROWS)
    expected = ROWS.copy()
    for row in expected:
        fits = (ROWS[:, ~missing] == row[~missing]).all(1)
        row[missing] = joint[fits] @ ROWS[fits][:, missing] / joint[fits].sum()
    filled = rbm.impute(X, 20_000, random_state=0)
    assert_array_equal(filled[:, ~missing], ROWS[:, ~missing])
    assert_allclose(filled, expected, atol=0.03)
    drawn = rbm.impute(np.tile(X, (4000, 1)), 100, method="sample", random_state=0)
    assert set(np.unique(drawn)) == {0, 1}
    mean = drawn.reshape(4000, 16, 4).mean(0)
    assert_allclose(mean, expected, atol=4.5 * 0.5 / np.sqrt(4000))
    near = rbm.impute(X, 50, method="mean_field", random_state=0)
    assert np.abs(near - expected).mean() < 0.2


def test_a_row_of_missing_values_becomes_a_sample(rbm):
    drawn = rbm.impute(np.full((20_000, 4), np.nan), 60, method="sample", random_state=0)
    assert_drawn_from(drawn, probabilities(rbm))


def test_tempering_finds_the_weights_of_far_modes_and_gibbs_does_not():
    rbm, shares = bimodal(0.8), {}
    exact = np.exp(log_likelihood(rbm, np.ones((1, 10)))[0])
    assert exact > 0.7
    for method in ("gibbs", "pt"):
        chains = rbm.sample_chains(
            50, n_steps=3000, method=method, init=np.zeros((50, 10)), random_state=0
        )
        shares[method] = (chains.draws[:, 500:].mean(2) > 0.5).mean()
    rows = np.array(list(np.ndindex(*[2] * 10)), dtype=float)
    expected = np.exp(log_likelihood(rbm, rows))[rows.mean(1) > 0.5].sum()
    assert abs(shares["pt"] - expected) < 0.03
    assert shares["gibbs"] < 0.3


def test_chains_are_what_sample_ends_with(rbm):
    for method in ("gibbs", "pt"):
        chains = rbm.sample_chains(7, n_steps=12, method=method, random_state=3)
        ends = rbm.sample(7, n_steps=12, method=method, random_state=3)
        assert_array_equal(chains.draws[:, -1], ends)
    assert_allclose([chains.betas[0], chains.betas[-1]], [1, 0])
    assert len(chains.swap_rates) == len(chains.betas) - 1
    assert 0.3 < chains.swap_rates.min() <= chains.swap_rates.max() <= 1


def test_chains_start_where_they_are_told(rbm):
    assert_array_equal(rbm.sample(16, n_steps=0, init=ROWS), ROWS)
    with pytest.raises(ValueError, match="init has 16 rows for 3 chains"):
        rbm.sample(3, init=ROWS)
    assert_array_equal(rbm.sample(5, random_state=1), rbm.sample(5, random_state=1))


def test_real_valued_models_are_sampled_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) + np.where(rng.uniform(size=(300, 1)) < 0.3, 2, -2)
    rbm = GaussianRBM(4, variance="unit", random_state=0).fit(X)
    # v is a mixture of 2^4 Gaussians of unit variance.
    h = np.array(list(np.ndindex(2, 2, 2, 2)))
    means = rbm.intercept_visible_ + h @ rbm.components_  # (16, 3)
    log_p = h @ rbm.intercept_hidden_ + np.square(means).sum(1) / 2
    expected = np.exp(log_p - logsumexp(log_p)) @ means
    drawn = rbm.sample(5000, n_steps=300, method="pt", init=np.full((5000, 3), 3.0), random_state=0)
    assert_allclose(drawn.mean(0), expected, atol=4.5 * drawn.std(0).max() / np.sqrt(5000))
    holes = X.copy()
    holes[:, 0] = np.nan
    error = np.square(rbm.impute(holes, 50, random_state=0) - X)[:, 0].mean()
    assert error < 1.6 < X[:, 0].var()


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_autocorrelation_time_of_an_ar_process(phi):
    rng = np.random.default_rng(0)
    x = np.zeros((4, 20_000))
    for t in range(1, x.shape[1]):
        x[:, t] = phi * x[:, t - 1] + rng.normal(size=4)
    tau = (1 + phi) / (1 - phi)
    assert_allclose(autocorrelation_time(x), tau, rtol=0.1)
    assert_allclose(effective_sample_size(x), x.size / tau, rtol=0.1)
    assert r_hat(x) < 1.01


def test_r_hat_shows_chains_that_differ_and_chains_that_drift():
    x = np.random.default_rng(0).normal(size=(4, 1000))
    assert abs(r_hat(x) - 1) < 0.01
    assert r_hat(x + np.array([[0], [0], [0], [2]])) > 1.2
    assert r_hat(x + np.linspace(0, 3, 1000)) > 1.2
    assert r_hat(np.zeros((2, 10))) == 1
    assert r_hat(np.array([[0.0] * 10, [1.0] * 10])) == np.inf
    assert autocorrelation_time(np.zeros((2, 10))) == np.inf
    apart = x + np.array([[0], [0], [0], [20]])
    assert effective_sample_size(apart) < 50
    with pytest.raises(ValueError, match="at least 4"):
        r_hat(x[:, :3])


def test_one_sweep_is_enough_for_a_mean():
    rbm = BernoulliRBM(2, n_iter=1, random_state=0).fit(np.eye(3))
    rbm.components_, rbm.intercept_visible_ = np.zeros((2, 3)), np.array([-1.0, 0.0, 2.0])
    filled = rbm.impute(np.full((1, 3), np.nan), n_steps=1, random_state=0)
    assert_allclose(filled, 1 / (1 + np.exp([[1.0, 0.0, -2.0]])), rtol=1e-6)


def test_swap_rates_are_shares():
    rbm = BernoulliRBM(2, n_iter=1, random_state=0).fit(np.eye(3))
    rbm.components_, rbm.feature_means_ = np.zeros((2, 3)), np.full(3, 0.5)
    rbm.intercept_visible_ = np.full(3, 1e-3)  # all levels are nearly the same law
    chains = rbm.sample_chains(50, n_steps=7, method="pt", random_state=0)
    assert_allclose(chains.swap_rates, 1, atol=0.01)
