"""Do samples of a model have the modes of the data? Shares of clusters, and nearest neighbours.

distance = ½ Σ_k |share of the rows in cluster k − share of the samples in cluster k|
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import chi2_contingency
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state, resample

from skebm._shared import PositiveInt, Seed, Unvalidated, validated
from skebm.engine.noise import Noise, seed_of
from skebm.fitted import FittedModel

#: Rows, and samples, that are compared with their nearest neighbours.
NEIGHBOURS = 2000


@dataclass(frozen=True, eq=False)
class ModeReport:
    """Shares of the clusters of data in rows and in samples, as :func:`mode_report` returns them.

    Attributes
    ----------
    centers : ndarray of shape (n_clusters, n_visible)
        Centres of the clusters, in visible units; the largest cluster of the rows comes first.
    data_shares, sample_shares : ndarray of shape (n_clusters,)
        Shares of the rows, and of the samples, that are nearest to each centre.
    n_samples : int
        Number of samples.
    distance : float
        Total variation distance between the shares: 0 if they are equal, 1 if no cluster has both
        rows and samples.
    p_value : float
        Probability of shares that differ as much or more, if rows and samples are independent draws
        of one distribution (a chi-squared test).
    accuracy_data, accuracy_samples : float
        Adversarial accuracies [1]_: the share of the rows whose nearest other row is nearer than
        the nearest sample, and the share of the samples whose nearest other sample is nearer than
        the nearest row. Both are 0.5 if rows and samples have the same distribution. Rows near 1:
        the samples lack what the data have. Samples near 1: they are unlike the data. Samples near
        0: they are copies of rows.

    References
    ----------
    .. [1] A. Yale and others (2020). Generation and evaluation of privacy preserving synthetic
       health data. Neurocomputing 416.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import ModeReport
    >>> shares = np.array([0.8, 0.2]), np.array([1.0, 0.0])
    >>> print(ModeReport(np.eye(2), *shares, 100, 0.2, 1e-5, 0.6, 0.5))
    distance 0.20 of 2 clusters, p = 1e-05: 100 samples do not have the shares of the rows
    """

    centers: np.ndarray
    data_shares: np.ndarray
    sample_shares: np.ndarray
    n_samples: int
    distance: float
    p_value: float
    accuracy_data: float
    accuracy_samples: float

    def __str__(self):
        agree = "may" if self.p_value > 0.01 else "do not"
        return (
            f"distance {self.distance:.2f} of {len(self.centers)} clusters, "
            f"p = {self.p_value:.2g}: {self.n_samples} samples {agree} have the shares of the rows"
        )


@validated
def mode_report(
    estimator: Unvalidated,
    X: Unvalidated,
    *,
    samples: Unvalidated = None,
    n_clusters: PositiveInt = 10,
    random_state: Seed = None,
) -> ModeReport:
    """Compare the shares of the clusters of data in rows and in samples, to find lost modes.

    Likelihoods of rows hardly show that a model lacks a mode, or gives it the wrong share. The
    clusters are those of k-means on the rows. Chains of a fit that do not move between modes may
    have the right shares where the model does not: compare with new samples, too.

    Parameters
    ----------
    estimator : fitted RBM of this package
    X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)
        Rows of data. Grey values, which stand for probabilities, are replaced by draws.
    samples : array-like of shape (n_samples, n_features) or None, default=None
        Samples to compare with, such as those of `estimator.sample`. None takes the persistent
        chains of the fit, which show how well training has mixed.
    n_clusters : int, default=10
        Number of clusters.
    random_state : int, RandomState instance or None, default=None
        Seeds the clusters, and the visible units of the chains.

    Returns
    -------
    report : ModeReport

    Raises
    ------
    ValueError
        If the estimator has no persistent chains and no samples are given, or if there are fewer
        rows than clusters.

    Notes
    -----
    Chains from one start, or states of one chain, are no independent draws; the p-value is then
    too small. Few clusters find large modes; many clusters need many samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import BernoulliRBM, mode_report
    >>> X = np.repeat(np.arange(1000)[:, None] % 2, 8, axis=1)  # rows of zeros, rows of ones
    >>> for gradient in ("pcd", "ptt"):
    ...     rbm = BernoulliRBM(gradient=gradient, random_state=0).fit(X)
    ...     drawn = rbm.sample(500, random_state=0)
    ...     report = mode_report(rbm, X, samples=drawn, n_clusters=2, random_state=0)
    ...     print(gradient, report.distance > 0.3)
    pcd True
    ptt False
    """
    rng = check_random_state(random_state)
    fitted = FittedModel(estimator)
    rows = fitted.apply(lambda model, v: v, X)
    rows = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else rows
    model = fitted.rbm("cpu")
    rows = rows[:, : model.n_rows]
    if model.visible.is_discrete and (rows != np.round(rows)).any():
        rows = (rng.uniform(size=rows.shape) < rows).astype(rows.dtype)
    if samples is None:
        states = getattr(estimator, "h_samples_", None)
        if states is None:
            raise ValueError(
                f"This {type(estimator).__name__} has no persistent chains; pass samples, such as "
                "samples=estimator.sample(1000)."
            )
        drawn = _visible_states(fitted, states, Noise(seed_of(rng), fitted.device))
    else:
        drawn = fitted.apply(lambda model, v: v, samples)
    if len(rows) < n_clusters:
        raise ValueError(f"n_clusters={n_clusters}, but X has {len(rows)} rows.")
    clusters = KMeans(n_clusters, n_init=3, random_state=seed_of(rng)).fit(rows)
    drawn = np.asarray(drawn[:, : model.n_rows], dtype=rows.dtype)
    counts = np.stack(
        [np.bincount(clusters.predict(x), minlength=n_clusters) for x in (rows, drawn)]
    )
    order = np.argsort(-counts[0], kind="stable")
    counts = counts[:, order]
    shares = counts / counts.sum(1, keepdims=True)
    filled = counts[:, counts.sum(0) > 0]
    p_value = chi2_contingency(filled).pvalue if filled.shape[1] > 1 else 1.0
    n = min(len(rows), len(drawn), NEIGHBOURS)
    pair = [resample(x, replace=False, n_samples=n, random_state=rng) for x in (rows, drawn)]
    return ModeReport(
        clusters.cluster_centers_[order],
        shares[0],
        shares[1],
        len(drawn),
        float(np.abs(shares[0] - shares[1]).sum() / 2),
        float(p_value),
        *_adversarial_accuracies(*pair),
    )


def _visible_states(fitted: FittedModel, states: np.ndarray, noise: Noise) -> np.ndarray:
    """One draw of the visible units of the chains, given hidden states: (n_chains, n_visible)."""
    with fitted.computing(len(states)):
        model = fitted.rbm()
        h = torch.tensor(states, device=model.W.device).to(model.W)
        drawn: np.ndarray = model.sample_visible(h, noise).cpu().numpy()
        return drawn


def _adversarial_accuracies(rows: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """How often the nearest neighbour is of the own kind, of rows and of samples."""
    found = []
    for own, other in ((rows, drawn), (drawn, rows)):
        if len(own) < 2:
            return np.nan, np.nan
        near = NearestNeighbors(n_neighbors=1)
        to_own = near.fit(own).kneighbors()[0]  # without the row itself
        to_other = near.fit(other).kneighbors(own)[0]
        wins = (to_own < to_other) + 0.5 * (to_own == to_other)
        found.append(float(wins.mean()))
    return found[0], found[1]
