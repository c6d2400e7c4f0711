"""LikelihoodDisplay: histograms of the likelihoods of several sets of rows."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np

from skebm.displays._common import find, has, limits_of, panels, pyplot
from skebm.evaluation import log_likelihood, log_partition
from skebm.tensors import as_array

Response = Literal["score_samples", "log_likelihood", "free_energy"]
#: What the values of a response are called, and the method that the model needs.
RESPONSES = {
    "score_samples": ("score_samples, in nats", "score_samples"),
    "log_likelihood": ("log-likelihood, in nats", "free_energy"),
    "free_energy": ("negative free energy, in nats", "free_energy"),
}


class LikelihoodDisplay:
    """Histograms of the likelihoods of several sets of rows, with a threshold for outliers.

    Make one with :meth:`from_estimator`. The data stay in the attributes.

    Parameters
    ----------
    scores : dict of ndarrays
        Maps names of sets of rows to the scores of the rows; a higher score means a more likely
        row.
    threshold : float, default=None
        Rows with a lower score are outliers. None draws no threshold.
    score_name : str, default="score"
        Label of the axis.

    Attributes
    ----------
    shares_below_ : dict of floats
        Share of the rows of each set whose score is below the threshold; empty without a threshold.
    bin_edges_ : ndarray of shape (n_bins + 1,)
        Edges of the bins, which all sets share.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, LikelihoodDisplay
    >>> X = load_digits().data > 7
    >>> rbm = BernoulliRBM(32, n_iter=5, random_state=0).fit(X[:1000])
    >>> display = LikelihoodDisplay.from_estimator(
    ...     rbm, {"train": X[:1000], "test": X[1000:], "inverted": ~X[1000:]}, threshold=0.05
    ... )
    >>> display.shares_below_["train"], display.shares_below_["inverted"] > 0.9
    (0.05, True)
    """

    def __init__(
        self,
        scores: Mapping[str, np.ndarray],
        *,
        threshold: float | None = None,
        score_name: str = "score",
    ):
        self.scores = scores
        self.threshold = threshold
        self.score_name = score_name
        self.shares_below_: dict[str, float] = {}
        if threshold is not None:
            self.shares_below_ = {
                name: float(np.mean(values < threshold)) for name, values in scores.items()
            }

    def plot(self, *, ax: Any = None, bins: Any = 30, density: bool = True) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        bins : int, str or array-like, default=30
            Number of bins, their edges, or a rule of :func:`numpy.histogram_bin_edges`. All sets
            share the bins. Without given edges, the bins reach at most three widths of the first
            set beyond it, where the width is the distance between its quantiles 1 % and 99 %; the
            outermost bins count the scores beyond.
        density : bool, default=True
            Whether the bars of a set have the total area 1. False draws numbers of rows.

        Returns
        -------
        display : LikelihoodDisplay
            This object.
        """
        plt = pyplot(self)
        self.figure_, ((self.ax_,),) = panels(plt, ax, 1, 1, cell=(6.0, 3.5))
        drawn = dict(self.scores)
        if np.ndim(bins) == 0:
            limits = _limits([*drawn.values()])
            drawn = {name: np.clip(values, *limits) for name, values in drawn.items()}
        self.bin_edges_ = np.histogram_bin_edges(np.concatenate([*drawn.values()]), bins)
        for number, (name, values) in enumerate(drawn.items()):
            heights, _ = np.histogram(values, self.bin_edges_)
            if density:
                heights = heights / (np.diff(self.bin_edges_) * max(1, heights.sum()))
            label = f"{name}"
            if self.threshold is not None:
                label += f": {100 * self.shares_below_[name]:.1f} % below"
            color = f"C{number % 10}"
            self.ax_.stairs(
                heights, self.bin_edges_, fill=True, alpha=0.5, color=color, label=label
            )
        if self.threshold is not None:
            label = f"threshold {self.threshold:.4g}"
            self.ax_.axvline(self.threshold, color="black", linestyle="--", label=label)
        ylabel = "density" if density else "number of rows"
        self.ax_.set(xlabel=self.score_name, ylabel=ylabel)
        self.ax_.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        response_method: Response = "score_samples",
        threshold: float | None = None,
        ax: Any = None,
        bins: Any = 30,
        density: bool = True,
    ) -> Self:
        """Draw the likelihoods of sets of rows under a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator of this package, or one that contains such an estimator
            Of a Pipeline, the last step that is such a model; the rows pass the steps before it. Of
            a grid search, its best estimator; of a network, its stack.
        X : dict of array-likes, or array-like of shape (n_samples, n_features)
            Sets of rows, by name: for example {"train": X_train, "test": X_test}.
        response_method : {"score_samples", "log_likelihood", "free_energy"}, \
                default="score_samples"
            "score_samples": the method of the model. For a stack without a bound of the
            log-likelihood, these are scores of its top layer. "log_likelihood":
            :func:`skebm.log_likelihood`, with one estimate of log Z for all sets. "free_energy":
            −F(v), the log-likelihood without the constant log Z; it is the fastest.
        threshold : float, default=None
            A number between 0 and 1: the threshold is this quantile of the first set. Rows below
            the threshold are outliers. The legend has the share of the rows of each set below it.
            None draws no threshold.
        ax, bins, density
            As in :meth:`plot`.

        Returns
        -------
        display : LikelihoodDisplay

        Raises
        ------
        ValueError
            If `response_method` or `threshold` is invalid, or if the model has no such method.
        """
        if response_method not in RESPONSES:
            raise ValueError(
                f"response_method must be one of {[*RESPONSES]}; got {response_method!r}."
            )
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(
                "threshold must be None, or a quantile of the first set, between 0 and 1; got "
                f"{threshold}."
            )
        name, needed = RESPONSES[response_method]
        found = find(estimator, has(needed), f"a model with `{needed}`")
        sets = X if isinstance(X, Mapping) else {"X": X}
        if not sets:
            raise ValueError("X is empty; pass at least one set of rows, such as {'train': X}.")
        respond = _response(found.model, response_method)
        scores = {
            label: np.asarray(as_array(respond(found.rows(rows))), dtype=np.float64)
            for label, rows in sets.items()
        }
        value = None
        if threshold is not None:
            value = float(np.quantile(next(iter(scores.values())), threshold))
        display = cls(scores, threshold=value, score_name=name)
        return display.plot(ax=ax, bins=bins, density=density)


def _limits(sets):
    """The smallest and the largest score to draw: near the first set, for the others to be seen."""
    low, high = limits_of(*sets)
    first = sets[0][np.isfinite(sets[0])]
    low_1, high_1 = np.quantile(first, [0.01, 0.99]) if len(first) else (low, low)
    reach = 3 * (high_1 - low_1)
    return (max(low, low_1 - reach), min(high, high_1 + reach)) if reach > 0 else (low, high)


def _response(model, response_method):
    """The function from rows to scores."""
    if response_method == "free_energy":
        return lambda X: -as_array(model.free_energy(X))
    if response_method == "log_likelihood":
        log_z = log_partition(model, random_state=0)
        return lambda X: log_likelihood(model, X, log_z=log_z)
    if getattr(model, "_has_bound", True):
        return model.score_samples
    return lambda X: model.score_samples(X, method="top")
