"""Fits that are killed, and finished from their file."""

import copy
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline

from skebm import BernoulliRBM, Checkpoint, DBNClassifier, GaussianRBM
from skebm.fitting import Fit

SETTINGS = {"n_components": 8, "n_iter": 12, "random_state": 0, "learning_rate": 0.05}
VARIANTS = [
    BernoulliRBM(**SETTINGS),
    BernoulliRBM(**SETTINGS, optimizer="adam", learning_rate_schedule="linear", gradient="pt"),
    BernoulliRBM(**SETTINGS, early_stopping=True, n_iter_no_change=3, temperature=0.7),
    GaussianRBM(**SETTINGS, momentum=0.9, momentum_ramp=5),
]


def data():
    return (np.random.default_rng(0).uniform(size=(200, 10)) < 0.3).astype(np.float64)


class Stop:
    """End the fit with an error after some epochs."""

    def __init__(self, n_epochs):
        self.left = n_epochs

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.left -= context.task_name == "epoch"
        if self.left == 0:
            raise KeyboardInterrupt

    def teardown(self, estimator, context):
        pass


def assert_same_fit(first, second):
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.n_iter_ == second.n_iter_
    for name, values in first.history_.items():
        if name != "seconds":
            assert_array_equal(values, second.history_[name], err_msg=name)
    for name, values in first.training_state_.items():
        assert_array_equal(values, second.training_state_[name], err_msg=name)


def test_a_resumed_fit_tears_its_callbacks_down(tmp_path):
    checkpoint = Checkpoint(tmp_path / "rbm")
    with pytest.raises(KeyboardInterrupt):
        BernoulliRBM(**SETTINGS).set_callbacks(checkpoint, Stop(3)).fit(data())
    torn_down = []
    checkpoint.teardown = lambda estimator, context: torn_down.append(estimator)
    rbm = checkpoint.resume(data())
    assert torn_down == [rbm]
    assert [name for name in vars(rbm) if "callback" in name] == ["_skl_callbacks"]


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
@pytest.mark.parametrize("n_epochs", [1, 5, 8])
def test_an_interrupted_fit_ends_with_the_same_bits(variant, n_epochs, tmp_path):
    X, path = data(), tmp_path / "rbm.joblib"
    weight = np.random.default_rng(1).uniform(size=len(X))
    whole = joblib.load(_dumped(variant, tmp_path)).fit(X, sample_weight=weight)
    n_epochs = min(n_epochs, whole.n_iter_ - 1)
    rbm = joblib.load(_dumped(variant, tmp_path))
    with pytest.raises(KeyboardInterrupt):
        rbm.set_callbacks(Checkpoint(path), Stop(n_epochs)).fit(X, sample_weight=weight)
    assert joblib.load(path).n_iter_ == n_epochs
    resumed = Checkpoint(path).resume(X, sample_weight=weight)
    assert_same_fit(whole, resumed)


def _dumped(estimator, folder):
    joblib.dump(estimator, folder / "unfitted.joblib")
    return folder / "unfitted.joblib"


@pytest.mark.parametrize(("every", "expected"), [(1, 6), (4, 6), (100, 6)])
def test_files_are_written_every_so_many_epochs_and_at_the_end(every, expected, tmp_path):
    class Counting(Checkpoint):
        written = ()

        def _write(self, estimator):
            self.written = (*self.written, estimator.n_iter_)
            super()._write(estimator)

    checkpoint = Counting(tmp_path / "rbm.joblib", every)
    rbm = BernoulliRBM(3, n_iter=6, random_state=0).set_callbacks(checkpoint).fit(data())
    assert checkpoint.written == {1: (1, 2, 3, 4, 5, 6), 4: (2, 6), 100: (6,)}[every]
    again = joblib.load(tmp_path / "rbm.joblib")
    assert_array_equal(again.transform(data()), rbm.transform(data()))
    assert [file.name for file in tmp_path.iterdir()] == ["rbm.joblib"]


def test_bad_arguments_are_named(tmp_path):
    rbm = BernoulliRBM(3, n_iter=1)
    with pytest.raises(ValueError, match="folder that does not exist"):
        rbm.set_callbacks(Checkpoint(tmp_path / "none" / "rbm.joblib")).fit(data())
    with pytest.raises(ValueError, match="every == 0"):
        rbm.set_callbacks(Checkpoint(tmp_path / "rbm.joblib", every=0)).fit(data())


KILLED = """
import sys
import numpy as np
from skebm import BernoulliRBM, Checkpoint
X = (np.random.default_rng(0).uniform(size=(5000, 10)) < 0.3).astype(np.float64)
path, first = sys.argv[1], sys.argv[2] == "first"
checkpoint = Checkpoint(path)
print("start", flush=True)
if first:
    rbm = BernoulliRBM(8, n_iter=40, random_state=0, momentum=0.5)
    rbm.set_callbacks(checkpoint).fit(X)
else:
    checkpoint.resume(X)
print("end", flush=True)
"""


