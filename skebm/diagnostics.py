"""How well Markov chains mix, from their draws.

tau = 1 + 2 Σ_{t ≥ 1} rho_t,     effective sample size = number of draws / tau
R-hat² = (pooled variance) / (mean variance within chains)
"""

from typing import Any

import numpy as np
from sklearn.utils import check_array


def autocorrelation_time(draws: Any) -> float:
    """Integrated autocorrelation time: how many draws are worth one independent one.

    tau = 1 + 2 Σ_{t ≥ 1} rho_t, where the variance that the autocorrelations rho_t refer to
    counts differences between chains, and the sum ends where pairs of successive terms stop
    being positive [1]_.

    Parameters
    ----------
    draws : array-like of shape (n_chains, n_draws)
        A number for each draw, such as its free energy; at least 4 draws.

    Returns
    -------
    tau : float
        Near 1 for independent draws; infinite where the chains never move.

    References
    ----------
    .. [1] C. J. Geyer (1992). Practical Markov chain Monte Carlo. Statistical Science 7.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import autocorrelation_time
    >>> x = np.random.default_rng(0).normal(size=(4, 5000))
    >>> bool(0.8 < autocorrelation_time(x) < 1.2)
    True
    """
    draws = _check(draws)
    n_chains, n = draws.shape
    centred = draws - draws.mean(1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * n, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n].mean(0) / n  # (n,)
    within = covariance[0] * n / (n - 1)
    total = within * (n - 1) / n
    if n_chains > 1:
        total += draws.mean(1).var(ddof=1)
    if total == 0:
        return np.inf
    rho = 1 - (within - covariance) / total  # (n,)
    rho[0] = 1
    pairs = rho[: n // 2 * 2].reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs <= 0)
    pairs = pairs[: ends[0]] if len(ends) else pairs
    return float(max(2 * np.minimum.accumulate(pairs).sum() - 1, 1 / np.log10(n_chains * n)))


def effective_sample_size(draws: Any) -> float:
    """How many independent draws the mean of these is worth: their number over tau.

    Parameters
    ----------
    draws : array-like of shape (n_chains, n_draws)
        A number for each draw.

    Returns
    -------
    ess : float

    See Also
    --------
    autocorrelation_time : tau.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import effective_sample_size
    >>> x = np.random.default_rng(0).normal(size=(4, 5000))
    >>> bool(16_000 < effective_sample_size(x) < 25_000)
    True
    """
    return _check(draws).size / autocorrelation_time(draws)


def r_hat(draws: Any) -> float:
    """Potential scale reduction: how much wider the chains lie together than each on its own.

    Each chain counts as two, its halves, so that a drift shows as well [1]_.

    Parameters
    ----------
    draws : array-like of shape (n_chains, n_draws)
        A number for each draw, such as its free energy; at least 4 draws.

    Returns
    -------
    r_hat : float
        Near 1 where the chains have mixed; above 1.01 they should run longer.

    References
    ----------
    .. [1] A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner (2021).
       Rank-normalization, folding, and localization: an improved R-hat for assessing
       convergence of MCMC. Bayesian Analysis 16.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import r_hat
    >>> x = np.random.default_rng(0).normal(size=(4, 1000))
    >>> bool(r_hat(x) < 1.01 < r_hat(x + [[0], [0], [0], [3]]))
    True
    """
    draws = _check(draws)
    n = draws.shape[1] // 2
    halves = np.concatenate([draws[:, :n], draws[:, -n:]])  # (2 n_chains, n)
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else np.inf
    return float(np.sqrt((n - 1) / n + between / within))


def _check(draws):
    draws = check_array(draws, dtype=np.float64, input_name="draws")
    if draws.shape[1] < 4:
        raise ValueError(f"draws has {draws.shape[1]} draws in each chain; at least 4 are needed.")
    return draws
