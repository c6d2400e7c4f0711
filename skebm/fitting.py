"""Trained: the base class of all estimators that are fitted by epochs over rows.

for each epoch:  train on every row once;  measure;  call the callbacks;  check early stopping
"""

import copy
import math
import re
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import joblib
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skebm._shared import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
    Verbosity,
    estimator,
)
from skebm._sklearn import BaseEstimator, CallbackSupportMixin, fit_context, num_samples
from skebm._version import __version__
from skebm.engine import devices
from skebm.engine.batches import Batches, chunk_size, chunks, to_device
from skebm.engine.noise import Noise, seed_of
from skebm.engine.parallel import Processes, current
from skebm.engine.scaling import Scaling
from skebm.missing import FIRST_SWEEPS, drawn
from skebm.tensors import as_array

RateSchedule = Literal["constant", "linear", "invscaling"]
#: Version of the fitted attributes, stored in pickles; skebm 0.1 has version 1.
FORMAT = 3
#: Warnings point at the first caller outside of these packages.
OUR_FRAMES = ("skebm", "sklearn")


class TrainingData(NamedTuple):
    """The data that a fit is trained on."""

    rows: Any  # ndarray or csr_array of shape (n_samples, n_features)
    targets: Any = None  # ndarray or csr_array of shape (n_samples, n_targets), or None
    weight: np.ndarray | None = None  # (n_samples,)
    scaling: Scaling | None = None  # on the device of the fit; None means the identity
    dtype: np.dtype | None = None  # of the fitted arrays; None takes that which holds the rows
    #: Fills in the missing entries of `rows` again after each epoch.
    missing: Any = None
    #: A mask of missing entries that are left out; `rows` has the means of their columns.
    left_out: np.ndarray | None = None


class FittedAttributes:
    """The types of the attributes that every fitted estimator has."""

    history_: dict[str, np.ndarray]
    n_iter_: int
    random_state_: np.random.RandomState
    training_state_: dict[str, np.ndarray]
    training_settings_: dict[str, Any]
    training_progress_: dict[str, Any]


