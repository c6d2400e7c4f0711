"""Lost modes show in the reports and in the history; marginal temperatures are powers of p(v)."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skebm import (
    PCD,
    BernoulliRBM,
    CategoricalRBM,
    ConvRBM,
    GaussianRBM,
    ModeDisplay,
    RBMClassifier,
    mode_report,
)
from skebm.engine.sampling import distance_along_axis


def two_modes(share, n=1000, seed=0):
    """Rows near 0…0 and near 1…1, in given shares."""
    rng = np.random.default_rng(seed)
    first = np.arange(n)[:, None] < share * n
    return ((rng.uniform(size=(n, 12)) < 0.05) != first).astype(float)


@pytest.fixture(scope="module")
def rbm():
    return BernoulliRBM(8, gradient=PCD(n_chains=200), n_iter=5, random_state=0).fit(two_modes(0.7))


def test_the_report_has_the_shares_of_rows_and_samples(rbm):
    X = two_modes(0.7)
    report = mode_report(rbm, X, samples=two_modes(0.4, 500, 1), n_clusters=2, random_state=0)
    assert_allclose(report.data_shares, [0.7, 0.3], atol=0.002)
    assert_allclose(report.sample_shares, [0.4, 0.6], atol=0.002)
    assert_allclose(report.distance, 0.3, atol=0.004)
    assert report.p_value < 1e-10
    assert "do not have" in str(report)
    assert (report.centers[0] > 0.9).all()
    same = mode_report(rbm, X, samples=two_modes(0.7, 500, 1), n_clusters=2, random_state=0)
    assert same.p_value > 0.9
    assert same.distance < 0.01
    assert "may have" in str(same)


def test_the_largest_cluster_comes_first(rbm):
    rng = np.random.default_rng(0)
    X = np.repeat(np.eye(4, 12), [50, 200, 100, 25], axis=0)
    for seed in range(3):
        report = mode_report(rbm, rng.permutation(X), samples=X, n_clusters=4, random_state=seed)
        assert_allclose(report.data_shares * 375, [200, 100, 50, 25])
        assert_allclose(report.sample_shares, report.data_shares)
        assert_allclose(report.centers, np.eye(4, 12)[[1, 2, 0, 3]], atol=1e-6)


def test_adversarial_accuracies_find_copies_and_what_is_lacking(rbm):
    rng = np.random.default_rng(0)
    normal = GaussianRBM(2, n_iter=1, random_state=0).fit(rng.normal(size=(500, 3)))
    X, other = rng.normal(size=(2, 500, 3))
    same = mode_report(normal, X, samples=other, n_clusters=2, random_state=0)
    assert_allclose([same.accuracy_data, same.accuracy_samples], 0.5, atol=0.08)
    copies = mode_report(normal, X, samples=X + 1e-6, n_clusters=2, random_state=0)
    assert copies.accuracy_samples == copies.accuracy_data == 0
    far = mode_report(normal, X, samples=other + 100, n_clusters=2, random_state=0)
    assert far.accuracy_samples == far.accuracy_data == 1


def test_chains_of_the_fit_are_the_samples_unless_others_are_given(rbm):
    X = two_modes(0.7)
    report = mode_report(rbm, X, n_clusters=2, random_state=0)
    assert report.n_samples == 200
    ones = rbm.inverse_transform(rbm.h_samples_).mean(1) > 0.5
    assert_allclose(report.sample_shares[0], ones.mean(), atol=0.03)
    without = BernoulliRBM(4, gradient="cd", n_iter=1).fit(X)
    with pytest.raises(ValueError, match="no persistent chains; pass samples"):
        mode_report(without, X)
    with pytest.raises(ValueError, match="n_clusters=10, but X has 5 rows"):
        mode_report(rbm, X[:5])


def test_the_display_draws_the_report_of_a_model_in_a_pipeline(rbm):
    pytest.importorskip("matplotlib").use("Agg")
    X = two_modes(0.7)
    pipeline = make_pipeline(FunctionTransformer(), rbm)
    display = ModeDisplay.from_estimator(pipeline, X, n_clusters=3, random_state=0)
    heights = [bar.get_height() for bar in display.ax_.patches]
    expected = [*display.report.data_shares, *display.report.sample_shares]
    assert_allclose(heights, expected)


def test_a_distance_along_the_axis_is_that_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4)) * [1, 5, 1, 1]
    draws = rng.normal(size=(40, 4)) * [1, 5, 1, 1] + [3, 2, 0, 0]
    found = distance_along_axis(torch.from_numpy(rows), torch.from_numpy(draws)).item()
    axis = np.linalg.svd(rows - rows.mean(0))[2][0]
    assert_allclose(found, ks_2samp(rows @ axis, draws @ axis).statistic, atol=1e-6)
    constant = torch.ones(5, 3)
    assert distance_along_axis(constant, constant) == 0


def test_chains_without_a_mode_show_in_the_history():
    X = np.repeat(np.arange(1000)[:, None] % 2, 8, axis=1)
    begun = BernoulliRBM(gradient=PCD(n_chains=100), n_iter=1, random_state=0).fit(X)
    assert begun.history_["chain_distance"][0] > 0.4
    kept = BernoulliRBM(gradient="ptt", random_state=0).fit(X)
    assert kept.history_["chain_distance"][-1] < 0.2
    assert "chain_distance" not in BernoulliRBM(gradient="cd", n_iter=1).fit(X).history_


@pytest.mark.parametrize("hidden", ["bernoulli", "drelu", "relu"])
@pytest.mark.parametrize("own", [1.0, 2.0])
def test_a_marginal_temperature_is_a_power_of_the_probability_of_the_row(hidden, own):
    rng = np.random.default_rng(0)
    X = rng.choice(["a", "b", "c"], p=[0.5, 0.3, 0.2], size=(200, 2))
    X[:, 1] = np.where(rng.uniform(size=200) < 0.5, X[:, 0], X[:, 1])
    settings = {"hidden": hidden, "temperature": own, "learning_rate": 0.05, "random_state": 0}
    rbm = CategoricalRBM(3, n_iter=30, **settings).fit(X)
    every = np.array([[i, j] for i in "abc" for j in "abc"])
    n_draws = 20_000
    for n in (1, 2, 3):
        log_p = -n * rbm.free_energy(every).astype(float) / own
        expected = np.exp(log_p - log_p.max())
        expected /= expected.sum()
        drawn = rbm.sample(n_draws, 60, temperature=own / n, marginal=True, random_state=n)
        code = [np.flatnonzero((every == row).all(1))[0] for row in drawn]
        error = np.sqrt(expected * (1 - expected) / n_draws) + 1e-4
        assert (np.abs(np.bincount(code, minlength=9) / n_draws - expected) < 4.5 * error).all()


def test_grey_values_are_compared_as_draws():
    X = np.full((400, 20), 0.5)
    rbm = BernoulliRBM(4, gradient=PCD(n_chains=400), n_iter=10, random_state=0).fit(X)
    assert "chain_distance" not in rbm.history_
    report = mode_report(rbm, X, n_clusters=2, random_state=0)
    assert report.distance < 0.15
    assert_allclose([report.accuracy_data, report.accuracy_samples], 0.5, atol=0.1)


def test_marginal_temperatures_have_their_limits(rbm):
    X = two_modes(0.7)
    for wrong in (0.7, 2.0):
        with pytest.raises(ValueError, match="integer multiple"):
            rbm.sample(2, 5, temperature=wrong, marginal=True)
    with pytest.raises(ValueError, match='"ptt" has no marginal'):
        rbm.sample(2, 5, temperature=0.5, marginal=True, method="ptt")
    y = X[:, 0].astype(int)
    for other in (
        GaussianRBM(2, n_iter=1).fit(X),
        RBMClassifier(2, n_iter=1, alpha=0.5).fit(X, y),
        ConvRBM(2, kernel_size=2, image_shape=(3, 4), n_iter=1).fit(X),
    ):
        with pytest.raises(ValueError, match="marginal=True is for models of binary rows"):
            other.sample(2, 5, temperature=0.5, marginal=True)
    with pytest.raises(ValueError, match="without labels"):
        RBMClassifier(2, n_iter=1).fit(X, y).sample(2, 5, y=1, temperature=0.5, marginal=True)
    assert rbm.sample_chains(2, 5, temperature=0.5, marginal=True).draws.shape == (2, 5, 12)
