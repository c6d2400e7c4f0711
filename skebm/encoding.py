"""Encodings: conversions between the rows of X and the visible units of a model.

    X  ── read ──▶  rows, one number for each unit  ── scaling ──▶  visible units     (tensors)
    X  ◀── present ──  rows  ◀── scaling ──  visible units

An encoding learns its fitted state (numpy arrays and plain Python objects) from the training rows:
`read(reset=True)` learns the columns or the image shape, `fit` learns location and scale.
"""

import math
import re
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import validate_data

from skebm._sklearn import safe_indexing, scale_of_moments
from skebm.engine import devices
from skebm.engine.batches import chunks
from skebm.engine.parallel import current
from skebm.engine.scaling import Scaling
from skebm.engine.units import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Mixed,
    ScaledGaussian,
    Units,
)
from skebm.quantiles import expected, grid_of, log_slopes, on_grid, place, quantile_bins
from skebm.tensors import as_array, as_rows, check_weights, in_double


class Encoding:
    """The plain encoding: the visible units are the features of a row, unchanged."""

    #: Whether entries may be missing (NaN), also in training.
    takes_missing = False
    #: Whether `read` returns NaN where an entry is missing or unknown.
    reads_nan = False
    #: Whether encoded features have variance one; the scale of new weights depends on this.
    is_standardised = False

    def set_input_tags(self, tags):
        """Set scikit-learn's input tags: the kinds of X that `read` accepts."""
        tags.sparse = True

    def load(self, fitted):
        """Copy the fitted state of another encoding of the same class."""
        vars(self).update({name: v for name, v in vars(fitted).items() if name.endswith("_")})

    def keep_weighted(self, X, sample_weight):
        """X and the weights; a subclass may leave out the rows of weight zero."""
        return X, sample_weight

    def read(self, estimator, X, *, reset, allow_nan=False, sample_weight=None):
        """Validate X; return its rows as numbers, with one column for each visible unit."""
        try:
            rows = validate_data(
                estimator,
                as_array(X) if allow_nan else as_rows(X),
                reset=reset,
                accept_sparse=False if allow_nan else "csr",
                dtype=[np.float64, np.float32] if allow_nan else "numeric",
                ensure_all_finite="allow-nan" if allow_nan else True,
            )
        except ValueError as error:
            name = type(estimator).__name__
            if "contains NaN" in str(error):
                raise ValueError(
                    f"X has missing entries (NaN), which {name} does not accept. Fill them in with "
                    "RBMImputer, or use TabularRBM."
                ) from None
            if "could not convert" in str(error):
                columns = _columns(_as_table(X))
                column = next(c for c in columns if c.type is None and len(c.known))
                raise ValueError(
                    f"Column {column.name!r} has the value {column.known[0]!r}, and {name} accepts "
                    "only numbers. Use TabularRBM or CategoricalRBM, or encode such columns."
                ) from None
            raise
        if reset:
            check_same_features(estimator)
        return rows

    def fit(self, rows, sample_weight):
        """Learn the state of `encode` from rows that `read` returned."""
        return self

    def scaling(self, device):
        """The map from rows to rows of the model, and back, on a device."""
        return Scaling()

    def log_volume(self):
        """log |∂rows/∂units|: log p(row) = log p(units) − log_volume."""
        return 0.0

    def error_scale(self, like):
        """What a difference of encoded rows is multiplied by, for errors in the data's units."""
        return 1.0

    def log_of_rows(self, X):
        """What differs from row to row in log p(row) = log p(units) − log_volume + log_of_rows."""
        return 0.0

    def column_of_unit(self, n_visible):
        """The column of X that each visible unit belongs to: (n_visible,)."""
        return np.arange(n_visible)

    def flatten(self, array):
        """Reshape an array that has the shape of X, or of one row of X, to that of rows."""
        return array

    def present(self, rows, given=None):
        """Convert rows to the form that X had in `fit`; entries that `given` has stay."""
        return rows

    def with_conditions(self, conditions, n, n_features):
        """`n` rows in the form of X, with the given entries; the others are missing."""
        rows = self.flatten(np.asarray(as_array(conditions), dtype=np.float64))
        if rows.shape not in ((n_features,), (n, n_features)):
            raise ValueError(
                f"conditions has the shape {rows.shape}; it must be that of a row, "
                f"({n_features},), or of n_samples={n} rows, ({n}, {n_features})."
            )
        return np.broadcast_to(rows, (n, n_features))


class Standardised(Encoding):
    """v = (x − location) / scale, with the means and standard deviations of the training rows.

    Parameters
    ----------
    standardise : bool, default=True
        False keeps the location at 0 and the scale at 1.
    """

    def __init__(self, standardise=True):
        self.is_standardised = standardise

    def fit(self, rows, sample_weight):
        self.location_, self.scale_ = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        if self.is_standardised:
            self.location_, self.scale_ = moments(rows, sample_weight)
        return self

    def scaling(self, device):
        return Scaling(self.location_, self.scale_, device)

    def log_volume(self):
        return float(np.log(self.scale_).sum())

    def error_scale(self, like):
        return torch.tensor(self.scale_).to(like)


