"""Captured updates on the emulated device: what is recorded, and what is refused."""

import gc

import pytest
import torch

from skebm.engine import capture
from skebm.engine.capture import Captured
from skebm.engine.gradients import CD
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.training import Trainer
from skebm.engine.units import Bernoulli
from tests.fake_cuda import CUDA, active, fake_cuda


@pytest.fixture
def device():
    with fake_cuda():
        yield CUDA


def counter(device):
    """A tensor, and an update that adds a random number to it and notes its calls."""
    total, calls = torch.zeros(3, device=device), []

    def update(noise):
        calls.append(gc.isenabled())
        total.add_(noise.uniform(total))

    return total, calls, update


def test_updates_are_called_until_one_is_recorded_and_then_replayed(device):
    total, calls, update = counter(device)
    plain, _, same = counter(device)
    captured, noise, other = Captured(device), Noise(0, device), Noise(0, device)
    for _ in range(capture.WARM_UP + 5):
        captured(update, noise)
        same(other)
    assert calls == [True] * capture.WARM_UP + [False]  # no collection during the recording
    assert gc.isenabled()
    assert (active().captures, active().replays) == (1, 5)
    assert torch.equal(total.cpu(), plain.cpu())


def test_what_cannot_be_recorded_is_called_every_time(device):
    total, calls, update = counter(device)
    captured, noise = Captured(device, capturable=False), Noise(0, device)
    for _ in range(capture.WARM_UP + 5):
        captured(lambda noise: (update(noise), total.sum().item()), noise)
    assert len(calls) == capture.WARM_UP + 5
    assert active().captures == 0


def test_an_update_that_waits_raises_its_own_error_and_no_recording_remains(device, monkeypatch):
    monkeypatch.setattr(capture, "WARM_UP", 0)
    total, captured, noise = torch.zeros(3, device=device), Captured(device), Noise(0, device)
    with pytest.raises(RuntimeError, match="item is not permitted"):
        captured(lambda noise: total.sum().item(), noise)
    assert captured.graph is None
    assert active().graph is None
    assert gc.isenabled()
    assert active().streams[-1] is active().streams[0]


def test_a_graph_refuses_another_source_of_noise(device, monkeypatch):
    monkeypatch.setattr(capture, "WARM_UP", 0)
    _, _, update = counter(device)
    captured = Captured(device)
    captured(update, Noise(0, device))
    with pytest.raises(AssertionError, match="the noise of its recording"):
        captured(update, Noise(0, device))


class Waiting(CD):
    capturable = False

    def __call__(self, model, phases, state, noise):
        super().__call__(model, phases, state, noise)
        phases.v.sum().item()


def trainer_on(device, gradient):
    values = (torch.zeros(size, device=device) for size in ((2, 4), (4,), (2,)))
    return Trainer(RBM(Bernoulli(), Bernoulli(), *values), gradient, batch_size=3)


def train(trainer, device, n_updates=12):
    noise, rows = Noise(0, device), torch.ones(3, 4, device=device)
    with torch.inference_mode():
        trainer.begin_epoch(rows.mean(0), rows, n_updates, noise, 0.1, 0.0)
        for _ in range(n_updates):
            trainer.step(rows, rows[:, 0] / 3, noise)


def test_a_gradient_that_waits_trains_without_a_graph(device):
    results = []
    for gradient in (CD(), Waiting()):
        trainer = trainer_on(device, gradient)
        train(trainer, device)
        results.append(trainer.model.theta.cpu())
    assert active().captures == 1
    assert torch.equal(*results)


def test_a_state_is_not_loaded_into_a_trainer_with_a_graph(device):
    trainer = trainer_on(device, CD())
    trainer.load_state(trainer.state())
    train(trainer, device)
    with pytest.raises(AssertionError, match="the tensors from before"):
        trainer.load_state(trainer.state())
