"""Counts: the laws of `PoissonRBM`, against formulas that are written out in numpy."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import gammaln

from skebm import Exact, PoissonRBM, log_likelihood, log_partition
from skebm.engine.noise import Noise
from skebm.engine.units import Poisson


def counts(n=600):
    rng = np.random.default_rng(0)
    rate = np.where(rng.uniform(size=(n, 1)) < 0.4, [8.0, 1.0, 4.0], [1.0, 6.0, 4.0])
    return rng.poisson(rate).astype(float)


@pytest.mark.parametrize("gradient", ["cd", "pcd", "pt", Exact()], ids=str)
def test_it_trains_by_every_gradient_and_samples(gradient):
    X = counts()
    rbm = PoissonRBM(3, gradient=gradient, n_iter=60, random_state=0).fit(X)
    drawn = rbm.sample(2000, 200, random_state=0)
    assert (drawn == drawn.round()).all()
    assert_allclose(drawn.mean(0), X.mean(0), rtol=0.35)
    # Either the first or the second count is large.
    assert np.corrcoef(drawn.T)[0, 1] < -0.4
    assert rbm.transform(X).std(0).max() > 0.3


def test_its_likelihood_is_exact_and_estimated():
    X = counts()
    rbm = PoissonRBM(3, gradient=Exact(), n_iter=40, random_state=0).fit(X)
    exact = log_partition(rbm)
    assert exact.method == "exact"
    ais = log_partition(rbm, method="ais", random_state=0)
    assert abs(ais.value - exact.value) < 4 * ais.stderr
    # Far more likely than one Poisson law for each column.
    rate = X.mean(0)
    independent = (X * np.log(rate) - rate - gammaln(X + 1)).sum(1)
    assert log_likelihood(rbm, X, log_z=exact).mean() > independent.mean() + 1
    assert_allclose(rbm.score(X), log_likelihood(rbm, X, log_z=exact).mean())


def test_missing_counts_are_filled_in():
    X = counts()
    rbm = PoissonRBM(3, n_iter=60, random_state=0).fit(X)
    holes = X.copy()
    holes[:, 0] = np.nan
    filled = rbm.impute(holes, random_state=0)
    assert np.square(filled - X)[:, 0].mean() < 0.75 * X[:, 0].var()


def test_field_of_mean_is_found_numerically():
    mean = torch.tensor([0.01, 1.0, 30.0]).double()
    assert_allclose(Poisson().field_of_mean(mean), mean.log(), rtol=1e-9, atol=1e-12)
    assert Poisson().sample(torch.zeros(5, 2), Noise(0)).shape == (5, 2)


def parameters(rbm):
    return (
        np.asarray(a, np.float64)
        for a in (rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_)
    )


@pytest.mark.parametrize("hidden", ["bernoulli", "spin"])
def test_likelihood_is_a_sum_over_hidden_states(hidden):
    X = counts(100)
    rbm = PoissonRBM(3, hidden=hidden, n_iter=5, random_state=0).fit(X)
    W, b, c = parameters(rbm)
    h = np.array(list(itertools.product([0 if hidden == "bernoulli" else -1, 1], repeat=3)))
    field = b + h @ W  # (n_states, n_features)
    # p(h) ∝ exp(h·c + Σ_i e^f_i), and v given h is Poisson of rate e^f.
    log_p = h @ c + np.exp(field).sum(1)
    log_p -= np.logaddexp.reduce(log_p)
    given_h = X @ field.T - np.exp(field).sum(1) - gammaln(X + 1).sum(1)[:, None]
    expected = np.logaddexp.reduce(given_h + log_p, axis=1)
    assert_allclose(log_likelihood(rbm, X), expected, rtol=1e-4)
    assert_allclose(rbm.score_samples(X), expected, rtol=1e-4)
    assert expected.max() < 0  # probabilities, not densities


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_free_energy_and_conditionals(temperature):
    X, T = counts(50), temperature
    rbm = PoissonRBM(3, temperature=T, n_iter=5, random_state=0).fit(X)
    W, b, c = parameters(rbm)
    x = (c + X @ W.T) / T
    F = -X @ b - T * np.logaddexp(0, x).sum(1) + T * gammaln(X + 1).sum(1)
    assert_allclose(rbm.free_energy(X), F, rtol=1e-5, atol=1e-4)
    H = rbm.transform(X)
    assert_allclose(H, 1 / (1 + np.exp(-x)), rtol=1e-4, atol=1e-6)
    assert_allclose(rbm.inverse_transform(H), np.exp((b + H @ W) / T), rtol=1e-4)


@pytest.mark.parametrize("gradient", ["pt", Exact()], ids=str)
def test_it_learns_two_topics_of_very_different_rates(gradient):
    rng = np.random.default_rng(0)
    base = np.geomspace(0.05, 20, 40)
    rates = base * np.exp(rng.normal(0, 0.8, (2, 40)))
    topic = rng.integers(2, size=1000)
    X = rng.poisson(rates[topic])
    rbm = PoissonRBM(1, gradient=gradient, n_iter=15, random_state=0).fit(X)
    found = rbm.transform(X)[:, 0] > 0.5
    assert abs(np.mean(found == topic) - 0.5) > 0.48
    drawn = rbm.sample(1000, 30, method="pt", random_state=0)
    assert (drawn == drawn.round()).all()
    assert drawn.min() == 0
    assert_allclose(drawn.mean(0), X.mean(0), rtol=0.15, atol=0.05)


def test_counts_below_zero_are_refused():
    X = counts(50)
    rbm = PoissonRBM(2, n_iter=1, random_state=0).fit(X)
    X[3, 1] = -1
    for method in (rbm.score_samples, rbm.transform, PoissonRBM(2).fit):
        with pytest.raises(ValueError, match="Negative values in data passed to PoissonRBM"):
            method(X)


def test_word_that_never_occurs():
    X = counts(200)
    X[:, 1] = 0
    rbm = PoissonRBM(2, n_iter=5, random_state=0).fit(X)
    assert np.isfinite(rbm.score(X))
    assert rbm.sample(500, 50, random_state=0)[:, 1].mean() < 0.01


def test_draws_of_huge_rates_are_not_negative():
    drawn = Poisson().sample(torch.tensor([30.0, 60.0, 100.0]), Noise(0))
    assert (drawn > 1e12).all()
