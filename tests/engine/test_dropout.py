"""Masks: one for each case and update, the same in both phases and in the gradient."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine.dropout import DroppedByEnergy, DroppedUnits, DroppedWeights
from skebm.engine.gradients import CD, PCD, ParallelTempering, Phases
from skebm.engine.models import RBM, Joint
from skebm.engine.noise import Noise
from skebm.engine.units import Bernoulli
from tests.conftest import flat_grad, make_model, some_rows, states

EXACT = {"rtol": 1e-9, "atol": 1e-9}
KINDS = {"units": DroppedUnits, "weights": DroppedWeights, "energy": DroppedByEnergy}
any_kind = pytest.mark.parametrize("kind", KINDS)
seeds = st.integers(0, 1000)


def dropping(kind, n=4, seed=0, rate=0.5, noise=0):
    """A model that drops, its rows, and the masks that it has drawn for them."""
    plain = make_model(seed=seed)
    model = KINDS[kind](plain, rate)
    v = some_rows(model, n, seed)
    model.begin_update(Joint(v, model.W.new_zeros(n, 3), torch.ones(n).double()), Noise(noise))
    return plain, model, v


def restricted(plain, kind, mask):
    """The model of one case, without masks: units are taken out, weights set to zero."""
    if kind == "weights":
        return RBM(Bernoulli(), Bernoulli(), plain.W * mask, plain.b, plain.c, plain.b0)
    kept = mask > 0
    return RBM(Bernoulli(), Bernoulli(), plain.W[kept], plain.b, plain.c[kept], plain.b0)


@any_kind
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@given(seed=seeds)
def test_a_mask_makes_the_restricted_model_of_each_case(kind, beta, seed):
    plain, model, v = dropping(kind, seed=seed, noise=seed)
    h = states(3)[[0, 3, 5, 7]]
    free_energy, field_h = model.free_energy(v, beta), model.hidden_field(v, beta)
    field_v = model.visible_field(h, beta)
    mu, lam = torch.rand(4).double(), torch.rand(3).double()
    with model.centered(mu, lam):
        assert_close(model.hidden_field(v - mu, beta), field_h, **EXACT)
        assert_close(model.visible_field(h - lam, beta), field_v, **EXACT)
        shift = model.free_energy(v - mu, beta) - free_energy
        # Up to what does not depend on v, given a mask and a temperature.
        other = model.free_energy(v.flip(1) - mu, beta) - model.free_energy(v - mu, beta)
    assert_close(other, model.free_energy(v.flip(1), beta) - free_energy, **EXACT)
    assert shift.isfinite().all()
    for i, mask in enumerate(model.mask):
        one = restricted(plain, kind, mask)
        kept = torch.ones(3).bool() if kind == "weights" else mask > 0
        assert_close(free_energy[i], one.free_energy(v[i : i + 1], beta)[0], **EXACT)
        assert_close(field_v[i], one.visible_field(h[i : i + 1, kept], beta)[0], **EXACT)
        assert_close(field_h[i, kept], one.hidden_field(v[i : i + 1], beta)[0], **EXACT)


@any_kind
@pytest.mark.parametrize("centered", [False, True])
@given(seed=seeds)
def test_the_gradient_of_a_case_is_that_of_its_restricted_model(kind, centered, seed):
    plain, model, v = dropping(kind, seed=seed, noise=seed)
    masks = model.mask.clone()
    after = states(4)[[1, 6, 9, 14]]  # what a sweep may have led to
    mu, lam = torch.rand(4).double(), torch.rand(3).double()
    if not centered:
        mu, lam = mu * 0, lam * 0
    weight = torch.tensor([0.1, 0.5, 0.0, 0.4]).double()
    with model.centered(mu, lam):
        rows = torch.cat([v, after]) - mu
        h = model.hidden.mean(model.hidden_field(rows))
        model.set_grad(Joint(rows, h, torch.cat([weight, -weight])))
    found = {name: p.grad.clone() for name, p in model.parameters().items()}
    expected = {name: torch.zeros_like(p) for name, p in model.parameters().items()}
    for i, mask in enumerate(masks):
        one = restricted(plain, kind, mask)
        kept = torch.ones(3).bool() if kind == "weights" else mask > 0
        pair = torch.stack([v[i], after[i]])
        with one.centered(mu, lam[kept]):
            h = one.hidden.mean(one.hidden_field(pair - mu))
            one.set_grad(Joint(pair - mu, h, torch.stack([weight[i], -weight[i]])))
        W = one.W.grad * mask if kind == "weights" else one.W.grad
        expected["components"][kept] += W
        expected["intercept_hidden"][kept] += one.c.grad
        expected["intercept_visible"] += one.b.grad
    for name, value in expected.items():
        assert_close(found[name], value, **EXACT)


@any_kind
@pytest.mark.parametrize("gradient", [CD(2), PCD(2), ParallelTempering(3)], ids=str)
def test_the_mask_is_held_through_an_update_and_drawn_again_for_the_next(kind, gradient):
    _, model, v = dropping(kind)
    drawn, state = [], gradient.start(model, 4, Noise(0))
    for step in range(30):
        phases = Phases(model, 4, gradient.n_model(model, 4))
        phases.data.v.copy_(v)
        phases.set_weight(torch.full((4,), 0.25).double())
        model.begin_update(phases.data, Noise(step))
        mask = model.mask.clone()
        gradient(model, phases, state, Noise(step))
        assert torch.equal(model.mask, mask)
        model.set_grad(phases)
        assert model.mask is None  # outside of updates nothing is dropped
        drawn.append(mask)
        if kind != "weights":  # a unit that every case has lost has no gradient at all
            lost = mask.sum(0) == 0
            assert (model.W.grad[lost] == 0).all()
            assert (model.c.grad[lost] == 0).all()
    assert len({tuple(m.flatten().tolist()) for m in drawn}) > 20


@pytest.mark.parametrize("kind", ["units", "weights"])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9])
def test_so_many_are_kept(kind, rate):
    _, model, _ = dropping(kind, n=4000, rate=rate)
    assert abs(model.mask.mean() - (1 - rate)) < 4.5 * (rate * (1 - rate) / 12_000) ** 0.5 + 1e-12
    # Independent between cases and units.
    flat = model.mask.flatten(1)
    if rate:
        covariance = torch.cov(flat.T)
        assert (covariance - torch.diag(covariance.diag())).abs().max() < 0.03
    model.begin_update(Joint(torch.zeros(4000, 4).double(), flat, flat[:, 0]), Noise(7))
    assert abs(model.report()["kept"] - (1 - rate)) < 0.03


def test_units_of_large_importance_are_dropped_more_often():
    # One unit per column: the sweep switches on what the case does not have.
    W, b, c = 6 * torch.eye(3).double(), -3 * torch.ones(3).double(), -3 * torch.ones(3).double()
    model = DroppedByEnergy(RBM(Bernoulli(), Bernoulli(), W, b, c), 0.5)
    v, n = torch.tensor([[1.0, 1.0, 0.0]]).double().repeat(4000, 1), 4000
    model.begin_update(Joint(v, v, v[:, 0]), Noise(0))
    kept = model.mask.mean(0)
    # P(h | v′) / P(h | v) is at most one for units that are on, and at least for the other.
    assert kept[2] < kept[0] - 0.03
    assert abs(kept[0] - kept[1]) < 0.03
    assert ((model.mask == 0) | (model.mask == 1)).all()
    assert 0.05 < model.mask.mean() < 0.95
    assert n == len(model.mask)


@any_kind
def test_at_test_what_a_unit_takes_with_it_is_scaled(kind):
    plain, model, _ = dropping(kind, rate=0.3)
    tested = model.at_test()
    of_weights, of_biases = {"units": (0.7, 0.7), "weights": (0.7, 1), "energy": (1, 1)}[kind]
    assert_close(tested.W, of_weights * plain.W)
    assert_close(tested.c, of_biases * plain.c)
    assert_close(tested.b, plain.b)
    # To first order in the weights, that is the mean field over all masks.
    if kind == "units":
        v = states(4)[5:6]
        small = RBM(Bernoulli(), Bernoulli(), 0.01 * plain.W, plain.b, 0.01 * plain.c)
        fields = []
        for mask in itertools.product([0.0, 1.0], repeat=3):
            r = torch.tensor(mask).double()
            h = small.hidden.mean(small.hidden_field(v)) * r
            share = (0.7**r * 0.3 ** (1 - r)).prod()
            fields.append(share * small.visible_field(h))
        one = DroppedUnits(small, 0.3).at_test()
        ours = one.visible_field(one.hidden.mean(one.hidden_field(v)))
        assert_close(ours, sum(fields), rtol=0, atol=3e-4)


def test_the_gradients_of_cases_add_up():
    _, model, v = dropping("units")
    phases = Phases(model, 4, 4)
    phases.data.v.copy_(v)
    phases.set_weight(torch.full((4,), 0.25).double())
    CD()(model, phases, {}, Noise(3))
    model.set_grad(phases)
    assert flat_grad(model).abs().max() > 0.01


def energy_mask(W, b, c, v):
    model = DroppedByEnergy(RBM(Bernoulli(), Bernoulli(), W, b, c), 0.5)
    model.begin_update(Joint(v, v, v[:, 0]), Noise(0))
    return model.mask


def test_importance_is_bounded():
    # The sweep switches on unit 2 and what it stands for: 0.9 / 0.1 against 1.
    W, b, c = torch.zeros(3, 3).double(), torch.zeros(3).double(), torch.zeros(3).double()
    W[2, 2], b[2], c[2] = 20, 10, -10
    v = torch.tensor([[1.0, 0.0, 0.0]]).double().repeat(4000, 1)
    kept = energy_mask(W, b, c, v).mean(0)
    assert_close(kept, torch.tensor([8 / 9, 8 / 9, 0]).double(), rtol=0, atol=0.025)


def test_importance_is_inverse_to_the_change_of_energy():
    # W = 0, and all of v′ is on: changes of 60, 20 and 0, which counts as half the mean.
    v = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 1]]).double().repeat(3000, 1)
    zero = torch.zeros(3).double()
    kept = energy_mask(torch.zeros(3, 3).double(), zero + 20, zero, v).view(3000, 3, 3).mean((0, 2))
    assert_close(kept, torch.tensor([7 / 9, 1 / 3, 0]).double(), rtol=0, atol=0.025)


def test_a_report_is_of_what_came_since_the_last():
    _, model, v = dropping("units")
    for seed in range(5):
        model.report()
        model.begin_update(Joint(v, model.W.new_zeros(4, 3), v[:, 0]), Noise(seed))
        kept = model.mask.mean().clone()
        model.begin_update(Joint(v, model.W.new_zeros(4, 3), v[:, 0]), Noise(seed + 50))
        assert_close(model.report()["kept"], (kept + model.mask.mean()) / 2)
        model.begin_update(Joint(v, model.W.new_zeros(4, 3), v[:, 0]), Noise(seed + 90))
