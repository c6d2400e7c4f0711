"""Restricted Boltzmann machines of tables: columns of categories, and of several types.

A column becomes visible units: one of a number, one for each category otherwise. Columns of one
kind stand together, numbers first.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import validate_data

from skebm._shared import estimator
from skebm._sklearn import Interval, StrOptions, check_sample_weight, safe_indexing
from skebm.base import as_array
from skebm.engine import devices
from skebm.engine.noise import Noise
from skebm.engine.units import Bernoulli, Categorical, ContinuousBernoulli, Gaussian, Mixed, Units
from skebm.rbm import HIDDEN, ScaledRBM, moments

#: The kinds of columns, in the order in which their units stand.
KINDS = ("gaussian", "continuous", "bernoulli", "categorical")


@estimator
class BaseTableRBM(ScaledRBM):
    """What models of columns share: the way from columns to visible units and back."""

    handle_unknown: str = "error"
    hidden: str = "bernoulli"

    _parameter_constraints = {
        **ScaledRBM._parameter_constraints,
        "handle_unknown": [StrOptions({"error", "ignore"})],
        "hidden": [StrOptions(set(HIDDEN))],
    }

    def _kinds(self, columns, names):
        """The kind of each column."""
        raise NotImplementedError

    def _units(self):
        sizes = self._sizes("categorical")
        kinds: dict[str, Units] = {
            "gaussian": Gaussian(self.temperature),
            "continuous": ContinuousBernoulli(),
            "bernoulli": Bernoulli(),
        }
        if sizes:
            kinds["categorical"] = Categorical(sizes)
        parts = [(kinds[kind], sum(self._sizes(kind))) for kind in KINDS if self._sizes(kind)]
        visible = parts[0][0] if len(parts) == 1 else Mixed(parts)
        return visible, HIDDEN[self.hidden](self.temperature)

    def _sizes(self, kind):
        """The numbers of units of the columns of a kind."""
        of_kind = (c for c, k in zip(self.categories_, self.kinds_) if k == kind)
        return [1 if categories is None else len(categories) for categories in of_kind]

    def _layout(self):
        """Columns in the order of their units."""
        return [j for kind in KINDS for j, k in enumerate(self.kinds_) if k == kind]

    def _column_of_unit(self):
        sizes = [1 if c is None else len(c) for c in self.categories_]
        return np.concatenate([np.full(sizes[j], j) for j in self._layout()])

    # From columns to units

    def _validate_rows(self, X, *, reset, allow_nan=False):
        takes_missing = allow_nan or self._n_sweeps is not None
        if hasattr(X, "iloc"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if 0 in X.shape:
                raise ValueError(f"Found array with 0 sample(s) or 0 feature(s): {X.shape}.")
        else:
            X = _as_table(X)
            finite = "allow-nan" if takes_missing else True
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=finite)
        names = list(getattr(X, "columns", range(X.shape[1])))
        columns, missing = zip(*(_column(X, j) for j in range(X.shape[1])))
        for name, holes in zip(names, missing):
            if holes.any() and not takes_missing:
                raise ValueError(
                    f"Column {name!r} has missing values (NaN or None), which "
                    f"{type(self).__name__} does not take; use TabularRBM."
                )
        if reset:
            self._look_at(X, columns, missing, names)
        rows = self._to_units(columns, missing, names)
        if not allow_nan and not reset and np.isnan(rows).any():
            # Missing and unknown entries, as they are expected given the others.
            noise = Noise(0, devices.resolve(self.device, fall_back=True), alike=True)
            rows = self._fill(rows, noise, n_steps=50, method="mean")
        return rows

    def _validate_training(self, X, sample_weight, *, reset, allow_nan):
        if sample_weight is not None:  # rows of weight zero have no categories to add
            sample_weight = check_sample_weight(sample_weight, X, ensure_non_negative=True)
            kept = np.flatnonzero(sample_weight)
            X, sample_weight = safe_indexing(_as_table(X), kept), sample_weight[kept]
        return super()._validate_training(X, sample_weight, reset=reset, allow_nan=allow_nan)

    def _look_at(self, X, columns, missing, names):
        """Find kinds, categories and types of the columns."""
        for name, column, holes in zip(names, columns, missing):
            if holes.all():
                raise ValueError(f"Column {name!r} has no value at all; leave it out.")
            if column.dtype.kind in "mM":
                raise ValueError(
                    f"Column {name!r} is of type {column.dtype}; make numbers or categories of it."
                )
        values = [column[~holes] for column, holes in zip(columns, missing)]
        self.kinds_ = self._kinds(values, names)
        self.categories_ = [
            np.unique(column) if kind == "categorical" else None
            for column, kind in zip(values, self.kinds_)
        ]
        self.column_types_ = [_type_of(t) for t in X.dtypes] if hasattr(X, "iloc") else None
        numeric = [column.dtype for column in columns if column.dtype.kind in "biuf"]
        self.row_type_ = devices.float_type(np.result_type(np.float32, *numeric)).name

    def _to_units(self, columns, missing, names):
        """Rows of visible units, (n, n_visible), NaN where a value is missing or unknown."""
        parts = []
        for j in self._layout():
            column, holes, categories = columns[j], missing[j], self.categories_[j]
            if categories is None:
                part = np.full(len(column), np.nan)
                part[~holes] = column[~holes].astype(np.float64)
                if self.kinds_[j] != "gaussian" and ((part < 0) | (part > 1)).any():
                    raise ValueError(f"Column {names[j]!r} has values outside of [0, 1].")
                parts.append(part[:, None])
                continue
            known = ~holes
            code = np.zeros(len(column), dtype=np.intp)
            code[known] = np.searchsorted(categories, column[known]).clip(max=len(categories) - 1)
            known[known] = categories[code[known]] == column[known]
            unknown = ~known & ~holes
            if unknown.any() and self.handle_unknown == "error":
                raise ValueError(
                    f"Column {names[j]!r} has the unknown category {column[unknown][0]!r}; "
                    'handle_unknown="ignore" takes such entries for missing.'
                )
            part = np.zeros((len(column), len(categories)))
            part[np.arange(len(column)), code] = 1
            part[~known] = np.nan
            parts.append(part)
        return np.hstack(parts).astype(self.row_type_)

    # And back

    def _present(self, rows):
        columns, unit_columns = [], self._column_of_unit()
        for j, (kind, categories) in enumerate(zip(self.kinds_, self.categories_)):
            part = rows[:, unit_columns == j]
            if categories is not None:
                columns.append(categories[part.argmax(1)])
            else:
                columns.append(part[:, 0] if kind != "bernoulli" else (part[:, 0] > 0.5) * 1.0)
        if self.column_types_ is None:
            return np.column_stack(columns)
        import pandas as pd  # X was a data frame

        names = getattr(self, "feature_names_in_", range(self.n_features_in_))
        typed = [_as_type(pd, column, t) for column, t in zip(columns, self.column_types_)]
        return pd.concat([pd.Series(c, name=name) for c, name in zip(typed, names)], axis=1)

    # Numbers

    def _prepare(self, X, sample_weight):
        n = len(self._sizes("gaussian"))
        location, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if n:
            location[:n], scale[:n] = moments(X[:, :n], sample_weight)
        return {"location_": location, "scale_": scale}

    def _n_scaled(self, n_visible):
        return len(self._sizes("gaussian"))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = self._n_sweeps is not None
        tags.input_tags.string = True
        return tags


def _as_table(X):
    """X as a data frame or an array; of objects, if it was not one and has no numbers."""
    X = as_array(X)
    if hasattr(X, "iloc") or hasattr(X, "dtype"):
        return X
    array = np.asarray(X)
    return array if array.dtype.kind in "biufc" else np.asarray(X, dtype=object)


def _column(X, j):
    """A column as an array of numbers or objects, and where it has no value."""
    column = X.iloc[:, j].to_numpy() if hasattr(X, "iloc") else X[:, j]
    if column.dtype.kind == "f":
        if np.isinf(column).any():
            raise ValueError(f"Column {j} of X contains infinity; it takes numbers or NaN.")
        return column, np.isnan(column)
    if column.dtype.kind not in "OSU":
        return column, np.zeros(len(column), dtype=bool)
    column = column.astype(object)
    missing = np.array([_is_missing(value) for value in column], dtype=bool)
    values = column[~missing]
    kinds = {type(value) for value in values}
    if kinds <= {bool, np.bool_} or all(issubclass(kind, Real) for kind in kinds):
        numbers = np.full(len(column), np.nan)
        numbers[~missing] = values.astype(np.float64)
        return numbers, missing
    return column, missing


def _is_missing(value):
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _type_of(dtype):
    """The type of a column of a data frame, in plain Python."""
    if hasattr(dtype, "categories"):
        return {"categories": np.asarray(dtype.categories), "ordered": bool(dtype.ordered)}
    return str(dtype)


def _as_type(pd, column, kind):
    """A column in the type that it had in the data frame."""
    if isinstance(kind, dict):
        return pd.Categorical(column, categories=kind["categories"], ordered=kind["ordered"])
    if "int" in kind.lower():
        limits = np.iinfo(kind.lower())
        column = np.rint(column.astype(np.float64)).clip(limits.min, limits.max)
    elif kind == "object" and column.dtype.kind == "f":
        column = column.astype(object)
    return pd.Series(column).astype(kind)


@estimator
class CategoricalRBM(BaseTableRBM):
    """Restricted Boltzmann machine of categories.

    A column of K categories is a group of K visible units of which exactly one is on. With these
    units as v, the joint law of a row and its hidden units is p(v, h) = exp(−E(v, h)) / Z ::

        E(v, h)    = −v·b − h·c − h·W v
        P(h_j = 1 | v) = σ(c_j + W_j·v)                     the features that `transform` gives
        P(v_k = 1 | h) = softmax of b + h·W in each group
        F(v)       = −v·b − Σ_j softplus(c_j + W_j·v),      log p(v) = −F(v) − log Z

    This is the model of the ratings of a user in [1]_, without missing ones. Rows go in, and come
    out of `sample`, `gibbs`, `impute` and `inverse_transform` (the likeliest category), as
    categories: integers, strings, whatever can be sorted.

    Parameters
    ----------
    n_components : int, default=256
        Number of hidden units.
    learning_rate : float, default=0.1
        Step along the mean gradient of a batch.
    batch_size : int, default=10
        Rows in a batch.
    n_iter : int, default=10
        Number of epochs.
    %(training)s
    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that was not there in `fit`: "ignore" takes the entry for
        missing and fills in what is expected given the others.
    hidden : {"bernoulli", "spin", "relu", "nrelu"}, default="bernoulli"
        As in :class:`BernoulliRBM`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_visible)
        Weights W; the columns of units stand in the order of features and categories.
    intercept_visible_ : ndarray of shape (n_visible,)
        Visible biases b.
    categories_ : list of ndarrays
        The categories of each feature, sorted.
    kinds_ : list of str
        "categorical" for each feature.
    column_types_ : list or None
        Types of the columns, where X was a data frame.
    row_type_ : str
        In which type visible units are computed.
    location_ : ndarray of shape (n_visible,)
        Zeros.
    scale_ : ndarray of shape (n_visible,)
        Ones.
    %(fitted)s

    See Also
    --------
    TabularRBM : For columns of different types, and missing values.

    References
    ----------
    .. [1] R. Salakhutdinov, A. Mnih, G. E. Hinton (2007). Restricted Boltzmann machines for
       collaborative filtering. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import CategoricalRBM
    >>> suits = np.array([["hearts", "red"], ["spades", "black"], ["clubs", "black"]] * 30)
    >>> rbm = CategoricalRBM(8, n_iter=100, random_state=0).fit(suits)
    >>> rbm.impute(np.array([["hearts", None]], dtype=object), random_state=0)
    array([['hearts', 'red']], dtype=object)
    """

    def _kinds(self, columns, names):
        return ["categorical"] * len(columns)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        return tags


@estimator
class TabularRBM(BaseTableRBM):
    """Restricted Boltzmann machine of a table with columns of different types.

    Every column has the units that its values ask for, all with the same hidden units [1]_ ::

        "gaussian"     numbers: v = (x − location)/σ, p(v | h) = N(f, 1), with σ learned
        "continuous"   numbers that fill [0, 1]: p(v | h) ∝ exp(v f)
        "bernoulli"    booleans, and numbers that are 0 or 1: P(v = 1 | h) = σ(f)
        "categorical"  anything else: one unit a category, softmax of f

    where f = b + h·W, and P(h_j = 1 | v) = σ(c_j + W_j·v) are the features that `transform`
    gives. Missing entries (NaN, None, pandas' NA) are allowed everywhere. In training they are the
    state of a Gibbs chain, as in :class:`RBMImputer`; `transform` and `score_samples` fill in what
    is expected given the others, the same for a row whatever other rows there are.

    Rows come out of `sample`, `gibbs`, `impute` and `inverse_transform` as they went in: of a data
    frame as a data frame with the same columns and types.

    Parameters
    ----------
    n_components : int, default=256
        Number of hidden units.
    learning_rate : float, default=0.1
        Step along the mean gradient of a batch.
    batch_size : int, default=50
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs. None makes as many as 5000 updates take, at least 20 and at most 500.
    %(training)s
    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that was not there in `fit`: "ignore" takes it for missing.
    hidden : {"bernoulli", "spin", "relu", "nrelu"}, default="bernoulli"
        As in :class:`BernoulliRBM`.
    kinds : "auto" or dict, default="auto"
        The kinds of columns, by name (or number), where they are not to be inferred.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_visible)
        Weights W. Units stand in the order of the kinds above, and of columns in each.
    intercept_visible_ : ndarray of shape (n_visible,)
        Visible biases b.
    kinds_ : list of str
        The kind of each column.
    categories_ : list of ndarrays or None
        The categories of each column that has some, sorted.
    column_types_ : list or None
        Types of the columns, where X was a data frame.
    row_type_ : str
        In which type visible units are computed.
    location_ : ndarray of shape (n_visible,)
        Means of numbers in training, zero for other units.
    scale_ : ndarray of shape (n_visible,)
        Their standard deviations, one for other units.
    log_scales_ : ndarray of shape (n_gaussian,)
        log (σ / scale) of the numbers.
    %(fitted)s

    See Also
    --------
    CategoricalRBM : For categories alone.
    GaussianRBM : For numbers alone.

    Notes
    -----
    `score_samples` is a log-likelihood, of numbers a density, with log Z from annealed importance
    sampling; of rows with missing entries it is that of the filled row. `sample_chains` gives
    visible units, not columns. Training that goes on starts new chains of missing entries.

    References
    ----------
    .. [1] M. Welling, M. Rosen-Zvi, G. E. Hinton (2005). Exponential family harmoniums with
       an application to information retrieval. NIPS 17.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skebm import TabularRBM
    >>> rng = np.random.default_rng(0)
    >>> ripe = rng.uniform(size=300) < 0.5
    >>> fruit = pd.DataFrame({
    ...     "colour": np.where(ripe, "red", "green"),
    ...     "sugar": np.where(ripe, 14.0, 6.0) + rng.normal(size=300),
    ...     "soft": ripe,
    ... })
    >>> rbm = TabularRBM(16, random_state=0).fit(fruit)
    >>> drawn = rbm.sample(200, random_state=0)
    >>> drawn.dtypes.equals(fruit.dtypes)
    True
    >>> bool(((drawn.colour == "red") == (drawn.sugar > 10)).mean() > 0.9)
    True
    """

    batch_size: int = 50
    n_iter: int | None = None
    max_grad_norm: float | None = 10.0
    learning_rate_schedule: str = "linear"
    kinds: str | dict = "auto"

    _parameter_constraints = {
        **BaseTableRBM._parameter_constraints,
        "n_iter": [Interval(Integral, 0, None, closed="left"), None],
        "kinds": [StrOptions({"auto"}), dict],
    }
    _epochs = (5000, 20, 500)
    _n_sweeps = 1

    def _kinds(self, columns, names):
        given = {} if isinstance(self.kinds, str) else self.kinds
        for name, kind in given.items():
            if name not in names or kind not in KINDS:
                raise ValueError(
                    f"kinds has {name!r}: {kind!r}; it takes names of columns to one of {KINDS}."
                )
        found = [given.get(name, _kind_of(column)) for name, column in zip(names, columns)]
        for name, column, kind in zip(names, columns, found):
            if kind != "categorical" and column.dtype.kind == "O":
                raise ValueError(f"kinds has {name!r}: {kind!r}, but the column has no numbers.")
        return found


def _kind_of(column):
    """The kind that the values of a column ask for."""
    if column.dtype.kind == "O":
        return "categorical"
    if np.isin(column, (0, 1)).all():
        return "bernoulli"
    low, high = column.min(), column.max()
    return "continuous" if low >= 0 and high <= 1 and high - low > 0.5 else "gaussian"
