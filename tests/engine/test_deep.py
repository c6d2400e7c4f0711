"""Deep Boltzmann machines against enumeration of all layers, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine.copies import Copies, copied
from skebm.engine.deep import DeepBoltzmann, known_or
from skebm.engine.gradients import Exact, Phases
from skebm.engine.joint import Labelled
from skebm.engine.models import RBM, Joint, grad
from skebm.engine.noise import Noise
from skebm.engine.partition import log_partition_exact, log_weights_up
from skebm.engine.units import Bernoulli, Categorical, Gaussian, ScaledGaussian, Spin
from tests.conftest import (
    all_states,
    flat_grad,
    offsets,
    probabilities,
    states,
    transition_matrix,
)

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SIZES = {"one": (4, 3), "two": (4, 4, 4), "three": (3, 3, 3, 2), "four": (2, 3, 2, 2, 2)}
seeds = st.integers(0, 10_000)
every_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
deeper = pytest.mark.parametrize("sizes", [*SIZES.values()][1:], ids=[*SIZES][1:])


def make_deep(sizes=(4, 4, 4), seed=0, scale=0.7, first=Bernoulli, hidden=Bernoulli, **settings):
    """A model with random parameters."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return torch.from_numpy(rng.normal(0, scale, shape))

    layers = []
    for below, n in itertools.pairwise(sizes):
        visible = hidden() if layers else first()
        layers.append(RBM(visible, hidden(), draw(n, below), draw(below), draw(n), draw(below)))
    return DeepBoltzmann(layers, **({"n_sweeps": 10_000, "tol": 0.0} | settings))


def matrix(model, W=None) -> torch.Tensor:
    """The weights between the odd and the even layers, written out: (n_hidden, n_visible)."""
    coupling = model.make_coupling(model.W if W is None else W)
    eye = torch.eye(model.n_visible, dtype=model.W.dtype)
    return coupling.up(eye, torch.zeros_like(model.c)).T


def written_out(model) -> RBM:
    return RBM(model.visible, model.hidden, matrix(model), model.b, model.c, model.b0)


def blocks(model, A) -> torch.Tensor:
    """The blocks of a matrix like `matrix`, packed as the weights are."""
    even = list(itertools.accumulate(model.coupling.even, initial=0))
    odd = list(itertools.accumulate(model.coupling.odd, initial=0))
    parts = []
    for k in range(1, len(model.coupling.sizes)):
        i, j = k // 2, (k - 1) // 2
        block = A[odd[j] : odd[j + 1], even[i] : even[i + 1]]
        parts.append((block if k % 2 else block.T).reshape(-1))
    return torch.cat(parts)


def energies(model, parts) -> torch.Tensor:
    """−E of joint states, given the states of each layer, from the formula in the docstring."""
    b, *biases = model.coupling.by_layer(model.b, model.c)
    total = (parts[0] * b).sum(-1) + sum((h * c).sum(-1) for h, c in zip(parts[1:], biases))
    total = total + sum(units.log_base(x) for units, x in zip(model.units, parts))
    for W, below, above in zip(model.coupling.matrices(model.W), parts, parts[1:]):
        total = total + torch.einsum("ni,ij,nj->n", above, W, below)
    return total


def latent_states(model, n_rows=1):
    """All states of the hidden layers, as a list of tensors, repeated for each of some rows."""
    layers = [all_states(units, n) for units, n in zip(model.units[1:], model.coupling.sizes[1:])]
    index = torch.tensor(list(itertools.product(*(range(len(h)) for h in layers))))
    return [h[i] for h, i in zip(layers, index.T)]


def log_p(model, rows) -> torch.Tensor:
    """log Σ_h exp(−E(v, h)) of each row, by enumeration of all hidden layers."""
    h = latent_states(model)
    return torch.stack(
        [energies(model, [row.expand(len(h[0]), -1), *h]).logsumexp(0) for row in rows]
    )


def rows_of(model, n=5, seed=1):
    rng = np.random.default_rng(seed)
    field = torch.from_numpy(rng.normal(size=(n, model.n_rows)))
    return model.units[0].sample(field, Noise(seed))


