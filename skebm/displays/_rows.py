"""ReconstructionDisplay, SamplesDisplay: rows of a model, as images, lines or heat maps."""

import math
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse

from skebm._sklearn import safe_indexing
from skebm.displays._common import (
    COLORS,
    DIFFERENCES,
    around_zero,
    arrange,
    draw,
    draw_heatmap,
    find,
    grid,
    has,
    heatmap_height,
    is_table,
    laid_out,
    layers_of,
    limits_of,
    names_of_units,
    panels,
    pyplot,
    standardised,
    units_of,
    units_of_result,
)
from skebm.tensors import as_array

TITLES = ("rows", "reconstructions", "differences")


class ReconstructionDisplay:
    """Rows, their reconstructions, and the differences; filled-in entries are marked.

    Make one with :meth:`from_estimator`. The data stay in the attributes.

    Parameters
    ----------
    rows : ndarray
        The rows, with NaN where an entry is missing: (n, height, width) or (n, height, width, 3)
        for images; (n, n_features) for lines or a heat map; (n, length, n_channels) for lines of
        several channels.
    reconstructions : ndarray
        The reconstructions, in the same shape.
    missing : ndarray of bool, default=None
        A mask of the missing entries, in the same shape. None takes the NaN of `rows`.
    kind : {"image", "line", "heatmap"}, default=None
        How rows are drawn. None draws lines if `rows` has two dimensions, else images.
    feature_names : list of str, default=None
        Names of the features, for heat maps.

    Attributes
    ----------
    differences : ndarray
        `reconstructions` minus `rows`; NaN where an entry is missing.
    kind_ : {"image", "line", "heatmap"}
        How rows are drawn.
    ax_ : ndarray of matplotlib Axes
        For images and lines, of shape (3, n): the rows, the reconstructions, and the differences.
        For heat maps, of shape (1, 3): one heat map for each of these.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, ReconstructionDisplay
    >>> X = load_digits().data / 16
    >>> rbm = BernoulliRBM(32, n_iter=2, random_state=0).fit(X)
    >>> holes = np.where(np.arange(64) < 16, np.nan, X[:5])
    >>> display = ReconstructionDisplay.from_estimator(rbm, holes, random_state=0)
    >>> display.ax_.shape, int(display.missing.sum())
    ((3, 5), 80)
    """

    def __init__(
        self,
        rows: np.ndarray,
        reconstructions: np.ndarray,
        *,
        missing: np.ndarray | None = None,
        kind: str | None = None,
        feature_names: list[str] | None = None,
    ):
        self.rows = rows
        self.reconstructions = reconstructions
        self.missing = np.isnan(rows) if missing is None else missing
        self.feature_names = feature_names
        self.differences = np.where(self.missing, np.nan, reconstructions - rows)
        self.kind_ = kind or ("line" if np.ndim(rows) == 2 else "image")

    def plot(self, *, ax: Any = None, cmap: Any = None, missing_color: Any = "tab:orange") -> Self:
        """Draw the rows, the reconstructions and the differences.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw: the grid replaces this Axes. None makes a new figure.
        cmap : str or matplotlib Colormap, default=None
            Colours of rows and reconstructions, which have the same scale. None is "gray" for
            images and "RdBu_r" for heat maps. Differences are drawn in "RdBu_r", with zero in the
            middle.
        missing_color : matplotlib color, default="tab:orange"
            Colour of the missing entries. In the reconstructions it is a transparent layer over
            the values that were filled in; in lines, these values are points.

        Returns
        -------
        display : ReconstructionDisplay
            This object.
        """
        plt = pyplot(self)
        cmap = cmap or COLORS[self.kind_]
        parts = (self.rows, self.reconstructions, self.differences)
        if self.kind_ == "heatmap":
            return self._plot_heatmaps(plt, parts, ax, cmap, missing_color)
        limits = limits_of(self.rows, self.reconstructions)
        scales = [(limits, cmap), (limits, cmap), (around_zero(self.differences), DIFFERENCES)]
        cell, margins = (1.4 if self.kind_ == "line" else 0.9, 1.0), (0.3, 0.05, 0.05, 0.05)
        self.figure_, self.ax_ = grid(plt, ax, 3, len(self.rows), cell=cell, margins=margins)
        for places, values, title, scale in zip(self.ax_, parts, TITLES, scales):
            places[0].set_ylabel(title, fontsize="small")
            for place, value, missing in zip(places, values, self.missing):
                draw(place, value, self.kind_, *scale)
                if self.kind_ == "line":
                    x = np.nonzero(missing)[0]
                    if values is self.reconstructions and len(x):
                        place.plot(x, value[missing], "o", markersize=3, color=missing_color)
                else:
                    alpha = 0.4 if values is self.reconstructions else 1.0
                    missing = missing.any(axis=2) if missing.ndim == 3 else missing
                    _cover(place, missing, missing_color, alpha)
        return self

    def _plot_heatmaps(self, plt, parts, ax, cmap, missing_color):
        size = 4.0, heatmap_height(self.rows.shape[1])
        self.figure_, self.ax_ = panels(plt, ax, 1, 3, cell=size)
        finite = np.where(self.missing, 0, self.rows)
        common = around_zero(np.stack([finite, self.reconstructions]))
        scales = [(common, cmap), (common, cmap), (around_zero(self.differences), DIFFERENCES)]
        for k, (place, values, (limits, colors)) in enumerate(zip(self.ax_.flat, parts, scales)):
            names = self.feature_names if k == 0 else None
            image = draw_heatmap(place, values, names, limits, colors, "row")
            self.figure_.colorbar(image, ax=place)
            _cover(place, self.missing.T, missing_color, 0.4 if k == 1 else 1.0)
            place.set_title(TITLES[k])
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_rows: int = 10,
        kind: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        n_steps: int = 100,
        random_state: Any = None,
        ax: Any = None,
        cmap: Any = None,
        missing_color: Any = "tab:orange",
    ) -> Self:
        """Draw rows of X, and their reconstructions by a fitted estimator.

        The reconstruction of a row is `inverse_transform(transform(row))` of the model. Missing
        entries (NaN) are first filled in by `impute`; the reconstruction shows the values that
        were filled in.

        Parameters
        ----------
        estimator : fitted estimator of this package, or one that contains such an estimator
            Of a Pipeline, the last step that is an RBM or a DBN; the rows pass the steps before it,
            and are drawn as the model gets them. Of a grid search, its best estimator; of a
            network, its stack; of an :class:`RBMImputer`, its RBM.
        X : array-like of shape (n_samples, n_features)
            Rows that the estimator accepts; images for a :class:`ConvRBM`. NaN or None where an
            entry is missing, if the model has `impute`.
        n_rows : int, default=10
            Number of rows of X to draw, from the first on.
        kind, image_shape
            How to draw, as in :meth:`ComponentsDisplay.from_estimator`. For a heat map, features
            are standardised if the model does so; categories are one-hot vectors.
        n_steps : int, default=100
            Sweeps of `impute`.
        random_state : int, RandomState instance or None, default=None
            For `impute`. None continues the random stream of the fit.
        ax, cmap, missing_color
            As in :meth:`plot`.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ValueError
            If X has missing entries and the model has no `impute`, or if `kind` and `image_shape`
            do not suit the rows.
        """
        found = find(
            estimator, has("transform", "inverse_transform"), "a model with `inverse_transform`"
        )
        model = found.model
        first, names = layers_of(model)[0], found.names()
        X = found.rows(safe_indexing(as_array(X), slice(0, n_rows)))
        rows = units_of(first, X)
        missing = np.isnan(rows)
        if missing.any():
            if not hasattr(model, "impute"):
                raise ValueError(
                    f"X has missing entries, and {type(model).__name__} has no `impute`; fill them "
                    "in before, for example with RBMImputer."
                )
            X = model.impute(X, n_steps, random_state=random_state)
        again = units_of_result(first, model.inverse_transform(model.transform(X)))
        if missing.any():
            np.copyto(again, units_of_result(first, X), where=missing)
        chosen, rows, again, missing = _arranged(
            first, (rows, again, missing), kind=kind, image_shape=image_shape, names=names
        )
        display = cls(
            rows,
            again,
            missing=missing,
            kind=chosen,
            feature_names=names_of_units(first, names),
        )
        return display.plot(ax=ax, cmap=cmap, missing_color=missing_color)


