"""Callbacks of scikit-learn's protocol for long fits."""

import copy
import glob
import os
import tempfile
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
from sklearn.utils import check_scalar

from skebm._version import __version__
from skebm.engine.parallel import current


class Checkpoint:
    """Write the estimator to a file while it is fitted, so that a killed fit can be finished.

    A file is replaced in one step: at every moment it is whole, whatever happens to the process.

    Parameters
    ----------
    path : str or path-like
        File that is written with :func:`joblib.dump`.
    every : int, default=1
        Number of epochs between two writes; the last epoch is always written.

    Notes
    -----
    What is written is the estimator as it is after the epoch, ready for `transform`, with the
    version of skebm and a checksum of the rows: `resume` refuses a file of another version or of
    other rows. Joblib files, like pickles, can run code when they are loaded: load only those that
    you trust.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skebm import BernoulliRBM, Checkpoint
    >>> X = load_digits().data / 16
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(os.path.join(folder, "rbm.joblib"), every=2)
    ...     rbm = BernoulliRBM(16, n_iter=3, random_state=0).set_callbacks(checkpoint).fit(X)
    ...     same = checkpoint.resume(X)  # had the fit been killed, this would finish it
    >>> bool((same.components_ == rbm.components_).all())
    True
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1):
        self.path = path
        self.every = every

    def resume(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Load the estimator and make the epochs that are left.

        Parameters
        ----------
        X, y, sample_weight
            What the fit was given.

        Returns
        -------
        estimator : object
            With the same bits as if the fit had not been interrupted. It goes on writing
            checkpoints.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a whole checkpoint, or belongs to another version or other rows.
        """
        processes = current()
        with processes.guarded():
            loaded: Any = self._load() if processes.rank == 0 else None
            estimator, version = processes.first("the checkpoint", loaded)
        if version != __version__:
            raise ValueError(
                f"The checkpoint was written by skebm {version}, this is {__version__}; "
                "finish it with the version that wrote it."
            )
        return estimator.set_callbacks(self)._finish(X, y, sample_weight)

    def _load(self):
        """The estimator in the file, and the version of skebm that wrote it."""
        if Path(self.path).is_dir():
            raise ValueError(f"path={str(self.path)!r} is a folder; pass the path of a file.")
        try:
            estimator = joblib.load(self.path)
            return estimator, vars(estimator).pop("_checkpoint")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(
                f"path={str(self.path)!r} is not a whole checkpoint of skebm: {error!r}"
            ) from error

    # The protocol

    def setup(self, estimator: Any, context: Any) -> None:
        """Check the arguments."""
        if not hasattr(estimator, "_finish"):
            raise ValueError(
                f"Checkpoint cannot finish a {type(estimator).__name__}; give it to the estimators "
                "that it is made of, by their `set_callbacks`."
            )
        check_scalar(self.every, "every", Integral, min_val=1)
        path = Path(self.path)
        if path.is_dir():
            raise ValueError(f"path={str(path)!r} is a folder; pass the path of a file.")
        if not path.parent.is_dir():
            raise ValueError(f"path={str(path)!r} is in a folder that does not exist.")
        for left in path.parent.glob(f".{glob.escape(path.name)}-*"):  # of fits that were killed
            left.unlink()

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Write the file at the end of every so many epochs."""
        if context.task_name != "epoch":
            return
        left = context.parent.max_subtasks - 1 - context.task_id
        if left % self.every == 0 or left == 0:
            self._write(fitted_estimator)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def _write(self, estimator):
        estimator = copy.copy(estimator)  # others may be looking at this one
        for name in [name for name in vars(estimator) if "callback" in name]:
            delattr(estimator, name)
        estimator._checkpoint = __version__
        path = Path(self.path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                joblib.dump(estimator, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
