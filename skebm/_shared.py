"""What estimators share: how they are declared, and how their parameters are described.

An estimator is a dataclass: its parameters, with their defaults, are those of its base class and
its own. In its docstring, `%(training)s` stands for the text of this name in TEXTS, and the name of
a parameter for the default of that parameter.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import TypeVar, dataclass_transform

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable)

TRAINED = """\
optimizer : {"sgd", "adam"}, default="%(optimizer)s"
    Stochastic gradient steps with momentum, or :class:`torch.optim.Adam`.
learning_rate_schedule : {"constant", "linear", "invscaling"}, \
        default="%(learning_rate_schedule)s"
    How the learning rate changes from epoch to epoch: "linear" lets it fall evenly towards
    zero over the epochs of one call of `fit`; "invscaling" divides it by the square root
    of the epoch's number.
momentum : float, default=%(momentum)s
    Momentum of "sgd".
momentum_ramp : int, default=0
    Number of epochs during which momentum grows, in equal steps, to its value.
weight_decay : float, default=%(weight_decay)s
    Weight of the penalty ½ ‖W‖² on the weights; biases have none.
max_norm : float or None, default=None
    Cap on the norm of each hidden unit's incoming weights.
shuffle : bool, default=True
    Whether to visit the rows in a new random order every epoch. The order does not
    depend on the order of the rows in X; False takes them as they come.
warm_start : bool, default=False
    Whether a second call of `fit` goes on from the first.
early_stopping : bool, default=False
    Whether to hold rows back, stop when their score no longer rises, and keep the
    parameters of the epoch with the best. %(held_out)s
validation_fraction : float, default=0.1
    Share of the rows that are held back.
n_iter_no_change : int, default=5
    Training stops after as many epochs in a row that did not raise the best score by more
    than `tol`.
tol : float, default=1e-4
    See `n_iter_no_change`.
device : str, default="auto"
    "cpu", "cuda" or "cuda:1"; "auto" is CUDA where there is one.
precision : {"highest", "high", "medium"}, default="%(precision)s"
    Precision of the matrix products of training, in torch's words: "medium" rounds the
    factors of large products to bfloat16, in which binary states are exact, where the
    processor has instructions for it; "high" allows TF32 on CUDA. X in double precision
    is trained on in double precision. What a fitted model computes is never rounded.
verbose : int, default=0
    1 prints a line an epoch.
random_state : int, RandomState instance or None, default=None
    Seeds the weights, the order of the rows and all sampling. The same integer on the
    same device gives the same model, bit for bit."""

TRAINING = (
    TRAINED
    + """
gradient : {"cd", "pcd", "pt"} or gradient object, default="%(gradient)s"
    How the model's term of the gradient is estimated: "cd" stands for :class:`CD`, "pcd"
    for :class:`PCD`, "pt" for :class:`ParallelTempering`. An object, such as
    `PCD(n_steps=5)`, brings settings of its own, which a grid search reaches as
    `gradient__n_steps`.
l1 : float, default=0.0
    Weight of the penalty ‖W‖₁ on `components_`; biases have none.
max_grad_norm : float or None, default=%(max_grad_norm)s
    Cap on the norm of the gradient of a batch, over all parameters together.
centered : bool, default=True
    Whether to follow the centred gradient, which learns better models, and the same ones
    when zeros and ones are exchanged in the data (J. Melchior, A. Fischer, L. Wiskott: How to
    center deep Boltzmann machines. JMLR 17, 2016).
sparsity_target : float or None, default=None
    Mean activation wanted of each hidden unit, between 0 and 1.
sparsity_cost : float, default=1.0
    Weight of the penalty that pulls mean activations to the target: the cross-entropy
    between the two.
temperature : float, default=1.0
    T in p ∝ exp(−E/T): every field, and with real-valued units the variance too, goes by it.
    The free energy is F_T(v) = −T log Σ_h exp(−E(v, h)/T). Learning rate and penalties
    act on E/T."""
)

STACK = """\
layers : sequence or DBN, default=(256, 128)
    The stack: a :class:`DBN`, or its `layers`. A DBN that is fitted already is not trained
    again, and stays as it is: a copy is fine-tuned. Since :func:`sklearn.base.clone`, and so
    a grid search, forgets what is fitted, wrap it in a
    :class:`~sklearn.frozen.FrozenEstimator` there.
pretrain : bool, default=True
    Whether the stack is trained on the rows first. False is the same network without
    pre-training: it starts as `init="default"` says.