def padded(model, rows):
    return model.visible.from_rows(rows)


@every_size
def test_log_z_is_the_sum_over_all_layers(sizes):
    model = make_deep(sizes)
    by_sum = log_p(model, states(sizes[0])).logsumexp(0)
    assert_close(log_partition_exact(model), by_sum, **EXACT)


def test_annealing_finds_log_z():
    model = make_deep((4, 4, 4), scale=1.0)
    betas = torch.linspace(0, 1, 200, dtype=torch.float64)
    log_weights, _ = log_weights_up(model, Noise(0), betas, 400)
    weights = (log_weights - log_partition_exact(model)).exp()
    assert abs(weights.mean() - 1) < 4 * weights.std() / 20


@every_size
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_a_sweep_leaves_the_model_invariant_and_is_reversible(sizes, beta):
    model = make_deep(sizes)
    p, transition = probabilities(model, beta), transition_matrix(model, beta)
    assert_close(p @ transition, p, **EXACT)
    flow = p[:, None] * transition
    assert_close(flow, flow.T, **EXACT)


@every_size
@pytest.mark.parametrize("first", [Bernoulli, Spin, Gaussian, lambda: Categorical([2])])
def test_it_is_the_rbm_whose_matrix_is_written_out(sizes, first):
    model = make_deep((2, *sizes[1:]), first=first)
    dense = written_out(model)
    v = torch.cat([rows_of(model), torch.rand(5, model.n_visible - 2).double().round()], 1)
    h = torch.rand(5, model.n_hidden).double().round()
    assert_close(model.hidden_field(v), dense.hidden_field(v), **EXACT)
    assert_close(model.visible_field(h), dense.visible_field(h), **EXACT)
    assert_close(model.free_energy(v, 0.3), dense.free_energy(v, 0.3), **EXACT)
    weight = torch.linspace(-1, 1, 5).double()
    for each in (model, dense):
        each.set_grad(Joint(v.clone(), h.clone(), weight))
    assert_close(grad(model.W), blocks(model, grad(dense.W)), **EXACT)
    assert_close(grad(model.b), grad(dense.b), **EXACT)
    assert_close(grad(model.c), grad(dense.c), **EXACT)
    norm = torch.linalg.matrix_norm(matrix(model), 2)
    assert norm <= model.coupling.norm() * (1 + 1e-9)


@every_size
def test_the_centred_step_is_that_of_the_model_in_centred_units(sizes):
    model = make_deep(sizes)
    mu, lam = offsets(model)
    v, h = torch.rand(6, model.n_visible).double(), torch.rand(6, model.n_hidden).double()
    weight = torch.tensor([1, 1, 1, -1, -1, -1]).double() / 3
    model.set_grad(Joint(v.clone(), h.clone(), weight))
    plain = [grad(p).clone() for p in (model.W, model.b, model.c)]
    centred = [torch.zeros_like(p).requires_grad_() for p in plain]

    def in_plain_units(W, b, c):
        A = matrix(model, W)
        return W, b - A.T @ lam, c - A @ mu

    expected = in_plain_units(*torch.autograd.grad(in_plain_units(*centred), centred, plain))
    states = Joint(v.clone(), h.clone(), weight)
    centred_v = model.set_grad(states, None, (mu, lam))
    if centred_v is None:
        model.coupling.compensate_(*(grad(p) for p in (model.b, model.c, model.W)), mu, lam)
    else:
        states.bias_grads_(centred_v, grad(model.b), grad(model.c), (mu, lam))
    for found, wanted in zip((model.W, model.b, model.c), expected):
        assert_close(grad(found), wanted, **EXACT)
    # and the same from the plain gradient, step by step
    for p, g in zip((model.W, model.b, model.c), plain):
        grad(p).copy_(g)
    gW, gb, gc = (grad(p) for p in (model.W, model.b, model.c))
    model.coupling.center_(gW, gb, gc, mu, lam)
    model.coupling.compensate_(gb, gc, gW, mu, lam)
    for found, wanted in zip((gW, gb, gc), expected):
        assert_close(found, wanted, **EXACT)


