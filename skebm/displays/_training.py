"""TrainingDisplay: the history of one fit, or of several, as curves."""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from skebm.displays._common import find, has, panels, pyplot

#: Measures that are drawn first, in this order.
FIRST = (
    "score",
    "validation_score",
    "log_loss",
    "accuracy",
    "mean_squared_error",
    "reconstruction_error",
    "swap_rate",
)
#: Columns of a history that are no measures.
NOT_MEASURES = ("epoch", "seconds", "layer")
#: Number of measures that are drawn by default.
MOST_MEASURES = 4


class TrainingDisplay:
    """The measures of training (`history_`) by epoch: one Axes for each measure.

    Make one with :meth:`from_estimator`, or with :meth:`from_estimators` to compare several
    estimators. The data stay in the attributes.

    Parameters
    ----------
    histories : dict of dicts of ndarrays
        Maps labels to histories. A history maps names of measures to arrays with one value for
        each epoch, such as `history_` of an RBM.

    Attributes
    ----------
    measures_ : list of str
        The measures that are drawn.
    ax_ : ndarray of matplotlib Axes of shape (n_measures,)
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, TrainingDisplay
    >>> X = load_digits().data / 16
    >>> estimators = {
    ...     f"{n} hidden units": BernoulliRBM(n, n_iter=2, random_state=0).fit(X) for n in (8, 16)
    ... }
    >>> display = TrainingDisplay.from_estimators(estimators)
    >>> display.measures_
    ['score', 'reconstruction_error']
    """

    def __init__(self, histories: Mapping[str, Mapping[str, np.ndarray]]):
        self.histories = histories

    def plot(
        self,
        *,
        ax: Any = None,
        measures: str | list[str] | tuple[str, ...] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw: several measures replace this Axes by a grid. None makes a new figure.
        measures : str or list of str, default=None
            Names of the measures. None draws those of "score", "validation_score", "log_loss",
            "accuracy", "mean_squared_error", "reconstruction_error" and "swap_rate" that the
            histories have, then others, and at most 4.
        line_kw : dict, default=None
            Keywords for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : TrainingDisplay
            This object.

        Raises
        ------
        ValueError
            If no history has one of the measures.
        """
        plt = pyplot(self)
        self.measures_ = self._chosen(measures)
        n = len(self.measures_)
        n_columns = n if n <= 3 else math.ceil(math.sqrt(n))
        shape = math.ceil(n / n_columns), n_columns
        self.figure_, axes = panels(plt, ax, *shape, cell=(4.0, 3.0))
        self.ax_ = axes.ravel()[:n]
        for place in axes.ravel()[n:]:
            place.set_axis_off()
        for place, measure in zip(self.ax_, self.measures_):
            with_measure = [label for label, h in self.histories.items() if _has(h, measure)]
            for number, label in enumerate(
                self.histories
            ):  # a label has the same colour everywhere
                if label in with_measure:
                    history = self.histories[label]
                    style = {"color": f"C{number % 10}", "label": label} | (line_kw or {})
                    place.plot(history["epoch"], history[measure], **style)
            place.set(xlabel="epoch", ylabel=measure.replace("_", " "))
            place.xaxis.get_major_locator().set_params(integer=True)
            if len(with_measure) > 1:
                place.legend()
        return self

    def _chosen(self, measures):
        """The names of the measures to draw."""
        names = dict.fromkeys(
            name
            for history in self.histories.values()
            for name in history
            if name not in NOT_MEASURES and _has(history, name)
        )
        known = [*(name for name in FIRST if name in names), *(n for n in names if n not in FIRST)]
        if measures is None:
            if not known:
                raise ValueError(
                    "The histories have no epoch; fit the estimators with n_iter of at least 1."
                )
            return known[:MOST_MEASURES]
        measures = [measures] if isinstance(measures, str) else list(measures)
        unknown = [name for name in measures if name not in known]
        if unknown or not measures:
            raise ValueError(
                f"measures={measures} must hold names of measures in the histories; choose from "
                f"{known}."
            )
        return measures

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        layer: int | None = None,
        measures: str | list[str] | tuple[str, ...] | None = None,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator of this package, or one that contains such an estimator
            Of a Pipeline, the last step that has a `history_`; of a grid search, its best
            estimator. A :class:`DBN` has one line for each layer. A network has a line for
            fine-tuning, and one for each layer in pre-training.
        layer : int, default=None
            A layer of a DBN or a network, counted from 0; -1 is "up-down". None draws all of them.
        measures, ax, line_kw
            As in :meth:`plot`.

        Returns
        -------
        display : TrainingDisplay

        Raises
        ------
        ValueError
            If no history has one of the measures, or if there is no such layer.
        """
        model = _model(estimator)
        histories = _histories(model, layer)
        if len(histories) == 1 and "" in histories:
            histories = {type(model).__name__: histories[""]}
        return cls(histories).plot(ax=ax, measures=measures, line_kw=line_kw)

    @classmethod
    def from_estimators(
        cls,
        estimators: Any,
        *,
        layer: int | None = None,
        measures: str | list[str] | tuple[str, ...] | None = None,
        ax: Any = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the histories of several fitted estimators, to compare them.

        Parameters
        ----------
        estimators : dict or list of fitted estimators
            A dict maps names to estimators. In a list, estimators have the names of their classes,
            with a number where there are several of a class.
        layer, measures, ax, line_kw
            As in :meth:`from_estimator`.

        Returns
        -------
        display : TrainingDisplay

        Raises
        ------
        ValueError
            If no history has one of the measures, or if there is no such layer.
        """
        if not isinstance(estimators, Mapping):
            estimators = _named(list(estimators))
        if not estimators:
            raise ValueError("estimators is empty; pass at least one fitted estimator.")
        histories = {}
        for name, estimator in estimators.items():
            for part, history in _histories(_model(estimator), layer).items():
                histories[f"{name}, {part}" if part else f"{name}"] = history
        return cls(histories).plot(ax=ax, measures=measures, line_kw=line_kw)


def _has(history, measure):
    """Whether a history has a value of the measure."""
    return measure in history and not np.isnan(history[measure]).all()


def _model(estimator):
    return find(estimator, has(), "a model with `history_`").model


def _named(estimators):
    """A dict from names to estimators."""
    names = [type(_model(estimator)).__name__ for estimator in estimators]
    numbers = [names[: k + 1].count(name) for k, name in enumerate(names)]
    return {
        f"{name} {number}" if names.count(name) > 1 else name: estimator
        for name, number, estimator in zip(names, numbers, estimators)
    }


def _histories(model, layer):
    """The histories of the parts of a model, by their labels; that of the model itself is ""."""
    stack = getattr(model, "dbn_", model)
    if "layer" not in stack.history_:  # no DBN: its layers, if any, are trained together
        if layer not in (None, 0):
            raise ValueError(
                f"layer={layer}, but the history of {type(model).__name__} has no layers; set "
                "layer=None."
            )
        return {"": model.history_}
    parts: dict[str, dict[str, np.ndarray]] = {}
    if stack is not model and layer is None:
        parts["fine-tuning"] = model.history_
    history = stack.history_
    numbers = history.get("layer", np.zeros(0))
    present = sorted(set(numbers.tolist()), key=lambda k: (k < 0, k))  # "up-down" comes last
    if layer is not None and layer not in present:
        raise ValueError(
            f"layer={layer}, but the history of {type(model).__name__} has the layers "
            f"{[*map(int, present)]}; pass one of these, or None."
        )
    for number in present if layer is None else [layer]:
        label = "up-down" if number == -1 else f"layer {number:.0f}"
        of_layer = numbers == number
        parts[label] = {name: values[of_layer] for name, values in history.items()}
    return parts
