"""Markov chains as functions of (model, v, noise).

exchange: accept with probability min(1, exp(F_i(v_i) + F_j(v_j) − F_i(v_j) − F_j(v_i)))
"""

import torch
from torch import Tensor

from skebm.engine.models import RBM, Beta, EnergyModel
from skebm.engine.noise import Noise


def run(
    model: EnergyModel,
    v: Tensor,
    noise: Noise,
    *,
    n_steps: int,
    beta: Beta = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """The states of the chains that started at `v`, `n_steps` transitions later: like `v`."""
    for _ in range(n_steps):
        v = model.transition(v, noise, beta, out)
    return v


def exchange(
    model: RBM, v: Tensor, field: Tensor, beta: Tensor, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Metropolis exchanges of states between neighbouring levels, even pairs and then odd ones.

    Level k samples at beta_k and has the k-th of the equal parts that the rows of `v` (n,
    n_visible) and of their hidden field (n, n_hidden) fall into. Returned are the row that
    each level's chains go on from, (n,), and the share of exchanges in each pair, (n_levels − 1,).
    """
    n_levels = len(beta)
    order = torch.arange(len(v), device=v.device).view(n_levels, -1)  # (n_levels, n_chains)
    accepted = torch.ones_like(beta[1:])  # (n_levels - 1,)
    for first in range(min(2, n_levels - 1)):
        lower, upper = slice(first, n_levels - 1, 2), slice(first + 1, n_levels, 2)
        here, there = order[lower], order[upper]  # (n_pairs, n_chains)

        def total(a: Tensor, b: Tensor, lower=lower, upper=upper) -> Tensor:
            """F at the lower level of each pair of the rows a, plus F at the upper of b."""
            rows = torch.cat([a, b])  # (2 n_pairs, n_chains)
            column = torch.cat([beta[lower], beta[upper]]).repeat_interleave(rows.shape[1])
            index = rows.reshape(-1)
            free_energy = model.free_energy(v[index], column[:, None], field[index])
            return free_energy.view(2, *a.shape).sum(0)  # (n_pairs, n_chains)

        log_ratio = total(here, there) - total(there, here)
        swap = noise.uniform(log_ratio).log() < log_ratio  # (n_pairs, n_chains)
        order[lower], order[upper] = torch.where(swap, there, here), torch.where(swap, here, there)
        accepted[lower] = swap.to(beta.dtype).mean(1)
    return order.reshape(-1), accepted
