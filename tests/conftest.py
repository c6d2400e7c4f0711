"""Exact enumeration, and the tables of units and models that the laws are checked on."""

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from skebm.engine.gradients import Phases
from skebm.engine.models import RBM, Joint
from skebm.engine.noise import Noise
from skebm.engine.units import Bernoulli, Gaussian, MeanBernoulli, Shifted

settings.register_profile("skebm", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("skebm")

# A new kind of units is checked by adding its row: (constructor, quadrature points, weights).
# Discrete units sum over their states; continuous ones integrate on a fine grid.
_binary = (torch.tensor([0.0, 1.0]).double(), torch.ones(2).double())
_shift = torch.tensor(0.25).double()
_line = (0.01 * torch.arange(-3000, 3001).double(), torch.full((6001,), 0.01, dtype=torch.float64))
UNITS = {
    "bernoulli": (Bernoulli, *_binary),
    "mean": (MeanBernoulli, *_binary),
    "gaussian": (Gaussian, *_line),
    "gaussian of variance 2": (lambda: Gaussian(2.0), *_line),
    "shifted bernoulli": (lambda: Shifted(Bernoulli(), _shift), _binary[0] - 0.25, _binary[1]),
    "shifted gaussian": (lambda: Shifted(Gaussian(2.0), _shift), *_line),
}
SAMPLED_UNITS = [name for name in UNITS if name != "mean"]

# A new model is checked by adding its row: visible and hidden units.
MODELS = {
    "bernoulli-bernoulli": (Bernoulli, Bernoulli),
    "gaussian-bernoulli": (Gaussian, Bernoulli),
    "bernoulli-gaussian": (Bernoulli, Gaussian),
    "gaussian of variance 2-bernoulli": (lambda: Gaussian(2.0), Bernoulli),
}
BERNOULLI_HIDDEN = [name for name in MODELS if name.endswith("-bernoulli")]


def make_model(name="bernoulli-bernoulli", n_visible=4, n_hidden=3, seed=0, scale=0.7, b0=True):
    """A model of this kind with random parameters, in float64."""
    visible, hidden = MODELS[name]
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return torch.from_numpy(rng.normal(0, scale, shape))

    return RBM(
        visible(),
        hidden(),
        draw(n_hidden, n_visible),
        draw(n_visible),
        draw(n_hidden),
        draw(n_visible) if b0 else None,
    )


def states(n):
    """All 2^n binary rows."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n))).double()


def log_z(model, beta=1.0) -> Tensor:
    """log Z by enumerating whichever layer is binary."""
    if isinstance(model.visible, Bernoulli):
        return torch.logsumexp(-model.free_energy(states(len(model.b)), beta), 0)
    return torch.logsumexp(-model.hidden_free_energy(states(len(model.c)), beta), 0)


def probabilities(model, beta=1.0) -> Tensor:
    """p(v) of every binary v."""
    return torch.softmax(-model.free_energy(states(len(model.b)), beta), 0)


def transition_matrix(model, beta):
    """P(v → v′) of one sweep, a row for each v."""
    v, h = states(len(model.b)), states(len(model.c))
    field_h = model.hidden_field(v, beta)
    field_v = model.visible_field(h, beta)
    to_hidden = h @ field_h.T - model.hidden.cumulant(field_h)  # (2^n_hidden, 2^n_visible)
    to_visible = v @ field_v.T - model.visible.cumulant(field_v)  # (2^n_visible, 2^n_hidden)
    return (to_visible.exp() @ to_hidden.exp()).T


def mean_states(model, v, weight) -> Joint:
    """Rows with their hidden units at the mean: what −∂F/∂θ is made of."""
    return Joint(v.clone(), model.hidden.mean(model.hidden_field(v)), weight)


def update(model, gradient, v, weight, state=None, noise=None) -> Phases:
    """What one batch leaves in every `.grad`: ∂/∂θ Σ_i weight_i log p(v_i), or its estimate."""
    phases = Phases(model, len(v), gradient.n_model(model, len(v)))
    phases.data.v.copy_(v)
    phases.set_weight(weight)
    gradient(model, phases, {} if state is None else state, noise or Noise(0))
    model.set_grad(phases)
    return phases


def flat_grad(model) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters().values()])


def some_rows(model, n=5, seed=1) -> Tensor:
    """Rows that the visible units can take."""
    rng = np.random.default_rng(seed)
    shape = (n, len(model.b))
    real = rng.normal(size=shape)
    return torch.from_numpy(real if isinstance(model.visible, Gaussian) else (real > 0) * 1.0)


def exact_log_z(estimator) -> float:
    """log Z of a fitted estimator with few Bernoulli hidden units, written out in numpy."""
    W = estimator.components_.astype(np.float64)
    b, c = estimator.intercept_visible_, estimator.intercept_hidden_
    h = np.array(list(itertools.product([0.0, 1.0], repeat=len(c))))
    field = b + h @ W
    if type(estimator).__name__ == "GaussianRBM":
        cumulant = (field**2 + math.log(2 * math.pi)).sum(1) / 2
    else:
        cumulant = np.logaddexp(0, field).sum(1)
    return float(np.logaddexp.reduce(h @ c + cumulant))


def model_mean(estimator) -> np.ndarray:
    """E[v] of a fitted Bernoulli model, by enumerating the visible units in numpy."""
    W = estimator.components_.astype(np.float64)
    b, c = estimator.intercept_visible_, estimator.intercept_hidden_
    v = np.array(list(itertools.product([0.0, 1.0], repeat=len(b))))
    log_p = v @ b + np.logaddexp(0, c + v @ W.T).sum(1)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    return p @ v


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="session")
def mnist():
    folder = os.environ.get("SKEBM_DATA")
    if not folder or not (Path(folder) / "mnist.npz").exists():
        pytest.skip("SKEBM_DATA does not name a folder with mnist.npz")
    return np.load(Path(folder) / "mnist.npz")


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
