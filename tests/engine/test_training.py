"""Optimisers and the loop."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from skebm.engine import capture
from skebm.engine.batches import Batches
from skebm.engine.gradients import CD, PCD, Exact, ParallelTempering
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.training import SGD, Adam, Trainer
from skebm.engine.units import Bernoulli
from tests.conftest import all_states, center, flat_grad, make_model, update

CPU = torch.device("cpu")


def some_batches(n=10, batch_size=4, device=CPU):
    X = (np.random.default_rng(0).uniform(size=(n, 4)) < 0.5).astype(float)
    dtype = np.dtype("float64")
    return Batches(X, None, batch_size=batch_size, shuffle=True, device=device, dtype=dtype)


def train(model, gradient, batches, rate=0.1, seed=1, **settings):
    trainer = Trainer(model, gradient, batch_size=batches.batch_size, **settings)
    trainer.epoch(batches, Noise(seed), rate)
    return trainer


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch(momentum):
    ours, theirs = torch.ones(3), torch.ones(3)
    ours.grad = torch.zeros(3)
    our_sgd = SGD(ours, momentum > 0)
    our_sgd.set_rate(0.1, momentum)
    their_sgd = torch.optim.SGD([theirs], lr=0.1, momentum=momentum, maximize=True)
    for step in range(5):
        ours.grad.copy_(torch.tensor([1.0, -2.0, step]))
        theirs.grad = ours.grad.clone()
        our_sgd.step()
        their_sgd.step()
    assert_close(ours, theirs)


def test_adam_is_that_of_torch_with_the_rate_of_the_epoch():
    ours, theirs = torch.ones(3), torch.ones(3)
    ours.grad = torch.zeros(3)
    adam, reference = Adam(ours), torch.optim.Adam([theirs], maximize=True)
    for step in range(5):
        rate = 0.1 / (step + 1)
        ours.grad.copy_(torch.tensor([1.0, -2.0, step]))
        theirs.grad = ours.grad.clone()
        adam.set_rate(rate, 0.0)
        reference.param_groups[0]["lr"] = rate
        adam.step()
        reference.step()
    assert_close(ours, theirs)


@pytest.mark.parametrize("centered", [False, True])
def test_an_epoch_makes_one_update_a_batch_along_the_gradient(centered):
    model, reference, batches = make_model(b0=False), make_model(b0=False), some_batches()
    trainer = train(model, Exact(), batches, rate=0.05, centered=centered)
    zero = [torch.zeros_like(bias) for bias in (reference.b, reference.c)]
    mu, lam = (trainer.offsets[k] for k in sorted(trainer.offsets)[::-1]) if centered else zero
    n_updates = 0
    for v, weight in batches(Noise(1)):
        update(reference, Exact(), v, weight)
        center(reference, mu, lam)
        reference.theta.add_(flat_grad(reference), alpha=0.05)
        n_updates += 1
    assert n_updates == 3
    assert_close(model.theta, reference.theta)


HOLES = torch.tensor([[1.0, np.nan, 0.0, np.nan], [np.nan, 0.0, 0.0, 1.0]]).double()


def test_contrastive_divergence_leaves_missing_entries_out():
    model, rows = make_model(), HOLES.repeat(20_000, 1)
    missing, means = HOLES.isnan(), model.visible.mean(model.b0)
    trainer = Trainer(model, CD(20), batch_size=len(rows), leaves_out=True)
    trainer.begin_epoch(means, rows, 1, Noise(1), 0.0, 0.0)
    trainer.step(rows, torch.full((len(rows),), 1 / len(rows)).double(), Noise(2))

    def log_p(theta):
        other, total = model.at(theta), 0.0
        for row, hole in zip(HOLES, missing):
            v = torch.where(hole, means, all_states(Bernoulli(), 4)).unique(dim=0)
            row = torch.where(hole, means, row)
            total = total - other.free_energy(row[None])[0] - (-other.free_energy(v)).logsumexp(0)
        return total / len(HOLES)

    expected = torch.func.grad(log_p)(model.theta.clone())
    assert_close(flat_grad(model), expected, atol=0.02, rtol=0)
    assert expected.abs().max() > 0.1


def test_offsets_are_the_means_of_the_data_and_then_follow_them():
    model, batches, others = make_model(), some_batches(40), some_batches(7)
    before = model.hidden.mean(model.hidden_field(batches.probe)).mean(0)
    trainer = train(model, Exact(), batches, centered=True)
    assert_close(trainer.averages["visible_offset"], batches.mean)
    assert_close(trainer.averages["hidden_offset"], before)
    for name, average in trainer.averages.items():
        offset = trainer.offsets[name]
        assert ((offset - average).abs() <= 1 / 512).all()
        assert torch.equal(offset.bfloat16().double(), offset)
        assert torch.equal((1 - offset).bfloat16().double(), 1 - offset)
    now = model.hidden.mean(model.hidden_field(others.probe)).mean(0)
    trainer.epoch(others, Noise(2), 0.1)  # two batches: a rate of 1 − 0.99²
    expected = batches.mean + (1 - 0.99**2) * (others.mean - batches.mean)
    assert_close(trainer.averages["visible_offset"], expected)
    assert_close(trainer.averages["hidden_offset"], before + (1 - 0.99**2) * (now - before))


@pytest.mark.parametrize("gradient", [PCD(2, 7), ParallelTempering(3, n_chains=5)], ids=str)
def test_chains_are_states_of_the_units_between_epochs(gradient):
    trainer = train(make_model(), gradient, some_batches(), centered=True)
    assert set(trainer.gradient_state["chains"].unique().tolist()) == {0.0, 1.0}


def test_penalties_are_added_to_the_gradient_of_the_weights_alone():
    plain, penalised = make_model(), make_model()
    W = penalised.W.clone()
    train(plain, Exact(), some_batches(4))
    train(penalised, Exact(), some_batches(4), weight_decay=0.5, l1=0.2, l1b=0.3)
    of_units = 0.3 / W.shape[1] * W.abs().sum(1, keepdim=True)
    assert_close(penalised.W, plain.W - 0.1 * (0.5 * W + (0.2 + of_units) * W.sign()))
    assert_close(penalised.b, plain.b)
    assert_close(penalised.c, plain.c)


@pytest.mark.parametrize("centered", [False, True])
def test_sparsity_pulls_biases_by_what_activations_lack(centered):
    plain, sparse, batches = make_model(), make_model(), some_batches(4)
    with torch.inference_mode():
        rows, weight = next(iter(batches(Noise(1))))
        activation = weight @ sparse.hidden.mean(sparse.hidden_field(rows))
    train(plain, Exact(), batches, centered=centered)
    train(sparse, Exact(), batches, centered=centered, sparsity_target=0.1, sparsity_cost=0.7)
    assert_close(sparse.c - plain.c, 0.1 * 0.7 * (0.1 - activation))
    assert_close(sparse.W, plain.W)


def test_norms_of_weights_and_gradients_are_capped():
    model = make_model(scale=2.0)
    train(model, Exact(), some_batches(), max_norm=0.8)
    norms = model.W.norm(dim=1)
    assert (norms <= 0.8 + 1e-6).all()
    assert norms.max() > 0.79
    for cap in (0.05, 1e3):
        plain, capped = make_model(), make_model()
        before = plain.theta.clone()
        train(plain, Exact(), some_batches(4))
        train(capped, Exact(), some_batches(4), max_grad_norm=cap)
        step, expected = capped.theta - before, plain.theta - before
        assert 0.05 < (expected / 0.1).norm() < 1e3
        assert_close(step, expected * min(1, cap / (expected / 0.1).norm()))


@pytest.mark.parametrize("change", [{"max_norm": 0.5}, {"weight_decay": 2.0, "l1": 1.0}], ids=str)
def test_what_shrinks_weights_leaves_the_centred_biases_as_they_are(change):
    # b + Wᵀ λ and c + W μ, the fields at the mean of the units, do not change with the weights.
    shrunk, free = make_model(), make_model()
    trainer = train(shrunk, Exact(), some_batches(4), centered=True, **change)
    train(free, Exact(), some_batches(4), centered=True)
    assert (free.W.norm(dim=1) > shrunk.W.norm(dim=1) + 0.1).any()
    mu, lam = trainer.offsets["visible_offset"], trainer.offsets["hidden_offset"]
    assert_close(shrunk.b + shrunk.W.T @ lam, free.b + free.W.T @ lam)
    assert_close(shrunk.c + shrunk.W @ mu, free.c + free.W @ mu)


@pytest.mark.parametrize("optimizer", [{"momentum": True}, {"optimizer": "adam"}], ids=str)
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("gradient", [CD(), PCD(2, 3), ParallelTempering(3, n_chains=2)], ids=str)
def test_state_is_all_that_the_next_epoch_needs(optimizer, centered, gradient):
    def new():
        return Trainer(make_model(), gradient, batch_size=4, centered=centered, **optimizer)

    whole, first, second = new(), new(), new()
    whole.epoch(some_batches(), Noise(1), 0.05, 0.9)
    whole.epoch(some_batches(), Noise(2), 0.05, 0.9)
    first.epoch(some_batches(), Noise(1), 0.05, 0.9)
    second.model.theta.copy_(first.model.theta)
    second.load_state({name: t.clone() for name, t in first.state().items()})
    second.epoch(some_batches(), Noise(2), 0.05, 0.9)
    assert torch.equal(second.model.theta, whole.model.theta)
    for name, t in whole.state().items():
        assert torch.equal(t, second.state()[name]), name


def cuda_model(n_visible=4):
    model = make_model(n_visible=n_visible)
    tensors = [getattr(model, name).cuda() for name in ("W", "b", "c", "b0")]
    return RBM(model.visible, model.hidden, *tensors)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("centered", [False, True])
def test_an_epoch_on_cuda_follows_the_cpu(optimizer, centered):
    results = []
    for device, model in ((CPU, make_model()), (torch.device("cuda"), cuda_model())):
        batches = some_batches(50, device=device)
        batches.shuffle = False
        trainer = Trainer(model, Exact(), batch_size=4, optimizer=optimizer, centered=centered)
        noise = Noise(0, device)
        for seed, rate in ((0, 0.1), (1, 0.05)):
            noise.restart(seed)
            trainer.epoch(batches, noise, rate)
        results.append(model.theta.cpu())
    assert_close(*results)


@pytest.mark.gpu
@pytest.mark.parametrize("gradient", [CD(2), PCD(2, 5), ParallelTempering(3)], ids=str)
def test_a_graph_replays_what_the_updates_would_have_been(gradient, monkeypatch):
    device = torch.device("cuda")
    results = []
    for eager in (False, True):
        monkeypatch.setattr(capture, "WARM_UP", 10**9 if eager else 10)
        model = cuda_model()
        trainer = Trainer(model, gradient, batch_size=4, centered=True)
        noise = Noise(0, device)
        for seed in (1, 2):
            noise.restart(seed)
            trainer.epoch(some_batches(50, device=device), noise, 0.1)
        assert (trainer._captured.graph is None) == eager
        results.append(model.theta)
    assert torch.equal(*results)


class Synchronising(CD):
    capturable = False

    def __call__(self, model, phases, state, noise):
        super().__call__(model, phases, state, noise)
        phases.v.sum().item()


@pytest.mark.gpu
def test_what_a_graph_cannot_hold_is_run_eagerly():
    device, models = torch.device("cuda"), []
    for gradient in (CD(), Synchronising()):
        trainer = Trainer(cuda_model(), gradient, batch_size=4)
        trainer.epoch(some_batches(50, device=device), Noise(0, device), 0.1)
        models.append(trainer.model)
    assert trainer._captured.graph is None
    assert torch.equal(models[0].theta, models[1].theta)


@pytest.mark.gpu
def test_an_epoch_does_not_wait_for_the_device():
    device = torch.device("cuda")
    batches, noise = some_batches(50, device=device), Noise(0, device)
    trainer = Trainer(cuda_model(), PCD(), batch_size=4, centered=True)
    trainer.epoch(batches, noise, 0.1)  # which makes the graph
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.epoch(batches, noise, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("gradient", [PCD(1, 200), ParallelTempering(2, n_chains=100)], ids=str)
def test_chains_are_the_same_in_any_coordinates(gradient):
    chains = []
    for centered in (False, True):
        trainer = Trainer(make_model(scale=2.0), gradient, batch_size=10, centered=centered)
        for seed in (1, 2):
            trainer.epoch(some_batches(10, 10), Noise(seed), 0.0)
        chains.append(trainer.gradient_state["chains"])
    assert torch.equal(*chains)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_centred_hidden_biases_learn_at_a_rate_of_their_own(share):
    # In centred coordinates c + W μ, with the offsets that the trainer has taken.
    steps = []
    for hidden_bias_rate in (1.0, 3.0):
        model = make_model()
        W, b, c = (p.clone() for p in (model.W, model.b, model.c))
        settings = {"centered": True, "hidden_share": share, "hidden_bias_rate": hidden_bias_rate}
        batches = some_batches(4)
        mean = model.hidden.mean(model.hidden_field(batches.probe)).mean(0)
        trainer = train(model, Exact(), batches, rate=0.01, **settings)
        mu, lam = trainer.offsets["visible_offset"], trainer.offsets["hidden_offset"]
        assert_close(lam, share * mean, atol=1 / 256, rtol=0)
        dW = model.W - W
        steps.append((dW, model.b - b + dW.T @ lam, model.c - c + dW @ mu))
    assert_close(steps[1][:2], steps[0][:2])
    assert_close(steps[1][2], 3 * steps[0][2])
    assert steps[0][2].abs().min() > 1e-6


def test_reconstructions_of_cd_have_the_weights_of_their_rows():
    v = make_model(seed=3).start(6, Noise(2))
    model = make_model(seed=3)
    update(model, CD(), v, torch.tensor([0.5, 0.2, 0.3, 0, 0, 0], dtype=torch.float64))
    gradient = flat_grad(model)
    v[3:] = 1 - v[3:]  # rows of weight zero, as those that fill up a batch
    update(model, CD(), v, torch.tensor([0.5, 0.2, 0.3, 0, 0, 0], dtype=torch.float64))
    assert_close(flat_grad(model), gradient)


def test_new_chains_of_a_trained_model_start_at_rows():
    # Each hidden unit copies a feature, so that the states of the chains show where they started.
    W, bias = 40 * torch.eye(4).double(), torch.full((4,), -20.0).double()
    model = RBM(Bernoulli(), Bernoulli(), W, bias, bias.clone())
    rows = np.repeat([[1.0, 0, 0, 1], [0, 1, 1, 0]], 10, axis=0)
    batches = Batches(rows, None, batch_size=5, shuffle=True, device=CPU, dtype=rows.dtype)
    for gradient in (PCD(n_chains=10), PCD(n_chains=50), ParallelTempering(3, n_chains=10)):
        trainer = Trainer(model, gradient, batch_size=5)
        trainer.start_at_rows = True
        trainer.begin_epoch(batches.mean, batches.probe, 4, Noise(0), 0.1, 0.0)
        for level in trainer.gradient_state["chains"].unflatten(0, (gradient.n_levels, -1)):
            # as many at each mode as the rows have, however the probe is sorted
            found = Counter(tuple(row) for row in level.tolist())
            half = gradient.n_chains // 2
            assert found == {(1, 0, 0, 1): half, (0, 1, 1, 0): half}