@deeper
@given(seed=seeds)
def test_a_sweep_never_lowers_the_bound_and_the_bound_is_below_log_p(sizes, seed):
    model = make_deep(sizes, seed=seed, scale=1.5)
    rows = rows_of(model, seed=seed)
    v, exact = padded(model, rows), log_p(model, rows)
    bounds = torch.stack([model.bound(v, n) for n in range(1, 8)])
    assert (bounds.diff(dim=0) > -1e-10).all()
    assert (bounds <= exact + 1e-10).all()


@deeper
def test_mean_field_solves_its_equations(sizes):
    model = make_deep(sizes)
    rows = rows_of(model)
    q = model.mean_field(padded(model, rows), 2000)
    means = [rows, *model.layer_means(padded(model, rows), 2000)]
    _, *biases = model.coupling.by_layer(model.b, model.c)
    matrices = model.coupling.matrices(model.W)
    for k in range(1, len(sizes)):
        field = biases[k - 1] + means[k - 1] @ matrices[k - 1].T
        if k + 1 < len(sizes):
            field = field + means[k + 1] @ matrices[k]
        assert_close(means[k], field.sigmoid(), rtol=1e-7, atol=1e-7)
    assert_close(q.mean, q.field.sigmoid(), **EXACT)


def test_the_bound_is_the_expectation_under_q_plus_its_entropy():
    model = make_deep((3, 3, 3, 2))
    rows = rows_of(model)
    v = padded(model, rows)
    means = model.layer_means(v, 3)
    h = latent_states(model)
    x, m = torch.cat(h, 1), torch.cat(means, 1)
    log_q = (x * m.log()[:, None] + (1 - x) * (1 - m).log()[:, None]).sum(-1)  # (n, n_states)
    each = torch.stack([energies(model, [row.expand(len(x), -1), *h]) for row in rows])
    assert_close(model.bound(v, 3), (log_q.exp() * (each - log_q)).sum(1), **EXACT)


def test_the_bound_with_latent_units_that_have_a_base_measure():
    # A latent normal unit: E_q[log_base] + H(q) = −(m² + 1)/2 + log(2πe)/2.
    model = make_deep((3, 3, 2))
    first, second = model.rbms
    second = RBM(Bernoulli(), Gaussian(), 0.2 * second.W, second.b, second.c)
    model = DeepBoltzmann([first, second], 1000, 0.0)
    rows = rows_of(model)
    v = padded(model, rows)
    m = model.mean_field(v).mean
    of_base = (-(m.square() + 1) / 2 + math.log(2 * math.pi * math.e) / 2).sum(1)
    field = first.c + rows @ first.W.T + m @ second.W
    expected = rows @ first.b + m @ second.c + of_base + Bernoulli().cumulant(field)
    assert_close(model.bound(v), expected, **EXACT)


def test_the_bound_of_one_hidden_layer_is_exact():
    model = make_deep((4, 3))
    rows = rows_of(model)
    assert_close(model.bound(padded(model, rows)), log_p(model, rows), **EXACT)
    estimate = model.log_weight(padded(model, rows), 1, Noise(0))
    assert_close(estimate, log_p(model, rows), **EXACT)


