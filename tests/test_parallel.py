"""Data-parallel training: real processes, each with its share of the rows, train one model."""

import os
import signal
import threading
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris

import skebm
from skebm import (
    CD,
    DBM,
    DBN,
    PCD,
    BernoulliRBM,
    CategoricalRBM,
    Checkpoint,
    ConvRBM,
    DBNClassifier,
    DBNRegressor,
    DropoutRBM,
    Exact,
    GaussianRBM,
    ParallelTempering,
    PoissonRBM,
    RBMClassifier,
    RBMImputer,
    TabularRBM,
    log_likelihood,
)
from skebm.engine.parallel import parts
from tests.processes import Group

SHARES = {2: [0, 130, 200], 4: [0, 11, 90, 91, 200]}  # unequal: the first row of each process
TRAINING = {"n_components": 6, "n_iter": 3, "batch_size": 30, "random_state": 0}


@pytest.fixture(scope="module")
def two():
    group = Group(2)
    yield group
    group.close()


@pytest.fixture(scope="module")
def four():
    group = Group(4)
    yield group
    group.close()


def share(array, rank, size):
    """The rows of a process."""
    first, end = SHARES[size][rank : rank + 2]
    return array[first:end]


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:200] / 16, y[:200]


def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    order = np.random.default_rng(0).permutation(np.arange(200) % 150)
    return X.iloc[order].reset_index(drop=True), y.to_numpy()[order]


def table():
    """A column of each kind; some entries are missing, and some categories are rare."""
    X, y = iris()
    rng = np.random.default_rng(1)
    X = X.iloc[:, :2].copy()
    X["kind"] = np.array(["setosa", "versicolor", "virginica"])[y]
    X["count"] = rng.integers(0, 9, len(X))
    X["big"] = X.iloc[:, 0] > 6
    X.iloc[rng.uniform(size=len(X)) < 0.2, 0] = np.nan
    X.loc[199, "kind"] = "other"
    X.loc[198, "count"] = 40
    return X


def state(estimator):
    """A checksum of all fitted attributes but the times."""
    fitted = {k: v for k, v in vars(estimator).items() if k.endswith("_")}
    for name in ("history_", "fine_tuning_"):
        if name in fitted:
            fitted[name] = {k: v for k, v in fitted[name].items() if k != "seconds"}
    for name in ("estimators_", "untied_"):
        fitted[name] = [state(layer) for layer in fitted.get(name, ())]
    for name in ("dbn_", "estimator_"):
        fitted[name] = state(fitted[name]) if name in fitted else None
    encoding = fitted.pop("encoding_", None)
    fitted["encoding"] = None if encoding is None else vars(encoding)
    rng = fitted.pop("random_state_", None)
    fitted["random"] = None if rng is None else rng.get_state()
    return joblib.hash(fitted)


# Against one process


def fit_share(rank, size, estimator, X, y=None, sample_weight=None):
    estimator, weight = clone(estimator), {}
    if sample_weight is not None:
        weight = {"sample_weight": share(sample_weight, rank, size)}
    if y is None:
        return estimator.fit(share(X, rank, size), **weight)
    return estimator.fit(share(X, rank, size), share(y, rank, size), **weight)


EXACT = TRAINING | {"gradient": Exact(), "batch_size": 200, "n_iter": 8, "learning_rate": 1.0}
SETTINGS = {
    "plain": {},
    "not centred": {"centered": False},
    "penalties": {"weight_decay": 0.01, "l1": 0.001, "sparsity_target": 0.1},
    "penalties, not centred": {"weight_decay": 0.01, "l1": 0.001, "centered": False},
    "cap on the gradient": {"max_grad_norm": 0.3, "learning_rate": 1.0},
    "cap on the weights": {"max_norm": 0.5},
    "momentum": {"momentum": 0.9},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "temperature": {"temperature": 2.0},
}


