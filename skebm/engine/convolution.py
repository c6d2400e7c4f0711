"""The coupling of images with feature maps: the weights and biases are the same at every place.

    up      x_f(i, j) = Σ_{c,k,l} W_fckl v_c(s i + k, s j + l)         a correlation, of stride s
    down    the transposed map of h
    −∂E/∂W_fckl = Σ_ij h_f(i, j) v_c(s i + k, s j + l),    −∂E/∂(b_c, c_f) = (Σ v_c, Σ h_f)

Each channel of the visible layer has a bias, and each map of the hidden layer has a bias. A model
with this coupling equals the dense model whose matrix repeats the weights at every place.

The centred gradient has the same formulas as in a dense model. In these, the mean of Wᵀ λ over the
pixels of channel c is Σ_fkl W_fckl λ_f times (number of places) / (number of pixels).
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from skebm.engine.models import Coupling, Joint, spectral_norm
from skebm.engine.units import SiteChanges, Units

#: With this many channels or more, torch's transposed convolution is the faster one on a CPU.
MANY_CHANNELS = 16


class Convolution(Coupling):
    """The coupling of images with feature maps, with the same weights at all places.

    A row of visible units is an image (n_channels, height, width), or (height, width,
    n_channels) with the channels last. A row of hidden units holds maps (n_filters, down, across).

    Parameters
    ----------
    weight : Tensor of shape (n_filters, n_channels, kernel height, kernel width)
    sides : (height, width) of an image
    stride : int
    channels_last : bool
    """

    def __init__(
        self,
        weight: Tensor,
        sides: Sequence[int],
        stride: int = 1,
        channels_last: bool = False,
    ):
        self.weight = weight
        self.sides, self.stride = tuple(sides), stride
        self.channels_last = channels_last and weight.shape[1] > 1
        kernel = tuple(weight.shape[2:])
        self.map_sides = tuple((n - k) // stride + 1 for n, k in zip(sides, kernel))
        #: Rows and columns that no filter reaches.
        self.rest = [(n - k) % stride for n, k in zip(sides, kernel)]
        n_pixels, self.n_places = math.prod(self.sides), math.prod(self.map_sides)
        self.places_per_pixel = self.n_places / n_pixels
        self.n_visible = weight.shape[1] * n_pixels
        self.n_hidden = weight.shape[0] * self.n_places

    def images(self, v: Tensor) -> Tensor:
        """Visible units as (n, n_channels, height, width)."""
        if self.channels_last:
            return v.unflatten(-1, (*self.sides, -1)).movedim(-1, -3)
        return v.unflatten(-1, (-1, *self.sides))

    def rows(self, images: Tensor) -> Tensor:
        """Images (…, n_channels, height, width) as visible units."""
        return (images.movedim(-3, -1) if self.channels_last else images).flatten(-3)

    def maps(self, h: Tensor) -> Tensor:
        """Hidden units as (n, n_filters, down, across)."""
        return h.unflatten(-1, (-1, *self.map_sides))

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        return functional.conv2d(self.images(v), self.weight, bias, self.stride).flatten(1)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        W = self.weight
        if h.is_cpu and W.shape[1] < MANY_CHANNELS:
            patches = W.flatten(1).T @ self.maps(h).flatten(-2)  # (n, channels · kernel, places)
            images = functional.fold(patches, self.sides, W.shape[2:], stride=self.stride)
            images += bias[:, None, None]
        else:
            images = functional.conv_transpose2d(
                self.maps(h), W, bias, self.stride, output_padding=self.rest
            )
        return self.rows(images)

    def correlate_(self, out: Tensor, states: Joint) -> None:
        v, h = self.images(states.v), self.maps(states.h)
        out.copy_(conv2d_weight(v, list(self.weight.shape), h, self.stride))

    def norm(self) -> Tensor:
        # An upper bound: the norm of the convolution with periodic edges. The Fourier transform
        # makes that convolution block-diagonal.
        spectrum = torch.fft.fft2(self.weight, s=self.sides)  # (n_filters, n_channels, h, w)
        return spectral_norm(spectrum.permute(2, 3, 0, 1)).max()

    # Biases

    def visible_bias(self, b: Tensor) -> Tensor:
        return self.rows(b[:, None, None].expand(-1, *self.sides))  # (n_visible,)

    def hidden_bias(self, c: Tensor) -> Tensor:
        return c.repeat_interleave(self.n_places)  # (n_hidden,)

    def sum_hidden(self, x: Tensor) -> Tensor:
        return self.maps(x).sum((1, 2))  # (n_filters,)

    def mean_visible(self, x: Tensor) -> Tensor:
        return self.images(x).mean((1, 2))  # (n_channels,)

    def mean_hidden(self, x: Tensor) -> Tensor:
        return self.maps(x).mean((1, 2))  # (n_filters,)

    def weight_sums(self, W: Tensor) -> Tensor:
        return W.sum((2, 3))  # (n_filters, n_channels)

    def sum_states_(self, gb: Tensor, gc: Tensor, states: Joint) -> None:
        total_v = torch.mv(states.v_t, states.weight)  # (n_visible,)
        torch.sum(self.images(total_v), (1, 2), out=gb)
        torch.sum(self.maps(states.h), (0, 2, 3), out=gc)

    # The pseudo-likelihood

    def change_size(self, n_sites: int) -> int:
        return self.n_visible + self.n_hidden

    def hidden_gains(self, hidden: Units, v: Tensor, c: Tensor, changes: SiteChanges) -> Tensor:
        before = hidden.cumulant_terms(self.up(v, c))  # (n, n_terms)
        change = changes.change[..., 0]  # (n, n_sites)
        if change.shape == v.shape:
            return self._all_gains(hidden, v, c, change, before)[..., None]
        after = []
        for pixel, amount in zip(changes.unit[..., 0].unbind(1), change.unbind(1)):
            changed = v.scatter_add(1, pixel[:, None], amount[:, None])
            after.append(hidden.cumulant(self.up(changed, c)))
        return (torch.stack(after, 1) - before.sum(1, keepdim=True))[..., None]  # (n, n_sites, 1)

    def _all_gains(
        self, hidden: Units, v: Tensor, c: Tensor, change: Tensor, before: Tensor
    ) -> Tensor:
        """The gain of the hidden cumulant when one pixel changes, for each: (n, n_visible).

        Each term of the cumulant depends on the pixels of one window. Pixels are changed together
        if no window contains two of them.
        """
        block, n_channels = hidden.block_size, self.weight.shape[1]
        step = block * self.stride
        window = [(block - 1) * self.stride + k for k in self.weight.shape[2:]]
        n_terms = [-(-n // block) for n in self.map_sides]
        # A window may extend over the edge. The array of gains does so too; the end cuts it off.
        height, width = self.sides
        gain = v.new_zeros(len(v), n_channels, height + window[0], width + window[1])
        corners = [step * torch.arange(n, device=v.device) for n in n_terms]
        for channel, *first in itertools.product(range(n_channels), *map(range, window)):
            lattice = v.new_zeros(n_channels, height, width, dtype=torch.bool)
            lattice[channel, first[0] :: window[0], first[1] :: window[1]] = True
            changed = torch.where(self.rows(lattice), v + change, v)
            gained = hidden.cumulant_terms(self.up(changed, c)) - before
            gained = gained.unflatten(1, (-1, *n_terms)).sum(1)  # (n, *n_terms)
            # For each term: the row and the column of the one lattice pixel in its window.
            row, column = (
                corner + (f - corner) % w for corner, f, w in zip(corners, first, window)
            )
            gain[:, channel].movedim(0, -1).index_put_(
                (row[:, None], column), gained.movedim(0, -1), accumulate=True
            )
        return self.rows(gain[..., :height, :width])