@deeper
@pytest.mark.parametrize("first", [Bernoulli, lambda: ScaledGaussian(torch.zeros(3).double())])
def test_the_gradient_is_that_of_the_bound_minus_log_z(sizes, first):
    model = make_deep((3, *sizes[1:]), first=first)
    rows = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 3)))
    rows = rows if first is not Bernoulli else (rows > 0).double()
    weight = torch.tensor([0.3, 0.1, 0.2, 0.3, 0.1]).double()

    def objective(theta):
        other = model.at(theta)
        bound = other.bound(other.visible.from_rows(rows), 5000) - other.visible.log_volume()
        return weight @ bound - log_partition_exact(other)

    gradient = Exact()
    phases = Phases(model, 5, gradient.n_model(model, 5))
    phases.data.v.copy_(model.visible.from_rows(rows))
    phases.set_weight(weight)
    update = model.begin_update(phases.data, Noise(0))
    gradient(update, phases, {}, Noise(0))
    update.set_grad(phases, phases.data)
    step, theta = 1e-5, model.theta.clone()
    for direction in torch.eye(len(theta), dtype=theta.dtype)[:: max(1, len(theta) // 12)]:
        high, low = (objective(theta + s * step * direction) for s in (1, -1))
        found = flat_grad(model) @ direction
        assert_close(found, (high - low) / (2 * step), rtol=1e-5, atol=1e-6)


def test_importance_weights_have_the_right_mean():
    model = make_deep((4, 4, 4), scale=1.2)
    rows = rows_of(model)
    v, n = padded(model, rows), 2000
    logs = model.log_weight(v.repeat(n, 1), 1, Noise(0)).view(n, -1)
    ratios = (logs - log_p(model, rows)).exp()  # (n, n_rows)
    assert ((ratios.mean(0) - 1).abs() < 4 * ratios.std(0) / math.sqrt(n)).all()
    many = model.log_weight(v, n, Noise(0))
    assert ((many - log_p(model, rows)).abs() < 4 * ratios.std(0) / math.sqrt(n) + 1e-3).all()
    assert (model.bound(v) <= many + 0.02).all()


def test_without_the_second_weights_it_is_the_rbm():
    model = make_deep((4, 3, 5))
    W, W2 = model.coupling.matrices(model.W)
    W2.zero_()
    c2 = model.b[4:]
    rbm = RBM(Bernoulli(), Bernoulli(), W, model.b[:4], model.c)
    rows = rows_of(model)
    v, constant = padded(model, rows), Bernoulli().cumulant(c2)
    assert_close(model.bound(v), constant - rbm.free_energy(rows), **EXACT)
    log_z = log_partition_exact(rbm)
    assert_close(log_partition_exact(model), log_z + constant, **EXACT)
    assert_close(model.layer_means(v)[0], rbm.hidden.mean(rbm.hidden_field(rows)), **EXACT)
    for each in (model, rbm):
        gradient = Exact()
        phases = Phases(each, 5, gradient.n_model(each, 5))
        phases.data.v.copy_(each.visible.from_rows(rows))
        phases.set_weight(torch.full((5,), 0.2).double())
        gradient(each.begin_update(phases.data, Noise(0)), phases, {}, Noise(0))
        each.set_grad(phases)
    assert_close(model.coupling.matrices(grad(model.W))[0], grad(rbm.W), **EXACT)
    assert_close(grad(model.b)[:4], grad(rbm.b), **EXACT)
    assert_close(grad(model.c), grad(rbm.c), **EXACT)


def test_a_row_has_the_same_q_whatever_other_rows_there_are():
    model = make_deep((4, 4, 4), scale=2.0, tol=1e-3, n_sweeps=50)
    v = padded(model, rows_of(model, n=20))
    q = model.mean_field(v)
    assert q.n_sweeps.min() < q.n_sweeps.max()  # rows that converge at different times
    for k in range(20):
        alone = model.mean_field(v[k : k + 1])
        assert_close(alone.mean[0], q.mean[k], rtol=1e-13, atol=1e-13)
        assert alone.n_sweeps[0] == q.n_sweeps[k]
    capped = model.mean_field(v, 2)
    assert capped.n_sweeps.max() == 2
    assert not capped.converged.all()
    assert q.converged.all()


def test_flipped_rows_give_the_mirrored_step():
    # With v → 1 − v: W1 → −W1, b → −b, c1 → c1 + W1 1. The centred step mirrors, too.
    model = make_deep((4, 4, 4))
    mirrored = make_deep((4, 4, 4))
    W = model.coupling.matrices(model.W)[0]
    mirrored.coupling.matrices(mirrored.W)[0].neg_()
    mirrored.b[:4].neg_()
    mirrored.c += W.sum(1)
    rows = rows_of(model, n=8)
    steps = []
    for each, v in ((model, rows), (mirrored, 1 - rows)):
        gradient = Exact()
        phases = Phases(each, 8, gradient.n_model(each, 8))
        phases.data.v.copy_(each.visible.from_rows(v))
        phases.set_weight(torch.full((8,), 0.125).double())
        gradient(each.begin_update(phases.data, Noise(0)), phases, {}, Noise(0))
        mu = phases.data.v.mean(0)
        lam = phases.data.h.mean(0)
        each.set_grad(phases, None, (mu, lam))
        each.coupling.compensate_(grad(each.b), grad(each.c), grad(each.W), mu, lam)
        steps.append([grad(p).clone() for p in (each.W, each.b, each.c)])
    (gW, gb, gc), (hW, hb, hc) = steps
    (g1, g2), (h1, h2) = model.coupling.matrices(gW), model.coupling.matrices(hW)
    assert_close(h1, -g1, **EXACT)
    assert_close(h2, g2, **EXACT)
    assert_close(hb, torch.cat([-gb[:4], gb[4:]]), **EXACT)
    assert_close(hc, gc + g1.sum(1), **EXACT)


def test_layers_and_back():
    model = make_deep((3, 3, 3, 2), first=Spin)
    again = DeepBoltzmann(model.rbms)
    assert_close(again.theta, model.theta, **EXACT)
    assert_close(again.b0[:3], model.b0[:3], **EXACT)
    b, *zeros = (layer.b for layer in model.rbms)
    assert_close(b, model.b[:3], **EXACT)
    assert not any(zero.any() for zero in zeros)


@deeper
def test_rows_given_the_top_solve_the_equations_of_mean_field(sizes):
    model = make_deep(sizes, scale=0.5)
    b, *biases = model.coupling.by_layer(model.b, model.c)
    matrices = model.coupling.matrices(model.W)
    top = torch.rand(4, sizes[-1]).double()
    means = [model.rows_given_top(top)]
    # the other layers follow from the equations, from both ends
    others = [torch.full((4, n), 0.5).double() for n in sizes[1:-1]] + [top]
    for _ in range(500):
        around = [*means, *others]
        for k in range(1, len(sizes) - 1):
            field = biases[k - 1] + around[k - 1] @ matrices[k - 1].T + around[k + 1] @ matrices[k]
            around[k] = field.sigmoid()
        others = around[1:]
    assert_close(means[0], (b + others[0] @ matrices[0]).sigmoid(), rtol=1e-6, atol=1e-6)


# Labels


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_gradient_with_labels_is_that_of_the_bound_of_log_p_of_row_and_label(n_layers):
    plain = make_deep((3, *[3] * n_layers))
    rng = np.random.default_rng(3)
    layers = plain.rbms
    U, d = torch.from_numpy(rng.normal(size=(3, 2))), torch.from_numpy(rng.normal(size=2))
    top = layers[-1]
    layers[-1] = RBM(top.visible, Labelled(Bernoulli(), U, d), top.W, top.b, top.c, top.b0)
    model = DeepBoltzmann(layers, 10_000, 0.0)
    rows = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 0, 0]]).double()
    v, weight = padded(model, rows), torch.tensor([0.5, 0.3, 0.2]).double()

    def bound(other):
        """E_q[−E] + H(q), where q of a known label is certain."""
        q = other.mean_field(v, labels=rows[:, 3:])
        full = other._with(v, q.mean)
        h = other.hidden.mean(other.hidden_field(full))
        means = other.coupling.by_layer(full, h)
        means[-1] = known_or(rows[:, 3:], means[-1])
        entropies = sum(-torch.special.xlogy(m, m).sum(1) for m in means[1:])
        entropies += sum(-torch.special.xlogy(1 - m, 1 - m).sum(1) for m in means[1:-1])
        return energies(other, means) + entropies

    def objective(theta):
        other = model.at(theta)
        return weight @ bound(other) - log_partition_exact(other)

    gradient = Exact()
    phases = Phases(model, 3, gradient.n_model(model, 3))
    model.observe_(phases.data, rows)
    phases.set_weight(weight)
    update = model.begin_update(phases.data, Noise(0))
    gradient(update, phases, {}, Noise(0))
    update.set_grad(phases, phases.data)
    step, theta = 1e-5, model.theta.clone()
    for direction in torch.eye(len(theta), dtype=theta.dtype):
        high, low = (objective(theta + s * step * direction) for s in (1, -1))
        found = flat_grad(model) @ direction
        assert_close(found, (high - low) / (2 * step), rtol=1e-5, atol=1e-6)
    again = DeepBoltzmann(model.rbms, 10_000, 0.0)
    assert_close(again.theta, model.theta, **EXACT)
    assert_close(model.rbms[-1].hidden.U, U, **EXACT)
    assert_close(model.log_label(v).exp().sum(1), torch.ones(3).double(), **EXACT)


