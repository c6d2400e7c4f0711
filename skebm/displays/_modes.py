"""ModeDisplay: the shares of the clusters of data in rows and in samples."""

from typing import Any, Self

import numpy as np

from skebm.displays._common import find, has, panels, pyplot
from skebm.modes import ModeReport, mode_report


class ModeDisplay:
    """Bars of the shares of clusters, in rows of data and in samples of a model.

    Make one with :meth:`from_estimator`, or from a report of :func:`mode_report`.

    Parameters
    ----------
    report : ModeReport

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skebm import PCD, BernoulliRBM, ModeDisplay
    >>> X = load_digits().data > 7
    >>> rbm = BernoulliRBM(32, gradient=PCD(n_chains=200), n_iter=20, random_state=0).fit(X)
    >>> display = ModeDisplay.from_estimator(rbm, X, random_state=0)
    >>> len(display.report.data_shares)
    10
    """

    def __init__(self, report: ModeReport):
        self.report = report

    def plot(self, *, ax: Any = None) -> Self:
        """Draw the bars.

        The lines are two standard errors of the shares of samples, if these are independent.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        Returns
        -------
        display : ModeDisplay
            This object.
        """
        plt = pyplot(self)
        self.figure_, ((self.ax_,),) = panels(plt, ax, 1, 1, cell=(6.0, 3.5))
        report = self.report
        place = np.arange(len(report.centers))
        share = report.sample_shares
        error = 2 * np.sqrt(share * (1 - share) / report.n_samples)
        self.ax_.bar(place - 0.2, report.data_shares, 0.4, label="rows")
        self.ax_.bar(place + 0.2, share, 0.4, yerr=error, label=f"{report.n_samples} samples")
        self.ax_.set(
            xlabel="cluster",
            ylabel="share",
            xticks=place,
            title=f"distance {report.distance:.2f}, p = {report.p_value:.2g}",
        )
        self.ax_.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        samples: Any = None,
        n_clusters: int = 10,
        random_state: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the shares of clusters under a fitted estimator.

        Parameters
        ----------
        estimator : fitted RBM of this package, or an estimator that contains one
            Of a Pipeline, the last step that is such a model; the rows pass the steps before it.
        X : array-like of shape (n_samples, n_features)
        samples, n_clusters, random_state
            As in :func:`mode_report`; samples are rows of the model.
        ax
            As in :meth:`plot`.

        Returns
        -------
        display : ModeDisplay
        """
        found = find(estimator, has("sample", "encoding_"), "an RBM")
        report = mode_report(
            found.model,
            found.rows(X),
            samples=samples,
            n_clusters=n_clusters,
            random_state=random_state,
        )
        return cls(report).plot(ax=ax)
