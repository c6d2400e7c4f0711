"""A convolutional model is the dense one whose matrix has its filters at every place."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from skebm.engine.batches import Batches
from skebm.engine.convolution import Convolution
from skebm.engine.gradients import CD, PCD, Exact, ParallelTempering
from skebm.engine.models import RBM, Joint
from skebm.engine.noise import Noise
from skebm.engine.partition import log_weights_up
from skebm.engine.sampling import run
from skebm.engine.training import Trainer
from skebm.engine.units import (
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    Pooled,
    ScaledGaussian,
    Spin,
)
from tests.conftest import (
    all_states,
    center,
    centred_step,
    flat_grad,
    log_z,
    mean_states,
    offsets,
    some_rows,
    update,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
# channels, sides, kernel, filters, stride, pooling, channels last
SHAPES = {
    "one channel": (1, (4, 4), (2, 2), 3, 1, None, False),
    "three channels": (3, (4, 3), (2, 3), 2, 1, None, False),
    "three channels last": (3, (4, 3), (2, 3), 2, 1, None, True),
    "stride 2": (1, (5, 6), (2, 3), 2, 2, None, False),
    "stride 2, three channels": (3, (5, 5), (3, 2), 2, 2, None, True),
    "pooled": (1, (5, 5), (2, 2), 2, 1, 2, False),
    "pooled to the edge": (1, (5, 4), (2, 2), 2, 1, 2, False),
    "pooled, three channels": (3, (4, 4), (2, 2), 2, 1, 2, True),
    "pooled, stride 2": (1, (7, 6), (2, 3), 2, 2, 2, False),
    "pooled, stride 2, three channels": (3, (7, 6), (3, 2), 2, 2, 2, False),
    "sixteen channels": (16, (3, 3), (2, 2), 2, 1, None, False),
    "sixteen channels, stride 2": (16, (6, 6), (3, 3), 2, 2, 2, True),
}
any_shape = pytest.mark.parametrize("shape", SHAPES)
seeds = st.integers(0, 10_000)


def make_images(shape, visible=Bernoulli, seed=0, scale=0.7):
    """A convolutional model and the dense one, written out, with `tied`: sums over what is shared.

    `tied` takes what belongs to (W, b, c) of the dense model to the shapes of the other's.
    """
    n_channels, sides, kernel, n_filters, stride, pool, last = SHAPES[shape]
    places = [(n - k) // stride + 1 for n, k in zip(sides, kernel)]
    rng = np.random.default_rng(seed)
    W, b, c = (
        torch.from_numpy(rng.normal(0, scale, s))
        for s in ((n_filters, n_channels, *kernel), n_channels, n_filters)
    )
    order = (*sides, n_channels) if last else (n_channels, *sides)
    pixel = np.arange(math.prod(order)).reshape(order)
    pixel = np.moveaxis(pixel, 2, 0) if last else pixel  # (n_channels, height, width)
    unit = np.arange(n_filters * math.prod(places)).reshape(n_filters, *places)
    dense = torch.zeros(unit.size, pixel.size).double()
    entry = []  # of the dense matrix, and of W
    for f, i, j in itertools.product(*map(range, unit.shape)):
        for at in itertools.product(range(n_channels), *map(range, kernel)):
            channel, k, m = at
            to = unit[f, i, j], pixel[channel, stride * i + k, stride * j + m]
            dense[to] = W[f][at]
            entry.append((to, (f, *at)))
    b_dense, c_dense = torch.zeros(pixel.size).double(), torch.zeros(unit.size).double()
    for channel in range(n_channels):
        b_dense[pixel[channel].ravel()] = b[channel]
    for f in range(n_filters):
        c_dense[unit[f].ravel()] = c[f]
    b0 = torch.from_numpy(rng.normal(0, scale, pixel.size))
    hidden = Bernoulli() if pool is None else Pooled(unit.shape, pool)
    coupling = partial(Convolution, sides=sides, stride=stride, channels_last=last)
    model = RBM(visible(), hidden, W, b, c, b0, coupling)

    def tied(of_W, of_b, of_c):
        shared = torch.zeros_like(W)
        for one, other in entry:
            shared[other] += of_W[one]
        by_channel = [of_b[pixel[channel].ravel()].sum() for channel in range(n_channels)]
        by_filter = [of_c[unit[f].ravel()].sum() for f in range(n_filters)]
        return shared, torch.stack(by_channel), torch.stack(by_filter)

    return model, RBM(visible(), hidden, dense, b_dense, c_dense, b0), tied


def like(coupling):
    """What makes another coupling of the same shape."""
    return partial(
        Convolution,
        sides=coupling.sides,
        stride=coupling.stride,
        channels_last=coupling.channels_last,
    )


def assert_tied_grads(model, plain, tied):
    expected = tied(plain.W.grad, plain.b.grad, plain.c.grad)
    for parameter, gradient in zip((model.W, model.b, model.c), expected):
        assert_close(parameter.grad, gradient, **CLOSE)


@any_shape
@pytest.mark.parametrize("visible", [Bernoulli, Gaussian, ContinuousBernoulli])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_it_is_the_dense_model_with_its_weights_everywhere(shape, visible, beta):
    model, plain, _ = make_images(shape, visible)
    v = some_rows(plain)
    h = plain.sample_hidden(v, Noise(1))
    assert (model.n_visible, model.n_hidden) == (plain.n_visible, plain.n_hidden)
    assert_close(model.hidden_field(v, beta), plain.hidden_field(v, beta), **CLOSE)
    assert_close(model.visible_field(h, beta), plain.visible_field(h, beta), **CLOSE)
    assert_close(model.free_energy(v, beta), plain.free_energy(v, beta), **CLOSE)
    assert_close(model.hidden_free_energy(h, beta), plain.hidden_free_energy(h, beta), **CLOSE)
    assert_close(model.log_partition_reference(), plain.log_partition_reference(), **CLOSE)
    assert_close(model.transition(v, Noise(2), beta), plain.transition(v, Noise(2), beta), **CLOSE)
    assert_close(model.start(4, Noise(3)), plain.start(4, Noise(3)), **CLOSE)


@pytest.mark.parametrize("shape", ["one channel", "three channels", "three channels last"])
def test_without_a_field_of_its_own_the_reference_model_has_the_biases(shape):
    model, plain, _ = make_images(shape)
    alone = RBM(Bernoulli(), Bernoulli(), model.W, model.b, model.c, coupling=like(model.coupling))
    dense = RBM(Bernoulli(), Bernoulli(), plain.W, plain.b, plain.c)
    v = some_rows(plain)
    assert_close(alone.free_energy(v, 0.0), dense.free_energy(v, 0.0), **CLOSE)
    assert_close(alone.start(4, Noise(3)), dense.start(4, Noise(3)), **CLOSE)


@any_shape
@given(seed=seeds)
def test_its_gradient_is_that_of_the_dense_model_summed_over_places(shape, seed):
    model, plain, tied = make_images(shape, seed=seed)
    v, weight = some_rows(plain, seed=seed), torch.linspace(-1, 2, 5).double()
    for m in (model, plain):
        m.set_grad(mean_states(m, v, weight))
    assert_tied_grads(model, plain, tied)
    assert_close(model.theta.grad, flat_grad(model))


@any_shape
@pytest.mark.parametrize(
    "gradient", [CD(2), PCD(2, 3), ParallelTempering(3, 1, 2)], ids=lambda g: type(g).__name__
)
def test_every_gradient_sees_the_same_model(shape, gradient):
    model, plain, tied = make_images(shape)
    for m in (model, plain):
        state = gradient.start(m, 4, Noise(0))
        for step in (1, 2):
            weight = torch.tensor([0.5, 1.0, 0.0, 0.25]).double()
            update(m, gradient, some_rows(plain, 4), weight, state, Noise(step))
    assert_tied_grads(model, plain, tied)


def test_exact_gradients_and_partition_functions_are_those_of_the_dense_model():
    model, plain, tied = make_images("pooled to the edge")
    assert model.hidden.n_states(model.n_hidden) < 2**16
    for m in (model, plain):
        update(m, Exact(), some_rows(plain, 4), torch.ones(4).double() / 4)
    assert_tied_grads(model, plain, tied)
    betas = torch.linspace(0, 1, 20).double()
    for ours, theirs in zip(*(log_weights_up(m, Noise(5), betas, 7) for m in (model, plain))):
        assert_close(ours, theirs, **CLOSE)


@given(seed=seeds, data=st.data())
def test_convolution_and_transposed_convolution_are_adjoint(seed, data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    n_channels, n_filters, stride = draw(1, 20), draw(1, 3), draw(1, 3)
    kernel = draw(1, 3), draw(1, 3)
    sides = tuple(k + draw(0, 5) for k in kernel)
    rng = torch.Generator().manual_seed(seed)
    W = torch.randn(n_filters, n_channels, *kernel, generator=rng).double()
    coupling = Convolution(W, sides, stride, data.draw(st.booleans()))
    v = torch.randn(4, n_channels * math.prod(sides), generator=rng).double()
    h = torch.randn(4, n_filters * math.prod(coupling.map_sides), generator=rng).double()
    up = coupling.up(v, torch.zeros(n_filters).double())
    down = coupling.down(h, torch.zeros(n_channels).double())
    out = torch.full_like(W, torch.nan)
    coupling.correlate_(out, Joint(v, h, torch.ones(4)))
    assert_close((h * up).sum(), (down * v).sum(), **CLOSE)
    assert_close((out * W).sum(), (down * v).sum(), **CLOSE)


@any_shape
def test_the_norm_is_a_close_bound(shape):
    model, plain, _ = make_images(shape)
    exact = torch.linalg.matrix_norm(plain.W, 2)
    assert exact <= model.coupling.norm() <= 2.5 * exact


@given(seed=seeds, width=st.integers(3, 30))
def test_the_norm_bounds_filters_of_any_direction(seed, width):
    W = torch.randn(2, 1, 1, 3, generator=torch.Generator().manual_seed(seed)).double()
    coupling = Convolution(W, (1, width), 1, False)
    up = coupling.up(torch.eye(width).double(), torch.zeros(2).double())
    assert torch.linalg.matrix_norm(up, 2) <= coupling.norm() * (1 + 1e-12)


def test_the_norm_of_filters_of_one_pixel_is_that_of_their_matrix():
    W = torch.randn(5, 4, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    norm = Convolution(W, (3, 4), 1, False).norm()
    assert_close(norm, torch.linalg.matrix_norm(W[:, :, 0, 0], 2), **CLOSE)


# The centred gradient


@any_shape
@given(seed=seeds)
def test_the_centred_gradient_is_the_derivative_in_centred_coordinates(shape, seed):
    model, plain, _ = make_images(shape, seed=seed)
    v, weight = some_rows(plain, seed=seed), torch.linspace(-1, 2, 5).double()
    mu, lam = offsets(model, seed)
    model.set_grad(mean_states(model, v, weight))
    gradient = [p.grad.clone() for p in (model.W, model.b, model.c)]
    center(model, mu, lam)
    for p, step in zip((model.W, model.b, model.c), centred_step(model, gradient, mu, lam)):
        assert_close(p.grad, step, **CLOSE)


def test_offsets_take_what_is_the_same_everywhere_out_of_the_gradient_of_the_weights():
    # Where hidden units are on everywhere at random, whatever the image, weights have no gradient
    # but that of the edges.
    model, plain, _ = make_images("one channel", scale=0.0)
    v = some_rows(plain, 400)
    weight = v.mean(1) - v.mean()  # bright images more, dark ones less: b alone should move
    model.set_grad(mean_states(model, v, weight / 400))
    uncentred = model.W.grad.abs().max()
    halves = torch.full((27,), 0.5).double()
    center(model, model.coupling.mean_visible(v.mean(0)), model.coupling.mean_hidden(halves))
    assert model.W.grad.abs().max() < uncentred / 10


@pytest.mark.parametrize("shape", ["one channel", "three channels last", "stride 2"])
@given(seed=seeds)
def test_centred_updates_are_invariant_under_flips_of_a_channel(shape, seed):
    # v → 1 − v in the first channel: W → −W, b → −b, c → c + ΣW there.
    model, plain, _ = make_images(shape, seed=seed)
    v, weight = some_rows(plain, 6, seed), torch.full((6,), 1 / 6).double()
    sign = torch.ones_like(model.b)
    sign[0] = -1
    flip = model.coupling.rows(sign[:, None, None].expand(-1, *model.coupling.sides)) < 0
    mirror = RBM(
        Bernoulli(),
        Bernoulli(),
        model.W * sign[:, None, None],
        model.b * sign,
        model.c + model.W[:, 0].sum((1, 2)),
        coupling=like(model.coupling),
    )
    (mu, lam), flipped = offsets(model, seed), torch.where(flip, 1 - v, v)
    for m, rows, origin in (
        (model, v, mu),
        (mirror, flipped, torch.where(sign < 0, 1 - mu, mu)),
    ):
        update(m, CD(), rows, weight, noise=_Halves(rows))
        center(m, origin, lam)
        m.theta.add_(m.theta.grad, alpha=0.3)
    assert_close(mirror.W * sign[:, None, None], model.W, **CLOSE)
    assert_close(mirror.b * sign, model.b, **CLOSE)
    assert_close(mirror.c + mirror.W[:, 0].sum((1, 2)), model.c, **CLOSE)


class _Halves:
    """Coins that show the likelier side."""

    def __init__(self, rows):
        self.rows = rows

    def bernoulli(self, probability, out=None):
        out = torch.empty_like(probability) if out is None else out
        return out.copy_(probability > 0.5)


# Training


def train(model, v, **settings):
    trainer = Trainer(model, Exact(), batch_size=len(v), **settings)
    trainer.gradient_state = {}
    trainer.optimizer.set_rate(0.1, 0.0)
    trainer.step(v, torch.full_like(v[:, 0], 1 / len(v)), Noise(0))
    return trainer


def test_sparsity_pulls_the_mean_activity_of_each_filter_to_the_target():
    model, plain, tied = make_images("pooled to the edge")
    v, before = some_rows(plain, 6), model.theta.clone()
    activity = model.hidden.mean(plain.hidden_field(v)).mean(0)
    train(model, v)
    without = model.c.clone()
    model.theta.copy_(before)
    train(model, v, sparsity_target=0.1, sparsity_cost=2.0)
    pull = tied(torch.zeros_like(plain.W), torch.zeros_like(plain.b), 0.1 - activity)[2]
    assert_close(model.c - without, 0.1 * 2.0 * pull / model.coupling.n_places, **CLOSE)


@pytest.mark.parametrize("shape", ["stride 2, three channels", "pooled, three channels"])
@pytest.mark.parametrize("rows_at_once", [7, 1000])
def test_offsets_are_the_means_of_channels_and_of_filters(shape, rows_at_once, monkeypatch):
    model, plain, tied = make_images(shape)
    monkeypatch.setattr("skebm.engine.batches.CHUNK", rows_at_once * model.row_size)
    X = some_rows(plain, 7).numpy()
    batches = Batches(
        X, None, batch_size=4, shuffle=True, device=torch.device("cpu"), dtype=np.dtype("float64")
    )
    activity = model.hidden.mean(plain.hidden_field(batches.probe)).mean(0)
    trainer = Trainer(model, CD(), batch_size=4, centered=True)
    trainer.epoch(batches, Noise(0), 0.1)
    _, of_channels, of_filters = tied(torch.zeros_like(plain.W), batches.mean, activity)
    n_pixels = math.prod(model.coupling.sides)
    assert_close(trainer.averages["visible_offset"], of_channels / n_pixels)
    assert_close(trainer.averages["hidden_offset"], of_filters / model.coupling.n_places)


# Pseudo-likelihood


@pytest.mark.parametrize("visible", [Bernoulli, Spin])
@any_shape
def test_the_pseudo_likelihood_is_that_of_the_dense_model(shape, visible):
    model, plain, _ = make_images(shape, visible)
    v = some_rows(plain)

    def by_hand(sites):
        """Σ log p(v_i | the rest), from the free energies of both states."""
        total = torch.zeros(len(v)).double()
        low, high = plain.visible.support
        for site in sites:
            other = v.clone()
            other[:, site] = low + high - v[:, site]
            total -= torch.nn.functional.softplus(plain.free_energy(v) - plain.free_energy(other))
        return total

    n = v.shape[1]
    assert_close(model.pseudo_log_likelihood(v), by_hand(range(n)), **CLOSE)
    some = [0, n - 1, n // 2]
    estimate = model.pseudo_log_likelihood(v, torch.tensor(some).expand(len(v), -1))
    assert_close(estimate, by_hand(some) * n / 3, **CLOSE)


def test_grey_pixels_go_to_the_other_side():
    model, plain, _ = make_images("one channel")
    v = torch.rand(5, 16, generator=torch.Generator().manual_seed(0)).double()
    assert_close(model.pseudo_log_likelihood(v), plain.pseudo_log_likelihood(v), **CLOSE)


# Pooling


@given(seed=seeds)
def test_blocks_and_none_share_one(seed):
    units = Pooled((2, 4, 4), 2)
    field = 3 * torch.randn(5, 32, generator=torch.Generator().manual_seed(seed)).double()
    mean = units.mean(field).view(5, 2, 2, 2, 2, 2)
    none = 1 / (1 + field.view(5, 2, 2, 2, 2, 2).exp().sum((3, 5)))
    assert_close(mean.sum((3, 5)) + none, torch.ones_like(none), **CLOSE)
    assert_close(units.features(field.clone()), 1 - none.flatten(1), **CLOSE)
    drawn = units.sample(field, Noise(seed)).view(5, 2, 2, 2, 2, 2)
    assert drawn.sum((3, 5)).max() <= 1
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}


def test_the_field_of_a_block_of_any_mean_is_finite_and_close_to_it():
    units = Pooled((1, 2, 3), 2)
    for mean in ([1.0, 0, 1, 0, 0, 0], [0.25, 0.25, 0.5, 0.25, 0.25, 0.5], [0.0] * 6):
        mean = torch.tensor([mean]).double()
        field = units.field_of_mean(mean)
        assert field.isfinite().all()
        assert_close(units.mean(field), mean, rtol=0, atol=5e-3)


def test_a_feature_is_shared_by_the_units_of_its_block():
    units = Pooled((1, 3, 3), 2)
    features = torch.tensor([[0.8, 0.6, 0.4, 0.2]]).double()
    expected = [[0.2, 0.2, 0.3], [0.2, 0.2, 0.3], [0.2, 0.2, 0.2]]
    assert_close(units.mean_of_features(features).view(3, 3), torch.tensor(expected).double())
    assert_close(units.mean_of_features(features[0]), units.mean_of_features(features)[0])


def test_pooled_units_are_finite_at_any_field():
    units = Pooled((1, 2, 3), 2)
    for value in (-1e4, 0.0, 1e4):
        field = torch.full((1, 6), value)
        for result in (units.mean(field), units.cumulant(field), units.features(field.clone())):
            assert result.isfinite().all()


def test_chains_of_images_stay_where_they_are_in_law():
    model, plain, _ = make_images("pooled to the edge", scale=0.4)
    h = all_states(model.hidden, model.n_hidden)
    p = torch.softmax(-plain.hidden_free_energy(h), 0)
    drawn = h[np.random.default_rng(0).choice(len(h), size=20_000, p=p.numpy())]
    start = plain.sample_visible(drawn, Noise(0))
    end = run(model, start, Noise(1), n_steps=4)
    assert log_z(plain).isfinite()
    for statistic in (lambda v: v, plain.free_energy):
        before, after = statistic(start), statistic(end)
        error = (before.var(0) / 20_000 + after.var(0) / 20_000).sqrt()
        assert ((before.mean(0) - after.mean(0)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("shape", ["three channels", "stride 2, three channels"])
@given(seed=seeds)
def test_a_learned_scale_is_that_of_all_pixels_of_a_channel(shape, seed):
    # log p(x) = −F(x exp(−r)) − Σ_pixels r − log Z: its derivative, exactly, without a chain.
    plain, dense, _ = make_images(shape, Gaussian, seed)
    coupling, r = plain.coupling, torch.tensor([-0.4, 0.1, 0.3]).double()
    last = coupling.channels_last
    shape = (*coupling.sides, 3) if last else (3, *coupling.sides)
    visible = ScaledGaussian(r, shape=shape, axis=2 if last else 0)
    model = RBM(visible, Bernoulli(), plain.W, plain.b, plain.c, coupling=like(coupling))
    x, weight = some_rows(dense, seed=seed), torch.linspace(0, 2, 5).double()
    pixels = math.prod(coupling.sides)
    of_pixel = coupling.rows(r[:, None, None].expand(-1, *coupling.sides))
    units = model.visible
    assert_close(units.from_rows(x), x / of_pixel.exp(), **CLOSE)
    assert_close(units.to_rows(units.from_rows(x)), x, **CLOSE)
    assert units.log_volume() == pytest.approx(pixels * r.sum().item())
    scales = model.parameters()["log_scales"]
    scales.requires_grad_(True)
    density = -model.free_energy(units.from_rows(x)) - pixels * scales.sum()
    (expected,) = torch.autograd.grad((weight * density).sum(), scales)
    scales.requires_grad_(False)
    data = mean_states(model, units.from_rows(x), weight)
    model.set_grad(data, data)
    assert_close(scales.grad, expected, **CLOSE)