@pytest.mark.parametrize(
    ("settings", "weighted"),
    [(SETTINGS["plain"], False), *((settings, True) for settings in SETTINGS.values())],
    ids=["no weights", *SETTINGS],
)
def test_with_the_exact_gradient_the_fit_is_that_of_one_process(four, settings, weighted):
    X = np.asarray(digits()[0] > 0.5, dtype=np.float64)
    weight = np.random.default_rng(0).uniform(0.1, 2, 200) if weighted else None
    rbm = BernoulliRBM(**EXACT | settings)
    alone = clone(rbm).fit(X, sample_weight=weight)
    for other in four.results(fit_share, rbm, X, None, weight):
        np.testing.assert_allclose(other.components_, alone.components_, atol=1e-7)
        np.testing.assert_allclose(other.intercept_visible_, alone.intercept_visible_, atol=1e-6)
        np.testing.assert_allclose(other.intercept_hidden_, alone.intercept_hidden_, atol=1e-6)
        errors = (e.history_["reconstruction_error"] for e in (other, alone))
        np.testing.assert_allclose(*errors, rtol=1e-5)


EQUAL_TO_ONE = {
    "GaussianRBM": (GaussianRBM(**EXACT), iris()[0], None),
    "RBMClassifier": (
        RBMClassifier(**EXACT | {"objective": "discriminative", "learning_rate": 0.5}),
        *digits(),
    ),
    "DBNClassifier": (
        DBNClassifier((8,), pretrain=False, batch_size=200, n_iter=10, random_state=0),
        *digits(),
    ),
    "DBNRegressor": (
        DBNRegressor((8,), pretrain=False, batch_size=200, n_iter=10, random_state=0),
        *iris(),
    ),
}


@pytest.mark.parametrize(("estimator", "X", "y"), EQUAL_TO_ONE.values(), ids=EQUAL_TO_ONE)
def test_other_estimators_with_full_batches_are_those_of_one_process(two, estimator, X, y):
    X = np.asarray(X, dtype=np.float64)
    arguments = [X] if y is None else [X, y]
    alone = clone(estimator).fit(*arguments)
    other, _ = two.results(fit_share, estimator, X, y)
    method = next(m for m in ("predict_proba", "predict", "transform") if hasattr(alone, m))
    np.testing.assert_allclose(getattr(other, method)(X), getattr(alone, method)(X), atol=1e-5)


def test_facts_of_all_rows_are_learned(four):
    rbm = TabularRBM("auto", n_iter=1, kinds={"count": "binned"}, random_state=0)
    X = table()
    alone, (other, *_) = clone(rbm).fit(X), four.results(fit_share, rbm, X)
    assert other.n_components_ == alone.n_components_
    for ours, theirs in zip(other.categories_, alone.categories_):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(other.bins_, alone.bins_):
        np.testing.assert_array_equal(ours, theirs)
    assert other.encoding_.ranges_ == alone.encoding_.ranges_
    assert other.encoding_.column_types_ == alone.encoding_.column_types_
    np.testing.assert_allclose(other.location_, alone.location_, rtol=1e-5)
    np.testing.assert_allclose(other.scale_, alone.scale_, rtol=1e-5)
    np.testing.assert_allclose(other.feature_means_, alone.feature_means_, atol=1e-5)


def test_classes_and_their_weights_are_those_of_all_rows(four):
    X, y = digits()
    y = np.sort(y)  # no process has all classes
    y[150] = -1
    settings = {"class_weight": "balanced", "n_iter": 1, "batch_size": 200, "random_state": 0}
    settings |= {"objective": "discriminative", "unlabeled": -1}
    classifier = RBMClassifier(4, **settings)
    alone, (other, *_) = clone(classifier).fit(X, y), four.results(fit_share, classifier, X, y)
    np.testing.assert_array_equal(other.classes_, alone.classes_)
    np.testing.assert_allclose(other.class_prior_, alone.class_prior_)
    np.testing.assert_allclose(other.label_components_, alone.label_components_, atol=1e-5)


def likelihoods(rank, size, gradients, X, n_seeds):
    """Log-likelihoods after fits with each gradient and seed."""
    found = []
    for gradient in gradients:
        for seed in range(n_seeds):
            rbm = BernoulliRBM(3, gradient=gradient, n_iter=20, batch_size=20, random_state=seed)
            if size > 1:
                rbm.fit(share(X, rank, size))
            else:
                rbm.fit(X)
            found.append(log_likelihood(rbm, X).mean())
    return np.reshape(found, (len(gradients), n_seeds))


