"""What the members of the family add."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit
from sklearn.datasets import load_wine
from sklearn.neural_network import BernoulliRBM as ScikitRBM

import skebm.engine.batches as batches_module
from skebm import (
    PCD,
    BernoulliRBM,
    CategoricalRBM,
    DropoutRBM,
    Exact,
    GaussianRBM,
    TabularRBM,
    log_partition,
)


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


@pytest.mark.parametrize("variance", ["unit", "fixed", "learned"])
def test_a_gaussian_free_energy_is_the_formula(variance):
    X = np.random.default_rng(0).normal([0.0, 2.0, -100.0], [1.0, 0.1, 30.0], size=(50, 3))
    rbm = GaussianRBM(4, variance=variance, n_iter=2, random_state=0).fit(X)
    W, b, c = rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_
    sigma = np.sqrt(rbm.variances_)
    v = (X - rbm.location_) / sigma
    expected = (v**2).sum(1) / 2 - v @ b - np.logaddexp(0, c + v @ W.T).sum(1)
    assert_allclose(rbm.free_energy(X), expected + np.log(sigma).sum(), rtol=1e-10)
    textbook = ((v - b) ** 2).sum(1) / 2 - np.logaddexp(0, c + v @ W.T).sum(1)
    difference = rbm.free_energy(X) - textbook
    assert_allclose(difference, difference[0], rtol=1e-10)
    if variance == "unit":
        assert_array_equal(rbm.variances_, 1)
        assert_array_equal(rbm.location_, 0)
    if variance == "fixed":
        assert_allclose(rbm.variances_, X.var(0), rtol=1e-6)
        assert_allclose(rbm.location_, X.mean(0), atol=1e-3)


def test_features_are_standardised_by_weighted_rows():
    X = np.random.default_rng(0).normal(size=(60, 2))
    weight = np.random.default_rng(1).uniform(size=60)
    rbm = GaussianRBM(2, variance="fixed", n_iter=1).fit(X, sample_weight=weight)
    assert_allclose(rbm.location_, np.average(X, axis=0, weights=weight), atol=1e-4)
    spread = np.average((X - rbm.location_) ** 2, axis=0, weights=weight)
    assert_allclose(rbm.variances_, spread, rtol=1e-4)
    assert_allclose(rbm.inverse_transform(np.zeros((1, 2)))[0], rbm.means_, rtol=1e-6)


@pytest.mark.parametrize("variance", ["unit", "fixed", "learned"])
def test_a_gaussian_rbm_is_a_density_of_the_rows(variance):
    X = np.random.default_rng(0).normal([[2.0]], 0.5, size=(300, 1))
    X[:100] += 3
    rbm = GaussianRBM(3, variance=variance, random_state=0).fit(X)
    grid = np.linspace(-10, 20, 30_001)[:, None]
    assert_allclose(np.exp(rbm.score_samples(grid)).sum() * 1e-3, 1, rtol=1e-5)


def from_an_rbm(n, seed=0):
    """Rows of exactly this law, with conditional standard deviations of .5, 1 and 2."""
    rng = np.random.default_rng(seed)
    W = 3.5 * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    h = rng.integers(2, size=(n, 3))  # orthogonal rows of W and these biases: fair coins
    return 10 + (rng.normal(size=(n, 3)) + h @ W) * [0.5, 1.0, 2.0]


@pytest.mark.parametrize("n_components", [8, 256])
@pytest.mark.parametrize("seed", [0, 1])
def test_learned_variances_are_those_of_the_data(seed, n_components):
    X = from_an_rbm(5000, seed)
    # With persistent chains, 256 units explain some of the noise of three features.
    settings = {"gradient": "cd", "learning_rate": 0.1, "batch_size": 10, "random_state": seed}
    rbm = GaussianRBM(n_components, **settings).fit(X)
    assert_allclose(np.sqrt(rbm.variances_), [0.5, 1, 2], rtol=0.1)
    # In units of its own, a column changes nothing but its numbers.
    other = GaussianRBM(n_components, **settings).fit(X * [1e-6, 1.0, 1e6] + [0, 1e3, 0])
    assert_allclose(np.sqrt(other.variances_), [0.5e-6, 1, 2e6], rtol=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"hidden": "spin"},
        # These learn more slowly. At larger rates, only some seeds reconstruct as well.
        {"hidden": "relu", "learning_rate": 0.01, "batch_size": 10, "n_iter": 100},
        {"hidden": "nrelu", "learning_rate": 0.01, "batch_size": 10, "n_iter": 100},
    ],
    ids=str,
)
def test_gaussian_rbms_are_at_home_in_units_of_the_data(change):
    X = load_wine().data  # scales from 0.1 to 300
    X = np.hstack([X, np.full((len(X), 1), 1e6 + 0.1), X[:, :1] * 1e-6])
    rbm = GaussianRBM(16, random_state=0).set_params(**change).fit(X)
    back = rbm.inverse_transform(rbm.transform(X))
    explained = 1 - ((back - X) ** 2).mean(0)[:13] / X.var(0)[:13]
    assert np.median(explained) > 0.25
    drawn = rbm.sample(500, 100, random_state=0)
    off = np.abs(drawn.mean(0) - X.mean(0)) / (X.std(0) + 0.3)
    assert np.median(off) < 1
    assert off.max() < 2.5
    spread = drawn.std(0)[:13] / X.std(0)[:13]
    assert ((spread > 0.5) & (spread < 1.6)).all()
    assert_allclose(drawn[:, 13], 1e6, atol=2)
    features = rbm.transform(X)
    n_active = {"relu": 1, "nrelu": 2}.get(rbm.hidden, 10)
    assert (features.std(0) > 0.01).sum() >= n_active
    assert np.isfinite(rbm.score_samples(X)).all()


def test_weights_of_unbounded_units_stay_where_the_law_can_be_normalised():
    # A direction of ever larger variance would take weights beyond norm one.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 1)) * [[3.0, 3.0, 3.0, 3.0]] + rng.normal(size=(500, 4)) * 0.3
    for temperature in (1.0, 2.0):
        rbm = GaussianRBM(
            20, hidden="relu", variance="unit", temperature=temperature, random_state=0
        ).fit(X)
        assert 0.5 < np.linalg.norm(rbm.components_, 2) < 1


# Dropout


@pytest.mark.parametrize("drop", ["units", "weights"])
@pytest.mark.parametrize("gradient", ["cd", "pcd", "pt"])
def test_dropout_zero_is_the_plain_model_bit_for_bit(drop, gradient, digits):
    X = digits[0][:200]
    settings = {"n_components": 12, "gradient": gradient, "n_iter": 3, "random_state": 0}
    plain = BernoulliRBM(**settings).fit(X)
    rbm = DropoutRBM(dropout=0, drop=drop, **settings).fit(X)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        assert_array_equal(getattr(rbm, name), getattr(plain, name))
    assert_array_equal(rbm.transform(X), plain.transform(X))
    assert_array_equal(rbm.score_samples(X), plain.score_samples(X))


@pytest.mark.parametrize(("drop", "bias"), [("units", 0.5), ("weights", 1.0)])
def test_weights_are_scaled_by_the_probability_of_being_kept(drop, bias, digits):
    X = digits[0][:300]
    rbm = DropoutRBM(20, drop=drop, n_iter=3, random_state=0).fit(X)
    W, c = 0.5 * rbm.components_, bias * rbm.intercept_hidden_
    H = expit(X @ W.T + c)
    assert_allclose(rbm.transform(X), H, rtol=1e-10)
    assert_array_equal(rbm.transform(X), rbm.transform(X))
    assert_allclose(rbm.inverse_transform(H), expit(H @ W + rbm.intercept_visible_), rtol=1e-10)
    expected = -X @ rbm.intercept_visible_ - np.logaddexp(0, X @ W.T + c).sum(1)
    assert_allclose(rbm.free_energy(X), expected, rtol=1e-10)
    assert_allclose(rbm.history_["kept"], 0.5, atol=0.02)


@pytest.mark.parametrize(("drop", "dropout"), [("units", 0.9), ("weights", 0.5)])
def test_reconstructions_beat_the_mean_however_much_is_dropped(drop, dropout, digits):
    X, T = digits[0][:1400], digits[0][1400:]
    settings = {"gradient": "cd", "learning_rate": 0.5, "n_iter": 30, "random_state": 0}
    rbm = DropoutRBM(100, dropout=dropout, drop=drop, **settings).fit(X)
    error = np.square(rbm.inverse_transform(rbm.transform(T)) - T).mean()
    assert error < 0.95 * np.square(X.mean(0) - T).mean()


def test_energy_dropout_keeps_a_share_and_does_no_harm(digits):
    X, T = (digits[0] > 0.5).astype(float)[:1400], (digits[0] > 0.5).astype(float)[1400:]
    gaps = []
    for seed in range(3):
        settings = {"gradient": "cd", "batch_size": 32, "n_iter": 20, "random_state": seed}
        plain = BernoulliRBM(64, **settings).fit(X)
        rbm = DropoutRBM(64, drop="energy", **settings).fit(X)
        assert ((rbm.history_["kept"] > 0.05) & (rbm.history_["kept"] < 0.95)).all()
        gaps.append(rbm.score(T) - plain.score(T))
    assert np.mean(gaps) > -1


def test_dropout_belongs_to_training_cases():
    X = np.zeros((20, 4))
    with pytest.raises(ValueError, match="n_chains=7, which is no multiple of batch_size=10"):
        DropoutRBM(3, gradient=PCD(n_chains=7)).fit(X)
    with pytest.raises(ValueError, match="needs hidden=\"bernoulli\"; got 'relu'"):
        DropoutRBM(3, drop="energy", hidden="relu").fit(X)
    with pytest.raises(ValueError, match="'gradient' parameter"):
        DropoutRBM(3, gradient=Exact()).fit(X)


# Visible units in [0, 1]


def test_the_continuous_bernoulli_is_a_density_on_the_interval():
    rng = np.random.default_rng(0)
    X = np.where(rng.uniform(size=(400, 1)) < 0.3, 0.9, 0.2) + rng.uniform(-0.1, 0.1, (400, 1))
    settings = {"gradient": Exact(), "learning_rate": 0.5, "n_iter": 100, "random_state": 0}
    rbm = BernoulliRBM(4, visible="continuous", **settings).fit(X)
    grid = (np.arange(2000)[:, None] + 0.5) / 2000
    assert_allclose(np.exp(rbm.score_samples(grid)).mean(), 1, rtol=1e-4)
    drawn = rbm.sample(3000, 100, random_state=0)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert_allclose(drawn.mean(), X.mean(), atol=0.04)
    # Mean-field units give their means: their chains have far less spread.
    mean = BernoulliRBM(4, visible="mean", **settings).fit(X)
    assert mean.sample(3000, 100, random_state=0).std() < 0.5 * drawn.std()


def test_means_and_variances_at_a_temperature():
    X = np.random.default_rng(0).normal(5, [1, 10], size=(200, 2))
    rbm = GaussianRBM(1, temperature=2.0, n_iter=3, random_state=0).fit(X)
    rbm.components_ = np.zeros((1, 2))
    drawn = rbm.sample(20_000, 1, random_state=0)
    assert_allclose(drawn.var(0), rbm.variances_, rtol=0.05)
    assert_allclose((drawn.mean(0) - rbm.means_) / drawn.std(0), 0, atol=0.03)


GREY = np.repeat([[0.1, 0.1], [0.9, 0.9]], 50, axis=0)


def test_sampled_grey_values_are_learned_as_the_probabilities_of_coins():
    # P(v₁ = v₂ = 1) is the mean of 0.1² and 0.9².
    settings = {"n_iter": 300, "learning_rate": 0.05, "gradient": Exact(), "random_state": 0}
    states = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    both = {}
    for grey_values in ("sample", "mean"):
        rbm = BernoulliRBM(2, grey_values=grey_values, **settings).fit(GREY)
        p = np.exp(-rbm.free_energy(states))
        both[grey_values] = p[3] / p.sum()
    assert abs(both["sample"] - 0.41) < 0.03
    assert abs(both["mean"] - 0.41) > 0.05


def test_the_share_of_noise_decides_what_grey_values_are():
    # Within rows the variance of a coin is 0.09, of all coins 0.25.
    rbm = BernoulliRBM(3, n_iter=2, random_state=0).fit(GREY)
    assert_allclose(rbm.noise_share_, 0.36, atol=0.01)
    sampled = BernoulliRBM(3, n_iter=2, random_state=0, grey_values="sample").fit(GREY)
    assert_array_equal(rbm.components_, sampled.components_)
    clear = np.where(GREY < 0.5, 0.05, 0.95)
    means = BernoulliRBM(3, n_iter=2, random_state=0, grey_values="mean").fit(clear)
    chosen = BernoulliRBM(3, n_iter=2, random_state=0).fit(clear)
    assert_array_equal(chosen.components_, means.components_)
    assert BernoulliRBM(3, n_iter=0).fit(clear > 0.5).noise_share_ == 0
    assert BernoulliRBM(3, n_iter=0).fit(np.full((5, 2), 0.3)).noise_share_ == pytest.approx(1)


def test_training_goes_on_with_the_grey_values_of_the_first_rows():
    rbm = BernoulliRBM(3, n_iter=1, random_state=0).fit(GREY)
    share = rbm.noise_share_
    assert rbm.partial_fit(GREY > 0.5).noise_share_ == share


@pytest.mark.parametrize("n_components", [40, 200])
def test_about_five_units_of_a_new_model_are_on(n_components, digits):
    rbm = BernoulliRBM(n_components, n_iter=0, random_state=0).fit(digits[0] > 0.5)
    assert 4 < rbm.transform(digits[0] > 0.5).sum(1).mean() < 7


@pytest.mark.parametrize(("n_rows", "n_components"), [(50, 16), (300, 30), (5000, 256)])
def test_the_number_of_units_follows_from_the_number_of_rows(n_rows, n_components):
    X = np.random.default_rng(0).normal(size=(n_rows, 2))
    rbm = GaussianRBM(n_iter=0).fit(X)
    assert rbm.n_components_ == len(rbm.components_) == n_components
    weight = np.r_[np.ones(n_rows // 2), np.zeros(n_rows - n_rows // 2)]
    assert GaussianRBM(n_iter=0).fit(X, sample_weight=weight).n_components_ == np.clip(
        n_rows // 20, 16, 256
    )


def test_units_of_a_new_model_are_on_more_often_if_weights_are_dropped(digits):
    X = digits[0] > 0.5

    def share(**params):  # in training: `transform` has smaller fields
        rbm = DropoutRBM(64, n_iter=0, random_state=0, **params).fit(X)
        return expit(X @ rbm.components_.T + rbm.intercept_hidden_).mean()

    assert share(drop="weights") > 0.2
    assert share(drop="units") < 0.15
    assert share(drop="weights", dropout=0.0) < 0.15  # as of BernoulliRBM


def test_rounding_errors_of_a_scaler_are_no_values_outside_of_the_support():
    X = np.random.default_rng(0).uniform(size=(20, 4))
    X[0, 0], X[1, 1] = np.nextafter(1, 2), -1e-17
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BernoulliRBM(3, n_iter=1, random_state=0).fit(X)
    X[0, 0] = 1.001
    with pytest.warns(UserWarning, match=r"X has values from .* to 1.001"):
        BernoulliRBM(3, n_iter=1, random_state=0).fit(X)


OF_DRELU = ("gamma_plus_", "gamma_minus_", "theta_plus_", "theta_minus_")


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_double_rectified_units_learn_their_parameters(temperature):
    # A pattern that is present in a fifth of the rows: far from the symmetry of Gaussian units.
    rng = np.random.default_rng(0)
    present = rng.uniform(size=(2000, 1)) < 0.2
    X = (rng.uniform(size=(2000, 10)) < np.where(present, 0.9, 0.1)).astype(float)
    settings = {"temperature": temperature, "gradient": PCD(n_chains=200), "batch_size": 50}
    settings |= {"learning_rate": 0.02, "random_state": 0, "hidden": "drelu"}
    start = BernoulliRBM(1, n_iter=0, **settings).fit(X)
    for name, value in zip(OF_DRELU, (1, 1, 0, 0)):
        assert_array_equal(getattr(start, name), [value])
    rbm = BernoulliRBM(1, n_iter=60, **settings).fit(X)
    found = np.concatenate([getattr(rbm, name) for name in OF_DRELU])
    assert np.abs(found - [1, 1, 0, 0]).max() > 0.1
    rows = (np.arange(1024)[:, None] >> np.arange(10) & 1).astype(float)  # all of them
    log_p = -rbm.free_energy(rows) / temperature
    log_z = np.logaddexp.reduce(log_p)
    estimate = log_partition(rbm, betas=2000, random_state=0)
    assert abs(estimate.value - log_z) < 4 * estimate.stderr + 0.01
    counts = np.bincount((X @ 2.0 ** np.arange(10)).astype(int), minlength=1024)
    log_likelihood = counts @ (log_p - log_z) / len(X)
    share = counts[counts > 0] / len(X)
    independent = np.sum(X.mean(0) * np.log(X.mean(0)) + (1 - X.mean(0)) * np.log1p(-X.mean(0)))
    assert independent + 0.6 < log_likelihood < share @ np.log(share)
    # The energy, written down: F = −log ∫ exp(−E) dh, on a fine grid of h.
    h = np.linspace(-30, 30, 60001)
    up, down = np.maximum(h, 0), np.minimum(h, 0)
    gammas, thetas = found[:2], found[2:]
    energy = gammas[0] * up**2 / 2 + gammas[1] * down**2 / 2 + thetas[0] * up + thetas[1] * down
    field = rbm.intercept_hidden_ + X[:3] @ rbm.components_.T  # (3, 1)
    integral = np.exp((field * h - energy) / temperature).sum(1) * (h[1] - h[0])
    F = -X[:3] @ rbm.intercept_visible_ - temperature * np.log(integral)
    assert_allclose(rbm.free_energy(X[:3]), F, rtol=1e-4)
    again = pickle.loads(pickle.dumps(rbm)).set_params(warm_start=True, n_iter=1).fit(X)
    assert (np.concatenate([getattr(again, name) for name in OF_DRELU]) != found).any()


def test_double_rectified_units_are_offered_where_the_visible_units_are_bounded():
    X = np.array([["a", "x"], ["b", "y"]] * 20)
    rbm = CategoricalRBM("auto", hidden="drelu", learning_rate=0.01, n_iter=2).fit(X)
    assert rbm.gamma_plus_.shape == (rbm.n_components_,) == (16,)
    for Estimator in (GaussianRBM, TabularRBM, DropoutRBM):
        with pytest.raises(ValueError, match="'hidden' parameter"):
            Estimator(hidden="drelu").fit(X)
