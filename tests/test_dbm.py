"""DBM: the estimator, against formulas in numpy and enumeration."""

import itertools
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skebm import (
    DBM,
    DBN,
    PCD,
    BernoulliRBM,
    CategoricalRBM,
    ConvRBM,
    DBNClassifier,
    DBNRegressor,
    DropoutRBM,
    Exact,
    GaussianRBM,
    RBMClassifier,
    TabularRBM,
    log_likelihood,
    log_partition,
    pseudo_likelihood,
)
from skebm.dbm import GreedyDBN
from skebm.fitted import FittedModel


@pytest.fixture(scope="module")
def X():  # noqa: N802
    rng = np.random.default_rng(0)
    causes = np.repeat(rng.integers(0, 2, (200, 1)), 2, axis=1)
    causes ^= rng.uniform(size=(200, 2)) < 0.1  # two causes that depend on another one
    noise = rng.uniform(size=(200, 6)) < 0.1
    return (np.repeat(causes, 3, axis=1) ^ noise).astype(np.float64)


def binary(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n)))


def energy(dbm, parts):
    """E(v, h), from the fitted layers and the formula in the docstring."""
    total = -parts[0] @ dbm.estimators_[0].intercept_visible_
    for layer, below, h in zip(dbm.estimators_, parts, parts[1:]):
        total -= h @ layer.intercept_hidden_ + np.einsum("ni,ij,nj->n", h, layer.components_, below)
    return total


def enumerated(dbm):
    """All rows, and log Σ_h exp(−E(v, h) / T) of each."""
    sizes = [dbm.n_features_in_, *(len(layer.components_) for layer in dbm.estimators_)]
    states = binary(sum(sizes))
    parts = np.split(states, np.cumsum(sizes)[:-1], axis=1)
    total = -energy(dbm, parts) / dbm.temperature
    total = total.reshape(2 ** sizes[0], -1)
    return binary(sizes[0]), np.logaddexp.reduce(total, axis=1)


def fitted(X, layers=(4, 3), **settings):
    settings = {"n_iter": 20, "learning_rate": 0.1, "random_state": 0} | settings
    return DBM(layers, **settings).fit(X)


