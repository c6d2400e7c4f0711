"""Restricted Boltzmann machines: each a docstring and a choice of encoding and units."""

import math
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted, check_non_negative

from skebm._shared import NonNegativeInt, PositiveFloat, PositiveInt, Probability, estimator
from skebm.base import BaseRBM, OfEncoding
from skebm.encoding import Standardised
from skebm.energy import GRADIENTS
from skebm.engine.dropout import DROPPING
from skebm.engine.gradients import CD, PCD, ParallelTempering
from skebm.engine.units import (
    Bernoulli,
    ContinuousBernoulli,
    DoubleRectified,
    Gaussian,
    MeanBernoulli,
    NoisyRelu,
    Poisson,
    Rectified,
    ScaledGaussian,
    Spin,
    Units,
)
from skebm.fitting import RateSchedule, as_numpy

Visible = Literal["bernoulli", "mean", "continuous", "spin"]
Hidden = Literal["bernoulli", "spin", "relu", "nrelu"]
VISIBLE: dict[str, Callable[[], Units]] = {
    "bernoulli": Bernoulli,
    "mean": MeanBernoulli,
    "continuous": ContinuousBernoulli,
    "spin": Spin,
}
#: Hidden units, given the temperature.
HIDDEN: dict[str, Callable[[float], Units]] = {
    "bernoulli": lambda temperature: Bernoulli(),
    "spin": lambda temperature: Spin(),
    "relu": Rectified,
    "nrelu": NoisyRelu,
}


def hidden_units(estimator):
    """The hidden units of an estimator, with initial values of their parameters."""
    if estimator.hidden != "drelu":
        return HIDDEN[estimator.hidden](estimator.temperature)
    n_units = getattr(estimator, "n_components_", 1)
    gammas, thetas = torch.ones(2, n_units), torch.zeros(2, n_units)
    return DoubleRectified(*(gammas / estimator.temperature), *thetas)


#: The largest `noise_share` at which grey values stand for themselves.
MOST_NOISE = 0.3


def noise_share(mean: np.ndarray, mean_square: np.ndarray) -> float:
    """The share of the noise in the variance of draws, whose probabilities are the rows x.

    Σ_i mean of x_i(1−x_i) / Σ_i m_i(1−m_i), where m are the means: 0 for zeros and ones, 1 for
    equal rows.
    """
    within, total = float((mean - mean_square).sum()), float((mean * (1 - mean)).sum())
    return min(1.0, max(0.0, within / total)) if total > 0 else 0.0


GreyValues = Literal["auto", "mean", "sample"]


class TakesGreyValues:
    """A part of RBMs for grey values, which may stand for probabilities."""

    visible: str
    grey_values: GreyValues
    noise_share_: float

    def _examine(self, rows):
        rows = rows.clamp(0, 1)
        moments = [as_numpy(rows.pow(k).mean(0, dtype=torch.float64)) for k in (1, 2)]
        self.noise_share_ = noise_share(*moments) if self.visible == "bernoulli" else 0.0

    def _trainer_settings(self):
        is_noisy = self.noise_share_ > MOST_NOISE
        sample = self.grey_values == "sample" or (self.grey_values == "auto" and is_noisy)
        return {"sample_rows": sample and self.visible == "bernoulli"}


