"""Units that a user defines, of which the package knows nothing: with a parameter of their own."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skebm import Exact
from skebm._shared import estimator
from skebm.base import BaseRBM
from skebm.engine.models import RBM
from skebm.engine.units import Bernoulli, Units
from tests.conftest import log_z, some_rows, update


class PreciseGaussian(Units):
    """x ∈ ℝ of precision τ = e^r, which is learned: p(x | f) ∝ exp(x f − τ x²/2).

    log_base −τ x²/2, mean f/τ, cumulant f²/2τ + log(2π/τ)/2
    """

    def __init__(self, log_precisions):
        self.log_precisions = log_precisions

    def parameters(self):
        return {"log_precisions": self.log_precisions}

    def confine_(self):
        self.log_precisions.clamp_(-3, 3)

    def mean(self, field, out=None):
        return torch.mul(field, (-self.log_precisions).exp(), out=out)

    def sample(self, field, noise, out=None):
        spread = (-self.log_precisions / 2).exp()
        return self.mean(field, out).add_(spread * noise.normal(field))

    def cumulant(self, field):
        r = self.log_precisions
        return ((field.square() * (-r).exp() + np.log(2 * np.pi) - r) / 2).sum(-1)

    def log_base(self, x):
        return -(x.square() * self.log_precisions.exp()).sum(-1) / 2

    def log_base_grad(self, x, weight):
        return {"log_precisions": -self.log_precisions.exp() / 2 * (weight @ x.square())}

    def cumulant_grad(self, field, weight):
        square = field.square() * (-self.log_precisions).exp()
        return {"log_precisions": -(weight @ (square + 1)) / 2}


@estimator
class PreciseGaussianRBM(BaseRBM):
    """Real numbers, whose variances are learned within the energy."""

    learning_rate: float = 0.02

    def _units(self):
        return PreciseGaussian(torch.zeros(self.n_features_in_)), Bernoulli()


@pytest.mark.parametrize("layer", ["visible", "hidden"])
def test_parameters_of_units_follow_the_gradient_of_the_likelihood(layer):
    rng = np.random.default_rng(0)
    W, b, c, r = (torch.from_numpy(rng.normal(0, 0.5, size)) for size in ((3, 2), 2, 3, 3))
    units = PreciseGaussian(r[:2] if layer == "visible" else r)
    layers = (units, Bernoulli()) if layer == "visible" else (Bernoulli(), units)
    model = RBM(*layers, W, b, c)
    v, weight = some_rows(model), torch.linspace(0, 2, 5).double()
    for parameter in model.parameters().values():
        parameter.requires_grad_(True)
    total = -(weight * (model.free_energy(v) + log_z(model))).sum()
    expected = torch.autograd.grad(total, list(model.parameters().values()))
    for parameter in model.parameters().values():
        parameter.requires_grad_(False)
    update(model, Exact(), v, weight)
    for (name, parameter), gradient in zip(model.parameters().items(), expected):
        assert_allclose(parameter.grad, gradient, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("gradient", ["cd", "pcd", Exact()], ids=str)
def test_their_parameters_are_fitted_attributes_that_are_learned(gradient):
    rng = np.random.default_rng(0)
    h = rng.uniform(size=(4000, 1)) < 0.5
    X = np.where(h, 1.5, -1.5) + rng.normal(size=(4000, 3)) * [0.5, 0.7, 1.0]
    rbm = PreciseGaussianRBM(
        1,
        gradient=gradient,
        learning_rate=0.2,
        learning_rate_schedule="linear",
        batch_size=50,
        n_iter=40,
        random_state=0,
    ).fit(X)
    assert_allclose(np.exp(-rbm.log_precisions_ / 2), [0.5, 0.7, 1.0], rtol=0.1)
    if isinstance(gradient, Exact):
        drawn = rbm.sample(4000, 50, method="pt", random_state=0)
        assert_allclose(drawn.std(0), X.std(0), rtol=0.1)


def test_training_of_their_parameters_goes_on_with_the_same_bits():
    X = np.random.default_rng(0).normal(size=(60, 3))
    settings = {"n_components": 2, "temperature": 2.0, "optimizer": "adam", "random_state": 0}
    whole = PreciseGaussianRBM(n_iter=4, **settings).fit(X)
    parts = PreciseGaussianRBM(**settings)
    for _ in range(4):
        parts = copy.deepcopy(parts.partial_fit(X))
    assert np.ptp(whole.log_precisions_) > 1e-3
    for name in ("components_", "intercept_visible_", "log_precisions_"):
        assert_array_equal(getattr(parts, name), getattr(whole, name))
