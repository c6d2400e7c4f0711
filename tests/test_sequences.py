"""Weights of sequences, the zero-sum gauge, effective couplings and contacts."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import expit

from skebm import (
    BernoulliRBM,
    CategoricalRBM,
    contact_map,
    effective_couplings,
    sequence_weights,
    zero_sum_gauge,
)
from skebm import sequences as module


@given(
    codes=st.lists(st.tuples(*[st.integers(0, 2)] * 5), min_size=1, max_size=12),
    threshold=st.sampled_from([0.2, 0.5, 0.6, 0.61, 0.8, 1.0]),
    block=st.integers(1, 5),
)
def test_weights_are_those_of_a_count_of_all_pairs(codes, threshold, block):
    X = np.array(codes)
    shares = (X[:, None] == X).mean(2)
    expected = 1 / (shares >= threshold - 1e-12).sum(1)
    before, module.BLOCK = module.BLOCK, block
    try:
        assert_allclose(sequence_weights(X, threshold), expected)
        letters = np.array(list("XYZ"))[X]
        assert_allclose(sequence_weights(letters.tolist(), threshold), expected)
    finally:
        module.BLOCK = before


@pytest.mark.parametrize("n_columns", [100, 300])
def test_weights_of_many_sequences(n_columns):
    rng = np.random.default_rng(0)
    families = rng.integers(21, size=(30, n_columns)).repeat(20, axis=0)
    X = np.where(
        rng.uniform(size=families.shape) < 0.1, rng.integers(21, size=families.shape), families
    )
    expected = 1 / ((X[:, None] == X).mean(2) >= 0.8 - 1e-12).sum(1)
    assert expected.min() < 0.1
    assert_allclose(sequence_weights(X), expected)


def test_weights_refuse_what_is_no_table():
    with pytest.raises(ValueError, match="one in each row"):
        sequence_weights(["ACD", "ACE"])
    with pytest.raises(ValueError, match="threshold"):
        sequence_weights([[0, 1]], 1.1)


@pytest.mark.slow
def test_weights_of_50000_sequences_take_less_than_a_minute():
    X = np.random.default_rng(0).integers(21, size=(50_000, 100))
    begin = time.perf_counter()
    assert_allclose(sequence_weights(X), 1)
    assert time.perf_counter() - begin < 60


def some_rows(n=300):
    """Five columns of three categories; the fourth is a copy of the second with some noise."""
    rng = np.random.default_rng(0)
    X = rng.integers(3, size=(n, 5))
    X[:, 3] = np.where(rng.uniform(size=n) < 0.9, X[:, 1], X[:, 3])
    return np.array(list("ACD"))[X]


@pytest.fixture(scope="module", params=["bernoulli", "spin", "drelu"])
def fitted(request):
    settings = {"hidden": request.param, "temperature": 1.5, "learning_rate": 0.05}
    return CategoricalRBM(4, n_iter=20, random_state=0, **settings).fit(some_rows())


def test_the_gauge_changes_no_probability(fitted):
    before = fitted.components_.copy()
    gauged = zero_sum_gauge(fitted)
    np.testing.assert_array_equal(fitted.components_, before)
    X = some_rows()
    change = gauged.free_energy(X) - fitted.free_energy(X)
    assert_allclose(change, change[0], atol=1e-3)
    assert_allclose(gauged.transform(X), fitted.transform(X), atol=1e-4)
    by_column = gauged.components_.reshape(4, 5, 3)
    assert_allclose(by_column.sum(2), 0, atol=1e-5)
    assert_allclose(gauged.intercept_visible_.reshape(5, 3).sum(1), 0, atol=1e-5)
    assert np.abs(fitted.components_.reshape(4, 5, 3).sum(2)).max() > 0.01
    again = zero_sum_gauge(gauged)
    assert_allclose(again.intercept_hidden_, gauged.intercept_hidden_, atol=1e-5)


def test_couplings_are_second_derivatives_of_the_free_energy():
    X = some_rows()
    rbm = CategoricalRBM(3, n_iter=20, temperature=2.0, random_state=0).fit(X)
    gauged = zero_sum_gauge(rbm)
    v = (X[:, :, None] == np.array(list("ACD"))).reshape(len(X), 15).astype(float)
    W, c, T = gauged.components_, gauged.intercept_hidden_, 2.0
    step, slopes = 1e-4, []
    for i in range(15):  # −F/T = v·b/T + Σ softplus((c + W v)/T), along each pair of units
        ends = [
            expit((c + (v + sign * step * np.eye(15)[i]) @ W.T) / T) @ W / T for sign in (1, -1)
        ]
        slopes.append((ends[0] - ends[1]).mean(0) / (2 * step))
    expected = np.array(slopes)
    expected[np.arange(15)[:, None] // 3 == np.arange(15) // 3] = 0
    J = effective_couplings(rbm, X)
    assert_allclose(J, expected, atol=1e-4)
    assert_allclose(J.reshape(5, 3, 15).sum(1), 0, atol=1e-5)
    assert_allclose(J, effective_couplings(gauged, X), atol=1e-5)


def test_contacts_are_columns_that_depend_on_each_other(fitted):
    score = contact_map(fitted, some_rows())
    assert score.shape == (5, 5)
    assert_allclose(score, score.T, atol=1e-9)
    assert np.isnan(np.diag(score)).all()
    assert np.unravel_index(np.nanargmax(score), score.shape) == (1, 3)
    J = effective_couplings(fitted, some_rows()).reshape(5, 3, 5, 3)
    norms = np.sqrt(np.square(J).sum((1, 3)))
    means = norms.sum(1) / 4
    assert_allclose(score[0, 2], norms[0, 2] - means[0] * means[2] / (norms.sum() / 20))


def test_only_models_of_categories_have_them():
    rbm = BernoulliRBM(3, n_iter=1).fit(np.eye(4))
    for call in (zero_sum_gauge, lambda r: effective_couplings(r, np.eye(4))):
        with pytest.raises(ValueError, match="BernoulliRBM is no model of categories"):
            call(rbm)
