"""Energy-based models as scikit-learn estimators."""

from skebm.callbacks import Checkpoint
from skebm.displays import ComponentsDisplay
from skebm.engine.gradients import CD, PCD, Exact, ParallelTempering
from skebm.rbm import BernoulliRBM, GaussianRBM

__version__ = "0.1.0"

__all__ = [
    "CD",
    "PCD",
    "BernoulliRBM",
    "Checkpoint",
    "ComponentsDisplay",
    "Exact",
    "GaussianRBM",
    "ParallelTempering",
]
