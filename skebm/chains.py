"""What Markov chains of a fitted model give: samples, conditional samples, missing values.

h ~ p(h | v),  v ~ p(v | h):  one sweep, which leaves p(v, h) as it is
"""

import copy
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from skebm._shared import estimator
from skebm._sklearn import Interval, StrOptions, check_sample_weight, validate_params
from skebm.base import BaseEBM
from skebm.engine import devices
from skebm.engine.batches import to_device
from skebm.engine.noise import Noise
from skebm.engine.partition import spread_betas
from skebm.engine.sampling import conditional_mean, mean_field, run, tempered_sweep
from skebm.evaluation import log_likelihood, log_partition, pseudo_likelihood

_SAMPLING = {
    "n_steps": [Interval(Integral, 0, None, closed="left")],
    "method": [StrOptions({"gibbs", "pt"})],
    "init": ["array-like", "sparse matrix", None],
    "temperature": [Interval(Real, 0, None, closed="neither"), None],
    "random_state": ["random_state"],
}


@dataclass(frozen=True, eq=False)
class Chains:
    """Markov chains, as `sample_chains` returns them.

    Attributes
    ----------
    draws : ndarray of shape (n_chains, n_steps, n_features)
        The visible units after every sweep.
    betas : ndarray of shape (n_levels,) or None
        The levels of parallel tempering, from 1 to 0.
    swap_rates : ndarray of shape (n_levels - 1,) or None
        The share of proposed exchanges between neighbouring levels that were accepted.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, r_hat
    >>> rbm = BernoulliRBM(16, n_iter=2, random_state=0).fit(load_digits().data > 7)
    >>> chains = rbm.sample_chains(4, n_steps=200, method="pt", random_state=0)
    >>> chains.draws.shape
    (4, 200, 64)
    >>> bool(chains.swap_rates.min() > 0.2)
    True
    """

    draws: np.ndarray
    betas: np.ndarray | None
    swap_rates: np.ndarray | None


