"""Callbacks of scikit-learn's protocol for long fits."""

import copy
import os
import tempfile
from numbers import Integral
from pathlib import Path

import joblib
from sklearn.utils import check_scalar


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
    What is written is the estimator as it is after the epoch, ready for `transform`. Joblib
    files, like pickles, can run code when they are loaded: load only those that you trust.

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

    def __init__(self, path, every=1):
        self.path = path
        self.every = every

    def resume(self, X, y=None, sample_weight=None):
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
        """
        estimator = joblib.load(self.path)
        return estimator.set_callbacks(self)._finish(X, y, sample_weight)

    # The protocol

    def setup(self, estimator, context):
        """Check the arguments."""
        if not hasattr(estimator, "_finish"):
            raise ValueError(
                f"Checkpoint cannot finish a {type(estimator).__name__}; give it to the estimators "
                "that it is made of, by their `set_callbacks`."
            )
        check_scalar(self.every, "every", Integral, min_val=1)
        if not Path(self.path).parent.is_dir():
            raise ValueError(f"path={str(self.path)!r} is in a folder that does not exist.")

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Write the file at the end of every so many epochs."""
        if context.task_name != "epoch":
            return
        left = context.parent.max_subtasks - 1 - context.task_id
        if left % self.every == 0 or left == 0:
            self._write(fitted_estimator)

    def teardown(self, estimator, context):
        """Do nothing."""

    def _write(self, estimator):
        estimator = copy.copy(estimator)  # others may be looking at this one
        for name in [name for name in vars(estimator) if "callback" in name]:
            delattr(estimator, name)
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
