"""Restricted Boltzmann machines of tables: columns of categories, and of several kinds."""

from typing import Literal

import numpy as np

from skebm._shared import (
    ArrayLike,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    Unvalidated,
    estimator,
    validated,
)
from skebm.base import BaseRBM, OfEncoding
from skebm.encoding import Table
from skebm.fitted import FittedModel
from skebm.fitting import RateSchedule
from skebm.rbm import Hidden, hidden_units


@estimator
class CategoricalRBM(BaseRBM):
    """Restricted Boltzmann machine of categories.

    A column of K categories is a group of K visible units of which exactly one is on. With these
    units as v, a row and its hidden units have the distribution p(v, h) = exp(−E(v, h)) / Z ::

        E(v, h)    = −v·b − h·c − h·W v
        P(h_j = 1 | v) = σ(c_j + W_j·v)                     the features that `transform` gives
        P(v_k = 1 | h) = softmax of b + h·W in each group
        F(v)       = −v·b − Σ_j softplus(c_j + W_j·v),      log p(v) = −F(v) − log Z

    This is the model of a user's ratings in [1]_, without missing ratings. The rows of X, and
    those that `sample`, `gibbs`, `impute` and `inverse_transform` (the most likely category)
    return, are categories: integers, strings or other values that can be sorted.

    Parameters
    ----------
    n_components : int or "auto", default=256
        Number of hidden units. "auto" is a tenth of the number of rows, at least 16 and at most
        256.
    learning_rate : float, default=0.1
        Step along the mean gradient of a batch.
    batch_size : int, default=10
        Rows in a batch.
    n_iter : int or None, default=10
        Number of epochs. None makes as many as 2000 updates take, at least 20 and at most 100.
    %(training)s
    handle_unknown : {"error", "ignore"}, default="error"
        How to handle a category that was not seen in `fit`: "ignore" treats the entry as missing
        and fills in its mean given the other entries; likelihoods then take 1 / (n + 1) for its
        probability, where n is the number of training rows.
    categories : "auto" or list or dict, default="auto"
        Categories of the columns: a list with an array for each column, or a dict from names (or
        numbers) of columns to arrays. "auto" takes those of the training rows. Categories that no
        training row has get a small probability, whose bias starts at log 0.001.
    hidden : {"bernoulli", "spin", "relu", "nrelu", "drelu"}, default="bernoulli"
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
    column_types_ : list
        Types of the columns.
    row_type_ : str
        In which type visible units are computed.
    location_ : ndarray of shape (n_visible,)
        Zeros.
    scale_ : ndarray of shape (n_visible,)
        Ones.
    gamma_plus_, gamma_minus_, theta_plus_, theta_minus_ : ndarray of shape (n_components,)
        Parameters of the hidden units, if `hidden` is "drelu".
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
    array([['hearts', 'red']], dtype='<U6')
    """

    handle_unknown: Literal["error", "ignore"] = "error"
    categories: Literal["auto"] | list | dict = "auto"
    hidden: Hidden | Literal["drelu"] = "bernoulli"

    categories_ = OfEncoding()
    kinds_ = OfEncoding()
    column_types_ = OfEncoding()
    row_type_ = OfEncoding()
    location_ = OfEncoding()
    scale_ = OfEncoding()

    @validated
    def conditional_proba(
        self,
        X: ArrayLike,
        column: Unvalidated,
        n_steps: PositiveInt = 100,
        *,
        random_state: Seed = 0,
    ) -> np.ndarray:
        """Probabilities of the categories of one column, given the other entries of each row.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Entries of the column itself are not used; others may be missing.
        column : str or int
            The name of a column of categories or booleans; in an array, its number.
        n_steps : int, default=100
            Sweeps of Gibbs sampling. The result is an average over the second half of them.
        random_state : int, RandomState instance or None, default=0
            None continues the random stream of the fit.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_categories)
            In the order of `categories_` of this column; of booleans, False and True.

        Raises
        ------
        ValueError
            If there is no such column, or if it is one of numbers.
        """
        fitted = FittedModel(self)
        j = fitted.encoding.number_of(column)
        if self.kinds_[j] not in ("bernoulli", "categorical"):
            raise ValueError(f"Column {column!r} has numbers; use conditional_mean.")
        part = self._conditional(fitted, X, j, n_steps, random_state)
        return np.hstack([1 - part, part]) if self.kinds_[j] == "bernoulli" else part

    @validated
    def conditional_mean(
        self,
        X: ArrayLike,
        column: Unvalidated,
        n_steps: PositiveInt = 100,
        *,
        random_state: Seed = 0,
    ) -> np.ndarray:
        """Expected values of one column of numbers, given the other entries of each row.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Entries of the column itself are not used; others may be missing.
        column : str or int
            The name of a column of numbers, of booleans or of categories that are numbers, as
            ratings are; in an array, its number.
        n_steps : int, default=100
            Sweeps of Gibbs sampling. The result is an average over the second half of them.
        random_state : int, RandomState instance or None, default=0
            None continues the random stream of the fit.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            It is not rounded, also for integers.

        Raises
        ------
        ValueError
            If there is no such column, or if its categories are not numbers.
        """
        fitted = FittedModel(self)
        j = fitted.encoding.number_of(column)
        categories = self.categories_[j]
        if categories is not None and categories.dtype.kind not in "biuf":
            raise ValueError(
                f"Column {column!r} has categories that are not numbers; use conditional_proba."
            )
        part = self._conditional(fitted, X, j, n_steps, random_state)
        if categories is None:
            return fitted.encoding.numbers_of(j, part)
        return part @ categories.astype(np.float64)

    def _conditional(self, fitted, X, j, n_steps, random_state):
        """The means of the units of column j, given the other entries of each row."""
        rows = fitted.read(X, allow_nan=True)
        of_column = fitted.encoding.column_of_unit(rows.shape[1]) == j
        rows = np.where(of_column, np.nan, rows)
        filled = fitted.fill(rows, self._noise(random_state), n_steps=n_steps)
        return filled[:, of_column].astype(np.float64)

    def _encoding(self):
        return Table("categorical", self.handle_unknown, categories=self.categories)

    def _units(self):
        return self.encoding_.visible_units(self.temperature), hidden_units(self)


