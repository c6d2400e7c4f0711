"""ComponentsDisplay: the weights of hidden units, as images, lines or a heat map."""

import math
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch

from skebm.displays._common import (
    COLORS,
    around_zero,
    arrange,
    draw,
    draw_heatmap,
    find,
    grid,
    heatmap_height,
    is_table,
    laid_out,
    layers_of,
    names_of_units,
    panels,
    pyplot,
)
from skebm.fitted import FittedModel


class ComponentsDisplay:
    """The weights of each hidden unit: images, lines, or one heat map.

    Make one with :meth:`from_estimator`. The data stay in the attributes.

    Parameters
    ----------
    components : ndarray
        The weights: (n_components, height, width) or (n_components, height, width, 3) for images;
        (n_components, n_features) for lines or a heat map; (n_components, length, n_channels) for
        lines of several channels.
    kind : {"image", "line", "heatmap"}, default=None
        How the weights are drawn. None draws lines if `components` has two dimensions, else images.
    feature_names : list of str, default=None
        Names of the visible units, for a heat map.

    Attributes
    ----------
    kind_ : {"image", "line", "heatmap"}
        How the weights are drawn.
    ax_ : ndarray of matplotlib Axes
        For images and lines, a grid with one Axes for each hidden unit; the remaining ones are
        empty. For a heat map, one Axes in an array of shape (1, 1).
    figure_ : matplotlib Figure

    See Also
    --------
    ReconstructionDisplay : Rows and their reconstructions.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, ComponentsDisplay
    >>> X = load_digits().data / 16
    >>> rbm = BernoulliRBM(n_components=12, n_iter=1, random_state=0).fit(X)
    >>> display = ComponentsDisplay.from_estimator(rbm)
    >>> display.kind_, display.ax_.shape
    ('image', (3, 4))
    """

    def __init__(
        self,
        components: np.ndarray,
        *,
        kind: str | None = None,
        feature_names: list[str] | None = None,
    ):
        self.components = components
        self.feature_names = feature_names
        self.kind_ = kind or ("line" if np.ndim(components) == 2 else "image")

    def plot(self, *, ax: Any = None, n_columns: int | None = None, cmap: Any = None) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw: the grid replaces this Axes. None makes a new figure.
        n_columns : int, default=None
            Number of columns of the grid. None makes the grid about square. A heat map ignores it.
        cmap : str or matplotlib Colormap, default=None
            Colours. None is "gray" for images and "RdBu_r" for a heat map. Zero is in the middle.
            Each image and each line has its own scale; a heat map has one.

        Returns
        -------
        display : ComponentsDisplay
            This object.
        """
        plt = pyplot(self)
        n, kind = len(self.components), self.kind_
        cmap = cmap or COLORS[kind]
        if kind == "heatmap":
            size = min(max(4.0, 2 + 0.15 * n), 12.0), heatmap_height(self.components.shape[1])
            self.figure_, self.ax_ = panels(plt, ax, 1, 1, cell=size)
            (place,) = self.ax_.flat
            limits = around_zero(self.components)
            names = self.feature_names
            image = draw_heatmap(place, self.components, names, limits, cmap, "hidden unit")
            self.figure_.colorbar(image, ax=place, label="weight")
            return self
        columns = n_columns or math.ceil(math.sqrt(n))
        cell = (1.2, 0.8) if kind == "line" else (0.8, 0.8)
        self.figure_, self.ax_ = grid(plt, ax, math.ceil(n / columns), columns, cell=cell)
        for place, component in zip(self.ax_.flat, self.components, strict=False):
            draw(place, component, kind, around_zero(component), cmap)
            if kind == "line":
                place.axhline(0, color="gray", linewidth=0.5, zorder=0)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        layer: int = 0,
        kind: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        n_components: int | None = None,
        ax: Any = None,
        n_columns: int | None = None,
        cmap: Any = None,
    ) -> Self:
        """Draw the components of a fitted estimator.

        Parameters
        ----------
        estimator : estimator with `components_`, or one that contains such an estimator
            The fitted model: an RBM, a DBN or a network. Of a Pipeline, the last step that is such
            a model; of a grid search, its best estimator.
        layer : int, default=0
            The layer of a DBN or a network, counted from 0. A hidden unit of a deeper layer is
            drawn as a weighted sum of the components of the layer below: the product
            W_k … W_1 W_0 of the weights. This is linear: it ignores the nonlinear functions between
            the layers. Where a :class:`ConvRBM` is the top factor, it is the filter at the middle
            of its map; the result is an image of the size of a row.
        kind : {"image", "line", "heatmap"}, default=None
            How to draw. None chooses by these rules, in this order; `kind_` says the result.

            1. `image_shape` is given: "image".
            2. The model is a :class:`TabularRBM` or a :class:`CategoricalRBM`: "heatmap". It has
               one line for each number, and one for each category.
            3. The model is a :class:`ConvRBM`: "image", or "line" if the filters are 1 pixel high
               or wide.
            4. The features have names (the columns of X in `fit` had names that are strings):
               "line" if the names are one word with rising numbers, such as t0, t1, t2, as for a
               signal; else "heatmap". Names of a Pipeline count.
            5. The number of features is a square number: "image".
            6. Anything else: "line".
        image_shape : tuple of int, default=None
            (height, width) or (height, width, 3). None takes the shape of the filters of a
            :class:`ConvRBM`, else a square.
        n_components : int, default=None
            Number of hidden units to draw, from the first on. None draws all of them.
        ax, n_columns, cmap
            As in :meth:`plot`.

        Returns
        -------
        display : ComponentsDisplay

        Raises
        ------
        ValueError
            If the image shape has another number of pixels than there are features, if the images
            have another number of channels than 1 or 3, or if there is no such layer.
        """
        found = _find_components(estimator)
        layers = layers_of(found.model)
        is_number = isinstance(layer, Integral) and not isinstance(layer, bool)
        if not is_number or not 0 <= layer < len(layers):
            raise ValueError(
                f"layer={layer!r}, but {type(found.model).__name__} has {len(layers)} layers; pass "
                f"an integer from 0 to {len(layers) - 1}."
            )
        first, names = layers[0], found.names()
        if layer:
            values = laid_out(first, _projected(layers[: layer + 1], n_components))
        else:
            values = np.asarray(first.components_)[:n_components]
            is_filter = values.ndim == 4
            values = np.moveaxis(values, 1, 3) if is_filter else laid_out(first, values)
        chosen, components = arrange(
            values, kind=kind, image_shape=image_shape, names=names, table=is_table(first)
        )
        display = cls(components, kind=chosen, feature_names=names_of_units(first, names))
        return display.plot(ax=ax, n_columns=n_columns, cmap=cmap)


def _find_components(estimator):
    """The last model of this package in an estimator, or else any estimator with components."""

    def is_ours(candidate):
        has_weights = hasattr(candidate, "components_") or hasattr(candidate, "estimators_")
        return has_weights and hasattr(candidate, "history_")

    what = "a model with `components_`"
    try:
        return find(estimator, is_ours, what)
    except ValueError:  # NotFittedError is one too: the second search raises it again
        return find(estimator, lambda candidate: hasattr(candidate, "components_"), what)


def _projected(layers, n_components):
    """The weights of the last layer in the visible units of the first: (n, n_visible)."""
    *below, top = layers
    weights = np.asarray(top.components_)[:n_components]
    if weights.ndim == 4:
        weights = _down(top, _at_middle(top)[:n_components])
    for layer in below[::-1]:
        is_filter = layer.components_.ndim == 4
        weights = _down_features(layer, weights) if is_filter else weights @ layer.components_
    return weights


def _at_middle(layer):
    """One hidden state for each filter, with one unit on, at the middle of its map."""
    shape = layer._unpooled_shape()  # (n_filters, height, width)
    states = np.zeros((shape[0], *shape))
    states[np.arange(shape[0]), np.arange(shape[0]), shape[1] // 2, shape[2] // 2] = 1
    return states.reshape(shape[0], -1)


def _down_features(layer, features):
    """The same as `_down` for features, which are pooled units where the layer has a pool."""
    hidden = FittedModel(layer).rbm("cpu").hidden
    features = torch.from_numpy(np.ascontiguousarray(features))
    return _down(layer, hidden.mean_of_features(features).numpy())


def _down(layer, states):
    """Weighted sums of the filters of a convolutional layer: (n, n_visible)."""
    model = FittedModel(layer).rbm("cpu", dtype=torch.float64)
    with torch.inference_mode():
        states = torch.from_numpy(np.asarray(states, dtype=np.float64))
        bias = model.visible_field(torch.zeros_like(states[:1]))
        return ((model.visible_field(states) - bias) * layer.temperature).numpy()