@pytest.mark.slow
def test_sampled_gradients_have_the_law_of_one_process(two):
    # Four patterns with noise. Before training, the likelihood is near that of the means, −4.1.
    rng = np.random.default_rng(0)
    patterns = np.repeat(rng.uniform(size=(4, 6)) < 0.5, 50, axis=0)
    X = np.where(rng.uniform(size=(200, 6)) < 0.05, ~patterns, patterns).astype(float)
    X = X[rng.permutation(200)]
    gradients = [CD(), PCD(n_chains=20), ParallelTempering(4, n_chains=20)]
    alone = likelihoods(0, 1, gradients, X, 15)
    together = two.results(likelihoods, gradients, X, 15)[0]
    spread = np.sqrt((alone.var(1) + together.var(1)) / 15)
    assert (np.abs(alone.mean(1) - together.mean(1)) < 4 * spread).all()


# All estimators


def of_all_kinds():
    X, y = digits()
    some = np.where(np.arange(200) % 3, y, -1)
    holes = np.where(np.random.default_rng(0).uniform(size=X.shape) < 0.1, np.nan, X)
    stopping = {"early_stopping": True, "n_iter": 8, "n_iter_no_change": 2}
    binary, t = X > 0.5, TRAINING
    return {
        "CD": (BernoulliRBM(gradient=CD(2), **t), binary),
        "PCD": (BernoulliRBM(momentum=0.5, **t), X),
        "chains": (BernoulliRBM(gradient=PCD(n_chains=9), temperature=1.5, **t), X),
        "tempering": (BernoulliRBM(gradient=ParallelTempering(4, n_chains=9), **t), binary),
        "GaussianRBM": (GaussianRBM(**t), iris()[0]),
        "auto": (GaussianRBM(batch_size=30, n_iter=2, random_state=0), iris()[0]),
        "early stopping": (BernoulliRBM(**t | stopping), X),
        "PoissonRBM": (PoissonRBM(**t), np.rint(X * 16).astype(np.uint8)),
        "dropped units": (DropoutRBM(**t), X),
        "dropped weights": (DropoutRBM(drop="weights", **t), X),
        "dropped by energy": (DropoutRBM(drop="energy", **t), X),
        "ConvRBM": (ConvRBM(kernel_size=3, pool_size=2, **t), X),
        "CategoricalRBM": (CategoricalRBM(**t), table()[["kind", "count"]].astype(str)),
        "TabularRBM": (TabularRBM(**t), table()),
        "bins": (TabularRBM(numbers="binned", n_bins=4, **t), table()),
        "RBMImputer": (RBMImputer(BernoulliRBM(**t), random_state=0), holes),
        "left out": (RBMImputer(BernoulliRBM(gradient="cd", **t), random_state=0), holes),
        "RBMClassifier": (RBMClassifier(unlabeled=-1, **t | stopping), X, some),
        "generative": (RBMClassifier(objective="generative", **t), X, y),
        "DBN": (DBN((6, 4), n_iter=2, random_state=0), X),
        "residual": (DBN((6, 4), residual=(1.0, 1.0), n_iter=2, random_state=0), X),
        "stack of a classifier": (
            DBN([BernoulliRBM(6), RBMClassifier(6)], n_iter=2, random_state=0), X, y),
        "DBM": (DBM((6, 4), n_iter=2, random_state=0), binary),
        "DBM with labels": (DBM((6, RBMClassifier(5)), n_iter=2, random_state=0), binary, y),
        "DBNClassifier": (DBNClassifier((6, 4), dropout=0.2, n_iter=3, random_state=0), X, some),
        "DBNClassifier, early stopping": (
            DBNClassifier((6, 4), batch_size=30, random_state=0, **stopping), X, y),
        "DBNRegressor": (DBNRegressor((6, 4), n_iter=3, random_state=0), *iris()),
    }  # fmt: skip


def fit_all(rank, size):
    """Checksums of the fitted estimators of all kinds."""
    found = {}
    for name, (estimator, *data) in of_all_kinds().items():
        estimator = clone(estimator).fit(*(share(array, rank, size) for array in data))
        found[name] = state(estimator)
    return found


@pytest.mark.filterwarnings("ignore")
def test_all_processes_have_the_same_model(two):
    first, other = two.results(fit_all)
    assert first == other


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_four_processes_have_the_same_model_and_a_second_run_gives_it_again(four):
    first, *others = four.results(fit_all)
    assert others == [first] * 3
    assert four.results(fit_all)[0] == first


# More fits


