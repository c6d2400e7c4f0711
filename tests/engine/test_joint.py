"""Labels beside the visible units: the law of a label, and three objectives, by enumeration."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine.gradients import CD, PCD, Exact, Phases
from skebm.engine.joint import Conditional, JointRBM, Labelled, posterior
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.units import Bernoulli, Spin
from tests.conftest import (
    center,
    centred_step,
    exact_draws,
    log_z,
    offsets,
    probabilities,
    states,
    transition_matrix,
    visible_states,
)

EXACT = {"rtol": 1e-9, "atol": 1e-9}
D, H, K = 4, 3, 3
seeds = st.integers(0, 1000)
OBJECTIVES = {"generative": (1.0, 0.0), "discriminative": (0.0, 1.0), "hybrid": (0.3, 1.0)}
every_objective = pytest.mark.parametrize("shares", OBJECTIVES.values(), ids=OBJECTIVES)


def labelled(seed=0, units=Bernoulli):
    """A model with random parameters, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W, b, c, U, d, b0 = draw(H, D), draw(D), draw(H), draw(H, K), draw(K), draw(D)
    return RBM(Bernoulli(), Labelled(units(), U, d), W, b, c, b0)


def some_rows(seed=0, n=5):
    """Rows with labels, all in one-hot form: v and y."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randint(2, (n, D), generator=generator).double()
    y = torch.eye(K).double()[torch.randint(K, (n,), generator=generator)]
    return v, y


def minus_energies(W, b, c, U, d, low=0.0):
    """−E of every (v, y, h), written out: (2^D, K, 2^H)."""
    v, h = states(D), states(H) * (1 - low) + low
    return (v @ b)[:, None, None] + d[:, None] + h @ c + (v @ W.T @ h.T)[:, None] + (h @ U).T


def log_joint(*parameters):
    """log p(v, y) of every pair, by enumeration: (2^D, K)."""
    energies = minus_energies(*parameters)
    return energies.logsumexp(2) - energies.flatten().logsumexp(0)


def parts(model):
    return model.W, model.b, model.c, model.hidden.U, model.hidden.d


def number_of(v):
    """The place of binary rows among all states."""
    return (v @ 2.0 ** torch.arange(D).double()).long()


@pytest.mark.parametrize("units", [Bernoulli, Spin])
@given(seed=seeds)
def test_the_law_of_the_label_is_exact(units, seed):
    model = labelled(seed, units)
    joint = minus_energies(*parts(model), low=model.hidden.support[0]).logsumexp(2)
    assert_close(posterior(model, states(D))[0], joint.log_softmax(1), **EXACT)
    assert_close(-model.free_energy(states(D)), joint.logsumexp(1), **EXACT)
    assert_close(log_z(model), joint.flatten().logsumexp(0), **EXACT)


@given(seed=seeds)
def test_the_model_in_training_is_the_same_law(seed):
    model = labelled(seed)
    joint = JointRBM(model, 1.0, 1.0)
    rows = visible_states(joint)  # of features and labels
    log_p = log_joint(*parts(model))[number_of(rows[:, :D]), rows[:, D:].argmax(1)]
    assert_close(probabilities(joint), log_p.exp(), **EXACT)
    again = joint.without_dropout()
    for one, other in zip(parts(model), parts(again)):
        assert_close(one, other)
    assert_close(again.b0, model.b0)


@pytest.mark.parametrize("beta", [0.3, 1.0])
@given(seed=seeds)
def test_joint_sampling_leaves_the_law_of_rows_and_labels_invariant(beta, seed):
    model = labelled(seed)
    for one in (JointRBM(model, 1.0, 1.0), model):
        p, kernel = probabilities(one, beta), transition_matrix(one, beta)
        assert_close(p @ kernel, p, **EXACT)
        flow = p[:, None] * kernel
        assert_close(flow, flow.T, **EXACT)


def test_hidden_units_and_label_are_drawn_from_their_law():
    model = labelled(3)
    v = states(D)[[5]].expand(40_000, -1)
    drawn = model.sample_hidden(v, Noise(0))
    energies = minus_energies(*parts(model))[5].logsumexp(0)  # of every h
    share = torch.softmax(energies, 0)
    seen = torch.bincount((drawn @ 2.0 ** torch.arange(H).double()).long(), minlength=2**H)
    assert (seen / 40_000 - share).abs().max() < 4 * 0.5 / 200


def objective(rows, labels, weight, shares, known=None):
    """The objective of these rows as a function of W, b, c, U, d, by enumeration."""
    generative, discriminative = shares
    known = torch.ones(len(rows)) if known is None else known

    def total(*parameters):
        joint = log_joint(*parameters)
        of_pairs = (joint[number_of(rows)] * labels).sum(1)
        of_rows = joint.logsumexp(1)[number_of(rows)]
        labelled = generative * of_pairs + discriminative * (of_pairs - of_rows)
        return (weight * torch.where(known > 0, labelled, generative * of_rows)).sum()

    return total


def autograd(model, total):
    """The derivative of an objective by the parameters of a model in training."""
    W, b, c, U, d = (p.clone() for p in parts(model))
    both, biases = torch.cat([W, U], 1), torch.cat([b, d])
    for p in (both, biases, c):
        p.requires_grad_(True)
    value = total(both[:, :D], biases[:D], c, both[:, D:], biases[D:])
    return torch.autograd.grad(value, (both, biases, c))


def closed_form(joint, gradient, v, y, weight, noise=None):
    """What an update leaves in `.grad`."""
    noise = noise or Noise(0)
    phases = Phases(joint, len(v), gradient.n_model(joint, len(v)))
    phases.data.v.copy_(torch.cat([v, y], 1))
    phases.set_weight(weight)
    prepared = joint.begin_update(phases.data, noise)
    state = gradient.start(joint, len(v), noise)
    gradient(prepared, phases, state, noise)
    prepared.set_grad(phases)
    return [p.grad for p in (joint.W, joint.b, joint.c)]


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


@every_objective
@pytest.mark.parametrize("centered", [False, True])
@given(seed=seeds)
def test_the_gradient_of_every_objective_is_exact(shares, centered, seed):
    model, (v, y) = labelled(seed), some_rows(seed)
    weight = torch.tensor([0.2, 0.4, 0.0, 0.1, 0.3]).double()
    joint = JointRBM(model, *shares, partly=False)
    gradient = Exact() if shares[0] else Conditional()
    expected = autograd(model, objective(v, y, weight, shares))
    found = closed_form(joint, gradient, v, y, weight)
    if centered:
        mu, lam = offsets(joint, seed)
        center(joint, mu, lam)
        expected = centred_step(joint, expected, mu, lam)
    assert_close(flat(found), flat(expected), **EXACT)


def test_rows_without_a_label_follow_the_law_of_rows_alone():
    shares, n = (0.5, 1.0), 30_000
    model, (v, y) = labelled(1), some_rows(2, 2)
    weight = torch.full((2 * n,), 0.5 / n, dtype=torch.float64)
    rows, labels = v.repeat_interleave(n, 0), y.repeat_interleave(n, 0)
    labels[:n] = 0  # the first row is not labelled
    joint = JointRBM(model, *shares)
    found = closed_form(joint, Exact(), rows, labels, weight, Noise(1))
    known = torch.tensor([0.0, 1.0])
    total = objective(v, y, torch.tensor([0.5, 0.5]).double(), shares, known)
    expected = flat(autograd(model, total))
    assert_close(flat(found), expected, rtol=0, atol=4 * 0.5 * 0.5 / n**0.5)


def test_without_a_generative_share_no_chain_is_run():
    model, (v, y) = labelled(), some_rows()
    joint = JointRBM(model, 0.0, 1.0, partly=False)
    weight = torch.full((5,), 0.2, dtype=torch.float64)

    class NoNoise:
        def __getattr__(self, name):
            raise AssertionError("noise was drawn")

    closed_form(joint, Conditional(), v, y, weight, NoNoise())


@pytest.mark.parametrize("gradient", [CD(), PCD(n_chains=20_000)])
def test_chains_at_equilibrium_give_the_gradient_of_the_joint_law(gradient):
    """With rows that are draws from the model the expected gradient is zero, of U and d too."""
    model, n = labelled(2), 20_000
    joint = JointRBM(model, 1.0, 0.0, partly=False)
    rows = exact_draws(joint, n)
    state = {"chains": joint.sample_hidden(exact_draws(joint, n, seed=1), Noise(3))}
    phases = Phases(joint, n, gradient.n_model(joint, n))
    phases.data.v.copy_(rows)
    phases.set_weight(torch.full((n,), 1 / n, dtype=torch.float64))
    gradient(joint, phases, state, Noise(2))
    joint.set_grad(phases)
    assert joint.theta.grad.abs().max() < 4 * 0.75 / n**0.5


@every_objective
def test_missing_activity_is_that_given_the_label(shares):
    model, (v, y) = labelled(), some_rows()
    joint = JointRBM(model, *shares, partly=False)
    gradient = CD() if shares[0] else Conditional()
    phases = Phases(joint, 5, gradient.n_model(joint, 5))
    phases.data.v.copy_(torch.cat([v, y], 1))
    phases.set_weight(torch.full((5,), 0.2, dtype=torch.float64))
    gradient(joint.begin_update(phases.data, Noise(0)), phases, {}, Noise(0))
    mean = torch.sigmoid(model.c + v @ model.W.T + y @ model.hidden.U.T).mean(0)
    assert_close(joint.missing_activity(phases.data, 0.2), 0.2 - mean, **EXACT)


def test_one_class_alone_changes_nothing_but_the_hidden_biases():
    model = labelled(4)
    for k in range(K):
        U, d = model.hidden.U[:, k], model.hidden.d[k]
        hidden = Labelled(Bernoulli(), U[:, None] * 0, d[None] * 0)
        plain = RBM(Bernoulli(), hidden, model.W, model.b, model.c + U)
        given = log_joint(*parts(model))[:, k].log_softmax(0).exp()
        assert_close(probabilities(plain), given, **EXACT)


def test_sizes_of_pieces_count_the_classes():
    model = labelled()
    assert model.row_size == D + K * H
    assert model.change_size(2) == 2 * K * H
