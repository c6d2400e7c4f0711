"""Every estimator on the emulated CUDA device: captured updates, waits of the host, devices."""

import functools
import pickle
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import ClassVar
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, clone

from skebm import (
    CD,
    DBM,
    DBN,
    PCD,
    PTT,
    BernoulliRBM,
    CategoricalRBM,
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
    evaluation,
    log_partition,
)
from skebm.engine.backprop import Backprop
from skebm.engine.gradients import Gradient
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.training import Trainer
from skebm.engine.updown import UpDown
from tests.conftest import MODELS
from tests.fake_cuda import Recorder, active, fake_cuda

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:device='cuda.0' is not present"),
    pytest.mark.filterwarnings("ignore:A stack with a residual path"),
]

rng = np.random.default_rng(0)
N = 57
BINARY = (rng.uniform(size=(N, 12)) < 0.4).astype(np.float32)
REAL = rng.normal(size=(N, 12)).astype(np.float32)
SHARES = rng.uniform(size=(N, 12)).astype(np.float32)
CODES, COUNTS = rng.integers(0, 3, size=(N, 4)), rng.poisson(2.0, size=(N, 12)) * 1.0
IMAGES = (rng.uniform(size=(N, 9, 7)) < 0.3).astype(np.float32)
HOLES = np.where(rng.uniform(size=(N, 12)) < 0.2, np.nan, BINARY)
TABLE = pd.DataFrame(
    {"a": REAL[:, 0], "b": np.where(BINARY[:, 0] == 1, "x", "y"), "c": SHARES[:, 0]}
)
TABLE.loc[3, "a"] = np.nan
CLASSES = rng.integers(0, 3, size=N)
SOME_CLASSES = np.where(BINARY[:, 0] == 1, -1, CLASSES)
DROPPED = {"dropout": 0.1, "input_dropout": 0.1}
#: Rates that differ from epoch to epoch; a graph must not keep those of the first.
MOVING = {"learning_rate_schedule": "linear"}
RAMP = MOVING | {"momentum": 0.5, "momentum_ramp": 2}

