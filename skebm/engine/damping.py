"""Damped gradients: no property of the model approaches the data faster than a given rate.

A small step of the parameters can move a large share of the probability from one mode to another.
In such directions, the Fisher information F, the covariance of ∂(−E)/∂θ over states of the model,
is large, and steps along the plain gradient g do not converge. The damped natural gradient is

    (1 + (η/ρ) F)⁻¹ g,    F = Oᵀ O / n,    O (n, n_parameters): centred ∂(−E)/∂θ of n chains

With the learning rate η, a deviation is reduced by the factor 1 − ρ at most in one update. By the
identity of Woodbury, the result is g − Oᵀ α, where α solves n equations:

    (O Oᵀ + n (ρ/η) 1) α = O g

F is estimated from half of the chains, 100 at most: errors of F that follow those of g would give
wrong shares. The result is the plain gradient with other weights of the chains, and O Oᵀ needs
inner products of states only. ∂(−E)/∂θ is (v − μ)(h − λ)ᵀ, v and h.

S. Amari (1998). Natural gradient works efficiently in learning. Neural Computation 10.
A. Chen, M. Heyl (2024). Empowering deep neural quantum states through efficient optimization.
Nature Physics 20.
"""

import torch
from torch import Tensor

from skebm.engine.gradients import Phases

#: Chains from which the Fisher information is estimated, at most.
MOST_CHAINS = 100


def damp_(phases: Phases, offsets: tuple[Tensor, Tensor] | None, strength: Tensor) -> None:
    """Change the weights of some states of the model; `strength` is η/ρ.

    Offsets μ and λ are those of the centred gradient, None for the plain one.
    """
    v, h = phases.v, phases.h
    centred_v, centred_h = (v, h) if offsets is None else (v - offsets[0], h - offsets[1])
    n_chains = min(MOST_CHAINS, max(1, len(phases.model.weight) // 2))
    chains = slice(phases.n_data, phases.n_data + n_chains)
    of_v, of_h = (x[chains] @ x.T for x in (centred_v, centred_h))  # (n_chains, n)
    inner = (of_v * of_h + of_v + of_h).double()  # offsets of v and h alone do not matter below
    inner -= inner.mean(0)
    projected = inner @ phases.weight.double()  # O g
    square = inner[:, chains]  # O Oᵀ, but for the centring of its columns
    square = (square - square.mean(1, keepdim=True)) * strength
    square.diagonal().add_(len(square))
    factor = torch.linalg.cholesky_ex(square)[0]  # without a check, which waits for the device
    alpha = torch.cholesky_solve((projected * strength)[:, None], factor)[:, 0]
    phases.model.weight[:n_chains].sub_(alpha - alpha.mean())
