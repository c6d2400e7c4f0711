"""Markov chains as functions of (model, v, noise).

exchange: accept with probability min(1, exp(F_i(v_i) + F_j(v_j) − F_i(v_j) − F_j(v_i)))
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from skebm.engine.capture import Captured
from skebm.engine.models import RBM, Beta, path
from skebm.engine.noise import Noise


def run(
    model: RBM,
    v: Tensor,
    noise: Noise,
    *,
    n_steps: int,
    beta: Beta = 1.0,
    out: Tensor | None = None,
    clamped: Tensor | None = None,
) -> Tensor:
    """The states of chains that start at `v`, after `n_steps` transitions: like `v`.

    `clamped` is a mask like `v`. Clamped units keep their values, and the chain samples the other
    units given these values.
    """
    start = v
    for _ in range(n_steps):
        v = model.transition(v, noise, beta, out)
        v = v if clamped is None else torch.where(clamped, start, v)
    return v


def conditional_mean(
    model: RBM, v: Tensor, noise: Noise, *, n_steps: int, clamped: Tensor
) -> Tensor:
    """E[v | the clamped units], averaged over the second half of the sweeps: like `v`."""
    total = torch.zeros_like(v)
    for step in range(n_steps):
        field = model.visible_field(model.sample_hidden(v, noise))  # (n, n_visible)
        if step >= n_steps // 2:
            total += model.visible.mean(field)
        v = torch.where(clamped, v, model.visible.sample(field, noise))
    return torch.where(clamped, v, total / (n_steps - n_steps // 2))


def mean_field(model: RBM, v: Tensor, *, n_steps: int, clamped: Tensor) -> Tensor:
    """The means of the units that are not clamped, by `n_steps` mean-field steps: like `v`."""
    for _ in range(n_steps):
        h = model.hidden.mean(model.hidden_field(v))  # (n, n_hidden)
        v = torch.where(clamped, v, model.visible.mean(model.visible_field(h)))
    return v


def anneal(model: RBM, v: Tensor, noise: Noise, betas: Tensor) -> tuple[Tensor, Tensor]:
    """The final states of chains that start at `v` and pass all levels, and their log-weights.

    If `v` is drawn at betas[0], the weights exp(log_weights) have the mean
    Z(betas[-1]) / Z(betas[0]). The log-weights, (n,), are in double precision.
    """
    v, log_weights = v.clone(), v.new_zeros(len(v), dtype=torch.float64)  # (n, n_visible), (n,)
    pairs = torch.stack([betas[:-1], betas[1:]], 1).to(v.device)  # (n_levels − 1, 2)
    pair = torch.empty_like(pairs[0])

    def step(noise: Noise) -> None:
        log_ratio, states = model.anneal_step(v, noise, *pair)
        log_weights.add_(log_ratio)
        v.copy_(states)

    captured = Captured(v.device, model.capturable)
    for levels in pairs:
        pair.copy_(levels)
        captured(step, noise)
    return v, log_weights


def gibbs_sweeps(
    model: RBM, v: Tensor, noise: Noise, n_steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The states after each of `n_steps` transitions from `v`, and no share of exchanges: (0,).

    A result is valid until the next one.
    """
    v, captured = v.clone(), Captured(v.device, model.capturable)

    def step(noise: Noise) -> None:
        model.transition(v, noise, out=v)

    for _ in range(n_steps):
        captured(step, noise)
        yield v, torch.zeros(0)


def tempered_sweeps(
    model: RBM, v: Tensor, betas: Tensor, noise: Noise, n_steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same for chains at all levels: the states of the first one, and the share of exchanges.

    The share of accepted exchanges has a value for each pair of neighbours, (n_levels − 1,).
    """
    column = betas.repeat_interleave(len(v))[:, None]  # (n_levels · n_chains, 1)
    chains = model.sample_hidden(v.repeat(len(betas), 1), noise, column)
    v, accepted = v.clone(), torch.zeros_like(betas[1:])
    captured = Captured(v.device, model.capturable)

    def step(noise: Noise) -> None:
        states, _, swapped = tempered_sweep(model, chains, betas, noise)
        v.copy_(states)
        accepted.copy_(swapped)

    for _ in range(n_steps):
        captured(step, noise)
        yield v, accepted


def tempered_sweep(
    model: RBM, chains: Tensor, beta: Tensor, noise: Noise
) -> tuple[Tensor, Tensor, Tensor]:
    """One sweep of the chains of all levels, in place, and exchanges between neighbours.

    `chains` holds hidden states, (n, n_hidden), in equal parts; part k is at beta[k]. The function
    returns the new visible states of the first level, (n_chains, n_visible), their hidden fields,
    and the share of accepted exchanges in each pair of levels, (n_levels − 1,).
    """
    n_chains = len(chains) // len(beta)
    column = beta.repeat_interleave(n_chains)[:, None]  # (n, 1)
    v = model.sample_visible(chains, noise, column)  # (n, n_visible)
    field = model.hidden_field(v)  # (n, n_hidden)
    order, accepted = exchange(model, v, field, beta, noise)
    field = field[order]
    model.hidden.sample(path(field, column), noise, out=chains)
    return v[order[:n_chains]], field[:n_chains], accepted


def exchange(
    model: RBM, v: Tensor, field: Tensor, beta: Tensor, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Metropolis exchanges of states between neighbouring levels, even pairs and then odd ones.

    The rows of `v` (n, n_visible) and of their hidden fields `field` (n, n_hidden) form equal
    parts; part k belongs to the level at beta[k]. The function returns the row from which each
    chain continues, (n,), and the share of accepted exchanges in each pair, (n_levels − 1,).
    """
    n_levels = len(beta)
    order = torch.arange(len(v), device=v.device).view(n_levels, -1)  # (n_levels, n_chains)
    accepted = torch.ones_like(beta[1:])  # (n_levels - 1,)
    for first in range(min(2, n_levels - 1)):
        lower, upper = slice(first, n_levels - 1, 2), slice(first + 1, n_levels, 2)
        here, there = order[lower], order[upper]  # (n_pairs, n_chains)

        def total(a: Tensor, b: Tensor, lower=lower, upper=upper) -> Tensor:
            """For each pair: F of rows a at the lower level plus F of rows b at the upper level."""
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


def distance_along_axis(rows: Tensor, draws: Tensor, n_steps: int = 20) -> Tensor:
    """Kolmogorov-Smirnov distance along the first principal axis of the rows: (), from 0 to 1.

    The axis comes from `n_steps` steps of the power method.
    """
    mean = rows.mean(0)
    centred = rows - mean  # (n, n_visible)
    axis = centred[centred.square().sum(1).argmax()]
    for _ in range(n_steps):
        axis = centred.T @ (centred @ axis)
        axis = axis / torch.linalg.vector_norm(axis).clamp(min=torch.finfo(axis.dtype).tiny)
    places = [(x @ axis).sort()[0] for x in (centred, draws - mean)]
    points = torch.cat(places)
    shares = [torch.searchsorted(x, points, right=True) / len(x) for x in places]
    return (shares[0] - shares[1]).abs().max()