# A new estimator or gradient is checked by adding its row: (estimator, X, y).
CASES = {
    "PCD": (BernoulliRBM(8), BINARY, None),
    "CD": (BernoulliRBM(8, gradient=CD(2), centered=False), BINARY, None),
    "PCD, few chains": (BernoulliRBM(8, gradient=PCD(2, 7), **RAMP), BINARY, None),
    "tempering": (BernoulliRBM(8, gradient=ParallelTempering(4)), BINARY, None),
    "exact": (BernoulliRBM(5, gradient=Exact()), BINARY, None),
    "Adam, penalties": (
        BernoulliRBM(
            8,
            optimizer="adam",
            learning_rate=0.01,
            learning_rate_schedule="linear",
            l1=0.01,
            weight_decay=0.01,
            max_norm=1.0,
            max_grad_norm=1.0,
            sparsity_target=0.1,
        ),
        BINARY,
        None,
    ),
    "early stopping": (BernoulliRBM(8, early_stopping=True, temperature=2.0), BINARY, None),
    "sparse rows": (BernoulliRBM(8), sparse.csr_array(BINARY), None),
    "spin": (BernoulliRBM(8, visible="spin", hidden="spin"), 2 * BINARY - 1, None),
    "continuous": (
        BernoulliRBM(8, visible="continuous", hidden="relu", learning_rate=0.01),
        SHARES,
        None,
    ),
    "mean": (BernoulliRBM(8, visible="mean", hidden="nrelu", learning_rate=0.01), BINARY, None),
    "gaussian": (GaussianRBM(8), REAL, None),
    "gaussian, relu": (
        GaussianRBM(8, gradient="pcd", hidden="relu", learning_rate=0.01),
        REAL.astype(np.float64),
        None,
    ),
    "poisson": (PoissonRBM(8, learning_rate=0.01), COUNTS, None),
    "categorical": (CategoricalRBM(8), CODES, None),
    "categorical, tempering": (CategoricalRBM(8, gradient="pt"), CODES, None),
    "table": (TabularRBM(8), TABLE, None),
    "bins": (TabularRBM(8, numbers="binned", n_bins=4), TABLE, None),
    "dropout of units": (DropoutRBM(8), BINARY, None),
    "dropout of weights": (DropoutRBM(8, drop="weights"), BINARY, None),
    "dropout by energy": (DropoutRBM(8, drop="energy"), BINARY, None),
    "images": (ConvRBM(4, kernel_size=3), IMAGES, None),
    "images, pooled": (
        ConvRBM(4, kernel_size=(3, 2), stride=2, pool_size=2, gradient="pcd"),
        IMAGES,
        None,
    ),
    "images, gaussian": (ConvRBM(4, kernel_size=3, visible="gaussian", pool_size=2), IMAGES, None),
    "labels": (RBMClassifier(8), BINARY, CLASSES),
    "some labels": (RBMClassifier(8, visible="gaussian", unlabeled=-1), REAL, SOME_CLASSES),
    "labels, discriminative": (RBMClassifier(8, objective="discriminative"), BINARY, CLASSES),
    "labels, generative": (RBMClassifier(8, objective="generative"), BINARY, CLASSES),
    "stack": (DBN((6, 4), residual=(0.5, 0.5)), BINARY, None),
    "stack, up-down": (DBN((6, 4), fine_tune="up-down", fine_tune_n_iter=3), BINARY, None),
    "stack with labels, up-down": (
        DBN((6, RBMClassifier(5)), fine_tune="up-down", fine_tune_n_iter=3),
        BINARY,
        CLASSES,
    ),
    "deep": (DBM((6, 5, 4), batch_size=10), BINARY, None),
    "deep, with labels": (DBM((6, RBMClassifier(5, unlabeled=-1))), BINARY, SOME_CLASSES),
    "deep, real-valued": (DBM((GaussianRBM(6), 5), pretrain=False), REAL, None),
    "network of a deep machine": (
        DBNClassifier(DBM((6, 4)), posterior_inputs=True, batch_size=20, **MOVING),
        BINARY,
        CLASSES,
    ),
    "network": (DBNClassifier((6, 4), batch_size=20, **DROPPED, **MOVING), BINARY, CLASSES),
    "network, SGD": (
        DBNClassifier((6, 4), batch_size=20, optimizer="sgd", unlabeled=-1, **RAMP),
        BINARY,
        SOME_CLASSES,
    ),
    "regression": (
        DBNRegressor((6, 4), batch_size=20, freeze=1, max_norm=1.0),
        BINARY,
        REAL[:, :2],
    ),
    "imputer": (RBMImputer(BernoulliRBM(6, n_iter=3, device="cuda:0")), HOLES, None),
    "imputer, CD": (
        RBMImputer(BernoulliRBM(6, gradient="cd", n_iter=3, device="cuda:0")),
        HOLES,
        None,
    ),
}
#: The rows of these cases are moved to the device batch by batch.
STREAMED = {"sparse rows"}
#: The momentum of these cases changes from epoch to epoch. It is a constant of a graph.
RECORDED_AGAIN = {"network, SGD"}

each_case = pytest.mark.parametrize("name", CASES)


def new(name, device="cuda:0"):
    """The estimator and the arguments of `fit` of this case."""
    estimator, X, y = CASES[name]
    estimator = clone(estimator).set_params(random_state=0)
    if not isinstance(estimator, RBMImputer):
        estimator.set_params(device=device, n_iter=3)
    return estimator, (X,) if y is None else (X, y)


@dataclass
class Epochs:
    """What happened within the epochs of one trainer."""

    waits: Counter = field(default_factory=Counter)
    n_batches: list[int] = field(default_factory=list)
    captures: list[int] = field(default_factory=list)
    replays: list[int] = field(default_factory=list)


