"""Displays: plots of fitted models, in scikit-learn's Display protocol."""

from skebm.displays._components import ComponentsDisplay
from skebm.displays._likelihood import LikelihoodDisplay
from skebm.displays._modes import ModeDisplay
from skebm.displays._rows import ReconstructionDisplay, SamplesDisplay
from skebm.displays._training import TrainingDisplay

__all__ = [
    "ComponentsDisplay",
    "LikelihoodDisplay",
    "ModeDisplay",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "TrainingDisplay",
]
