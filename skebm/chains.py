"""Markov chains of a fitted model: samples, conditional samples, missing values.

h ~ p(h | v),  v ~ p(v | h):  one sweep, which leaves p(v, h) as it is
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from skebm._shared import (
    ArrayLike,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    Unvalidated,
    validated,
)
from skebm.encoding import Encoding
from skebm.engine import devices
from skebm.engine.batches import to_device
from skebm.engine.ladder import ladder_sweeps
from skebm.engine.noise import Noise, seed_of
from skebm.engine.partition import spread_betas
from skebm.engine.sampling import gibbs_sweeps, run, tempered_sweeps
from skebm.fitted import FittedModel
from skebm.tensors import returns_like_x

ChainMethod = Literal["gibbs", "pt", "ptt"]
Start = Annotated[object, "array-like", "sparse matrix", None]


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
        The share of proposed exchanges between neighbouring levels that were accepted; for
        trajectory tempering, the probabilities of acceptance from the reference model to the model.

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


class ChainsMixin:
    """The methods of an RBM that run Markov chains."""

    encoding_: Encoding
    n_features_in_: int
    random_state_: np.random.RandomState
    temperature: float
    device: str

    @returns_like_x
    @validated
    def gibbs(
        self,
        X: Unvalidated,
        n_steps: NonNegativeInt = 1,
        *,
        clamped: ArrayLike | None = None,
        random_state: Seed = None,
    ) -> Any:
        """Sweeps of Gibbs sampling that start at the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        n_steps : int, default=1
            Number of sweeps (hidden units given visible ones, then visible given hidden).
        clamped : array-like of bool, of shape (n_features,) or (n_samples, n_features), \
                default=None
            Features that keep their values. As `n_steps` grows, the other features become a
            sample from the model given the clamped ones.
        random_state : int, RandomState instance or None, default=None
            None continues the random stream of the fit: each call gives new samples.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            The visible units after the last sweep.
        """
        fitted = FittedModel(self)
        rows, noise = fitted.read(X), self._noise(random_state)
        mask = None if clamped is None else self._mask(clamped, rows.shape)

        def sweep(model, v, mask=None):
            v = run(model, model.complete(v), noise, n_steps=n_steps, clamped=mask)
            return fitted.rows(model, v)

        result = fitted.apply_to_rows(sweep, rows, mask=mask)
        if mask is not None and isinstance(rows, torch.Tensor):
            result = torch.where(torch.tensor(mask, device=rows.device), rows.to(result), result)
        elif mask is not None:  # to the last bit
            np.copyto(result, rows.toarray() if issparse(rows) else rows, where=mask)
        return fitted.present(result, X)

    def _mask(self, clamped, shape):
        """A mask of the clamped units, given a mask in the shape of X or of a row of X."""
        clamped = self.encoding_.flatten(
            check_array(clamped, dtype=bool, ensure_2d=False, allow_nd=True, input_name="clamped")
        )
        expected = (shape[0], self.n_features_in_)
        if clamped.shape not in (expected, expected[1:]):
            raise ValueError(
                f"clamped has the shape {clamped.shape}; it must be that of X, {expected}, or "
                f"that of a row, {expected[1:]}."
            )
        columns = self.encoding_.column_of_unit(shape[1])
        return np.broadcast_to(clamped[..., columns], shape)

    @validated
    def sample(
        self,
        n_samples: PositiveInt = 1,
        n_steps: NonNegativeInt = 1000,
        *,
        method: ChainMethod = "gibbs",
        init: Start = None,
        temperature: PositiveFloat | None = None,
        marginal: bool = False,
        conditions: Unvalidated = None,
        random_state: Seed = None,
    ) -> Any:
        """Draw rows from the model, or from its distribution given some of the entries.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows: the ends of as many independent chains.
        n_steps : int, default=1000
            Sweeps in each chain.
        %(sampling)s
        conditions : array-like, dict or None, default=None
            Entries that all sweeps keep: a row, or `n_samples` rows, with NaN where an entry is
            free. For a table also a data frame with some of its columns, or a dict from names (or
            numbers) of columns to values. Chains start at the means of the free units.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Approximate samples: exact as `n_steps` grows.

        Raises
        ------
        ValueError
            If `conditions` is passed with `method`, `init`, `temperature` or `marginal`, or if
            its columns or its number of rows are not those of the model.

        %(sampling_references)s
        """
        if conditions is not None:
            if (method, init, temperature, marginal) != ("gibbs", None, None, False):
                raise ValueError(
                    "conditions is for Gibbs sampling at the temperature of the model; leave "
                    "method, init, temperature and marginal at their defaults."
                )
            check_is_fitted(self)
            X = self.encoding_.with_conditions(conditions, n_samples, self.n_features_in_)
            return self.impute(X, max(1, n_steps), method="sample", random_state=random_state)
        with FittedModel(self).computing(n_samples):
            model, _, v, sweeps = self._chains(
                n_samples, n_steps, method, init, temperature, marginal, random_state
            )
            total: Any = 0.0
            for v, accepted in sweeps:  # noqa: B007
                total = total + accepted  # on the device
            fitted = FittedModel(self)
            if method == "ptt" and n_steps:
                fitted.check_ladder((total / n_steps).cpu().numpy())
            return fitted.present(fitted.rows(model, v).cpu().numpy())

    @validated
    def sample_chains(
        self,
        n_chains: PositiveInt = 4,
        n_steps: NonNegativeInt = 1000,
        *,
        method: ChainMethod = "gibbs",
        init: Start = None,
        temperature: PositiveFloat | None = None,
        marginal: bool = False,
        random_state: Seed = None,
    ) -> Chains:
        """Run Markov chains and keep all of their states, for diagnostics.

        Parameters
        ----------
        n_chains : int, default=4
        n_steps : int, default=1000
            Sweeps in each chain.
        %(sampling)s

        Returns
        -------
        chains : Chains
            `draws` of shape (n_chains, n_steps, n_features), and the swap rates of "pt" or "ptt".

        %(sampling_references)s
        """
        with FittedModel(self).computing(n_chains):
            model, betas, v, sweeps = self._chains(
                n_chains, n_steps, method, init, temperature, marginal, random_state
            )
            fitted = FittedModel(self)
            n_units = fitted.rows(model, v).shape[1]
            draws = np.empty((n_chains, n_steps, n_units), dtype=fitted.dtype)
            swapped = torch.zeros(()) if betas is None else torch.zeros_like(betas[1:])
            for step, (v, accepted) in enumerate(sweeps):
                draws[:, step] = fitted.rows(model, v).cpu().numpy()
                swapped = swapped + accepted / n_steps
        if method == "gibbs":
            return Chains(draws, None, None)
        swap_rates = swapped.cpu().numpy()
        if method == "ptt" and n_steps:
            fitted.check_ladder(swap_rates)
        return Chains(draws, None if betas is None else betas.cpu().numpy(), swap_rates)

    @returns_like_x
    @validated
    def impute(
        self,
        X: ArrayLike,
        n_steps: PositiveInt = 100,
        *,
        method: Literal["mean", "sample", "mean_field", "reconstruction"] = "mean",
        random_state: Seed = None,
    ) -> Any:
        """Fill in missing values, given the observed ones of the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where a value is missing.
        n_steps : int, default=100
            Sweeps of Gibbs sampling with the observed features clamped.
        method : {"mean", "sample", "mean_field", "reconstruction"}, default="mean"
            "mean": E[v_missing | v_observed], averaged over the second half of the sweeps.
            "sample": the missing values after the last sweep, a draw from
            p(v_missing | v_observed); a row without any value becomes a sample of the model.
            "mean_field": `n_steps` mean-field updates; only the start is random.
            "reconstruction": two mean-field updates that start at the means of the features.
        random_state : int, RandomState instance or None, default=None
            None continues the random stream of the fit.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features)
            In the type of `components_`; observed values as they were.
        """
        fitted = FittedModel(self)
        rows = fitted.read(X, allow_nan=True)
        noise = self._noise(random_state)
        filled = fitted.fill(rows, noise, n_steps=n_steps, method=method)
        return fitted.present(filled, X, keep=True)

    def _chains(self, n_chains, n_steps, method, init, temperature, marginal, random_state):
        """The model, the levels of "pt", where chains start, and an iterator over sweeps."""
        check_is_fitted(self)
        noise = self._noise(random_state)
        estimator = copy.copy(self)
        if temperature is not None and not marginal:
            estimator.temperature = temperature
        fitted = FittedModel(estimator)
        model = fitted.rbm(noise.device)
        if marginal:
            model = self._sharpened(model, temperature, method)
        if init is None:
            v = model.start(n_chains, noise)  # (n_chains, n_visible)
        else:
            rows = fitted.read(init)
            if rows.shape[0] != n_chains:
                raise ValueError(f"init has {rows.shape[0]} rows for {n_chains} chains.")
            rows = to_device(rows, noise.device, fitted.dtype)
            v = model.complete(fitted.visible_units(model, rows))
        if method == "gibbs":
            return model, None, v, gibbs_sweeps(model, v, noise, n_steps)
        if method == "ptt":
            return model, None, v, ladder_sweeps(fitted.ladder(model), v, noise, n_steps)
        betas = spread_betas(model, noise, None, n_chains=50).flip(0).to(model.W)
        return model, betas, v, tempered_sweeps(model, v, betas, noise, n_steps)

    def _sharpened(self, model, temperature, method):
        """The model of p(v)^n, where n is the temperature of the model over `temperature`."""
        name = type(self).__name__
        ratio = self.temperature / (self.temperature if temperature is None else temperature)
        n = round(ratio)
        if n < 1 or abs(ratio - n) > 1e-6:
            raise ValueError(
                f"temperature={temperature} with marginal=True needs a model whose temperature is "
                f"an integer multiple of it; that of this {name} is {self.temperature}."
            )
        if method == "ptt":
            raise ValueError('method="ptt" has no marginal temperatures; use "gibbs" or "pt".')
        if not model.can_be_powered:
            raise ValueError(
                "marginal=True is for models of binary rows or of categories without labels, with "
                f"units in layers, such as BernoulliRBM; got {name}."
            )
        return model.exact().power(n)

    def _noise(self, random_state):
        rng = self.random_state_ if random_state is None else check_random_state(random_state)
        return Noise(seed_of(rng), devices.resolve(self.device, fall_back=True))