@pytest.mark.parametrize("layers", [(4,), (4, 3), (3, 3, 2)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_scores_are_those_of_the_energy_of_the_fitted_layers(layers, temperature, X):
    dbm = fitted(X, layers, temperature=temperature, mean_field_tol=1e-9)
    rows, total = enumerated(dbm)
    log_z = np.logaddexp.reduce(total)
    assert_allclose(log_partition(dbm).value, log_z, rtol=1e-6)
    log_p = total - log_z
    bound = dbm.score_samples(rows)
    assert (bound <= log_p + 1e-4).all()
    assert (bound > log_p - 1).all()
    estimate = log_likelihood(dbm, rows, n_draws=2000)
    assert_allclose(estimate, log_p, atol=0.1)
    assert_allclose(estimate, dbm.score_samples(rows, method="importance", n_draws=2000), atol=1e-6)
    assert_allclose(dbm.score(rows), bound.mean())
    ais = log_partition(dbm, method="bracket", random_state=0)
    assert ais.lower - 0.1 < log_z < ais.upper + 0.1
    # the mean of the bound rises with training: the model has learned something
    assert dbm.score(X) > fitted(X, layers, n_iter=0, pretrain=False).score(X) + 0.3


@pytest.mark.parametrize(
    "layer",
    [
        BernoulliRBM(5, learning_rate=0.1, n_iter=4, gradient=PCD()),
        BernoulliRBM(5, learning_rate=0.1, n_iter=4, momentum=0.5, gradient="cd", l1b=0.01),
        BernoulliRBM(
            5, learning_rate=0.1, n_iter=4, gradient=PCD(2), temperature=2.0, max_norm=1.0
        ),
        GaussianRBM(5, learning_rate=0.1, n_iter=4, gradient=PCD(n_chains=10)),
        CategoricalRBM(5, learning_rate=0.1, n_iter=4, gradient=PCD()),
    ],
)
def test_a_model_of_one_hidden_layer_is_the_rbm_bit_for_bit(layer, X):
    shared = DBM().get_params(deep=False).keys() & layer.get_params(deep=False).keys()
    shared -= {"output", "warm_start", "random_state"}
    params = {name: getattr(layer, name) for name in shared}
    dbm = DBM([layer], pretrain=False, random_state=3).set_params(**params).fit(X)
    rbm = clone(layer).set_params(random_state=3).fit(X)
    for name in ("components_", "intercept_visible_", "intercept_hidden_"):
        assert_array_equal(getattr(dbm.estimators_[0], name), getattr(rbm, name))
    dbm.partial_fit(X)
    rbm.partial_fit(X)
    assert_array_equal(dbm.estimators_[0].components_, rbm.components_)
    assert_allclose(dbm.transform(X), rbm.transform(X), rtol=1e-6)
    assert_allclose(dbm.free_energy(X), rbm.free_energy(X), rtol=1e-6)
    assert_allclose(dbm.score_samples(X), log_likelihood(rbm, X, random_state=0), rtol=1e-6)
    sample = {"n_steps": 3, "random_state": 0}
    assert_array_equal(dbm.sample(5, **sample), rbm.sample(5, **sample))


def test_samples_follow_the_model(X):
    dbm = fitted(X)
    rows, total = enumerated(dbm)
    p = np.exp(total - np.logaddexp.reduce(total))
    n = 20_000

    def shares(samples):
        return np.bincount(samples.astype(int) @ (1 << np.arange(6)[::-1]), minlength=64) / n

    for method in ("gibbs", "pt"):
        found = shares(dbm.sample(n, 60, method=method, random_state=0))
        assert ((found - p) ** 2 / p).sum() * n < 63 + 4 * math.sqrt(2 * 63), method
    # given the first two features
    clamped = np.array([True, True, *[False] * 4])
    start = np.tile([1.0, 0, 0, 0, 0, 0], (n, 1))
    rows_given = dbm.gibbs(start, 60, clamped=clamped, random_state=0)
    assert (rows_given[:, :2] == [1, 0]).all()
    given = p * (rows[:, :2] == [1, 0]).all(1)
    given /= given.sum()
    assert np.abs(shares(rows_given) - given).max() < 0.015
    holes = np.where(clamped, start, np.nan)
    filled = dbm.impute(holes[:4000], 200, random_state=0)
    assert_allclose(filled[:, 2:].mean(0), (given @ rows)[2:], atol=0.02)
    assert (filled[:, :2] == [1, 0]).all()
    chains = dbm.sample_chains(3, 5, init=X[:3], random_state=0)
    assert chains.draws.shape == (3, 5, 6)


def test_the_temperature_of_a_fitted_model_counts(X):
    dbm = fitted(X)
    z = log_partition(dbm).value
    dbm.set_params(temperature=2.0)
    rows, total = enumerated(dbm)
    assert abs(log_partition(dbm).value - z) > 0.3
    assert_allclose(log_partition(dbm).value, np.logaddexp.reduce(total), rtol=1e-6)
    p = np.exp(total - np.logaddexp.reduce(total))
    at_two = dbm.sample(20_000, 40, random_state=0).mean(0)
    assert_allclose(at_two, p @ rows, atol=0.015)
    dbm.set_params(temperature=1.0)
    assert_allclose(dbm.sample(20_000, 40, temperature=2.0, random_state=0).mean(0), at_two)
    one = fitted(X, (4,)).set_params(temperature=2.0)
    F = one.free_energy(X) / 2
    assert_allclose(-F - log_partition(one).value, log_likelihood(one, X), rtol=1e-5)


def test_missing_entries_are_filled_by_all_layers():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 400)
    noisy = np.where(rng.uniform(size=(6, 400)) < 0.9, kind, 1 - kind).astype(bool)
    columns = {f"b{i}": column for i, column in enumerate(noisy)}
    whole = pd.DataFrame(columns | {"a": kind * 6 + rng.normal(size=400)})
    holes = whole.copy()
    holes.loc[::4, "a"] = np.nan
    dbm = DBM((TabularRBM(6, n_iter=60), 4), gradient="cd", n_iter=5, random_state=0).fit(holes)
    missing = holes["a"].isna()
    deviation = whole["a"].std()
    for filled in (
        dbm.impute(holes, random_state=0),
        pd.DataFrame(dbm.encoding_.present(dbm._read(holes, reset=False))),
    ):
        error = (filled["a"] - whole["a"])[missing]
        assert np.sqrt((error**2).mean()) < 0.6 * deviation
    assert dbm.transform(holes).shape == (400, 4)
    again = pickle.loads(pickle.dumps(dbm)).partial_fit(holes)
    assert_array_equal(again.transform(holes), dbm.partial_fit(holes).transform(holes))


def test_l1b_of_a_layer_does_not_depend_on_the_others(X):
    norms = []
    for layers in ((6, 4), (6, 40, 3)):
        dbm = fitted(X, layers, n_iter=1, l1b=1.0, pretrain=False, learning_rate=0.2)
        norms.append(np.abs(dbm.estimators_[0].components_).mean())
    assert_allclose(norms[0], norms[1], rtol=0.1)


def test_layers_that_are_trained_alone_have_the_mean_of_both_fields(X):
    # The field of a layer is half of that of the RBM below and half of that of the RBM above.
    stack = GreedyDBN((5, 4, 3), n_iter=3, random_state=0).fit(X)
    dbm = DBM((5, 4, 3))
    dbm.estimators_ = stack.halved()
    model = FittedModel(dbm).rbm()
    W, W2, W3 = (layer.components_ for layer in stack.estimators_)
    b, b2, b3 = (layer.intercept_visible_ for layer in stack.estimators_)
    c, c2, c3 = (layer.intercept_hidden_ for layer in stack.estimators_)
    rng = np.random.default_rng(0)
    v, h1, h2, h3 = (rng.integers(0, 2, (7, n)) * 1.0 for n in (6, 5, 4, 3))
    as_tensors = model.visible.from_rows
    even = as_tensors(torch_of(v))
    even[:, 6:] = torch_of(h2)
    odd = torch_of(np.hstack([h1, h3]))
    field_1, field_3 = model.hidden_field(even).split([5, 3], 1)
    field_v, field_2 = model.visible_field(odd).split([6, 4], 1)
    # two copies of the rows below, and a layer in the middle as it is
    from_below, from_above = c + 2 * v @ W.T, b2 + h2 @ W2
    assert_allclose(field_1, (from_below + from_above) / 2, rtol=1e-6)
    assert_allclose(field_v, b + h1 @ W, rtol=1e-6)
    # the copies of the top count twice for the layer below
    assert_allclose(field_2, (c2 + h1 @ W2.T + b3 + 2 * h3 @ W3) / 2, rtol=1e-6)
    assert_allclose(field_3, c3 + h2 @ W3.T, rtol=1e-6)
    assert not any(layer.intercept_visible_.any() for layer in dbm.estimators_[1:])


def torch_of(array):
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def test_the_first_layer_is_trained_with_two_copies_of_the_rows(X):
    # In the greedy stack a first layer sees the row twice: features are σ(c + 2 W v).
    stack = GreedyDBN((5, 4), n_iter=3, random_state=0).fit(X)
    first = stack.estimators_[0]
    field = first.intercept_hidden_ + 2 * X @ first.components_.T
    assert_allclose(first.transform(X), 1 / (1 + np.exp(-field)), rtol=1e-6)
    alone = BernoulliRBM(5, n_iter=3, random_state=0).fit(X)
    assert np.abs(alone.components_ - first.components_).max() > 0.01


def test_layers_may_be_trained_by_the_exact_gradient(X):
    layers = [BernoulliRBM(3, gradient=Exact()), BernoulliRBM(2, gradient=Exact())]
    assert fitted(X, layers, n_iter=0).score(X) > fitted(X, (3, 2), pretrain=False, n_iter=0).score(
        X
    )


def test_pretraining_gives_a_better_start(X):
    scores = [fitted(X, n_iter=0, pretrain=pretrain).score(X) for pretrain in (True, False)]
    assert scores[0] > scores[1] + 0.3


def test_features(X):
    dbm = fitted(X, (4, 3, 2))
    top = dbm.transform(X)
    everything = dbm.set_params(output="all").transform(X)
    assert everything.shape == (200, 9)
    assert_array_equal(everything[:, -2:], top)
    assert dbm.get_feature_names_out()[-1] == "dbm8"
    first = dbm.estimators_[0]
    means = 1 / (1 + np.exp(-(everything[:, :4] @ first.components_ + first.intercept_visible_)))
    assert_allclose(dbm.inverse_transform(everything), means, rtol=1e-6)
    dbm.set_params(output="top")
    with pytest.raises(ValueError, match=r"X has 3 features, but DBM\.inverse_transform expects 2"):
        dbm.inverse_transform(np.zeros((1, 3)))


def test_rows_come_back_from_the_top_layer(digits):
    rows = digits[0] > 0.5
    dbm = DBM((60, 40), n_iter=5, batch_size=20, random_state=0).fit(rows)
    error = ((dbm.inverse_transform(dbm.transform(rows)) - rows) ** 2).mean()
    assert error < 0.65 * rows.var(0).mean()


def test_history(X):
    dbm = fitted(X, n_iter=5, mean_field_sweeps=4)
    history = dbm.history_
    assert list(history["epoch"]) == [1, 2, 3, 4, 5]
    assert (history["mean_field_sweeps"] >= 1).all()
    assert (history["mean_field_sweeps"] <= 4).all()
    assert (history["mean_field_unconverged"] >= 0).all()
    assert history["reconstruction_error"][-1] < X.var(0).mean()
    assert history["chain_distance"][-1] < 0.4
    hasty = fitted(X, n_iter=5, mean_field_sweeps=1, mean_field_tol=1e-9).history_
    assert_array_equal(hasty["mean_field_sweeps"], 1)
    assert_array_equal(hasty["mean_field_unconverged"], 1)


def test_training_goes_on_where_it_was(X):
    settings = {"momentum": 0.5, "gradient": PCD(n_chains=20), "learning_rate_schedule": "constant"}
    for temperature in (1.0, 2.0):
        whole = fitted(X, n_iter=4, temperature=temperature, **settings)
        parts = fitted(X, n_iter=2, temperature=temperature, **settings)
        parts.set_params(warm_start=True).fit(X)
        step = fitted(X, n_iter=3, temperature=temperature, **settings).partial_fit(X)
        for other in (parts, step):
            for one, two in zip(whole.estimators_, other.estimators_):
                assert_array_equal(one.components_, two.components_)
                assert_array_equal(one.intercept_hidden_, two.intercept_hidden_)
    with pytest.raises(ValueError, match=r"layers=.* differs from the layers of the fitted"):
        whole.set_params(layers=(4, 2), warm_start=True).fit(X)


def test_early_stopping_keeps_the_best_epoch(X):
    settings = {"early_stopping": True, "validation_fraction": 0.3, "pretrain": False}
    dbm = fitted(X, n_iter=60, n_iter_no_change=60, **settings)
    scores = dbm.history_["validation_score"]
    best = 1 + scores.argmax()
    assert scores.max() > scores[0] + 0.1
    again = fitted(X, n_iter=best, n_iter_no_change=60, **settings)
    for one, other in zip(dbm.estimators_, again.estimators_):
        assert_array_equal(one.components_, other.components_)
    # The score is the mean bound of the held-out rows, with the exact log Z of so few units.
    held_out = dbm.history_["validation_score"][best - 1]
    assert abs(held_out - dbm.score(X)) < 0.3


def test_the_exact_gradient_climbs_to_the_maximum(X):
    # Two causes of three copies each: two hidden layers can learn the law of the rows.
    dbm = fitted(X, (3, 2), gradient=Exact(), n_iter=150, learning_rate=0.3, batch_size=200)
    _, counts = np.unique(X, axis=0, return_counts=True)
    entropy = -(counts / 200 * np.log(counts / 200)).sum()
    assert -3.6 < dbm.score(X) < -entropy
    assert dbm.score(X) > fitted(X, (3, 2)).score(X) - 0.05


def test_real_valued_rows_and_categories():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 300)
    real = np.where(kind, 2.0, -2.0)[:, None] * [1, -1, 1] + rng.normal(size=(300, 3))
    first = GaussianRBM(4, n_iter=30)
    dbm = DBM([first, 3], n_iter=40, learning_rate=0.02, random_state=0).fit(real)
    alone = log_likelihood(GaussianRBM(1, n_iter=0, random_state=0).fit(real), real).mean()
    assert dbm.score(real) > alone + 1
    samples = dbm.sample(2000, 200, random_state=0)
    assert_allclose(samples.mean(0), real.mean(0), atol=0.6)
    assert_allclose(np.cov(samples.T), np.cov(real.T), atol=1.5)
    table = np.array([["a", "b"], ["c", "d"]], dtype=object)[kind]
    settings = {"n_iter": 30, "learning_rate": 0.1, "random_state": 0}
    dbm = DBM([CategoricalRBM(3, n_iter=30), 2], **settings).fit(table)
    rows = dbm.sample(300, 100, random_state=0)
    assert ((rows == ["a", "b"]).all(1) | (rows == ["c", "d"]).all(1)).mean() > 0.9
    assert dbm.score(table) > -1.2


