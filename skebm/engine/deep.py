"""The deep Boltzmann machine: layers x_0 = v, x_1, …, x_L, each coupled to its two neighbours.

    −E(v, h) = v·b + Σ_k x_k·c_k + Σ_k x_k·W_k x_{k−1} + log_base of all layers

The model is an RBM between its even layers (v, x_2, …) and its odd layers (x_1, x_3, …), whose
matrix of weights is block-bidiagonal. Markov chains, annealing and log Z are those of an RBM. In
rows of data the even layers above v are latent. A distribution q of independent units stands for
p(h | v):

    field_k = c_k + W_k m_{k−1} + W_{k+1}ᵀ m_{k+1},    m_k = mean_k(field_k),    m_0 = v
    log p(v) ≥ E_q[−E(v, h)] + H(q) − log Z
             = −F(v, m) + Σ_even (cumulant(field_k) − m_k·field_k − log_base(m_k)) − log Z

where F sums out the odd layers. Given the odd layers, the best even ones are known, and the other
way round. So a sweep, even layers first and then odd ones, never lowers the bound.

R. Salakhutdinov, G. Hinton (2009). Deep Boltzmann machines. AISTATS.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from skebm.engine.joint import Labelled
from skebm.engine.models import RBM, Coupling, Dense, Joint, Pair
from skebm.engine.noise import Noise
from skebm.engine.products import product, rounded
from skebm.engine.units import Categorical, Mixed, SiteChanges, Units

#: Largest number of mean-field sweeps for a row where q is to be as good as possible.
MOST_SWEEPS = 100


class BlockBidiagonal(Coupling):
    """The dense couplings of neighbouring layers; the even layers are the visible ones.

    Parameters
    ----------
    weight : Tensor of shape (n_weights,)
        The matrices W_1, W_2, … one after another.
    sizes : sequence of int
        The numbers of units of all layers, from v to the top.
    """

    def __init__(self, weight: Tensor, sizes: Sequence[int], precision: str = "highest"):
        self.weight, self.sizes, self.precision = weight, list(sizes), precision
        self.even, self.odd = self.sizes[::2], self.sizes[1::2]
        self.n_visible, self.n_hidden = sum(self.even), sum(self.odd)
        self.couplings = [Dense(W, precision) for W in self.matrices(weight)]

    def matrices(self, weight: Tensor) -> list[Tensor]:
        shapes = list(zip(self.sizes[1:], self.sizes))
        pieces = weight.split([math.prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes)]

    def by_layer(self, even: Tensor, odd: Tensor) -> list[Tensor]:
        """The parts of all layers, from v to the top; the last axes run over the units."""
        layers = [even] * len(self.sizes)
        layers[::2], layers[1::2] = even.split(self.even, -1), odd.split(self.odd, -1)
        return layers

    def field(self, k: int, below: Tensor | None, above: Tensor | None, bias: Tensor) -> Tensor:
        """The field of layer k, given the layers below and above it."""
        if below is None:
            assert above is not None
            return self.couplings[k].down(above, bias)
        field = self.couplings[k - 1].up(below, bias)
        if above is None:
            return field
        return self.couplings[k].down(above, torch.zeros_like(bias)).add_(field)

    def _fields(self, layers: Sequence[Tensor | None], bias: Tensor, first: int) -> Tensor:
        """The fields of every second layer from layer `first` on."""
        parts = zip(range(first, len(self.sizes), 2), bias.split(self.sizes[first::2]))
        around = [None, *layers, None]
        fields = [self.field(k, around[k], around[k + 2], part) for k, part in parts]
        return fields[0] if len(fields) == 1 else torch.cat(fields, -1)

    def up(self, v: Tensor, bias: Tensor) -> Tensor:
        layers: list[Tensor | None] = [None] * len(self.sizes)
        layers[::2] = v.split(self.even, -1)
        return self._fields(layers, bias, 1)

    def down(self, h: Tensor, bias: Tensor) -> Tensor:
        layers: list[Tensor | None] = [None] * len(self.sizes)
        layers[1::2] = h.split(self.odd, -1)
        return self._fields(layers, bias, 0)

    def correlate_(self, out: Tensor, states: Joint) -> None:
        layers = self.by_layer(states.v, states.h)
        for W, below, above in zip(self.matrices(out), layers, layers[1:]):
            product(above.T, below, None, self.precision, W)

    def correlate_centered_(
        self, out: Tensor, gb: Tensor, gc: Tensor, states: Joint, mu: Tensor, lam: Tensor
    ) -> Tensor | None:
        if len(self.couplings) == 1:
            (W,), dense = self.matrices(out), self.couplings[0]
            return dense.correlate_centered_(W, gb, gc, states, mu, lam)
        self.sum_states_(gb, gc, states)
        states.h.addcmul_(states.column, lam, value=-1)
        self.correlate_(out, states)
        # Σ_i h_i (v_i − μ)ᵀ = Σ_i h_i v_iᵀ − (Σ_i h_i) μᵀ
        sums = self.by_layer(mu, states.h.sum(0))
        for W, below, above in zip(self.matrices(out), sums, sums[1:]):
            W.addr_(above, below, alpha=-1)
        return None

    def center_(self, gW: Tensor, gb: Tensor, gc: Tensor, mu: Tensor, lam: Tensor) -> None:
        grads, offsets = self.by_layer(gb, gc), self.by_layer(mu, lam)
        for k, W in enumerate(self.matrices(gW)):
            self.couplings[k].center_(W, grads[k], grads[k + 1], offsets[k], offsets[k + 1])

    def compensate_(self, b: Tensor, c: Tensor, dW: Tensor, mu: Tensor, lam: Tensor) -> None:
        biases, offsets = self.by_layer(b, c), self.by_layer(mu, lam)
        for k, W in enumerate(self.matrices(dW)):
            self.couplings[k].compensate_(biases[k], biases[k + 1], W, *offsets[k : k + 2])

    def without_first(self) -> "BlockBidiagonal":
        """The coupling of the layers above v; its even layers are the odd ones of this coupling."""
        first, *others = self.couplings
        upper = BlockBidiagonal(self.weight[first.weight.numel() :], self.sizes[1:], self.precision)
        upper.couplings = others
        return upper

    def rounded(self) -> "BlockBidiagonal":
        """The same coupling with weights as products round them, for many products."""
        coupling = copy.copy(self)
        weights = [rounded(dense.weight, self.precision) for dense in self.couplings]
        coupling.couplings = [Dense(W, self.precision) for W in weights]
        return coupling

    def norm(self) -> Tensor:
        # The blocks of even numbers form a block-diagonal matrix, and so do those of odd numbers.
        norms = [coupling.norm() for coupling in self.couplings]
        return sum(
            (torch.stack(n).amax() for n in (norms[::2], norms[1::2]) if n), start=0 * norms[0]
        )

    def hidden_gains(self, hidden: Units, v: Tensor, c: Tensor, changes: SiteChanges) -> Tensor:
        raise NotImplementedError("Layers above the rows are latent: rows have no conditionals.")

    def change_size(self, n_sites: int) -> int:
        return n_sites * self.n_hidden


class EvenLayers(Mixed):
    """The units of a row, and the latent units of the even layers above, which are NaN in rows."""

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.kinds[0].is_discrete

    @property
    def latent(self) -> Mixed:
        """The units of the even layers above the rows."""
        return Mixed([*zip(self.kinds, self.sizes)][1:])

    def _of_row(self, x: Tensor) -> Tensor:
        return x[..., : self.sizes[0]]

    def from_rows(self, rows: Tensor) -> Tensor:
        x = self.kinds[0].from_rows(self._of_row(rows))  # there may be targets beside the row
        shape, dtype = (*x.shape[:-1], sum(self.sizes[1:])), torch.result_type(x, 0.5)
        return torch.cat([x, x.new_full(shape, math.nan, dtype=dtype)], -1)

    def to_rows(self, x: Tensor) -> Tensor:
        return self.kinds[0].to_rows(self._of_row(x))

    def log_volume(self) -> float:
        return self.kinds[0].log_volume()

    def from_rows_grad(self, x: Tensor, field: Tensor, weight: Tensor) -> dict[str, Tensor]:
        return self.kinds[0].from_rows_grad(self._of_row(x), self._of_row(field), weight)


class MeanField(NamedTuple):
    """The distribution q of the latent even layers of some rows, and how it was found."""

    field: Tensor  # (n, n_latent)
    mean: Tensor  # (n, n_latent)
    n_sweeps: Tensor  # (n,): the sweeps made
    converged: Tensor  # (n,), of bool


class DeepBoltzmann(RBM):
    """A deep Boltzmann machine as an RBM; its visible units are those of the even layers.

    If the hidden units of the last RBM are `Labelled`, the label is a layer above the others: one
    unit for each class, of which exactly one is on.

    Parameters
    ----------
    layers : sequence of RBM
        The hidden units, weights and hidden biases of layer k are those of layers[k − 1]. The
        visible units and biases are those of the first; those of the others are not used.
    n_sweeps : int
        Largest number of mean-field sweeps for a row.
    tol : float
        A row has converged if a sweep changes none of its latent means by more than this.
    """

    coupling: BlockBidiagonal
    visible: EvenLayers
    hidden: Mixed
    #: The distribution q of the rows of an update.
    q: MeanField | None = None

    def __init__(self, layers: Sequence[RBM], n_sweeps: int = 10, tol: float = 1e-2):
        first, top = layers[0], layers[-1].hidden
        assert isinstance(first.coupling, Dense)
        units = [first.visible, *(layer.hidden for layer in layers)]
        sizes = [first.n_visible, *(layer.n_hidden for layer in layers)]
        matrices = [layer.W for layer in layers]
        biases = [first.b, *(layer.c for layer in layers)]
        if isinstance(top, Labelled):
            units[-1:] = [top.units, Categorical([len(top.d)])]
            sizes.append(len(top.d))
            matrices.append(top.U.T)
            biases.append(top.d)
        even, odd = ([*zip(units[k::2], sizes[k::2])] for k in (0, 1))
        super().__init__(
            EvenLayers(even),
            Mixed(odd),
            torch.cat([W.reshape(-1) for W in matrices]),
            torch.cat(biases[::2]),
            torch.cat(biases[1::2]),
            torch.cat([first.b0, *biases[2::2]]),
            partial(BlockBidiagonal, sizes=sizes, precision=first.coupling.precision),
        )
        self.n_rows, self.n_sweeps, self.tol = sizes[0], n_sweeps, tol
        #: The number of the last layer below the label.
        self.top = len(layers)

    @property
    def units(self) -> list[Units]:
        """The units of all layers, from those of the rows to the top."""
        units = [*self.visible.kinds, *self.hidden.kinds]
        units[::2], units[1::2] = self.visible.kinds, self.hidden.kinds
        return units

    @property
    def has_labels(self) -> bool:
        return self.top < len(self.coupling.couplings)

    @property
    def rbms(self) -> list[RBM]:
        """RBMs whose weights and hidden biases are those of the layers.

        The first has the visible biases; those of the others are zero.
        """
        units, matrices = self.units, self.coupling.matrices(self.W)
        b, *biases = self.coupling.by_layer(self.b, self.c)
        hidden = units[1 : self.top + 1]
        if self.has_labels:
            hidden[-1] = Labelled(hidden[-1], matrices[-1].T.contiguous(), biases[-1])
        visible = [b, *map(torch.zeros_like, biases)]
        references = [self.b0[: self.n_rows], *visible[1:]]
        make = partial(Dense, precision=self.coupling.precision)
        parts = zip(units, hidden, matrices, visible, biases, references)
        return [RBM(v, h, W, b, c, b0, make) for v, h, W, b, c, b0 in parts]

    # The latent units of rows

    def mean_field(
        self, v: Tensor, n_sweeps: int | None = None, labels: Tensor | None = None
    ) -> MeanField:
        """q of rows (n, n_visible), whose latent part is not used, and of their known labels.

        A sweep sets the odd layers, and then the even ones, to the best q given the others. The
        first values come from a pass upwards, in which a layer that is not the top takes what
        comes from below twice, as if the same came from above.
        """
        x, c = v[:, : self.n_rows], self.c
        from_rows = self.coupling.couplings[0].up(x, torch.zeros_like(c[: self.coupling.odd[0]]))
        mean = self._first_means(from_rows, labels)
        field, n_done = torch.zeros_like(mean), x.new_zeros(len(x))
        active = x.new_full((len(x),), mean.shape[1] > 0, dtype=torch.bool)
        if not mean.shape[1]:
            return MeanField(field, mean, n_done, ~active)
        sweep = partial(self._sweep, self.coupling.without_first())
        for _ in range(self.n_sweeps if n_sweeps is None else n_sweeps):
            n_done += active
            # A row that has converged stays as it is, whatever others there are.
            if x.is_cpu:
                rows = active.nonzero()[:, 0]
                if not len(rows):
                    break
                before, known = mean.index_select(0, rows), labels
                if labels is not None:
                    known = labels.index_select(0, rows)
                of_rows, new = sweep(before, from_rows.index_select(0, rows), known)
                active.index_copy_(0, rows, self._moves(before, new))
                field.index_copy_(0, rows, of_rows)
                mean.index_copy_(0, rows, new)
            else:  # nothing waits for the number of rows that have converged
                of_all, new = sweep(mean, from_rows, labels)
                was_active, active = active[:, None], active & self._moves(mean, new)
                field = torch.where(was_active, of_all, field)
                mean = torch.where(was_active, new, mean)
        return MeanField(field, mean, n_done, ~active)

    def _moves(self, before: Tensor, after: Tensor) -> Tensor:
        """Whether any mean of a row changes by more than the tolerance: (n,)."""
        return (after - before).abs_().amax(1) > self.tol

    def _first_means(self, from_rows: Tensor, labels: Tensor | None) -> Tensor:
        """The latent means at the start of mean field: (n, n_latent)."""
        _, *biases = self.coupling.by_layer(self.b, self.c)
        means: list[Tensor] = []
        field = from_rows + biases[0]
        for k, bias in enumerate(biases, 1):
            if k > 1:
                field = self.coupling.field(k, means[-1], None, bias)
            means.append(self.units[k].mean(2 * field - bias if k < self.top else field))
        latent = torch.cat([from_rows[:, :0], *means[1::2]], 1)
        return self._with_labels(latent, 0, labels)

    def _sweep(
        self, upper: BlockBidiagonal, mean: Tensor, from_rows: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The latent fields and means after the odd layers and then the even ones were set."""
        field = upper.down(mean, self.c)
        field[:, : from_rows.shape[1]] += from_rows
        odd = self._with_labels(self.hidden.mean(field), 1, labels)
        field = upper.up(odd, self.b[self.n_rows :])
        return field, self._with_labels(self.visible.latent.mean(field), 0, labels)

    def _with_labels(self, means: Tensor, parity: int, labels: Tensor | None) -> Tensor:
        """The means of the even layers (parity 0) or the odd ones (1), with known labels."""
        if labels is not None and (self.top + 1) % 2 == parity:
            of_label = means[:, -labels.shape[1] :]
            of_label.copy_(known_or(labels, of_label))
        return means

    def complete(self, v: Tensor) -> Tensor:
        return self._with(v, self.mean_field(v).mean)

    def _with(self, v: Tensor, latent: Tensor) -> Tensor:
        return torch.cat([v[:, : self.n_rows], latent], 1)

    def layer_means(self, v: Tensor, n_sweeps: int | None = None) -> list[Tensor]:
        """The means of all hidden layers given rows, from the first to the top: (n, n_units)."""
        v = self._with(v, self.mean_field(v, n_sweeps).mean)
        return self.coupling.by_layer(v, self.hidden.mean(self.hidden_field(v)))[1 : self.top + 1]

    def log_label(self, v: Tensor) -> Tensor:
        """log p(y | v) of each label, from the bounds of log p(v, y): (n, n_classes).

        With one layer below the label, it is exact.
        """
        *lower, top = self.rbms
        assert isinstance(top.hidden, Labelled)
        scores, x = [], v[:, : self.n_rows]
        for U, d in zip(top.hidden.U.T, top.hidden.d):
            # The model of the rows of this label has no label; its top has the biases c + U.
            given = RBM(top.visible, top.hidden.units, top.W, top.b, top.c + U, top.b0)
            given.coupling = top.coupling
            model = DeepBoltzmann([*lower, given], self.n_sweeps, self.tol)
            scores.append(model.bound(model.visible.from_rows(x), MOST_SWEEPS) + d)
        return torch.stack(scores, -1).log_softmax(-1)

    def rows_given_top(self, h: Tensor) -> Tensor:
        """Means of the visible units of rows given the top layer, by mean field: (n, n_rows)."""
        coupling, units = self.coupling, self.units
        biases = coupling.by_layer(self.b, self.c)
        # The first values come from a pass downwards.
        means = [h] * (self.top + 1)
        for k in reversed(range(self.top)):
            means[k] = units[k].mean(coupling.field(k, None, means[k + 1], biases[k]))
        odd_then_even = [*range(1, self.top, 2), *range(0, self.top, 2)]
        for k in odd_then_even * MOST_SWEEPS:
            below = means[k - 1] if k else None
            means[k] = units[k].mean(coupling.field(k, below, means[k + 1], biases[k]))
        return means[0]

    # Training

    def observe_(self, data: Joint, rows: Tensor) -> None:
        super().observe_(data, rows)
        if self.has_labels:
            labels = rows[:, self.n_rows :].to(data.v)
            data.labels = labels.clone() if data.labels is None else data.labels.copy_(labels)

    def begin_update(self, data: Joint, noise: Noise) -> Self:
        update = copy.copy(self)
        update.coupling = self.coupling.rounded()
        update.q = update.mean_field(data.v, labels=data.labels)
        data.v[:, self.n_rows :] = update.q.mean
        return update

    def figures(self) -> dict[str, Tensor]:
        if self.q is None:
            return {}
        return {
            "mean_field_sweeps": self.q.n_sweeps.mean(),
            "mean_field_unconverged": 1 - self.q.converged.to(self.q.mean).mean(),
        }

    def set_grad(
        self, states: Joint, data: Joint | None = None, offsets: Pair | None = None
    ) -> Tensor | None:
        if data is not None:
            self._with_labels(data.h, 1, data.labels)
        return super().set_grad(states, data, offsets)

    # The likelihood of rows

    def bound(self, v: Tensor, n_sweeps: int | None = None) -> Tensor:
        """E_q[−E(v, h)] + H(q), a lower bound of log p(v) + log Z of each row: (n,)."""
        q = self.mean_field(v, n_sweeps)
        total = -self.free_energy(self._with(v, q.mean))
        # F(v) has the base measure at the means; the bound has its mean and the entropy of q.
        return total - self.visible.latent.log_density(q.mean, q.field)

    def log_weight(self, v: Tensor, n_draws: int, noise: Noise) -> Tensor:
        """An estimate of log p(v) + log Z of each row, from `n_draws` draws of q: (n,).

        It is log mean exp(−F(v, x) − log q(x)) over draws x of the even layers.
        """
        q = self.mean_field(v, MOST_SWEEPS)
        total = v.new_full((len(v),), -math.inf, dtype=torch.float64)
        for _ in range(n_draws):
            latent = self.visible.latent.sample(q.field, noise)
            log_q = self.visible.latent.log_density(latent, q.field)
            total = torch.logaddexp(total, -self.free_energy(self._with(v, latent)) - log_q)
        return total - math.log(n_draws)


def known_or(labels: Tensor, mean: Tensor) -> Tensor:
    """The labels of rows where they are known, else the means."""
    return torch.where(labels.sum(1, keepdim=True) > 0, labels, mean)