def fit_on(rank, size, path):
    """A warm start, a chunk, and a fit from a memory map."""
    X = share(digits()[0], rank, size)
    rbm = BernoulliRBM(gradient=PCD(n_chains=9), warm_start=True, **TRAINING).fit(X)
    chains, once = rbm.h_samples_, state(rbm)
    assert state(clone(rbm).fit(X)) == once
    rbm.set_params(n_iter=2).fit(X).partial_fit(X[:7])
    file = np.memmap(f"{path}/{rank}", np.float64, "w+", shape=X.shape)
    file[:] = X
    file.flush()
    file = np.memmap(f"{path}/{rank}", np.float64, "r", shape=X.shape)
    mapped, plain = (clone(rbm).fit(rows) for rows in (file, X))
    return state(rbm), rbm.n_iter_, chains.shape, rbm.h_samples_.shape, state(mapped), state(plain)


def test_warm_starts_chunks_and_memory_maps(two, tmp_path):
    first, other = two.results(fit_on, tmp_path)
    assert first == other
    assert first[1:4] == (6, (9, 6), (9, 6))
    assert first[4] == first[5]


class Killer(PCD):
    """Kills a process in an update."""

    def __init__(self, n_updates=10, rank=1, error=None):
        super().__init__()
        self.n_updates, self.rank, self.error = n_updates, rank, error

    def __call__(self, *args):
        super().__call__(*args)
        self.n_updates -= 1
        if self.n_updates == 0 and dist.get_rank() == self.rank:
            if self.error:
                raise OSError(self.error)
            os.kill(os.getpid(), signal.SIGKILL)


def checkpointed(rank, size, path, gradient):
    rbm = BernoulliRBM(**TRAINING | {"n_iter": 6}, momentum=0.5)
    if gradient is not None:
        rbm.set_params(gradient=gradient)
    if rank == 0:
        rbm.set_callbacks(Checkpoint(path))
    return state(rbm.fit(share(digits()[0], rank, size)))


def resumed(rank, size, path, X):
    return state(Checkpoint(path).resume(share(X, rank, size)))


def test_a_killed_process_ends_the_others_and_a_checkpoint_goes_on(two, four, tmp_path):
    path, X = tmp_path / "rbm", digits()[0]
    whole = two.results(checkpointed, path, None)[0]
    group = Group(2)
    _, errors = group(checkpointed, path, Killer(n_updates=31))  # in the fifth epoch
    group.close()
    assert errors[1] == "killed"
    assert "lost the connection" in errors[0]
    assert joblib.load(path).n_iter_ == 4
    killed = joblib.load(path).set_params(gradient="pcd")  # the settings of the fit without a kill
    killed.training_settings_["gradient"] = ("PCD", PCD().get_params())
    joblib.dump(killed, path)
    written = path.read_bytes()
    _, errors = two(resumed, path, X[::-1].copy())
    assert all("belongs to a fit of 130 rows in the process of rank 0" in e for e in errors)
    other = X.copy()
    other[150] = 0
    _, errors = two(resumed, path, other)
    assert all("belongs to a fit of 70 rows in the process of rank 1" in e for e in errors)
    _, errors = four(resumed, path, X)
    assert all("written by 2 processes, and there are 4" in e for e in errors)
    assert path.read_bytes() == written
    assert two.results(resumed, path, X) == [whole, whole]


# Failures


def fail(rank, size, how):
    """A fit that fails in the process of rank 1; then one that works."""
    X = share(digits()[0], rank, size).copy()
    rbm, weight = BernoulliRBM(**TRAINING), None
    if how == "diverged":
        rbm = GaussianRBM(6, hidden="relu", learning_rate=1e30, max_grad_norm=None, n_iter=2)
    elif how.startswith("callback"):
        rbm.set_params(centered=False).set_callbacks(Broken(how.split()[1]))
    elif how == "start":
        rbm.set_params(gradient=FailsToStart())
    elif how == "drift":
        rbm.set_params(gradient=Drifts())
    elif how.startswith("update"):
        rbm.set_params(gradient=Killer(int(how.split()[1]), error="disk full"))
    elif rank == 1:
        if how == "missing value":
            X[3, 4] = np.nan
        elif how == "features":
            X = X[:, :60]
        elif how == "parameter":
            rbm.set_params(n_components=7)
        elif how == "invalid parameter":
            rbm.set_params(n_components=-1)
        elif how == "no rows":
            X = X[:0]
        elif how == "weights":
            weight = np.ones(len(X))
        elif how == "other estimator":
            rbm = GaussianRBM(6)
    error = ""
    try:
        rbm.fit(X, sample_weight=weight)
    except Exception as caught:
        assert not hasattr(rbm, "components_")
        if how == "invalid parameter":  # it is raised before the processes meet
            raise
        error = str(caught)
    return error, state(BernoulliRBM(**TRAINING).fit(share(digits()[0], rank, size)))


