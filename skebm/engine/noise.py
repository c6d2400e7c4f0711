"""The source of random numbers. A fit, a chain or a sampler takes it as an argument."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

#: How many uniform numbers are made at a time.
BLOCK = 2**16


def seed_of(rng: np.random.RandomState) -> int:
    """Draw a seed."""
    return int(rng.randint(np.iinfo(np.int32).max))


class Noise:
    """A stream of random tensors on one device, fixed by its seed.

    Numbers are drawn in single precision whatever the precision of the model, so that
    the same seed gives the same chains in float32 and in float64.

    Parameters
    ----------
    seed : int
        The same seed on the same device gives the same bits.
    device : torch.device or str, default="cpu"
        The device that generates the numbers.
    shared : bool, default=False
        Whether every row of a tensor gets the same numbers. The result for a row then does not
        depend on the number of rows.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", shared: bool = False):
        self.device, self.shared = torch.device(device), shared
        self.on_device = self.device.type != "cpu"
        self.generator = torch.Generator(device)
        self._blocks: dict[torch.Size, Iterator[Tensor]] = {}
        self._buffers: dict[torch.Size, tuple[int, Tensor, tuple[Tensor, ...]]] = {}
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Restart the stream with this seed."""
        self.generator.manual_seed(seed)
        self.words = np.random.SFC64(seed)
        self._blocks.clear()

    def bernoulli(self, probability: Tensor, out: Tensor | None = None) -> Tensor:
        """Independent draws of 1 (with the given probability) or 0: like `probability`.

        A probability of NaN gives 0. `torch.bernoulli` would stop the whole process on CUDA.
        """
        out = torch.empty_like(probability) if out is None else out
        if self.shared or self.on_device:
            return torch.lt(self.uniform(out), probability, out=out)
        blocks = self._blocks.get(probability.shape)
        if blocks is None:
            blocks = self._blocks[probability.shape] = self._uniform_blocks(probability.shape)
        return torch.lt(next(blocks), probability, out=out)

    def uniform(self, like: Tensor) -> Tensor:
        """Independent draws from [0, 1), of the shape and type of `like`."""
        return self._empty(like).uniform_(generator=self.generator).to(like.dtype).expand_as(like)

    def normal(self, like: Tensor) -> Tensor:
        """Independent standard normal draws, of the shape and type of `like`."""
        return self._empty(like).normal_(generator=self.generator).to(like.dtype).expand_as(like)

    def _empty(self, like: Tensor) -> Tensor:
        shape = like.shape[1:] if self.shared else like.shape
        return torch.empty(shape, dtype=torch.float32, device=like.device)

    def permutation(self, n: int) -> Tensor:
        """The integers below `n` in random order."""
        return torch.randperm(n, generator=self.generator, device=self.device)

    def _uniform_blocks(self, shape: torch.Size) -> Iterator[Tensor]:
        """Uniform draws of this shape, made fast on a CPU; each is valid until the next one.

        The upper 16 bits of a number are drawn for it alone. The lower 8 bits are common to all
        numbers of one block. So each number has the resolution of single precision, and any two
        numbers are independent up to 2⁻³².
        """
        if shape not in self._buffers:  # they serve many epochs
            size = math.prod(shape)
            n = max(1, BLOCK // max(1, size))
            n_words = -(-n * size // 4)
            out = torch.empty(4 * n_words, dtype=torch.float32)  # (≥ n · size,)
            self._buffers[shape] = n_words, out, out[: n * size].view(n, *shape).unbind()
        n_words, out, draws = self._buffers[shape]
        half = torch.tensor(0.5)
        while True:
            words = self.words.random_raw(n_words + 1)
            bits = torch.from_numpy(words[1:].view(np.int16))  # from −2¹⁵ to 2¹⁵ − 1
            low = int(words[0]) % 256
            torch.add(half + low * 2.0**-24, out.copy_(bits), alpha=2.0**-16, out=out)
            yield from draws
