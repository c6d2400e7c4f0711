"""The mathematics of energy-based models, in torch, without estimators or files."""