@estimator
class Trained(FittedAttributes, CallbackSupportMixin, BaseEstimator):
    """Base class of estimators that are trained by epochs: training parameters and the loop."""

    learning_rate: PositiveFloat = 0.1
    batch_size: PositiveInt = 10
    n_iter: NonNegativeInt | None = 10
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate_schedule: RateSchedule = "constant"
    momentum: Probability = 0.0
    momentum_ramp: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    max_norm: PositiveFloat | None = None
    shuffle: bool = True
    warm_start: bool = False
    early_stopping: bool = False
    validation_fraction: Fraction = 0.1
    n_iter_no_change: PositiveInt = 5
    tol: NonNegativeFloat = 1e-4
    device: str = "auto"
    precision: Literal["highest", "high", "medium"] = "high"
    verbose: Verbosity = 0
    random_state: Seed = None

    #: For n_iter=None: the number of updates, and the smallest and largest number of epochs.
    _epochs: ClassVar[tuple[int, int, int]] = (2000, 20, 100)
    #: Number of callback tasks before the first epoch of a new fit.
    _n_first_tasks: ClassVar[int] = 0
    #: Description of the score of held-out rows, for the docstrings.
    _held_out: ClassVar[str]
    #: Formats of verbose=1, by names of `history_`; the first name that exists is printed.
    _reported: ClassVar[dict[str, str]] = {}

    # Methods that subclasses implement

    def _prepare_training(
        self, X, y, sample_weight, *, task, rng, resume, **settings
    ) -> TrainingData:
        """Validate the arguments of `fit`; a new fit may start `_n_first_tasks` subtasks."""
        raise NotImplementedError

    def _trainer(self, data: TrainingData, batches, rng, resume):
        """Return the trainer of the fitted model if `resume` is true, else of a new model."""
        raise NotImplementedError

    def _measure(self, model, rows) -> dict[str, float]:
        """Measures on encoded rows with their targets, by their names in `history_`."""
        raise NotImplementedError

    def _held_out_scores(self, model) -> Callable[[torch.Tensor, Any], torch.Tensor]:
        """The function of encoded rows and their targets that early stopping uses: (n,)."""
        raise NotImplementedError

    def _parameters(self, model) -> dict[str, Any]:
        """The fitted attributes that hold the parameters of a model, in numpy."""
        raise NotImplementedError

    def _row_products(self, data) -> float:
        """How many multiplications a row takes in the model; infinity if it is not known yet."""
        return math.inf

    def _training_settings(self) -> dict[str, Any]:
        """The settings that `training_state_` belongs to."""
        raise NotImplementedError

    def _is_done(self, history, schedule) -> bool:
        """Whether training has converged, so that the remaining epochs are not needed."""
        return False

    def _check_convergence(self, history, batches, trainer, missing):
        """Warn if the model is worse than a constant one."""

    def _strata(self, targets):
        """The stratum of each row, for a stratified split; None if the split is not stratified."""
        return None

    def _weigh_held_out(self, weight, targets):
        """The weights of held-out rows in the score: (n,)."""
        return weight

    # Pickles

    def __getstate__(self):
        return super().__getstate__() | {"_format": FORMAT, "_skebm_version": __version__}

    def __setstate__(self, state):
        state = dict(state)
        form, version = state.pop("_format", 1), state.pop("_skebm_version", "0.1")
        if form != FORMAT and any(name.endswith("_") for name in state):
            raise ValueError(
                f"This {type(self).__name__} was saved by another version of skebm, {version}: its "
                f"fitted attributes have the form {form}, and this version reads the form {FORMAT}."
                " Fit it again, or load it with the version that saved it."
            )
        super().__setstate__(state)

    # The training loop

    def _train(
        self, X, y, sample_weight, *, n_epochs, resume, first=None, hold_back=True, **settings
    ):
        """Train for `n_epochs` epochs; `first` is the number of the first of them."""
        processes = current()
        with processes.guarded(), unchanged_on_error(self):
            self._check_same_call(processes, y, sample_weight, n_epochs, resume)
            # A copy, so that a call that fails does not change `random_state_`.
            rng = copy.deepcopy(self.random_state_) if resume else generator_of(self.random_state)
            history = History(self.history_ if resume else {})
            is_new_call = first is None
            schedule = Schedule(
                history.n_epochs + 1 if first is None else first, n_epochs, self._rates
            )
            n_tasks = schedule.end - 1 - history.n_epochs
            task = self._init_callback_context(
                max_subtasks=n_tasks + (0 if resume else self._n_first_tasks)
            )
            given = {"estimator": self, "X": X, "y": y}
            if sample_weight is not None:
                given["metadata"] = {"sample_weight": sample_weight}
            task.call_on_fit_task_begin(**given)
            if not resume:
                forget(self)
            data = self._prepare_training(
                X, y, sample_weight, task=task, rng=rng, resume=resume, **settings
            )
            stopping = None
            if self.early_stopping and hold_back:
                stopping = EarlyStopping(self, data, history, rng, resume)
                stopping.n_bad = 0 if is_new_call else stopping.n_bad
                data = data._replace(weight=stopping.training_weight)
            n_batch = min(self.batch_size, data.rows.shape[0])
            threads = devices.threads(n_batch * self._row_products(data))
            with threads, devices.precision(devices.resolve(self.device)):
                batches = self._batches(data)
                trainer = self._trainer(data, batches, rng, resume)
                fit = Fit(self, trainer, batches, history, schedule, rng, stopping, data.missing)
                fit.key = partial(checksum, X, y)
                if resume:
                    fit.resume()
                fit.run(task, **given)
                self._check_convergence(history, batches, trainer, data.missing)
                self.__dict__.update(fit.result())
            task.call_on_fit_task_end(**given, reconstruction_attributes=dict)
        return self

    def _fit(self, X, y, sample_weight):
        """Train for all epochs of a call of `fit`."""
        resume = self.warm_start and self.__sklearn_is_fitted__()
        y = as_array(y)
        processes = current()
        with processes.guarded():
            n_rows = processes.total("rows to fit", self._n_rows(X, y))
        n_epochs = self._n_epochs(n_rows)
        return self._train(X, y, sample_weight, n_epochs=n_epochs, resume=resume)

    def _partial_fit(self, X, y, sample_weight, **settings):
        """Train for one epoch, starting from the current parameters."""
        resume = self.__sklearn_is_fitted__()
        return self._train(
            X, as_array(y), sample_weight, n_epochs=1, resume=resume, hold_back=False, **settings
        )

    def _n_rows(self, X, y):
        """The number of rows to train on."""
        return num_samples(X)

    @fit_context(prefer_skip_nested_validation=False)
    def _finish(self, X, y=None, sample_weight=None):
        """Run the epochs that remained when a callback received this estimator."""
        progress, processes = self.training_progress_, current()
        with processes.guarded():
            keys = processes.exchange("rows of a checkpoint", checksum(X, y))
            _check_keys(progress["rows"], keys)
        return self._train(
            X,
            y,
            sample_weight,
            n_epochs=progress["n_epochs"],
            resume=True,
            first=progress["first_epoch"],
        )

    def _n_epochs(self, n_rows):
        """The number of epochs of a fit to `n_rows` rows."""
        if self.n_iter is not None:
            return self.n_iter
        n_batches = -(-max(1, n_rows) // self.batch_size)
        n_updates, least, most = self._epochs
        return int(np.clip(-(-n_updates // n_batches), least, most))

    def _rates(self, epoch, schedule):
        """Learning rate and momentum of an epoch."""
        rate = self.learning_rate
        if self.learning_rate_schedule == "linear":
            rate *= 1 - (epoch - schedule.first) / schedule.n_epochs
        elif self.learning_rate_schedule == "invscaling":
            rate /= epoch**0.5
        return rate, self.momentum * min(1, epoch / (self.momentum_ramp + 1))

    def _batches(self, data):
        """The rows of a fit as batches."""
        dtype = devices.float_type(data.rows.dtype) if data.dtype is None else data.dtype
        dtypes = current().exchange("types of numbers", dtype)
        return Batches(
            data.rows,
            data.weight,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            device=devices.resolve(self.device),
            dtype=np.result_type(*dtypes),
            scaling=data.scaling,
            targets=data.targets,
            left_out=data.left_out,
            processes=current(),
        )

    def _check_same_call(self, processes, y, sample_weight, n_epochs, resume):
        """Raise an error if the processes that train one model were given different arguments."""
        if processes.size == 1:
            return
        own = ("random_state", "device", "verbose")  # what may differ
        params = {k: repr(v) for k, v in self.get_params(deep=False).items() if k not in own}
        given = {"y": y is not None, "sample_weight": sample_weight is not None}
        call = params | given | {"epochs": n_epochs, "fitted before": resume}
        call = {name: re.sub(" at 0x[0-9a-f]+", "", str(value)) for name, value in call.items()}
        calls = processes.exchange(f"fit of {type(self).__name__}", call)
        for rank, other in enumerate(calls):
            for name in call:
                if other[name] != calls[0][name]:
                    raise ValueError(
                        f"{name} is {calls[0][name]} in the process of rank 0, and {other[name]} "
                        f"in that of rank {rank}; all processes must call `fit` with the same "
                        "arguments, except X, y and the values of sample_weight."
                    )

    def _fitted_attributes(self, trainer, history, rng):
        """All fitted attributes after an epoch."""
        return self._learned(trainer) | {
            "training_settings_": self._training_settings(),
            "training_progress_": {},
            "history_": history.as_arrays(),
            "n_iter_": history.n_epochs,
            # A copy, so that a callback that draws from it does not change the fit.
            "random_state_": copy.deepcopy(rng),
        }

    def _learned(self, trainer):
        """The fitted attributes that an epoch changes, apart from its records."""
        return self._parameters(trainer.model) | {"training_state_": self._training_state(trainer)}

    def _training_state(self, trainer):
        """The state that further training needs besides the parameters, in numpy."""
        return {name: as_numpy(t) for name, t in trainer.state().items()}

    def _load_state(self, trainer, device):
        """Load `training_state_` into a trainer, if it belongs to the same settings."""
        # Chains and moments of other settings are useless. A fit of zero epochs has none.
        if self.n_iter_ and self.training_settings_ == self._training_settings():
            state = {name: as_tensor(a, device) for name, a in self.training_state_.items()}
            state.pop("theta", None)
            trainer.load_state(state)


@dataclass(frozen=True)
class Schedule:
    """The epochs of one call of `fit`, and the learning rate and momentum of each."""

    first: int
    n_epochs: int
    #: Returns the learning rate and the momentum, given the epoch's number and the schedule.
    rates: Callable[[int, "Schedule"], tuple[float, float]]

    @property
    def end(self):
        """The number of the last epoch plus one."""
        return self.first + self.n_epochs


class History:
    """The measures of all epochs, in columns of equal length."""

    def __init__(self, columns=None):
        self.columns = {name: list(values) for name, values in (columns or {}).items()}

    @property
    def n_epochs(self):
        """Number of epochs."""
        return len(self.columns.get("epoch", ()))

    def append(self, row):
        """Add an epoch; a measure that an epoch does not have is NaN."""
        n = len(next(iter(self.columns.values()), ()))
        for name in dict.fromkeys([*self.columns, *row]):
            self.columns.setdefault(name, [np.nan] * n).append(row.get(name, np.nan))

    def truncate(self, n_epochs):
        """Forget all epochs but the first ones."""
        self.columns = {name: values[:n_epochs] for name, values in self.columns.items()}

    def as_arrays(self):
        """The columns as arrays."""
        return {name: np.array(values) for name, values in self.columns.items()}


class Epoch(NamedTuple):
    """What an interrupted fit needs to end with the model of its last whole epoch."""

    learned: dict[str, Any]
    progress: dict[str, Any]
    n_epochs: int
    rng: Any  # the state of the generator


@dataclass(eq=False)
class Fit:
    """The loop over the epochs of one call: train, measure, record, stop.

    Parameters
    ----------
    owner : Trained
        The estimator, which measures the model and names the fitted attributes.
    trainer : object
        An object with `epoch`, `model`, `report` and `state`.
    batches : Batches
    history : History
    schedule : Schedule
    rng : RandomState
    stopping : EarlyStopping or None
    missing : MissingEntries or None
    probe : callable or None
        Returns the rows to measure on; None means `batches.measured`.
    keeps_epochs : bool
        Whether an interrupt ends training with the model of the last whole epoch.
    """

    owner: Any
    trainer: Any
    batches: Batches
    history: History
    schedule: Schedule
    rng: np.random.RandomState
    stopping: Any = None
    missing: Any = None
    probe: Callable[[], torch.Tensor] | None = None
    keeps_epochs: bool = True
    #: The checksum of the arguments of the fit.
    key: Callable[[], Any] | None = None

    def __post_init__(self):
        self.processes: Processes = self.batches.processes
        self.noise = Noise(0, self.batches.device)
        self.last: Epoch | None = None
        #: The epoch that an interrupted fit ends with.
        self.end: Epoch | None = None
        #: The checksums of the arguments of all processes, if a callback has asked for them.
        self.rows: list[Any] | None = None

    def resume(self):
        """Go on from the missing entries and from the best epoch of the fitted estimator."""
        if self.missing is not None:
            state = self.owner.training_progress_.get("missing_entries", {})
            self.missing.resume(state, self.trainer.model.without_dropout(), self.rng)
            self.batches.refresh()
        if self.stopping is not None:
            self.stopping.resume(self.owner, self.trainer)

    def run(self, task, **on_task):
        """Run the remaining epochs, until a callback or early stopping ends training."""
        # In a stack, a pipeline or a search, an interrupt ends the whole of it.
        keeps_epochs = self.keeps_epochs and not hasattr(self.owner, "_parent_callback_ctx")
        keeps_epochs = keeps_epochs and self.processes.size == 1
        has_callbacks = bool(getattr(self.owner, "_skl_callbacks", ()))
        has_callbacks = self.processes.first("whether there are callbacks", has_callbacks)
        for epoch in range(self.history.n_epochs + 1, self.schedule.end):
            if self.stopping is not None and self.stopping.is_over:
                break
            if self.owner._is_done(self.history, self.schedule):
                break
            subtask = task.subcontext(task_name="epoch")
            subtask.call_on_fit_task_begin(**on_task)
            try:
                n_products = self.batches.batch_size * self.trainer.model.row_products
                with devices.threads(n_products), devices.precision(self.batches.device):
                    self.epoch(epoch)
            except KeyboardInterrupt:
                if self.last is None:
                    raise
                self.end = self.last
                warn_interrupted(f"in epoch {epoch}: the model of epoch {epoch - 1}")
                return
            if keeps_epochs:
                self.last = None  # before the next copy, so that memory holds one of them
                try:
                    learned = self.owner._learned(self.trainer)
                    progress, state = self._progress(), self.rng.get_state()
                    self.last = Epoch(learned, progress, self.history.n_epochs, state)
                except KeyboardInterrupt:  # the trainer holds the whole epoch
                    warn_interrupted(f"after epoch {epoch}: its model")
                    return
            attributes = self.attributes
            if has_callbacks and self.processes.size > 1:  # all processes compute them
                attributes = partial(dict, attributes())
            end = subtask.call_on_fit_task_end(**on_task, reconstruction_attributes=attributes)
            if self.processes.first("the end of an epoch", end):
                break

    def epoch(self, epoch):
        """Train for one epoch, measure, and record the measures."""
        owner, trainer = self.owner, self.trainer
        begin = time.perf_counter()
        self.noise.restart(self.processes.seed(seed_of(self.rng)))
        with devices.precision(self.batches.device, owner.precision):
            trainer.epoch(self.batches, self.noise, *self.schedule.rates(epoch, self.schedule))
        check_finite(owner, trainer.model, epoch)
        row = {"epoch": epoch, "seconds": time.perf_counter() - begin}
        model = trainer.model.without_dropout()
        rows = self.batches.measured if self.probe is None else self.probe()
        row |= owner._measure(model, rows)
        row |= {name: figure.item() for name, figure in trainer.report(rows).items()}
        if self.stopping is not None:
            row["validation_score"] = self.stopping.measure(owner, model, self.batches)
            if self.stopping.is_best:
                self.stopping.keep(owner, trainer)
        if self.processes.size > 1:
            row |= self._means(row)
        self.history.append(row)
        if self.processes.rank == 0:
            report(owner, row, self.schedule.end - 1)
        if self.missing is not None:
            self.missing.redraw(model, self.noise)
            self.batches.refresh()

    def _means(self, row):
        """The means of the measures over the processes, which must have the same parameters."""
        crc = 0
        for parameter in self.trainer.model.parameters().values():
            crc = zlib.crc32(as_numpy(parameter), crc)
        checksums, rows = zip(*self.processes.exchange("the measures of an epoch", (crc, row)))
        if len(set(checksums)) > 1:
            raise RuntimeError(
                f"The processes have different parameters after epoch {row['epoch']}. Run them on "
                "processors of the same kind, with the same version of torch."
            )
        return {k: float(np.mean([r[k] for r in rows])) for k in row if k != "epoch"}

    def attributes(self):
        """The fitted attributes after an epoch, with the state that `_finish` needs."""
        if self.rows is None and self.key is not None:
            self.rows = self.processes.exchange("checksums of the rows", self.key())
        first, n_epochs = self.schedule.first, self.schedule.n_epochs
        best = {} if self.stopping is None else {"best": self.stopping.best}
        progress = {"first_epoch": first, "n_epochs": n_epochs, "rows": self.rows}
        progress |= self._progress() | best
        return self._attributes(progress)

    def result(self):
        """The fitted attributes after the call; with early stopping, those of the best epoch."""
        if self.end is None:
            self.last = None
            attributes = self._attributes(self._progress())
        else:
            self.history.truncate(self.end.n_epochs)
            self.rng = copy.deepcopy(self.rng)
            self.rng.set_state(self.end.rng)
            attributes = self._attributes(self.end.progress) | self.end.learned
        return attributes | ({} if self.stopping is None else self.stopping.best)

    def _progress(self):
        """What a later call needs to go on with the same missing entries and held-out rows."""
        progress = {}
        if self.missing is not None:
            states = self.processes.exchange("missing entries", self.missing.state)
            progress["missing_entries"] = {key: s[key] for s in states for key in s}
        if self.stopping is not None:
            progress["held_out_seed"] = self.stopping.seed
        return progress

    def _attributes(self, progress):
        attributes = self.owner._fitted_attributes(self.trainer, self.history, self.rng)
        return attributes | {"training_progress_": progress}


class EarlyStopping:
    """Scores of held-out rows after every epoch, and the model with the best score."""

    def __init__(self, owner, data, history, rng, resume):
        progress = owner.training_progress_ if resume else {}
        self.seed = progress.get("held_out_seed")
        self.seed = seed_of(rng) if self.seed is None else self.seed
        n, self.processes = data.rows.shape[0], current()
        strata = self.processes.exchange("rows and strata", (n, owner._strata(data.targets)))
        counts, of_processes = zip(*strata)
        n_all, before = sum(counts), sum(counts[: self.processes.rank])
        share = {"test_size": owner.validation_fraction, "random_state": self.seed}
        all_strata = None if of_processes[0] is None else np.concatenate(of_processes)
        try:
            split = train_test_split(np.arange(n_all), stratify=all_strata, **share)
        except ValueError:
            of_classes = "" if all_strata is None else ", with rows of every class on both sides"
            raise ValueError(
                f"validation_fraction={owner.validation_fraction} of {n_all} rows cannot be held "
                f"back for early_stopping{of_classes}; change it, or set early_stopping=False."
            ) from None
        # The rows of this process.
        train, held_out = (i[(before <= i) & (i < before + n)] - before for i in split)
        weight = np.ones(n) if data.weight is None else data.weight.copy()
        are_weighted = bool(weight[train].any()), bool(weight[held_out].any())
        if not all(map(any, zip(*self.processes.exchange("held-out rows", are_weighted)))):
            raise ValueError(
                f"validation_fraction={owner.validation_fraction} leaves only rows of weight zero "
                "for training or for validation; change it, or set early_stopping=False."
            )
        self.rows, self.held_out = data.rows, held_out  # missing entries are drawn again in place
        self.left_out = data.left_out
        self.targets = None if data.targets is None else data.targets[held_out]
        self.weight = owner._weigh_held_out(weight[held_out], self.targets)
        #: The weights of all rows in training: zero for the held-out rows.
        self.training_weight = weight
        weight[held_out] = 0
        self.tol, self.patience = owner.tol, owner.n_iter_no_change
        self.best_score, self.n_bad, self.is_best = -np.inf, 0, False
        for score in history.columns.get("validation_score", ()):
            self._add(score)
        self.best = progress.get("best", {})

    def resume(self, owner, trainer):
        """Use the fitted model as the best model so far, if none is stored."""
        names = (*owner._parameters(trainer.model), "training_state_")
        self.best = self.best or {name: getattr(owner, name) for name in names}

    def measure(self, owner, model, batches):
        """Compute and record the weighted mean score of the held-out rows."""
        total, where = 0.0, (batches.device, batches.dtype)
        with torch.inference_mode():
            function = owner._held_out_scores(model)
            for piece in chunks(self.held_out, model.row_size, chunk_size(batches.device)):
                index = self.held_out[piece]
                rows = batches.encode(to_device(self.rows[index], *where))
                if self.left_out is not None:  # the same random numbers in every epoch
                    mask = torch.from_numpy(self.left_out[index]).to(batches.device)
                    rows = drawn(model, rows, mask, Noise(0, batches.device), FIRST_SWEEPS)
                targets = None
                if self.targets is not None:
                    targets = to_device(self.targets[piece], *where)
                scores = as_numpy(function(rows, targets))
                total += scores.astype(np.float64) @ self.weight[piece]
        sums = total, self.weight.sum()
        total, weight = self.processes.total("scores of held-out rows", sums)
        score = float(total / weight)
        self._add(score)
        return score

    def keep(self, owner, trainer):
        """Store the parameters and the training state of this epoch."""
        self.best = owner._learned(trainer)

    def _add(self, score):
        self.n_bad = 0 if score > self.best_score + self.tol else self.n_bad + 1
        self.is_best = score > self.best_score
        self.best_score = max(score, self.best_score)

    @property
    def is_over(self):
        """Whether the score has not improved for `n_iter_no_change` epochs."""
        return self.n_bad >= self.patience


def fit_inner(owner, model, task, X, sample_weight):
    """Train the model of a meta-estimator, in a subtask; the owner gets its features."""
    subtask = task.subcontext(task_name="training")
    with subtask.propagate_callback_context(model):
        subtask.call_on_fit_task_begin(estimator=owner, X=X)
        model.fit(X, sample_weight=sample_weight)
        subtask.call_on_fit_task_end(estimator=owner, X=X)
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(owner, name, getattr(model, name))
    return model


def generator_of(random_state):
    """The generator of a fit; all processes that train one model have the same numbers."""
    rng, processes = check_random_state(random_state), current()
    if processes.size > 1 and random_state is None:
        seed = seed_of(rng) if processes.rank == 0 else 0
        return np.random.RandomState(processes.first("the seed", seed))
    if processes.size > 1:
        rng.set_state(processes.first("the random state", rng.get_state()))
    return rng


def checksum(X, y):
    """The number of rows, and a checksum of them and of y."""
    return num_samples(X), joblib.hash((as_array(X), y))


def _check_keys(fitted, keys):
    """Raise an error if a fit would go on with other rows than it began with."""
    if len(fitted) != len(keys):
        raise ValueError(
            f"The checkpoint was written by {len(fitted)} processes, and there are {len(keys)}; "
            "finish the fit with as many."
        )
    for rank, (before, now) in enumerate(zip(fitted, keys)):
        if before != now:
            where = f" in the process of rank {rank}" if len(keys) > 1 else ""
            raise ValueError(
                f"The checkpoint belongs to a fit of {before[0]} rows{where}, and X has {now[0]}, "
                "or other values, or another y; pass what the fit was given."
            )


def warn_interrupted(what):
    """Warn that a fit was interrupted; `what` names the model that is kept."""
    warnings.warn(
        f"Training was interrupted {what} is kept.",
        ConvergenceWarning,
        stacklevel=level_of_caller(),
    )


def check_finite(owner, model, epoch):
    """Raise an error if a parameter is no longer finite."""
    finite = [p.isfinite().all() for p in model.parameters().values()]
    if not torch.stack(finite).all():
        raise ValueError(
            f"{type(owner).__name__} diverged in epoch {epoch}: its parameters are no longer "
            f"finite. Lower learning_rate (now {owner.learning_rate}), or scale the data, "
            "for example with StandardScaler."
        )


def report(owner, row, n_epochs):
    """Print one line for an epoch, if the owner is verbose."""
    if owner.verbose:
        figure = next(t.format(row[key]) for key, t in owner._reported.items() if key in row)
        print(
            f"[{_name(owner)}] Iteration {row['epoch']}, {figure}, "
            f"time = {row['seconds']:.2f}s ({row['epoch']}/{n_epochs})",
            flush=True,
        )


def _name(owner):
    """The name of an estimator; in a stack, with the number of the layer."""
    task: Any = getattr(owner, "_parent_callback_ctx", None)
    is_layer = task is not None and task.task_name == "layer"
    return type(owner).__name__ + (f", layer {task.task_id + 1}" if is_layer else "")


def level_of_caller():
    """The `stacklevel` of the first caller outside of this package and scikit-learn."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in OUR_FRAMES:
        frame, level = frame.f_back, level + 1
    return level


def forget(estimator):
    """Delete the fitted attributes."""
    for name in [name for name in vars(estimator) if name.endswith("_")]:
        delattr(estimator, name)


@contextmanager
def unchanged_on_error(estimator) -> Iterator[None]:
    """Leave the fitted attributes as they were if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        forget(estimator)
        estimator.__dict__.update({k: v for k, v in before.items() if k.endswith("_")})
        raise


def as_tensor(array, device, dtype=None):
    """Copy an array to a new tensor."""
    return torch.tensor(array, device=device, dtype=dtype)


def as_numpy(tensor):
    """Copy a tensor to a new array."""
    return tensor.detach().cpu().numpy().copy()
