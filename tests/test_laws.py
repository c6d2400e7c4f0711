"""What must be true of every unit, model and gradient: exact, by enumeration, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine.gradients import CD, PCD, Exact, ParallelTempering
from skebm.engine.models import RBM, Dense, Joint
from skebm.engine.noise import Noise
from skebm.engine.sampling import exchange, run
from skebm.engine.units import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    MeanBernoulli,
    Mixed,
    NoisyRelu,
    Rectified,
    ScaledGaussian,
    Spin,
    SteppedSigmoid,
)
from tests.conftest import (
    FINITE_UNITS,
    MODELS,
    SAMPLED_UNITS,
    UNITS,
    all_states,
    center,
    centred_step,
    exact_draws,
    flat_grad,
    groups,
    hidden_states,
    log_z,
    make_model,
    mean_states,
    offsets,
    probabilities,
    some_rows,
    states,
    transition_matrix,
    update,
    visible_states,
)

BETAS = [0.0, 0.3, 1.0]
DISCRETE = {"bernoulli", "spin", "categorical", "pooled"}
FINITE = [name for name in MODELS if set(name.split("-")) <= DISCRETE]
FINITE_HIDDEN = [name for name in MODELS if name.split("-")[1] in DISCRETE]
EXACT = {"rtol": 1e-9, "atol": 1e-9}
any_model = pytest.mark.parametrize("name", MODELS)
any_beta = pytest.mark.parametrize("beta", BETAS)
seeds = st.integers(0, 10_000)
sizes = st.integers(1, 5)


# 1. Units


@pytest.mark.parametrize("name", UNITS)
@given(field=st.lists(st.floats(-6, 6), min_size=1, max_size=4))
def test_cumulant_is_the_log_of_the_sum_and_its_derivative_the_mean(name, field):
    unit, x, dx = UNITS[name]
    f = torch.tensor(field, dtype=torch.float64, requires_grad=True)
    log_weight = x[:, None] * f + unit().log_base(x[:, None])[:, None]  # (n_points, n_units)
    by_sum = torch.logsumexp(log_weight + dx.log()[:, None], 0).sum()
    assert_close(unit().cumulant(f), by_sum, **EXACT)
    (mean,) = torch.autograd.grad(unit().cumulant(f), f)
    assert_close(unit().mean(f), mean, **EXACT)


@pytest.mark.parametrize("name", SAMPLED_UNITS)
@pytest.mark.parametrize("value", [-2.0, 0.0, 1.3])
def test_samples_have_the_mean_and_variance_of_the_law(name, value):
    unit, n = UNITS[name][0](), 200_000
    f = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    (mean,) = torch.autograd.grad(unit.cumulant(f), f, create_graph=True)
    (variance,) = torch.autograd.grad(mean, f)
    x = unit.sample(f.detach().expand(n, 1), Noise(0))  # (n, 1)
    error = math.sqrt(variance.item() / n)
    assert abs(x.mean() - mean.item()) < 4 * error
    spread = ((x - mean.item()) ** 2).std() / math.sqrt(n)
    assert abs(x.var() - variance.item()) < 4 * spread + 2 / n


@given(value=st.floats(-20, 20), seed=seeds)
def test_samples_lie_in_the_support(value, seed):
    f = torch.full((50, 3), value, dtype=torch.float64)
    for unit, x, _ in UNITS.values():
        low, high = unit().support
        sample = unit().sample(f, Noise(seed))
        assert sample.shape == f.shape
        assert ((sample >= low) & (sample <= high)).all()
        assert (x >= low).all()
        assert (x <= high).all()


@pytest.mark.parametrize("name", UNITS)
@given(field=st.lists(st.floats(-3, 3), min_size=1, max_size=4))
def test_the_field_of_a_mean_inverts_the_mean(name, field):
    unit, f = UNITS[name][0](), torch.tensor(field, dtype=torch.float64)
    mean = unit.mean(f)
    assert_close(unit.mean(unit.field_of_mean(mean)), mean, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", UNITS)
def test_the_field_of_a_mean_is_finite_for_every_mean_in_the_support(name):
    unit = UNITS[name][0]()
    ends = torch.tensor([max(unit.support[0], -9.0), min(unit.support[1], 9.0)])
    assert unit.field_of_mean(ends).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", UNITS)
def test_units_are_finite_and_monotone_in_every_field(name, dtype):
    unit = UNITS[name][0]()
    f = torch.cat([torch.linspace(-300, 300, 601), torch.linspace(-1e-3, 1e-3, 21)]).sort().values
    f = f.to(dtype)
    mean, cumulant = unit.mean(f), torch.stack([unit.cumulant(x[None]) for x in f])
    assert mean.isfinite().all()
    assert cumulant.isfinite().all()
    assert (mean.diff() > -1e-6 * (1 + mean[1:].abs())).all()
    # Its increments are those of an integral over the mean.
    step = f.diff()
    low, high = mean[:-1] * step, mean[1:] * step
    slack = 3e-6 * (1 + cumulant[1:].abs())
    assert (cumulant.diff() > torch.minimum(low, high) - slack).all()
    assert (cumulant.diff() < torch.maximum(low, high) + slack).all()
    draws = unit.sample(f.expand(2000, -1), Noise(0))
    assert draws.isfinite().all()
    if name in SAMPLED_UNITS:
        error = draws.std(0) / 2000**0.5 + 1e-3 * mean.abs() + 1e-4
        assert ((draws.mean(0) - mean).abs() < 5 * error).all()


def test_means_far_from_zero_keep_their_digits():
    # At −100: 1/100 (1 − 2/100² + 10/100⁴ …), which is lost to cancellation in t + φ/Φ.
    f = torch.tensor([-100.0])
    assert_close(Rectified().mean(f), torch.tensor([0.009998001]), rtol=1e-6, atol=0)
    x = Rectified().sample(f.expand(100_000, 1), Noise(0))
    assert abs(x.mean() / 0.009998001 - 1) < 0.015
    assert abs(x.var() / 0.009994e-2 - 1) < 0.05


@pytest.mark.parametrize("name", ["continuous", "rectified", "rectified of temperature 2"])
@pytest.mark.parametrize("value", [-8.0, -0.3, 0.0, 4.0])
def test_samples_follow_the_whole_law(name, value):
    unit, x, dx = UNITS[name]
    unit, n = unit(), 100_000
    f = torch.tensor([value]).double()
    log_p = x * value + unit.log_base(x[:, None]) - unit.cumulant(f)
    below = (log_p.exp() * dx).cumsum(0) - log_p.exp() * dx / 2
    drawn = unit.sample(f.expand(n, 1), Noise(1))[:, 0].sort().values
    at = torch.searchsorted(drawn, x) / n
    assert (at - below).abs().max() < 2 / math.sqrt(n) + (log_p.exp() * dx).max() / 2


def test_noisy_rectified_units_come_close_to_what_they_stand_for():
    exact, quick = SteppedSigmoid(), NoisyRelu()
    assert type(quick.exact()) is SteppedSigmoid
    for value in (2.0, 5.0):
        f = torch.full((100_000, 1), value)
        for statistic in (torch.mean, torch.std):
            gap = statistic(exact.sample(f, Noise(0))) - statistic(quick.sample(f, Noise(1)))
            assert abs(gap) < 0.15
    # Nair and Hinton: about softplus.
    f = torch.linspace(-5, 20, 50).double()
    assert (exact.mean(f) - torch.nn.functional.softplus(f)).abs().max() < 0.011


def test_mean_units_return_their_mean():
    unit, f = UNITS["mean"][0](), torch.linspace(-3, 3, 7)
    assert_close(unit.sample(f, Noise(0)), torch.sigmoid(f))


@pytest.mark.parametrize("name", FINITE_UNITS)
@given(n=st.integers(1, 6), seed=seeds)
def test_states_are_all_of_them(name, n, seed):
    units = FINITE_UNITS[name](n)
    rows = all_states(units, n)
    found = set(map(tuple, rows.tolist()))
    assert len(found) == len(rows) == units.n_states(n)
    field = 3 * torch.randn(200, n, generator=torch.Generator().manual_seed(seed)).double()
    assert set(map(tuple, units.sample(field, Noise(seed)).tolist())) <= found


@pytest.mark.parametrize("name", FINITE_UNITS)
@given(n=st.integers(1, 5), seed=seeds)
def test_finite_units_sum_over_their_states(name, n, seed):
    units = FINITE_UNITS[name](n)
    f = 2 * torch.randn(n, generator=torch.Generator().manual_seed(seed)).double()
    f.requires_grad_(True)
    x = all_states(units, n)
    by_sum = torch.logsumexp(x @ f + units.log_base(x), 0)
    assert_close(units.cumulant(f), by_sum, **EXACT)
    mean = units.mean(f.detach())
    assert_close(mean, torch.autograd.grad(by_sum, f)[0], **EXACT)
    assert_close(units.mean(units.field_of_mean(mean)), mean, rtol=0, atol=0.01)


@pytest.mark.parametrize("name", FINITE_UNITS)
def test_finite_units_are_drawn_in_proportion(name):
    units, n, draws = FINITE_UNITS[name](4), 4, 100_000
    f = torch.tensor([0.5, -1.0, 0.2, 1.5]).double()
    x = all_states(units, n)
    p = torch.softmax(x @ f, 0)
    drawn = units.sample(f.expand(draws, n), Noise(4))
    share = torch.stack([(drawn == state).all(1).double().mean() for state in x])
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / draws).sqrt()).all()


@pytest.mark.parametrize("name", [name for name in FINITE_UNITS if name not in ("mixed", "pooled")])
@given(n=st.integers(1, 6), seed=seeds)
def test_moves_lead_to_every_other_state_of_a_site(name, n, seed):
    units = FINITE_UNITS[name](n)
    x = units.sample(torch.zeros(3, n).double(), Noise(seed))
    changes, everything = units.site_changes(x), all_states(units, n)
    for row, start in enumerate(x):
        reached = []
        for site in range(units.n_sites(n)):
            unit = changes.unit.expand(3, -1, -1)[row, site]
            change = changes.change.expand(3, units.n_sites(n), len(unit))[row, site]
            for k in range(len(unit)):
                if changes.allowed is None or changes.allowed[row, site, k]:
                    after = start.clone()
                    after[unit[k]] += change[k]
                    if changes.emptied is not None:
                        after[changes.emptied[row, site, 0]] -= 1
                    reached.append(tuple(after.tolist()))
        assert len(set(reached)) == len(reached)
        assert tuple(start.tolist()) not in reached
        assert set(reached) <= set(map(tuple, everything.tolist()))
        # States are products over sites: as many as the moves of each, and where it stands.
        product = units.n_states(n)
        per_site = changes.allowed[row].sum(1) + 1 if changes.allowed is not None else 2
        assert torch.as_tensor(per_site).expand(units.n_sites(n)).prod() == product


# 2. Models


@pytest.mark.parametrize("name", FINITE_HIDDEN)
@any_beta
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_free_energy_is_minus_the_log_of_the_sum_over_hidden_states(
    name, beta, seed, n_visible, n_hidden
):
    model = make_model(name, n_visible, n_hidden, seed)
    v, h = some_rows(model), hidden_states(model)
    b = model.b0 + beta * (model.b - model.b0)
    minus_energy = (
        (v @ b + model.visible.log_base(v))[:, None]
        + h @ (beta * model.c)
        + model.hidden.log_base(h)
        + beta * v @ model.W.T @ h.T
    )  # (n, 2^n_hidden)
    assert_close(model.free_energy(v, beta), -torch.logsumexp(minus_energy, 1), **EXACT)


@pytest.mark.parametrize("name", FINITE)
@any_beta
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_both_layers_give_the_same_partition_function(name, beta, seed, n_visible, n_hidden):
    model = make_model(name, n_visible, n_hidden, seed)
    by_hidden = torch.logsumexp(-model.hidden_free_energy(hidden_states(model), beta), 0)
    assert_close(log_z(model, beta), by_hidden, **EXACT)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("gaussian-bernoulli", "gaussian"),
        ("continuous-bernoulli", "continuous"),
    ],
)
def test_the_partition_function_of_densities_is_the_integral(name, unit):
    model = make_model(name, n_visible=1)
    _, x, dx = UNITS[unit]
    assert_close(torch.logsumexp(-model.free_energy(x[:, None]) + dx.log(), 0), log_z(model))


@any_model
@any_beta
@given(seed=seeds)
def test_conditionals_belong_to_one_joint_law(name, beta, seed):
    # exp(−F(v)) p(h|v) = exp(−F(h)) p(v|h): what makes block Gibbs sampling leave the joint
    # law invariant, whatever the units.
    model = make_model(name, seed=seed)
    v = some_rows(model, seed=seed)
    h = model.sample_hidden(v, Noise(seed))
    to_hidden = _log_density(model.hidden, h, model.hidden_field(v, beta))
    to_visible = _log_density(model.visible, v, model.visible_field(h, beta))
    by_visible = -model.free_energy(v, beta) + to_hidden
    by_hidden = -model.hidden_free_energy(h, beta) + to_visible
    assert_close(by_visible, by_hidden, **EXACT)


def _log_density(units, x, field):
    return (x * field).sum(-1) + units.log_base(x) - units.cumulant(field)


@pytest.mark.parametrize("name", [*UNITS, *FINITE_UNITS])
def test_results_can_be_written_in_place_of_the_field(name):
    unit = UNITS[name][0]() if name in UNITS else FINITE_UNITS[name](3)
    field = torch.linspace(-2, 2, 12).double().view(4, 3)
    for function in (
        lambda f, out: unit.mean(f, out),
        lambda f, out: unit.sample(f, Noise(1), out),
    ):
        there, here = torch.empty_like(field), field.clone()
        expected = function(field, None)
        assert function(field, there) is there
        assert function(here, here) is here
        assert torch.equal(there, expected)
        assert torch.equal(here, expected)


@any_model
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_gradient_in_closed_form_is_autograd_and_finite_differences(
    name, seed, n_visible, n_hidden
):
    model = make_model(name, n_visible, n_hidden, seed)
    v = some_rows(model, seed=seed)
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=len(v)))
    model.set_grad(mean_states(model, v, weight))
    ours = {key: p.grad.clone() for key, p in model.parameters().items()}
    assert_close(torch.cat([g.reshape(-1) for g in ours.values()]), model.theta.grad)

    def minus_free_energy():
        return -(weight * model.free_energy(v)).sum()

    parameters = [p.requires_grad_(True) for p in model.parameters().values()]
    by_autograd = torch.autograd.grad(minus_free_energy(), parameters)
    for mine, expected in zip(ours.values(), by_autograd):
        assert_close(mine, expected, **EXACT)
    with torch.no_grad():
        for key, p in model.parameters().items():
            flat, epsilon = p.view(-1), 1e-5
            flat[0] += epsilon
            up = minus_free_energy()
            flat[0] -= 2 * epsilon
            down = minus_free_energy()
            flat[0] += epsilon
            numeric = (up - down) / (2 * epsilon)
            assert_close(numeric, ours[key].reshape(-1)[0], rtol=1e-5, atol=1e-7)


def test_a_gradient_replaces_the_one_before():
    model = make_model()
    for _ in range(2):
        model.set_grad(mean_states(model, some_rows(model), torch.ones(5).double()))
    twice = flat_grad(model)
    model.set_grad(mean_states(model, some_rows(model), torch.ones(5).double()))
    assert_close(flat_grad(model), twice)


@given(seed=seeds)
def test_the_coupling_is_adjoint(seed):
    rng = torch.Generator().manual_seed(seed)
    W, v, h = (torch.randn(s, generator=rng).double() for s in [(3, 4), (5, 4), (5, 3)])
    coupling, zero = Dense(W), torch.zeros((), dtype=torch.float64)
    assert_close((h * coupling.up(v, zero)).sum(), (coupling.down(h, zero) * v).sum())
    out = torch.full_like(W, torch.nan)
    coupling.correlate_(out, Joint(v, h, torch.ones(5)))
    assert_close((out * W).sum(), (h * coupling.up(v, zero)).sum())


# 3. The path and the transition


@pytest.mark.parametrize("name", FINITE)
@any_beta
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_a_sweep_leaves_the_law_invariant_in_detailed_balance(
    name, beta, seed, n_visible, n_hidden
):
    model = make_model(name, n_visible, n_hidden, seed)
    T, p = transition_matrix(model, beta), probabilities(model, beta)
    assert_close(T.sum(1), torch.ones_like(p), **EXACT)
    assert_close(p @ T, p, **EXACT)
    assert_close(p[:, None] * T, (p[:, None] * T).T, **EXACT)


@any_beta
def test_the_transition_draws_from_its_matrix(beta):
    model, n = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000
    T, code = transition_matrix(model, beta), torch.tensor([1.0, 2.0, 4.0]).double()
    for row, v in enumerate(states(3)):
        after = model.transition(v.expand(n, 3), Noise(row), beta)
        count = torch.bincount((after @ code).long(), minlength=8)
        z = (count / n - T[row]) / (T[row] * (1 - T[row]) / n).sqrt()
        assert z.abs().max() < 4.5


@any_model
@given(seed=seeds)
def test_the_reference_model_is_known_exactly(name, seed):
    model = make_model(name, seed=seed)
    assert_close(log_z(model, 0.0), model.log_partition_reference(), **EXACT)
    assert_close(model.log_partition_reference().ndim, 0)


@any_model
def test_start_draws_from_the_reference_model(name):
    model, n = make_model(name), 100_000
    v = model.start(n, Noise(3))
    mean = model.visible.mean(model.b0)
    error = v.std(0) / math.sqrt(n)
    assert ((v.mean(0) - mean).abs() <= 4.5 * error).all()
    expected = exact_draws(model, n, beta=0.0)
    assert torch.linalg.matrix_norm(torch.cov(v.T) - torch.cov(expected.T)) < 0.05


@any_model
def test_a_column_of_betas_is_one_beta_for_each_row(name):
    model = make_model(name)
    v, betas = some_rows(model, 3), torch.tensor([[0.0], [0.3], [1.0]]).double()
    together = model.free_energy(v, betas)
    apart = torch.cat([model.free_energy(v[i : i + 1], float(betas[i])) for i in range(3)])
    assert_close(together, apart, **EXACT)


@any_model
def test_at_one_the_path_ends_at_the_model_whatever_the_reference(name):
    model, other = make_model(name), make_model(name, b0=False)
    v = some_rows(model)
    assert_close(model.free_energy(v), other.free_energy(v), **EXACT)
    assert_close(model.free_energy(v, torch.ones(1).double()), model.free_energy(v), **EXACT)


# 4. Gradients


def log_likelihood_grad(model, v, weight):
    parameters = [p.requires_grad_(True) for p in model.parameters().values()]
    total = -(weight * (model.free_energy(v) + log_z(model))).sum()
    grads = torch.autograd.grad(total, parameters)
    for p in parameters:
        p.requires_grad_(False)
    return torch.cat([g.reshape(-1) for g in grads])


@any_model
@given(seed=seeds, n=st.integers(1, 7))
def test_exact_is_the_gradient_of_the_log_likelihood(name, seed, n):
    model = make_model(name, seed=seed)
    v = some_rows(model, n, seed)
    weight = torch.from_numpy(np.random.default_rng(seed).uniform(0, 2, n))
    expected = log_likelihood_grad(model, v, weight)
    update(model, Exact(), v, weight)
    assert_close(flat_grad(model), expected, **EXACT)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_cd_is_unbiased_where_the_data_are_those_of_the_model(n_steps):
    # The exact gradient is then zero.
    model = make_model(n_visible=3, n_hidden=2, scale=1.0)
    v, weight = states(3), probabilities(model)
    draws, noise = [], Noise(0)
    for _ in range(3000):
        update(model, CD(n_steps), v, weight, noise=noise)
        draws.append(flat_grad(model))
    mean, error = torch.stack(draws).mean(0), torch.stack(draws).std(0) / math.sqrt(3000)
    assert (mean.abs() < 4.5 * error).all()


@pytest.mark.parametrize(
    "gradient",
    [PCD(1, 100_000), PCD(3, 100_000), ParallelTempering(4, 1, 100_000)],
    ids=str,
)
def test_persistent_gradients_are_unbiased_where_the_chains_are_exact(gradient):
    model, n_chains = make_model(n_visible=3, n_hidden=2, scale=1.0), 100_000
    v, weight = some_rows(model, 2), torch.tensor([0.2, 0.5]).double()
    expected = log_likelihood_grad(model, v, weight)
    state = gradient.start(model, 2, Noise(3))
    for k, beta in enumerate(state.get("beta", torch.ones(1))):
        h = model.sample_hidden(exact_draws(model, n_chains, beta.item(), k), Noise(k), beta.item())
        state["chains"][k * n_chains : (k + 1) * n_chains] = h
    update(model, gradient, v, weight, state, Noise(6))
    error = 0.5 * weight.sum() / math.sqrt(n_chains)
    assert (flat_grad(model) - expected).abs().max() < 4.5 * error
    # The chains have moved on, and are where they should be.
    mean = torch.sigmoid(model.hidden_field(exact_draws(model, n_chains, seed=9))).mean(0)
    assert (state["chains"][:n_chains].mean(0) - mean).abs().max() < 6 * 0.5 / math.sqrt(n_chains)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_cd_starts_at_the_data_and_makes_n_steps_sweeps(n_steps):
    model, n = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000
    v0 = states(3)[5]
    weight = torch.full((n,), 1 / n).double()
    update(model, CD(n_steps), v0.expand(n, 3), weight)
    after = torch.linalg.matrix_power(transition_matrix(model, 1.0), n_steps)[5]
    expected = v0 - after @ states(3)  # ∂/∂b of the log-likelihood
    assert (model.b.grad - expected).abs().max() < 4.5 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_pcd_chains_go_on_from_where_they_were(n_steps):
    model, n = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000
    v = some_rows(model, 2)
    h0 = torch.tensor([1.0, 0.0]).double()
    state = {"chains": h0.repeat(n, 1)}
    update(model, PCD(n_steps, n), v, torch.ones(2).double() / 2, state)
    T = torch.linalg.matrix_power(transition_matrix(model, 1.0), n_steps - 1)
    v0 = _visible_given(model, h0) @ T
    expected = v0 @ torch.sigmoid(model.hidden_field(states(3)))
    assert (state["chains"].mean(0) - expected).abs().max() < 4.5 * 0.5 / math.sqrt(n)


def _visible_given(model, h):
    field = model.visible_field(h[None])
    return (states(len(model.b)) @ field.T - model.visible.cumulant(field)).exp()[:, 0]


@pytest.mark.parametrize(("n_chains", "expected"), [(None, 6), (17, 17)])
def test_pcd_has_as_many_chains_as_asked_for(n_chains, expected):
    model = make_model()
    gradient = PCD(n_chains=n_chains)
    assert gradient.n_model(model, 6) == expected
    assert gradient.start(model, 6, Noise(0))["chains"].shape == (expected, 3)


def test_exchanges_leave_every_level_where_it_is_in_law():
    # Levels at exact draws stay exact, also of pairs: exchanged states are independent again.
    model, n, beta = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000, [1.0, 0.6, 0.3, 0.0]
    v = torch.cat([exact_draws(model, n, b, k) for k, b in enumerate(beta)])
    field = model.hidden_field(v)
    order, accepted = exchange(model, v, field, torch.tensor(beta).double(), Noise(0))
    assert sorted(order.tolist()) == list(range(4 * n))
    assert ((accepted > 0.1) & (accepted < 0.999)).all()
    after = v[order].view(4, n, 3)
    code = torch.tensor([1.0, 2.0, 4.0]).double()
    for k, b in enumerate(beta):
        p = probabilities(model, b)
        share = torch.bincount((after[k] @ code).long(), minlength=8) / n
        assert ((share - p).abs() < 4.5 * (p / n).sqrt()).all()
        other = after[(k + 1) % 4] - after[(k + 1) % 4].mean(0)
        covariance = (after[k] - after[k].mean(0)).T @ other / n
        assert covariance.abs().max() < 4.5 * 0.25 / math.sqrt(n)


def test_exchanges_follow_the_metropolis_rule():
    # Two levels, one pair of states, over and over: how often they change places.
    model, n = make_model(n_visible=3, n_hidden=2, scale=2.0), 100_000
    cold, hot = states(3)[2], states(3)[5]
    v = torch.cat([cold.expand(n, 3), hot.expand(n, 3)])
    beta = torch.tensor([1.0, 0.4]).double()
    _, accepted = exchange(model, v, model.hidden_field(v), beta, Noise(0))
    F = {
        (b, i): model.free_energy(x[None], b) for b in (1.0, 0.4) for i, x in enumerate((cold, hot))
    }
    ratio = (F[1.0, 0] + F[0.4, 1] - F[1.0, 1] - F[0.4, 0]).exp().clamp(max=1)
    assert 0.05 < ratio < 0.95
    assert abs(accepted - ratio) < 4.5 * 0.5 / math.sqrt(n)


def test_the_ladder_adapts_until_neighbours_exchange_equally_often():
    model = make_model(n_visible=12, n_hidden=8, scale=1.2)
    gradient = ParallelTempering(6, n_chains=100)
    state = gradient.start(model, 1, Noise(0))
    v, rates, noise = some_rows(model, 1), [], Noise(0)
    for _ in range(3000):
        update(model, gradient, v, torch.ones(1).double(), state, noise)
        rates.append(state["swap_rate"].clone())
    beta = state["beta"]
    assert beta[0] == 1
    assert beta[-1] == 0
    assert (beta[:-1] > beta[1:]).all()
    assert rates[-1].max() - rates[-1].min() < 0.07 < rates[200].max() - rates[200].min()
    assert_close(gradient.report(state)["swap_rate"], rates[-1].mean())
    assert_close(gradient.report(state)["swap_rate_min"], rates[-1].min())


def test_one_level_of_tempering_is_pcd():
    for n_steps in (1, 2):
        grads = []
        for gradient in (PCD(n_steps, 9), ParallelTempering(1, n_steps, 9)):
            model = make_model()
            state = gradient.start(model, 3, Noise(0))
            update(model, gradient, some_rows(model, 3), torch.ones(3).double(), state, Noise(1))
            grads.append(flat_grad(model))
        assert_close(*grads)


def test_tempered_chains_cross_where_plain_ones_are_stuck():
    # Two modes far apart: all units on, or all off.
    W = torch.full((4, 8), 3.0).double()
    model = RBM(Bernoulli(), Bernoulli(), W, -W.sum(0) / 2, -W.sum(1) / 2, torch.zeros(8).double())
    shares = []
    for gradient in (PCD(1, 50), ParallelTempering(8, 1, 50)):
        state = gradient.start(model, 1, Noise(0))
        state["chains"].fill_(1.0)
        v, noise = some_rows(model, 1), Noise(0)
        for _ in range(400):
            update(model, gradient, v, torch.ones(1).double(), state, noise)
        shares.append(state["chains"][:50].mean().item())
    assert shares[0] > 0.9
    assert 0.25 < shares[1] < 0.75


# 5. Symmetries


@any_model
@given(seed=seeds)
def test_the_centred_gradient_is_that_of_the_literature(name, seed):
    # Melchior et al. (2016), equations 6 to 9, from the means over data and model; in the
    # coordinates b + Wᵀ λ and c + W μ it is a plain gradient.
    model = make_model(name, seed=seed)
    v, weight = some_rows(model, 6, seed), torch.full((6,), 1 / 6).double()
    mu, lam = offsets(model, seed)
    phases = update(model, Exact(), v, weight)
    assert_close(phases.weight.sum(), torch.zeros(()).double(), atol=1e-12, rtol=0)
    plain = [p.grad.clone() for p in (model.W, model.b, model.c)]
    center(model, mu, lam)
    W_grad, b_grad, c_grad = plain
    centred = W_grad - torch.outer(lam, b_grad) - torch.outer(c_grad, mu)
    assert_close(model.W.grad, centred, **EXACT)
    assert_close(model.b.grad, b_grad - centred.T @ lam, **EXACT)
    assert_close(model.c.grad, c_grad - centred @ mu, **EXACT)
    for p, step in zip((model.W, model.b, model.c), centred_step(model, plain, mu, lam)):
        assert_close(p.grad, step, **EXACT)


@given(seed=seeds, flipped=st.lists(st.booleans(), min_size=4, max_size=4))
def test_centred_updates_are_invariant_under_flips_of_visible_units(seed, flipped):
    s = torch.tensor(flipped)
    model = make_model(seed=seed, b0=False)
    v, weight = some_rows(model, 6, seed), torch.full((6,), 1 / 6).double()
    mu, lam = offsets(model, seed)
    mirror = RBM(
        Bernoulli(),
        Bernoulli(),
        torch.where(s, -model.W, model.W),
        torch.where(s, -model.b, model.b),
        model.c + (model.W * s).sum(1),
    )
    assert_close(probabilities(model).sort().values, probabilities(mirror).sort().values)
    for m, rows, origin in (
        (model, v, mu),
        (mirror, torch.where(s, 1 - v, v), torch.where(s, 1 - mu, mu)),
    ):
        update(m, Exact(), rows, weight)
        center(m, origin, lam)
        m.theta.add_(m.theta.grad, alpha=0.3)
    assert_close(torch.where(s, -mirror.W, mirror.W), model.W, **EXACT)
    assert_close(torch.where(s, -mirror.b, mirror.b), model.b, **EXACT)
    assert_close(mirror.c + (mirror.W * s).sum(1), model.c, **EXACT)


@any_model
@given(seed=seeds)
def test_zero_weight_is_a_row_removed_and_a_row_twice_is_weight_two(name, seed):
    model = make_model(name, seed=seed)
    v = some_rows(model, 3, seed)

    def grads(rows, weight):
        model.set_grad(mean_states(model, rows, torch.tensor(weight).double()))
        return flat_grad(model)

    assert_close(grads(v, [1.0, 0.0, 2.0]), grads(v[[0, 2, 2]], [1.0, 1.0, 1.0]), **EXACT)


# 7. Pseudo-likelihood


@pytest.mark.parametrize("name", [n for n in MODELS if n.split("-")[0] in DISCRETE])
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_pseudo_likelihood_is_the_sum_of_the_log_conditionals(name, seed, n_visible, n_hidden):
    model = make_model(name, n_visible, n_hidden, seed)
    all_v, n_sites = visible_states(model), model.visible.n_sites(n_visible)
    of_site = groups(n_visible) if name.startswith("categorical") else [1] * n_visible
    site = torch.arange(n_sites).repeat_interleave(torch.tensor(of_site))  # of each unit
    log_p = -model.free_energy(all_v)
    expected = torch.zeros(len(all_v)).double()
    for i in range(n_sites):
        others = site != i
        same = (all_v[:, None, others] == all_v[None, :, others]).all(-1)  # agree but for i
        total = torch.logsumexp(log_p.expand_as(same).masked_fill(~same, -math.inf), 1)
        expected += log_p - total
    assert_close(model.pseudo_log_likelihood(all_v), expected, **EXACT)
    # From some of the units of each row: the same on average over which.
    by_one = [
        model.pseudo_log_likelihood(all_v, torch.full((len(all_v), 1), i)) for i in range(n_sites)
    ]
    assert_close(sum(by_one) / n_sites, expected, **EXACT)
    twice = torch.zeros(len(all_v), 2, dtype=torch.long)
    assert_close(model.pseudo_log_likelihood(all_v, twice), by_one[0], **EXACT)


@pytest.mark.parametrize("n_units", [1, 2, 3, 7, 33, 100])
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0, 60.0, 500.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("grey", [False, True])
def test_the_gain_of_a_change_is_the_difference_of_the_cumulants(n_units, scale, dtype, grey):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    field, steps = 5 * normal(4, 1, 1, n_units), scale * normal(1, 6, 1, n_units)
    change = normal(4, 6, 1, 1) if grey else normal(4, 6, 1, 1).sign()
    expected = Bernoulli().cumulant(field + change * steps) - Bernoulli().cumulant(field)
    gains = Bernoulli().gains(field.to(dtype), steps.to(dtype), change.to(dtype))
    size = (change * steps).abs().sum(-1).max().item() + n_units
    tolerance = {torch.float32: 3e-7, torch.float64: 1e-14}[dtype] * size
    assert_close(gains, expected.to(dtype), rtol=0, atol=tolerance)


# 8. Special cases


@given(seed=seeds)
def test_a_gaussian_rbm_is_its_mixture_of_gaussians(seed):
    model = make_model("gaussian-bernoulli", n_visible=3, n_hidden=3, seed=seed)
    v, h = some_rows(model, seed=seed), states(3)
    means = model.b + h @ model.W  # (8, 3)
    log_share = -model.hidden_free_energy(h) - log_z(model)
    log_normal = torch.distributions.Normal(means, 1.0).log_prob(v[:, None]).sum(-1)  # (n, 8)
    mixture = torch.logsumexp(log_share + log_normal, 1)
    assert_close(-model.free_energy(v) - log_z(model), mixture, **EXACT)
    # The textbook form of its free energy, up to what does not depend on v.
    textbook = (v - model.b).square().sum(1) / 2 - torch.nn.functional.softplus(
        model.c + v @ model.W.T
    ).sum(1)
    difference = model.free_energy(v) - textbook
    assert_close(difference, difference[:1].expand_as(difference), **EXACT)


@given(seed=seeds, variance=st.floats(0.1, 5))
def test_the_variance_of_gaussian_units_is_a_scale(seed, variance):
    model = make_model("gaussian-bernoulli", seed=seed)
    spread = math.sqrt(variance)
    scaled = RBM(
        type(model.visible)(variance),
        Bernoulli(),
        model.W / spread,
        model.b / spread,
        model.c,
    )
    v = some_rows(model, seed=seed)
    assert_close(scaled.hidden_field(v * spread), model.hidden_field(v), **EXACT)
    difference = scaled.free_energy(v * spread) - model.free_energy(v)
    assert_close(difference, torch.zeros_like(difference), **EXACT)
    h = model.sample_hidden(v, Noise(0))
    drawn = scaled.sample_visible(h, Noise(1)) / spread
    assert_close(drawn, model.sample_visible(h, Noise(1)), **EXACT)


@given(seed=seeds)
def test_two_categories_are_a_bernoulli_unit(seed):
    # One-hot pairs (1 − x, x): field differences are the fields of x.
    plain = make_model("bernoulli-bernoulli", 3, 2, seed)
    pair = RBM(
        Categorical([2, 2, 2]),
        Bernoulli(),
        torch.stack([torch.zeros_like(plain.W), plain.W], -1).flatten(-2),
        torch.stack([torch.zeros_like(plain.b), plain.b], -1).flatten(-2),
        plain.c,
    )
    x = states(3)
    one_hot = torch.stack([1 - x, x], -1).flatten(-2)
    assert_close(pair.free_energy(one_hot), plain.free_energy(x), **EXACT)
    assert_close(pair.pseudo_log_likelihood(one_hot), plain.pseudo_log_likelihood(x), **EXACT)
    h = states(2)
    mean = pair.visible.mean(pair.visible_field(h))[:, 1::2]
    assert_close(mean, plain.visible.mean(plain.visible_field(h)), **EXACT)


@given(seed=seeds)
def test_spins_are_bernoulli_units_in_other_coordinates(seed):
    # s = 2x − 1:  b·s + h·W s = 2 b·x + h·2W x − b·1 − h·W 1
    spins = make_model("spin-spin", 3, 2, seed)
    plain = RBM(
        Bernoulli(),
        Spin(),
        2 * spins.W,
        2 * spins.b,
        spins.c - spins.W.sum(1),
    )
    x = states(3)
    difference = spins.free_energy(2 * x - 1) - plain.free_energy(x)
    assert_close(difference, spins.b.sum().expand_as(difference), **EXACT)


@given(seed=seeds, n_scaled=st.integers(1, 4))
def test_the_gradient_of_a_learned_scale_is_that_of_the_density_of_the_rows(seed, n_scaled):
    # log p(x) = −F(x exp(−r)) − Σ r − log Z, for the first units; the others keep their scale.
    r, T = torch.linspace(-0.5, 0.3, n_scaled).double(), 2.0
    plain = make_model("gaussian of temperature 2-spin", seed=seed)
    visible = Mixed([(ScaledGaussian(r, T), n_scaled), (Gaussian(T), 4 - n_scaled)])
    model = RBM(visible, plain.hidden, plain.W, plain.b, plain.c)
    x, weight = some_rows(model, seed=seed), torch.linspace(0, 2, 5).double()
    scale = torch.cat([r, torch.zeros(4 - n_scaled).double()]).exp()
    assert_close(model.visible.from_rows(x), x / scale, **EXACT)
    assert_close(model.visible.to_rows(model.visible.from_rows(x)), x, **EXACT)
    assert model.visible.log_volume() == pytest.approx(r.sum().item())
    scales = model.parameters()["log_scales"]
    scales.requires_grad_(True)
    total = (weight * (-model.free_energy(model.visible.from_rows(x)) - scales.sum())).sum()
    (expected,) = torch.autograd.grad(total, scales)
    scales.requires_grad_(False)
    data = mean_states(model, model.visible.from_rows(x), weight)
    model.set_grad(data, data)
    assert_close(scales.grad, expected, **EXACT)


@given(seed=seeds)
def test_bernoulli_free_energy_as_the_textbooks_have_it(seed):
    model = make_model(seed=seed)
    v = some_rows(model, seed=seed)
    textbook = -v @ model.b - torch.nn.functional.softplus(model.c + v @ model.W.T).sum(1)
    assert_close(model.free_energy(v), textbook, **EXACT)


# 9. Stationarity


@any_model
@pytest.mark.parametrize("n_steps", [1, 4, 16])
def test_chains_that_start_from_exact_draws_stay_there(name, n_steps):
    model, n = make_model(name, n_visible=3, n_hidden=3, scale=0.8), 50_000
    start = exact_draws(model, n, seed=n_steps)
    end = run(model, start, Noise(n_steps), n_steps=n_steps)
    for statistic in (lambda v: v, lambda v: v * v.roll(1, 1), model.free_energy):
        before, after = statistic(start), statistic(end)
        error = (before.var(0) / n + after.var(0) / n).sqrt()
        assert ((before.mean(0) - after.mean(0)).abs() < 4.5 * error + 1e-9).all()


def test_states_of_groups_of_any_sizes():
    rows = all_states(Categorical([2, 3, 4]), 9)
    assert len(set(map(tuple, rows.tolist()))) == 24


def test_the_series_of_continuous_units_is_as_good_as_the_closed_form():
    _, x, dx = UNITS["continuous"]
    for value in np.linspace(-0.6, 0.6, 25):
        f = torch.tensor([value]).double()
        p = (x * value).exp() * dx
        assert_close(ContinuousBernoulli().mean(f)[0], (p * x).sum() / p.sum(), rtol=0, atol=2e-12)
        assert_close(ContinuousBernoulli().cumulant(f), p.sum().log(), rtol=0, atol=2e-12)


def test_rectified_means_far_from_zero():
    t = torch.linspace(-40, -12.01, 100).double()
    expected = t + math.sqrt(2 / math.pi) / torch.special.erfcx(-t / math.sqrt(2))
    assert_close(Rectified().mean(t), expected, rtol=3e-7, atol=0)


@pytest.mark.parametrize("value", [-30.0, -8.0, -5.1, -4.9, 0.0, 3.0])
def test_rectified_draws_are_quantiles(value):
    f = torch.full((1000,), value).double()
    x, u = Rectified().sample(f, Noise(0)), 1 - Noise(0).uniform(f).double()
    log_ndtr = torch.special.log_ndtr
    assert_close(log_ndtr(f - x) - log_ndtr(f), u.log(), rtol=3e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_stepped_base_counts_the_choices(temperature):
    units = SteppedSigmoid(temperature)
    log_e = torch.full((65,), -math.inf).double()  # of elementary symmetric polynomials
    log_e[0] = 0
    for k in range(64):
        log_e[1:] = torch.logaddexp(log_e[1:], log_e[:-1] - (k + 0.5) / temperature)
    assert_close(units.log_base(torch.arange(65).double()[:, None]), log_e, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_noisy_units_at_a_temperature(temperature):
    exact, quick = SteppedSigmoid(temperature), NoisyRelu(temperature)
    assert quick.exact().temperature == temperature
    f = torch.full((100_000, 1), 5.0)
    for statistic in (torch.mean, torch.std):
        gap = statistic(exact.sample(f, Noise(0))) - statistic(quick.sample(f, Noise(1)))
        assert abs(gap) < 0.1
    assert quick.sample(torch.full((10, 1), 300.0), Noise(0)).max() <= 64


def test_mixed_units_are_their_parts():
    units = Mixed([(Gaussian(2.0), 2), (MeanBernoulli(), 1), (Rectified(), 1)])
    x = torch.tensor([1.0, -2.0, 1.0, 3.0]).double()
    assert_close(units.log_base(x), torch.tensor(-5 / 4 - 9 / 2).double())
    assert [type(kind) for kind in units.exact().kinds] == [Gaussian, Bernoulli, Rectified]


def test_the_field_of_a_mean_reaches_far():
    f = torch.tensor([-60.0, -20.0, 20.0, 60.0]).double()
    units = ContinuousBernoulli()
    assert_close(units.field_of_mean(units.mean(f)), f, rtol=1e-6, atol=0)
    assert_close(units.field_of_mean(torch.ones(1).double()), torch.tensor([math.sinh(5)]).double())


def test_scales_are_confined():
    plain = make_model("gaussian-bernoulli", 3)
    r = torch.tensor([-9.0, 0.1, 9.0]).double()
    model = RBM(ScaledGaussian(r), plain.hidden, plain.W, plain.b, plain.c)
    model.confine_()
    scales = model.parameters()["log_scales"].exp()
    assert_close(scales, torch.tensor([0.1, math.exp(0.1), 2**0.5]).double())
