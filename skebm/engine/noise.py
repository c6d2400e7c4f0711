"""Randomness as an argument: the one source that a fit, a chain or a sampler draws from."""

import torch
from torch import Tensor


class Noise:
    """A stream of random tensors on one device, fixed by its seed.

    Numbers are drawn in single precision whatever the precision of the model, so that
    the same seed gives the same chains in float32 and in float64.

    Parameters
    ----------
    seed : int
        The same seed on the same device gives the same bits.
    device : torch.device or str, default="cpu"
        Where the numbers are made.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, like: Tensor) -> Tensor:
        """Independent draws from [0, 1), of the shape and type of `like`."""
        out = torch.empty(like.shape, dtype=torch.float32, device=like.device)
        return out.uniform_(generator=self.generator).to(like.dtype)

    def normal(self, like: Tensor) -> Tensor:
        """Independent standard normal draws, of the shape and type of `like`."""
        out = torch.empty(like.shape, dtype=torch.float32, device=like.device)
        return out.normal_(generator=self.generator).to(like.dtype)

    def permutation(self, n: int) -> Tensor:
        """The integers below `n` in random order."""
        return torch.randperm(n, generator=self.generator, device=self.device)