init : {"pretrained", "default", "scaled"}, default="pretrained"
    Where the hidden layers start from. "pretrained": the weights and hidden biases of the
    stack. "default": those that :class:`torch.nn.Linear` would have, uniform between
    ±1/√n_inputs; nothing is pre-trained then. "scaled": normal numbers with the root mean
    square of each layer's pre-trained weights, and biases that are all the mean of its
    pre-trained ones: a control that tells what pre-training does besides setting the scale.
    The output layer starts as in "default".
freeze : int or "all", default=0
    How many of the lowest layers keep their weights. "all" trains the output layer alone.
dropout : float, default=0.0
    Probability that a hidden unit is zero, of a row in an update; others are divided by
    that of being kept [2]_.
input_dropout : float, default=0.0
    The same of an input."""

NETWORK = """\
history_ : dict of ndarrays of shape (n_iter_,)
    One entry for each epoch of fine-tuning.
n_iter_ : int
    Number of epochs of fine-tuning so far.
n_features_in_ : int
    Number of features seen during fit.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features, where X had names that are strings.
random_state_ : RandomState
    The random stream that further training goes on with.
training_state_ : dict of ndarrays
    The moments of the optimiser.
training_settings_ : dict
    The settings that this state belongs to; under others training starts a new one.
training_progress_ : dict
    What an interrupted fit, and early stopping, go on from."""

FITTED = """\
intercept_hidden_ : ndarray of shape (n_components,)
    Hidden biases c.
h_samples_ : ndarray of shape (n_chains, n_components)
    Hidden states of the persistent chains, where the gradient keeps some.
history_ : dict of ndarrays of shape (n_iter_,)
    One entry for each epoch: "epoch", "seconds", "reconstruction_error" (mean squared, of
    1000 training rows) and, of binary or categorical features, "score" (an estimate of the
    mean pseudo-log-likelihood, from one feature of each of these rows).
n_iter_ : int
    Number of epochs so far.
feature_means_ : ndarray of shape (n_visible,)
    Mean of the visible units in training: where sampling, tempering and estimates of log Z
    start from.
encoding_ : object
    The fitted encoding between rows and visible units.
n_features_in_ : int
    Number of features seen during fit.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the features, where X had names that are strings.
random_state_ : RandomState
    The random stream that further training and sampling go on with.
training_state_ : dict of ndarrays
    What further training starts from besides the parameters: chains, offsets of the
    centred gradient and moments of the optimiser.
training_settings_ : dict
    The settings that this state belongs to; under others training starts a new one.
training_progress_ : dict
    What an interrupted fit, and early stopping, go on from."""


SAMPLING = """\
method : {"gibbs", "pt"}, default="gibbs"
    "pt" is parallel tempering: each chain exchanges its state with chains at other
    levels, one nat apart, down to independent units, where chains move freely between
    modes. A sweep takes as many times longer as there are levels.
init : array-like of shape (n_samples, n_features), default=None
    Where the chains start. None draws features that are independent of each other,
    with the means of the training data.
temperature : float, default=None
    Sample from p ∝ exp(−E/temperature); None takes the temperature of the model.
random_state : int, RandomState instance or None, default=None
    None goes on with the stream of the fit: another call gives other samples."""

RAISED = """\
ValueError
    Where an argument or the data are invalid, and where the parameters are no longer
    finite at the end of an epoch. The estimator is then as it was before the call."""

#: The texts that stand for %(name)s in a docstring.
TEXTS = {
    "training": TRAINING,
    "trained": TRAINED,
    "fitted": FITTED,
    "stack": STACK,
    "network": NETWORK,
    "sampling": SAMPLING,
    "raised": RAISED,
    "X": "X : {array-like, sparse matrix, torch.Tensor} of shape (n_samples, n_features)",
}


def _filled(doc):
    """A docstring with the texts in it, indented like the lines that they stand on."""

    def text(match):
        indent, name = match.groups()
        return indent + TEXTS[name].replace("\n", f"\n{indent}") if name in TEXTS else match[0]

    return re.sub(r"^( *)%\((\w+)\)s", text, doc or "", flags=re.MULTILINE)


def documented(method: F) -> F:
    """Put the shared texts into the docstring of a method."""
    method.__doc__ = _filled(method.__doc__)
    return method


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(dataclasses.field,))
def estimator(cls: T) -> T:
    """Declare an estimator: its annotated attributes are its parameters."""
    dataclasses.dataclass(eq=False, repr=False, kw_only=True)(cls)
    doc = _filled(cls.__doc__).replace("%(held_out)s", getattr(cls, "_held_out", ""))
    for parameter in dataclasses.fields(cls):
        doc = doc.replace(f"%({parameter.name})s", str(parameter.default))
    cls.__doc__ = doc
    return cls
