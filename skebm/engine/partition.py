"""log Z: exact, by a sum over one layer, or estimated by annealed importance sampling.

    Z(1) = Z(0) E[w],    w = Π_k p̃_{k+1}(v_k) / p̃_k(v_k),    p̃_k(v) = exp(−F(v, beta_k))

where v_0 is drawn at beta = 0 and v_k by a transition at beta_k from v_{k−1}. By Jensen's
inequality E[log w] is a lower bound of log Z(1) − log Z(0). If the chains start from draws of the
model and go from beta = 1 to 0, the weights have mean Z(0) / Z(1), and −E[log w] is an upper bound.
"""

import math

import torch
from torch import Tensor

from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.sampling import anneal, run
from skebm.engine.units import Units

#: How many numbers the sum over states works on at a time.
CHUNK = 2**21
#: Largest number of levels of parallel tempering that are placed automatically.
MOST_LEVELS = 10_000


def smaller_layer(model: RBM) -> tuple[str, Units, int]:
    """The name, the units and the size of the layer with fewer states."""
    layers = [("hidden", model.hidden, model.n_hidden), ("visible", model.visible, model.n_visible)]
    return min(layers, key=lambda layer: layer[1].n_states(layer[2]))


def countable_layer(model: RBM, max_states: float = 2.0**20) -> tuple[str, Units, int]:
    """The layer with fewer states; an error if it has more than `max_states` states."""
    name, units, n_units = smaller_layer(model)
    if units.n_states(n_units) <= max_states:
        return name, units, n_units
    raise ValueError(
        f"To enumerate a layer, it must have at most 2^{math.log2(max_states):.0f} states, that is "
        f"{math.log2(max_states):.0f} binary units. This model has {model.n_hidden} hidden "
        f"and {model.n_visible} visible units. Use fewer units, or a method that draws samples."
    )


def log_partition_exact(model: RBM, max_states: float = 2.0**26) -> Tensor:
    """log Z: a sum over the states of one layer, in closed form over the other layer: ()."""
    name, units, n_units = countable_layer(model, max_states)
    free_energy = model.hidden_free_energy if name == "hidden" else model.free_energy
    parts = []
    for index in torch.arange(int(units.n_states(n_units)), device=model.W.device).split(
        max(1, CHUNK // model.row_size)
    ):
        states = units.states(index, n_units, model.W)  # (n, n_units)
        parts.append(torch.logsumexp(-free_energy(states), 0))
    return torch.logsumexp(torch.stack(parts), 0)


def quick_log_partition(model: RBM) -> Tensor:
    """log Z: exact for up to 2^12 states, else by a short run with a fixed seed: ()."""
    _, units, n_units = smaller_layer(model)
    if units.n_states(n_units) <= 2.0**12:
        return log_partition_exact(model)
    betas = torch.linspace(0, 1, 500, dtype=torch.float64)
    log_weights, _ = log_weights_up(model, Noise(0, model.W.device), betas, 50)
    return log_weights.logsumexp(0) - math.log(50)


def log_weights_up(model: RBM, noise: Noise, betas: Tensor, n_chains: int) -> tuple[Tensor, Tensor]:
    """Logarithms of weights with mean Z, in double precision, (n_chains,); the final states."""
    v, log_weights = anneal(model, model.start(n_chains, noise), noise, betas)
    return log_weights + model.log_partition_reference(), v


def log_weights_down(model: RBM, v: Tensor, noise: Noise, betas: Tensor) -> Tensor:
    """Logarithms of weights with mean 1/Z, in double precision, from draws v of the model."""
    _, log_weights = anneal(model, v, noise, betas.flip(0))
    return log_weights - model.log_partition_reference()


def spread_betas(model: RBM, noise: Noise, n_betas: int | None, n_chains: int) -> Tensor:
    """Levels from 0 to 1, such that log-weights vary equally in each step: (n_betas,).

    A short run estimates the standard deviation g(beta) of d log p̃/d beta. The levels have equal
    distances along ∫ g d beta. If `n_betas` is None, these distances are at most one nat.
    """
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)  # (101,)
    v, rates = model.start(n_chains, noise), []
    for beta, target in zip(grid[:-1].tolist(), grid[1:].tolist()):
        log_ratio, v = model.anneal_step(v, noise, beta, target)
        rates.append(log_ratio.double().std() / (target - beta))
        v = run(model, v, noise, n_steps=5, beta=target)
    rate = torch.stack(rates).cpu()  # (100,)
    rate += 0.05 * rate.mean() + 1e-12  # log-weights that never vary have evenly spaced levels
    length = torch.cat([grid[:1], rate.cumsum(0) / 100])  # (101,)
    if n_betas is None:
        n_betas = max(2, 1 + math.ceil(length[-1].item()))
        if n_betas > MOST_LEVELS:
            raise ValueError(
                f"Tempering needs {n_betas} levels, since the weights are large; at most "
                f'{MOST_LEVELS} are possible. Use Gibbs sampling (method="gibbs").'
            )
    wanted = torch.linspace(0, 1, n_betas, dtype=torch.float64) * length[-1]  # (n_betas,)
    k = torch.searchsorted(length, wanted).clamp(1, 100)
    share = (wanted - length[k - 1]) / (length[k] - length[k - 1])
    betas = grid[k - 1] + share * (grid[k] - grid[k - 1])  # (n_betas,)
    betas[0], betas[-1] = 0, 1
    return betas