class Images(Standardised):
    """Images, given as rows of pixels or as arrays; each channel is standardised.

    Parameters
    ----------
    image_shape : "auto" or tuple of 2 or 3 int
    channels_last : bool
    standardise : bool
    """

    def __init__(self, image_shape="auto", channels_last=True, standardise=True):
        super().__init__(standardise)
        self.image_shape = image_shape
        self.channels_last = channels_last

    def set_input_tags(self, tags):
        super().set_input_tags(tags)
        tags.three_d_array = True

    @property
    def sides(self):
        """Height and width of an image."""
        return self.image_shape_[:2] if self.channels_last else self.image_shape_[1:]

    @property
    def n_channels(self):
        return self.image_shape_[self.channel_axis]

    @property
    def channel_axis(self):
        """The axis of an image that runs over its channels."""
        return 2 if self.channels_last else 0

    def read(self, estimator, X, *, reset, allow_nan=False, sample_weight=None):
        X = np.asarray(X) if isinstance(X, list) else as_rows(X)
        given, shape = None, None
        if getattr(X, "ndim", 2) in (3, 4):
            shape = tuple(X.shape[1:])
            given = self._with_channels(shape)
            X = X.reshape(len(X), math.prod(shape))
        rows = super().read(estimator, X, reset=reset, allow_nan=allow_nan)
        if reset:
            self.image_shape_ = self._shape_of_images(given, rows.shape[1])
            self.input_shape_ = rows.shape[1:] if shape is None else shape
        elif given not in (None, self.image_shape_):
            raise ValueError(
                f"X has images of shape {given}, but {type(estimator).__name__} was fitted to "
                f"images of shape {self.image_shape_}."
            )
        return rows

    def _shape_of_images(self, given, n_features):
        """The shape of an image; `given` is the image shape of X, or None if X has plain rows."""
        if isinstance(self.image_shape, str):
            if given is not None:
                return given
            side = math.isqrt(n_features)
            sides = (side, side) if side**2 == n_features else (1, n_features)
            return self._with_channels(sides)
        shape = self._with_channels(tuple(self.image_shape))
        if len(shape) != 3 or any(not isinstance(n, Integral) or n < 1 for n in shape):
            raise ValueError(
                'image_shape must be "auto" or two or three positive integers; got '
                f"{self.image_shape!r}."
            )
        if given is not None and given != shape:
            raise ValueError(
                f"image_shape={self.image_shape}, but X has images of shape {given}; "
                'set image_shape="auto".'
            )
        if math.prod(shape) != n_features:
            raise ValueError(
                f"image_shape={self.image_shape} has {math.prod(shape)} pixels, but X has "
                f"{n_features} features."
            )
        return shape

    def _with_channels(self, shape):
        if len(shape) != 2:
            return shape
        return (*shape, 1) if self.channels_last else (1, *shape)

    def fit(self, rows, sample_weight):
        self.location_, self.scale_ = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        if self.is_standardised:
            axis = self.channel_axis

            def pixels(rows):
                images = rows.reshape(-1, *self.image_shape_)
                if not self.channels_last:
                    images = images.swapaxes(1, 2).swapaxes(2, 3)
                return images.reshape(-1, self.n_channels)

            def of_pixels(channels):
                image = np.broadcast_to(channels, (*self.sides, self.n_channels))
                return np.moveaxis(image, 2, axis).flatten()

            self.location_, self.scale_ = map(of_pixels, moments(rows, sample_weight, pixels))
        return self

    def flatten(self, array):
        shapes = (self.image_shape_, self.sides) if self.n_channels == 1 else (self.image_shape_,)
        for shape in shapes:
            if array.shape[-len(shape) :] == shape:
                return array.reshape(*array.shape[: -len(shape)], -1)
        return array

    def present(self, rows, given=None):
        return rows.reshape(len(rows), *self.input_shape_)


#: The kinds of units of a table, in their order.
UNIT_KINDS = ("gaussian", "continuous", "bernoulli", "categorical")

#: The kinds of columns. A column that is binned has categorical units and a continuous one.
KINDS = (*UNIT_KINDS, "binned")


