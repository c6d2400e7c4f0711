"""Trajectory tempering: a model exchanges states with the models that its training has passed.

    rungs: p_0, the reference model (independent units);  p_1, …, p_K, past models;  p, the model
    exchange of v and v′ between neighbours k and k + 1, with probability
        min(1, exp(F_k(v) + F_{k+1}(v′) − F_k(v′) − F_{k+1}(v)))

One sweep draws new states of p_0, makes a transition on every other rung, and exchanges states
between neighbours. It leaves the joint distribution of all rungs invariant. A state of p_0 that
climbs to the model is independent of all states before.

N. Béreux, A. Decelle, C. Furtlehner, L. Rosset, B. Seoane (2025). Fast training and sampling of
restricted Boltzmann machines. ICLR.
C. H. Bennett (1976). Efficient estimation of free energy differences from Monte Carlo data. Journal
of Computational Physics 22.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit
from torch import Tensor

from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.sampling import run

#: Sweeps before and during an estimate of log Z, and the groups of chains of its error.
FIRST_SWEEPS, SWEEPS, GROUPS = 50, 100, 20


def free_energy(models: Sequence[RBM], k: int, v: Tensor) -> Tensor:
    """F(v) on rung k; models[k − 1] are the models above the reference model: (n,)."""
    return models[0].free_energy(v, 0.0) if k == 0 else models[k - 1].free_energy(v)


def works(models: Sequence[RBM], k: int, j: int, v: Tensor) -> Tensor:
    """F_j(v) − F_k(v) of states: (n,)."""
    return free_energy(models, j, v) - free_energy(models, k, v)


def acceptance(low: Tensor, high: Tensor) -> Tensor:
    """Mean probability to accept exchanges, given the works of the states of two rungs: ()."""
    return (high - low).clamp(max=0).exp().mean()


def exchange_(
    models: Sequence[RBM], states: list[Tensor], noise: Noise, *, n_rounds: int = 1
) -> Tensor:
    """Exchange states between neighbours, even pairs and then odd ones.

    `states[k]` (n_chains, n_visible) are those of rung k; the list is changed. The k-th states of
    two rungs are partners; in each round after the first, partners are drawn at random. The
    function returns the mean probability of acceptance in each pair of rungs, (n_rungs − 1,).
    """
    accepted = [states[0].new_zeros(()) for _ in models]
    n = len(states[0])
    for first in range(2):
        for k in range(first, len(models), 2):
            both = torch.cat(states[k : k + 2])
            work = works(models, k, k + 1, both)
            low, high = torch.arange(2 * n, device=both.device).split(n)  # those of each rung
            accepted[k] = acceptance(work[low], work[high])
            for number in range(n_rounds):
                if number:
                    high = high[noise.uniform(work[:n]).argsort()]
                ratio = work[high] - work[low]
                swap = noise.uniform(ratio).log() < ratio
                low, high = torch.where(swap, high, low), torch.where(swap, low, high)
            states[k], states[k + 1] = both[low], both[high]
    return torch.stack(accepted)


def sweep_(
    models: Sequence[RBM], states: list[Tensor], noise: Noise, *, n_rounds: int = 1
) -> Tensor:
    """One sweep of all rungs; see `exchange_`. The states of the last rung make no transition."""
    states[0] = models[0].start(len(states[0]), noise)
    for k, model in enumerate(models[:-1], 1):
        states[k] = run(model, states[k], noise, n_steps=1)
    return exchange_(models, states, noise, n_rounds=n_rounds)


def ladder_sweeps(
    models: Sequence[RBM], v: Tensor, noise: Noise, n_steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The states of the last rung after each of `n_steps` sweeps, and the shares of exchanges.

    Chains of the last rung start at `v`, those of the other rungs at the reference model.
    """
    states = [models[0].start(len(v), noise) for _ in models] + [v]
    for _ in range(n_steps):
        states[-1] = run(models[-1], states[-1], noise, n_steps=1)
        accepted = sweep_(models, states, noise)
        yield states[-1], accepted


def log_partition_ladder(
    models: Sequence[RBM], states: list[Tensor], noise: Noise
) -> tuple[float, float, np.ndarray]:
    """log Z of the last model by Bennett's acceptance ratio along the ladder, and its error.

    The last result is the mean probability of acceptance in each pair of rungs, (n_rungs − 1,).

        Σ_v σ(Δ − w(v)) = Σ_u σ(w(u) − Δ),   w = F_{k+1} − F_k,   v ~ p_k,  u ~ p_{k+1},
        Δ = log Z_k − log Z_{k+1}

    Chain i of a rung exchanges states only with chain i of other rungs: so groups of chains are
    independent, and the error is that of the jackknife over groups.
    """
    below: list[list[Tensor]] = [[] for _ in models]
    above: list[list[Tensor]] = [[] for _ in models]
    accepted = np.zeros(len(models))
    for step in range(FIRST_SWEEPS + SWEEPS):
        states[-1] = run(models[-1], states[-1], noise, n_steps=1)
        accepted += sweep_(models, states, noise).cpu().numpy() / (FIRST_SWEEPS + SWEEPS)
        if step >= FIRST_SWEEPS:
            for k in range(len(models)):
                for found, v in ((below, states[k]), (above, states[k + 1])):
                    found[k].append(works(models, k, k + 1, v).double().cpu())
    pairs = [
        [torch.stack(of_model).numpy() for of_model in pair] for pair in zip(below, above)
    ]  # of both models, (n_sweeps, n_chains)
    n_chains = len(states[0])
    groups = np.array_split(np.arange(n_chains), min(GROUPS, n_chains))
    reference = models[0].log_partition_reference().double().item()

    def estimate(chains: np.ndarray) -> float:
        chosen = ([work[:, chains] for work in pair] for pair in pairs)
        return reference - sum(bennett(low, high) for low, high in chosen)

    n = len(groups)
    without = np.array([estimate(np.setdiff1d(np.arange(n_chains), group)) for group in groups])
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    return estimate(np.arange(n_chains)), float(error), accepted


def bennett(below: np.ndarray, above: np.ndarray) -> float:
    """log Z_k − log Z_{k+1}, from as many values of F_{k+1} − F_k of states of both models."""
    low = min(below.min(), above.min()) - 1
    high = max(below.max(), above.max()) + 1

    def excess(delta: float) -> float:
        return float(expit(delta - below).sum() - expit(above - delta).sum())

    return float(brentq(excess, low, high, xtol=1e-10))