@pytest.mark.parametrize("n_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_fit_killed_at_random_moments_ends_with_the_same_bits(n_kills, tmp_path):
    X = (np.random.default_rng(0).uniform(size=(5000, 10)) < 0.3).astype(np.float64)
    whole = BernoulliRBM(8, n_iter=40, random_state=0, momentum=0.5).fit(X)
    path, rng, killed = tmp_path / "rbm.joblib", np.random.default_rng(0), 0
    for _ in range(10 * n_kills):
        if killed == n_kills:
            break
        start = "resume" if path.exists() else "first"
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), start], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        if path.exists() and joblib.load(path).n_iter_ == 40:
            path.unlink()  # it was done before the signal came; once more from the beginning
    assert killed == n_kills
    if not path.exists():
        process = subprocess.run([sys.executable, "-c", KILLED, str(path), "first"], check=True)
    assert_same_fit(whole, Checkpoint(path).resume(X))


@pytest.mark.parametrize("damage", ["empty", "truncated", "foreign", "version"])
def test_files_that_are_no_whole_checkpoint_are_refused(damage, tmp_path):
    path = tmp_path / "rbm"
    BernoulliRBM(**SETTINGS).set_callbacks(Checkpoint(path)).fit(data())
    message = "is not a whole checkpoint"
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "foreign":
        joblib.dump(BernoulliRBM(), path)
    else:
        rbm = joblib.load(path)
        rbm._checkpoint = "9.9"
        joblib.dump(rbm, path)
        message = "was written by skebm 9.9"
    with pytest.raises(ValueError, match=message):
        Checkpoint(path).resume(data())


def test_a_checkpoint_belongs_to_its_rows(tmp_path):
    path = tmp_path / "rbm"
    BernoulliRBM(**SETTINGS).set_callbacks(Checkpoint(path)).fit(data())
    for other in (data()[:100], data()[::-1], 1 - data()):
        with pytest.raises(ValueError, match="belongs to a fit of 200 rows"):
            Checkpoint(path).resume(other)
    Checkpoint(path).resume(data())


def test_a_folder_is_no_path_and_what_killed_fits_left_is_removed(tmp_path):
    rbm = BernoulliRBM(**SETTINGS)
    with pytest.raises(ValueError, match="is a folder"):
        rbm.set_callbacks(Checkpoint(tmp_path)).fit(data())
    with pytest.raises(ValueError, match="is a folder"):
        Checkpoint(tmp_path).resume(data())
    left, other = tmp_path / ".rbm-abc", tmp_path / ".other-abc"
    left.touch()
    other.touch()
    rbm.set_callbacks(Checkpoint(tmp_path / "rbm")).fit(data())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-abc", "rbm"]


@pytest.mark.parametrize("estimator", [*VARIANTS, DBNClassifier([4], n_iter=12)], ids=repr)
def test_an_interrupt_keeps_the_last_whole_epoch(estimator, monkeypatch):
    X, y = data(), data()[:, 0]
    epochs = []

    class Record(Stop):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch":
                epochs.append(copy.deepcopy(fitted_estimator))

    clone(estimator).set_params(random_state=0).set_callbacks(Record(0)).fit(X, y)
    epoch, left = Fit.epoch, [5]

    def interrupted(self, number):
        left[0] -= isinstance(self.owner, type(estimator))
        epoch(self, number)
        if left[0] == 0:  # as late as can be: the epoch is in the history
            self.trainer.model.parameters().popitem()[1].detach().fill_(7)
            raise KeyboardInterrupt

    monkeypatch.setattr(Fit, "epoch", interrupted)
    kept = clone(estimator).set_params(random_state=0)
    with pytest.warns(ConvergenceWarning, match="the model of epoch 4 is kept"):
        kept.fit(X, y)
    assert_array_equal(kept.history_["epoch"], [1, 2, 3, 4])
    for name in ("components_", "intercept_hidden_", "log_scales_", "coef_", "intercept_"):
        if hasattr(kept, name) and not estimator.early_stopping:
            assert_array_equal(getattr(kept, name), getattr(epochs[3], name))
    assert kept.random_state_.tomaxint() == epochs[3].random_state_.tomaxint()
    left[0] = 1
    with pytest.raises(KeyboardInterrupt):
        clone(estimator).fit(X, y)
    left[0] = 5
    with pytest.raises(KeyboardInterrupt):
        make_pipeline(clone(estimator)).fit(X, y)


def test_an_interrupt_between_two_epochs_keeps_the_first_of_them(monkeypatch):
    X, whole = data(), BernoulliRBM(3, n_iter=3, random_state=0)
    whole.fit(X)
    learned, calls = BernoulliRBM._learned, []

    def interrupted(self, trainer):
        calls.append(trainer)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return learned(self, trainer)

    monkeypatch.setattr(BernoulliRBM, "_learned", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted after epoch 3: its model is kept"):
        kept = BernoulliRBM(3, n_iter=6, random_state=0).fit(X)
    assert kept.n_iter_ == 3
    assert_array_equal(kept.components_, whole.components_)
    assert kept.random_state_.tomaxint() == whole.random_state_.tomaxint()
