"""Units that a user defines: a Poisson layer, of which the package knows nothing."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import gammaln

from skebm import Exact, log_likelihood, log_partition
from skebm._shared import estimator
from skebm.chains import BaseRBM
from skebm.engine.noise import Noise
from skebm.engine.units import Bernoulli, Units


class Poisson(Units):
    """x ∈ {0, 1, 2, …}:  log_base −log x!, cumulant e^f, mean e^f."""

    support = (0.0, np.inf)

    def mean(self, field, out=None):
        return torch.exp(field, out=out)

    def sample(self, field, noise, out=None):
        out = torch.empty_like(field) if out is None else out
        return out.copy_(torch.poisson(field.exp(), generator=noise.generator))

    def cumulant(self, field):
        return field.exp().sum(-1)

    def log_base(self, x):
        return -torch.lgamma(x + 1).sum(-1)


@estimator
class PoissonRBM(BaseRBM):
    """Counts."""

    learning_rate: float = 0.02

    def _units(self):
        return Poisson(), Bernoulli()


def counts(n=600):
    rng = np.random.default_rng(0)
    rate = np.where(rng.uniform(size=(n, 1)) < 0.4, [8.0, 1.0, 4.0], [1.0, 6.0, 4.0])
    return rng.poisson(rate).astype(float)


@pytest.mark.parametrize("gradient", ["cd", "pcd", "pt", Exact()], ids=str)
def test_it_trains_by_every_gradient_and_samples(gradient):
    X = counts()
    rbm = PoissonRBM(3, gradient=gradient, n_iter=60, random_state=0).fit(X)
    drawn = rbm.sample(2000, 200, random_state=0)
    assert (drawn == drawn.round()).all()
    assert_allclose(drawn.mean(0), X.mean(0), rtol=0.35)
    # Either the first or the second count is large.
    assert np.corrcoef(drawn.T)[0, 1] < -0.4
    assert rbm.transform(X).std(0).max() > 0.3


def test_its_likelihood_is_exact_and_estimated():
    X = counts()
    rbm = PoissonRBM(3, gradient=Exact(), n_iter=40, random_state=0).fit(X)
    exact = log_partition(rbm)
    assert exact.method == "exact"
    ais = log_partition(rbm, method="ais", random_state=0)
    assert abs(ais.value - exact.value) < 4 * ais.stderr
    # Far more likely than one Poisson law for each column.
    rate = X.mean(0)
    independent = (X * np.log(rate) - rate - gammaln(X + 1)).sum(1)
    assert log_likelihood(rbm, X, log_z=exact).mean() > independent.mean() + 1
    assert_allclose(rbm.score(X), log_likelihood(rbm, X, log_z=exact).mean())


def test_missing_counts_are_filled_in():
    X = counts()
    rbm = PoissonRBM(3, n_iter=60, random_state=0).fit(X)
    holes = X.copy()
    holes[:, 0] = np.nan
    filled = rbm.impute(holes, random_state=0)
    assert np.square(filled - X)[:, 0].mean() < 0.75 * X[:, 0].var()


def test_natural_is_found_numerically():
    mean = torch.tensor([0.01, 1.0, 30.0]).double()
    assert_allclose(Poisson().natural(mean), mean.log(), rtol=1e-9, atol=1e-12)
    assert Poisson().sample(torch.zeros(5, 2), Noise(0)).shape == (5, 2)
