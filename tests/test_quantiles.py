"""Quantile bins: numbers are bins and positions, and densities know the slopes between them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ks_2samp

from skebm import TabularRBM, log_likelihood
from skebm.quantiles import POSITIONS, expected, grid_of, log_slopes, on_grid, place, quantile_bins

numbers = st.one_of(
    st.integers(-20, 20).map(float),
    st.floats(-1e3, 1e3).map(lambda x: round(x, 2)),
    st.just(0.0),
)


def bins_of(x, n_bins):
    values, weights = np.unique(x, return_counts=True)
    grid = grid_of(values)
    return quantile_bins(values, weights, n_bins, grid[1] if grid else 0.0)


@given(st.lists(numbers, min_size=1, max_size=80), st.integers(1, 12))
def test_every_number_is_one_position_in_one_bin(x, n_bins):
    x = np.array(x)
    bins = bins_of(x, n_bins)
    k, position = place(bins, x)
    assert_allclose(expected(bins, np.eye(len(bins))[k], position), x, atol=1e-9, rtol=1e-9)
    assert (np.diff(bins, axis=1) >= 0).all()
    assert (bins[1:, 0] >= bins[:-1, -1] - 1e-9).all()
    assert (position >= 0).all()
    assert (position <= 1).all()


def test_bins_have_equal_shares_and_positions_are_uniform():
    x = np.random.default_rng(0).lognormal(0, 2, 5000)
    bins = bins_of(x, 20)
    assert len(bins) == 20
    k, position = place(bins, x)
    assert_allclose(np.bincount(k) / len(x), 0.05, atol=0.002)
    for j in range(20):
        assert abs(position[k == j].mean() - 0.5) < 0.01
        assert abs(position[k == j].var() - 1 / 12) < 0.01
    # The largest value is one of 250 in its bin; most of its bin lies far below it.
    assert bins[-1, POSITIONS <= 0.99].max() < 0.6 * x.max()


def test_values_that_are_common_are_atoms():
    x = np.array([0.0] * 50 + [7.0] * 10 + list(np.linspace(1, 6, 40)))
    bins = bins_of(x, 10)
    atoms = bins[bins[:, 0] == bins[:, -1], 0]
    assert_array_equal(atoms, [0.0, 7.0])
    assert len(bins) == 2 + 4
    few = bins_of(np.array([3.0, 1.0, 2.0, 2.0]), 5)
    assert_array_equal(few, np.repeat([[1.0], [2.0], [3.0]], len(POSITIONS), axis=1))


def test_slopes_are_the_derivatives_of_the_quantile_function():
    bins = bins_of(np.random.default_rng(0).exponential(size=300), 4)
    k, position = np.arange(4).repeat(5), np.tile([0.01, 0.2, 0.4, 0.7, 0.9], 4)
    step = 1e-6
    shares = np.eye(4)[k]
    rise = expected(bins, shares, position + step) - expected(bins, shares, position - step)
    assert_allclose(log_slopes(bins, k, position), np.log(rise / (2 * step)), rtol=1e-5)


def test_whole_numbers_have_equal_shares_also_at_the_ends():
    values = np.arange(100.0)
    bins, grid = bins_of(values, 5), grid_of(values)
    u = (np.arange(2000) + 0.5) / 2000
    drawn = [expected(bins, np.tile(row, (2000, 1)), u) for row in np.eye(5)]
    shares = np.unique(on_grid(grid, np.concatenate(drawn)), return_counts=True)[1]
    assert_allclose(shares, 100, atol=8)
    assert_allclose(shares[[0, -1]], shares[[1, -2]], atol=3)


def test_numbers_that_are_in_no_bin_belong_to_the_nearest():
    bins = bins_of(np.array([0.0, 1.0, 10.0]), 5)
    assert_array_equal(
        place(bins, np.array([-5.0, 0.4, 0.6, 2.0, 5.0, 6.0, 99.0]))[0], [0, 0, 1, 1, 1, 2, 2]
    )


@pytest.mark.parametrize(
    ("values", "step"),
    [([2.5, 7.5, 22.5], 5.0), ([0.1, 0.3, 0.4], 0.1), ([3.0, 9.0], 6.0), ([5.0], 1.0)],
)
def test_the_grid_of_values(values, step):
    grid = grid_of(np.array(values))
    assert_allclose(grid[1], step)
    assert_array_equal(on_grid(grid, np.array(values) + 0.3 * step), values)
    assert grid_of(np.array([np.pi])) is None


# Tables with such columns


def shop(n=1500, seed=0):
    """Half of the amounts are zero; prices have two decimals, and ages are whole."""
    rng = np.random.default_rng(seed)
    member = rng.uniform(size=n) < 0.5
    amount = np.where(rng.uniform(size=n) < np.where(member, 0.2, 0.8), 0.0, rng.lognormal(3, 1, n))
    return pd.DataFrame(
        {
            "member": member,
            "amount": amount,
            "price": np.round(rng.gamma(2, np.where(member, 20, 5)), 2),
            "age": np.where(member, rng.integers(40, 80, n), rng.integers(18, 50, n)),
        }
    )


@pytest.fixture(scope="module")
def rbm():
    return TabularRBM(16, numbers="binned", n_iter=150, random_state=0).fit(shop())


def test_samples_have_the_distributions_of_the_columns(rbm):
    table, drawn = shop(), rbm.sample(3000, 200, random_state=0)
    assert_allclose((drawn.amount == 0).mean(), (table.amount == 0).mean(), atol=0.06)
    for name in ("amount", "price", "age"):
        assert ks_2samp(table[name], drawn[name]).statistic < 0.08
    assert_array_equal(drawn.price, drawn.price.round(2))
    assert drawn.age.dtype == table.age.dtype
    assert len(np.unique(drawn.amount)) > 1000  # they are not those of the training rows
    by_member = drawn.groupby("member")
    assert_allclose(by_member.price.mean(), table.groupby("member").price.mean(), rtol=0.2)
    assert (by_member.amount.agg(lambda a: (a == 0).mean()).diff().iloc[1]) < -0.3


@pytest.mark.parametrize("has_atom", [False, True])
def test_the_density_of_a_column_integrates_to_one(has_atom):
    x = shop().amount.to_numpy()
    x = x if has_atom else x[x > 0]
    rbm = TabularRBM(3, numbers="binned", n_bins=6, n_iter=10, random_state=0).fit(x[:, None])
    ends = rbm.bins_[0][rbm.bins_[0][:, 0] < rbm.bins_[0][:, -1]]
    total = np.exp(log_likelihood(rbm, np.zeros((1, 1))))[0] if has_atom else 0.0
    for low, high in ends[:, [0, -1]]:
        points = low + (high - low) * (np.arange(20_000) + 0.5) / 20_000
        total += np.exp(log_likelihood(rbm, points[:, None])).mean() * (high - low)
    # The probability of an atom is a lower bound.
    assert 1 - 0.02 * has_atom - 2e-3 < total < 1 + 2e-3


def test_in_other_units_the_density_changes_by_their_ratio():
    table = shop(300)
    settings = {"numbers": "binned", "n_iter": 10, "random_state": 0, "shuffle": False}
    rbm = TabularRBM(3, **settings).fit(table)
    scaled = table.assign(price=table.price * 8)
    gaps = rbm.score_samples(table) - TabularRBM(3, **settings).fit(scaled).score_samples(scaled)
    assert_allclose(gaps, np.log(8), rtol=1e-4)


def test_a_number_that_no_bin_has_is_kept_and_is_improbable(rbm):
    table = shop(20, seed=1)
    far = table.assign(price=1e6, age=200)
    far.loc[0, "amount"] = np.nan
    filled = rbm.impute(far, random_state=0)
    assert (filled.price == 1e6).all()
    assert (filled.age == 200).all()
    high = table.assign(price=shop().price.max(), age=shop().age.max())
    gap = rbm.score_samples(high)[1:] - rbm.score_samples(far)[1:]
    assert_allclose(gap, 2 * np.log(1501), atol=0.1)


def test_means_given_other_entries_are_those_of_samples(rbm):
    asked = pd.DataFrame({"member": [True, False]}).assign(amount=None, price=None, age=None)
    means = rbm.conditional_mean(asked, "price", n_steps=2000)
    for known, mean in zip((True, False), means):
        drawn = rbm.sample(4000, 50, conditions={"member": known}, random_state=0)
        assert (drawn.member == known).all()
        assert_allclose(mean, drawn.price.mean(), rtol=0.12)


def test_weights_are_those_of_repeated_rows():
    table, settings = shop(60), {"numbers": "binned", "n_bins": 5, "n_iter": 3, "random_state": 0}
    weight = np.arange(60) % 3
    weighted = TabularRBM(3, **settings).fit(table, sample_weight=weight)
    repeated = TabularRBM(3, **settings).fit(table.loc[table.index.repeat(weight)])
    plain = TabularRBM(3, **settings).fit(table)
    assert any((a != b).any() for a, b in zip(weighted.bins_[1:], plain.bins_[1:]))
    for a, b in zip(weighted.bins_[1:], repeated.bins_[1:]):
        assert_array_equal(a, b)