class Broken:
    """A callback that fails at the begin or at the end of an epoch."""

    def __init__(self, at):
        self.at = at

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and self.at == "begin":
            raise OSError("broken pipe")

    def on_fit_task_end(self, estimator, context):
        raise OSError("broken pipe")


class FailsToStart(PCD):
    """A gradient that fails before the first update."""

    def start(self, *args):
        if dist.get_rank() == 1:
            raise MemoryError("no memory")
        return super().start(*args)


class Drifts(PCD):
    """Changes the parameters in one process only."""

    def __call__(self, model, phases, state, noise):
        super().__call__(model, phases, state, noise)
        if dist.get_rank() == 1:
            model.theta.mul_(1 + 1e-6)


NAMED = "The process of rank 1 (of 2) failed: "
FAILURES = {
    "missing value": (NAMED + "ValueError: X has missing entries", "X has missing entries"),
    "no rows": (NAMED + "ValueError: Found array with 0 sample(s)", "Found array with 0 sample(s)"),
    "features": ("X has 64 features in the process of rank 0, [], and 60 in that of rank 1",) * 2,
    "parameter": ("n_components is 6 in the process of rank 0, and 7 in that of rank 1",) * 2,
    "weights": ("sample_weight is False in the process of rank 0, and True in that of",) * 2,
    "other estimator": ("is at 'fit of BernoulliRBM', that of rank 1 at 'fit of Gaus",) * 2,
    "diverged": ("GaussianRBM diverged in epoch 1",) * 2,
    "drift": ("The processes have different parameters after epoch 1",) * 2,
    "callback begin": ("broken pipe", "The process of rank 0 (of 2) failed: OSError: broken pipe"),
    "callback end": ("broken pipe", "The process of rank 0 (of 2) failed: OSError: broken pipe"),
    "start": (NAMED + "MemoryError: no memory", "no memory"),
    "update 1": (NAMED + "OSError: disk full", "disk full"),
    "update 10": (NAMED + "OSError: disk full", "disk full"),
    "update 21": (NAMED + "OSError: disk full", "disk full"),  # the last one of the fit
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("how", "messages"), FAILURES.items(), ids=FAILURES)
def test_a_failure_in_one_process_is_one_in_all(two, how, messages):
    results = two.results(fail, how)
    for (error, _), message in zip(results, messages):
        assert message in error
    assert results[0][1] == results[1][1] != ""


def test_errors_before_a_fit_reach_the_others(two):
    _, errors = two(fail, "invalid parameter")
    assert "InvalidParameterError" in errors[1]
    assert errors[0].startswith("RuntimeError: The process of rank 1 (of 2) failed: InvalidParam")


def leave(rank, size):
    if rank == 1:
        raise KeyError("outside of a fit")


def test_errors_in_the_block_reach_the_others(two):
    _, errors = two(leave)
    assert errors[1] == "KeyError: 'outside of a fit'"
    assert "rank 1 (of 2) failed: KeyError: 'outside of a fit'" in errors[0]


def skip(rank, size):
    if rank == 0:
        BernoulliRBM(**TRAINING).fit(digits()[0])


def test_a_process_that_calls_no_fit_is_noticed(two):
    _, errors = two(skip)
    message = "at 'rows to fit', that of rank 1 at 'the end of data_parallel'"
    assert all(message in error for error in errors)


def in_thread(rank, size):
    found = []

    def fit():
        try:
            BernoulliRBM(**TRAINING).fit(digits()[0])
        except RuntimeError as error:
            found.append(str(error))

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    return found


def unsupported(rank, size):
    messages = []
    for call in (
        lambda: DBN((4, 3), n_iter=1, fine_tune="up-down").fit(share(digits()[0], rank, size)),
        lambda: BernoulliRBM(gradient=PCD(n_chains=1)).fit(share(digits()[0], rank, size)),
        lambda: skebm.data_parallel().__enter__(),
    ):
        try:
            call()
        except (ValueError, RuntimeError) as error:
            messages.append(str(error))
    return messages