class Table(Standardised):
    """Columns of several kinds: a number is one unit, a category column one unit per category.

    Units are grouped by their kinds, in the order of UNIT_KINDS. Columns of the kind "gaussian"
    are standardised. A number of a "binned" column is a bin, one unit per bin, and a position in
    the bin, one more unit; this unit is left out if all bins are atoms.

    Parameters
    ----------
    kinds : "auto", "categorical" or dict
        The kind of all columns, or a dict from names to kinds; other kinds are inferred.
    numbers : {"gaussian", "binned"}
        The inferred kind of numbers.
    n_bins : int
        Bins of a column, at most about so many.
    handle_unknown : {"error", "ignore"}
        "ignore" treats a category that was not seen in `fit` as missing.
    takes_missing : bool
    categories : "auto", list or dict
        The categories of each column; those of columns that a dict does not name are learned.
    """

    reads_nan = True

    def __init__(
        self,
        kinds="auto",
        handle_unknown="error",
        takes_missing=False,
        categories="auto",
        numbers="gaussian",
        n_bins=20,
    ):
        super().__init__()
        self.kinds = kinds
        self.numbers = numbers
        self.n_bins = n_bins
        self.categories = categories
        self.handle_unknown = handle_unknown
        self.takes_missing = takes_missing

    def set_input_tags(self, tags):
        tags.string, tags.allow_nan = True, self.takes_missing
        tags.categorical = self.kinds == "categorical"

    # From columns to rows of numbers

    def keep_weighted(self, X, sample_weight):
        if sample_weight is None:
            return X, None
        sample_weight = check_weights(sample_weight, X)
        kept = np.flatnonzero(sample_weight)
        return safe_indexing(_as_table(X), kept), sample_weight[kept]

    def read(self, estimator, X, *, reset, allow_nan=False, sample_weight=None):
        takes_missing = allow_nan or self.takes_missing
        X = _as_table(X)
        if hasattr(X, "columns"):
            _names(X)
            validate_data(estimator, X, reset=reset, skip_check_array=True)
            if 0 in X.shape:
                raise ValueError(f"X has 0 sample(s) or 0 feature(s): its shape is {X.shape}.")
        else:
            finite = "allow-nan" if takes_missing else True
            X = validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=finite)
        columns = _columns(X)
        if reset:
            check_same_features(estimator)
            columns = _with_common_types(columns)
        for column in columns:
            if column.missing.any() and not takes_missing:
                raise ValueError(
                    f"Column {column.name!r} has missing values (NaN or None), which "
                    f"{type(estimator).__name__} does not accept; use TabularRBM."
                )
        if reset:
            self._learn_columns(X, columns, sample_weight)
        of_unit = self.column_of_unit(0)
        rows = np.empty((len(X), len(of_unit)), dtype=self.row_type_)
        for j, column in enumerate(columns):  # one column after the other: rows may be many
            rows[:, of_unit == j] = self._units_of_column(j, column, may_fill=not reset)
        return rows

    def _learn_columns(self, X, columns, sample_weight):
        """Learn the kinds, categories and types of the columns of all processes."""
        processes = current()
        found = processes.exchange("columns without values", [c.missing.all() for c in columns])
        for column, missing in zip(columns, zip(*found)):
            if all(missing):
                raise ValueError(f"Column {column.name!r} has no value at all; remove it from X.")
        self.names_ = [column.name for column in columns]
        given = self._given_categories(columns)
        self.n_rows_ = processes.total("the number of rows", len(X))
        self.kinds_ = self._kinds_of(columns, given)
        categories = [
            None
            if kind != "categorical"
            else given[column.name]
            if column.name in given
            else _sorted(column.name, column.known)
            for column, kind in zip(columns, self.kinds_)
        ]
        sets = zip(*processes.exchange("categories", categories))
        self.categories_ = [
            None if of_processes[0] is None else _union(name, of_processes)
            for name, of_processes in zip(self.names_, sets)
        ]
        whole = [c.known if c.type in ("int", "time") else np.empty(0) for c in columns]
        values = [numbers.astype(np.int64) for numbers in whole]
        ends = [(int(v.min()), int(v.max())) if len(v) else None for v in values]
        #: Smallest and largest value of columns of integers and of times.
        self.ranges_: list[Any] = [
            _range_of_all(of_processes) for of_processes in zip(*processes.exchange("ranges", ends))
        ]
        #: The bins of columns that are binned, and the grids of their values.
        self.bins_: list[Any] = [None] * len(columns)
        self.grids_: list[Any] = [None] * len(columns)
        for j, column in enumerate(columns):
            if self.kinds_[j] == "binned":
                values, weights = _distinct_values(column, sample_weight)
                self.grids_[j] = grid = grid_of(values)
                values = values.astype(np.float64)
                self.bins_[j] = quantile_bins(
                    values, weights, self.n_bins, grid[1] if grid else 0.0
                )
        self.value_types_ = [column.type for column in columns]
        self.container_ = _container(X)
        types = X.dtypes if hasattr(X, "columns") else [X.dtype] * len(columns)
        types = processes.exchange("types of columns", [_type_of(dtype) for dtype in types])
        types = [_common_type(of_processes) for of_processes in zip(*types)]
        self.column_types_ = [
            _with_categories(name, kind, given.get(name)) for kind, name in zip(types, self.names_)
        ]
        if self.container_ == "array":
            self.column_types_ = [_common_type(self.column_types_)] * len(columns)
        numeric = [column.values.dtype for column in columns if column.values.dtype.kind in "biuf"]
        types = processes.exchange("types of numbers", np.result_type(np.float32, *numeric))
        self.row_type_ = devices.float_type(np.result_type(*types)).name

    def _given_categories(self, columns):
        """The categories that are given, sorted: a dict from names of columns."""
        given = self.categories
        if isinstance(given, str):
            return {}
        if not isinstance(given, dict):
            if len(given) != len(self.names_):
                raise ValueError(
                    f"categories has {len(given)} entries for {len(self.names_)} columns; pass one "
                    "array of categories for each column, or a dict from names to arrays."
                )
            given = dict(zip(self.names_, given))
        unknown = [name for name in given if name not in self.names_]
        if unknown:
            raise ValueError(
                f"categories has the column {unknown[0]!r}, but X has the columns {self.names_}."
            )
        by_name = {column.name: column for column in columns}
        return {name: _distinct(by_name[name], values) for name, values in given.items()}

    def _kinds_of(self, columns, categories):
        """The kind of each column: the given kind, or that of its type."""
        given = {} if isinstance(self.kinds, str) else self.kinds
        by_name = {column.name: column for column in columns}
        for name, kind in given.items():
            if name not in by_name or kind not in KINDS:
                raise ValueError(
                    f"kinds has {name!r}: {kind!r}; it must map names of columns to one of {KINDS}."
                )
            if kind != "categorical" and by_name[name].type is None:
                raise ValueError(
                    f"kinds has {name!r}: {kind!r}, but this column does not contain numbers; "
                    'use "categorical".'
                )
        for name in categories:
            if given.get(name, "categorical") != "categorical":
                raise ValueError(
                    f"Column {name!r} is in categories, but kinds has {name!r}: {given[name]!r}; "
                    "remove it from one of the two."
                )
        given = given | dict.fromkeys(categories, "categorical")
        of_type = {"bool": "bernoulli", None: "categorical"}
        kinds = [given.get(c.name, of_type.get(c.type, self.numbers)) for c in columns]
        kinds = ["categorical"] * len(columns) if self.kinds == "categorical" else kinds
        for column, kind in zip(columns, kinds):
            if column.type == "time" and kind not in ("gaussian", "binned"):
                raise ValueError(
                    f"Column {column.name!r} has times, which cannot be {kind!r}; convert it to "
                    "numbers or strings."
                )
        return kinds

    def _units_of_column(self, j, column, may_fill=True):
        """The units of column j; NaN if an entry is missing or unknown.

        If entries cannot be filled in, since nothing is fitted yet, none may be unknown.
        """
        categories, missing = self.categories_[j], column.missing
        units = np.full((len(missing), sum(self._units_by_kind(j).values())), np.nan)
        if categories is None:
            if column.type is None and len(column.known):
                raise ValueError(
                    f"Column {column.name!r} has the value {column.known[0]!r}, where numbers were "
                    "in `fit`."
                )
            if len(column.known) and (column.type == "time") != (self.value_types_[j] == "time"):
                kinds = "times, where numbers" if column.type == "time" else "numbers, where times"
                raise ValueError(f"Column {column.name!r} has {kinds} were in `fit`; convert it.")
            if self.kinds_[j] == "binned":
                k, position = place(self.bins_[j], column.known.astype(np.float64))
                one_hot = k[:, None] == np.arange(len(self.bins_[j]))
                units[~missing] = np.column_stack([position, one_hot])[:, -units.shape[1] :]
                return units
            units[~missing, 0] = column.known.astype(np.float64)
            if self.kinds_[j] != "gaussian" and ((units < 0) | (units > 1)).any():
                raise ValueError(
                    f"Column {column.name!r} has values outside of [0, 1], but its kind is "
                    f"{self.kinds_[j]!r}; scale it, or pass kinds={{{column.name!r}: "
                    '"gaussian"}.'
                )
            return units
        if not len(column.known):
            return units
        one_hot = self._one_hot(categories, column)
        unknown = one_hot.sum(1) == 0
        may_fill = may_fill or self.takes_missing
        if unknown.any() and not (may_fill and self.handle_unknown == "ignore"):
            first = column.known[unknown].tolist()[0]
            raise ValueError(
                f"Column {column.name!r} has the unknown category {first!r}; "
                + (
                    'set handle_unknown="ignore" to treat such entries as missing.'
                    if may_fill
                    else "in `fit`, categories must have all of its values."
                )
            )
        one_hot[unknown] = np.nan
        units[~missing] = one_hot
        return units

    def _one_hot(self, categories, column):
        """The known entries of a column, with one column for each category."""
        known = column.known
        if categories.dtype.kind == "O":  # entries of other types are unknown categories
            known = known.astype(object)
            alike = {type(category) for category in categories}
            known[[type(value) not in alike for value in known]] = None
        encoder = OneHotEncoder(
            categories=[categories],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=self.row_type_,
        )
        return encoder.fit(categories[:, None]).transform(known[:, None])

    def log_of_rows(self, X):
        # An unknown category has the probability 1 / (n + 1), with n training rows; so has a
        # number that is in no bin.
        total = np.zeros(len(X))
        if self.handle_unknown == "error" and "binned" not in self.kinds_:
            return total.astype(self.row_type_)
        for column, categories, bins in zip(_columns(_as_table(X)), self.categories_, self.bins_):
            unknown = np.zeros(len(column.known), dtype=bool)
            if categories is not None and self.handle_unknown == "ignore" and len(unknown):
                unknown = self._one_hot(categories, column).sum(1) == 0
            elif bins is not None:
                x = column.known.astype(np.float64)
                k, position = place(bins, x)
                unknown = (x < bins[k, 0]) | (x > bins[k, -1])
                total[~column.missing] -= log_slopes(bins, k, position)
            total[~column.missing] -= unknown * np.log1p(self.n_rows_)
        return total.astype(self.row_type_)

    # The units

    def visible_units(self, temperature) -> Units:
        """The visible units of a model of these columns."""
        sizes = {kind: self._sizes(kind) for kind in UNIT_KINDS}
        kinds: dict[str, Units] = {
            "gaussian": ScaledGaussian(torch.zeros(sum(sizes["gaussian"])), temperature),
            "continuous": ContinuousBernoulli(),
            "bernoulli": Bernoulli(),
        }
        if sizes["categorical"]:
            kinds["categorical"] = Categorical(sizes["categorical"])
        parts = [(kinds[kind], sum(sizes[kind])) for kind in UNIT_KINDS if sizes[kind]]
        return parts[0][0] if len(parts) == 1 else Mixed(parts)

    def _units_by_kind(self, j):
        """The number of units of column j of each kind that it has."""
        kind, bins = self.kinds_[j], self.bins_[j]
        if kind == "categorical":
            return {kind: len(self.categories_[j])}
        if kind != "binned":
            return {kind: 1}
        position = {"continuous": 1} if (bins[:, 0] < bins[:, -1]).any() else {}
        return position | {"categorical": len(bins)}

    def _sizes(self, kind):
        """The numbers of units of a kind, of the columns that have some."""
        sizes = (self._units_by_kind(j).get(kind, 0) for j in range(len(self.kinds_)))
        return [size for size in sizes if size]

    def error_scale(self, like):
        return 1.0  # columns of different units have no common error

    def column_of_unit(self, n_visible):
        sizes = [self._units_by_kind(j) for j in range(len(self.kinds_))]
        columns = [
            [j] * of_kind.get(kind, 0) for kind in UNIT_KINDS for j, of_kind in enumerate(sizes)
        ]
        return np.concatenate(columns).astype(int)

    def fit(self, rows, sample_weight):
        self.location_, self.scale_ = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        n = len(self._sizes("gaussian"))
        if n:
            self.location_[:n], self.scale_[:n] = moments(rows[:, :n], sample_weight)
        return self

    def number_of(self, column):
        """The number of a column, given its name; in arrays, names are numbers."""
        if column not in self.names_:
            raise ValueError(f"column={column!r}; the columns are {self.names_}.")
        return self.names_.index(column)

    # And back

    def numbers_of(self, j, part):
        """The means of column j, which has numbers, given those of its units: (n_samples,)."""
        bins, grid = self.bins_[j], self.grids_[j]
        if bins is None:
            whole = self.value_types_[j] in ("int", "time")
            return part[:, 0].astype(np.float64) if whole else part[:, 0]
        shares = part[:, -len(bins) :].astype(np.float64)
        position = part[:, 0] if part.shape[1] > len(bins) else np.full(len(part), 0.5)
        means = expected(bins, shares, position.astype(np.float64))
        if grid is not None:  # a draw, whose bin is certain, lies on the grid
            means = np.where(shares.max(1) == 1, on_grid(grid, means), means)
        return means

    def with_conditions(self, conditions, n, n_features):
        if not isinstance(conditions, dict):
            table = _as_table(conditions)
            if not hasattr(table, "columns"):
                table = np.asarray(table, dtype=object)
                table = np.broadcast_to(table, (n, n_features)) if table.ndim == 1 else table
            take = table.iloc if hasattr(table, "iloc") else table
            conditions = {name: list(take[:, j]) for j, name in enumerate(_names(table))}
        columns = {name: [None] * n for name in self.names_}
        for name, given in conditions.items():
            if name not in columns:
                raise ValueError(
                    f"conditions has the column {name!r}; the columns are {self.names_}."
                )
            values = given if np.ndim(given) else [given] * n
            if len(values) != n:
                raise ValueError(
                    f"conditions has {len(values)} values of column {name!r} for n_samples={n}."
                )
            columns[name] = [None if _is_missing(value) else value for value in values]
        if self.container_ == "array":
            rows = np.empty((n, n_features), dtype=object)
            for j, values in enumerate(columns.values()):
                rows[:, j] = values
            return rows
        import importlib

        return importlib.import_module(self.container_).DataFrame(columns)

    def present(self, rows, given=None):
        rows = as_array(rows)
        unit_columns, columns = self.column_of_unit(rows.shape[1]), []
        of_given = [None] * len(self.names_) if given is None else _columns(_as_table(given))
        for j, (categories, kind) in enumerate(zip(self.categories_, self.value_types_)):
            part = rows[:, unit_columns == j]
            if categories is not None:
                column = categories[part.argmax(1)]
            elif kind == "bool":
                column = self.numbers_of(j, part) > 0.5
            elif kind in ("int", "time"):  # as in `fit`: no value that was not between those seen
                low, high = self.ranges_[j]
                column = np.rint(self.numbers_of(j, part)).clip(low, high).astype(np.int64)
            elif self.kinds_[j] == "bernoulli":
                column = (part[:, 0] > 0.5) * 1.0
            else:
                column = self.numbers_of(j, part)
            known = of_given[j]
            is_number = categories is None and kind in ("int", "float", "time")
            if is_number and known is not None and not known.missing.all():
                # Units do not have all numbers: those that were given are taken as they are.
                numbers = known.values if kind == "float" else known.values.round()
                column = np.where(known.missing, column, numbers).astype(column.dtype)
            if kind == "time":
                column = column.astype(f"{_kind_of_time(self.column_types_[j])}8[us]")
            columns.append(column)
        if self.container_ == "array":
            (dtype,) = set(self.column_types_)
            objects = [column.astype(object) if dtype == "object" else column for column in columns]
            return np.column_stack(objects).astype(dtype, copy=False)
        return _frame(self.container_, self.names_, columns, self.column_types_)


