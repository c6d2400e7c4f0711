"""DBNClassifier, DBNRegressor: the gradient, one step, where it starts, what stays."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skebm import (
    DBN,
    BernoulliRBM,
    Checkpoint,
    ConvRBM,
    DBNClassifier,
    DBNRegressor,
    DropoutRBM,
    GaussianRBM,
    RBMClassifier,
    TabularRBM,
)
from skebm.engine.backprop import Network, _dropped, cross_entropy, squared_error
from skebm.engine.noise import Noise
from skebm.fitted import FittedModel, FittedStack
from tests.test_callbacks import Stop

every_kind = pytest.mark.parametrize("Estimator", [DBNClassifier, DBNRegressor])


def data(n=60, n_classes=3, seed=0):
    """Binary rows near one of some templates, and which."""
    rng = np.random.default_rng(seed)
    templates = np.random.default_rng(5).uniform(size=(n_classes, 9)) < 0.5
    y = rng.integers(n_classes, size=n)
    return (templates[y] ^ (rng.uniform(size=(n, 9)) < 0.1)).astype(np.float64), y


def small(Estimator, layers=(5, 4), **params):
    params = {"n_iter": 3, "learning_rate": 0.01, "batch_size": 16, "random_state": 0} | params
    return Estimator(DBN(layers, n_iter=2), **params)


def result(fitted, X):
    return fitted.predict_proba(X) if hasattr(fitted, "predict_proba") else fitted.predict(X)


def assert_same_fit(first, second):
    assert_array_equal(first.coef_, second.coef_)
    assert_array_equal(first.intercept_, second.intercept_)
    assert_same_layers(first.dbn_, second.dbn_)


def assert_same_layers(first, second):
    for one, other in zip(first.estimators_, second.estimators_, strict=True):
        for name in ("components_", "intercept_hidden_", "intercept_visible_"):
            assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# The gradient

STACKS = {
    "binary": {"layers": (5, 4)},
    "gaussian below": {"layers": (GaussianRBM(5), 4)},
    "gaussian above, which standardises": {"layers": (5, GaussianRBM(4))},
    "rectified": {"layers": (GaussianRBM(5, hidden="relu"), BernoulliRBM(4, hidden="nrelu"))},
    "spin": {"layers": (BernoulliRBM(5, hidden="spin"), BernoulliRBM(4, visible="spin"))},
    "temperature": {"layers": (5, 4), "temperature": (0.5, 2.0)},
    "dropout of the layers": {"layers": (DropoutRBM(5), DropoutRBM(4, drop="weights"))},
    "images": {"layers": (ConvRBM(3, kernel_size=2), ConvRBM(2, kernel_size=2))},
    "pooled images": {
        "layers": (ConvRBM(3, kernel_size=2, pool_size=2, visible="gaussian"), 4),
    },
    "strides": {"layers": (ConvRBM(3, kernel_size=2, stride=2), 4)},
    "a residual path": {"layers": (5, 4), "residual": (0.6, 1.2)},
    "labels": {"layers": (RBMClassifier(5), 4)},
    "a table": {"layers": (TabularRBM(5), 4)},
    "one layer": {"layers": (5,)},
}


@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("loss", [cross_entropy, squared_error], ids=lambda f: f.__name__)
def test_the_gradient_is_that_of_finite_differences(stack, loss):
    X, y = data(20)
    dbn = DBN(n_iter=1, random_state=0, **STACKS[stack]).fit(X, y)
    layers = FittedStack(dbn).layers(torch.device("cpu"), "high")
    rng = np.random.default_rng(0)
    n_features = dbn.estimators_[-1]._n_features_out
    for layer in layers:  # away from where all units are alike
        layer.model.W += torch.from_numpy(rng.normal(0, 0.5, layer.model.W.shape))
    V, d = (torch.from_numpy(rng.normal(size=shape)) for shape in ((3, n_features), (3,)))
    network = Network(layers, V, d)
    rows = torch.from_numpy(FittedModel(dbn.estimators_[0]).read(X))
    target = torch.from_numpy(np.eye(3)[y])

    def total():
        return loss(network(rows), target).mean()

    total().backward()
    step = 1e-6
    with torch.no_grad():
        for name, parameter in network.parameters().items():
            flat, slope = parameter.view(-1), parameter.grad.reshape(-1)
            assert slope.abs().max() > 1e-5, name
            for i in rng.choice(len(flat), min(6, len(flat)), replace=False):
                flat[i] += step
                above = total()
                flat[i] -= 2 * step
                below = total()
                flat[i] += step
                assert_allclose(
                    slope[i], (above - below) / (2 * step), rtol=1e-4, atol=1e-7, err_msg=name
                )


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_predictions_are_those_of_the_network_that_was_trained(stack):
    X, y = data()
    clf = DBNClassifier(DBN(n_iter=1, **STACKS[stack]), n_iter=2, random_state=0).fit(X, y)
    network = Network(
        FittedStack(clf.dbn_).layers(torch.device("cpu")),
        *map(torch.from_numpy, (clf.coef_.copy(), clf.intercept_.copy())),
    )
    rows = torch.from_numpy(FittedModel(clf.dbn_.estimators_[0]).read(X))
    with torch.no_grad():
        output = network(rows).numpy()
    assert_allclose(clf.predict_log_proba(X), np.log(softmax(output, 1)), rtol=1e-9)
    H = clf.dbn_.transform(X)
    assert_allclose(clf.predict_proba(X), softmax(H @ clf.coef_.T + clf.intercept_, 1))


def test_large_products_have_the_gradient_of_torchs_own():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(200, 400)).astype(np.float32)
    dbn = DBN((300, 200), n_iter=0, random_state=0).fit(X)
    slopes = []
    for precision in ("high", "highest"):
        layers = FittedStack(dbn).layers(torch.device("cpu"), precision)
        network = Network(layers, torch.ones(2, 200), torch.zeros(2))
        if precision == "highest":
            for layer in layers:
                W, c = layer.model.W, layer.model.c
                layer.model.hidden_field = lambda v, W=W, c=c: torch.addmm(c, v, W.T)
        squared_error(network(torch.from_numpy(X)), torch.ones(200, 2)).sum().backward()
        slopes.append([p.grad.clone() for p in network.parameters().values()])
    for ours, theirs in zip(*slopes):
        assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max())


# One update


def hand_made_step(clf, X, target, weight, rate, decay):
    """Weights and biases of a stack of one layer after one gradient step on all rows."""
    layer = clf.dbn_.estimators_[0]
    W, c, V, d = layer.components_, layer.intercept_hidden_, clf.coef_, clf.intercept_
    H = expit(X @ W.T + c)
    output = H @ V.T + d
    p = softmax(output, 1) if isinstance(clf, DBNClassifier) else output
    slope = weight[:, None] * (p - target) / weight.sum()
    back = slope @ V * H * (1 - H)
    return (
        W - rate * (back.T @ X + decay * W),
        c - rate * back.sum(0),
        V - rate * (slope.T @ H + decay * V),
        d - rate * slope.sum(0),
    )


@every_kind
def test_one_step_of_gradient_descent(Estimator):
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    settings = {"optimizer": "sgd", "batch_size": len(y), "weight_decay": 0.1}
    start = small(Estimator, [5], n_iter=0, **settings).fit(X, y, weight)
    after = small(Estimator, [5], n_iter=1, learning_rate=0.3, **settings).fit(X, y, weight)
    target = np.eye(3)[y]
    if Estimator is DBNRegressor:
        mean = np.average(y, weights=weight)
        deviation = np.sqrt(np.average((y - mean) ** 2, weights=weight))
        assert_allclose(start.target_scale_, [deviation], rtol=1e-5)
        target = ((y - mean) / deviation)[:, None]
    expected = hand_made_step(start, X, target, weight, 0.3, 0.1)
    layer = after.dbn_.estimators_[0]
    found = (layer.components_, layer.intercept_hidden_, after.coef_, after.intercept_)
    for one, other in zip(found, expected):
        assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert np.abs(layer.components_ - start.dbn_.estimators_[0].components_).max() > 1e-3


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_steps_with_momentum(momentum):
    X, y = data()
    dbn = DBN((5,), n_iter=2, random_state=0).fit(X)
    settings = {"optimizer": "sgd", "momentum": momentum, "freeze": "all", "random_state": 0}
    start = DBNClassifier(dbn, n_iter=0, **settings).fit(X, y)
    after = DBNClassifier(dbn, n_iter=3, batch_size=60, learning_rate=0.5, **settings).fit(X, y)
    H, V, d = dbn.transform(X), start.coef_, start.intercept_
    velocity = 0.0, 0.0
    for _ in range(3):
        slope = (softmax(H @ V.T + d, 1) - np.eye(3)[y]) / len(y)
        gradient = slope.T @ H, slope.sum(0)
        velocity = [momentum * v + g for v, g in zip(velocity, gradient)]
        V, d = V - 0.5 * velocity[0], d - 0.5 * velocity[1]
    assert_allclose(after.coef_, V, rtol=1e-6)
    assert_allclose(after.intercept_, d, rtol=1e-6)


def test_weights_of_classes_multiply_those_of_rows():
    X, y = data()
    weight = np.random.default_rng(0).integers(1, 3, len(y)).astype(float)
    dbn = DBN((5, 4), n_iter=2, random_state=0).fit(X)
    by_class = {0: 1, 1: 3, 2: 2}
    clf = DBNClassifier(dbn, n_iter=2, random_state=0, class_weight=by_class).fit(X, y, weight)
    same = DBNClassifier(dbn, n_iter=2, random_state=0)
    same.fit(X, y, weight * np.array([by_class[label] for label in y]))
    assert_same_fit(clf, same)
    counts = np.bincount(y, weights=weight)
    balanced = DBNClassifier(dbn, n_iter=2, random_state=0, class_weight="balanced")
    share = dict(enumerate(weight.sum() / (3 * counts)))
    explicit = DBNClassifier(dbn, n_iter=2, random_state=0, class_weight=share)
    assert_same_fit(balanced.fit(X, y, weight), explicit.fit(X, y, weight))


@every_kind
def test_the_norm_of_incoming_weights_is_capped(Estimator):
    X, y = data()
    fitted = small(Estimator, max_norm=0.2, learning_rate=0.1).fit(X, y)
    for layer in fitted.dbn_.estimators_:
        norms = np.linalg.norm(layer.components_, axis=1)
        assert norms.max() < 0.2 * (1 + 1e-6)
        assert norms.max() > 0.19
    assert np.linalg.norm(fitted.coef_, axis=1).max() > 0.2


def test_dropped_units_are_zero_and_the_mean_stays():
    x = torch.linspace(0.5, 2, 400_000, dtype=torch.float64)[None]
    dropped = _dropped(x, 0.2, Noise(0))[0]
    x = x[0]
    assert abs((dropped == 0).double().mean() - 0.2) < 0.004
    kept = dropped != 0
    assert_allclose(dropped[kept], x[kept] / 0.8)
    assert abs((dropped / x).mean() - 1) < 0.004


@every_kind
def test_what_is_dropped_learns_nothing(Estimator):
    X, y = data()
    start = small(Estimator, n_iter=0).fit(X, y)
    blind = small(Estimator, input_dropout=1 - 1e-9).fit(X, y)
    idle = small(Estimator, dropout=1 - 1e-9).fit(X, y)
    for fitted, same in ((blind, True), (idle, True), (small(Estimator).fit(X, y), False)):
        W, W0 = (each.dbn_.estimators_[0].components_ for each in (fitted, start))
        assert (np.abs(W - W0).max() < 1e-12) == same
    assert np.abs(blind.coef_ - start.coef_).max() > 1e-3
    assert_allclose(idle.coef_, start.coef_)
    assert np.abs(idle.intercept_ - start.intercept_).max() > 1e-3


@every_kind
def test_dropout_is_for_training_alone(Estimator):
    X, y = data()
    fits = {
        name: small(Estimator, **params).fit(X, y)
        for name, params in {
            "none": {},
            "hidden": {"dropout": 0.5},
            "input": {"input_dropout": 0.5},
        }.items()
    }
    assert_array_equal(result(fits["hidden"], X), result(fits["hidden"], X))
    for name in ("hidden", "input"):
        assert np.abs(result(fits[name], X) - result(fits["none"], X)).max() > 1e-4
    # A network that is not moved predicts alike, whatever is dropped meanwhile.
    still = {"learning_rate": 1e-300, "optimizer": "sgd"}
    first = small(Estimator, **still).fit(X, y)
    second = small(Estimator, dropout=0.5, input_dropout=0.3, **still).fit(X, y)
    assert_allclose(result(first, X), result(second, X))


# Where it starts


@every_kind
def test_without_steps_the_stack_is_what_pre_training_made(Estimator):
    X, y = data()
    rng = np.random.RandomState(0)
    dbn = DBN((5, 4), n_iter=2, random_state=rng).fit(X)
    for still in ({"n_iter": 0}, {"learning_rate": 1e-300, "optimizer": "sgd"}):
        fitted = small(Estimator, **still).fit(X, y)
        assert_same_layers(fitted.dbn_, dbn)
        assert_array_equal(fitted.dbn_.transform(X), dbn.transform(X))


@every_kind
def test_the_start_of_torch_is_the_one_without_pre_training(Estimator):
    X, y = data()
    one = small(Estimator, init="default").fit(X, y)
    assert_same_fit(one, small(Estimator, pretrain=False).fit(X, y))
    assert_same_fit(one, small(Estimator, pretrain=False, init="default").fit(X, y))
    start = Estimator((200, 100), pretrain=False, n_iter=0, random_state=0).fit(X, y)
    assert [layer.n_iter_ for layer in start.dbn_.estimators_] == [0, 0]
    for layer, n_inputs in zip(start.dbn_.estimators_, (9, 200)):
        for array in (layer.components_, layer.intercept_hidden_):
            assert np.abs(array).max() <= n_inputs**-0.5
            assert_allclose(array.std(), n_inputs**-0.5 / 3**0.5, rtol=0.15)
            assert_allclose(array.mean(), 0, atol=0.15 * n_inputs**-0.5)
    assert np.abs(start.coef_).max() <= 0.1


@every_kind
def test_the_scale_of_pre_training_can_be_had_without_its_weights(Estimator):
    X, y = data()
    dbn = DBN((80, 60), n_iter=5, random_state=0).fit(X)
    scaled = Estimator(dbn, init="scaled", n_iter=0, random_state=0).fit(X, y)
    for layer, trained in zip(scaled.dbn_.estimators_, dbn.estimators_):
        rms = [np.sqrt(np.square(each.components_).mean()) for each in (layer, trained)]
        assert_allclose(*rms, rtol=0.1)
        W, T = layer.components_.ravel(), trained.components_.ravel()
        assert abs(np.corrcoef(W, T)[0, 1]) < 0.15
        assert abs(W.mean()) < 0.15 * W.std()
        assert_allclose(layer.intercept_hidden_, trained.intercept_hidden_.mean())
    with pytest.raises(ValueError, match='init="scaled" takes the scale of pre-trained weights'):
        small(Estimator, pretrain=False, init="scaled").fit(X, y)


@every_kind
def test_a_fitted_stack_is_fine_tuned_and_stays_as_it_is(Estimator):
    X, y = data()
    dbn = DBN((5, 4), n_iter=3, random_state=1).fit(X)
    before = copy.deepcopy(dbn)
    fitted = Estimator(dbn, n_iter=2, learning_rate=0.01, random_state=0).fit(X[:30], y[:30])
    assert_same_layers(dbn, before)
    still = Estimator(dbn, n_iter=0).fit(X[:30], y[:30])
    assert_same_layers(still.dbn_, dbn)
    assert [layer.n_iter_ for layer in fitted.dbn_.estimators_] == [3, 3]
    assert np.abs(fitted.dbn_.transform(X) - dbn.transform(X)).max() > 1e-3
    kept = clone(Estimator(FrozenEstimator(dbn), n_iter=2, learning_rate=0.01, random_state=0))
    assert_same_fit(kept.fit(X[:30], y[:30]), fitted)
    assert not clone(Estimator(dbn)).layers.__sklearn_is_fitted__()
    with pytest.raises(ValueError, match="must hold a DBN or DBM that is fitted"):
        Estimator(FrozenEstimator(DBN((3,)))).fit(X, y)
    with pytest.raises(ValueError, match="X has 5 features, but BernoulliRBM is expecting 9"):
        Estimator(dbn).fit(X[:, :5], y)


@every_kind
@pytest.mark.parametrize("layers", [(5, 4), (GaussianRBM(5), 4), (RBMClassifier(5), 4)], ids=str)
def test_the_types_of_stack_and_rows_may_differ(Estimator, layers):
    X, y = data()
    fits = []
    for of_stack, of_rows in (("f4", "f8"), ("f8", "f4"), ("f8", "f8")):
        dbn = DBN(layers, n_iter=2, random_state=0).fit(X.astype(of_stack), y)
        fitted = Estimator(dbn, n_iter=2, random_state=0).fit(X.astype(of_rows), y)
        assert fitted.coef_.dtype == fitted.dbn_.estimators_[0].components_.dtype == of_rows
        fits.append(result(fitted, X.astype(of_rows)))
    assert_allclose(fits[0], fits[2], rtol=0.02, atol=1e-3)
    assert_allclose(fits[1], fits[2], rtol=0.02, atol=1e-3)


@every_kind
@pytest.mark.parametrize("freeze", [1, 2, "all"])
def test_frozen_layers_keep_their_weights(Estimator, freeze):
    X, y = data()
    dbn = DBN((5, 4), n_iter=2, random_state=0).fit(X)
    fitted = Estimator(dbn, freeze=freeze, n_iter=3, weight_decay=0.1, max_norm=0.1).fit(X, y)
    for k, (one, other) in enumerate(zip(fitted.dbn_.estimators_, dbn.estimators_)):
        moved = np.abs(one.components_ - other.components_).max()
        assert (moved > 1e-3) == (freeze == 1 and k == 1)
    start = Estimator(dbn, freeze=freeze, n_iter=0, random_state=0).fit(X, y)
    assert np.abs(fitted.coef_ - start.coef_).max() > 1e-3
    with pytest.raises(ValueError, match="freeze=3, but there are 2 layers"):
        Estimator(dbn, freeze=3).fit(X, y)


@every_kind
def test_the_state_after_up_down_can_be_fine_tuned(Estimator):
    X, y = data()
    dbn = DBN((5, 4), n_iter=2, fine_tune="up-down", random_state=0).fit(X)
    fitted = Estimator(dbn, n_iter=2, learning_rate=0.05, random_state=0).fit(X, y)
    assert_same_layers(Estimator(dbn, n_iter=0).fit(X, y).dbn_, dbn)
    down = fitted.dbn_.generative_
    assert_array_equal(down[0].components_, dbn.generative_[0].components_)
    assert fitted.dbn_.sample(3, n_steps=2).shape == (3, 9)


# Labels and targets


def test_rows_without_a_label_are_pre_trained_on_and_else_left_out():
    X, y = data()
    known = np.arange(len(y)) % 4 == 0
    partly = np.where(known, y, -1)
    dbn = DBN((5, 4), n_iter=2, random_state=0).fit(X)
    alone = DBNClassifier(dbn, n_iter=3, random_state=0).fit(X[known], y[known])
    assert_same_fit(DBNClassifier(dbn, n_iter=3, random_state=0).fit(X, partly), alone)
    both = small(DBNClassifier, n_iter=0).fit(X, partly)
    rng = np.random.RandomState(0)
    assert_same_layers(both.dbn_, DBN((5, 4), n_iter=2, random_state=rng).fit(X))
    assert_array_equal(both.classes_, [0, 1, 2])
    names = np.array(["a", "b", "c"], dtype=object)[y]
    assert_array_equal(
        DBNClassifier(dbn, n_iter=3, random_state=0).fit(X, names).predict(X),
        np.array(["a", "b", "c"])[
            DBNClassifier(dbn, n_iter=3, random_state=0).fit(X, y).predict(X)
        ],
    )
    with pytest.raises(ValueError, match="y has no label at all"):
        small(DBNClassifier).fit(X, np.full(len(y), -1))
    with pytest.raises(ValueError, match="sample_weight is zero for all rows with a label"):
        small(DBNClassifier).fit(X, partly, sample_weight=~known)


def test_epochs_are_counted_by_the_rows_that_have_labels():
    X, y = data(200)
    partly = np.where(np.arange(200) < 50, y, -1)
    dbn = DBN((3,), n_iter=1, random_state=0).fit(X)
    for labels, updates in ((partly, 25), (partly[:50], 25), (y, 100)):
        clf = DBNClassifier(dbn, batch_size=2, learning_rate=1e-6, n_iter_no_change=1000)
        assert clf.fit(X[: len(labels)], labels).n_iter_ == 1000 // updates


def test_default_training_ends_when_the_loss_no_longer_falls():
    X, y = data(200)
    dbn = DBN((8,), n_iter=1, random_state=0).fit(X)
    for tol in (3e-3, 1e-2):
        settings = {"learning_rate": 0.02, "tol": tol, "n_iter_no_change": 3, "random_state": 0}
        clf = DBNClassifier(dbn, **settings).fit(X, y)
        best = np.minimum.accumulate(clf.history_["log_loss"])
        falls = best[:-3] - best[3:]
        assert clf.n_iter_ < 50
        assert falls[-1] <= tol < falls[:-1].min()
    fixed = DBNClassifier(dbn, n_iter=clf.n_iter_ + 5, **settings).fit(X, y)
    assert fixed.n_iter_ == clf.n_iter_ + 5


def test_default_training_of_a_regressor_ends_whatever_the_unit_of_the_targets():
    X = data(200)[0]
    dbn = DBN((8,), n_iter=1, random_state=0).fit(X)
    settings = {"learning_rate": 0.02, "random_state": 0}
    epochs = [DBNRegressor(dbn, **settings).fit(X, u * X[:, 0]).n_iter_ for u in (1, 1e4)]
    assert epochs[0] == epochs[1] < 500


def test_two_classes_and_one():
    X, y = data(n_classes=2)
    clf = small(DBNClassifier, n_iter=50).fit(X, y == 1)
    assert clf.score(X, y == 1) > 0.9
    log_p = clf.predict_log_proba(X)
    assert_allclose(clf.decision_function(X), log_p[:, 1] - log_p[:, 0])
    assert_array_equal(small(DBNClassifier).fit(X, y * 0).predict_proba(X), np.ones((60, 1)))


def test_predictions_follow_the_units_of_the_targets():
    X, y = load_diabetes(return_X_y=True)
    layers = [GaussianRBM(6, n_iter=2)]
    plain = small(DBNRegressor, layers, n_iter=5).fit(X, y)
    other = small(DBNRegressor, layers, n_iter=5).fit(X, 1000 - 8 * y)
    mirrored = -(plain.predict(X) - plain.target_location_) / plain.target_scale_
    standard = (other.predict(X) - other.target_location_) / other.target_scale_
    assert np.corrcoef(mirrored, standard)[0, 1] > 0.9
    same = small(DBNRegressor, layers, n_iter=5).fit(X, 4 * y)
    assert_allclose(same.predict(X), 4 * plain.predict(X), rtol=1e-3)
    assert_allclose(
        plain.history_["mean_squared_error"][-1],
        np.square(y - plain.predict(X)).mean(),
        rtol=0.1,  # a thousand draws from the rows
    )


def test_several_targets():
    X, y = data()
    Y = np.c_[y, 2 * y, np.ones(len(y))]
    model = small(DBNRegressor, n_iter=200, learning_rate=0.02).fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert_allclose(model.predict(X)[:, 2], 1, atol=0.05)
    assert model.score(X, Y[:, :]) > 0.6
    alone = small(DBNRegressor).fit(X, y)
    column = small(DBNRegressor).fit(X, y[:, None])
    assert_array_equal(alone.predict(X), column.predict(X))
    with pytest.raises(ValueError, match="y has 1 outputs, but 3 were fitted"):
        model.partial_fit(X, y)


# Stopping and going on


@every_kind
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "sgd", "momentum": 0.9, "momentum_ramp": 2, "freeze": 1, "max_norm": 1.0},
        {"dropout": 0.3, "input_dropout": 0.1, "learning_rate_schedule": "invscaling"},
    ],
    ids=str,
)
def test_interrupted_and_resumed_is_uninterrupted(Estimator, change, tmp_path):
    X, y = data()
    whole = small(Estimator, n_iter=4, **change).fit(X, y)
    half = small(Estimator, n_iter=2, warm_start=True, **change).fit(X, y)
    resumed = pickle.loads(pickle.dumps(half)).fit(X, y)
    assert_same_fit(whole, resumed)
    assert_array_equal(resumed.history_["epoch"], [1, 2, 3, 4])
    parts = small(Estimator, n_iter=1, **change).fit(X, y)
    for _ in range(3):
        parts.partial_fit(X, y)
    assert_same_fit(whole, parts)
    path = tmp_path / "model.joblib"
    killed = small(Estimator, n_iter=4, **change)
    with pytest.raises(KeyboardInterrupt):
        # The layers have 2 epochs each.
        killed.set_callbacks(Checkpoint(path), Stop(2)).fit(X, y)
    assert_same_fit(whole, Checkpoint(path).resume(X, y))
    for layers in (whole.layers, whole.dbn_):
        seldom = Checkpoint(path, every=100)
        small(Estimator, n_iter=3).set_params(layers=layers).set_callbacks(seldom).fit(X, y)
        assert joblib.load(path).n_iter_ == 3  # the last is always written


@every_kind
def test_early_stopping_keeps_the_best_epoch(Estimator):
    X, y = data(100)
    rng = np.random.default_rng(0)
    y = np.where(rng.uniform(size=100) < 0.4, rng.integers(3, size=100), y)
    fitted = small(
        Estimator, n_iter=500, early_stopping=True, learning_rate=0.05, validation_fraction=0.3
    ).fit(X, y)
    scores = fitted.history_["validation_score"]
    best = int(np.argmax(scores))
    assert fitted.n_iter_ == len(scores) < 500
    assert fitted.n_iter_ >= best + 1 + 5
    held_out = fitted.training_progress_["held_out_seed"]
    stratify = y if Estimator is DBNClassifier else None
    _, test = train_test_split(
        np.arange(100), test_size=0.3, random_state=int(held_out), stratify=stratify
    )
    if Estimator is DBNClassifier:
        assert_allclose(fitted.score(X[test], y[test]), scores[best])
    else:
        error = (fitted.predict(X[test]) - y[test]) / fitted.target_scale_
        assert_allclose(-np.square(error).mean(), scores[best], rtol=1e-6)


@every_kind
def test_a_fit_that_diverges_leaves_nothing_behind(Estimator):
    X, y = data()
    model = small(Estimator, optimizer="sgd", learning_rate=1e300, weight_decay=1e300)
    with pytest.raises(ValueError, match=f"{Estimator.__name__} diverged in epoch 1"):
        model.fit(X, y)
    assert not [name for name in vars(model) if name.endswith("_")]


# In use


def test_it_learns_digits(digits):
    X, y = digits
    for params in ({}, {"pretrain": False}, {"init": "scaled"}):
        clf = DBNClassifier((64, 32), random_state=0, **params).fit(X[:1000], y[:1000])
        assert clf.score(X[1000:], y[1000:]) > 0.9


def test_a_grid_search_in_a_pipeline_over_layers_and_their_parameters():
    X, y = data(90)
    stack = DBN([("bottom", BernoulliRBM(6)), 4], n_iter=2)
    clf = DBNClassifier(stack, n_iter=80, learning_rate=0.02, random_state=0)
    grid = [
        {"dbnclassifier__layers__bottom__n_components": [3, 8]},
        {
            "dbnclassifier__layers": [(6,), (6, 5)],
            "dbnclassifier__init": ["default", "pretrained"],
        },
    ]
    model = GridSearchCV(make_pipeline(MinMaxScaler(), clf), grid, cv=2, error_score="raise")
    model.fit(X, y)
    assert len(model.cv_results_["params"]) == 6
    assert model.best_score_ > 0.8


def test_history_and_verbose(capsys):
    X, y = data()
    clf = small(DBNClassifier, layers=(5,), verbose=1).fit(X, y)
    out = capsys.readouterr().out
    assert out.count("[BernoulliRBM, layer 1] Iteration") == 2
    assert "[DBNClassifier] Iteration 3, log loss = " in out
    small(DBNRegressor, verbose=1).fit(X, y)
    assert "[DBNRegressor] Iteration 3, mean squared error = " in capsys.readouterr().out
    p = clf.predict_proba(X)
    assert_allclose(clf.history_["log_loss"][-1], -np.log(p[np.arange(60), y]).mean(), rtol=0.2)
    assert clf.n_iter_ == 3
    assert_array_equal(clf.dbn_.history_["layer"], [0, 0])


def test_rows_without_a_target_are_pre_trained_on_and_nothing_else():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(60, 5)), rng.normal(size=60)
    y[::3] = np.nan
    stack = FrozenEstimator(DBN([4], n_iter=2, random_state=0).fit(X))
    settings = {"n_iter": 5, "batch_size": 8, "random_state": 0}
    given = DBNRegressor(stack, **settings).fit(X, y)
    known = ~np.isnan(y)
    expected = DBNRegressor(stack, **settings).fit(X[known], y[known])
    assert_array_equal(given.coef_, expected.coef_)
    assert np.isfinite(given.history_["mean_squared_error"]).all()
    assert_array_equal(
        DBNRegressor([4], random_state=0, n_iter=1).fit(X, y).dbn_.estimators_[0].feature_means_,
        DBN([4], random_state=0).fit(X).estimators_[0].feature_means_,
    )
    with pytest.raises(ValueError, match="an output without any target"):
        DBNRegressor(stack).fit(X, np.full(60, np.nan))


def test_a_target_that_is_unknown_has_no_gradient():
    rng = np.random.default_rng(0)
    X, Y = rng.uniform(size=(60, 5)), rng.normal(size=(60, 2))
    Y[::2, 1] = np.nan
    model = DBNRegressor([4], n_iter=3, early_stopping=True, random_state=0).fit(X, Y)
    assert np.isfinite(model.coef_).all()
    output, target = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, torch.nan]])
    squared_error(output, target).sum().backward()
    assert output.grad.tolist() == [[-3.0, 0.0]]


def test_a_stack_that_is_handed_over_keeps_its_random_stream():
    X, y = data()
    dbn = DBN([4], n_iter=1, random_state=0).fit(X)
    expected = copy.deepcopy(dbn).sample(3, 2)
    DBNClassifier(dbn, n_iter=1).fit(X, y).dbn_.sample(3, 2)
    assert_array_equal(dbn.sample(3, 2), expected)


def test_errors_of_large_targets_are_finite():
    X, y = np.eye(6), np.arange(6) * 1e20
    history = DBNRegressor([3], n_iter=2, random_state=0).fit(X, y).history_
    assert np.isfinite(history["mean_squared_error"]).all()
