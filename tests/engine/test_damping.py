"""Laws of damped gradients: they are (1 + strength · F)⁻¹ g, with F from the chains."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from skebm import PTT, BernoulliRBM
from skebm.engine.damping import damp_
from skebm.engine.gradients import Phases
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.training import Trainer
from skebm.engine.units import Bernoulli
from skebm.fitted import FittedModel
from tests.conftest import make_model


def some_phases(n_data=4, n_model=6, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    W = rand(3, 5)
    model = RBM(Bernoulli(), Bernoulli(), W, rand(5), rand(3), rand(5))
    phases = Phases(model, n_data, n_model)
    phases.v.copy_((rand(n_data + n_model, 5) > 0.5).double())
    phases.h.copy_(rand(n_data + n_model, 3))
    phases.set_weight(rand(n_data))
    return phases, (rand(5), rand(3))


def statistics(phases, offsets):
    v, h = phases.v, phases.h
    mu, lam = offsets if offsets is not None else (0, 0)
    outer = (h - lam)[:, :, None] * (v - mu)[:, None, :]
    return torch.cat([outer.flatten(1), v, h], 1).numpy()  # (n, n_parameters)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1e3])
def test_the_gradient_is_multiplied_by_the_inverse_of_one_plus_fisher(centred, strength):
    phases, offsets = some_phases()
    offsets = offsets if centred else None
    S = statistics(phases, offsets)
    plain = phases.weight.numpy() @ S
    chains = S[4:7]  # half of them
    centred_S = chains - chains.mean(0)
    fisher = centred_S.T @ centred_S / len(centred_S)
    expected = np.linalg.solve(np.eye(len(fisher)) + strength * fisher, plain)
    damp_(phases, offsets, torch.tensor(strength, dtype=torch.float64))
    np.testing.assert_allclose(phases.weight.numpy() @ S, expected, atol=1e-9)
    assert abs(phases.weight.sum()) < 1e-12  # a difference of two means


def test_every_update_is_damped_from_plain_weights_by_its_own_step():
    model = make_model(n_visible=4, n_hidden=3, seed=1)
    trainer = Trainer(model, PTT(8, relaxation=0.05), batch_size=4, momentum=True)
    rows, weight = torch.eye(4, dtype=model.W.dtype), torch.full((4,), 0.25).to(model.W)
    with torch.inference_mode():
        trainer.begin_epoch(rows.mean(0), rows, 2, Noise(0), 0.1, 0.6)
        assert trainer._strength.item() == pytest.approx(0.1 / (1 - 0.6) / 0.05)
        trainer.step(rows, weight, Noise(0))
        assert trainer.phases.model.weight.std() > 1e-4
        trainer.set_weight(weight)
        assert_close(trainer.phases.model.weight, torch.full_like(weight, -1 / 8).repeat(2))
        model.generative = 0.5
        trainer.begin_epoch(rows.mean(0), rows, 2, Noise(0), 0.1, 0.6)
        assert trainer._strength.item() == pytest.approx(0.5 * 0.1 / (1 - 0.6) / 0.05)


def modes_of_eight_bits(relaxation, seed):
    """The probabilities of the two modes of a model of rows 00000000 and 11111111."""
    X = np.repeat(np.arange(1000)[:, None] % 2, 8, axis=1).astype(np.float32)
    rbm = BernoulliRBM(gradient=PTT(relaxation=relaxation), random_state=seed).fit(X)
    with torch.inference_mode():
        model = FittedModel(rbm).rbm("cpu")
        every = torch.tensor([[i >> k & 1 for k in range(8)] for i in range(256)])
        p = torch.softmax(-model.free_energy(every.to(model.W)).double(), 0)
    return p[0].item(), p[-1].item()


def test_default_settings_learn_both_modes_only_with_damping():
    damped = [modes_of_eight_bits(0.03, seed) for seed in range(3)]
    assert min(min(pair) for pair in damped) > 0.35
    plain = [modes_of_eight_bits(None, seed) for seed in range(3)]
    assert min(min(pair) for pair in plain) < 0.1