def moments(X, sample_weight, table=lambda rows: rows):
    """Means and standard deviations of the columns of X; a constant column has deviation one.

    `table` may convert each row to several lines; the moments are then those of the lines. Results
    are rounded, so that they do not depend on the order of the rows.
    """
    scaler, n_lines, processes = StandardScaler(), 0, current()
    if sample_weight is not None:  # the tolerance for constant columns grows with their sum
        sums = sample_weight.sum(), len(sample_weight)
        total, n = processes.total("weights", sums)
        sample_weight = sample_weight / (total / n)
    for piece in chunks(X, X.shape[1]):
        rows = X[piece].toarray() if issparse(X) else X[piece]
        weight = np.ones(len(rows)) if sample_weight is None else sample_weight[piece]
        if weight.any():
            lines = table(in_double(rows))
            weight = np.repeat(weight, len(lines) // len(rows))
            with np.errstate(invalid="ignore"):  # the variance of a constant may be just below 0
                scaler.partial_fit(lines, sample_weight=None if sample_weight is None else weight)
            n_lines += int(np.count_nonzero(weight))
    if processes.total("the number of weighted rows", n_lines) < 2:
        raise ValueError(
            "1 sample has no standard deviation: pass at least two samples with a positive weight. "
            "What the first call of `partial_fit` finds holds for all later calls."
        )
    if processes.size > 1:
        mean, scale = _moments_of_all(scaler, processes)
    else:
        mean, scale = as_array(scaler.mean_), as_array(scaler.scale_)
    scale = scale.astype(np.float32).astype(np.float64)
    return np.round(mean / scale * 2**16) / 2**16 * scale, scale


def _moments_of_all(scaler, processes):
    """The means and scales of the rows of all processes, given the scaler of this process.

    mean = Σ_p n_p mean_p / n,    variance = Σ_p n_p (variance_p + (mean_p − mean)²) / n
    """
    of_process = None
    if hasattr(scaler, "mean_"):
        of_process = scaler.n_samples_seen_, scaler.mean_, scaler.var_
    found = [part for part in processes.exchange("moments", of_process) if part is not None]
    n, means, variances = (np.stack(np.broadcast_arrays(*parts)) for parts in zip(*found))
    n = np.broadcast_to(n if n.ndim == 2 else n[:, None], means.shape)  # one for each column
    means, variances = np.where(n > 0, means, 0.0), np.where(n > 0, variances, 0.0)
    mean = (n * means).sum(0) / n.sum(0)
    variance = (n * (variances + np.square(means - mean))).sum(0) / n.sum(0)
    return mean, scale_of_moments(mean, variance, n.sum(0))


def check_same_features(estimator):
    """Raise an error if the processes that train one model have different features."""
    names = list(getattr(estimator, "feature_names_in_", ()))
    features = current().exchange("features", (estimator.n_features_in_, names))
    for rank, (n, others) in enumerate(features):
        if (n, others) != features[0]:
            raise ValueError(
                f"X has {features[0][0]} features in the process of rank 0, {features[0][1]}, and "
                f"{n} in that of rank {rank}, {others}; all processes need rows of the same "
                "features."
            )


# Columns


class Column(NamedTuple):
    """A column of a table."""

    name: Any
    values: np.ndarray  # numbers, or objects; NaN where an entry of numbers is missing
    missing: np.ndarray  # a mask
    type: str | None  # "bool", "int", "float", "time" (microseconds), or None for anything else

    @property
    def known(self):
        """The entries that are not missing."""
        return self.values[~self.missing]


def _as_table(X):
    """X as a data frame or an array; for a list without numbers, an array of objects."""
    X = as_array(X)
    if hasattr(X, "columns") or hasattr(X, "dtype"):
        return X
    array = np.asarray(X)
    return array if array.dtype.kind in "biufc" else np.asarray(X, dtype=object)


def _columns(X):
    """The columns of a data frame (pandas or polars) or array."""
    take = X.iloc if hasattr(X, "iloc") else X
    return [_column(name, take[:, j]) for j, name in enumerate(_names(X))]


def _names(X):
    """The names of the columns; in an array, their numbers."""
    names = list(getattr(X, "columns", range(X.shape[1])))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"X has several columns of the name {twice!r}; rename them.")
    return names


