"""Trajectory tempering: exchanges between past models, log Z along the ladder, the gradient."""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch.testing import assert_close

from skebm import PCD, PTT, BernoulliRBM, RBMClassifier, log_likelihood, log_partition
from skebm.engine.batches import Batches
from skebm.engine.gradients import Phases
from skebm.engine.ladder import bennett, exchange_, free_energy, log_partition_ladder, sweep_
from skebm.engine.noise import Noise
from skebm.engine.partition import log_partition_exact
from skebm.engine.training import Trainer
from skebm.fitted import FittedModel
from tests.conftest import MODELS, make_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_at_other_parameters_is_the_model_that_has_them(name):
    model, other = (make_model(name, seed=seed) for seed in (0, 1))
    moved = model.at(other.theta)
    for parameter, expected in zip(moved.parameters().values(), other.parameters().values()):
        assert_close(parameter, expected)
    v = model.start(5, Noise(0))
    other.b0 = model.b0  # the reference model stays
    for beta in (0.0, 0.4, 1.0):
        assert_close(moved.free_energy(v, beta), other.free_energy(v, beta))
    assert_close(moved.transition(v, Noise(1)), other.transition(v, Noise(1)))


def some_ladder(scale=1.0):
    """Three models of 3 visible and 2 hidden units, whose parameters grow."""
    model = make_model(n_visible=3, n_hidden=2, scale=scale, seed=4)
    return [*(model.at(share * model.theta) for share in (0.3, 0.7)), model]


def probabilities(models, k, states):
    return torch.softmax(-free_energy(models, k, states), 0)  # (8,)


def exact_draws(models, n):
    """All rows, their probabilities on each rung, and n independent draws on each rung."""
    rng = np.random.default_rng(0)
    every = torch.tensor([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], dtype=torch.float64)
    p = [probabilities(models, k, every).numpy() for k in range(4)]
    return every, p, [every[torch.from_numpy(rng.choice(8, size=n, p=of_rung))] for of_rung in p]


def test_a_sweep_leaves_the_joint_distribution_of_all_rungs_invariant():
    models, n = some_ladder(1.5), 40_000
    every, p, states = exact_draws(models, n)
    before = [s.clone() for s in states]
    accepted = sweep_(models, states, Noise(0))
    assert (states[-1] != before[-1]).any(1).double().mean() > 0.2
    codes = [(s @ torch.tensor([1.0, 2.0, 4.0], dtype=s.dtype)).long().numpy() for s in states]
    for k in range(4):
        for j in range(k + 1, 4):
            found = np.bincount(codes[k] * 8 + codes[j], minlength=64) / n
            expected = np.outer(p[k], p[j]).ravel()
            error = np.sqrt(expected * (1 - expected) / n)
            assert (np.abs(found - expected) < 5 * error).all()
    # The first pair is exchanged first, between exact states.
    F = [free_energy(models, k, every).numpy() for k in (0, 1)]
    ratio = F[0][:, None] + F[1] - F[0] - F[1][:, None]
    expected = (np.outer(p[0], p[1]) * np.exp(np.minimum(0, ratio))).sum()
    assert abs(accepted[0].item() - expected) < 0.01


def test_exchanges_with_other_partners_leave_every_rung_invariant():
    models, n = some_ladder(1.5), 40_000
    _, p, states = exact_draws(models, n)
    before = states[-1].clone()
    moved = []
    for n_rounds in (1, 10):
        after = list(states)
        exchange_(models, after, Noise(0), n_rounds=n_rounds)
        moved.append((after[-1] != before).any(1).double().mean())
        for of_rung, found in zip(p, after):
            codes = (found @ torch.tensor([1.0, 2.0, 4.0], dtype=found.dtype)).long().numpy()
            error = np.sqrt(of_rung * (1 - of_rung) / n)
            assert (np.abs(np.bincount(codes, minlength=8) / n - of_rung) < 5 * error).all()
        joint = [np.sort(torch.cat(s).numpy().sum(1)) for s in (states, after)]
        np.testing.assert_array_equal(*joint)  # no state is lost or copied
    assert moved[1] > moved[0]


