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
from skebm.engine.training import Trainer
from skebm.engine.units import Bernoulli, softplus
from tests.conftest import flat_grad, make_model, some_rows, states

EXACT = {"rtol": 1e-9, "atol": 1e-9}
KINDS = {"units": DroppedUnits, "weights": DroppedWeights, "energy": DroppedByEnergy}
any_kind = pytest.mark.parametrize("kind", KINDS)
seeds = st.integers(0, 1000)


def dropping(kind, n=4, seed=0, rate=0.5, noise=0):
    """A model, the same with masks that were drawn for some rows, and these rows."""
    plain = make_model(seed=seed)
    model = KINDS[kind](plain, rate)
    v = some_rows(model, n, seed)
    return plain, with_masks(model, v, Noise(noise)), v


def with_masks(model, v, noise):
    """The model of an update on the rows v."""
    return model.begin_update(Joint(v, v.new_zeros(len(v), 3), torch.ones_like(v[:, 0])), noise)


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
    for i, mask in enumerate(model.mask):
        one = restricted(plain, kind, mask)
        kept = torch.ones(3).bool() if kind == "weights" else mask > 0
        assert_close(free_energy[i], one.free_energy(v[i : i + 1], beta)[0], **EXACT)
        assert_close(field_v[i], one.visible_field(h[i : i + 1, kept], beta)[0], **EXACT)
        assert_close(field_h[i, kept], one.hidden_field(v[i : i + 1], beta)[0], **EXACT)


@any_kind
@given(seed=seeds)
def test_the_gradient_of_a_case_is_that_of_its_restricted_model(kind, seed):
    plain, model, v = dropping(kind, seed=seed, noise=seed)
    after = states(4)[[1, 6, 9, 14]]  # what a sweep may have led to
    weight = torch.tensor([0.1, 0.5, 0.0, 0.4]).double()
    rows = torch.cat([v, after])
    h = model.hidden.mean(model.hidden_field(rows))
    model.set_grad(Joint(rows, h, torch.cat([weight, -weight])))
    expected = {name: torch.zeros_like(p) for name, p in model.parameters().items()}
    for i, mask in enumerate(model.mask):
        one = restricted(plain, kind, mask)
        kept = torch.ones(3).bool() if kind == "weights" else mask > 0
        pair = torch.stack([v[i], after[i]])
        h = one.hidden.mean(one.hidden_field(pair))
        one.set_grad(Joint(pair, h, torch.stack([weight[i], -weight[i]])))
        W = one.W.grad * mask if kind == "weights" else one.W.grad
        expected["components"][kept] += W
        expected["intercept_hidden"][kept] += one.c.grad
        expected["intercept_visible"] += one.b.grad
    for name, value in expected.items():
        assert_close(model.parameters()[name].grad, value, **EXACT)


@pytest.mark.parametrize(("n", "n_masks"), [(7, 7), (8, 8), (10, 10), (16, 8), (18, 9), (40, 8)])
def test_cases_share_masks_of_weights(n, n_masks):
    plain, model, v = dropping("weights", n=n)
    assert len(model.mask) == n_masks
    assert len({tuple(m.flatten().tolist()) for m in model.mask}) == n_masks
    weight, v = torch.rand(2 * n).double() - 0.5, torch.cat([v, 1 - v])
    h = model.hidden_field(v)
    model.set_grad(Joint(v, h.clone(), weight))
    gradient = torch.zeros_like(plain.W)
    for i in range(2 * n):
        mask = model.mask[i % n_masks]
        one = restricted(plain, "weights", mask)
        assert_close(h[i], one.hidden_field(v[i : i + 1])[0], **EXACT)
        back = model.visible_field(h.sigmoid())[i]
        assert_close(back, one.visible_field(h.sigmoid()[i : i + 1])[0], **EXACT)
        gradient += weight[i] * mask * torch.outer(h[i], v[i])
    assert_close(model.W.grad, gradient, **EXACT)


def masked_free_energy(kind, mask, v, W, b, c):
    """F_r or F_m of each row and its mask, written out."""
    if kind == "weights":
        fields = c + torch.einsum("nhd,hd,nd->nh", mask, W, v)
        return -(v @ b) - softplus(fields).sum(1)
    return -(v @ b) - (mask * softplus(c + v @ W.T)).sum(1)


