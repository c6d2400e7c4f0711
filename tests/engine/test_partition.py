"""log Z: exact, annealed up and down, and the levels between."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine import partition
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.partition import (
    log_partition_exact,
    log_weights_down,
    log_weights_up,
    spread_betas,
)
from skebm.engine.sampling import anneal, run
from skebm.engine.units import Bernoulli, Gaussian
from tests.conftest import (
    MODELS,
    log_z,
    make_model,
    probabilities,
    some_rows,
    states,
    transition_matrix,
)

EXACT = {"rtol": 1e-9, "atol": 1e-9}
any_model = pytest.mark.parametrize("name", MODELS)
any_length = pytest.mark.parametrize("n_steps", [1, 3, 100])


def levels(n_steps):
    return torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [2**21, 20])
@any_model
def test_the_sum_over_either_layer_is_the_partition_function(name, chunk, monkeypatch):
    monkeypatch.setattr(partition, "CHUNK", chunk)
    for shape in ((4, 3), (3, 5)):
        model = make_model(name, *shape)
        assert_close(log_partition_exact(model), log_z(model), **EXACT)


def test_a_layer_has_to_be_countable_and_small():
    with pytest.raises(ValueError, match=r"at most 2\^3 states.* 4 hidden and 5 visible"):
        log_partition_exact(make_model(n_visible=5, n_hidden=4), 2.0**3)
    W, b, c = torch.ones(2, 3), torch.zeros(3), torch.zeros(2)
    with pytest.raises(ValueError, match="To enumerate a layer"):
        log_partition_exact(RBM(Gaussian(), Gaussian(), 0.1 * W, b, c))


@any_length
@pytest.mark.parametrize("down", [False, True])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_the_mean_weight_is_the_ratio_of_partition_functions(n_steps, down, seed):
    """The enumerated law, pushed through the kernels: no noise, so no tolerance for it."""
    model, v = make_model(n_visible=4, n_hidden=3, seed=seed), states(4)
    betas = levels(n_steps).flip(0) if down else levels(n_steps)
    mass = probabilities(model, float(betas[0]))  # (2^n_visible,): E[w; v_k = v]
    for beta, target in itertools.pairwise(betas.tolist()):
        log_ratio, _ = model.anneal_step(v, Noise(0), beta, target)
        mass = (mass * log_ratio.exp()) @ transition_matrix(model, target)
    expected = log_z(model, float(betas[-1])) - log_z(model, float(betas[0]))
    assert_close(mass.sum().log(), expected, **EXACT)


@any_model
def test_a_step_weighs_the_row_where_it_was_and_moves_it_at_the_target(name):
    model, n = make_model(name), 4000
    v = some_rows(model).repeat(n, 1)
    log_ratio, after = model.anneal_step(v, Noise(0), 0.2, 0.7)
    assert_close(log_ratio, model.free_energy(v, 0.2) - model.free_energy(v, 0.7), **EXACT)
    expected = model.transition(v, Noise(1), 0.7).view(n, 5, -1)
    error = (after.view(n, 5, -1).mean(0) - expected.mean(0)) / expected.std(0).clamp(min=0.01)
    assert error.abs().max() < 5 * np.sqrt(2 / n)


@any_length
@any_model
def test_estimates_agree_with_enumeration(name, n_steps):
    model, n = make_model(name, scale=0.3), 10_000
    expected = log_z(model)
    up, v = log_weights_up(model, Noise(0), levels(n_steps), n)
    assert up.dtype == torch.float64
    weight = (up - expected).exp()
    assert abs(weight.mean() - 1) < 4 * weight.std() / n**0.5
    assert up.mean() < expected
    exact = run(model, v, Noise(1), n_steps=50)
    down = log_weights_down(model, exact, Noise(2), levels(n_steps))
    weight = (down + expected).exp()
    assert abs(weight.mean() - 1) < 4 * weight.std() / n**0.5
    assert -down.mean() > expected


def test_chains_end_in_the_law_of_the_model():
    model, n = make_model(n_visible=3), 50_000
    v, _ = anneal(model, model.start(n, Noise(0)), Noise(1), levels(100))
    code = torch.tensor([1.0, 2.0, 4.0]).double()
    share = torch.bincount((v @ code).long(), minlength=8) / n
    p = probabilities(model)
    assert ((share - p) / (p * (1 - p) / n).sqrt()).abs().max() < 5


def test_levels_are_spread_until_the_weights_vary_equally():
    # A model that freezes in one of two states in the second half of the path.
    W = torch.ones(8, 20).double()
    model = RBM(Bernoulli(), Bernoulli(), W, -W.sum(0) / 2, -W.sum(1) / 2, -torch.ones(20).double())

    def spreads(betas):
        """Standard deviation of the logarithms of the weights between neighbouring levels."""
        v, found = model.start(5000, Noise(1)), []
        for beta, target in itertools.pairwise(betas.tolist()):
            log_ratio, v = model.anneal_step(v, Noise(2), beta, target)
            found.append(log_ratio.std().item())
            v = run(model, v, Noise(3), n_steps=20, beta=target)
        return np.array(found[1:])

    betas = spread_betas(model, Noise(0), 30, 500)
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 30)
    assert (betas.diff() > 0).all()
    even, uneven = spreads(betas), spreads(levels(29))
    assert np.std(even) / np.mean(even) < 0.6 * np.std(uneven) / np.mean(uneven)
    assert np.square(even).sum() < np.square(uneven).sum()
    free = spread_betas(model, Noise(0), None, 500)
    assert 0.6 < np.median(spreads(free)) < 1.6
    assert_close(spread_betas(make_model(scale=0.0), Noise(0), 5, 50)[[0, -1]], levels(1))