def log_z_errors(n_seeds, n_chains=20):
    """Errors of log Z along the ladder, over their standard errors."""
    models = some_ladder(1.5)
    exact, errors = log_partition_exact(models[-1]).item(), []
    for seed in range(n_seeds):
        noise = Noise(seed)
        states = [models[0].start(n_chains, noise) for _ in range(4)]
        value, error, _ = log_partition_ladder(models, states, noise)
        errors.append((value - exact) / error)
    return np.array(errors)


@pytest.mark.parametrize("n_seeds", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_log_z_along_the_ladder_is_within_its_error(n_seeds):
    errors = log_z_errors(n_seeds)
    assert abs(errors.mean()) < 3.5 / np.sqrt(n_seeds)
    assert np.abs(errors).max() < 4.5
    assert errors.std() > 0.5  # the errors are not too large either


def test_bennetts_ratio_of_gaussian_work():
    rng = np.random.default_rng(0)
    below, above = (rng.normal(1.7 + sign * 2, 2, size=40_000) for sign in (1, -1))  # σ² = 4
    assert abs(bennett(below, above) - 1.7) < 0.05
    assert abs(bennett(below + 3, above + 3) - 4.7) < 0.05


def test_one_rung_is_persistent_contrastive_divergence():
    X = two_modes()
    settings = {"n_iter": 3, "random_state": 0}
    pcd, ptt = (
        BernoulliRBM(5, gradient=gradient, **settings).fit(X)
        for gradient in (PCD(2, n_chains=30), PTT(30, 2, max_rungs=1, relaxation=None))
    )
    np.testing.assert_array_equal(pcd.components_, ptt.components_)
    np.testing.assert_array_equal(pcd.h_samples_, ptt.h_samples_)


def two_modes(n=1000):
    """Two patterns that differ in all of 30 bits, in shares of 0.8 and 0.2, with noise."""
    rng = np.random.default_rng(0)
    first = np.arange(n)[:, None] < 0.8 * n
    X = np.hstack([np.repeat(first, 15, axis=1), np.repeat(~first, 15, axis=1)])
    return ((rng.uniform(size=X.shape) < 0.05) != X).astype(float)


def share_of_first(rbm):
    """The probability that the model gives to rows near the first pattern, by enumeration."""
    model = FittedModel(rbm).rbm("cpu", dtype=torch.float64)
    with torch.inference_mode():
        index = torch.arange(2**model.n_hidden)
        H = model.hidden.states(index, model.n_hidden, model.W)
        p = torch.softmax(-model.hidden_free_energy(H), 0)
        v = model.visible.mean(model.visible_field(H))
        return p[v[:, :15].mean(1) > v[:, 15:].mean(1)].sum().item()


def fit_modes(gradient, seed=0):
    settings = {"learning_rate": 0.02, "learning_rate_schedule": "linear", "n_iter": 40}
    settings |= {"batch_size": 20, "random_state": seed}
    return BernoulliRBM(6, gradient=gradient, **settings).fit(two_modes())


@pytest.fixture(scope="module")
def with_ladder():
    return fit_modes(PTT(interval=2))


def test_far_modes_keep_their_shares():
    pcd = [share_of_first(fit_modes(PCD(n_chains=100), seed)) for seed in range(4)]
    assert max(abs(share - 0.8) for share in pcd) > 0.3
    ptt = [share_of_first(fit_modes(PTT(interval=2), seed)) for seed in range(4)]
    assert all(abs(share - 0.8) < 0.15 for share in ptt)


def test_samples_and_log_z_of_a_model_with_a_ladder(with_ladder):
    rbm = with_ladder
    drawn = rbm.sample(1000, 100, method="ptt", random_state=0)
    share = (drawn[:, :15].mean(1) > 0.5).mean()
    assert abs(share - share_of_first(rbm)) < 0.08
    start = np.tile(np.arange(30) >= 15, (1000, 1))  # all in the second mode
    drawn = rbm.sample(1000, 100, method="ptt", init=start, random_state=0)
    assert abs((drawn[:, :15].mean(1) > 0.5).mean() - share_of_first(rbm)) < 0.08
    exact, found = log_partition(rbm), log_partition(rbm, method="ptt", random_state=0)
    assert abs(found.value - exact.value) < 4 * found.stderr < 0.4
    assert found.lower < exact.value < found.upper
    assert "(ptt:" in str(found)
    assert log_likelihood(rbm, two_modes(), log_z=found).mean() > -9
    chains = rbm.sample_chains(4, 20, method="ptt", random_state=0)
    n_rungs = int(rbm.history_["rungs"][-1])
    assert n_rungs == len(rbm.training_state_["rungs"]) + 2 > 3
    assert chains.swap_rates.shape == (n_rungs - 1,)
    assert chains.betas is None


def test_rungs_are_as_far_apart_as_they_may_be(with_ladder):
    history = with_ladder.history_
    assert history["swap_rate_min"][-1] > 0.1
    assert (history["swap_rate"] > 0.2).all()
    few = fit_modes(PTT(interval=2, max_rungs=3))
    assert few.history_["rungs"].max() == 3


def test_training_goes_back_where_it_moves_too_fast():
    model, noise = make_model(n_visible=12, n_hidden=5, scale=0.2, seed=1), Noise(0)
    gradient = PTT(50, interval=1)
    phases = Phases(model, 10, 50)
    state = gradient.start(model, 10, noise)
    gradient(model, phases, state, noise)
    assert len(state["rungs"]) == 0
    before = model.theta.clone()
    model.theta.mul_(30)
    gradient(model, phases, state, noise)
    assert_close(model.theta, before)
    assert_close(state["rungs"], before[None])
    assert state["rate"] == 0.5
    assert_close(phases.data.h, model.hidden.mean(model.hidden_field(phases.data.v)))
    model.theta.mul_(30)
    gradient(model, phases, state, noise)  # back to the same model, which is a rung already
    assert len(state["rungs"]) == 1
    rate = state["rate"].item()
    assert rate == 0.525 / 2
    gradient(model, phases, state, noise)
    assert state["rate"].item() == pytest.approx(1.05 * rate)


def test_the_rate_of_a_gradient_is_a_factor_of_its_step():
    model = make_model(seed=1)
    trainer = Trainer(model, PTT(10), batch_size=10)
    X = two_modes()[:10, :4]
    batches = Batches(X, None, batch_size=10, shuffle=False, device=CPU, dtype=np.dtype("float64"))
    trainer.epoch(batches, Noise(0), 0.1)
    with torch.inference_mode():
        trainer.gradient_state["rate"].zero_()
    before = model.theta.clone()
    trainer.epoch(batches, Noise(1), 0.1)
    assert_close(model.theta, before)


def test_warm_starts_go_on_with_the_ladder():
    X = two_modes()
    settings = {"learning_rate": 0.02, "batch_size": 20, "random_state": 0}
    gradient = PTT(40, interval=2)
    whole = BernoulliRBM(6, gradient=gradient, n_iter=6, **settings).fit(X)
    half = BernoulliRBM(6, gradient=gradient, n_iter=3, warm_start=True, **settings)
    half.fit(X).fit(X)
    np.testing.assert_array_equal(whole.components_, half.components_)
    np.testing.assert_array_equal(
        whole.training_state_["rung_states"], half.training_state_["rung_states"]
    )
    more = half.set_params(gradient=PTT(70, interval=2)).fit(X)
    assert more.h_samples_.shape == (70, 6)


def test_what_has_no_ladder_says_so(with_ladder):
    X = two_modes()
    rbm = BernoulliRBM(4, n_iter=1).fit(X)
    for call in (rbm.sample, rbm.sample_chains, lambda method: log_partition(rbm, method=method)):
        with pytest.raises(ValueError, match='needs the ladder of a fit with gradient="ptt"'):
            call(method="ptt")
    y = np.arange(len(X)) < 800
    classifier = RBMClassifier(4, gradient="ptt", alpha=0.1, n_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="is not supported for RBMClassifier"):
        classifier.sample(method="ptt")


def test_a_ladder_that_states_cannot_climb_gives_a_warning(with_ladder):
    rbm = copy.copy(with_ladder)
    rbm.training_state_ = rbm.training_state_ | {"rungs": rbm.training_state_["rungs"][:0]}
    message = "cannot climb the ladder of this BernoulliRBM: the exchange between rungs 0 and 1"
    for call in (rbm.sample, rbm.sample_chains, lambda method: log_partition(rbm, method=method)):
        with pytest.warns(ConvergenceWarning, match=message):
            call(method="ptt")