@pytest.mark.parametrize("kind", ["units", "weights"])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_follows_the_gradient_of_the_masked_free_energy(kind, centered, seed):
    # −Σ_i weight_i F_r(v_i) over data and model, by finite differences in the coordinates
    # (W, b + Wᵀ λ, c + W μ), where a step is along the gradient in these.
    plain = make_model(seed=seed)
    model = KINDS[kind](plain, 0.5)
    trainer = Trainer(model, CD(2), batch_size=4, centered=centered)
    v = some_rows(plain, 4, seed)
    weight = torch.tensor([0.1, 0.5, 0.0, 0.4]).double()
    with torch.inference_mode():
        trainer.begin_epoch(v.mean(0), v, 1, Noise(0), 0.1, 0.0)
        trainer.step(v, weight, Noise(seed))
    mask = with_masks(KINDS[kind](plain, 0.5), v, Noise(seed)).mask  # the first to be drawn
    zeros = torch.zeros(4).double(), torch.zeros(3).double()
    mu, lam = trainer.offsets.values() if centered else zeros
    phases = trainer.phases

    def objective(W, b, c):
        b, c = b - W.T @ lam, c - W @ mu
        parts = phases.data, phases.model  # whose weights are negative
        return -sum(
            (part.weight * masked_free_energy(kind, mask, part.v, W, b, c)).sum() for part in parts
        )

    W, b, c = plain.W, plain.b + plain.W.T @ lam, plain.c + plain.W @ mu
    gW, gb, gc = finite_differences(objective, W, b, c)
    steps = gW, gb - gW.T @ lam, gc - gW @ mu
    for before, after, step in zip((plain.W, plain.b, plain.c), (model.W, model.b, model.c), steps):
        assert_close((after - before) / 0.1, step, rtol=0, atol=1e-8)


def finite_differences(function, *parameters):
    """The derivative by each parameter, of fourth order."""
    gradients, h = [], 1e-3
    for k, parameter in enumerate(parameters):
        gradient = torch.zeros_like(parameter)
        for index in itertools.product(*map(range, parameter.shape)):
            values = []
            for shift in (-2, -1, 1, 2):
                moved = [p.clone() for p in parameters]
                moved[k][index] += shift * h
                values.append(function(*moved))
            gradient[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        gradients.append(gradient)
    return gradients


@any_kind
@pytest.mark.parametrize("gradient", [CD(2), PCD(2), ParallelTempering(3)], ids=str)
def test_the_mask_is_held_through_an_update_and_drawn_again_for_the_next(kind, gradient):
    _, _, v = dropping(kind)
    model = KINDS[kind](make_model(), 0.5)
    drawn, state = [], gradient.start(model, 4, Noise(0))
    for step in range(30):
        phases = Phases(model, 4, gradient.n_model(model, 4))
        phases.data.v.copy_(v)
        phases.set_weight(torch.full((4,), 0.25).double())
        masked = model.begin_update(phases.data, Noise(step))
        mask = masked.mask.clone()
        gradient(masked, phases, state, Noise(step))
        assert torch.equal(masked.mask, mask)
        masked.set_grad(phases)
        assert model.mask is None  # the model itself drops nothing
        drawn.append(mask)
        if kind != "weights":  # a unit that every case has lost has no gradient at all
            lost = mask.sum(0) == 0
            assert (model.W.grad[lost] == 0).all()
            assert (model.c.grad[lost] == 0).all()
    assert len({tuple(m.flatten().tolist()) for m in drawn}) > 20


@pytest.mark.parametrize("kind", ["units", "weights"])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9])
def test_so_many_are_kept(kind, rate):
    _, model, v = dropping(kind, n=8, rate=rate)
    noise = Noise(0)
    masks = torch.cat([with_masks(model, v, noise).mask for _ in range(500)])
    assert abs(masks.mean() - (1 - rate)) < 4.5 * (rate * (1 - rate) / 12_000) ** 0.5 + 1e-12
    # Independent between cases and units.
    flat = masks.flatten(1)
    if rate:
        covariance = torch.cov(flat.T)
        assert (covariance - torch.diag(covariance.diag())).abs().max() < 0.03
    assert_close(model.figures()["kept"], model.mask.mean())


def test_units_of_large_importance_are_dropped_more_often():
    # One unit per column: the sweep switches on what the case does not have.
    W, b, c = 6 * torch.eye(3).double(), -3 * torch.ones(3).double(), -3 * torch.ones(3).double()
    model = DroppedByEnergy(RBM(Bernoulli(), Bernoulli(), W, b, c), 0.5)
    v, n = torch.tensor([[1.0, 1.0, 0.0]]).double().repeat(4000, 1), 4000
    model = with_masks(model, v, Noise(0))
    kept = model.mask.mean(0)
    # P(h | v′) / P(h | v) is at most one for units that are on, and at least for the other.
    assert kept[2] < kept[0] - 0.03
    assert abs(kept[0] - kept[1]) < 0.03
    assert ((model.mask == 0) | (model.mask == 1)).all()
    assert 0.05 < model.mask.mean() < 0.95
    assert n == len(model.mask)


@any_kind
def test_without_dropout_what_a_unit_takes_with_it_is_scaled(kind):
    plain, model, _ = dropping(kind, rate=0.3)
    tested = model.without_dropout()
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
        one = DroppedUnits(small, 0.3).without_dropout()
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
    return with_masks(model, v, Noise(0)).mask


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


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_the_share_that_an_epoch_kept_is_reported(rate):
    model = DroppedUnits(make_model(), rate)
    trainer, v = Trainer(model, CD(), batch_size=400), some_rows(model, 400)
    weight, noise = torch.full((400,), 1 / 400).double(), Noise(0)
    with torch.inference_mode():
        for _ in range(2):  # the second epoch does not count what the first kept
            trainer.begin_epoch(v.mean(0), v, 20, noise, 0.1, 0.0)
            for _ in range(20):
                trainer.step(v, weight, noise)
            assert abs(trainer.report()["kept"] - (1 - rate)) < 0.02