# Copies


@pytest.mark.parametrize("n", [(2, 1), (1, 2), (2, 3)])
def test_copies_are_the_rbm_whose_weights_are_repeated(n):
    rng = np.random.default_rng(0)
    W, b, c = (torch.from_numpy(rng.normal(size=s)) for s in ((3, 4), 4, 3))
    model = copied(RBM(Bernoulli(), Spin(), W, b, c), *n)
    dense = RBM(
        *(model.visible, model.hidden, W.repeat(n[1], n[0]), b.repeat(n[0]), c.repeat(n[1]))
    )
    v = torch.from_numpy(rng.integers(0, 2, (5, 4 * n[0])) * 1.0)
    h = torch.from_numpy(rng.integers(0, 2, (5, 3 * n[1])) * 2.0 - 1)
    assert_close(model.hidden_field(v), dense.hidden_field(v), **EXACT)
    assert_close(model.visible_field(h), dense.visible_field(h), **EXACT)
    assert_close(model.free_energy(v, 0.4), dense.free_energy(v, 0.4), **EXACT)
    assert model.coupling.norm() >= torch.linalg.matrix_norm(dense.W, 2) * (1 - 1e-9)
    weight = torch.tensor([0.5, 0.5, -0.4, -0.3, -0.3], dtype=torch.float64)
    (mu, lam), steps = offsets(model), []
    for each, of in ((model, (mu, lam)), (dense, (mu.repeat(n[0]), lam.repeat(n[1])))):
        states = Joint(v.clone(), h.clone(), weight)
        centred_v = each.set_grad(states, None, of)
        if centred_v is None:
            each.coupling.compensate_(grad(each.b), grad(each.c), grad(each.W), *of)
        else:
            states.bias_grads_(centred_v, grad(each.b), grad(each.c), of)
        steps.append([grad(p).clone() for p in (each.W, each.b, each.c)])
    (gW, gb, gc), (dW, *_) = steps
    # A parameter that is used several times has the sum of the gradients of its uses.
    assert_close(gW, dW.unflatten(0, (n[1], 3)).sum(0).unflatten(1, (n[0], 4)).sum(1), **EXACT)
    # The centred biases of the dense model do not know that W is shared.
    plain = Joint(v.clone(), h.clone(), weight)
    model.set_grad(plain)
    share = grad(model.b).clone(), grad(model.c).clone()
    model.coupling.compensate_(*share, gW, mu, lam)
    assert_close(gb, share[0], **EXACT)
    assert_close(gc, share[1], **EXACT)


def test_units_in_copies_are_independent():
    units, f = Copies(Spin(), 2), torch.tensor([[0.3, -0.5, 1.0, 0.2]]).double()
    x = all_states(Spin(), 4)
    log_p = units.log_density(x, f)
    assert_close(log_p.logsumexp(0), torch.zeros(()).double(), **EXACT)
    assert_close((log_p.exp()[:, None] * x).sum(0), units.mean(f)[0], **EXACT)
    draws = units.sample(f.expand(100_000, -1), Noise(0))
    assert ((draws.mean(0) - units.mean(f)[0]).abs() < 0.015).all()
    rows = torch.tensor([[1.0, -1.0]]).double()
    assert units.from_rows(rows).tolist() == [[1, -1, 1, -1]]
    assert units.to_rows(units.from_rows(rows)).tolist() == rows.tolist()
