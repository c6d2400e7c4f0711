"""RBMClassifier: exact p(y | v), three objectives, labels that are missing, rows of a class."""

import itertools
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit, logsumexp, softmax
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skebm import Checkpoint, DBNClassifier, Exact, RBMClassifier, log_partition

FITTED = [
    "components_",
    "label_components_",
    "intercept_visible_",
    "intercept_label_",
    "intercept_hidden_",
]
every_objective = pytest.mark.parametrize("objective", ["hybrid", "discriminative", "generative"])


def templates(n=200, n_features=6, n_classes=3, flips=0.15, seed=0):
    """Binary rows near one of some templates, and which."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(5).uniform(size=(n_classes, n_features)) < 0.5
    y = rng.integers(n_classes, size=n)
    return (patterns[y] ^ (rng.uniform(size=(n, n_features)) < flips)).astype(np.float64), y


def small(**params):
    params = {"n_components": 5, "n_iter": 4, "random_state": 0} | params
    return RBMClassifier(**params)


def assert_same_fit(first, second):
    for name in FITTED:
        assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def minus_energies(clf):
    """−E/T of every binary (v, y, h) and all v, written out in numpy: (2^D, K, 2^H)."""
    W, U = clf.components_, clf.label_components_
    v, h = (np.array(list(itertools.product([0.0, 1.0], repeat=n))) for n in W.shape[::-1])
    of_v = (v @ clf.intercept_visible_)[:, None, None]
    of_y = clf.intercept_label_[:, None]
    together = (v @ W.T @ h.T)[:, None] + (h @ U).T + h @ clf.intercept_hidden_
    return (of_v + of_y + together) / clf.temperature, v


@every_objective
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_everything_told_of_labels_agrees_with_enumeration(objective, temperature):
    X, y = templates()
    clf = small(objective=objective, temperature=temperature, learning_rate=1.0).fit(X, y)
    energies, v = minus_energies(clf)
    joint = logsumexp(energies, axis=2)  # of (v, y)
    assert_allclose(clf.predict_proba(v), softmax(joint, axis=1), rtol=1e-9)
    assert_allclose(clf.predict_log_proba(v), np.log(softmax(joint, axis=1)), rtol=1e-9)
    assert_array_equal(clf.predict(v), clf.classes_[joint.argmax(1)])
    assert_allclose(clf.decision_function(v), clf.predict_log_proba(v))
    assert_allclose(clf.free_energy(v), -logsumexp(joint, axis=1) * temperature, rtol=1e-9)
    exact = log_partition(clf, method="exact").value
    assert_allclose(exact, logsumexp(joint), rtol=1e-9)
    h = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    of_h = softmax(logsumexp(energies, axis=1), axis=1)  # p(h | v)
    assert_allclose(clf.transform(v), of_h @ h, rtol=1e-9)


def test_two_classes_have_one_score():
    X, y = templates(n_classes=2)
    clf = small().fit(X, y)
    p = clf.predict_proba(X)
    assert_allclose(clf.decision_function(X), np.log(p[:, 1] / p[:, 0]), rtol=1e-9)
    assert_array_equal(clf.predict(X), clf.classes_[(clf.decision_function(X) > 0).astype(int)])


@pytest.mark.parametrize("given_y", [False, True])
def test_scores_of_rows_are_sums_of_enumerated_conditionals(given_y):
    X, y = templates(60)
    clf = small(learning_rate=1.0).fit(X, y)
    energies, v = minus_energies(clf)
    log_p = logsumexp(energies, axis=2)  # (2^D, K)
    number = (X @ 2 ** np.arange(5, -1, -1)).astype(int)
    assert_array_equal(v[number], X)
    expected = np.zeros(len(X))
    of_rows = log_p if given_y else logsumexp(log_p, axis=1, keepdims=True)
    column = y if given_y else np.zeros_like(y)
    for i in range(6):
        flipped = number ^ (1 << (5 - i))
        here, there = of_rows[number, column], of_rows[flipped, column]
        expected += here - np.logaddexp(here, there)
    if given_y:
        expected += np.log(softmax(log_p, axis=1))[number, y]
    found = clf.score_samples(X, y) if given_y else clf.score_samples(X)
    assert_allclose(found, expected, rtol=1e-9)


def test_the_likelihood_goes_by_the_parameters_as_they_are():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)), rng.integers(2, size=50)
    clf = small(visible="gaussian").fit(X, y)
    before = clf.score_samples(X)
    given = clf.score_samples(X, y)
    clf.partial_fit(X, y)
    assert np.abs(clf.score_samples(X) - before).max() > 1e-3
    assert_allclose(given, before + clf_log_p(small(visible="gaussian").fit(X, y), X, y))


def clf_log_p(clf, X, y):
    return clf.predict_log_proba(X)[np.arange(len(y)), y]


def test_likelihoods_of_real_valued_rows_and_labels_sum_to_those_of_rows():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=100)
    X = rng.normal(size=(100, 4)) + np.eye(4)[y] * 3
    clf = small(visible="gaussian").fit(X, y)
    scores = [clf.score_samples(X, np.full(100, k)) for k in range(3)]
    assert_allclose(logsumexp(scores, axis=0), clf.score_samples(X), rtol=1e-9)
    # A density: the sum over a grid is one.
    one = small(n_components=2, visible="gaussian").fit(X[:, :1], y)
    grid = np.linspace(-15, 20, 20_001)[:, None]
    assert_allclose(np.exp(one.score_samples(grid)).sum() * (grid[1] - grid[0])[0], 1, rtol=1e-6)


@pytest.mark.parametrize("y", [1, [0, 2, 1, 2]])
def test_samples_of_a_class_follow_its_law(y):
    X, labels = templates()
    clf = small(learning_rate=1.0, n_iter=10, objective="generative").fit(X, labels)
    energies, v = minus_energies(clf)
    means = softmax(logsumexp(energies, axis=2), axis=0).T @ v  # E[v | y]
    wanted = np.tile(y, 1 if np.ndim(y) else 4)
    many = np.tile(wanted, 1000)
    drawn = clf.sample(4000, n_steps=50, y=y if np.ndim(y) == 0 else many, random_state=0)
    for k in np.unique(wanted):
        of_class = drawn[many == k]
        assert np.abs(of_class.mean(0) - means[k]).max() < 4 * 0.5 / len(of_class) ** 0.5
    again = clf.sample(4000, n_steps=50, y=y if np.ndim(y) == 0 else many, random_state=0)
    assert_array_equal(drawn, again)


def test_samples_start_where_they_are_told():
    X, y = templates(10)
    clf = small().fit(X, y)
    assert_array_equal(clf.sample(10, n_steps=0, y=y, init=X), X)
    with pytest.raises(ValueError, match=r"y has the shape \(3,\)"):
        clf.sample(10, y=[0, 1, 2])
    with pytest.raises(ValueError, match=r"y has the labels \[7\]"):
        clf.sample(10, y=7)


# What is learned


def test_the_generative_objective_finds_the_law_of_rows_and_labels():
    """Where the model is rich enough, p(v, y) goes to the frequencies in the data."""
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(12)).reshape(4, 3)
    count = np.maximum(np.round(share * 300), 3).astype(int)
    v = np.array(list(itertools.product([0.0, 1.0], repeat=2)))
    X = np.repeat(v, count.sum(1), axis=0)
    y = np.concatenate([np.repeat(range(3), row) for row in count])
    clf = RBMClassifier(
        n_components=12,
        objective="generative",
        gradient=Exact(),
        batch_size=len(y),
        n_iter=2000,
        learning_rate=2.0,
        max_grad_norm=None,
        random_state=0,
    ).fit(X, y)
    joint = softmax(logsumexp(minus_energies(clf)[0], axis=2))
    assert np.abs(joint - count / count.sum()).max() < 0.004


@every_objective
def test_digits_are_learned(objective, digits):
    X, y = digits
    clf = small(n_components=64, objective=objective, n_iter=15).fit(X[:1000], y[:1000])
    assert clf.score(X[1000:], y[1000:]) > (0.8 if objective == "generative" else 0.92)


@pytest.mark.parametrize("hidden", ["bernoulli", "spin", "relu", "nrelu"])
def test_real_valued_rows_are_told_apart(hidden):
    X, y = load_wine(return_X_y=True)
    clf = RBMClassifier(n_components=32, visible="gaussian", hidden=hidden, random_state=0)
    assert cross_val_score(clf, X, y, cv=3).mean() > 0.93


def test_rows_without_labels_help():
    X, y = templates(420, n_features=40, n_classes=4, flips=0.25)
    few = np.where(np.arange(420) < 8, y, -1)
    assert len(set(y[:8])) == 4
    settings = {"n_components": 30, "n_iter": 40, "random_state": 0}
    with_them = RBMClassifier(**settings).fit(X, few).score(X[8:], y[8:])
    without = RBMClassifier(**settings).fit(X[:8], y[:8]).score(X[8:], y[8:])
    assert with_them > 0.95
    assert without < with_them - 0.08


# Special cases, bit for bit


def test_a_fit_does_not_depend_on_the_order_of_rows_that_differ_in_their_label():
    rng = np.random.default_rng(0)
    X, y = (rng.uniform(size=(90, 2)) < 0.5).astype(np.float64), rng.integers(3, size=90)
    order = rng.permutation(90)
    assert_same_fit(small().fit(X, y), small().fit(X[order], y[order]))


def test_training_that_goes_on_under_another_objective_starts_new_chains():
    X, y = templates()
    clf = small(warm_start=True, gradient="pcd").fit(X, y)
    clf.set_params(objective="discriminative").fit(X, y)
    assert "chains" not in clf.training_state_
    assert clf.set_params(objective="hybrid").fit(X, y).h_samples_.shape == (20, 5)


def test_a_hybrid_of_alpha_zero_is_discriminative_bit_for_bit():
    X, y = templates()
    y = np.where(np.arange(len(y)) % 3 == 0, -1, y)
    hybrid = small(objective="hybrid", alpha=0.0).fit(X, y)
    discriminative = small(objective="discriminative", alpha=5.0).fit(X, y)
    assert_same_fit(hybrid, discriminative)
    assert_array_equal(hybrid.predict_proba(X), discriminative.predict_proba(X))
    other = small(objective="hybrid", alpha=1e-3).fit(X, y)
    assert np.abs(other.components_ - hybrid.components_).max() > 1e-6


def test_rows_without_labels_are_nothing_to_the_discriminative_objective():
    X, y = templates()
    known = np.arange(len(y)) % 3 > 0
    some = small(objective="discriminative").fit(X, np.where(known, y, -1))
    assert_same_fit(some, small(objective="discriminative").fit(X[known], y[known]))
    assert_same_fit(
        small(unlabeled_weight=0.0).fit(X, np.where(known, y, -1)), small().fit(X[known], y[known])
    )


@pytest.mark.parametrize("unlabeled_weight", [2.0, 0.25])
def test_the_weight_of_rows_without_labels_is_one_of_rows(unlabeled_weight):
    X, y = templates()
    y = np.where(np.arange(len(y)) % 3 > 0, y, -1)
    weight = np.where(y == -1, unlabeled_weight, 1.0)
    assert_same_fit(
        small(unlabeled_weight=unlabeled_weight).fit(X, y), small().fit(X, y, sample_weight=weight)
    )


def test_class_weights_are_weights_of_rows():
    X, y = templates()
    of_class = {0: 1.0, 1: 3.0, 2: 0.5}
    weight = np.array([of_class[label] for label in y])
    assert_same_fit(small(class_weight=of_class).fit(X, y), small().fit(X, y, sample_weight=weight))
    X, y = X[y < 2], y[y < 2]
    heavy = small(class_weight={0: 1.0, 1: 50.0}).fit(X, y).predict_proba(X)[:, 1]
    light = small(class_weight={0: 50.0, 1: 1.0}).fit(X, y).predict_proba(X)[:, 1]
    assert (heavy > light).all()


def test_balanced_classes_weigh_the_same():
    X, y = templates(300)
    keep = (y != 1) | (np.arange(300) % 5 == 0)
    X, y = X[keep], y[keep]
    count = np.bincount(y)
    weight = len(y) / (3 * count[y])
    assert_same_fit(
        small(class_weight="balanced").fit(X, y), small().fit(X, y, sample_weight=weight)
    )


# Labels


@pytest.mark.parametrize(
    "names",
    [
        np.array(["a", "bb", "c"]),
        np.array(["a", "bb", "c"], dtype=object),
        np.array([3, 10, 40]),
        np.array([0.5, 1.0, 7.0]),
        np.array([-7, 0, 3]),
    ],
    ids=str,
)
def test_labels_of_any_type(names):
    X, y = templates()
    if names.dtype.kind == "f":
        names = np.array([1.0, 2.0, 7.0])
    clf, reference = small().fit(X, names[y]), small().fit(X, y)
    assert_same_fit(clf, reference)
    assert_array_equal(clf.classes_, names)
    assert_array_equal(clf.predict(X), names[reference.predict(X)])


def test_labels_that_are_minus_one():
    X, y = templates()
    names = np.array(["a", "b", "c"], dtype=object)[y]
    names[::4] = -1
    mixed, plain = small().fit(X, names), np.where(np.arange(len(y)) % 4, y, -1)
    assert list(mixed.classes_) == ["a", "b", "c"]
    assert_same_fit(mixed, small().fit(X, plain))
    assert_same_fit(mixed, small().fit(X, plain.astype(np.float64)))
    # Of two labels one is −1: a class, as elsewhere.
    X, y = X[y < 2], y[y < 2]
    assert_same_fit(small().fit(X, 2 * y - 1), small().fit(X, y))
    clf = small().partial_fit(*templates(), classes=[-1, 0, 1, 2])
    assert len(clf.classes_) == 4


def test_a_single_class_is_certain():
    X, _ = templates(20)
    clf = small().fit(X, np.full(20, "only"))
    assert_array_equal(clf.predict(X), np.full(20, "only"))
    assert_array_equal(clf.predict_proba(X), np.ones((20, 1)))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (np.full(200, -1.0), "y has no label at all"),
        (np.linspace(0, 1, 200), "Unknown label type"),
        (np.zeros(199, dtype=int), "inconsistent numbers of samples"),
        (np.zeros((200, 2), dtype=int), "1d array"),
        (np.full(200, np.nan), "NaN"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_bad_labels_are_refused_and_leave_nothing_behind(y, message):
    X, good = templates()
    clf = small()
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)
    assert not [name for name in vars(clf) if name.endswith("_")]
    before = clf.fit(X, good).predict_proba(X)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y)
    assert_array_equal(clf.predict_proba(X), before)


def test_parts_of_the_rows_with_parts_of_the_classes():
    X, y = templates()
    first = y < 2
    clf = small()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        clf.partial_fit(X, y)
    assert not [name for name in vars(clf) if name.endswith("_")]
    clf.partial_fit(X[first], y[first], classes=[0, 1, 2]).partial_fit(X, y)
    assert_array_equal(clf.classes_, [0, 1, 2])
    assert clf.n_iter_ == 2
    with pytest.raises(ValueError, match=r"classes=\[0 1\] differ from those of the first call"):
        clf.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y has the labels \[5\], which are not in \[0 1 2\]"):
        clf.partial_fit(X, y + 5 * (y == 0))
    with pytest.raises(ValueError, match='class_weight="balanced" is not supported by partial_fit'):
        small(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    whole = small(learning_rate_schedule="constant").fit(X, y)
    parts = small(learning_rate_schedule="constant")
    for _ in range(4):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    assert_same_fit(whole, parts)


# Training


def test_early_stopping_watches_the_accuracy_on_held_out_labels():
    X, y = templates(400, flips=0.25)
    y[::5] = -1
    clf = small(n_iter=60, early_stopping=True, validation_fraction=0.25, n_iter_no_change=4)
    clf.fit(X, y)
    scores = clf.history_["validation_score"]
    assert clf.n_iter_ == len(scores) < 60
    # Of the hundred held-out rows twenty are without a label.
    assert_allclose(scores * 80, np.round(scores * 80), atol=1e-9)
    assert scores.argmax() <= len(scores) - 4
    shorter = small(n_iter=int(scores.argmax()) + 1, early_stopping=True, validation_fraction=0.25)
    shorter.set_params(learning_rate_schedule="constant")
    again = clf.set_params(learning_rate_schedule="constant").fit(X, y)
    best = int(again.history_["validation_score"].argmax()) + 1
    assert_same_fit(again, shorter.set_params(n_iter=best).fit(X, y))
    y[:] = np.where(np.arange(400) < 6, np.arange(400) % 3, -1)
    with pytest.raises(ValueError, match="holds back no row that has a label"):
        small(early_stopping=True, validation_fraction=0.02).fit(X, y)


def test_the_history_tells_of_the_labels(capsys):
    X, y = templates(300)
    clf = small(n_iter=8, verbose=1).fit(X, y)
    assert "Iteration 8, log loss = " in capsys.readouterr().out
    assert "score" not in clf.history_
    log_loss = -clf.predict_log_proba(X)[np.arange(300), y].mean()
    assert abs(clf.history_["log_loss"][-1] - log_loss) < 0.05
    assert abs(clf.history_["accuracy"][-1] - clf.score(X, y)) < 0.05
    assert clf.history_["log_loss"][-1] < clf.history_["log_loss"][0]


def test_sparsity_is_that_of_hidden_units_given_their_label():
    X, y = templates(300)
    mean = {
        target: small(n_components=20, n_iter=30, sparsity_target=target, sparsity_cost=3.0)
        .fit(X, y)
        .transform(X)
        .mean()
        for target in (0.05, 0.5)
    }
    assert abs(mean[0.05] - 0.05) < 0.05
    assert abs(mean[0.5] - 0.5) < 0.1


def test_a_killed_fit_is_finished_with_its_labels(tmp_path):
    X, y = templates()
    path = tmp_path / "clf.joblib"
    whole = small(n_iter=6, momentum=0.5).set_callbacks(Checkpoint(path, every=4)).fit(X, y)
    clf = joblib.load(path)
    assert clf.n_iter_ == 6
    half = small(n_iter=6, momentum=0.5)

    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half.set_callbacks(Checkpoint(path), Stop()).fit(X, y)
    assert_same_fit(Checkpoint(path).resume(X, y), whole)


def test_many_sparse_features():
    rng = np.random.default_rng(0)
    X = sparse.random_array((300, 20_000), density=0.001, rng=rng, format="csr", dtype=np.float32)
    X.data[:] = 1
    y = rng.integers(2, size=300)
    marker = sparse.csr_array((np.ones(300), (np.arange(300), y)), shape=(300, 20_000))
    X = (X + marker.astype(np.float32)).minimum(1)
    clf = RBMClassifier(n_components=20, random_state=0, n_iter=10).fit(X[:200], y[:200])
    assert clf.score(X[200:], y[200:]) > 0.95
    dense = small(n_iter=2).fit(X.toarray().astype(np.float64), y)
    assert_allclose(
        small(n_iter=2).fit(X.astype(np.float64), y).components_, dense.components_, atol=1e-12
    )


def test_the_warning_of_values_out_of_range_names_the_line_that_fits():
    X, y = templates()
    for call in (
        lambda: small().fit(X * 3, y),
        lambda: small().partial_fit(X * 3, y, [0, 1, 2]),
        lambda: make_pipeline(small()).fit(X * 3, y),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        (warning,) = [w for w in caught if "values from 0 to 3" in str(w.message)]
        assert 'set visible="gaussian"' in str(warning.message)
        assert warning.filename == __file__


# Among scikit-learn's own


def test_in_scikit_learns_hands(digits):
    X, y = digits
    X, y = X[:400], y[:400]
    clf = RBMClassifier(n_components=32, n_iter=10, random_state=0)
    assert cross_val_score(clf, X, y, cv=3).mean() > 0.8
    calibrated = CalibratedClassifierCV(clf, cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.9
    few = np.where(np.arange(400) < 150, y, -1)
    trained = SelfTrainingClassifier(clf).fit(X, few)
    assert trained.score(X[150:], y[150:]) > 0.75
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), clf),
        {"rbmclassifier__objective": ["hybrid", "discriminative"]},
        cv=2,
    ).fit(X, y)
    assert search.best_score_ > 0.7
    pipeline = make_pipeline(clf, LogisticRegression()).fit(X, y)  # its features
    assert pipeline.score(X, y) > 0.9


def test_weights_are_routed():
    X, y = templates()
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    with config_context(enable_metadata_routing=True):
        clf = small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(clf).fit(X, y, sample_weight=weight)
        assert_same_fit(pipeline[-1], small().fit(X, y, sample_weight=weight))
        search = GridSearchCV(clf, {"alpha": [0.01]}, cv=2).fit(X, y, sample_weight=weight)
        assert_same_fit(search.best_estimator_, pipeline[-1])


def test_features_are_those_of_the_formula():
    X, y = templates()
    clf = small(visible="gaussian").fit(X, y)
    x = clf.intercept_hidden_ + (X - clf.location_) / clf.scale_ @ clf.components_.T
    fields = x[:, None] + clf.label_components_.T
    logits = clf.intercept_label_ + np.logaddexp(0, fields).sum(2)
    assert_allclose(clf.predict_proba(X), softmax(logits, axis=1), rtol=1e-9)
    mean = (softmax(logits, axis=1)[..., None] * expit(fields)).sum(1)
    assert_allclose(clf.transform(X), mean, rtol=1e-9)


@pytest.mark.parametrize(
    ("unlabeled", "labels", "expected", "warns"),
    [
        ("auto", [0, 1, -1], [0, 1], True),
        ("auto", [0, -1], [-1, 0], False),
        (-1, [0, 1, -1], [0, 1], False),
        (-1, [0, -1], [0], False),
        (None, [0, 1, -1], [-1, 0, 1], False),
        (None, [0, -1], [-1, 0], False),
    ],
)
@pytest.mark.parametrize("Estimator", [RBMClassifier, DBNClassifier])
def test_minus_one_is_a_class_or_no_label(Estimator, unlabeled, labels, expected, warns):
    X, y = np.eye(6), np.resize(labels, 6)
    clf = Estimator(unlabeled=unlabeled, n_iter=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.fit(X, y)
    assert_array_equal(clf.classes_, expected)
    assert ["label −1 beside 2 others" in str(w.message) for w in caught] == [True] * warns
    clf = Estimator(unlabeled=unlabeled).partial_fit(X, y, classes=[-1, 0, 1])
    assert_array_equal(clf.classes_, [-1, 0, 1])


def test_labels_of_several_types_are_refused():
    with pytest.raises(ValueError, match=r"labels of several types, \['int', 'str'\]"):
        RBMClassifier().fit(np.eye(3), np.array(["a", 7, "b"], dtype=object))


def test_figures_are_of_rows_with_a_label(digits):
    X, y = digits
    y = np.where(np.arange(len(y)) < 10, y, -1)
    history = RBMClassifier(8, n_iter=2, unlabeled=-1, random_state=0).fit(X, y).history_
    assert np.isfinite(history["log_loss"]).all()
    assert np.isfinite(history["accuracy"]).all()
