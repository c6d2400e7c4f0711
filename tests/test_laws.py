"""What must be true of every unit, model and gradient: exact, by enumeration, in float64."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine.gradients import CD, PCD, Centered, Exact
from skebm.engine.models import RBM, Dense
from skebm.engine.noise import Noise
from skebm.engine.sampling import run
from skebm.engine.units import Bernoulli
from tests.conftest import (
    MODELS,
    SAMPLED_UNITS,
    UNITS,
    log_z,
    make_model,
    probabilities,
    some_rows,
    states,
)

BETAS = [0.0, 0.3, 1.0]
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
        low, high = unit.support
        sample = unit().sample(f, Noise(seed))
        assert sample.shape == f.shape
        assert ((sample >= low) & (sample <= high)).all()
        assert (x >= low).all()
        assert (x <= high).all()


@pytest.mark.parametrize("name", UNITS)
@given(field=st.lists(st.floats(-6, 6), min_size=1, max_size=4))
def test_natural_inverts_the_mean(name, field):
    unit, f = UNITS[name][0](), torch.tensor(field, dtype=torch.float64)
    assert_close(unit.natural(unit.mean(f)), f, **EXACT)


@pytest.mark.parametrize("name", UNITS)
def test_natural_is_finite_for_every_mean_in_the_support(name):
    unit = UNITS[name][0]()
    ends = torch.tensor([max(unit.support[0], -9.0), min(unit.support[1], 9.0)])
    assert unit.natural(ends).isfinite().all()


def test_mean_units_return_their_mean():
    unit, f = UNITS["mean"][0](), torch.linspace(-3, 3, 7)
    assert_close(unit.sample(f, Noise(0)), torch.sigmoid(f))


@given(n=st.integers(1, 8))
def test_states_are_all_of_them(n):
    rows = Bernoulli().states(n)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, states(n).tolist()))


# 2. Models


@any_model
@any_beta
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_free_energy_is_minus_the_log_of_the_sum_over_hidden_states(
    name, beta, seed, n_visible, n_hidden
):
    if MODELS[name][1] is not Bernoulli:
        return
    model = make_model(name, n_visible, n_hidden, seed)
    v, h = some_rows(model), states(n_hidden)
    b = model.b0 + beta * (model.b - model.b0)
    minus_energy = (
        (v @ b + model.visible.log_base(v))[:, None]
        + h @ (beta * model.c)
        + beta * v @ model.W.T @ h.T
    )  # (n, 2^n_hidden)
    assert_close(model.free_energy(v, beta), -torch.logsumexp(minus_energy, 1), **EXACT)


@any_beta
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_both_layers_give_the_same_partition_function(beta, seed, n_visible, n_hidden):
    model = make_model("bernoulli-bernoulli", n_visible, n_hidden, seed)
    by_hidden = torch.logsumexp(-model.hidden_free_energy(states(n_hidden), beta), 0)
    assert_close(log_z(model, beta), by_hidden, **EXACT)


def test_gaussian_partition_function_is_the_integral():
    model = make_model("gaussian-bernoulli", n_visible=1)
    _, x, dx = UNITS["gaussian"]
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


@any_model
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_gradient_in_closed_form_is_autograd_and_finite_differences(
    name, seed, n_visible, n_hidden
):
    model = make_model(name, n_visible, n_hidden, seed)
    v = some_rows(model, seed=seed)
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=len(v)))
    field = model.add_grad(v, weight)
    assert_close(field, model.hidden_field(v))
    ours = {key: p.grad.clone() for key, p in model.parameters().items()}
    for p in model.parameters().values():
        p.requires_grad_(True)
    model.zero_grad()
    (weight * model.free_energy(v)).sum().backward()
    for key, p in model.parameters().items():
        assert_close(ours[key], p.grad, **EXACT)
    with torch.no_grad():
        for key, p in model.parameters().items():
            flat, epsilon = p.view(-1), 1e-5
            flat[0] += epsilon
            up = (weight * model.free_energy(v)).sum()
            flat[0] -= 2 * epsilon
            down = (weight * model.free_energy(v)).sum()
            flat[0] += epsilon
            numeric = (up - down) / (2 * epsilon)
            assert_close(numeric, ours[key].reshape(-1)[0], rtol=1e-5, atol=1e-7)


def test_gradients_add_up():
    model, v = make_model(), some_rows(make_model())
    model.add_grad(v, torch.ones(5).double())
    once = model.W.grad.clone()
    model.add_grad(v, torch.ones(5).double())
    assert_close(model.W.grad, 2 * once)


@given(seed=seeds)
def test_the_coupling_is_adjoint(seed):
    rng = torch.Generator().manual_seed(seed)
    W, v, h = (torch.randn(s, generator=rng).double() for s in [(3, 4), (5, 4), (5, 3)])
    coupling, zero = Dense(W), torch.zeros((), dtype=torch.float64)
    assert_close((h * coupling.up(v, zero)).sum(), (coupling.down(h, zero) * v).sum())
    out = torch.zeros_like(W)
    coupling.correlate_(out, h, v)
    assert_close((out * W).sum(), (h * coupling.up(v, zero)).sum())


# 3. The path and the transition


def transition_matrix(model, beta):
    """P(v → v′) of one sweep, a row for each v."""
    v, h = states(len(model.b)), states(len(model.c))
    field_h = model.hidden_field(v, beta)
    field_v = model.visible_field(h, beta)
    to_hidden = h @ field_h.T - model.hidden.cumulant(field_h)  # (2^n_hidden, 2^n_visible)
    to_visible = v @ field_v.T - model.visible.cumulant(field_v)  # (2^n_visible, 2^n_hidden)
    return (to_visible.exp() @ to_hidden.exp()).T


@any_beta
@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_a_sweep_leaves_the_law_invariant_in_detailed_balance(beta, seed, n_visible, n_hidden):
    model = make_model("bernoulli-bernoulli", n_visible, n_hidden, seed)
    T, p = transition_matrix(model, beta), probabilities(model, beta)
    assert_close(T.sum(1), torch.ones_like(p), **EXACT)
    assert_close(p @ T, p, **EXACT)
    assert_close(p[:, None] * T, (p[:, None] * T).T, **EXACT)


@any_beta
def test_the_transition_draws_from_its_matrix(beta):
    model, n = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000
    T, code = transition_matrix(model, beta), torch.tensor([4.0, 2.0, 1.0]).double()
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
    assert ((v.mean(0) - mean).abs() < 4.5 * error).all()
    assert torch.linalg.matrix_norm(torch.cov(v.T) - torch.diag(v.var(0))) < 0.05


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


@any_model
@given(seed=seeds)
def test_derivative_of_log_z_is_minus_the_expected_gradient(name, seed):
    model = make_model(name, seed=seed)
    model.zero_grad()
    one = torch.ones(1).double()
    Exact().subtract_model(model, None, one, {}, Noise(0))
    ours = [p.grad.clone() for p in model.parameters().values()]  # −⟨∂F/∂θ⟩ = ∂ log Z/∂θ
    for p in model.parameters().values():
        p.requires_grad_(True)
    theirs = torch.autograd.grad(log_z(model), list(model.parameters().values()))
    for mine, other in zip(ours, theirs):
        assert_close(mine, other, **EXACT)


def log_likelihood_grad(model, v, weight):
    parameters = [p.requires_grad_(True) for p in model.parameters().values()]
    loss = (weight * (model.free_energy(v) + log_z(model))).sum()
    grads = torch.autograd.grad(loss, parameters)
    for p in parameters:
        p.requires_grad_(False)
    return grads


@any_model
@given(seed=seeds, n=st.integers(1, 7))
def test_exact_is_the_gradient_of_the_log_likelihood(name, seed, n):
    model = make_model(name, seed=seed)
    v = some_rows(model, n, seed)
    weight = torch.from_numpy(np.random.default_rng(seed).uniform(0, 2, n))
    Exact()(model, v, weight, {}, Noise(0))
    for p, expected in zip(model.parameters().values(), log_likelihood_grad(model, v, weight)):
        assert_close(p.grad, expected, **EXACT)


def expected_negatives(gradient, model, v, weight, n_repeats):
    """Mean and standard error of the gradient over many draws of the noise."""
    draws = []
    state = gradient.start(model, v, Noise(99))
    for seed in range(n_repeats):
        model.zero_grad()
        gradient(model, v, weight, copy.deepcopy(state), Noise(seed))
        draws.append(torch.cat([p.grad.reshape(-1) for p in model.parameters().values()]))
    draws = torch.stack(draws)
    return draws.mean(0), draws.std(0) / math.sqrt(n_repeats)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("kind", ["cd", "pcd"])
def test_the_gradient_is_unbiased_where_the_negatives_are_exact(kind, n_steps):
    # The "data" are the model's own law for CD, whose exact gradient is then zero. For PCD
    # the chains are exact draws, and the data anything.
    model = make_model(n_visible=3, n_hidden=2, scale=1.0)
    if kind == "cd":
        v, weight = states(3), probabilities(model)
        mean, error = expected_negatives(CD(n_steps), model, v, weight, 3000)
        expected = torch.zeros_like(mean)
    else:
        v, weight = some_rows(model, 2), torch.tensor([0.2, 0.5]).double()
        n_chains = 200_000
        rng = np.random.default_rng(0)
        drawn = rng.choice(8, size=n_chains, p=probabilities(model).numpy())
        h = model.sample_hidden(states(3)[drawn], Noise(5))
        model.zero_grad()
        PCD(n_steps, n_chains)(model, v, weight, {"chains": h}, Noise(6))
        mean = torch.cat([p.grad.reshape(-1) for p in model.parameters().values()])
        error = torch.full_like(mean, 0.5 / math.sqrt(n_chains))
        expected = torch.cat([g.reshape(-1) for g in log_likelihood_grad(model, v, weight)])
    assert ((mean - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize("n_steps", [1, 4])
def test_cd_starts_at_the_data_and_makes_n_steps_sweeps(n_steps):
    model, n = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000
    v0 = states(3)[5]
    weight = torch.full((n,), 1 / n).double()
    CD(n_steps)(model, v0.expand(n, 3), weight, {}, Noise(0))
    after = torch.linalg.matrix_power(transition_matrix(model, 1.0), n_steps)[5]
    expected = -(v0 - after @ states(3))  # ∂/∂b of −log-likelihood
    assert (model.b.grad - expected).abs().max() < 4.5 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_pcd_chains_go_on_from_where_they_were(n_steps):
    model, n = make_model(n_visible=3, n_hidden=2, scale=1.5), 100_000
    v = some_rows(model, 2)
    h0 = torch.tensor([1.0, 0.0]).double()
    state = {"chains": h0.repeat(n, 1)}
    PCD(n_steps)(model, v, torch.ones(2).double() / 2, state, Noise(0))
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
    state = PCD(n_chains=n_chains).start(model, some_rows(model, 6), Noise(0))
    assert state["chains"].shape == (expected, 3)


@pytest.mark.parametrize("gradient", [CD(2), PCD(2, 7), Exact()])
@given(seed=seeds)
def test_centring_keeps_the_zeros_of_the_gradient_and_its_direction_up(gradient, seed):
    # A centred gradient is a positive definite transform of the plain one.
    model = make_model(seed=seed)
    v, weight = some_rows(model, 6, seed), torch.full((6,), 1 / 6).double()
    state = gradient.start(model, v, Noise(1))
    gradient(model, v, weight, copy.deepcopy(state), Noise(seed))
    plain = torch.cat([p.grad.reshape(-1) for p in model.parameters().values()])
    model.zero_grad()
    centered = Centered(gradient)
    offsets = {k: t for k, t in centered.start(model, v, Noise(1)).items() if "offset" in k}
    centered(model, v, weight, state | offsets, Noise(seed))
    other = torch.cat([p.grad.reshape(-1) for p in model.parameters().values()])
    assert plain @ other > 0


# 5. Symmetries


@given(seed=seeds, flipped=st.lists(st.booleans(), min_size=4, max_size=4))
def test_centred_updates_are_invariant_under_flips_of_visible_units(seed, flipped):
    s = torch.tensor(flipped)
    model = make_model(seed=seed, b0=False)
    v, weight = some_rows(model, 6, seed), torch.full((6,), 1 / 6).double()
    mirror = RBM(
        Bernoulli(),
        Bernoulli(),
        torch.where(s, -model.W, model.W),
        torch.where(s, -model.b, model.b),
        model.c + (model.W * s).sum(1),
    )
    mirror.zero_grad()
    mirrored = torch.where(s, 1 - v, v)
    assert_close(probabilities(model).sort().values, probabilities(mirror).sort().values)
    for m, rows in ((model, v), (mirror, mirrored)):
        gradient = Centered(Exact(), rate=0.3)
        gradient(m, rows, weight, gradient.start(m, rows, Noise(0)), Noise(0))
    assert_close(torch.where(s, -mirror.W.grad, mirror.W.grad), model.W.grad, **EXACT)
    assert_close(torch.where(s, -mirror.b.grad, mirror.b.grad), model.b.grad, **EXACT)
    flow = (torch.where(s, -mirror.W.grad, mirror.W.grad) * s).sum(1)
    assert_close(mirror.c.grad - flow, model.c.grad, **EXACT)


def test_offsets_start_at_the_mean_field_and_follow_the_data_at_their_rate():
    model = make_model(b0=False)
    v, weight = some_rows(model, 6), torch.tensor([0.0, 0.1, 0.2, 0.3, 0.1, 0.1]).double()
    gradient = Centered(PCD(), rate=0.25)
    state = gradient.start(model, v, Noise(0))
    mu, lam = state["visible_offset"].clone(), state["hidden_offset"].clone()
    assert_close(mu, torch.sigmoid(model.b))
    assert_close(lam, torch.sigmoid(model.c + model.W @ mu))
    h = torch.sigmoid(model.hidden_field(v))
    state = gradient(model, v, weight, state, Noise(0))
    assert_close(state["visible_offset"], mu + 0.25 * weight @ (v - mu))
    assert_close(state["hidden_offset"], lam + 0.25 * weight @ (h - lam))


@any_model
@given(seed=seeds)
def test_zero_weight_is_a_row_removed_and_a_row_twice_is_weight_two(name, seed):
    model = make_model(name, seed=seed)
    v = some_rows(model, 3, seed)

    def grads(rows, weight):
        model.zero_grad()
        model.add_grad(rows, torch.tensor(weight).double())
        return torch.cat([p.grad.reshape(-1) for p in model.parameters().values()])

    assert_close(grads(v, [1.0, 0.0, 2.0]), grads(v[[0, 2, 2]], [1.0, 1.0, 1.0]), **EXACT)


# 7. Pseudo-likelihood


@given(seed=seeds, n_visible=sizes, n_hidden=sizes)
def test_pseudo_likelihood_is_the_sum_of_the_log_conditionals(seed, n_visible, n_hidden):
    model = make_model("bernoulli-bernoulli", n_visible, n_hidden, seed)
    all_v = states(n_visible)
    log_p = -model.free_energy(all_v)
    expected = torch.zeros(len(all_v)).double()
    for i in range(n_visible):
        others = torch.tensor([j for j in range(n_visible) if j != i], dtype=torch.long)
        same = (all_v[:, None, others] == all_v[None, :, others]).all(-1)  # agree but for i
        total = torch.logsumexp(log_p.expand_as(same).masked_fill(~same, -math.inf), 1)
        expected += log_p - total
    assert_close(model.pseudo_log_likelihood(all_v), expected, **EXACT)


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
    rng = np.random.default_rng(n_steps)
    if name == "gaussian-bernoulli":
        h = states(3)
        p = torch.softmax(-model.hidden_free_energy(h), 0)
        picked = h[rng.choice(8, size=n, p=p.numpy())]
        start = model.b + picked @ model.W + torch.from_numpy(rng.normal(size=(n, 3)))
    else:
        start = states(3)[rng.choice(8, size=n, p=probabilities(model).numpy())]
    end = run(model, start, Noise(n_steps), n_steps=n_steps)
    for statistic in (lambda v: v, lambda v: v * v.roll(1, 1), model.free_energy):
        before, after = statistic(start), statistic(end)
        error = (before.var(0) / n + after.var(0) / n).sqrt()
        assert ((before.mean(0) - after.mean(0)).abs() < 4.5 * error).all()
