"""Displays: pictures of a fitted model, in scikit-learn's Display protocol."""

import math
from contextlib import suppress
from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted


class ComponentsDisplay:
    """The weights of each hidden unit, drawn as images side by side.

    Make one with :meth:`from_estimator`; what it drew stays in the attributes.

    Parameters
    ----------
    components : ndarray of shape (n_components, height, width) or \
            (n_components, height, width, 3)
        One image for each hidden unit; three channels are drawn in colour.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes
        One for each place of the grid; the places left over are empty.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, ComponentsDisplay
    >>> X = load_digits().data / 16
    >>> rbm = BernoulliRBM(n_components=12, n_iter=1, random_state=0).fit(X)
    >>> display = ComponentsDisplay.from_estimator(rbm)
    >>> display.ax_.shape
    (3, 4)
    """

    def __init__(self, components: np.ndarray):
        self.components = components

    def plot(self, *, ax: Any = None, n_columns: int | None = None, cmap: Any = "gray") -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw: the grid takes its place. None makes a new figure.
        n_columns : int, default=None
            Width of the grid; None makes it about square.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of one-channel images; each image has its own scale, with zero in the
            middle.

        Returns
        -------
        display : ComponentsDisplay
            This object.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "ComponentsDisplay needs matplotlib; install it with pip install 'skebm[plot]'."
            ) from error

        n = len(self.components)
        columns = n_columns or math.ceil(math.sqrt(n))
        rows = math.ceil(n / columns)
        if ax is None:
            self.figure_ = plt.figure(figsize=(0.8 * columns, 0.8 * rows))
            (left, bottom), (right, top) = (0.02, 0.02), (0.98, 0.98)
        else:
            self.figure_ = ax.figure
            (left, bottom), (right, top) = ax.get_position().get_points()
            ax.set_axis_off()
        edges = {"left": left, "bottom": bottom, "right": right, "top": top}
        grid = self.figure_.add_gridspec(rows, columns, wspace=0.08, hspace=0.08, **edges)
        self.ax_ = grid.subplots(squeeze=False)
        for place in self.ax_.flat:
            place.set_axis_off()
        for place, image in zip(self.ax_.flat, self.components, strict=False):
            limit = np.abs(image).max() or 1.0
            if image.ndim == 3:
                place.imshow((image / limit + 1) / 2)
            else:
                place.imshow(image, cmap=cmap, vmin=-limit, vmax=limit)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        n_components: int | None = None,
        ax: Any = None,
        n_columns: int | None = None,
        cmap: Any = "gray",
    ) -> Self:
        """Draw the components of a fitted estimator.

        Parameters
        ----------
        estimator : estimator with `components_`, or one that contains such an estimator
            The fitted model. Of a Pipeline, the last step that has components; of a grid search
            its best estimator; of a DBN or a network the first layer.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, 3). None takes a square where the number of
            features is a square number, and one row of pixels otherwise. The filters of a
            :class:`ConvRBM` have a shape of their own.
        n_components : int, default=None
            How many to draw, from the first on; None draws all of them.
        ax, n_columns, cmap
            As in :meth:`plot`.

        Returns
        -------
        display : ComponentsDisplay

        Raises
        ------
        ValueError
            If the image shape does not hold as many pixels as there are features.
        """
        estimator = _with_components(estimator)
        components = np.asarray(estimator.components_)[:n_components]
        if components.ndim == 4:  # filters
            n_channels = components.shape[1]
            if n_channels not in (1, 3):
                raise ValueError(
                    f"Filters are drawn that have one channel, or three; these have {n_channels}."
                )
            components = np.moveaxis(components, 1, 3)
            image_shape = components.shape[1 : 4 if n_channels == 3 else 3]
            components = components.reshape(len(components), -1)
        n_features = components.shape[1]
        if image_shape is None:
            side = math.isqrt(n_features)
            image_shape = (side, side) if side**2 == n_features else (1, n_features)
        if math.prod(image_shape) != n_features:
            raise ValueError(
                f"image_shape={image_shape} holds {math.prod(image_shape)} pixels, but the "
                f"estimator has {n_features} features."
            )
        display = cls(components.reshape(len(components), *image_shape))
        return display.plot(ax=ax, n_columns=n_columns, cmap=cmap)


def _with_components(estimator):
    """The estimator with `components_` that a fitted estimator is or contains."""
    for name in ("best_estimator_", "dbn_", "estimator_"):
        if hasattr(estimator, name):
            return _with_components(getattr(estimator, name))
    if hasattr(estimator, "estimators_"):
        return _with_components(estimator.estimators_[0])
    for _, step in reversed(getattr(estimator, "steps", [])):
        with suppress(NotFittedError):
            return _with_components(step)
    check_is_fitted(estimator, "components_")
    return estimator