@pytest.fixture(scope="module")
def labelled():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 400)
    of_class = 0.1 + 0.8 * np.repeat(np.eye(3), 3, axis=1)[y]
    return (rng.uniform(size=(400, 9)) < of_class) * 1.0, y


@pytest.mark.parametrize("layers", [(8,), (8, 6), (8, 6, 5)])
def test_labels_at_the_top(layers, labelled):
    X, y = labelled
    *lower, top = layers
    dbm = DBM([*lower, RBMClassifier(top)], n_iter=20 * len(layers), random_state=0)
    assert is_classifier(dbm)
    names = np.array(["x", "y", "z"])
    dbm.fit(X, names[y])
    assert dbm.score(X, names[y]) > 0.85
    assert_array_equal(dbm.classes_, names)
    assert_allclose(dbm.predict_proba(X).sum(1), 1, rtol=1e-6)
    assert_array_equal(dbm.predict(X), names[dbm.predict_log_proba(X).argmax(1)])
    assert dbm.history_["accuracy"][-1] > 0.85
    assert dbm.transform(X).shape == (400, top)
    wanted = np.repeat(names, 200)
    samples = dbm.sample(600, 100, y=wanted, random_state=0)
    assert (dbm.predict(samples) == wanted).mean() > 0.85
    blocks = samples.reshape(3, 200, 3, 3).mean((1, 3))
    assert (blocks.argmax(1) == [0, 1, 2]).all()
    few = np.where(np.arange(400) < 60, y, -1)
    semi = clone(dbm).set_params(layers=[*lower, RBMClassifier(top, unlabeled=-1)]).fit(X, few)
    assert semi.score(X, y) > 0.85


