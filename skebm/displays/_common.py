"""Code that all displays share: find the model, choose how to draw its rows, make the axes.

estimator  ── find ──▶  model, steps before it
visible units  ── laid_out ──▶  vectors or images  ── arrange ──▶  kind, arrays to draw
"""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skebm.fitted import FittedModel
from skebm.tensors import as_array

KINDS = ("image", "line", "heatmap")
#: Fitted attributes of estimators that contain another estimator.
CONTAINED = ("best_estimator_", "dbn_", "estimator_", "regressor_")
#: Colour maps by kind of picture; zero is in the middle of both.
COLORS = {"image": "gray", "line": None, "heatmap": "RdBu_r"}
DIFFERENCES = "RdBu_r"
#: A heat map has at most this number of tick labels on an axis.
MOST_LABELS = 60


def pyplot(display):
    """matplotlib.pyplot, or an error that says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__} needs matplotlib; install it with pip install 'skebm[plot]'."
        ) from error
    return plt


# The model inside an estimator


class Found(NamedTuple):
    """A fitted model, and the transformers that rows pass before they reach it."""

    model: Any
    steps: tuple[Any, ...] = ()

    def rows(self, X):
        """The rows of X, as the model gets them."""
        for step in self.steps:
            X = step.transform(X)
        return X

    def names(self):
        """Names of the features of the model, if the rows of X in `fit` had names; else None."""
        first = self.steps[0] if self.steps else self.model
        names = getattr(first, "feature_names_in_", None)
        if names is None:
            return None
        for step in self.steps:
            # Some steps, such as a FunctionTransformer, cannot tell the names.
            tells = hasattr(step, "get_feature_names_out")
            names = step.get_feature_names_out(names) if tells else names
        n_features = getattr(self.model, "n_features_in_", len(names))
        return [*map(str, names)] if len(names) == n_features else None


def has(*names: str) -> Callable[[Any], bool]:
    """A function that says whether an estimator is a fitted model with these attributes."""
    return lambda estimator: all(hasattr(estimator, name) for name in ("history_", *names))


def find(estimator, is_model, what) -> Found:
    """The fitted model that an estimator is or contains; `what` describes it for an error."""
    found = _find(estimator, is_model, ())
    if found is None:
        check_is_fitted(estimator)
        raise ValueError(
            f"estimator must be, or contain, {what}; got {type(estimator).__name__}. Pass a fitted "
            "estimator of this package, or a pipeline or a grid search that contains one."
        )
    return found


def _find(estimator, is_model, steps):
    if isinstance(estimator, FrozenEstimator):
        return _find(estimator.estimator, is_model, steps)
    if is_model(estimator):
        return Found(estimator, steps)
    for name in CONTAINED:
        if hasattr(estimator, name):
            return _find(getattr(estimator, name), is_model, steps)
    pairs = getattr(estimator, "steps", [])
    for k in reversed(range(len(pairs))):
        before = [step for _, step in pairs[:k] if step is not None and step != "passthrough"]
        found = _find(pairs[k][1], is_model, (*steps, *before))
        if found is not None:
            return found
    if hasattr(estimator, "estimators_") and not hasattr(estimator, "history_"):  # an ensemble
        return _find(estimator.estimators_[0], is_model, steps)
    return None


def layers_of(model) -> list[Any]:
    """The layers of a stack, from the data up; of any other model, the model itself."""
    return list(getattr(model, "estimators_", [model]))


# Rows


def units_of(first, X):
    """The visible units of rows of X, for the first layer `first`; NaN where one is missing."""
    X = as_array(X)
    X = X.toarray() if issparse(X) else X
    return np.asarray(FittedModel(first).read(X, allow_nan=True), dtype=np.float64)


def units_of_result(first, rows):
    """The visible units of rows that a method of the model returned."""
    if is_table(first):
        return units_of(first, rows)
    rows = np.asarray(as_array(rows), dtype=np.float64)
    return rows.reshape(len(rows), -1)


def is_table(first) -> bool:
    """Whether a layer is a model of a table."""
    return hasattr(getattr(first, "encoding_", None), "categories_")


def standardised(first, units):
    """Units of different scales as multiples of their standard deviations in training."""
    location, scale = (getattr(first, name, None) for name in ("location_", "scale_"))
    return units if location is None or scale is None else (units - location) / scale


def laid_out(first, units):
    """Vectors of visible units in the order of the columns of X, or images with channels last."""
    encoding: Any = getattr(first, "encoding_", None)
    if is_table(first):
        return units[:, np.argsort(encoding.column_of_unit(units.shape[1]), kind="stable")]
    if hasattr(encoding, "image_shape_"):
        images = units.reshape(len(units), *encoding.image_shape_)
        return images if encoding.channels_last else np.moveaxis(images, 1, 3)
    return units


def names_of_units(first, names):
    """Names of the visible units, in the order of the columns of X; None without names."""
    if not is_table(first):
        return names
    result = []
    for name, categories in zip(first.encoding_.names_, first.encoding_.categories_):
        name = name if isinstance(name, str) else f"x{name}"
        result += [name] if categories is None else [f"{name}={c}" for c in categories]
    return result


def arrange(values, *, kind=None, image_shape=None, names=None, table=False):
    """Choose how vectors are drawn; return the kind of picture, and the values in its shape.

    Parameters
    ----------
    values : ndarray of shape (n, n_features), or (n, height, width, n_channels) for images
    kind, image_shape
        As in the displays.
    names : list of str or None
    table : bool

    Returns
    -------
    kind : {"image", "line", "heatmap"}
    values : ndarray of shape (n, height, width), (n, height, width, 3), (n, n_features) or, for \
            lines of several channels, (n, length, n_channels)
    """
    if kind not in (None, *KINDS):
        raise ValueError(f"kind must be None or one of {KINDS}; got {kind!r}.")
    n, n_features = len(values), math.prod(values.shape[1:])
    if image_shape is not None:
        if kind not in (None, "image"):
            raise ValueError(
                f"image_shape={image_shape} asks for images, but kind={kind!r}; set only one."
            )
        return "image", values.reshape(n, *_checked_shape(tuple(image_shape), n_features))
    if kind is None:
        kind = _kind(values, names, table)
    if kind == "heatmap" or (values.ndim == 2 and kind == "line"):
        return kind, values.reshape(n, n_features)
    if values.ndim == 2:
        side = math.isqrt(n_features)
        if side**2 != n_features:
            raise ValueError(
                f'kind="image" needs image_shape, since {n_features} features are no square; pass '
                "for example image_shape=(height, width)."
            )
        return kind, values.reshape(n, side, side)
    n_channels = values.shape[3]
    if kind == "line":
        lines = values.reshape(n, -1, n_channels)
        return kind, lines[..., 0] if n_channels == 1 else lines
    if n_channels not in (1, 3):
        raise ValueError(
            f"Images are drawn that have one channel, or three; these have {n_channels}. "
            'Set kind="line" to draw one line for each channel.'
        )
    return kind, values[..., 0] if n_channels == 1 else values


def _kind(values, names, table):
    """The kind of picture for values of this shape, and with these names."""
    if table:
        return "heatmap"
    if values.ndim == 4:
        return "image" if min(values.shape[1:3]) > 1 else "line"
    if names is not None:
        return "line" if _is_series(names) else "heatmap"
    side = math.isqrt(values.shape[1])
    return "image" if side > 1 and side**2 == values.shape[1] else "line"


def _is_series(names):
    """Whether the names are one word with rising numbers, such as t0, t1, t2."""
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    words = {part[1] for part in parts if part}
    numbers = [int(part[2]) for part in parts if part]
    rising = all(a < b for a, b in pairwise(numbers))
    return all(parts) and len(words) == 1 and rising


def _checked_shape(image_shape, n_features):
    """The shape of a drawn image: (height, width) or (height, width, 3)."""
    if len(image_shape) not in (2, 3) or (len(image_shape) == 3 and image_shape[2] not in (1, 3)):
        raise ValueError(
            f"image_shape must be (height, width) or (height, width, 3); got {image_shape}."
        )
    if math.prod(image_shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape} holds {math.prod(image_shape)} pixels, but the "
            f"estimator has {n_features} features."
        )
    return image_shape[:2] if image_shape[2:] == (1,) else image_shape


# Axes


def grid(plt, ax, n_rows, n_columns, *, cell=(0.8, 0.8), margins=(0.02, 0.02, 0.02, 0.02)):
    """A figure, and a grid of axes without ticks: in a new figure, or in the place of `ax`.

    `cell` is the size of one of the axes, in inches; `margins` are those of a new figure on the
    left, at the bottom, on the right and at the top.
    """
    space = {"wspace": 0.08, "hspace": 0.08}
    if ax is None:
        left, bottom, right, top = margins
        width = cell[0] * n_columns + left + right
        height = cell[1] * n_rows + bottom + top
        figure = plt.figure(figsize=(width, height))
        edges = {"left": left / width, "right": 1 - right / width}
        edges |= {"bottom": bottom / height, "top": 1 - top / height}
        spec = figure.add_gridspec(n_rows, n_columns, **edges, **space)
    else:
        figure, spec = _inside(ax, n_rows, n_columns, **space)
    axes = spec.subplots(squeeze=False)
    for place in axes.flat:
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    return figure, axes


def panels(plt, ax, n_rows, n_columns, *, cell):
    """A figure, and a grid of axes with ticks and labels, as in `grid`."""
    if ax is None:
        figure = plt.figure(figsize=(cell[0] * n_columns, cell[1] * n_rows), layout="constrained")
        return figure, figure.subplots(n_rows, n_columns, squeeze=False)
    if n_rows == n_columns == 1:
        return ax.figure, np.array([[ax]])
    figure, spec = _inside(ax, n_rows, n_columns, wspace=0.4, hspace=0.4)
    return figure, spec.subplots(squeeze=False)


def _inside(ax, n_rows, n_columns, **space):
    """A grid in the place of an Axes, which is hidden."""
    ax.set_axis_off()
    place = ax.get_subplotspec()
    if place is not None:
        return ax.figure, place.subgridspec(n_rows, n_columns, **space)
    (left, bottom), (right, top) = ax.get_position().get_points()
    edges = {"left": left, "bottom": bottom, "right": right, "top": top}
    return ax.figure, ax.figure.add_gridspec(n_rows, n_columns, **edges, **space)


def limits_of(*arrays):
    """The smallest and the largest finite value."""
    values = np.concatenate([np.ravel(array) for array in arrays])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1.0)


def around_zero(values):
    """Limits with zero in the middle."""
    finite = np.abs(values[np.isfinite(values)])
    limit = finite.max() if finite.size else 0.0
    return (-limit, limit) if limit else (-1.0, 1.0)


def draw(place, value, kind, limits, cmap):
    """Draw one image, or one line, in an Axes."""
    low, high = limits
    if kind == "line":
        place.plot(value, linewidth=1)
        margin = 0.05 * (high - low)
        place.set_ylim(low - margin, high + margin)
    elif value.ndim == 3:
        place.imshow(np.nan_to_num(np.clip((value - low) / (high - low), 0, 1)))
    else:
        place.imshow(value, cmap=cmap, vmin=low, vmax=high)


def draw_heatmap(place, values, names, limits, cmap, xlabel):
    """Draw values (n, n_features) as a heat map: one line for each feature, with its name."""
    low, high = limits
    image = place.imshow(
        values.T, cmap=cmap, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    if names is None:
        place.set_yticks([])
    else:
        shown = range(0, len(names), math.ceil(len(names) / MOST_LABELS))
        place.set_yticks(shown, [names[i] for i in shown])
    place.xaxis.get_major_locator().set_params(integer=True)
    place.set_xlabel(xlabel)
    return image


def heatmap_height(n_features):
    """Height of the Axes of a heat map, in inches."""
    return min(max(2.0, 0.6 + 0.2 * n_features), 12.0)