@estimator
class TabularRBM(CategoricalRBM):
    """Restricted Boltzmann machine of a table with columns of different types.

    Each column has visible units of one kind; all columns share the hidden units [1]_ ::

        "gaussian"     numbers: v = (x − location)/σ, p(v | h) = N(f, 1), with σ learned
        "binned"       numbers: a bin, softmax of f, and a position in it, p(u | h) ∝ exp(u f)
        "continuous"   numbers in [0, 1], if `kinds` says so: p(v | h) ∝ exp(v f)
        "bernoulli"    booleans: P(v = 1 | h) = σ(f)
        "categorical"  anything else: one unit a category, softmax of f

    where f = b + h·W, and P(h_j = 1 | v) = σ(c_j + W_j·v) are the features that `transform`
    gives. The bins are those of the quantiles of the training rows; x = Q(u), the quantile function
    of the bin. So the samples of a column have any distribution that the training rows have: values
    that are common (each of them is a bin), gaps, several modes, long tails, steps and decimals.

    Dates, times and durations are numbers. Missing entries (NaN, None, pandas' NA) are allowed in
    all methods. In training they are the state of a Gibbs chain or, with `gradient="cd"`, left out,
    as in :class:`RBMImputer`; `transform` and `score_samples` fill in means given the other
    entries. The result for a row does not depend on other rows.

    `sample`, `gibbs`, `impute` and `inverse_transform` return rows in the form of X in `fit`: for
    a data frame (pandas or polars), a data frame with the same columns and types. Integers are
    rounded, and stay between the smallest and the largest integer in `fit`.

    Parameters
    ----------
    n_components : int or "auto", default=256
        Number of hidden units. "auto" is a tenth of the number of rows, at least 16 and at most
        256.
    learning_rate : float, default=0.1
        Step along the mean gradient of a batch.
    batch_size : int, default=50
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs. None makes as many as 5000 updates take, at least 20 and at most 500.
    %(training)s
    handle_unknown : {"error", "ignore"}, default="error"
        How to handle a category that was not seen in `fit`, as in :class:`CategoricalRBM`.
    categories : "auto" or list or dict, default="auto"
        As in :class:`CategoricalRBM`; the columns of a dict are categorical.
    hidden : {"bernoulli", "spin", "relu", "nrelu"}, default="bernoulli"
        As in :class:`BernoulliRBM`.
    kinds : "auto" or dict, default="auto"
        A dict from names (or numbers) of columns to their kinds; the kind of other columns
        follows from their type. Numbers that are 0 or 1 may be declared as "bernoulli", numbers
        that stand for categories as "categorical".
    numbers : {"gaussian", "binned"}, default="gaussian"
        The kind of the columns of numbers that `kinds` does not name. "gaussian" has few units
        and is soon trained: take it for small tables, for features, and to fill in entries. Take
        "binned" for samples, and for columns that are far from a normal distribution, with
        more updates: `n_iter` of several hundred.
    n_bins : int, default=20
        Bins of a column, of about equal shares. A value with at least such a share is a bin.

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
    bins_ : list of ndarrays or None
        For each column that is binned, the quantile functions of the bins: (n_bins, 17).
    column_types_ : list
        Types of the columns.
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
    `score_samples` is a log-likelihood (a density for numbers), with log Z from annealed importance
    sampling; for rows with missing entries it scores the filled row. The density of a number that
    is binned is that of its bin and position over dQ/du. A number that is a bin by itself has a
    probability instead, of which this is a lower bound: its position, which says nothing, is ½. A
    number outside of all bins belongs to the nearest one, and likelihoods then take 1 / (n + 1) for
    its probability, where n is the number of training rows. `sample_chains` returns visible units,
    not columns.

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

    batch_size: PositiveInt = 50
    n_iter: NonNegativeInt | None = None
    max_grad_norm: PositiveFloat | None = 10.0
    learning_rate_schedule: RateSchedule = "linear"
    hidden: Hidden = "bernoulli"
    kinds: Literal["auto"] | dict = "auto"
    numbers: Literal["gaussian", "binned"] = "gaussian"
    n_bins: PositiveInt = 20

    bins_ = OfEncoding()

    _epochs = (5000, 20, 500)
    _n_sweeps = 1

    def _has_pseudo_likelihood(self, visible):
        return False  # scores of tables of any kinds can be compared

    def _encoding(self):
        return Table(
            self.kinds, self.handle_unknown, True, self.categories, self.numbers, self.n_bins
        )
