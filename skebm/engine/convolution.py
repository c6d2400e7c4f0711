"""The model of images: weights, and biases, that are the same at every place.

    up      x_f(i, j) = Σ_{c,k,l} W_fckl v_c(s i + k, s j + l)         a correlation, of stride s
    down    the transposed map of h
    −∂E/∂W_fckl = Σ_ij h_f(i, j) v_c(s i + k, s j + l),    −∂E/∂(b_c, c_f) = (Σ v_c, Σ h_f)

There is a bias for each channel of the visible and for each map of the hidden layer. It is the
dense model whose matrix holds the weights at every place.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from skebm.engine.models import RBM, Coupling, Joint, grad
from skebm.engine.units import Units, softplus

#: Channels from which on the library's transposed convolution is the quicker one on a CPU.
MANY_CHANNELS = 16


def _exactly(x: Tensor) -> AbstractContextManager:
    """On CUDA, cuDNN's deterministic kernels in single precision, which is not its default."""
    if not x.is_cuda:
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


class Convolution(Coupling):
    """The coupling of maps with images, at all places alike.

    A row of visible units is an image (n_channels, height, width), or (height, width,
    n_channels) with the channels last; one of hidden units is maps (n_filters, down, across).
    """

    def __init__(self, weight: Tensor, sides: Sequence[int], stride: int, channels_last: bool):
        self.weight = weight  # (n_filters, n_channels, kernel height, kernel width)
        self.sides, self.stride = tuple(sides), stride
        self.channels_last = channels_last and weight.shape[1] > 1
        kernel = tuple(weight.shape[2:])
        self.map_sides = tuple((n - k) // stride + 1 for n, k in zip(sides, kernel))
        #: Rows and columns that no filter reaches.
        self.rest = [(n - k) % stride for n, k in zip(sides, kernel)]

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
        with _exactly(v):
            x = functional.conv2d(self.images(v), self.weight, bias, self.stride)
        return x.flatten(1)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        W = self.weight
        if h.is_cpu and W.shape[1] < MANY_CHANNELS:
            patches = W.flatten(1).T @ self.maps(h).flatten(-2)  # (n, channels · kernel, places)
            images = functional.fold(patches, self.sides, W.shape[2:], stride=self.stride)
            images += bias[:, None, None]
        else:
            with _exactly(h):
                images = functional.conv_transpose2d(
                    self.maps(h), W, bias, self.stride, output_padding=self.rest
                )
        return self.rows(images)

    def correlate_(self, out: Tensor, states: Joint) -> None:
        v, h = self.images(states.v), self.maps(states.h)
        with _exactly(v):
            out.copy_(conv2d_weight(v, list(self.weight.shape), h, self.stride))

    def norm(self) -> Tensor:
        # A bound: that of the convolution on a torus of the image's size, whose eigenvectors are
        # waves.
        spectrum = torch.fft.fft2(self.weight, s=self.sides)  # (n_filters, n_channels, h, w)
        return torch.linalg.matrix_norm(spectrum.permute(2, 3, 0, 1), 2).max()


class ConvolutionalRBM(RBM):
    """An RBM of images, with one bias for each channel and one for each filter.

    Parameters
    ----------
    visible, hidden : Units
    W : Tensor of shape (n_filters, n_channels, kernel height, kernel width)
    b : Tensor of shape (n_channels,)
    c : Tensor of shape (n_filters,)
    b0 : Tensor of shape (n_visible,) or None
        The reference model's field, pixel by pixel; None takes `b`.
    sides : (height, width) of an image
    stride : int
    channels_last : bool
    log_scale : Tensor of shape (n_channels,) or None
    """

    def __init__(
        self,
        visible: Units,
        hidden: Units,
        W: Tensor,
        b: Tensor,
        c: Tensor,
        b0: Tensor | None = None,
        *,
        sides: Sequence[int],
        stride: int = 1,
        channels_last: bool = False,
        log_scale: Tensor | None = None,
    ):
        super().__init__(visible, hidden, W, b, c, log_scale=log_scale)
        self.coupling: Convolution = Convolution(self.W, sides, stride, channels_last)
        n_pixels, (down, across) = sides[0] * sides[1], self.coupling.map_sides
        self.n_places = down * across
        self.n_visible, self.n_hidden = len(b) * n_pixels, len(c) * self.n_places
        #: Offsets (n_channels,) and (n_filters,), while biases are told from them.
        self.offsets: tuple[Tensor, Tensor] | None = None
        self.b0 = self.visible_bias() if b0 is None else b0
        # The field that a hidden unit adds to pixels, on average over them, is this share of ΣW.
        self.share = self.n_places / n_pixels

    def biases(self) -> tuple[Tensor, Tensor]:
        if self.offsets is None:
            return self.b, self.c
        mu, lam = self.offsets
        total = self.W.sum((2, 3))  # (n_filters, n_channels)
        b = torch.addmv(self.b, total.T, lam, alpha=-self.share)  # (n_channels,)
        return b, torch.addmv(self.c, total, mu, alpha=-1)

    def visible_bias(self) -> Tensor:
        return self._of_pixels(self.biases()[0])

    def _of_pixels(self, of_channels: Tensor) -> Tensor:
        """A number of each channel, at all of its pixels: (n_visible,)."""
        return self.coupling.rows(of_channels[:, None, None].expand(-1, *self.coupling.sides))

    def unit_scales(self) -> Tensor:
        return self._of_pixels(super().unit_scales())

    def share_scales(self, x: Tensor) -> Tensor:
        return self.coupling.images(x).sum((1, 2))  # (n_channels,)

    def hidden_bias(self) -> Tensor:
        return self.biases()[1].repeat_interleave(self.n_places)  # (n_hidden,)

    def set_grad(self, states: Joint) -> None:
        states.h.mul_(states.column)
        self.coupling.correlate_(grad(self.W), states)
        total_v = torch.mv(states.v_t, states.weight)  # (n_visible,)
        torch.sum(self.coupling.images(total_v), (1, 2), out=grad(self.b))
        torch.sum(self.coupling.maps(states.h), (0, 2, 3), out=grad(self.c))
        if self.offsets is not None:
            mu, lam = self.offsets
            redundant = torch.outer(lam, grad(self.b)) * self.share + torch.outer(grad(self.c), mu)
            grad(self.W).sub_(redundant[:, :, None, None])

    # Offsets are the same at every place

    def origin(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.coupling.images(v).mean((1, 2)), self.coupling.maps(h).mean((1, 2))

    def move_origin_(self, mu: Tensor, lam: Tensor, sign: int) -> None:
        total = self.W.sum((2, 3))  # (n_filters, n_channels)
        self.b.addmv_(total.T, lam, alpha=sign * self.share)
        self.c.addmv_(total, mu, alpha=sign)

    @contextmanager
    def centered(self, mu: Tensor, lam: Tensor) -> Iterator[None]:
        """Tell the biases from offsets: b + share ΣW·lam and c + ΣW·mu, sums over the kernel.

        The states stay as they are: at the edge of an image, where fewer filters reach, states
        told from the offsets would have biases of their own.
        """
        self.move_origin_(mu, lam, 1)
        self.offsets = (mu, lam)
        try:
            yield
        finally:
            self.offsets = None
            self.move_origin_(mu, lam, -1)

    def missing_activity(self, data: Joint, target: float) -> Tensor:
        missing = super().missing_activity(data, target)  # (n_hidden,)
        return self.coupling.maps(missing).sum((1, 2))  # (n_filters,)

    # The pseudo-log-likelihood

    def flip_size(self, n_sites: int) -> int:
        return self.row_size

    def pseudo_log_likelihood(self, v: Tensor, sites: Tensor | None = None) -> Tensor:
        change = self.visible.moves(v).change[..., 0]  # (n, n_visible)
        gain = change * self.visible_bias()  # (n, n_visible)
        before = self.hidden.cumulants(self.hidden_field(v))  # (n, n_terms)
        if sites is None:
            gain += self._hidden_gains(v, change, before)
            return -softplus(gain).sum(1)
        total = torch.zeros_like(gain[:, 0])  # (n,)
        for site in sites.unbind(1):
            moved = torch.where(functional.one_hot(site, v.shape[1]) > 0, v + change, v)
            after = self.hidden.cumulant(self.hidden_field(moved))  # (n,)
            total -= softplus(gain.gather(1, site[:, None])[:, 0] + after - before.sum(1))
        return total * (v.shape[1] / sites.shape[1])

    def _hidden_gains(self, v: Tensor, change: Tensor, before: Tensor) -> Tensor:
        """What the hidden cumulant gains where each pixel alone is moved: (n, n_visible).

        A term of the cumulant depends on the pixels of a window. Pixels so far apart that no
        window holds two of them are moved together.
        """
        coupling, block = self.coupling, self.hidden.block
        step = block * coupling.stride
        window = [(block - 1) * coupling.stride + k for k in self.W.shape[2:]]
        n_terms = [-(-n // block) for n in coupling.map_sides]
        # A window may reach over the edge, and so does what is gained, until the end.
        height, width = coupling.sides
        gain = v.new_zeros(len(v), len(self.b), height + window[0], width + window[1])
        corners = [step * torch.arange(n, device=v.device) for n in n_terms]
        for channel, *first in itertools.product(range(len(self.b)), *map(range, window)):
            lattice = v.new_zeros(len(self.b), height, width, dtype=torch.bool)
            lattice[channel, first[0] :: window[0], first[1] :: window[1]] = True
            moved = torch.where(coupling.rows(lattice), v + change, v)
            gained = self.hidden.cumulants(self.hidden_field(moved)) - before
            gained = gained.unflatten(1, (-1, *n_terms)).sum(1)  # (n, *n_terms)
            # The row and the column of the pixel of the lattice that is in each term's window.
            row, column = (c + (f - c) % w for c, f, w in zip(corners, first, window))
            gain[:, channel].movedim(0, -1).index_put_(
                (row[:, None], column), gained.movedim(0, -1), accumulate=True
            )
        return coupling.rows(gain[..., :height, :width])
