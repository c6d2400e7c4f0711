"""Fits that are killed, and finished from their file."""

import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skebm import BernoulliRBM, Checkpoint, GaussianRBM

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
