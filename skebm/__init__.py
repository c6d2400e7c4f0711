"""Energy-based models as scikit-learn estimators."""

from skebm._version import __version__ as __version__
from skebm.callbacks import Checkpoint
from skebm.chains import Chains
from skebm.classifier import RBMClassifier
from skebm.conv import ConvRBM
from skebm.dbm import DBM
from skebm.dbn import DBN
from skebm.diagnostics import autocorrelation_time, effective_sample_size, r_hat
from skebm.displays import (
    ComponentsDisplay,
    LikelihoodDisplay,
    ModeDisplay,
    ReconstructionDisplay,
    SamplesDisplay,
    TrainingDisplay,
)
from skebm.engine.gradients import CD, PCD, PTT, Exact, ParallelTempering
from skebm.engine.parallel import data_parallel
from skebm.evaluation import LogPartition, log_likelihood, log_partition, pseudo_likelihood
from skebm.imputer import RBMImputer
from skebm.modes import ModeReport, mode_report
from skebm.networks import DBNClassifier, DBNRegressor
from skebm.outliers import RBMOutlierDetector
from skebm.rbm import BernoulliRBM, DropoutRBM, GaussianRBM, PoissonRBM
from skebm.sequences import contact_map, effective_couplings, sequence_weights, zero_sum_gauge
from skebm.tabular import CategoricalRBM, TabularRBM

__all__ = [
    "CD",
    "DBM",
    "DBN",
    "PCD",
    "PTT",
    "BernoulliRBM",
    "CategoricalRBM",
    "Chains",
    "Checkpoint",
    "ComponentsDisplay",
    "ConvRBM",
    "DBNClassifier",
    "DBNRegressor",
    "DropoutRBM",
    "Exact",
    "GaussianRBM",
    "LikelihoodDisplay",
    "LogPartition",
    "ModeDisplay",
    "ModeReport",
    "ParallelTempering",
    "PoissonRBM",
    "RBMClassifier",
    "RBMImputer",
    "RBMOutlierDetector",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "TabularRBM",
    "TrainingDisplay",
    "autocorrelation_time",
    "contact_map",
    "data_parallel",
    "effective_couplings",
    "effective_sample_size",
    "log_likelihood",
    "log_partition",
    "mode_report",
    "pseudo_likelihood",
    "r_hat",
    "sequence_weights",
    "zero_sum_gauge",
]