def test_the_probabilities_of_labels(labelled):
    X, y = labelled
    dbm = DBM([RBMClassifier(5)], n_iter=10, random_state=0).fit(X, y)
    exact = dbm.estimators_[0].predict_log_proba(X)
    assert_allclose(dbm.predict_log_proba(X), exact, rtol=1e-4, atol=1e-4)
    # Two layers, by enumeration of the hidden units.
    dbm = DBM([3, RBMClassifier(3)], n_iter=10, random_state=0).fit(X, y)
    first, top = dbm.estimators_
    h = binary(6)
    h1, h2 = h[:, :3], h[:, 3:]
    of_h = h1 @ first.intercept_hidden_ + h2 @ top.intercept_hidden_
    of_h += np.einsum("ni,ij,nj->n", h2, top.components_, h1)
    of_rows = X @ (h1 @ first.components_).T + of_h  # (n, n_states)
    of_labels = h2 @ top.label_components_ + top.intercept_label_  # (n_states, n_classes)
    exact = np.logaddexp.reduce(of_rows[:, :, None] + of_labels, axis=1)
    exact -= np.logaddexp.reduce(exact, axis=1, keepdims=True)
    assert np.abs(np.exp(dbm.predict_log_proba(X)) - np.exp(exact)).mean() < 0.03
    assert dbm.score(X, y) == np.mean(dbm.predict(X) == y)
    with pytest.raises(ValueError, match="pass y"):
        dbm.score(X)
    net = DBNClassifier(DBM([6, RBMClassifier(5)], n_iter=2), posterior_inputs=True, n_iter=5)
    assert net.fit(X, y).predict_proba(X).shape == (400, 3)


