"""Restricted Boltzmann machines: a docstring and a choice of units each."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skebm._sklearn import StrOptions
from skebm.chains import BaseRBM
from skebm.engine.units import Bernoulli, Gaussian, MeanBernoulli
from skebm.evaluation import log_likelihood, log_partition

#: Softplus functions that scoring a piece of the held-out rows may cost.
FLIPS = 2**24

VISIBLE = {"bernoulli": Bernoulli, "mean": MeanBernoulli}


class BernoulliRBM(BaseRBM):
    """Restricted Boltzmann machine with binary visible and binary hidden units.

    The joint law of a row v and its hidden units h is p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = −v·b − h·c − h·W v
        P(h_j = 1 | v) = σ(c_j + W_j·v)           the features that `transform` gives
        P(v_i = 1 | h) = σ(b_i + h·W_i)           what `inverse_transform` gives
        F(v)       = −v·b − Σ_j softplus(c_j + W_j·v),      log p(v) = −F(v) − log Z

    σ is the logistic function and softplus(x) = log(1 + e^x). Grey values in [0, 1] may stand
    for probabilities.

    The estimator takes the place of :class:`sklearn.neural_network.BernoulliRBM`: the same
    arguments mean the same. It is trained by stochastic ascent of the log-likelihood with
    persistent chains [1]_, [2]_. Every row counts the same however the rows fall into batches:
    the last batch of an epoch is filled up with rows of weight zero.

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
    gradient : {"cd", "pcd", "pt"} or gradient object, default="pcd"
        How the model's term of the gradient is estimated: "cd" stands for :class:`CD`, "pcd"
        for :class:`PCD`, "pt" for :class:`ParallelTempering`. An object, such as
        `PCD(n_steps=5)`, brings settings of its own, which a grid search reaches as
        `gradient__n_steps`.
    optimizer : {"sgd", "adam"}, default="sgd"
        Stochastic gradient ascent with momentum, or :class:`torch.optim.Adam`.
    learning_rate_schedule : {"constant", "linear", "invscaling"}, default="constant"
        How the learning rate changes from epoch to epoch: "linear" lets it fall evenly towards
        zero over the epochs of one call of `fit`; "invscaling" divides it by the square root
        of the epoch's number.
    momentum : float, default=0.0
        Momentum of "sgd".
    momentum_ramp : int, default=0
        Number of epochs during which momentum grows, in equal steps, to its value.
    weight_decay : float, default=0.0
        Weight of the penalty ½ ‖W‖² on `components_`; biases have none.
    l1 : float, default=0.0
        Weight of the penalty ‖W‖₁ on `components_`; biases have none.
    max_norm : float or None, default=None
        Cap on the norm of each hidden unit's weights.
    max_grad_norm : float or None, default=None
        Cap on the norm of the gradient of a batch, over all parameters together.
    centered : bool, default=True
        Whether to follow the centred gradient, which learns better models, and the same ones
        when zeros and ones are exchanged in the data [3]_.
    sparsity_target : float or None, default=None
        Mean activation wanted of each hidden unit, between 0 and 1.
    sparsity_cost : float, default=1.0
        Weight of the penalty that pulls mean activations to the target: the cross-entropy
        between the two.
    temperature : float, default=1.0
        T in p ∝ exp(−E/T): every field, and with real-valued units the variance too, goes by it.
        The free energy is F_T(v) = −T log Σ_h exp(−E(v, h)/T). Learning rate and penalties
        act on E/T.
    visible : {"bernoulli", "mean"}, default="bernoulli"
        "mean" puts probabilities in the place of visible samples in every chain. That is an
        approximation: such a chain does not sample from the model.
    shuffle : bool, default=True
        Whether to visit the rows in a new random order every epoch. The order does not
        depend on the order of the rows in X; False takes them as they come.
    warm_start : bool, default=False
        Whether a second call of `fit` goes on from the first.
    early_stopping : bool, default=False
        Whether to hold rows back, stop when their score no longer rises, and keep the
        parameters of the epoch with the best. The score is the
        pseudo-log-likelihood: exact for few rows, else estimated from some features of each.
    validation_fraction : float, default=0.1
        Share of the rows that are held back.
    n_iter_no_change : int, default=5
        Training stops after as many epochs in a row that did not raise the best score by more
        than `tol`.
    tol : float, default=1e-4
        See `n_iter_no_change`.
    device : str, default="auto"
        "cpu", "cuda" or "cuda:1"; "auto" is CUDA where there is one.
    precision : {"highest", "high", "medium"}, default="medium"
        Precision of the matrix products of training, in torch's words: "medium" rounds the
        factors of large products to bfloat16, in which binary states are exact, where the
        processor has instructions for it; "high" allows TF32 on CUDA. X in double precision
        is trained on in double precision. What a fitted model computes is never rounded.
    verbose : int, default=0
        1 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the rows and all sampling. The same integer on the
        same device gives the same model, bit for bit.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W.
    intercept_hidden_ : ndarray of shape (n_components,)
        Hidden biases c.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    h_samples_ : ndarray of shape (n_chains, n_components)
        Hidden states of the persistent chains, where the gradient keeps some.
    history_ : dict of ndarrays of shape (n_iter_,)
        One entry for each epoch: "epoch", "seconds", "score" (an estimate of the
        mean pseudo-log-likelihood, from one flipped feature in each of 1000 training rows)
        and "reconstruction_error" (mean squared, of the same rows).
    n_iter_ : int
        Number of epochs so far.
    feature_means_ : ndarray of shape (n_features,)
        Mean of the training rows: where sampling, tempering and estimates of log Z start from.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are strings.
    random_state_ : RandomState
        The random stream that further training and sampling go on with.
    training_state_ : dict of ndarrays
        What further training starts from besides the parameters: chains, offsets of the
        centred gradient and moments of the optimiser.
    training_settings_ : str
        The settings that this state belongs to; under others training starts a new one.

    See Also
    --------
    GaussianRBM : For real-valued data.

    References
    ----------
    .. [1] T. Tieleman (2008). Training restricted Boltzmann machines using approximations to
       the likelihood gradient. ICML.
    .. [2] G. E. Hinton (2012). A practical guide to training restricted Boltzmann machines.
       In: Neural Networks: Tricks of the Trade. Springer.
    .. [3] J. Melchior, A. Fischer, L. Wiskott (2016). How to center deep Boltzmann machines.
       Journal of Machine Learning Research 17.

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

    _parameter_constraints: dict = {
        **BaseRBM._parameter_constraints,
        "visible": [StrOptions(set(VISIBLE))],
    }
    _progress = ("score", "pseudo-likelihood")

    def __init__(
        self,
        n_components=256,
        *,
        learning_rate=0.1,
        batch_size=10,
        n_iter=10,
        gradient="pcd",
        optimizer="sgd",
        learning_rate_schedule="constant",
        momentum=0.0,
        momentum_ramp=0,
        weight_decay=0.0,
        l1=0.0,
        max_norm=None,
        max_grad_norm=None,
        centered=True,
        sparsity_target=None,
        sparsity_cost=1.0,
        temperature=1.0,
        visible="bernoulli",
        shuffle=True,
        warm_start=False,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        tol=1e-4,
        device="auto",
        precision="medium",
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.gradient = gradient
        self.optimizer = optimizer
        self.learning_rate_schedule = learning_rate_schedule
        self.momentum = momentum
        self.momentum_ramp = momentum_ramp
        self.weight_decay = weight_decay
        self.l1 = l1
        self.max_norm = max_norm
        self.max_grad_norm = max_grad_norm
        self.centered = centered
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.temperature = temperature
        self.visible = visible
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.device = device
        self.precision = precision
        self.verbose = verbose
        self.random_state = random_state

    def _units(self, X):
        return VISIBLE[self.visible](), Bernoulli()

    def score_samples(self, X):
        """Pseudo-log-likelihood of each row, exactly, in nats.

        Σ_i log p(v_i | the other features of v) = −Σ_i softplus(F(v) − F(v with v_i flipped)):
        every feature is flipped in turn, to 1 − v_i where it is grey.
        :class:`sklearn.neural_network.BernoulliRBM` estimates the same from one random flip.

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,)
            The time is that of n_samples · n_features · n_components softplus functions.

        References
        ----------
        J. Besag (1975). Statistical analysis of non-lattice data. The Statistician 24.
        """
        check_is_fitted(self)
        return self._apply(
            lambda model, v: model.pseudo_log_likelihood(v), X, row_size=self.components_.size
        )

    def _measure(self, model, v):
        score = model.pseudo_log_likelihood(v, _columns(v, 1)).mean().item()
        return {"score": score} | super()._measure(model, v)

    def _held_out_scores(self, model, v):
        n_columns = min(v.shape[1], 1 + FLIPS // (len(v) * len(model.c)))
        columns = None if n_columns == v.shape[1] else _columns(v, n_columns)
        return model.pseudo_log_likelihood(v, columns)


def _columns(v, n_columns):
    """Columns of each row, at random but the same in every call: (n, n_columns)."""
    drawn = np.random.default_rng(0).integers(v.shape[1], size=(len(v), n_columns))
    return torch.as_tensor(drawn, device=v.device)


class GaussianRBM(BaseRBM):
    """Restricted Boltzmann machine with real-valued visible and binary hidden units.

    The joint law of a row v and its hidden units h is p(v, h) = exp(−E(v, h)) / Z with ::

        E(v, h)    = ½ ‖v‖² − v·b − h·c − h·W v
        P(h_j = 1 | v) = σ(c_j + W_j·v)           the features that `transform` gives
        p(v | h)   = N(b + h·W, 1)                its mean is what `inverse_transform` gives
        F(v)       = ½ ‖v‖² − v·b − Σ_j softplus(c_j + W_j·v)
                   = ½ ‖v − b‖² − Σ_j softplus(c_j + W_j·v) − ½ ‖b‖²

    so that v is a mixture of 2^n_components Gaussians of unit variance [1]_. Scale the data
    first, with :class:`sklearn.preprocessing.StandardScaler` for instance: nothing is
    standardised inside, so that the features of a row depend on that row alone.

    Parameters
    ----------
    n_components : int, default=256
        Number of hidden units.
    learning_rate : float, default=0.01
        Step along the mean gradient of a batch. Real-valued units need a smaller one than
        binary units [2]_.
    batch_size : int, default=10
        Rows in a batch.
    n_iter : int, default=10
        Number of epochs.
    gradient : {"cd", "pcd", "pt"} or gradient object, default="pcd"
        How the model's term of the gradient is estimated: "cd" stands for :class:`CD`, "pcd"
        for :class:`PCD`, "pt" for :class:`ParallelTempering`. An object, such as
        `PCD(n_steps=5)`, brings settings of its own, which a grid search reaches as
        `gradient__n_steps`.
    optimizer : {"sgd", "adam"}, default="sgd"
        Stochastic gradient ascent with momentum, or :class:`torch.optim.Adam`.
    learning_rate_schedule : {"constant", "linear", "invscaling"}, default="constant"
        How the learning rate changes from epoch to epoch: "linear" lets it fall evenly towards
        zero over the epochs of one call of `fit`; "invscaling" divides it by the square root
        of the epoch's number.
    momentum : float, default=0.0
        Momentum of "sgd".
    momentum_ramp : int, default=0
        Number of epochs during which momentum grows, in equal steps, to its value.
    weight_decay : float, default=0.0
        Weight of the penalty ½ ‖W‖² on `components_`; biases have none.
    l1 : float, default=0.0
        Weight of the penalty ‖W‖₁ on `components_`; biases have none.
    max_norm : float or None, default=None
        Cap on the norm of each hidden unit's weights.
    max_grad_norm : float or None, default=10.0
        Cap on the norm of the gradient of a batch, over all parameters together.
    centered : bool, default=True
        Whether to follow the centred gradient, which learns better models, and the same ones
        when zeros and ones are exchanged in the data [3]_.
    sparsity_target : float or None, default=None
        Mean activation wanted of each hidden unit, between 0 and 1.
    sparsity_cost : float, default=1.0
        Weight of the penalty that pulls mean activations to the target: the cross-entropy
        between the two.
    temperature : float, default=1.0
        T in p ∝ exp(−E/T): every field, and with real-valued units the variance too, goes by it.
        The free energy is F_T(v) = −T log Σ_h exp(−E(v, h)/T). Learning rate and penalties
        act on E/T.
    shuffle : bool, default=True
        Whether to visit the rows in a new random order every epoch. The order does not
        depend on the order of the rows in X; False takes them as they come.
    warm_start : bool, default=False
        Whether a second call of `fit` goes on from the first.
    early_stopping : bool, default=False
        Whether to hold rows back, stop when their score no longer rises, and keep the
        parameters of the epoch with the best. The score is minus
        the mean squared reconstruction error.
    validation_fraction : float, default=0.1
        Share of the rows that are held back.
    n_iter_no_change : int, default=5
        Training stops after as many epochs in a row that did not raise the best score by more
        than `tol`.
    tol : float, default=1e-4
        See `n_iter_no_change`.
    device : str, default="auto"
        "cpu", "cuda" or "cuda:1"; "auto" is CUDA where there is one.
    precision : {"highest", "high", "medium"}, default="high"
        Precision of the matrix products of training, in torch's words: "medium" rounds the
        factors of large products to bfloat16, where the processor has instructions for it;
        "high" allows TF32 on CUDA. X in double precision is trained on in double precision.
        What a fitted model computes is never rounded.
    verbose : int, default=0
        1 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the order of the rows and all sampling. The same integer on the
        same device gives the same model, bit for bit.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W.
    intercept_hidden_ : ndarray of shape (n_components,)
        Hidden biases c.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    h_samples_ : ndarray of shape (n_chains, n_components)
        Hidden states of the persistent chains, where the gradient keeps some.
    history_ : dict of ndarrays of shape (n_iter_,)
        One entry for each epoch: "epoch", "seconds", and "reconstruction_error"
        (mean squared, of 1000 training rows).
    n_iter_ : int
        Number of epochs so far.
    feature_means_ : ndarray of shape (n_features,)
        Mean of the training rows: where sampling, tempering and estimates of log Z start from.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are strings.
    random_state_ : RandomState
        The random stream that further training and sampling go on with.
    training_state_ : dict of ndarrays
        What further training starts from besides the parameters: chains, offsets of the
        centred gradient and moments of the optimiser.
    training_settings_ : str
        The settings that this state belongs to; under others training starts a new one.

    See Also
    --------
    BernoulliRBM : For binary data.

    References
    ----------
    .. [1] M. Welling, M. Rosen-Zvi, G. E. Hinton (2005). Exponential family harmoniums with
       an application to information retrieval. NIPS 17.
    .. [2] G. E. Hinton (2012). A practical guide to training restricted Boltzmann machines.
       In: Neural Networks: Tricks of the Trade. Springer.
    .. [3] J. Melchior, A. Fischer, L. Wiskott (2016). How to center deep Boltzmann machines.
       Journal of Machine Learning Research 17.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skebm import GaussianRBM
    >>> X = scale(load_iris().data)
    >>> GaussianRBM(n_components=8, random_state=0).fit_transform(X).shape
    (150, 8)
    """

    def __init__(
        self,
        n_components=256,
        *,
        learning_rate=0.01,
        batch_size=10,
        n_iter=10,
        gradient="pcd",
        optimizer="sgd",
        learning_rate_schedule="constant",
        momentum=0.0,
        momentum_ramp=0,
        weight_decay=0.0,
        l1=0.0,
        max_norm=None,
        max_grad_norm=10.0,
        centered=True,
        sparsity_target=None,
        sparsity_cost=1.0,
        temperature=1.0,
        shuffle=True,
        warm_start=False,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        tol=1e-4,
        device="auto",
        precision="high",
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.gradient = gradient
        self.optimizer = optimizer
        self.learning_rate_schedule = learning_rate_schedule
        self.momentum = momentum
        self.momentum_ramp = momentum_ramp
        self.weight_decay = weight_decay
        self.l1 = l1
        self.max_norm = max_norm
        self.max_grad_norm = max_grad_norm
        self.centered = centered
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.temperature = temperature
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.device = device
        self.precision = precision
        self.verbose = verbose
        self.random_state = random_state

    def _units(self, X):
        return Gaussian(self.temperature), Bernoulli()

    def score_samples(self, X):
        """Log-likelihood (density) of each row, log p(v) = −F(v) / T − log Z, in nats.

        The first call after a fit computes log Z and keeps it: exactly for up to 18 hidden
        units, else by annealed importance sampling with a fixed seed
        (:func:`skebm.log_partition`, which also tells the error).

        Parameters
        ----------
        X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)

        Returns
        -------
        score : ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        if not hasattr(self, "_log_z"):
            self._log_z: dict[float, float] = {}
        if self.temperature not in self._log_z:
            self._log_z[self.temperature] = log_partition(self, random_state=0).value
        return log_likelihood(self, X, log_z=self._log_z[self.temperature])
