"""The `estimator` decorator, and the texts that docstrings of estimators share.

An estimator is a dataclass: it inherits the parameters of its base class, with their types and
defaults, and adds its own. The type of a parameter says which values are valid. In its docstring,
`%(training)s` is replaced by the text of this name in TEXTS, and the name of a parameter, written
in the same way, by the default of that parameter.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from numpy.random import RandomState

from skebm._sklearn import Interval, Options, StrOptions, validate_params

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable)
V = TypeVar("V")

# Types of parameters, with the values that scikit-learn's validation accepts
PositiveInt = Annotated[int, Interval(Integral, 1, None, closed="left")]
NonNegativeInt = Annotated[int, Interval(Integral, 0, None, closed="left")]
PositiveFloat = Annotated[float, Interval(Real, 0, None, closed="neither")]
NonNegativeFloat = Annotated[float, Interval(Real, 0, None, closed="left")]
#: A number in [0, 1).
Probability = Annotated[float, Interval(Real, 0, 1, closed="left")]
#: A number in (0, 1).
Fraction = Annotated[float, Interval(Real, 0, 1, closed="neither")]
Seed = Annotated[int | RandomState | None, "random_state"]
Verbosity = Annotated[int, "verbose"]
#: An argument that the function itself validates.
Unvalidated = Annotated[Any, "no_validation"]
ArrayLike = Annotated[Any, "array-like"]
#: One value for all layers of a stack, or one for each; the layers validate it.
PerLayer = Annotated[V | Sequence[V | None] | None, "no_validation"]

TRAINED = """\
optimizer : {"sgd", "adam"}, default="%(optimizer)s"
    Stochastic gradient steps with momentum, or :class:`torch.optim.Adam`.
learning_rate_schedule : {"constant", "linear", "invscaling"}, default="%(learning_rate_schedule)s"
    How the learning rate changes from epoch to epoch: "linear" lets it fall evenly towards
    zero over the epochs of one call of `fit`; "invscaling" divides it by the square root
    of the epoch's number.
momentum : float, default=%(momentum)s
    Momentum of "sgd".
momentum_ramp : int, default=0
    Number of epochs during which the momentum grows in equal steps up to `momentum`.
weight_decay : float, default=%(weight_decay)s
    Weight of the penalty ½ ‖W‖² on the weights; biases are not penalised.
max_norm : float or None, default=None
    Upper limit of the norm of each hidden unit's weights.
shuffle : bool, default=True
    Whether to visit the rows in a new random order every epoch. This order does not
    depend on the order of the rows in X. False visits the rows in the order of X.
warm_start : bool, default=False
    Whether a second call of `fit` continues from the fitted parameters.
early_stopping : bool, default=False
    Whether to hold rows back for validation, stop when their score no longer improves, and
    keep the parameters of the epoch with the best score. %(held_out)s
validation_fraction : float, default=0.1
    Share of the rows that are held back for `early_stopping`.
n_iter_no_change : int, default=5
    With `early_stopping`, training stops after this number of successive epochs that do not
    improve the best score by more than `tol`.
tol : float, default=1e-4
    Smallest improvement of the score that counts for `n_iter_no_change`.
device : str, default="auto"
    "cpu", "cuda" or "cuda:1"; "auto" is CUDA if it is available, else the CPU.
precision : {"highest", "high", "medium"}, default="%(precision)s"
    Precision of the matrix products in training, with torch's names. "medium" rounds the
    factors of large products to bfloat16, and on a CPU their results, if the processor
    supports it; binary states stay exact. On CUDA, all other products in single precision use
    TF32 with "high" and "medium". If X has double precision, training uses double precision.
    Methods of a fitted model never use reduced precision.
verbose : int, default=0
    1 prints one line per epoch.
random_state : int, RandomState instance or None, default=None
    Seeds the weights, the order of the rows and all sampling. The same integer on the
    same device, with the same number of threads, gives the same model, bit for bit."""

ENERGY = (
    TRAINED
    + """
gradient : {"cd", "pcd", "pt", "ptt"} or gradient object, default="%(gradient)s"
    How to estimate the model's term of the gradient: "cd" stands for :class:`CD`, "pcd"
    for :class:`PCD`, "pt" for :class:`ParallelTempering`, "ptt" for :class:`PTT`, with default
    settings%(pcd)s. An object such as `PCD(n_steps=5)` has its own settings, which a grid search
    can set as `gradient__n_steps`.
l1 : float, default=0.0
    Weight of the penalty ‖W‖₁ on `components_`; biases are not penalised.
l1b : float, default=0.0
    Weight of the penalty Σ_j ‖W_j‖₁² / (2 n_visible), where n_visible is the number of visible
    units: hidden units with large weights lose small ones, others do not (J. Tubiana, S. Cocco,
    R. Monasson: Learning protein constitutive motifs from sequence data. eLife 8, 2019). Values
    from 0.001 to 0.1 are usual.