@estimator
class BernoulliRBM(TakesGreyValues, BaseRBM):
    """Restricted Boltzmann machine with binary visible and binary hidden units.

    The joint distribution of a row v and its hidden units h is p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = −v·b − h·c − h·W v
        P(h_j = 1 | v) = σ(c_j + W_j·v)           the features that `transform` gives
        P(v_i = 1 | h) = σ(b_i + h·W_i)           what `inverse_transform` gives
        F(v)       = −v·b − Σ_j softplus(c_j + W_j·v),      log p(v) = −F(v) − log Z

    σ is the logistic function and softplus(x) = log(1 + e^x). Grey values in [0, 1] stand for
    probabilities; see `grey_values`.

    The estimator can replace :class:`sklearn.neural_network.BernoulliRBM`: arguments of the same
    name have the same meaning. It is trained by stochastic ascent of the log-likelihood with
    persistent chains [1]_, [2]_. Every row has the same weight in training: the last batch of an
    epoch is filled up with rows of weight zero.

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
    visible : {"bernoulli", "mean", "continuous", "spin"}, default="bernoulli"
        Type of the visible units. "bernoulli": 0 or 1. "mean": every chain uses probabilities
        instead of visible samples; this is an approximation, and such a chain does not sample from
        the model. "continuous": a number in [0, 1] with density p(v_i | h) ∝ exp(v_i f_i), where
        f = b + h·W, and mean 1/(1 − e^(−f)) − 1/f [3]_. "spin": −1 or 1, with mean tanh f.
    hidden : {"bernoulli", "spin", "relu", "nrelu", "drelu"}, default="bernoulli"
        Type of the hidden units, given the field x = c + W v; a feature is the mean. "bernoulli":
        0 or 1, with mean σ(x). "spin": −1 or 1, with mean tanh x. "relu": a real number ≥ 0 with
        density p(h) ∝ exp(h x − h²/2). "nrelu" samples max(0, x + N(0, σ(x))): an approximation
        to 64 binary copies with biases −½, −3/2, …, whose number of ones has a mean of about
        softplus(x) [4]_. "drelu": a real number with the density p(h) ∝ exp(h x − U(h)), where
        U(h) = γ₊h₊²/2 + γ₋h₋²/2 + θ₊h₊ + θ₋h₋, h₊ = max(h, 0), h₋ = min(h, 0), and γ and θ of each
        unit are learned [5]_; use a small `learning_rate`, such as 0.01.
    grey_values : {"auto", "mean", "sample"}, default="auto"
        What training does with values x between 0 and 1, if `visible` is "bernoulli". "mean" uses
        them as they are, like scikit-learn. "sample" draws zeros and ones with these probabilities
        whenever it visits a row. If most values are far from 0 and 1, the features then differ
        more from row to row. "auto" is "sample" if `noise_share_`,
        Σ_i mean of x_i(1−x_i) / Σ_i m_i(1−m_i) with the means m, is above 0.3, else "mean".
        There is no difference for zeros and ones.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    noise_share_ : float
        Share of the noise in the variance of draws of the training rows: 0 for zeros and ones, and
        if `visible` is not "bernoulli".
    gamma_plus_, gamma_minus_, theta_plus_, theta_minus_ : ndarray of shape (n_components,)
        Parameters of the hidden units, if `hidden` is "drelu".
    %(fitted)s

    See Also
    --------
    GaussianRBM : For real-valued data.
    CategoricalRBM : For categories.
    DropoutRBM : With dropout.

    References
    ----------
    .. [1] T. Tieleman (2008). Training restricted Boltzmann machines using approximations to
       the likelihood gradient. ICML.
    .. [2] G. E. Hinton (2012). A practical guide to training restricted Boltzmann machines.
       In: Neural Networks: Tricks of the Trade. Springer.
    .. [3] G. Loaiza-Ganem, J. P. Cunningham (2019). The continuous Bernoulli: fixing a pervasive
       error in variational autoencoders. NeurIPS.
    .. [4] V. Nair, G. E. Hinton (2010). Rectified linear units improve restricted Boltzmann
       machines. ICML.
    .. [5] J. Tubiana, S. Cocco, R. Monasson (2019). Learning protein constitutive motifs from
       sequence data. eLife 8.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skebm import BernoulliRBM
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(
    ...     BernoulliRBM(n_components=100, random_state=0), LogisticRegression(max_iter=1000)
    ... )
    >>> model.fit(X[:1000] / 16, y[:1000]).score(X[1000:] / 16, y[1000:]) > 0.85
    True
    """

    precision: Literal["highest", "high", "medium"] = "medium"
    visible: Visible = "bernoulli"
    hidden: Hidden | Literal["drelu"] = "bernoulli"
    grey_values: GreyValues = "auto"

    def _units(self):
        return VISIBLE[self.visible](), hidden_units(self)

    @property
    def _is_binary(self):
        return self.visible == self.hidden == "bernoulli"

    def _start(self, visible, hidden, rows):
        if not self._is_binary or self._copies:
            return super()._start(visible, hidden, rows)
        # Over draws of the rows, a hidden field has a standard deviation of 0.5, or more if most
        # of their variance is noise. About five of the hidden units are on: units that are rarely
        # on learn features that classify better. They are on more often if there is more noise.
        signal = 1 - self.noise_share_
        mean = rows.mean(0).clamp(0, 1)
        variance = (mean * (1 - mean)).sum().item()
        field = -math.log(max(1.0, self.n_components_ / 5 - 1))
        return (1.5 - signal) / max(1, variance) ** 0.5, signal * min(-1, max(field, -4))

    def _trainer_settings(self):
        settings = super()._trainer_settings()
        if self._is_binary and not self._copies:
            settings |= {"hidden_share": self.noise_share_, "hidden_bias_rate": 3.0}
        return settings


