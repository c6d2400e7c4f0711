"""How likely a row is: log Z with an error bar, log-likelihoods, pseudo-log-likelihoods.

    log p(v) = −F(v) − log Z,        pseudo: Σ_i log p(v_i | the other features of v)

Functions over fitted estimators, in nats.
"""

import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Literal

import joblib
import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skebm._shared import ArrayLike, PositiveInt, Seed, Unvalidated, validated
from skebm._sklearn import Interval
from skebm.engine import partition
from skebm.engine.batches import to_device
from skebm.engine.ladder import log_partition_ladder
from skebm.engine.noise import Noise, seed_of
from skebm.engine.sampling import run
from skebm.fitted import FittedModel
from skebm.fitting import level_of_caller

#: Units up to which method="auto" enumerates the smaller layer.
EXACT_UNITS = 18
#: Effective sample sizes below which an estimate is not to be trusted.
SMALL_SAMPLE = 10


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z, as :func:`log_partition` returns it.

    Attributes
    ----------
    value : float
        log Z, in nats.
    stderr : float
        Standard error of `value`; 0 if exact.
    ess : float
        Effective sample size of the importance weights, (Σ w)² / Σ w², at most the number of
        chains; infinite if exact.
    lower, upper : float
        Bounds: of a confidence interval of 95 % for "ais", of log Z in expectation for
        "bracket"; both `value` if exact.
    method : {"exact", "ais", "bracket", "ptt"}

    Examples
    --------
    >>> from skebm import LogPartition
    >>> print(LogPartition(451.28, 0.05, 63.0, 451.18, 451.38, "ais"))
    log Z = 451.28 ± 0.05 nats (ais: 451.18 to 451.38, effective sample size 63)
    """

    value: float
    stderr: float
    ess: float
    lower: float
    upper: float
    method: str

    def __str__(self):
        if self.method == "exact":
            return f"log Z = {self.value:.2f} nats (exact)"
        return (
            f"log Z = {self.value:.2f} ± {self.stderr:.2f} nats ({self.method}: "
            f"{self.lower:.2f} to {self.upper:.2f}, effective sample size {self.ess:.0f})"
        )


@validated
def log_partition(
    estimator: Unvalidated,
    *,
    method: Literal["auto", "exact", "ais", "bracket", "ptt"] = "auto",
    betas: Annotated[int, Interval(Integral, 2, None, closed="left")] | ArrayLike = 1000,
    n_chains: Annotated[int, Interval(Integral, 2, None, closed="left")] = 100,
    samples: ArrayLike | None = None,
    random_state: Seed = None,
) -> LogPartition:
    """Logarithm of the partition function, log Z = log Σ_{v,h} exp(−E(v, h) / T), in nats.

    Parameters
    ----------
    estimator : fitted estimator
        Of this package, with units in layers.
    method : {"auto", "exact", "ais", "bracket", "ptt"}, default="auto"
        "exact" sums over the states of the smaller layer: 2^n_units free energies, for up to
        26 binary units. "ais" is annealed importance sampling [1]_ [2]_: chains pass from
        independent units with the means of the training data (beta = 0) to the model
        (beta = 1). The mean of their weights is Z; the mean log-weight is below log Z.
        "bracket" also anneals samples of the model back to beta = 0, which gives an upper
        bound [3]_. "ptt" takes the models that a fit with :class:`PTT` has passed, and Bennett's
        acceptance ratio of neighbours [4]_. "auto" is "exact" for up to 18 binary units, else
        "ais".
    betas : int or array-like of shape (n_betas,), default=1000
        The number of levels, which are then placed so that the weights vary equally between
        neighbours, or the levels themselves, in rising order from 0 to 1.
    n_chains : int, default=100
        Number of chains.
    samples : array-like of shape (n_samples, n_features) or None, default=None
        For "bracket": samples of the model to anneal back, as exact as possible. None uses
        the ends of the forward chains, drawn again by their weights, after 100 Gibbs sweeps.
    random_state : int, RandomState instance or None, default=None
        Seeds the chains.

    Returns
    -------
    log_z : LogPartition
        value, stderr, ess (effective sample size), lower, upper and method. For "ais", the value
        is the log of the mean weight, stderr is the relative standard error of this mean, and the
        bounds are 1.96 standard errors away. For "ptt", stderr is that of the jackknife over
        groups of chains, and ess is the number of chains. For "bracket", `lower` comes from the
        forward and `upper` from the backward chains, and ess is the smaller of the two.

    Raises
    ------
    ValueError
        Where an argument is invalid, no layer can be enumerated, or the estimator is not a model
        with units in layers.

    Warns
    -----
    ConvergenceWarning
        Where the effective sample size is below 10: the estimate is then likely to be too low,
        by more than its standard error says. For "ptt", where states of two neighbouring rungs are
        exchanged with a probability below 0.05.

    Notes
    -----
    The cost of "ais" is n_betas Gibbs sweeps of n_chains chains. "ptt" makes 150 sweeps of
    n_chains chains on every rung, of which the first 50 are not used.

    References
    ----------
    .. [1] R. M. Neal (2001). Annealed importance sampling. Statistics and Computing 11.
    .. [2] R. Salakhutdinov, I. Murray (2008). On the quantitative analysis of deep belief
       networks. ICML.
    .. [3] Y. Burda, R. Grosse, R. Salakhutdinov (2015). Accurate and conservative estimates of
       MRF log-likelihood using reverse annealing. AISTATS.
    .. [4] C. H. Bennett (1976). Efficient estimation of free energy differences from Monte Carlo
       data. Journal of Computational Physics 22.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, log_partition
    >>> X = load_digits().data > 7
    >>> rbm = BernoulliRBM(12, n_iter=5, random_state=0).fit(X)
    >>> exact = log_partition(rbm)
    >>> estimate = log_partition(rbm, method="ais", random_state=0)
    >>> abs(estimate.value - exact.value) < 4 * estimate.stderr
    True
    """
    fitted = FittedModel(estimator)
    device = fitted.device
    with fitted.computing(n_chains):
        model = fitted.exact_rbm()
        if method == "auto":
            _, units, n_units = partition.smaller_layer(model)
            method = "exact" if units.n_states(n_units) <= 2.0**EXACT_UNITS else "ais"
        if method == "exact":
            model = fitted.exact_rbm(dtype=torch.float64)
            value = partition.log_partition_exact(model).item()
            return LogPartition(value, 0.0, np.inf, value, value, method)
        noise = Noise(seed_of(check_random_state(random_state)), device)
        if method == "ptt":
            models = fitted.ladder(model)
            states = [model.start(n_chains, noise) for _ in range(len(models) + 1)]
            value, stderr, accepted = log_partition_ladder(models, states, noise)
            fitted.check_ladder(accepted)
            lower, upper = value - 1.96 * stderr, value + 1.96 * stderr
            return LogPartition(value, stderr, n_chains, lower, upper, method)
        betas = _levels(betas, model, noise)
        log_weights, v = partition.log_weights_up(model, noise, betas, n_chains)
        value, stderr, ess = _mean(log_weights.cpu().numpy())
        lower, upper = value - 1.96 * stderr, value + 1.96 * stderr
        if method == "bracket":
            if samples is None:
                draws = _resampled(model, v, log_weights, noise)
            else:
                rows = to_device(fitted.read(samples), device, fitted.dtype)
                draws = fitted.visible_units(model, rows)
                if model.n_rows < model.n_visible:  # latent layers are drawn given the rows
                    observed, v = ~draws.isnan(), model.complete(draws)
                    draws = run(model, v, noise, n_steps=100, clamped=observed)
            down = partition.log_weights_down(model, draws, noise, betas)
            back, back_stderr, back_ess = _mean(down.cpu().numpy())
            upper, ess = -back + 1.96 * back_stderr, min(ess, back_ess)
    if ess < SMALL_SAMPLE:
        warnings.warn(
            f"The effective sample size is {ess:.1f}: log Z is likely to be underestimated. Pass "
            "larger betas or n_chains to `skebm.log_partition`, and its result to "
            "`skebm.log_likelihood`.",
            ConvergenceWarning,
            stacklevel=level_of_caller(),
        )
    return LogPartition(value, stderr, ess, lower, upper, method)


@validated
def log_likelihood(
    estimator: Unvalidated,
    X: Unvalidated,
    *,
    log_z: LogPartition | float | None = None,
    n_draws: PositiveInt = 100,
    random_state: Seed = None,
) -> np.ndarray:
    """Log-likelihood of each row, log p(v) = −F(v) / T − log Z, in nats.

    Of a :class:`DBM`, −F(v) / T is estimated by importance sampling: the logarithm of the mean of
    exp(−F(v, x) / T) / q(x) over draws x of the even hidden layers from the mean-field
    distribution q, where F sums out the odd layers. On average over draws, the estimate of log p(v)
    is between the variational bound and log p(v), and rises to it with the number of draws.

    Parameters
    ----------
    estimator : fitted estimator
    X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
    log_z : LogPartition, float or None, default=None
        log Z of the estimator, where it is known; None calls :func:`log_partition`.
    n_draws : int, default=100
        Draws of q for each row, only of a DBM. Their seed is fixed, and the same for every row.
    random_state : int, RandomState instance or None, default=None
        For :func:`log_partition`.

    Returns
    -------
    log_p : ndarray of shape (n_samples,)
        In double precision. Real-valued rows have densities.

    Raises
    ------
    ValueError
        Where the estimator is not a model with units in layers, or X is invalid.

    Notes
    -----
    The cost is one matrix product, X W, and that of log Z. Memory is bounded for any
    number of rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, log_likelihood, log_partition
    >>> X = load_digits().data > 7
    >>> rbm = BernoulliRBM(12, n_iter=5, random_state=0).fit(X[:1000])
    >>> log_z = log_partition(rbm)
    >>> bool(log_likelihood(rbm, X[1000:], log_z=log_z).mean() > -30)
    True
    """
    FittedModel(estimator)
    unnormalised = estimator._log_unnormalised(X, n_draws)  # (n_samples,)
    if log_z is None:
        log_z = log_partition(estimator, random_state=random_state)
    value = log_z.value if isinstance(log_z, LogPartition) else log_z
    return unnormalised - value


@validated
def pseudo_likelihood(
    estimator: Unvalidated,
    X: Unvalidated,
    *,
    n_flips: PositiveInt | None = None,
    random_state: Seed = None,
) -> np.ndarray:
    """Pseudo-log-likelihood of each row, Σ_i log p(v_i | the other features of v), in nats.

    Parameters
    ----------
    estimator : fitted estimator
        Of binary rows.
    X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
    n_flips : int or None, default=None
        Estimate the sum from as many features of each row, drawn without replacement; None
        takes all of them, exactly.
    random_state : int, RandomState instance or None, default=None
        Chooses the features.

    Returns
    -------
    score : ndarray of shape (n_samples,)
        The time is that of n_samples · n_flips · n_components softplus functions.

    Raises
    ------
    ValueError
        Where the model is not one of binary rows.

    References
    ----------
    J. Besag (1975). Statistical analysis of non-lattice data. The Statistician 24.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, pseudo_likelihood
    >>> X = load_digits().data > 7
    >>> rbm = BernoulliRBM(12, n_iter=5, random_state=0).fit(X)
    >>> exact = pseudo_likelihood(rbm, X).mean()
    >>> estimate = pseudo_likelihood(rbm, X, n_flips=5, random_state=0).mean()
    >>> bool(abs(estimate - exact) < 1)
    True
    """
    fitted = FittedModel(estimator)
    rng = check_random_state(random_state)
    visible = estimator._units()[0] if hasattr(estimator, "_units") else None
    if visible is None or not visible.is_discrete:
        raise ValueError(
            "pseudo_likelihood is defined for models of binary or categorical rows, such as "
            f"BernoulliRBM; got {type(estimator).__name__}. Use log_likelihood."
        )
    n_sites = visible.n_sites(len(estimator.feature_means_))
    n_flips = n_sites if n_flips is None else min(n_flips, n_sites)

    def scores(model, v):
        if n_flips == n_sites:
            return model.pseudo_log_likelihood(v)
        drawn = rng.random_sample((len(v), n_sites)).argpartition(n_flips - 1, axis=1)[:, :n_flips]
        return model.pseudo_log_likelihood(v, torch.as_tensor(drawn, device=v.device))

    known = fitted.apply(scores, X, row_size=lambda model: model.change_size(n_flips))
    return known + fitted.encoding.log_of_rows(X)


def kept_log_partition(estimator):
    """log Z of a fitted estimator; it is computed again only if the model has changed."""
    theta = FittedModel(estimator).rbm("cpu").theta.numpy()
    key = joblib.hash((estimator._model_settings(), theta))
    if getattr(estimator, "_log_z", ("",))[0] != key:
        estimator._log_z = key, log_partition(estimator, random_state=0).value
    return estimator._log_z[1]


def _resampled(model, v, log_weights, noise):
    """The ends of the chains, drawn again by their weights, after 100 Gibbs sweeps."""
    chosen = torch.softmax(log_weights, 0).cpu().numpy().cumsum()
    points = (np.arange(len(v)) + 0.5) / len(v)  # systematic resampling
    index = np.searchsorted(chosen, points).clip(max=len(v) - 1)
    return run(model, v[torch.as_tensor(index, device=v.device)], noise, n_steps=100)


def _levels(betas, model, noise):
    """The levels as a tensor: given, or spread over a short run."""
    if isinstance(betas, Integral):
        return partition.spread_betas(model, noise, int(betas), n_chains=50)
    betas = np.asarray(betas, dtype=np.float64)
    if betas.ndim != 1 or len(betas) < 2 or (betas[0], betas[-1]) != (0, 1):
        raise ValueError("betas must be a number of levels, or the levels, from 0 to 1.")
    if not (np.diff(betas) >= 0).all():
        raise ValueError("betas must rise from 0 to 1.")
    return torch.from_numpy(betas)


def _mean(log_weights):
    """Logarithm of the mean weight, its standard error, and the effective sample size."""
    log_mean = logsumexp(log_weights) - np.log(len(log_weights))
    weights = np.exp(log_weights - log_mean)  # (n_chains,), one on average
    stderr = weights.std(ddof=1) / np.sqrt(len(weights))
    return float(log_mean), float(stderr), float(weights.sum() ** 2 / (weights**2).sum())