def test_classes_of_chunks(labelled):
    X, y = labelled
    dbm = DBM([8, RBMClassifier(6)], learning_rate=0.1, random_state=0)
    first = y[:100] < 2  # a class is not there yet
    dbm.partial_fit(X[:100][first], y[:100][first], classes=[0, 1, 2])
    for _ in range(60):
        dbm.partial_fit(X, y)
    assert dbm.score(X, y) > 0.85
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        clone(dbm).partial_fit(X, y)


def test_what_needs_labels_is_not_there_without(X):
    dbm = fitted(X)
    assert not is_classifier(dbm)
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        assert not hasattr(dbm, name)
    with pytest.raises(ValueError, match="y needs a last layer that is a classifier"):
        dbm.sample(2, 5, y=1)


def test_errors(X):
    for layer in (ConvRBM(3), DropoutRBM(3), BernoulliRBM(3, hidden="spin"), RBMClassifier(2)):
        with pytest.raises(ValueError, match="layers: layer1 of a DBM must be"):
            DBM([layer, 3]).fit(X, X[:, 0])
    for layer in (GaussianRBM(3), BernoulliRBM(3, visible="spin"), CategoricalRBM(3)):
        with pytest.raises(
            ValueError, match=r"layers: layer2 of a DBM must be|can only be the first"
        ):
            DBM([4, layer]).fit(X)
    with pytest.raises(ValueError, match=r"sparsity_target=0\.1 is for one hidden layer"):
        DBM((4, 3), sparsity_target=0.1).fit(X)
    with pytest.raises(ValueError, match="sample_weight"):
        DBM((4, 3)).fit(X, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="layers must have at least one layer"):
        DBM([]).fit(X)
    dbm = fitted(X)
    assert not hasattr(dbm, "free_energy")
    with pytest.raises(AttributeError, match="has no attribute 'free_energy'") as error:
        dbm.free_energy(X)
    assert "free energy of a DBM with several hidden layers" in str(error.value.__cause__)
    with pytest.raises(ValueError, match="pseudo_likelihood is defined for models of binary"):
        pseudo_likelihood(dbm, X)
    with pytest.raises(ValueError, match="marginal=True is for models of binary rows"):
        dbm.sample(2, temperature=0.5, marginal=True)


