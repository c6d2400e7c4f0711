"""Markov chains as functions of (model, v, noise)."""

from torch import Tensor

from skebm.engine.models import Beta, EnergyModel
from skebm.engine.noise import Noise


def run(model: EnergyModel, v: Tensor, noise: Noise, *, n_steps: int, beta: Beta = 1.0) -> Tensor:
    """The states of the chains that started at `v`, `n_steps` transitions later: like `v`."""
    for _ in range(n_steps):
        v = model.transition(v, noise, beta)
    return v