max_grad_norm : float or None, default=%(max_grad_norm)s
    Upper limit of the norm of a batch's gradient, over all parameters together.
centered : bool, default=True
    Whether to use the centred gradient. It learns better models, and it does not depend on
    which of two states is coded as 1 (J. Melchior, A. Fischer, L. Wiskott: How to
    center deep Boltzmann machines. JMLR 17, 2016).
sparsity_target : float or None, default=None
    Desired mean activation of each hidden unit, between 0 and 1; None adds no penalty.
sparsity_cost : float, default=1.0
    Weight of the sparsity penalty: the cross-entropy between `sparsity_target` and the mean
    activations.
temperature : float, default=1.0
    T in p ∝ exp(−E/T). It scales every field and, for real-valued units, the variance.
    The free energy is F_T(v) = −T log Σ_h exp(−E(v, h)/T). Learning rate and penalties
    act on E/T."""
)

TRAINING = (
    ENERGY
    + """
output : {"mean", "field"}, default="mean"
    What `transform` gives and `inverse_transform` takes: the means of the hidden units, or their
    fields (c + W v)/T, which are the log-odds of binary units. A field is not limited to [0, 1]
    and says more about the row than a mean near 0 or 1: use "field" if there are few hidden units.
    It can be changed after `fit`. The layers of a stack take means."""
)

STACK = """\
layers : sequence, DBN or DBM, default=(256, 128)
    The stack: a :class:`DBN`, or its `layers`, or a :class:`DBM`, whose fine-tuning starts from
    :meth:`DBM.as_dbn`. A fitted stack is not pre-trained again; a copy of it is fine-tuned, and
    the stack itself does not change. :func:`sklearn.base.clone`, and so a grid search, discards
    the fitted attributes: to keep them, wrap the fitted stack in a
    :class:`~sklearn.frozen.FrozenEstimator`.
pretrain : bool, default=True
    Whether to train the stack on the rows before fine-tuning. False initialises the hidden
    layers as `init="default"` does.
posterior_inputs : bool, default=False
    Whether the means q(h_2 | v) of the second layer of a :class:`DBM` are inputs of the first,
    beside the row, as in R. Salakhutdinov, G. Hinton: Deep Boltzmann machines. AISTATS, 2009. They
    come from the DBM as it was before fine-tuning.
init : {"pretrained", "default", "scaled"}, default="pretrained"
    How to initialise the hidden layers. "pretrained" uses the weights and hidden biases of
    the stack. "default" uses random values like :class:`torch.nn.Linear`, uniform between
    ±1/√n_inputs, without pre-training. "scaled" uses normal random weights with the root mean
    square of each layer's pre-trained weights, and sets all biases of a layer to their
    pre-trained mean; this is a control for effects of pre-training other than the scale.
    The output layer is always initialised as in "default".
freeze : int or "all", default=0
    Number of lowest layers that are not fine-tuned. "all" trains only the output layer.
dropout : float, default=0.0
    Probability that a hidden unit is set to zero, for each row in each update; kept units
    are divided by 1 − dropout [2]_.
input_dropout : float, default=0.0
    The same probability for each input."""

CONTINUED = """\
n_features_in_ : int
    Number of features seen during fit.
feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Names of the features, where X had names that are strings.
random_state_ : RandomState
    The random stream that further training and sampling draw from.
training_state_ : dict of ndarrays
    The state that further training needs besides the parameters: moments of the optimiser
    and, for an RBM, chains and offsets of the centred gradient.
training_settings_ : dict
    The settings that this state belongs to; under others training starts a new one.
training_progress_ : dict
    What an interrupted fit, and early stopping, go on from."""

UNLABELED = """\
unlabeled : {"auto"}, -1 or None, default="auto"
    What the label −1 means. -1: the label of the row is unknown. None: −1 is a class like any
    other. "auto": it is a class if there is one other class, else unknown, with a warning.
    Where `partial_fit` is given `classes`, they decide."""

NETWORK = (
    """\
history_ : dict of ndarrays of shape (`n_iter_`,)
    One entry for each epoch of fine-tuning.
n_iter_ : int
    Number of epochs of fine-tuning so far.
"""
    + CONTINUED
)

FITTED = (
    """\
intercept_hidden_ : ndarray of shape (n_components,)
    Hidden biases c.
n_components_ : int
    Number of hidden units.
h_samples_ : ndarray of shape (n_chains, n_components)
    Hidden states of the persistent chains, if the gradient uses persistent chains.