def test_in_pipelines_and_searches(X):
    y = X[:, 0] + X[:, 3] > 1
    model = make_pipeline(DBM((6, 4), n_iter=5, random_state=0), DBNClassifier((4,), n_iter=5))
    grid = {"dbm__layer1__n_iter": [2, 4], "dbm__gradient__n_steps": [1, 2]}
    model.set_params(dbm__layers=[("layer1", BernoulliRBM(6)), ("layer2", BernoulliRBM(4))])
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert search.best_estimator_["dbm"].estimators_[0].n_iter in (2, 4)
    dbm = DBM([("a", BernoulliRBM(6)), ("b", 4)])
    dbm.set_params(a__n_iter=3, b=BernoulliRBM(5))
    assert [len(layer.components_) for layer in dbm.fit(X).estimators_] == [6, 5]


def test_networks_start_from_the_first_pass_of_mean_field(X):
    y = (X[:, 0] + X[:, 3] > 1) * 1
    dbm = fitted(X, (6, 4))
    W, W2 = (layer.components_ for layer in dbm.estimators_)
    c, c2 = (layer.intercept_hidden_ for layer in dbm.estimators_)
    h = 1 / (1 + np.exp(-(c + 2 * X @ W.T)))
    features = 1 / (1 + np.exp(-(c2 + h @ W2.T)))
    stack = dbm.as_dbn()
    assert isinstance(stack, DBN)
    assert_allclose(stack.transform(X), features, rtol=1e-6)
    start = DBNClassifier(dbm, n_iter=0, random_state=0).fit(X, y)
    assert_allclose(start.dbn_.transform(X), features, rtol=1e-6)
    tuned = DBNClassifier(DBM((6, 4), n_iter=5), n_iter=30, learning_rate=0.02, random_state=0)
    assert tuned.fit(X, y).score(X, y) > 0.85
    assert_allclose(dbm.as_dbn().transform(X), features, rtol=1e-6)
    regressor = DBNRegressor(dbm, n_iter=20, learning_rate=0.02, random_state=0).fit(X, X[:, 0])
    assert regressor.score(X, X[:, 0]) > 0.7
    plain = DBNClassifier(DBM((6, 4)), pretrain=False, n_iter=2, random_state=0).fit(X, y)
    assert np.abs(plain.dbn_.estimators_[0].components_).max() < 0.6


