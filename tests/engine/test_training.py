"""Optimisers and the loop."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from skebm.engine.batches import Batches
from skebm.engine.gradients import CD, PCD, Centered, Exact
from skebm.engine.noise import Noise
from skebm.engine.training import SGD, Trainer
from tests.conftest import make_model


def some_batches(n=10, batch_size=4):
    X = (np.random.default_rng(0).uniform(size=(n, 4)) < 0.5).astype(float)
    device, dtype = torch.device("cpu"), np.dtype("float64")
    return Batches(X, None, batch_size=batch_size, shuffle=True, device=device, dtype=dtype)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch(momentum):
    ours, theirs = torch.ones(3), torch.ones(3)
    our_sgd = SGD([ours], 0.1, momentum)
    their_sgd = torch.optim.SGD([theirs], lr=0.1, momentum=momentum)
    for step in range(5):
        ours.grad = torch.tensor([1.0, -2.0, step])
        theirs.grad = ours.grad.clone()
        our_sgd.step()
        their_sgd.step()
    assert_close(ours, theirs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_epoch_makes_one_update_a_batch_along_the_gradient(optimizer):
    model, reference, batches = make_model(), make_model(), some_batches()
    Trainer(model, Exact(), optimizer=optimizer, learning_rate=0.05).epoch(batches, Noise(1))
    parameters = list(reference.parameters().values())
    torch_optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](
        parameters, lr=0.05
    )
    n_updates = 0
    for v, weight in batches(Noise(1)):
        reference.zero_grad()
        Exact()(reference, v, weight, {}, Noise(0))
        torch_optimizer.step()
        n_updates += 1
    assert n_updates == 3
    for ours, theirs in zip(model.parameters().values(), parameters):
        assert_close(ours, theirs)


def test_penalties_are_added_to_the_gradient_of_the_weights_alone():
    plain, penalised = make_model(), make_model()
    Trainer(plain, Exact(), learning_rate=0.1).epoch(some_batches(4), Noise(1))
    trainer = Trainer(penalised, Exact(), learning_rate=0.1, weight_decay=0.5, l1=0.2)
    W = penalised.W.clone()
    trainer.epoch(some_batches(4), Noise(1))
    assert_close(penalised.W, plain.W - 0.1 * (0.5 * W + 0.2 * W.sign()))
    assert_close(penalised.b, plain.b)
    assert_close(penalised.c, plain.c)


@pytest.mark.parametrize("optimizer", [{"momentum": 0.9}, {"optimizer": "adam"}], ids=str)
@pytest.mark.parametrize("gradient", [CD(), PCD(2, 3), Centered(PCD())], ids=str)
def test_state_is_all_that_the_next_epoch_needs(optimizer, gradient):
    def new():
        model = make_model()
        return Trainer(model, gradient, learning_rate=0.05, **optimizer)

    whole, first, second = new(), new(), new()
    whole.epoch(some_batches(), Noise(1))
    whole.epoch(some_batches(), Noise(2))
    first.epoch(some_batches(), Noise(1))
    for ours, theirs in zip(second.parameters.values(), first.parameters.values()):
        ours.copy_(theirs)
    second.load_state({name: t.clone() for name, t in first.state().items()})
    second.epoch(some_batches(), Noise(2))
    for ours, theirs in zip(second.parameters.values(), whole.parameters.values()):
        assert torch.equal(ours, theirs)
    for name, t in whole.state().items():
        assert torch.equal(t, second.state()[name]), name


@pytest.mark.gpu
def test_an_epoch_on_cuda_follows_the_cpu():
    X = (np.random.default_rng(0).uniform(size=(50, 4)) < 0.5).astype(float)
    results = []
    for device in ("cpu", "cuda"):
        model = make_model()
        tensors = [getattr(model, name).to(device) for name in ("W", "b", "c", "b0")]
        moved = type(model)(model.visible, model.hidden, *tensors)
        batches = Batches(
            X,
            None,
            batch_size=4,
            shuffle=False,
            device=torch.device(device),
            dtype=np.dtype("float64"),
        )
        Trainer(moved, Centered(Exact()), learning_rate=0.1).epoch(batches, Noise(0, device))
        results.append([p.cpu() for p in moved.parameters().values()])
    for ours, theirs in zip(*results):
        assert_close(ours, theirs)