class SamplesDisplay:
    """Samples of a model: chains by steps, samples of each class, or any rows, in a grid.

    Make one with :meth:`from_estimator` or :meth:`from_samples`. The data stay in the attributes.

    Parameters
    ----------
    samples : ndarray
        The samples, in the order of the grid: (n_rows, n_columns, height, width) or
        (n_rows, n_columns, height, width, 3) for images; (n_rows, n_columns, n_features) for lines
        or heat maps. A place whose values are all NaN is empty.
    row_names, column_names : list of str, default=None
        Labels of the rows and columns of the grid.
    kind : {"image", "line", "heatmap"}, default=None
        How samples are drawn. None draws lines if `samples` has three dimensions, else images.
    feature_names : list of str, default=None
        Names of the features, for heat maps.

    Attributes
    ----------
    kind_ : {"image", "line", "heatmap"}
        How samples are drawn.
    ax_ : ndarray of matplotlib Axes
        For images and lines, of shape (n_rows, n_columns). For heat maps, of shape (1, n_rows):
        one heat map for each row of the grid.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, SamplesDisplay
    >>> X = load_digits().data > 7
    >>> rbm = BernoulliRBM(32, n_iter=5, random_state=0).fit(X)
    >>> display = SamplesDisplay.from_estimator(
    ...     rbm, n_chains=3, n_steps=100, n_columns=5, random_state=0
    ... )
    >>> display.column_names
    ['step 1', 'step 26', 'step 50', 'step 75', 'step 100']
    """

    def __init__(
        self,
        samples: np.ndarray,
        *,
        row_names: list[str] | None = None,
        column_names: list[str] | None = None,
        kind: str | None = None,
        feature_names: list[str] | None = None,
    ):
        self.samples = samples
        self.row_names = row_names
        self.column_names = column_names
        self.feature_names = feature_names
        self.kind_ = kind or ("line" if np.ndim(samples) == 3 else "image")

    def plot(self, *, ax: Any = None, cmap: Any = None) -> Self:
        """Draw the samples.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw: the grid replaces this Axes. None makes a new figure.
        cmap : str or matplotlib Colormap, default=None
            Colours; None is "gray" for images and "RdBu_r" for heat maps. All samples have the same
            scale.

        Returns
        -------
        display : SamplesDisplay
            This object.
        """
        plt = pyplot(self)
        cmap, (n_rows, n_columns) = cmap or COLORS[self.kind_], self.samples.shape[:2]
        if self.kind_ == "heatmap":
            return self._plot_heatmaps(plt, ax, cmap)
        cell = (1.4, 1.0) if self.kind_ == "line" else (0.8, 0.8)
        margins = (0.8 if self.row_names else 0.05, 0.05, 0.05, 0.3 if self.column_names else 0.05)
        self.figure_, self.ax_ = grid(plt, ax, n_rows, n_columns, cell=cell, margins=margins)
        limits = limits_of(self.samples)
        for places, values in zip(self.ax_, self.samples):
            for place, value in zip(places, values):
                if not np.isnan(value).all():
                    draw(place, value, self.kind_, limits, cmap)
        for place, name in zip(self.ax_[0], self.column_names or ()):
            place.set_title(name, fontsize="small")
        for place, name in zip(self.ax_[:, 0], self.row_names or ()):
            place.set_ylabel(name, fontsize="small", rotation=0, ha="right", va="center")
        return self

    def _plot_heatmaps(self, plt, ax, cmap):
        n_rows, n_columns, n_features = self.samples.shape
        size = max(2.0, 1 + 0.15 * n_columns), heatmap_height(n_features)
        self.figure_, self.ax_ = panels(plt, ax, 1, n_rows, cell=size)
        limits = around_zero(self.samples)
        for k, (place, values) in enumerate(zip(self.ax_.flat, self.samples)):
            names = self.feature_names if k == 0 else None
            xlabel = "" if self.column_names else "sample"
            image = draw_heatmap(place, values, names, limits, cmap, xlabel)
            if self.column_names:
                place.set_xticks(range(n_columns), self.column_names, rotation=90)
            if self.row_names:
                place.set_title(self.row_names[k])
        self.figure_.colorbar(image, ax=list(self.ax_.flat))
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_chains: int = 8,
        n_steps: int = 1000,
        n_columns: int = 10,
        by_class: bool | None = None,
        method: str = "gibbs",
        kind: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
        ax: Any = None,
        cmap: Any = None,
    ) -> Self:
        """Draw samples of a fitted estimator.

        For an RBM, the rows of the grid are chains, and the columns are steps of these chains. For
        a classifier, the rows are classes, and the columns are independent samples of the class.
        A stack has no chains of rows: all `n_chains` times `n_columns` samples are independent.

        Parameters
        ----------
        estimator : fitted estimator of this package, or one that contains such an estimator
            Of a Pipeline, the last step that is an RBM or a DBN; the samples are rows as this model
            gets them. Of a grid search, its best estimator; of a network, its stack.
        n_chains : int, default=8
            Number of rows of the grid, except for classes.
        n_steps : int, default=1000
            Sweeps of each chain.
        n_columns : int, default=10
            Number of columns of the grid. The steps of a chain are evenly spaced from 1 to
            `n_steps`, rounded.
        by_class : bool, default=None
            Whether rows of the grid are classes. None means True if the model is a classifier.
        method : {"gibbs", "pt"}, default="gibbs"
            As in :meth:`BernoulliRBM.sample`.
        kind, image_shape
            How to draw, as in :meth:`ComponentsDisplay.from_estimator`. For heat maps, features
            are standardised if the model does so; categories are one-hot vectors.
        random_state : int, RandomState instance or None, default=None
            None continues the random stream of the fit: each call draws new samples.
        ax, cmap
            As in :meth:`plot`.

        Returns
        -------
        display : SamplesDisplay

        Raises
        ------
        ValueError
            If `by_class` is True and the model is no classifier, or if `kind` and `image_shape`
            do not suit the rows.
        """
        found = find(estimator, has("sample"), "a model with `sample`")
        model = found.model
        first, names = layers_of(model)[0], found.names()
        is_classifier = hasattr(model, "classes_")
        if by_class and not is_classifier:
            raise ValueError(
                f"by_class=True needs a classifier, and {type(model).__name__} has no classes; set "
                "by_class=None."
            )
        row_names, column_names = None, None
        settings = {"method": method, "random_state": random_state}
        if by_class or (by_class is None and is_classifier):
            n_rows, row_names = len(model.classes_), [*map(str, model.classes_)]
            labels = np.repeat(model.classes_, n_columns)
            rows = model.sample(len(labels), n_steps, y=labels, **settings)
            rows = units_of_result(first, rows)
        elif hasattr(model, "sample_chains"):
            steps = np.unique(np.linspace(1, n_steps, n_columns).round().astype(int))
            draws = model.sample_chains(n_chains, n_steps, **settings).draws
            n_rows, rows = n_chains, draws[:, steps - 1].reshape(-1, draws.shape[2])
            row_names = [f"chain {number}" for number in range(n_chains)]
            column_names = [f"step {step}" for step in steps]
        else:
            n_rows, rows = n_chains, model.sample(n_chains * n_columns, n_steps, **settings)
            rows = units_of_result(first, rows)
        chosen, samples = _arranged(first, (rows,), kind=kind, image_shape=image_shape, names=names)
        display = cls(
            samples.reshape(n_rows, -1, *samples.shape[1:]),
            row_names=row_names,
            column_names=column_names,
            kind=chosen,
            feature_names=names_of_units(first, names),
        )
        return display.plot(ax=ax, cmap=cmap)

    @classmethod
    def from_samples(
        cls,
        X: Any,
        *,
        n_columns: int = 10,
        kind: str | None = None,
        image_shape: tuple[int, ...] | None = None,
        ax: Any = None,
        cmap: Any = None,
    ) -> Self:
        """Draw rows of numbers, such as those of `sample`, from left to right.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width), \
                (n_samples, height, width, n_channels) or (n_samples, n_channels, height, width)
            The rows, or images. The channels are the axis with 1 or 3 entries; if both can be
            channels, the last one. Names of a data frame count as names of features.
        n_columns : int, default=10
            Number of columns of the grid.
        kind, image_shape
            How to draw, as in :meth:`ComponentsDisplay.from_estimator`.
        ax, cmap
            As in :meth:`plot`.

        Returns
        -------
        display : SamplesDisplay

        Raises
        ------
        ValueError
            If X has no rows, if it holds anything but numbers, or if `kind` and `image_shape` do
            not suit it.
        """
        columns = [*getattr(X, "columns", ())]
        has_names = bool(columns) and all(isinstance(name, str) for name in columns)
        names = columns if has_names else None
        try:
            values = X.toarray() if issparse(X) else as_array(X)
            values = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                "X has entries that are no numbers; to draw samples of a table, pass the estimator "
                "to SamplesDisplay.from_estimator."
            ) from None
        if values.ndim not in (2, 3, 4) or not values.size:
            raise ValueError(
                f"X must have rows, or images, of numbers; its shape is {values.shape}."
            )
        if values.ndim == 3:
            values = values[..., None]
        elif values.ndim == 4 and values.shape[3] not in (1, 3) and values.shape[1] in (1, 3):
            values = np.moveaxis(values, 1, 3)
        chosen, samples = arrange(values, kind=kind, image_shape=image_shape, names=names)
        width = min(n_columns, len(samples))
        n_rows = math.ceil(len(samples) / width)
        places = np.full((n_rows * width, *samples.shape[1:]), np.nan)
        places[: len(samples)] = samples
        display = cls(
            places.reshape(n_rows, width, *samples.shape[1:]), kind=chosen, feature_names=names
        )
        return display.plot(ax=ax, cmap=cmap)


def _arranged(first, arrays, *, kind, image_shape, names):
    """The kind of picture, and arrays of visible units in the shape in which they are drawn."""
    settings = {"image_shape": image_shape, "names": names, "table": is_table(first)}
    chosen, _ = arrange(laid_out(first, arrays[0]), kind=kind, **settings)
    if chosen == "heatmap":
        arrays = [a if a.dtype == bool else standardised(first, a) for a in arrays]
    return chosen, *(arrange(laid_out(first, a), kind=kind, **settings)[1] for a in arrays)


def _cover(place, missing, color, alpha):
    """Cover the missing entries of an image with a colour."""
    from matplotlib.colors import to_rgba

    if missing.any():
        cover = np.zeros((*missing.shape, 4))
        cover[missing] = to_rgba(color, alpha)
        place.imshow(cover, aspect=place.get_aspect(), interpolation="nearest")