@estimator
class DropoutRBM(BernoulliRBM):
    """Bernoulli RBM that is trained with dropout.

    In every update, each training row gets a mask that is drawn anew, r for hidden units or m for
    weights. It is the same in both phases and in the gradient ::

        drop="units"    F_r(v) = −v·b − Σ_j r_j softplus(c_j + W_j·v)            [1]_
        drop="weights"  F_m(v) = −v·b − Σ_j softplus(c_j + (W ∘ m)_j·v)          [2]_
        drop="energy"   as "units"; the probability of dropping a unit of a row grows with
                        (P(h_j | v′) / P(h_j | v)) / |ΔE|, divided by its maximum in the batch,
                        where v′ is the row after a sweep and ΔE the change of energy [3]_

    The fitted model has no masks, and its features are deterministic. It multiplies W_j and c_j
    ("units"), or W ("weights"), by 1 − dropout. Its energy, conditionals and free energy are
    those of :class:`BernoulliRBM` with these parameters.

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
    visible : {"bernoulli", "mean", "continuous", "spin"}, default="bernoulli"
        As in :class:`BernoulliRBM`.
    hidden : {"bernoulli", "relu", "nrelu"}, default="bernoulli"
        As in :class:`BernoulliRBM`; "energy" needs "bernoulli".
    grey_values : {"auto", "mean", "sample"}, default="auto"
        As in :class:`BernoulliRBM`.
    dropout : float, default=0.5
        Probability of being dropped; 0 is :class:`BernoulliRBM`, bit for bit. "energy" ignores it.
    drop : {"units", "weights", "energy"}, default="units"
        What is dropped. With "weights", the rows of a batch share 8 masks, or a few more if 8
        does not divide `batch_size`; it needs as many times the memory of `components_`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W, before they are multiplied by 1 − dropout.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    noise_share_ : float
        As in :class:`BernoulliRBM`.
    %(fitted)s

    Notes
    -----
    "kept" in `history_` is the share of units, or weights, that an epoch kept. The masks belong to
    training rows, so the number of chains of `gradient` must be a multiple of `batch_size`, and
    `gradient` cannot be :class:`Exact`. For "energy", probabilities are limited to 0.1 to 0.9 and
    `|ΔE|` to at least half its mean over the batch; otherwise one unit of one row would dominate.

    See Also
    --------
    BernoulliRBM : Without dropout.

    References
    ----------
    .. [1] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov (2014). Dropout:
       a simple way to prevent neural networks from overfitting. JMLR 15.
    .. [2] L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus (2013). Regularization of neural
       networks using DropConnect. ICML.
    .. [3] M. Roder, G. H. de Rosa, V. H. C. de Albuquerque, A. L. D. Rossi, J. P. Papa (2020).
       Energy-based dropout in restricted Boltzmann machines: why not go random. IEEE TETCI.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skebm import DropoutRBM
    >>> X = load_digits().data / 16
    >>> rbm = DropoutRBM(64, dropout=0.3, random_state=0).fit(X)
    >>> bool(abs(rbm.history_["kept"][-1] - 0.7) < 0.01)
    True
    """

    gradient: Literal["cd", "pcd", "pt"] | CD | PCD | ParallelTempering = "pcd"
    hidden: Literal["bernoulli", "relu", "nrelu"] = "bernoulli"
    dropout: Probability = 0.5
    drop: Literal["units", "weights", "energy"] = "units"

    def _start(self, visible, hidden, rows):
        if self.drop == "weights" and self.dropout > 0:
            # Units that are rarely on learn little behind a mask of weights.
            return BaseRBM._start(self, visible, hidden, rows)
        return super()._start(visible, hidden, rows)

    def _in_training(self, model, batches):
        gradient, size = self._gradient_of_process(batches), batches.batch_size
        n_chains = getattr(gradient, "n_chains", None)
        if n_chains is not None and n_chains % size:
            rows = "" if size == self.batch_size else ", the number of rows"
            raise ValueError(
                f"gradient={gradient} has n_chains={n_chains}, which is no multiple of "
                f"batch_size={size}{rows}; DropoutRBM needs a multiple, since every chain uses the "
                "mask of a training row."
            )
        if self.drop != "energy" and self.dropout == 0:
            return model
        if self.drop == "energy" and self.hidden != "bernoulli":
            raise ValueError(f'drop="energy" needs hidden="bernoulli"; got {self.hidden!r}.')
        return DROPPING[self.drop](model, self.dropout)

    def _without_dropout(self, model):
        return DROPPING[self.drop](model, self.dropout).without_dropout()

    def _parameters_of_use(self, model):
        parameters = super()._parameters_of_use(model)
        of_weights, of_biases = DROPPING[self.drop].test_scale(self.dropout)
        parameters["components_"] /= of_weights
        parameters["intercept_hidden_"] /= of_biases
        return parameters


