"""What the members of the family add."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.special import expit
from sklearn.neural_network import BernoulliRBM as ScikitRBM

import skebm.engine.batches as batches_module
from skebm import BernoulliRBM, GaussianRBM


@pytest.fixture(scope="module")
def fitted(digits):
    return BernoulliRBM(12, n_iter=3, random_state=0).fit(digits[0])


def in_scikit_learn(rbm):
    """The same model as an estimator of scikit-learn."""
    theirs = ScikitRBM(n_components=len(rbm.components_))
    for name in ("components_", "intercept_hidden_", "intercept_visible_", "n_features_in_"):
        setattr(theirs, name, getattr(rbm, name))
    return theirs


def test_transform_is_that_of_scikit_learn(fitted, digits):
    X = digits[0]
    assert_allclose(fitted.transform(X), in_scikit_learn(fitted).transform(X), rtol=1e-10)
    field = X @ fitted.components_.T + fitted.intercept_hidden_
    assert_allclose(fitted.transform(X), expit(field), rtol=1e-10)


def test_free_energy_is_that_of_scikit_learn(fitted, digits):
    X = digits[0]
    assert_allclose(fitted.free_energy(X), in_scikit_learn(fitted)._free_energy(X), rtol=1e-10)


@pytest.mark.parametrize("grey", [True, False])
def test_score_is_what_scikit_learn_estimates(fitted, digits, grey):
    X = digits[0][:200] if grey else np.round(digits[0][:200])
    theirs, n = in_scikit_learn(fitted), 400
    draws = [theirs.set_params(random_state=seed).score_samples(X).mean() for seed in range(n)]
    error = np.std(draws) / np.sqrt(n)
    assert abs(fitted.score(X) - np.mean(draws)) < 4 * error
    assert_allclose(fitted.score(X), fitted.score_samples(X).mean())


def test_scores_do_not_depend_on_pieces_or_containers(fitted, digits, monkeypatch):
    X = digits[0][:50]
    whole = fitted.score_samples(X)
    assert_allclose(fitted.score_samples(sparse.csr_array(X)), whole)
    monkeypatch.setattr(batches_module, "CHUNK", 2000)
    assert_allclose(fitted.score_samples(X), whole)
    assert_allclose(fitted.score_samples(X[:1]), whole[:1])


def test_mean_visibles_chain_probabilities(digits):
    X = digits[0][:20]
    rbm = BernoulliRBM(12, visible="mean", n_iter=1, random_state=0).fit(digits[0])
    drawn = rbm.gibbs(X)
    assert len(np.unique(drawn)) > 100
    assert set(np.unique(BernoulliRBM(12, n_iter=1).fit(X).gibbs(X))) == {0, 1}
    # Given a hidden state h, the visible state is E[v | h].
    logit = np.log(drawn / (1 - drawn)) - rbm.intercept_visible_
    h = np.linalg.lstsq(rbm.components_.T, logit.T, rcond=None)[0]
    assert_allclose(h, h.round(), atol=1e-6)


def test_a_gaussian_free_energy_is_the_formula():
    X = np.random.default_rng(0).normal(size=(50, 3))
    rbm = GaussianRBM(4, n_iter=2, random_state=0).fit(X)
    W, b, c = rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_
    expected = (X**2).sum(1) / 2 - X @ b - np.logaddexp(0, c + X @ W.T).sum(1)
    assert_allclose(rbm.free_energy(X), expected, rtol=1e-10)
