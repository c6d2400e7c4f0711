"""RBMImputer: missing values from a model that is trained with values missing.

∂ log p(v_observed)/∂θ = E[−∂E/∂θ | v_observed] − E[−∂E/∂θ]
"""

from dataclasses import field
from typing import Any, Literal, Self

from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_is_fitted

from skebm._shared import PositiveInt, Seed, Unvalidated, estimator, validated
from skebm._sklearn import (
    BaseEstimator,
    CallbackSupportMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    fit_context,
)
from skebm.base import BaseRBM
from skebm.engine.noise import Noise, seed_of
from skebm.engine.parallel import current
from skebm.fitted import FittedModel
from skebm.fitting import fit_inner, generator_of, unchanged_on_error
from skebm.tabular import TabularRBM


@estimator
class RBMImputer(CallbackSupportMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill in missing values from a restricted Boltzmann machine.

    The model is trained on the observed values alone: training maximises
    log p(v_observed) = log Σ p(v_observed, v_missing). The missing values of each row are the
    state of a Gibbs chain with the observed values clamped. The chain continues from epoch to
    epoch [1]_. If the estimator has `gradient="cd"`, the model of a row leaves its missing values
    out [2]_: they are fixed at their means, and training maximises
    log p(v_observed | v_missing = means). This is the better choice if many values are missing.
    `transform` fills in E[v_missing | v_observed] or an approximation of it, and
    `sample_imputations` gives several draws, for multiple imputation [3]_.

    Parameters
    ----------
    estimator : RBM without labels, default=None
        The model, which is cloned; its `n_iter` is the number of epochs. None is
        `TabularRBM("auto", gradient="cd", learning_rate=0.03, weight_decay=0.01, n_iter=100)`,
        for tables and for numbers on any scale. Take a :class:`BernoulliRBM` for values in
        [0, 1], and a :class:`CategoricalRBM` for categories.
    n_sweeps : int, default=1
        Gibbs sweeps of the missing values after each epoch; with `gradient="cd"` there are none.
    n_steps : int, default=100
        Sweeps for each row in `transform`.
    method : {"auto", "mean", "mean_field", "reconstruction"}, default="auto"
        What to fill in, as in :meth:`BernoulliRBM.impute`. "auto" is "reconstruction" if the
        estimator has `gradient="cd"`: then, as in training, missing values are at their means
        when the hidden units see them. Else it is "mean".
    random_state : int, RandomState instance or None, default=None
        Seeds training, and the random numbers of `transform`. These are the same for every row,
        so the values that are filled in do not depend on the other rows.

    Attributes
    ----------
    estimator_ : fitted estimator
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had names that are strings.
    seed_ : int
        Seeds `transform`.

    See Also
    --------
    sklearn.impute.IterativeImputer : Regressions of each feature on the others.

    References
    ----------
    .. [1] Z. Ghahramani, M. Jordan (1994). Supervised learning from incomplete data via an EM
       approach. NIPS 6.
    .. [2] R. Salakhutdinov, A. Mnih, G. E. Hinton (2007). Restricted Boltzmann machines for
       collaborative filtering. ICML.
    .. [3] D. B. Rubin (1987). Multiple imputation for nonresponse in surveys. Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, RBMImputer
    >>> X = load_digits().data / 16
    >>> missing = np.random.default_rng(0).uniform(size=X.shape) < 0.3
    >>> holes = np.where(missing, np.nan, X)
    >>> imputer = RBMImputer(BernoulliRBM(50, n_iter=20), random_state=0)
    >>> filled = imputer.fit_transform(holes)
    >>> error = np.square(filled - X)[missing].mean()
    >>> bool(error < 0.7 * np.square(np.nanmean(holes, 0) - X)[missing].mean())
    True
    """

    estimator: BaseRBM | None = field(default=None, kw_only=False)
    n_sweeps: PositiveInt = 1
    n_steps: PositiveInt = 100
    method: Literal["auto", "mean", "mean_field", "reconstruction"] = "auto"
    random_state: Seed = None

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the model on the observed values.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            NaN, None or pandas' NA where a value is missing.
        y : None
            Ignored; present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a feature has no value at all, or if the estimator is a classifier.
        """
        with current().guarded(), unchanged_on_error(self):
            task = self._init_callback_context(max_subtasks=1)
            task.call_on_fit_task_begin(estimator=self, X=X)
            rng = generator_of(self.random_state)
            model = clone(self._model())
            if is_classifier(model):
                raise ValueError(f"RBMImputer needs an RBM without labels; got {model!r}.")
            model.set_params(random_state=seed_of(rng))
            vars(model)["_n_sweeps"] = self.n_sweeps
            self.estimator_ = fit_inner(self, model, task, X, sample_weight)
            self.seed_ = seed_of(rng)
            task.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes=dict)
        return self

    def transform(self, X: Any) -> Any:
        """Fill in the missing values.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Missing values as in `fit`.

        Returns
        -------
        X_filled : array or data frame of shape (n_samples, n_features)
            For a model of tables, in the form of X in `fit`.
        """
        check_is_fitted(self)
        method = self.method
        if method == "auto":
            left_out = self.estimator_._resolved_gradient().paired
            method = "reconstruction" if left_out else "mean"
        return self._filled(X, method, 0)

    @validated
    def sample_imputations(self, X: Unvalidated, n_draws: PositiveInt = 5) -> list[Any]:
        """Draws of the missing values given the observed ones, for multiple imputation.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Missing values as in `fit`.
        n_draws : int, default=5

        Returns
        -------
        imputations : list of `n_draws` arrays or data frames
            As `transform` returns them; the random numbers depend on the draw, but not on the
            other rows.
        """
        return [self._filled(X, "sample", k + 1) for k in range(n_draws)]

    def _model(self):
        if self.estimator is not None:
            return self.estimator
        return TabularRBM("auto", gradient="cd", learning_rate=0.03, weight_decay=0.01, n_iter=100)

    def _filled(self, X, method, draw):
        check_is_fitted(self)
        fitted = FittedModel(self.estimator_)
        noise = Noise(self.seed_ + draw, fitted.device, shared=True)
        rows = fitted.read(X, allow_nan=True)
        filled = fitted.fill(rows, noise, n_steps=self.n_steps, method=method)
        return fitted.present(filled, X, keep=True)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = self._model().__sklearn_tags__().input_tags
        tags.input_tags.allow_nan, tags.input_tags.sparse = True, False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
