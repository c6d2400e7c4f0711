"""Trained: what is fitted by epochs over rows, of whatever kind the model is.

for each epoch:  train on every row once;  measure;  tell the callbacks;  stop if it got no better
"""

import copy
import sys
import time
from contextlib import contextmanager
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skebm._shared import estimator
from skebm._sklearn import Interval, StrOptions
from skebm.engine import devices
from skebm.engine.batches import Batches, chunks, to_device
from skebm.engine.noise import Noise

#: Packages whose lines a warning does not point at.
OUR_FRAMES = ("skebm", "sklearn")


@estimator
class Trained(CallbackSupportMixin, BaseEstimator):
    """Base of what is trained by epochs: the loop, early stopping, resuming, the history."""

    learning_rate: float = 0.1
    batch_size: int = 10
    n_iter: int | None = 10
    optimizer: str = "sgd"
    learning_rate_schedule: str = "constant"
    momentum: float = 0.0
    momentum_ramp: int = 0
    weight_decay: float = 0.0
    max_norm: float | None = None
    shuffle: bool = True
    warm_start: bool = False
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 5
    tol: float = 1e-4
    device: str = "auto"
    precision: str = "high"
    verbose: int = 0
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict] = {
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"constant", "linear", "invscaling"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_iter": [Interval(Integral, 0, None, closed="left")],
        "optimizer": [StrOptions({"sgd", "adam"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "momentum_ramp": [Interval(Integral, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "shuffle": ["boolean"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"highest", "high", "medium"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    # What a kind of model says of itself

    #: The fitted attributes that training changes.
    _learned: ClassVar[tuple[str, ...]] = ()
    #: How many updates n_iter=None stands for, and the least and largest number of epochs.
    _epochs: ClassVar[tuple[int, int, int]] = (2000, 20, 100)
    #: How many tasks come before the epochs of a fit that does not go on from another.
    _n_first_tasks: ClassVar[int] = 0
    #: What the score of held-out rows is, for the docstrings.
    _held_out: ClassVar[str]
    #: How verbose=1 prints figures of `history_`; the first that there is, is printed.
    _reported: ClassVar[dict[str, str]] = {}

    def _prepare_training(self, X, y, sample_weight, *, task, rng, resume, **settings):
        """Rows, what stands beside them, their weights, and what changes them between epochs.

        A new `task` may have `_n_first_tasks` subtasks before the epochs.
        """
        raise NotImplementedError

    def _dtype(self):
        """The type of the fitted arrays."""
        raise NotImplementedError

    def _encode(self, rows):
        """What a model is trained on, a tensor, of rows of validated data."""
        return rows

    def _strata(self, beside):
        """The groups of rows that are held back in proportion, a number for each row."""
        return None

    def _trainer(self, X, batches, rng, resume):
        """The model as it stands, or a new one, with what trains it."""
        raise NotImplementedError

    def _measure(self, model, rows):
        """Figures of merit on encoded rows, for `history_`."""
        raise NotImplementedError

    def _held_out_scores(self, model, rows, beside):
        """What early stopping watches, for each of the encoded rows: (n,)."""
        raise NotImplementedError

    def _fitted_attributes(self, trainer, history, rng):
        """What is known after an epoch, besides the parameters."""
        return {
            "training_state_": {name: as_numpy(t) for name, t in trainer.state().items()},
            "training_settings_": self._training_settings(),
            "history_": {name: np.array(values) for name, values in history.items()},
            "n_iter_": len(history.get("epoch", ())),
            # A copy, so that what a callback draws from it does not change the fit.
            "random_state_": copy.deepcopy(rng),
        }

    def _training_settings(self):
        """The settings that `training_state_` belongs to."""
        raise NotImplementedError

    # The loop

    def _n_epochs(self, n_rows):
        """How many epochs a fit to so many rows makes."""
        if self.n_iter is not None:
            return self.n_iter
        n_batches = -(-max(1, n_rows) // self.batch_size)
        n_updates, least, most = self._epochs
        return int(np.clip(-(-n_updates // n_batches), least, most))

    def _finish(self, X, y=None, sample_weight=None):
        """Make the epochs that were left when a callback got this estimator."""
        first, n_epochs = (int(number) for number in self.training_state_["call"])
        return self._train(X, y, sample_weight, n_epochs=n_epochs, resume=True, first=first)

    def _train(
        self, X, y, sample_weight, *, n_epochs, resume, first=None, hold_back=True, **settings
    ):
        """Train for so many epochs, counted from `first` on."""
        with unchanged_on_error(self):
            rng = self._random_stream(resume)
            history = {k: list(v) for k, v in self.history_.items()} if resume else {}
            done = len(history.get("epoch", ()))
            is_new_call, first = first is None, done + 1 if first is None else first
            n_tasks = first + n_epochs - 1 - done + (0 if resume else self._n_first_tasks)
            fit_task = self._init_callback_context(max_subtasks=n_tasks)
            fit_task.call_on_fit_task_begin(estimator=self, X=X)
            X, beside, sample_weight, between = self._prepare_training(
                X, y, sample_weight, task=fit_task, rng=rng, resume=resume, **settings
            )
            device = devices.resolve(self.device)
            dtype = self._dtype() if resume else devices.float_type(X.dtype)
            stopping = None
            if self.early_stopping and hold_back:
                stopping, sample_weight = self._hold_back(
                    X, beside, sample_weight, history, rng, resume
                )
                if is_new_call:
                    stopping.n_bad = 0
            batches = Batches(
                X,
                sample_weight,
                batch_size=self.batch_size,
                shuffle=self.shuffle,
                device=device,
                dtype=dtype,
                encode=self._encode,
                beside=beside,
            )
            trainer = self._trainer(X, batches, rng, resume)
            noise = Noise(0, device)

            def snapshot():
                attributes = self._fitted_attributes(trainer, history, rng)
                state = attributes["training_state_"]
                state["call"] = np.array([first, n_epochs])
                if stopping is not None:
                    state |= stopping.state()
                return attributes

            for epoch in range(done + 1, first + n_epochs):
                if stopping is not None and stopping.is_over:
                    break
                task = fit_task.subcontext(task_name="epoch")
                task.call_on_fit_task_begin(estimator=self, X=X)
                begin = time.perf_counter()
                noise.restart(seed_of(rng))
                with devices.precision(device, self.precision):
                    trainer.epoch(batches, noise, *self._rates(epoch, first, n_epochs))
                self._check_finite(trainer.model, epoch)
                row = {"epoch": epoch, "seconds": time.perf_counter() - begin}
                tested = trainer.model.at_test()
                row |= self._measure(tested, batches.probe)
                row |= {k: v.item() for k, v in trainer.report().items()}
                if stopping is not None:
                    row["validation_score"] = stopping.measure(self, tested, device, dtype)
                append(history, row)
                self._report(row)
                if stopping is not None and stopping.is_best:
                    stopping.best = self._of_this_epoch(
                        self._fitted_attributes(trainer, history, rng)
                    )
                if between is not None:
                    between(tested, noise)
                    batches.look()
                if task.call_on_fit_task_end(
                    estimator=self, X=X, reconstruction_attributes=snapshot
                ):
                    break
            attributes = self._fitted_attributes(trainer, history, rng)
            if stopping is not None:
                attributes = stopping.restore(attributes)
            self.__dict__.update(attributes)
            self.__dict__.pop("_log_z", None)  # that of other parameters
            fit_task.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes=dict)
        return self

    def _rates(self, epoch, first, n_epochs):
        """Learning rate and momentum of an epoch, of those that a call makes from `first` on."""
        rate = self.learning_rate
        if self.learning_rate_schedule == "linear":
            rate *= 1 - (epoch - first) / n_epochs
        elif self.learning_rate_schedule == "invscaling":
            rate /= epoch**0.5
        return rate, self.momentum * min(1, epoch / (self.momentum_ramp + 1))

    def _hold_back(self, X, beside, sample_weight, history, rng, resume):
        """What watches the held-out rows, and weights that are zero on them."""
        if resume and "held_out" in self.training_state_:
            seed = int(self.training_state_["held_out"])
        else:
            seed = seed_of(rng)
        n = X.shape[0]
        train, held_out = train_test_split(
            np.arange(n),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=self._strata(beside),
        )
        weight = np.ones(n) if sample_weight is None else sample_weight.copy()
        if not weight[train].any() or not weight[held_out].any():
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves rows of weight zero alone "
                "to train or to validate on; change it, or set early_stopping=False."
            )
        stopping = EarlyStopping(
            self,
            X[held_out],
            None if beside is None else beside[held_out],
            weight[held_out],
            seed,
            history,
            resume,
        )
        weight[held_out] = 0
        return stopping, weight

    def _random_stream(self, resume):
        # A copy, so that a call that fails leaves the fitted stream where it was.
        return (
            copy.deepcopy(self.random_state_) if resume else check_random_state(self.random_state)
        )

    def _check_finite(self, model, epoch):
        finite = [p.isfinite().all() for p in model.parameters().values()]
        if not torch.stack(finite).all():
            raise ValueError(
                f"{type(self).__name__} diverged in epoch {epoch}: its parameters are no longer "
                f"finite. Lower learning_rate (now {self.learning_rate}), or scale the data, "
                "with StandardScaler for instance."
            )

    def _report(self, row):
        if self.verbose:
            figure = next(t.format(row[key]) for key, t in self._reported.items() if key in row)
            print(
                f"[{type(self).__name__}] Iteration {row['epoch']}, {figure}, "
                f"time = {row['seconds']:.2f}s",
                flush=True,
            )

    def _of_this_epoch(self, attributes):
        """The fitted attributes that go back with the weights to the best epoch."""
        return {k: v for k, v in attributes.items() if k in (*self._learned, "training_state_")}


class EarlyStopping:
    """Scores of held-out rows after every epoch, and the model that had the best."""

    def __init__(self, estimator, X, beside, weight, seed, history, resume):
        self.X, self.beside, self.weight, self.seed = X, beside, weight, seed
        self.tol, self.patience = estimator.tol, estimator.n_iter_no_change
        self.best_score, self.n_bad, self.is_best = -np.inf, 0, False
        for score in history.get("validation_score", ()):
            self._add(score)
        self.best = {}
        if resume:
            now = estimator._of_this_epoch(vars(estimator))
            self.best = estimator.training_state_.get("best", now)

    def measure(self, estimator, model, device, dtype):
        """The weighted mean score of the held-out rows, noted."""
        total = 0.0
        with torch.inference_mode():
            for piece in chunks(self.X, model.row_size):
                rows = estimator._encode(to_device(self.X[piece], device, dtype))
                beside = None
                if self.beside is not None:
                    beside = to_device(self.beside[piece], device, dtype)
                scores = as_numpy(estimator._held_out_scores(model, rows, beside))
                total += scores.astype(np.float64) @ self.weight[piece]
        score = float(total / self.weight.sum())
        self._add(score)
        return score

    def _add(self, score):
        self.n_bad = 0 if score > self.best_score + self.tol else self.n_bad + 1
        self.is_best = score > self.best_score
        self.best_score = max(score, self.best_score)

    @property
    def is_over(self):
        """Whether the score has not risen for too long."""
        return self.n_bad >= self.patience

    def state(self):
        """What an interrupted fit goes on from."""
        return {"held_out": np.array(self.seed), "best": self.best}

    def restore(self, attributes):
        """The attributes of a finished fit: those of the best epoch, and the whole history."""
        attributes = attributes | self.best
        held_out = {"held_out": np.array(self.seed)}
        return attributes | {"training_state_": attributes["training_state_"] | held_out}


def append(history, row):
    """Add a row to a history, whose columns stay equally long."""
    n = len(next(iter(history.values()), ()))
    for name in dict.fromkeys([*history, *row]):
        history.setdefault(name, [np.nan] * n).append(row.get(name, np.nan))


def level_of_caller():
    """The `stacklevel` of the line that called this package, through scikit-learn's wrappers."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in OUR_FRAMES:
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def unchanged_on_error(estimator):
    """Leave the fitted attributes as they were if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        for name in [name for name in vars(estimator) if name.endswith("_")]:
            delattr(estimator, name)
        estimator.__dict__.update({k: v for k, v in before.items() if k.endswith("_")})
        raise


def seed_of(rng):
    """A seed, drawn from a RandomState."""
    return int(rng.randint(np.iinfo(np.int32).max))


def as_tensor(array, device, dtype=None):
    """A tensor of its own, of an array."""
    return torch.tensor(array, device=device, dtype=dtype)


def as_numpy(tensor):
    """An array of its own, of a tensor."""
    return tensor.detach().cpu().numpy().copy()
