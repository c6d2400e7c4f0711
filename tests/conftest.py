"""Exact enumeration, and the tables of units and models that the laws are checked on."""

import itertools
import math
import os
from pathlib import Path

# Every process of pytest-xdist has one thread: those of two processes on two cores wait for each
# other. This must happen before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# scikit-learn's array_api_dispatch needs this before scipy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from skebm.engine.gradients import Phases
from skebm.engine.joint import Labelled
from skebm.engine.models import RBM, Joint, grad
from skebm.engine.noise import Noise
from skebm.engine.units import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DoubleRectified,
    Gaussian,
    MeanBernoulli,
    Mixed,
    NoisyRelu,
    Poisson,
    Pooled,
    Rectified,
    Spin,
    SteppedSigmoid,
)

settings.register_profile("skebm", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("skebm")


@pytest.fixture
def two_threads():
    """Torch has two threads in the test, and the number from before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# A new kind of units is checked by adding its row to one of two tables.
# Units that are alike: (constructor, quadrature points, weights). Discrete units sum over their
# states; continuous ones integrate on a fine grid.
_binary = (torch.tensor([0.0, 1.0]).double(), torch.ones(2).double())
_line = (0.01 * torch.arange(-3000, 3001).double(), torch.full((6001,), 0.01, dtype=torch.float64))


def _interval(low, high, n=64):
    """Gauss-Legendre points and weights."""
    x, w = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy((x + 1) * (high - low) / 2 + low), torch.from_numpy(
        w * (high - low) / 2
    )


_steps = torch.arange(65).double()
_two_sides = [torch.cat(parts) for parts in zip(_interval(-40, 0, 400), _interval(0, 40, 400))]


def _slopes(shape):
    """Curvatures and thresholds of double rectified units."""
    rng = np.random.default_rng(8)
    gammas, thetas = rng.uniform(0.6, 2, size=(2, *shape)), rng.normal(size=(2, *shape))
    return [torch.from_numpy(np.asarray(values)) for values in (*gammas, *thetas)]


UNITS = {
    "bernoulli": (Bernoulli, *_binary),
    "mean": (MeanBernoulli, *_binary),
    "spin": (Spin, torch.tensor([-1.0, 1.0]).double(), torch.ones(2).double()),
    "continuous": (ContinuousBernoulli, *_interval(0.0, 1.0)),
    "gaussian": (Gaussian, *_line),
    "gaussian of temperature 2": (lambda: Gaussian(2.0), *_line),
    "poisson": (Poisson, torch.arange(1000).double(), torch.ones(1000).double()),
    "rectified": (Rectified, *_interval(0.0, 40.0, 400)),
    "rectified of temperature 2": (lambda: Rectified(2.0), *_interval(0.0, 60.0, 400)),
    "double rectified": (lambda: DoubleRectified(*_slopes(())), *_two_sides),
    "stepped": (SteppedSigmoid, _steps, torch.ones(65).double()),
    "stepped of temperature 2": (lambda: SteppedSigmoid(2.0), _steps, torch.ones(65).double()),
    "noisy relu": (NoisyRelu, _steps, torch.ones(65).double()),
}
SAMPLED_UNITS = [name for name in UNITS if name not in ("mean", "noisy relu")]


def groups(n):
    """Groups of at most three categories, n in all."""
    sizes = []
    while n:
        sizes.append(min(n, 3 - len(sizes) % 2))
        n -= sizes[-1]
    return sizes


def _mixed(n, *kinds):
    """Units of two kinds: the first half of them, and the rest."""
    first, second = kinds
    return Mixed(
        [(first(n - n // 2), n - n // 2), (second(n // 2), n // 2)] if n > 1 else [(first(n), n)]
    )


def _pooled(n):
    """A map of n units, two rows of them if that goes, in blocks that the edge cuts off."""
    return Pooled((1, 2, n // 2) if n % 2 == 0 else (1, 1, n), 2)


def _labelled(n, n_classes=3):
    """Binary units that a label sees."""
    rng = np.random.default_rng(n)
    U, d = (torch.from_numpy(rng.normal(size=size)) for size in ((n, n_classes), n_classes))
    return Labelled(Bernoulli(), U, d)


# Units of finitely many states, n of them: (constructor, given n).
FINITE_UNITS = {
    "bernoulli": lambda n: Bernoulli(),
    "spin": lambda n: Spin(),
    "categorical": lambda n: Categorical(groups(n)),
    "mixed": lambda n: _mixed(n, lambda n: Categorical(groups(n)), lambda n: Spin()),
    "pooled": _pooled,
}

# A new model is checked by adding its row: visible and hidden units, given how many.
MODELS = {
    "bernoulli-bernoulli": (lambda n: Bernoulli(), lambda n: Bernoulli()),
    "spin-spin": (lambda n: Spin(), lambda n: Spin()),
    "categorical-bernoulli": (lambda n: Categorical(groups(n)), lambda n: Bernoulli()),
    "bernoulli-categorical": (lambda n: Bernoulli(), lambda n: Categorical(groups(n))),
    "bernoulli-pooled": (lambda n: Bernoulli(), _pooled),
    "bernoulli-labelled": (lambda n: Bernoulli(), _labelled),
    "bernoulli-gaussian": (lambda n: Bernoulli(), lambda n: Gaussian()),
    "bernoulli-rectified": (lambda n: Bernoulli(), lambda n: Rectified()),
    "bernoulli-double rectified": (
        lambda n: Bernoulli(),
        lambda n: DoubleRectified(*_slopes((n,))),
    ),
    "spin-stepped": (lambda n: Spin(), lambda n: SteppedSigmoid(2.0)),
    "continuous-bernoulli": (lambda n: ContinuousBernoulli(), lambda n: Bernoulli()),
    "poisson-bernoulli": (lambda n: Poisson(), lambda n: Bernoulli()),
    "gaussian-bernoulli": (lambda n: Gaussian(), lambda n: Bernoulli()),
    "gaussian of temperature 2-spin": (lambda n: Gaussian(2.0), lambda n: Spin()),
    "mixed-bernoulli": (
        lambda n: _mixed(n, lambda n: Gaussian(), lambda n: Categorical([n])),
        lambda n: Bernoulli(),
    ),
}


def make_model(name="bernoulli-bernoulli", n_visible=4, n_hidden=3, seed=0, scale=0.7, b0=True):
    """A model of this kind with random parameters, in float64."""
    visible, hidden = MODELS[name]
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return torch.from_numpy(rng.normal(0, scale, shape))

    return RBM(
        visible(n_visible),
        hidden(n_hidden),
        draw(n_hidden, n_visible),
        draw(n_visible),
        draw(n_hidden),
        draw(n_visible) if b0 else None,
    )


def states(n):
    """All 2^n binary rows."""
    return all_states(Bernoulli(), n)


def all_states(units, n) -> Tensor:
    """Every state of n units of finitely many states, a row each."""
    return units.states(torch.arange(int(units.n_states(n))), n, torch.empty(0).double())


def visible_states(model) -> Tensor:
    return all_states(model.visible, len(model.b))


def hidden_states(model) -> Tensor:
    return all_states(model.hidden, len(model.c))


def log_z(model, beta=1.0) -> Tensor:
    """log Z by enumerating whichever layer has finitely many states."""
    if model.visible.n_states(len(model.b)) < math.inf:
        return torch.logsumexp(-model.free_energy(visible_states(model), beta), 0)
    return torch.logsumexp(-model.hidden_free_energy(hidden_states(model), beta), 0)


def probabilities(model, beta=1.0) -> Tensor:
    """p(v) of every v."""
    return torch.softmax(-model.free_energy(visible_states(model), beta), 0)


def exact_draws(model, n, beta=1.0, seed=0) -> Tensor:
    """Rows from the law at beta, by enumerating a layer."""
    rng = np.random.default_rng(seed)
    if model.visible.n_states(len(model.b)) < math.inf:
        v, p = visible_states(model), probabilities(model, beta)
        return v[rng.choice(len(v), size=n, p=p.numpy())]
    h = hidden_states(model)
    p = torch.softmax(-model.hidden_free_energy(h, beta), 0)
    picked = h[rng.choice(len(h), size=n, p=p.numpy())]
    return model.sample_visible(picked, Noise(seed + 1000), beta)


def transition_matrix(model, beta):
    """P(v → v′) of one sweep, a row for each v."""
    v, h = visible_states(model), hidden_states(model)
    field_h = model.hidden_field(v, beta)
    field_v = model.visible_field(h, beta)
    to_hidden = h @ field_h.T - model.hidden.cumulant(field_h)  # (n_hidden_, n_visible_states)
    to_visible = v @ field_v.T - model.visible.cumulant(field_v)  # the other way round
    to_hidden += model.hidden.log_base(h)[:, None]
    to_visible += model.visible.log_base(v)[:, None]
    return (to_visible.exp() @ to_hidden.exp()).T


def mean_states(model, v, weight) -> Joint:
    """Rows with their hidden units at the mean: what −∂F/∂θ is made of."""
    return Joint(v.clone(), model.hidden.mean(model.hidden_field(v)), weight)


def update(model, gradient, v, weight, state=None, noise=None) -> Phases:
    """What one batch leaves in every `.grad`: ∂/∂θ Σ_i weight_i log p(v_i), or its estimate."""
    phases = Phases(model, len(v), gradient.n_model(model, len(v)), gradient.paired)
    phases.data.v.copy_(v)
    phases.set_weight(weight)
    gradient(model, phases, {} if state is None else state, noise or Noise(0))
    model.set_grad(phases)
    return phases


def offsets(model, seed=5):
    """Offsets of the visible and of the hidden units, at random: one for each bias."""
    rng = np.random.default_rng(seed)
    return tuple(torch.from_numpy(rng.uniform(size=len(bias))) for bias in (model.b, model.c))


def center(model, mu, lam) -> None:
    """Turn the plain gradient in every `.grad` into the centred one, as training does."""
    gW, gb, gc = (grad(p) for p in (model.W, model.b, model.c))
    model.coupling.center_(gW, gb, gc, mu, lam)
    model.coupling.compensate_(gb, gc, gW, mu, lam)


def centred_step(model, gradient, mu, lam) -> list[Tensor]:
    """The step along the gradient in the coordinates (W, b + Wᵀ λ, c + W μ), by the chain rule.

    `gradient` is the plain one, of W, b and c.
    """
    share = model.coupling.places_per_pixel

    def plain(W, b, c):  # the plain coordinates, a linear map
        sums = W.flatten(2).sum(2) if W.ndim > 2 else W
        return W, b - share * sums.T @ lam, c - sums @ mu

    centred = [torch.zeros_like(g).requires_grad_() for g in gradient]
    return list(plain(*torch.autograd.grad(plain(*centred), centred, list(gradient))))


def flat_grad(model) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters().values()])


def some_rows(model, n=5, seed=1) -> Tensor:
    """Rows that the visible units can take."""
    field = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, len(model.b))))
    return model.visible.sample(field, Noise(seed))


def exact_log_z(estimator) -> float:
    """log Z of a fitted estimator with few Bernoulli hidden units, written out in numpy.

    Of real-valued features, that of the standardised ones.
    """
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