def _column(name, column):
    dtype = column.dtype
    is_category = hasattr(dtype, "categories") and hasattr(dtype, "ordered")
    if _is_time(dtype):
        values = _microseconds(column)
        return Column(name, values, np.isnan(values), "time")
    if is_category or not hasattr(column, "to_numpy"):
        values = np.asarray(column, dtype=object if is_category else None)
    elif getattr(dtype, "kind", "O") in "biuf" and not isinstance(dtype, np.dtype):
        # pandas' types with NA, of numbers or of booleans
        missing = np.asarray(column.isna())
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        values = values if missing.any() else column.to_numpy(dtype=dtype.numpy_dtype)
        return Column(name, values, missing, _NUMBERS[dtype.kind])
    else:
        values = column.to_numpy()
    if values.dtype.kind not in "biufOSUT":
        raise ValueError(f"Column {name!r} is of type {dtype}; convert it to numbers or strings.")
    if values.dtype.kind in "biuf":
        if np.isinf(values).any():
            raise ValueError(f"Column {name!r} has the value infinity; use finite numbers or NaN.")
        whole = str(dtype).lower().startswith(("int", "uint"))  # polars' may come as floats
        kind = "int" if whole else _NUMBERS[values.dtype.kind]
        return Column(name, values, np.isnan(values), kind)
    values = values.astype(object)
    missing = np.array([_is_missing(value) for value in values], dtype=bool)
    kinds: Any = {type(value) for value in values[~missing]}
    if is_category or not all(issubclass(kind, Real | np.bool_) for kind in kinds) or not kinds:
        return Column(name, values, missing, None)
    numbers = np.full(len(values), np.nan)
    numbers[~missing] = values[~missing].astype(np.float64)
    if kinds <= {bool, np.bool_}:
        return Column(name, numbers, missing, "bool")
    whole = all(issubclass(kind, Integral) for kind in kinds)
    return Column(name, numbers, missing, "int" if whole else "float")