@estimator
class BaseRBM(BaseEBM):
    """What models of units in layers can do besides: sampling, filling in values, scoring."""

    @validate_params(
        {
            "X": "no_validation",
            "n_steps": _SAMPLING["n_steps"],
            "clamped": ["array-like", None],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def gibbs(self, X, n_steps=1, *, clamped=None, random_state=None):
        """Sweeps of Gibbs sampling that start at the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        n_steps : int, default=1
            Number of sweeps (hidden units given visible ones, then visible given hidden).
        clamped : array-like of bool, of shape (n_features,) or (n_samples, n_features), \
                default=None
            Features that keep their values. The others then follow, as `n_steps` grows, the law
            of the model given these: a conditional sample.
        random_state : int, RandomState instance or None, default=None
            None goes on with the stream of the fit: another call gives other samples.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            The visible units after the last sweep.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        noise = self._noise(random_state)
        if clamped is not None:
            clamped = self._flat(
                check_array(
                    clamped, dtype=bool, ensure_2d=False, allow_nd=True, input_name="clamped"
                )
            )
            shape = (X.shape[0], self.n_features_in_)
            if clamped.shape not in (shape, shape[1:]):
                raise ValueError(
                    f"clamped has the shape {clamped.shape}; it must be that of X, {shape}, or "
                    f"that of a row, {shape[1:]}."
                )
            clamped = np.broadcast_to(clamped[..., self._column_of_unit()], X.shape)
        return self._present(self._sweep(X, noise, n_steps, clamped))

    def _sweep(self, X, noise, n_steps, clamped=None):
        rows = self._apply_validated(
            lambda model, v, mask=None: self._outward(
                model, run(model, v, noise, n_steps=n_steps, clamped=mask)
            ),
            X,
            beside=clamped,
        )
        if clamped is not None:  # to the last bit
            np.copyto(rows, X.toarray() if issparse(X) else X, where=clamped)
        return rows

    @validate_params(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            **_SAMPLING,
        },
        prefer_skip_nested_validation=True,
    )
    def sample(
        self,
        n_samples=1,
        n_steps=1000,
        *,
        method="gibbs",
        init=None,
        temperature=None,
        random_state=None,
    ):
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows: the ends of as many independent chains.
        n_steps : int, default=1000
            Sweeps in each chain.
        method : {"gibbs", "pt"}, default="gibbs"
            "pt" is parallel tempering: each chain exchanges its state with chains at other
            levels, one nat apart, down to independent units, where chains move freely between
            modes. A sweep takes as many times longer as there are levels.
        init : array-like of shape (n_samples, n_features), default=None
            Where the chains start. None draws features that are independent of each other,
            with the means of the training data.
        temperature : float, default=None
            Sample from p ∝ exp(−E/temperature); None takes the temperature of the model.
        random_state : int, RandomState instance or None, default=None
            None goes on with the stream of the fit: another call gives other samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Approximate samples: exact as `n_steps` grows.
        """
        with torch.inference_mode():
            model, _, v, sweeps = self._chains(
                n_samples, n_steps, method, init, temperature, random_state
            )
            for v, _ in sweeps:  # noqa: B007
                pass
            rows = self._outward(model, v).cpu().numpy()
        return self._present(rows)

    @validate_params(
        {
            "n_chains": [Interval(Integral, 1, None, closed="left")],
            **_SAMPLING,
        },
        prefer_skip_nested_validation=True,
    )
    def sample_chains(
        self,
        n_chains=4,
        n_steps=1000,
        *,
        method="gibbs",
        init=None,
        temperature=None,
        random_state=None,
    ):
        """Run Markov chains and keep all of their states, for diagnostics.

        Parameters
        ----------
        n_chains : int, default=4
        n_steps, method, init, temperature, random_state
            As in :meth:`sample`.

        Returns
        -------
        chains : Chains
            `draws` of shape (n_chains, n_steps, n_features), and the swap rates of "pt".
        """
        with torch.inference_mode():
            model, betas, v, sweeps = self._chains(
                n_chains, n_steps, method, init, temperature, random_state
            )
            draws = np.empty((n_chains, n_steps, v.shape[1]), dtype=self.components_.dtype)
            swapped = torch.zeros(0) if betas is None else torch.zeros_like(betas[1:])
            for step, (v, accepted) in enumerate(sweeps):
                draws[:, step] = self._outward(model, v).cpu().numpy()
                swapped += accepted / n_steps
        if betas is None:
            return Chains(draws, None, None)
        return Chains(draws, betas.cpu().numpy(), swapped.cpu().numpy())

    @validate_params(
        {
            "X": ["array-like"],
            "n_steps": [Interval(Integral, 1, None, closed="left")],
            "method": [StrOptions({"mean", "sample", "mean_field"})],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def impute(self, X, n_steps=100, *, method="mean", random_state=None):
        """Fill in missing values, given the observed ones of the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where a value is missing.
        n_steps : int, default=100
            Sweeps of Gibbs sampling with the observed features clamped.
        method : {"mean", "sample", "mean_field"}, default="mean"
            "mean": E[v_missing | v_observed], averaged over the second half of the sweeps.
            "sample": the missing values after the last sweep, a draw from
            p(v_missing | v_observed); a row without any value becomes a sample of the model.
            "mean_field": means given means, `n_steps` times; deterministic but for the start.
        random_state : int, RandomState instance or None, default=None
            None goes on with the stream of the fit.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features)
            In the type of `components_`; observed values as they were.
        """
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False, allow_nan=True)
        filled = self._fill(X, self._noise(random_state), n_steps=n_steps, method=method)
        return self._present(filled)

    def _fill(self, X, noise, *, n_steps, method):
        def fill(model, v):
            observed = ~v.isnan()
            v = torch.where(observed, v, model.start(len(v), noise))
            if method == "sample":
                v = run(model, v, noise, n_steps=n_steps, clamped=observed)
            elif method == "mean_field":
                v = mean_field(model, v, n_steps=n_steps, clamped=observed)
            else:
                v = conditional_mean(model, v, noise, n_steps=n_steps, clamped=observed)
            return self._outward(model, v)

        filled = self._apply_validated(fill, X)
        return np.where(np.isnan(X), filled, X)

    def score_samples(self, X):
        """How likely each row is, in nats.

        Of binary and categorical features this is the pseudo-log-likelihood, exactly:
        Σ_i log p(v_i | the other features of v). Where a binary feature is grey, the other
        state is 1 − v_i. :class:`sklearn.neural_network.BernoulliRBM` estimates the same from
        one random flip.

        Where features are real-valued it is the log-likelihood (a density),
        log p(v) = −F(v) / T − log Z. The first call after a fit computes log Z and keeps it:
        exactly for up to 18 binary hidden units, else by annealed importance sampling with a
        fixed seed (:func:`skebm.log_partition`, which also tells the error).

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,)
            The pseudo-log-likelihood takes the time of n_samples · n_features · n_components
            softplus functions.

        References
        ----------
        J. Besag (1975). Statistical analysis of non-lattice data. The Statistician 24.
        """
        check_is_fitted(self)
        if self._units()[0].is_discrete:
            return pseudo_likelihood(self, X)
        return log_likelihood(self, X, log_z=self._log_partition())

    def _log_partition(self):
        """log Z, computed in the first call after a fit and kept."""
        known = getattr(self, "_log_z", {})  # by temperature
        if self.temperature not in known:
            known[self.temperature] = log_partition(self, random_state=0).value
            self._log_z = known
        return known[self.temperature]

    def _column_of_unit(self):
        """The column of X that each visible unit belongs to: (n_visible,)."""
        return np.arange(self.n_features_in_)

    def score(self, X, y=None, sample_weight=None):
        """Mean of :meth:`score_samples`, for model selection.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        score : float
        """
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X, ensure_non_negative=True)
        return float(np.average(scores, weights=sample_weight))

    def _chains(self, n_chains, n_steps, method, init, temperature, random_state):
        """The model, the levels of "pt", where chains start, and an iterator over sweeps."""
        check_is_fitted(self)
        noise = self._noise(random_state)
        estimator = copy.copy(self)
        if temperature is not None:
            estimator.temperature = temperature
        model = estimator._model(noise.device)
        if init is None:
            v = model.start(n_chains, noise)  # (n_chains, n_features)
        else:
            rows = self._validate_rows(init, reset=False)
            if rows.shape[0] != n_chains:
                raise ValueError(f"init has {rows.shape[0]} rows for {n_chains} chains.")
            v = self._inward(model, to_device(rows, noise.device, self.components_.dtype))
        if method == "gibbs":
            return model, None, v, _gibbs_sweeps(model, v, noise, n_steps)
        betas = spread_betas(model, noise, None, n_chains=50).flip(0).to(model.W)
        return model, betas, v, _tempered_sweeps(model, v, betas, noise, n_steps)

    def _noise(self, random_state):
        rng = self.random_state_ if random_state is None else check_random_state(random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        return Noise(seed, devices.resolve(self.device, fall_back=True))


def _gibbs_sweeps(model, v, noise, n_steps):
    for _ in range(n_steps):
        v = model.transition(v, noise)
        yield v, torch.zeros(0)


def _tempered_sweeps(model, v, betas, noise, n_steps):
    column = betas.repeat_interleave(len(v))[:, None]  # (n_levels · n_chains, 1)
    chains = model.sample_hidden(v.repeat(len(betas), 1), noise, column)
    for _ in range(n_steps):
        v, _, accepted = tempered_sweep(model, chains, betas, noise)
        yield v, accepted