def test_networks_with_posterior_inputs_start_from_the_features_of_the_model(X):
    y = (X[:, 0] + X[:, 3] > 1) * 1
    real = X + np.random.default_rng(0).normal(0, 0.1, X.shape)
    for layers, rows in (((6, 4), X), ([GaussianRBM(6), 4], real)):
        dbm = DBM(layers, n_iter=3, random_state=0, mean_field_tol=1e-9).fit(rows)
        start = DBNClassifier(dbm, posterior_inputs=True, n_iter=0, random_state=0).fit(rows, y)
        assert_allclose(start.dbn_.transform(rows), dbm.transform(rows), rtol=1e-5)
        settings = {"posterior_inputs": True, "n_iter": 30, "learning_rate": 0.02}
        tuned = DBNClassifier(dbm, random_state=0, **settings).fit(rows, y)
        assert tuned.score(rows, y) > 0.85
        again = pickle.loads(pickle.dumps(tuned))
        assert_array_equal(again.predict_proba(rows), tuned.predict_proba(rows))
        assert tuned.n_features_in_ == 6
    with pytest.raises(ValueError, match="posterior_inputs=True needs a DBM"):
        DBNClassifier((4,), posterior_inputs=True).fit(X, y)


def test_the_same_draws_whatever_other_rows_there_are(X):
    dbm = fitted(X)
    together = dbm.score_samples(X[:10], method="importance")
    apart = [dbm.score_samples(row[None], method="importance")[0] for row in X[:10]]
    assert_allclose(together, apart, rtol=1e-12)
    assert (together >= dbm.score_samples(X[:10]) - 0.2).all()


def test_displays(X):
    pytest.importorskip("matplotlib").use("Agg")
    import skebm

    dbm = fitted(X, early_stopping=True)
    skebm.ComponentsDisplay.from_estimator(dbm, layer=1)
    skebm.ReconstructionDisplay.from_estimator(dbm, X[:3])
    skebm.SamplesDisplay.from_estimator(dbm, n_steps=3, n_columns=2, random_state=0)
    skebm.TrainingDisplay.from_estimator(dbm)
    skebm.ModeDisplay.from_estimator(dbm, X, n_clusters=2, random_state=0)
    skebm.LikelihoodDisplay.from_estimator(dbm, X)