history_ : dict of ndarrays of shape (`n_iter_`,)
    One entry for each epoch: "epoch", "seconds", "reconstruction_error" (mean squared error
    on some of the training rows, at most 1000) and, for binary or categorical features, "score"
    (an estimate of the mean pseudo-log-likelihood, from one feature of each of these rows). For
    persistent chains, "chain_distance" is the Kolmogorov-Smirnov distance between the chains and
    the rows along the first principal axis of the rows: near 0.5 or above, the chains lack a mode
    of the data. For n chains, values up to about 1.4/√n are chance. Fractional weights of rows are
    ignored; for grey values of binary features there is no such figure. See :func:`mode_report`.
n_iter_ : int
    Number of epochs so far.
feature_means_ : ndarray of shape (n_visible,)
    Means of the visible units in training. Sampling, tempering and estimates of log Z start
    from them.
encoding_ : object
    The fitted encoding between rows and visible units.
"""
    + CONTINUED
)


SAMPLING = """\
method : {"gibbs", "pt", "ptt"}, default="gibbs"
    "pt" is parallel tempering: each chain exchanges its state with chains at other levels,
    one nat apart. At the last level the units are independent, and chains move freely
    between modes. With L levels, a sweep takes L times as long. "ptt" is trajectory tempering,
    for models that were trained with :class:`PTT`: the levels are the model's past.
init : array-like of shape (n_samples, n_features), default=None
    Rows at which the chains start. None draws independent features with the means of the
    training data.
temperature : float, default=None
    Sample from p ∝ exp(−E/temperature); None uses the temperature of the model.
marginal : bool, default=False
    Whether `temperature` is that of the visible units alone: p(v) ∝ exp(−F(v)/temperature), where
    F is the free energy at the temperature T of the model. T/temperature must be an integer n: the
    samples are those of a model with n copies of each hidden unit, and n times the visible biases
    [1]_. With False, `temperature` is that of visible and hidden units together. Samples of low
    temperatures are near the maxima of p(v).
random_state : int, RandomState instance or None, default=None
    None continues the random stream of the fit: each call gives new samples."""

SAMPLING_REFERENCES = """\
References
----------
.. [1] J. Tubiana, S. Cocco, R. Monasson (2019). Learning protein constitutive motifs from
   sequence data. eLife 8."""

RAISED = """\
ValueError
    If an argument or the data are invalid, or if the parameters are no longer finite at
    the end of an epoch. The estimator is then unchanged."""

#: The texts that stand for %(name)s in a docstring.
TEXTS = {
    "training": TRAINING,
    "energy": ENERGY,
    "trained": TRAINED,
    "fitted": FITTED,
    "stack": STACK,
    "unlabeled": UNLABELED,
    "network": NETWORK,
    "sampling": SAMPLING,
    "sampling_references": SAMPLING_REFERENCES,
    "raised": RAISED,
    "X": "X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)",
}


def _filled(doc):
    """Replace %(name)s in a docstring by the text of this name, with the line's indentation."""

    def text(match):
        indent, name = match.groups()
        return indent + TEXTS[name].replace("\n", f"\n{indent}") if name in TEXTS else match[0]

    return re.sub(r"^( *)%\((\w+)\)s", text, doc or "", flags=re.MULTILINE)


def documented(method: F) -> F:
    """Put the shared texts into the docstring of a method."""
    method.__doc__ = _filled(method.__doc__)
    return method


def validated(function: F) -> F:
    """Check the arguments by their types in every call, as the parameters of an estimator."""
    hints = get_type_hints(function, include_extras=True)
    rules = {name: _constraints(hint) for name, hint in hints.items()}
    return validate_params(rules, prefer_skip_nested_validation=True)(documented(function))


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(dataclasses.field,))
def estimator(cls: T) -> T:
    """Declare an estimator: its annotated attributes are its parameters, with their types."""
    dataclasses.dataclass(eq=False, repr=False, kw_only=True)(cls)
    hints = get_type_hints(cls, include_extras=True)
    names = [parameter.name for parameter in dataclasses.fields(cls)]
    constraints = {name: _constraints(hints[name]) for name in names}
    cls._parameter_constraints = constraints  # type: ignore[attr-defined]
    doc = _filled(cls.__doc__)
    for name in ("held_out", "pcd"):
        doc = doc.replace(f"%({name})s", getattr(cls, f"_{name}", ""))
    for parameter in dataclasses.fields(cls):
        doc = doc.replace(f"%({parameter.name})s", str(parameter.default))
    cls.__doc__ = doc
    return cls


def _constraints(hint: Any) -> Any:
    """The constraints of a parameter for scikit-learn's validation, given its type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rules = list(hint.__metadata__)
        return rules[0] if rules == ["no_validation"] else rules
    if origin in (Union, UnionType):
        return [rule for arg in args for rule in _constraints(arg)]
    if origin is Literal:
        words = {arg for arg in args if isinstance(arg, str)}
        numbers = set(args) - words
        return [StrOptions(words)] + ([Options(Integral, numbers)] if numbers else [])
    plain = {bool: "boolean", int: Integral, float: Real, NoneType: None}
    return [plain.get(hint, origin or hint)]
