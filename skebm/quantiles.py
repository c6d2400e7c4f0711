"""Quantile bins: columns of numbers of any distribution.

A number x is the bin k that it lies in, and its position u in this bin ::

    x = Q_k(u),   0 ≤ u ≤ 1,        p(x) = P(k) p(u | k) / Q_k'(u)

Q_k is the quantile function of the bin, linear between the points in row k of an array `bins`. A
value that is common is a bin by itself, an atom: Q_k is constant, and p(x) is a probability.
"""

from itertools import pairwise

import numpy as np

_TAIL = 0.25 ** np.arange(5, 1, -1)

#: The positions at which the quantile function of a bin is known. They are dense at both ends,
#: since the first and the last bin of a column may have long tails.
POSITIONS = np.concatenate([[0.0], _TAIL, np.arange(1, 8) / 8, 1 - _TAIL[::-1], [1.0]])


def quantile_bins(values, weights, n_bins, step):
    """The bins of a column: an array of shape (n_bins, n_positions), sorted.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        The distinct values of the column, sorted.
    weights : ndarray of shape (n_values,)
        Their positive weights.
    n_bins : int
        Values whose share is 1 / `n_bins` at least are atoms, and all values if there are no more
        than `n_bins`. The other bins have about this share each.
    step : float
        The distance of neighbours, if the values lie on a grid, else 0.
    """
    shares = weights / weights.sum()
    is_atom = shares >= 1 / n_bins if len(values) > n_bins else np.ones(len(values), bool)
    bins = []
    # Runs of values between atoms are cut into bins of about equal shares.
    ends = np.flatnonzero(np.diff(is_atom)) + 1
    for run in np.split(np.arange(len(values)), ends):
        if is_atom[run[0]] or len(run) == 1:
            bins += [np.full(len(POSITIONS), value) for value in values[run]]
            continue
        x, total = values[run], np.cumsum(shares[run])
        # The edges between values, and the shares of the run below them.
        edges = np.concatenate([[x[0] - step / 2], (x[1:] + x[:-1]) / 2, [x[-1] + step / 2]])
        below = np.concatenate([[0.0], total / total[-1]])
        n_parts = max(1, round(total[-1] * n_bins))
        inner = np.searchsorted(below, np.arange(1, n_parts) / n_parts)
        cuts = below[np.unique([0, *inner, len(run)])]
        for low, high in pairwise(cuts):
            bins.append(np.interp(low + (high - low) * POSITIONS, below, edges))
    return np.array(bins)


def place(bins, x):
    """The bin of each number, and its position there: (n,) and (n,).

    A number that is in no bin belongs to the nearest one.
    """
    lower, upper = bins[:, 0], bins[:, -1]
    k = np.searchsorted(upper, x).clip(max=len(bins) - 1)
    before = (k - 1).clip(min=0)
    k = np.where((x < lower[k]) & (x - upper[before] < lower[k] - x), before, k)
    position = np.full(len(x), 0.5)
    for j in np.flatnonzero(upper > lower):
        position[k == j] = np.interp(x[k == j], bins[j], POSITIONS)
    return k, position


def expected(bins, shares, position):
    """Σ_k P(k) Q_k(u) for each row: shares (n, n_bins), positions (n,)."""
    piece = _piece(position)
    part = (position - POSITIONS[piece]) / np.diff(POSITIONS)[piece]
    values = bins[:, piece] * (1 - part) + bins[:, piece + 1] * part  # (n_bins, n)
    return np.einsum("nk,kn->n", shares, values)


def log_slopes(bins, k, position):
    """log Q_k'(u); 0 for atoms."""
    piece = _piece(position)
    slope = (bins[k, piece + 1] - bins[k, piece]) / np.diff(POSITIONS)[piece]
    return np.log(slope, where=slope > 0, out=np.zeros(len(k)))


def _piece(position):
    """The piece of a quantile function in which each position lies."""
    return (np.searchsorted(POSITIONS, position, side="right") - 1).clip(0, len(POSITIONS) - 2)


def grid_of(values):
    """First value, step and decimals of the even grid on which distinct values, sorted, lie.

    None if they have more than 8 decimals.
    """
    for decimals in range(9):
        units = np.round(values, decimals) * 10.0**decimals
        if np.abs(units).max() > 2.0**62:
            return None
        if (np.round(values, decimals) == values).all():
            step = np.gcd.reduce(np.diff(np.rint(units).astype(np.int64)))
            return float(values[0]), float(max(step, 1) / 10.0**decimals), decimals
    return None


def on_grid(grid, x):
    """The nearest numbers of a grid."""
    first, step, decimals = grid
    return np.round(first + step * np.rint((x - first) / step), decimals)