class LearnedScales:
    """The type of the attribute of learned scales."""

    log_scales_: np.ndarray


@estimator
class GaussianRBM(LearnedScales, BaseRBM):
    """Restricted Boltzmann machine with real-valued visible units.

    Features are standardised internally: v = (x − location) / σ, where σ² is the variance of each
    feature given the hidden units. The joint distribution of v and its hidden units h is
    p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = ½ ‖v‖² − v·b − h·c − h·W v
        P(h_j = 1 | v) = σ(c_j + W_j·v)            the features that `transform` gives
        p(v | h)   = N(b + h·W, 1)                 its mean is what `inverse_transform` gives
        F(v)       = ½ ‖v‖² − v·b − Σ_j softplus(c_j + W_j·v)
                   = ½ ‖v − b‖² − Σ_j softplus(c_j + W_j·v) − ½ ‖b‖²

    so that x is a mixture of 2^n_components Gaussians with variances σ² [1]_. All inputs and
    outputs are on the scale of the data: rows, samples, reconstructions, `means_`, `variances_`,
    and likelihoods, which are densities of x: log p(x) = −F(v) − log Z − Σ_i log σ_i.
    The result of `free_energy` includes this last term.

    The variances are learned without chains, because Z does not depend on them:
    ∂ log p(x)/∂ log σ_i = v_i ∂F/∂v_i − 1, exactly.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of hidden units. "auto" is a tenth of the number of rows, at least 16 and at most
        256: with more units, the model learns the noise of few rows.
    learning_rate : float, default=0.02
        Step along the mean gradient of a batch.
    batch_size : int, default=32
        Rows in a batch.
    n_iter : int or None, default=None
        Number of epochs. None makes as many as 1000 updates take, at least 20 and at most 80.
    %(training)s
    variance : {"learned", "fixed", "unit"}, default="learned"
        Value of σ. "learned": σ starts at the feature's standard deviation in the training data,
        and is learned between 0.1 and √2 times this value. "fixed": this standard deviation.
        "unit": one; features are not standardised, so scale them before.
    hidden : {"bernoulli", "spin", "relu", "nrelu"}, default="bernoulli"
        Type of the hidden units, given the field x = c + W v; a feature is the mean. "bernoulli":
        0 or 1, with mean σ(x). "spin": −1 or 1, with mean tanh x. "relu": a real number ≥ 0 with
        density p(h) ∝ exp(h x − h²/2); weights are then kept so small that the model can be
        normalised. "nrelu"
        samples max(0, x + N(0, σ(x))), an approximation to 64 binary copies with biases
        −½, −3/2, …, whose number of ones has a mean of about softplus(x) [2]_.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W, of standardised features.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b, of standardised features.
    means_ : ndarray of shape (n_features,)
        Means of the features where all hidden units are zero, location + σ b.
    variances_ : ndarray of shape (n_features,)
        Variances of the features given the hidden units, σ² T.
    location_ : ndarray of shape (n_features,)
        Means of the training rows.
    scale_ : ndarray of shape (n_features,)
        Their standard deviations; 1 for a constant feature.
    log_scales_ : ndarray of shape (n_features,)
        log (σ / scale), if `variance` is "learned".
    %(fitted)s

    See Also
    --------
    BernoulliRBM : For binary data.
    TabularRBM : For columns of different types.

    References
    ----------
    .. [1] M. Welling, M. Rosen-Zvi, G. E. Hinton (2005). Exponential family harmoniums with
       an application to information retrieval. NIPS 17.
    .. [2] V. Nair, G. E. Hinton (2010). Rectified linear units improve restricted Boltzmann
       machines. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from skebm import GaussianRBM
    >>> X, y = load_wine(return_X_y=True)  # columns of very different scales
    >>> model = make_pipeline(GaussianRBM(random_state=0), LogisticRegression(max_iter=1000))
    >>> bool(cross_val_score(model, X, y).mean() > 0.95)
    True
    """

    n_components: PositiveInt | Literal["auto"] = field(default="auto", kw_only=False)
    learning_rate: PositiveFloat = 0.02
    batch_size: PositiveInt = 32
    n_iter: NonNegativeInt | None = None
    learning_rate_schedule: RateSchedule = "linear"
    max_grad_norm: PositiveFloat | None = 10.0
    variance: Literal["learned", "fixed", "unit"] = "learned"
    hidden: Hidden = "bernoulli"

    _epochs = (1000, 20, 80)
    location_ = OfEncoding()
    scale_ = OfEncoding()

    #: Few chains are a rough estimate for real numbers.
    _pcd = " (of PCD, here with 100 chains)"
    _gradients = GRADIENTS | {"pcd": partial(PCD, n_chains=100)}

    def _encoding(self):
        return Standardised(self.variance != "unit")

    def _units(self):
        hidden = HIDDEN[self.hidden](self.temperature)
        if self.variance == "learned":
            return ScaledGaussian(torch.zeros(self.n_features_in_), self.temperature), hidden
        return Gaussian(self.temperature), hidden

    @property
    def variances_(self) -> np.ndarray:
        """Variances of the features given the hidden units: ndarray (n_features,)."""
        return self._deviations() ** 2 * self.temperature

    @property
    def means_(self) -> np.ndarray:
        """Means of the features where all hidden units are zero: ndarray (n_features,)."""
        return self.location_ + self._deviations() * self.intercept_visible_

    def _deviations(self):
        """σ of each feature, at temperature one."""
        check_is_fitted(self)
        return self.scale_ * np.exp(self.log_scales_ if self.variance == "learned" else 0.0)