def _is_time(dtype):
    """Whether a type is one of dates, times or durations, of numpy, pandas or polars."""
    return getattr(dtype, "kind", "") in ("M", "m") or str(dtype).startswith(("Date", "Duration"))


def _kind_of_time(dtype):
    """numpy's character for durations, "m", or for times, "M"."""
    return "m" if str(dtype).lower().startswith(("timedelta", "duration")) else "M"


def _microseconds(column):
    """Times in microseconds since 1970 (UTC), durations in microseconds; NaN if missing."""
    kind = _kind_of_time(column.dtype)
    times = column.to_numpy() if hasattr(column, "to_numpy") else column
    if times.dtype.kind == "O":  # times of pandas with a zone
        times = column.to_numpy(dtype=f"{kind}8[us]")
    times = times.astype(f"{kind}8[us]")
    return np.where(np.isnat(times), np.nan, times.astype(np.int64))


_NUMBERS = {"b": "bool", "i": "int", "u": "int", "f": "float"}


def _is_missing(value):
    # pandas' NA and NaT are recognised by name, so that pandas need not be imported.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _sorted(name, values):
    """The distinct values of a column."""
    try:
        return np.unique(values)
    except TypeError:
        types = sorted({type(value).__name__ for value in values})
        raise ValueError(
            f"Column {name!r} has values of several types, {types}; convert it to strings."
        ) from None