def test_what_is_not_possible_is_said(two):
    with pytest.raises(RuntimeError, match="init_process_group"), skebm.data_parallel():
        pass
    assert "by the thread that opened the block" in two.results(in_thread)[0][0]
    messages = two.results(unsupported)[1]
    assert 'fine_tune="up-down" is not supported' in messages[0]
    assert "n_chains=1 is less than the number of processes, 2" in messages[1]
    assert "active already" in messages[2]


# Callbacks, verbose, global state


class Counts:
    """A callback that counts its calls, and ends the fit after two epochs."""

    n = 0

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...
    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.n += context.task_name == "epoch"
        assert fitted_estimator.components_.shape == (6, 64)
        return self.n == 2


def watched(rank, size, path):
    counts, before = Counts(), np.random.get_state()[1].copy()  # noqa: NPY002
    X = share(digits()[0], rank, size)
    with Path(path, str(rank)).open("w") as file:
        descriptor = os.dup(1)
        os.dup2(file.fileno(), 1)
        rbm = BernoulliRBM(**TRAINING, verbose=1).set_callbacks(counts).fit(X)
        os.dup2(descriptor, 1)
    seeded = BernoulliRBM(**TRAINING).set_params(random_state=None).fit(X)
    untouched = bool((np.random.get_state()[1] == before).all())  # noqa: NPY002
    return counts.n, rbm.n_iter_, state(rbm), state(seeded), untouched


def test_callbacks_and_lines_are_those_of_rank_0(two, tmp_path):
    (n, *first, _), (n_other, *other, untouched) = two.results(watched, tmp_path)
    assert (n, n_other) == (2, 0)
    assert first == other
    assert first[0] == 2
    assert untouched
    assert (tmp_path / "0").read_text().count("Iteration") == 2
    assert (tmp_path / "1").read_text() == ""


def fit_equal_rows(rank, size):
    return BernoulliRBM(gradient=PCD(n_chains=40), **TRAINING).fit(digits()[0])


def fit_types(rank, size):
    """Fits of rows of different types, of unknown targets, and without a seed."""
    X, y = (share(array, rank, size) for array in iris())
    rows = X.to_numpy().astype(np.float32 if rank else np.float64)
    rbm = GaussianRBM(**TRAINING).fit(rows)
    y = np.where(np.arange(len(y)) < (0 if rank else 100), y, np.nan)
    regressor = DBNRegressor((4,), n_iter=2, random_state=0).fit(X, y)
    unseeded = [GaussianRBM(4, n_iter=1).fit(rows).components_ for _ in range(2)]
    return state(rbm), rbm.components_.dtype, state(regressor), *unseeded


@pytest.mark.filterwarnings("ignore")
def test_types_and_unknown_targets_may_differ(two):
    first, other = two.results(fit_types)
    assert first[:3] == other[:3]
    assert first[1] == np.float64
    assert (first[3] == other[3]).all()
    assert (first[3] != first[4]).any()


def test_processes_have_different_random_numbers(two):
    first, other = np.split(two.results(fit_equal_rows)[0].h_samples_, 2)
    assert (first != other).any(axis=1).mean() > 0.5


def test_chains_are_divided_in_proportion_to_rows():
    assert parts(10, [50, 30, 20]) == [5, 3, 2]
    assert parts(3, [1000, 1, 1]) == [1, 1, 1]
    for n in range(4, 60):
        found = parts(n, [7, 0, 400, 20])
        assert sum(found) == n
        assert min(found) >= 1
    np.testing.assert_allclose(parts(10**6, [7, 1, 2]), [700_000, 100_000, 200_000])


def test_tensors_and_frames_are_shares_too(two):
    X = digits()[0]
    of_frames, of_arrays = (
        two.results(fit_share, BernoulliRBM(**TRAINING), rows)[0] for rows in (pd.DataFrame(X), X)
    )
    np.testing.assert_array_equal(of_frames.components_, of_arrays.components_)
    tensors = two.results(fit_share, BernoulliRBM(**TRAINING), torch.from_numpy(X))[0]
    np.testing.assert_array_equal(tensors.components_, of_arrays.components_)