@estimator
class PoissonRBM(BaseRBM):
    """Restricted Boltzmann machine with counts as visible units.

    The joint distribution of a row of counts v and its hidden units h is
    p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = −v·b − h·c − h·W v + Σ_i log v_i!
        P(h_j = 1 | v) = σ(c_j + W_j·v)            the features that `transform` gives
        p(v_i | h) = Poisson(exp(b_i + h·W_i))     its mean is what `inverse_transform` gives
        F(v)       = −v·b + Σ_i log v_i! − Σ_j softplus(c_j + W_j·v)

    So v is a mixture of 2^n_components products of Poisson distributions [1]_, and
    log p(v) = −F(v) − log Z. Each hidden unit that is on multiplies the rate of count i by
    exp(W_ji). Likelihoods are probabilities, in nats. A temperature T divides b, c and W, but not
    log v_i!, the base measure of a count.

    Hidden units are bounded: with unbounded ones there would be no Z. Persistent chains hardly move
    between topics that have few words in common, so that samples may have the wrong share of each;
    `gradient="pt"` learns the shares.

    Parameters
    ----------
    n_components : int or "auto", default=256
        Number of hidden units. "auto" is a tenth of the number of rows, at least 16 and at most
        256.
    learning_rate : float, default=%(learning_rate)s
        Step along the mean gradient of a batch.
    batch_size : int, default=10
        Rows in a batch.
    n_iter : int or None, default=10
        Number of epochs. None makes as many as 2000 updates take, at least 20 and at most 100.
    %(training)s
    hidden : {"bernoulli", "spin"}, default="bernoulli"
        What a hidden unit is, given its field x = c + W v; a feature is its mean. "bernoulli":
        0 or 1, of mean σ(x). "spin": −1 or 1, of mean tanh x.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    %(fitted)s

    See Also
    --------
    BernoulliRBM : For binary data.
    GaussianRBM : For real-valued data.

    References
    ----------
    .. [1] M. Welling, M. Rosen-Zvi, G. E. Hinton (2005). Exponential family harmoniums with
       an application to information retrieval. NIPS 17.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import PoissonRBM
    >>> rng = np.random.default_rng(0)
    >>> topic = rng.integers(2, size=500)
    >>> rates = np.array([[8, 4, 1, 0.1], [0.5, 1, 6, 4]])  # of four words in two topics
    >>> X = rng.poisson(rates[topic])
    >>> rbm = PoissonRBM(n_components=1, n_iter=30, random_state=0).fit(X)
    >>> found = rbm.transform(X)[:, 0] > 0.5
    >>> agreement = np.mean(found == topic)
    >>> bool(max(agreement, 1 - agreement) > 0.95)  # either topic may be the one that is "on"
    True
    """

    learning_rate: PositiveFloat = 0.02
    learning_rate_schedule: RateSchedule = "linear"
    max_grad_norm: PositiveFloat | None = 1.0
    hidden: Literal["bernoulli", "spin"] = "bernoulli"

    def _check_support(self, rows):
        check_non_negative(rows, "PoissonRBM")
        super()._check_support(rows)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _units(self):
        return Poisson(), HIDDEN[self.hidden](self.temperature)