class Watch(ExitStack):
    """Watches the epochs of all trainers, on the emulated device."""

    def __init__(self):
        super().__init__()
        self.trainers: list = []
        self.epochs: list[Epochs] = []
        for kind in (Trainer, UpDown, Backprop):
            self.enter_context(mock.patch.object(kind, "epoch", self._watched(kind.epoch)))

    def _watched(self, epoch):
        def watched(trainer, batches, *args, **kwargs):
            if not any(trainer is known for known in self.trainers):
                self.trainers.append(trainer)  # it stays alive, so that no other is taken for it
                self.epochs.append(Epochs())
            seen = self.epochs[[trainer is known for known in self.trainers].index(True)]
            mode = active()
            before = mode.waits.copy(), mode.captures, mode.replays
            epoch(trainer, batches, *args, **kwargs)
            seen.waits += mode.waits - before[0]
            seen.n_batches.append(len(batches))
            seen.captures.append(mode.captures - before[1])
            seen.replays.append(mode.replays - before[2])

        return watched


@functools.cache
def fitted(name, captured=True):
    """A pickle of the estimator, fitted with or without captured updates, and its epochs."""
    estimator, given = new(name)
    warm_up = 1 if captured else 10**9
    with mock.patch("skebm.engine.capture.WARM_UP", warm_up), Watch() as watch, fake_cuda():
        estimator.fit(*given)
    return pickle.dumps(estimator), watch.epochs