def _union(name, categories):
    """The categories of all processes, given those of each."""
    known = [values for values in categories if len(values)]
    return _sorted(name, np.concatenate(known))


def _distinct_values(column, sample_weight):
    """The distinct values of a column of all processes, sorted, and the sums of their weights."""
    known = column.known
    weights = np.ones(len(known)) if sample_weight is None else sample_weight[~column.missing]
    values, index = np.unique(known, return_inverse=True)
    pair = values, np.bincount(index, weights, minlength=len(values))
    values, weights = (np.concatenate(p) for p in zip(*current().exchange("quantiles", pair)))
    values, index = np.unique(values, return_inverse=True)
    return values, np.bincount(index, weights)


def _range_of_all(ranges):
    """The smallest and the largest number, given the ranges of the processes (or None)."""
    known = [pair for pair in ranges if pair is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _with_common_types(columns):
    """The columns with the types that they have in all processes; "float" if some have "int"."""
    own = [None if column.missing.all() else (column.type,) for column in columns]
    common = []
    for column, found in zip(columns, zip(*current().exchange("types of values", own))):
        types = {kind[0] for kind in found if kind is not None}
        if types == {"int", "float"}:
            types = {"float"}
        if len(types) > 1:
            raise ValueError(
                f"Column {column.name!r} has different types in the processes, "
                f"{sorted(map(str, types))}; convert it to one type."
            )
        common.append(column._replace(type=types.pop() if types else column.type))
    return common


def _common_type(types):
    """The type of a column, given its types in the processes."""
    first = types[0]
    if isinstance(first, dict) and all(isinstance(kind, dict) for kind in types):
        added = [c for kind in types for c in kind["categories"] if c not in first["categories"]]
        return first | {"categories": np.array([*first["categories"], *dict.fromkeys(added)])}
    if len({str(kind) for kind in types}) == 1:
        return first
    try:
        return str(np.result_type(*types))
    except TypeError:
        return first


def _distinct(column, values):
    """The categories that are given for a column, sorted."""
    values = list(values)
    if not values or any(isinstance(v, list | tuple | np.ndarray) for v in values):
        raise ValueError(f"categories of column {column.name!r} must be a list; got {values!r}.")
    if any(map(_is_missing, values)):
        raise ValueError(f"categories of column {column.name!r} have a missing value; remove it.")
    are_strings = {isinstance(value, str) for value in values}
    if len(are_strings) > 1 or (column.type is not None and are_strings == {True}):
        raise ValueError(
            f"categories of column {column.name!r} must have the type of its values; got "
            f"{values!r}."
        )
    distinct = _sorted(column.name, np.asarray(values))
    if len(distinct) < len(values):
        raise ValueError(
            f"categories of column {column.name!r} must be different values; got {values!r}."
        )
    return distinct


def _with_categories(name, kind, categories):
    """The type of a column that may have these categories, too."""
    if categories is None:
        return kind
    if isinstance(kind, dict):
        return _common_type([kind, kind | {"categories": categories}])
    try:
        dtype, of_numpy = np.dtype(kind), True
    except TypeError:  # "Int8" is a type of pandas and of polars
        of_numpy = False
        try:
            dtype = np.dtype("bool" if kind == "boolean" else kind.lower())
        except TypeError:
            return kind
    if dtype.kind == "O" or (categories.astype(dtype) == categories).all():
        return kind
    if not of_numpy:
        raise ValueError(
            f"Column {name!r} has the type {kind}, which cannot hold all of its categories, "
            f"{categories.tolist()}; convert it."
        )
    return str(np.result_type(dtype, categories.dtype))


def _container(X):
    """The kind of table: "pandas", "polars" or "array"."""
    return type(X).__module__.split(".")[0] if hasattr(X, "columns") else "array"


def _type_of(dtype):
    """The type of a column, as a plain Python object."""
    if hasattr(dtype, "categories") and hasattr(dtype, "ordered"):
        return {"categories": np.asarray(dtype.categories), "ordered": bool(dtype.ordered)}
    return str(dtype)


def _frame(container, names, columns, types):
    """A data frame with columns of these types."""
    if container == "polars":
        import polars as pl  # X was such a data frame

        def polars_series(name, column, kind):
            if column.dtype.kind not in "Mm":
                return pl.Series(name, list(column), dtype=getattr(pl, kind, None))
            words = re.findall("='([^']*)'", kind)  # the unit and the zone
            return pl.Series(name, column).cast(getattr(pl, kind.split("(")[0])(*words))

        return pl.DataFrame(list(map(polars_series, names, columns, types)))
    import pandas as pd

    def typed(column, kind):
        if isinstance(kind, dict):
            return pd.Categorical(column, categories=kind["categories"], ordered=kind["ordered"])
        if column.dtype.kind == "M" and ("tz=" in kind or ", " in kind):  # a type with a zone
            return pd.Series(column).dt.tz_localize("UTC").astype(kind)
        return pd.Series(column.astype(object) if kind == "object" else column).astype(kind)

    series = [pd.Series(typed(column, t), name=n) for n, column, t in zip(names, columns, types)]
    return pd.concat(series, axis=1)