def arrays(x, path=""):
    """All floating-point arrays of a fitted estimator, by their paths; without the times."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return {path: x}
    if isinstance(x, BaseEstimator):
        x = {k: v for k, v in vars(x).items() if k.endswith("_")}
    elif isinstance(x, list | tuple):
        x = dict(enumerate(x))
    found = {}
    for key, value in x.items() if isinstance(x, dict) else ():
        if key != "seconds":
            found |= arrays(value, f"{path}.{key}")
    return found


def check_equal(a, b):
    a, b = arrays(a), arrays(b)
    assert list(a) == list(b)
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


@each_case
def test_fits_and_methods_run(name, monkeypatch):
    levels = evaluation._levels  # few levels of annealing
    monkeypatch.setattr(evaluation, "_levels", lambda betas, *given: levels(5, *given))
    _, (X, *y) = new(name)
    estimator = pickle.loads(fitted(name)[0])
    assert arrays(estimator)
    with fake_cuda() as mode:
        on_cuda = results(estimator, X, y)
        assert mode.kernels
        if hasattr(estimator, "partial_fit") and name != "early stopping":
            estimator.partial_fit(X, *y)
        if hasattr(estimator, "warm_start"):
            before = estimator.n_iter_ if hasattr(estimator, "n_iter_") else None
            estimator.set_params(warm_start=True).fit(X, *y)
            assert before is None or estimator.n_iter_ > before
    estimator = pickle.loads(fitted(name)[0])
    if "device" in estimator.get_params():
        estimator.set_params(device="cpu")
    else:
        estimator.estimator_.set_params(device="cpu")
    on_cpu = results(estimator, X, y)
    assert on_cpu.keys() == on_cuda.keys()
    for method, value in on_cpu.items():
        np.testing.assert_allclose(value, on_cuda[method], rtol=1e-4, atol=1e-4)


def results(estimator, X, y):
    """What the methods of a fitted estimator return, if it does not depend on random numbers."""
    methods = ("transform", "free_energy", "predict", "predict_proba")
    out = {name: getattr(estimator, name)(X) for name in methods if hasattr(estimator, name)}
    if hasattr(estimator, "score"):
        estimator.score(X, *([CLASSES] if y and y[0] is SOME_CLASSES else y))
    if hasattr(estimator, "score_samples"):
        estimator.score_samples(X)
    if hasattr(estimator, "sample"):
        estimator.sample(4, 3, random_state=0)
    if hasattr(estimator, "impute") and isinstance(X, np.ndarray):
        estimator.impute(HOLES if X is BINARY else X, n_steps=2, random_state=0)
    if hasattr(estimator, "components_"):
        log_partition(estimator, random_state=0)
    return out


@each_case
def test_replays_equal_eager_updates(name):
    check_equal(pickle.loads(fitted(name)[0]), pickle.loads(fitted(name, captured=False)[0]))


@each_case
def test_no_waits_within_an_epoch(name):
    waits = sum((epochs.waits for epochs in fitted(name)[1]), Counter())
    if name in STREAMED:  # the order of the rows, and the copies from two blocks ago
        assert {place.split(":")[0] for _, place in waits} == {"batches.py"}
    else:
        assert waits == Counter()


@each_case
def test_the_second_epoch_replays_the_graph_of_the_first(name):
    for epochs in fitted(name)[1]:
        first, *later = zip(epochs.captures, epochs.replays, epochs.n_batches)
        assert first == (1, first[2] - 1, first[2])
        moves = name in RECORDED_AGAIN and epochs is fitted(name)[1][-1]
        assert later == [(moves, n - moves, n) for n in epochs.n_batches[1:]]


def test_trajectory_tempering_waits_only_in_sweeps_of_the_ladder():
    gradient = PTT(10, interval=4)
    estimator = BernoulliRBM(8, gradient=gradient, n_iter=2, device="cuda:0", random_state=0)
    with Watch() as watch, fake_cuda():
        estimator.fit(BINARY).set_params(warm_start=True).fit(BINARY)
        assert estimator.sample(5, 3, method="ptt", random_state=0).shape == (5, 12)
        log_partition(estimator, method="ptt", random_state=0)
    for epochs in watch.epochs:
        assert {place.split(":")[0] for _, place in epochs.waits} == {"gradients.py"}
        n_sweeps = sum(epochs.n_batches) // 4
        assert epochs.waits.total() <= 4 * n_sweeps


def test_rows_that_do_not_fit_are_streamed():
    estimator, (X,) = new("PCD")
    with Watch() as watch, fake_cuda() as mode:
        mode.memory = 0
        estimator.fit(X)
    (epochs,) = watch.epochs
    assert {place.split(":")[0] for _, place in epochs.waits} == {"batches.py"}
    check_equal(estimator, pickle.loads(fitted("PCD")[0]))


class Noting(CD):
    """Notes the precision of the products of CUDA in each update that is not replayed."""

    seen: ClassVar[set] = set()

    def __call__(self, model, phases, state, noise):
        self.seen.add(torch.backends.cuda.matmul.fp32_precision)
        super().__call__(model, phases, state, noise)


class NotingRBM(BernoulliRBM):
    """Notes the precision when a fitted model computes."""

    seen: ClassVar[list] = []

    def _without_dropout(self, model):
        self.seen.append(torch.backends.cuda.matmul.fp32_precision)
        return model


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch < 2.9")
@pytest.mark.parametrize("user", ["none", "tf32", "ieee"])
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_tf32_is_for_training_as_precision_says_and_never_for_a_fitted_model(precision, user):
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = user
    Noting.seen.clear()
    try:
        with fake_cuda():
            settings = {"gradient": Noting(), "precision": precision, "device": "cuda:0"}
            rbm = NotingRBM(8, n_iter=2, random_state=0, **settings).fit(BINARY)
            assert Noting.seen == {"ieee" if precision == "highest" else "tf32"}
            for method in (rbm.transform, rbm.free_energy, rbm.score_samples):
                method(BINARY)
                assert NotingRBM.seen[-1] == "ieee"
            rbm.sample(3, 2)
            log_partition(rbm, betas=3, method="ais", random_state=0)
            assert NotingRBM.seen[-1] == "ieee"
        assert matmul.fp32_precision == user
    finally:
        matmul.fp32_precision = before


GRADIENTS: dict[str, Gradient] = {
    "CD": CD(2),
    "PCD": PCD(n_chains=3),
    "tempering": ParallelTempering(4),
    "exact": Exact(),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_an_update_asks_for_no_number(name, gradient):
    """On "meta", tensors hold no numbers: to ask for one raises."""
    visible, hidden = MODELS[name]
    values = [torch.empty(size, device="meta") for size in ((4, 6), (6,), (4,))]
    with torch.inference_mode():
        model = RBM(visible(6), hidden(4), *values)
        trainer = Trainer(model, GRADIENTS[gradient], batch_size=5, centered=True, max_norm=1.0)
        noise = Noise(0)
        noise.on_device = True
        rows, weight = torch.empty(5, 6, device="meta"), torch.empty(5, device="meta")
        trainer.begin_epoch(rows.mean(0), rows, 2, noise, 0.1, 0.0)
        for _ in range(2):
            trainer.step(rows, weight, noise)
        trainer.end_epoch()


RECORDED = ("CD", "PCD, few chains", "tempering", "Adam, penalties", "gaussian", "categorical")


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_updates_equal_plain_ones_on_the_cpu(name, monkeypatch):
    # The fast numbers of the CPU come from numpy, which a record does not see.
    monkeypatch.setattr(Noise, "on_device", property(lambda self: True, lambda *_: None), False)
    estimator, given = new(name, device="cpu")
    plain, recorders, update = clone(estimator).fit(*given), {}, Trainer.update

    def recorded(trainer, noise):
        if trainer not in recorders:  # the first update makes what the others add to
            recorders[trainer] = None
            update(trainer, noise)
        elif recorders[trainer] is None:
            with Recorder() as recorders[trainer]:
                update(trainer, noise)
        else:
            recorders[trainer].replay()

    monkeypatch.setattr(Trainer, "update", recorded)
    check_equal(estimator.fit(*given), plain)
    assert all(recorders.values())


@pytest.mark.gpu
@each_case
def test_on_a_gpu_replays_equal_eager_updates_and_nothing_waits(name):
    estimator, given = new(name, device="cuda")
    fits, waits = [], Counter()

    def watched(epoch):
        def call(*args, **kwargs):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    epoch(*args, **kwargs)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            found = [w for w in caught if "called a synchronizing" in str(w.message)]
            waits.update(w.filename.split("/")[-1] for w in found)

        return call

    with ExitStack() as stack:
        for kind in (Trainer, UpDown, Backprop):
            stack.enter_context(mock.patch.object(kind, "epoch", watched(kind.epoch)))
        for warm_up in (1, 10**9):
            with mock.patch("skebm.engine.capture.WARM_UP", warm_up):
                fits.append(clone(estimator).fit(*given))
    check_equal(*fits)
    assert set(waits) == ({"batches.py"} if name in STREAMED else set())


@pytest.mark.gpu
def test_on_a_gpu_evaluation_has_full_precision_whatever_the_process_has_set():
    X = np.random.default_rng(0).uniform(size=(500, 2000)).astype(np.float32)
    rbm = BernoulliRBM(1000, n_iter=1, device="cuda", random_state=0).fit(X)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # TF32
    try:
        on_gpu = rbm.free_energy(X), log_partition(rbm, betas=3, random_state=0).value
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    again = rbm.free_energy(X), log_partition(rbm, betas=3, random_state=0).value
    np.testing.assert_array_equal(on_gpu[0], again[0])
    assert on_gpu[1] == again[1]
    on_cpu = rbm.set_params(device="cpu").free_energy(X)
    np.testing.assert_allclose(on_gpu[0], on_cpu, rtol=1e-5, atol=1e-4)


@pytest.mark.gpu
def test_on_a_gpu_a_graph_of_chains_draws_from_the_model():
    rbm = BernoulliRBM(10, n_iter=20, random_state=0, device="cuda").fit(BINARY)
    with mock.patch("skebm.engine.capture.WARM_UP", 10**9):
        eager = (
            rbm.sample(50, 100, random_state=0),
            log_partition(rbm, method="ais", betas=300, random_state=0),
        )
    graph = (
        rbm.sample(50, 100, random_state=0),
        log_partition(rbm, method="ais", betas=300, random_state=0),
    )
    np.testing.assert_array_equal(graph[0], eager[0])
    assert graph[1] == eager[1]
    exact = log_partition(rbm, method="exact").value
    assert abs(graph[1].value - exact) < 4 * graph[1].stderr
