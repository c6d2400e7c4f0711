"""ConvRBM: images of every form in, features and images out."""

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.signal import correlate2d
from sklearn.base import clone
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skebm import BernoulliRBM, ConvRBM, Exact, RBMImputer, log_likelihood, log_partition


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def colours():
    """Patches of two photographs: (400, 12, 12, 3), bytes."""
    images = load_sample_images().images
    return np.concatenate(
        [extract_patches_2d(image, (12, 12), max_patches=200, random_state=0) for image in images]
    )


def fitted(X, **params):
    settings = {"n_components": 3, "kernel_size": 3, "n_iter": 1, "random_state": 0}
    return ConvRBM(**(settings | params)).fit(X)


def fields(rbm, images, stride=1):
    """x_f(i, j) of images (n, channels, h, w), by scipy: (n, n_components, places)."""
    W, c = rbm.components_.astype(np.float64), rbm.intercept_hidden_
    return np.array(
        [
            [
                sum(correlate2d(v, w, "valid") for v, w in zip(image, filters))[::stride, ::stride]
                + bias
                for filters, bias in zip(W, c)
            ]
            for image in images
        ]
    )


@pytest.mark.parametrize(("stride", "channels_last"), [(1, True), (2, False)])
def test_features_and_free_energies_are_those_of_the_formula(stride, channels_last, colours):
    X = colours[:50] / 255.0
    X = X if channels_last else X.transpose(0, 3, 1, 2)
    rbm = fitted(X, stride=stride, channels_last=channels_last)
    images = X[:4].transpose(0, 3, 1, 2) if channels_last else X[:4]
    x = fields(rbm, images, stride)
    maps = rbm.transform_maps(X[:4])
    assert_allclose(maps, sigmoid(x), rtol=1e-6)
    assert_array_equal(rbm.transform(X[:4]), maps.reshape(4, -1))
    bias = rbm.intercept_visible_[:, None, None]
    expected = -(images * bias).sum((1, 2, 3)) - np.logaddexp(0, x).sum((1, 2, 3))
    assert_allclose(rbm.free_energy(X[:4]), expected, rtol=1e-6)
    h = np.random.default_rng(0).uniform(size=maps.shape)
    down = np.zeros((4, *images.shape[1:]))
    for f, i, j in itertools.product(*map(range, maps.shape[1:])):
        place = (slice(stride * i, stride * i + 3), slice(stride * j, stride * j + 3))
        down[(slice(None), slice(None), *place)] += (
            h[:, f, i, j, None, None, None] * (rbm.components_[f])
        )
    expected = sigmoid(down + bias)
    expected = expected.transpose(0, 2, 3, 1) if channels_last else expected
    back = rbm.inverse_transform(h.reshape(4, -1))
    assert_allclose(back, expected, rtol=1e-5)


def test_pooled_features_are_the_probability_that_a_block_is_on(digits):
    X = digits[0][:100]
    rbm = fitted(X, pool_size=2)
    weight = np.exp(fields(rbm, X[:5].reshape(5, 1, 8, 8))).reshape(5, 3, 3, 2, 3, 2)
    total = weight.sum((3, 5))
    assert_allclose(rbm.transform_maps(X[:5]), total / (1 + total), rtol=1e-6)
    assert rbm.maps_shape_ == (3, 3, 3)
    assert len(rbm.get_feature_names_out()) == 27
    bias = rbm.intercept_visible_[0]
    expected = -bias * X[:5].sum(1) - np.log1p(total).sum((1, 2, 3))
    assert_allclose(rbm.free_energy(X[:5]), expected, rtol=1e-6)


def test_images_and_rows_are_the_same_data(digits):
    X = digits[0][:60]
    by_rows = fitted(X)
    for images, last in (
        (X.reshape(60, 8, 8), True),
        (X.reshape(60, 8, 8, 1), True),
        (X.reshape(60, 1, 8, 8), False),
    ):
        rbm = fitted(images, channels_last=last)
        assert_array_equal(rbm.components_, by_rows.components_)
        assert rbm.input_shape_ == images.shape[1:]
        assert_array_equal(rbm.transform(images), by_rows.transform(X))
        assert_array_equal(rbm.transform(X), by_rows.transform(X))
        for back, expected in (
            (
                rbm.inverse_transform(rbm.transform(images)),
                by_rows.inverse_transform(rbm.transform(X)),
            ),
            (rbm.gibbs(images, 3, random_state=0), by_rows.gibbs(X, 3, random_state=0)),
            (rbm.sample(60, 5, random_state=0), by_rows.sample(60, 5, random_state=0)),
        ):
            assert back.shape == images.shape
            assert_array_equal(back.reshape(60, 64), expected)
    assert fitted(X.reshape(60, 8, 8).tolist()).input_shape_ == (8, 8)
    assert_array_equal(fitted(sparse.csr_array(X)).components_, by_rows.components_)


def test_where_the_channels_stand_changes_no_number(colours):
    X = colours[:40] / 255.0
    last = fitted(X)
    first = clone(last).set_params(channels_last=False).fit(X.transpose(0, 3, 1, 2))
    for name in ("components_", "intercept_visible_", "intercept_hidden_"):
        setattr(first, name, getattr(last, name))
    assert_allclose(first.transform(X.transpose(0, 3, 1, 2)), last.transform(X), rtol=1e-10)
    rows = clone(last).set_params(image_shape=(12, 12, 3)).fit(X.reshape(40, -1))
    assert_array_equal(rows.components_, last.components_)
    assert rows.sample(2, n_steps=1).shape == (2, 432)


@pytest.mark.parametrize(
    ("n_features", "image_shape", "expected"),
    [
        (36, "auto", (6, 6, 1)),
        (10, "auto", (1, 10, 1)),
        (12, (3, 4), (3, 4, 1)),
        (12, [2, 2, 3], (2, 2, 3)),
    ],
)
def test_rows_are_images(n_features, image_shape, expected):
    X = np.random.default_rng(0).uniform(size=(20, n_features))
    rbm = fitted(X, image_shape=image_shape, kernel_size=(2, 3))
    assert rbm.image_shape_ == expected
    assert rbm.kernel_shape_ == (min(2, expected[0]), min(3, expected[1]))
    assert rbm.transform(X).shape == (20, np.prod(rbm.maps_shape_))


@pytest.mark.parametrize(
    ("params", "shape", "message"),
    [
        ({"image_shape": (3, 5)}, (20, 12), r"image_shape=\(3, 5\) has 15 pixels.*12 features"),
        ({"image_shape": (12,)}, (20, 12), "two or three positive integers"),
        ({"image_shape": (3, -4)}, (20, 12), "two or three positive integers"),
        ({"image_shape": (3, 5)}, (20, 3, 4), r"images of shape \(3, 4, 1\)"),
        ({"kernel_size": (2, 2, 2)}, (20, 16), "kernel_size must be"),
        ({"kernel_size": (0, 2)}, (20, 16), "kernel_size must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(params, shape, message):
    rbm = ConvRBM(**params)
    with pytest.raises(ValueError, match=message):
        rbm.fit(np.zeros(shape))
    assert not [name for name in vars(rbm) if name.endswith("_")]


def test_images_of_another_shape_are_refused_after_the_fit():
    rbm = fitted(np.random.default_rng(0).uniform(size=(20, 4, 6)))
    with pytest.raises(
        ValueError, match=r"shape \(6, 4, 1\).*fitted to images of shape \(4, 6, 1\)"
    ):
        rbm.transform(np.zeros((2, 6, 4)))
    with pytest.raises(ValueError, match="X has 7 features"):
        rbm.inverse_transform(np.zeros((2, 7)))


# Learning


def test_a_trained_model_has_the_statistics_of_the_data_on_average_over_places():
    # Rows of eight pixels, with bars of two pixels at random places.
    rng = np.random.default_rng(0)
    X = np.zeros((200, 8))
    for row, place in zip(X, rng.integers(0, 7, 200)):
        row[place : place + 2] = 1
    rbm = ConvRBM(
        4,
        kernel_size=3,
        image_shape=(1, 8),
        gradient=Exact(),
        learning_rate=5.0,
        max_grad_norm=None,
        batch_size=200,
        n_iter=1000,
        random_state=0,
    ).fit(X)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    p = np.exp(log_likelihood(rbm, every))
    assert_allclose(p.sum(), 1, rtol=1e-5)
    assert_allclose(p @ every.mean(1), X.mean(), atol=5e-3)

    def moments(v, weight):
        """The gradient's statistic: activity of a filter times the pixels of its window."""
        h = rbm.transform_maps(v)[:, :, 0]  # (n, 4, 6)
        windows = np.lib.stride_tricks.sliding_window_view(v, 3, axis=1)  # (n, 6, 3)
        return np.einsum("n,nfi,nik->fk", weight, h, windows) / 6

    assert_allclose(moments(every, p), moments(X, np.full(200, 1 / 200)), atol=0.01)
    # It puts bars of two where chance alone, at this mean, would have one row in a hundred.
    bars = every[(every.sum(1) == 2) & ((every[:, :-1] * every[:, 1:]).sum(1) == 1)]
    assert np.exp(log_likelihood(rbm, bars)).sum() > 0.4


def test_a_step_is_that_of_one_place_whatever_the_size_of_the_image():
    # The same texture in a small and in a large image has the same gradient.
    rng = np.random.default_rng(0)
    large = np.tile(rng.integers(0, 2, (1, 4, 4)).astype(float), (1, 20, 20))
    steps = []
    for X in (large[:, :23, :23], large[:, :43, :43]):
        rbm = ConvRBM(4, kernel_size=4, n_iter=0, random_state=0, gradient="cd").fit(X)
        before = rbm.components_.copy()
        repeated = np.repeat(X, 200, axis=0)
        rbm.set_params(batch_size=200, max_grad_norm=None, centered=False)
        steps.append(rbm.partial_fit(repeated).components_ - before)
    assert np.abs(steps[0]).max() > 5e-3
    assert np.abs(steps[0] - steps[1]).max() < 0.4 * np.abs(steps[0]).max()  # noise


@pytest.mark.parametrize("data", ["digits", "bytes", "standardised", "in [0, 1]"])
@pytest.mark.parametrize("pool_size", [None, 2])
def test_the_defaults_learn_from_images_of_every_scale(data, pool_size, digits, colours):
    colours = colours[:, :9, :9]
    X, visible = {
        "digits": (digits[0][:600], "bernoulli"),
        "bytes": (colours, "gaussian"),
        "standardised": ((colours - colours.mean()) / colours.std(), "gaussian"),
        "in [0, 1]": (colours / 255.0, "continuous"),
    }[data]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rbm = ConvRBM(visible=visible, pool_size=pool_size, random_state=0).fit(X)
    error = rbm.history_["reconstruction_error"]
    assert np.isfinite(error).all()
    assert error[-1] < 0.97 * error[0]
    back = rbm.inverse_transform(rbm.transform(X))
    assert_allclose(np.square(back - X).mean(), error[-1], rtol=0.1)


def test_values_out_of_range_are_told_of_and_survived(colours):
    with pytest.warns(UserWarning, match="between 0 and 1"):
        rbm = fitted(colours)
    assert np.isfinite(rbm.components_).all()


def test_real_valued_channels_have_moments_of_their_own(colours):
    X = colours * np.array([1.0, 100.0, 0.01])
    X[..., 2] = 3.0
    for last, images in ((True, X), (False, X.transpose(0, 3, 1, 2))):
        rbm = fitted(images, visible="gaussian", channels_last=last)
        location = rbm.location_.reshape(images.shape[1:])
        scale = rbm.scale_.reshape(images.shape[1:])
        location, scale = (a if last else a.transpose(1, 2, 0) for a in (location, scale))
        assert_allclose(location[5, 7], X.mean((0, 1, 2)), rtol=1e-4)
        assert_allclose(scale[5, 7], [*X[..., :2].std((0, 1, 2)), 1], rtol=1e-4)
        back = rbm.inverse_transform(rbm.transform(images))
        back = back if last else back.transpose(0, 2, 3, 1)
        assert np.abs(back[..., 1] - X[..., 1]).mean() < X[..., 1].std()
    weight = np.repeat([0, 2], [100, 300])
    weighted = fitted(X, visible="gaussian").fit(X, sample_weight=weight)
    assert_allclose(weighted.location_[:3], X[100:].mean((0, 1, 2)), rtol=1e-4)


def test_densities_of_real_valued_images_integrate_to_one():
    X = np.random.default_rng(0).normal(3, 2, size=(50, 1, 2))
    rbm = fitted(X, visible="gaussian", kernel_size=1, n_components=2, n_iter=3)
    grid = np.linspace(-15, 20, 120)
    every = np.array(list(itertools.product(grid, grid)))
    p = np.exp(log_likelihood(rbm, every, log_z=log_partition(rbm)))
    assert_allclose(p.sum() * (grid[1] - grid[0]) ** 2, 1, rtol=1e-3)
    assert_allclose(rbm.score_samples(every[:5]), np.log(p[:5]), rtol=1e-4)
    assert rbm.log_scales_.shape == (1,)
    assert np.abs(rbm.log_scales_) > 1e-3
    assert not hasattr(rbm.set_params(variance="fixed").fit(X), "log_scales_")


def test_the_learned_variance_of_pixels_is_what_the_filters_leave_unexplained():
    # Bars of three pixels somewhere in a row, of brightness 5, under noise of deviation 1.
    rng = np.random.default_rng(0)
    X = rng.normal(0, 1, (2000, 1, 12))
    for row, place in zip(X[:, 0], rng.integers(0, 10, 2000)):
        row[place : place + 3] += 5
    rbm = ConvRBM(4, kernel_size=5, visible="gaussian", n_iter=40, random_state=0).fit(X)
    assert 0.9 < rbm.scale_[0] * np.exp(rbm.log_scales_[0]) < 1.5 < 2 < X.std()


@pytest.mark.parametrize(("n_images", "n_epochs"), [(20, 100), (1000, 20), (4000, 10)])
def test_few_images_are_seen_more_often(n_images, n_epochs):
    X = np.random.default_rng(0).integers(0, 2, (n_images, 3, 3))
    assert fitted(X, n_iter=None).n_iter_ == n_epochs


def test_the_variance_of_pixels_is_their_scale_times_the_temperature():
    X = np.random.default_rng(0).normal(5, 3, (100, 6, 6))
    rbm = fitted(X, visible="gaussian", temperature=2.0)
    rbm.components_[:] = 0
    variance = rbm.sample(2000, n_steps=1, random_state=0).var()
    expected = 2 * (rbm.scale_[0] * np.exp(rbm.log_scales_[0])) ** 2
    assert_allclose(variance, expected, rtol=0.03)


# What a fitted model can do


def test_an_occluded_half_is_filled_in_given_the_other(digits):
    X = digits[0].reshape(-1, 8, 8)
    rbm = ConvRBM(24, n_iter=15, learning_rate=0.5, gradient="pcd", random_state=0).fit(X[:1500])
    kept = np.zeros((8, 8), dtype=bool)
    kept[:, :4] = True
    occluded = np.where(kept, X[1500:], 0.5)
    filled = rbm.gibbs(occluded, 20, clamped=kept, random_state=0)
    assert_array_equal(filled[:, kept], X[1500:, kept])
    by_row = rbm.gibbs(occluded, 20, clamped=kept.ravel(), random_state=0)
    assert_array_equal(filled, by_row)
    missing = np.where(kept, X[1500:], np.nan)
    means = rbm.impute(missing, random_state=0)
    assert_array_equal(means[:, kept], X[1500:, kept])
    error = np.square(means - X[1500:])[:, ~kept].mean()
    assert error < 0.9 * np.square(X[1500:, ~kept] - X[:1500, ~kept].mean()).mean()


def test_an_imputer_takes_it(digits):
    X = digits[0][:200].copy()
    X[np.random.default_rng(0).uniform(size=X.shape) < 0.1] = np.nan
    filled = RBMImputer(ConvRBM(8, n_iter=2), random_state=0).fit_transform(X)
    assert np.isfinite(filled).all()


def test_the_pseudo_likelihood_scores_rows(digits):
    X = (digits[0] > 0.5).astype(float)
    rbm = fitted(X[:500], pool_size=2, n_iter=3)
    expected = np.zeros(3)
    for pixel in range(64):
        other = X[:3].copy()
        other[:, pixel] = 1 - other[:, pixel]
        expected -= np.logaddexp(0, rbm.free_energy(X[:3]) - rbm.free_energy(other))
    assert_allclose(rbm.score_samples(X[:3]), expected, rtol=1e-6)
    estimate = rbm.history_["score"][-1]
    assert abs(estimate - rbm.score(X[:500])) < 2


def test_two_of_them_and_a_classifier_in_a_grid_search(digits):
    X, y = digits
    first = ConvRBM(12, kernel_size=3, n_iter=3, random_state=0)
    second = ConvRBM(
        16,
        kernel_size=2,
        image_shape=(12, 6, 6),
        channels_last=False,
        pool_size=2,
        n_iter=10,
        random_state=0,
    )
    model = Pipeline(
        [
            ("one", first),
            ("two", second),
            ("scale", StandardScaler()),
            ("last", LogisticRegression(max_iter=500)),
        ]
    )
    search = GridSearchCV(model, {"two__n_components": [1, 16]}, cv=2).fit(X[:800], y[:800])
    assert search.best_params_ == {"two__n_components": 16}
    assert search.score(X[800:], y[800:]) > 0.85
    fitted_first, fitted_second = (search.best_estimator_[k] for k in ("one", "two"))
    assert fitted_first.maps_shape_ == fitted_second.image_shape_ == (12, 6, 6)
    assert fitted_second.transform_maps(
        fitted_first.transform_maps(X[:3].reshape(3, 8, 8))
    ).shape == (
        3,
        16,
        3,
        3,
    )


def test_its_features_tell_digits_apart_from_few_rows(digits):
    X, y = digits
    scores = []
    for rbm in (
        ConvRBM(32, pool_size=2, sparsity_target=0.05, random_state=0),
        BernoulliRBM(128, random_state=0),
    ):
        classifier = LogisticRegression(max_iter=2000)
        model = make_pipeline(rbm, StandardScaler(), classifier).fit(X[:300], y[:300])
        scores.append(model.score(X[300:], y[300:]))
    assert scores[0] > scores[1] > 0.86


def test_grey_pixels_are_drawn_where_they_are_mostly_noise(digits):
    grey, clear = digits[0][:50], digits[0][:50] > 0.5
    for X, chosen, noise in ((grey, "sample", 0.5), (clear * 1.0, "mean", 0.0)):
        rbm, same = fitted(X), fitted(X, grey_values=chosen)
        assert abs(rbm.noise_share_ - noise) < 0.1
        assert_array_equal(rbm.components_, same.components_)
    differs = fitted(grey, grey_values="mean").components_ - fitted(grey).components_
    assert np.abs(differs).max() > 1e-3


def test_training_goes_on_with_the_same_geometry_only(digits):
    X = digits[0][:50]
    rbm = fitted(X, warm_start=True, gradient="pcd")
    with pytest.raises(ValueError, match=r"kernel_size"):
        rbm.set_params(kernel_size=4).fit(X)
    before = rbm.components_.copy()
    assert np.abs(rbm.set_params(kernel_size=3).fit(X).components_ - before).max() > 0
    rbm.set_params(stride=2).fit(X)  # with new chains
    assert rbm.h_samples_.shape == (10, 3 * 3 * 3)


def test_training_can_be_watched_in_pieces(digits, monkeypatch):
    X = (digits[0][:30] > 0.5).astype(float)
    whole = fitted(X, pool_size=2)
    monkeypatch.setattr("skebm.engine.batches.CHUNK", 7 * (64 + 3 * 36))
    pieces = fitted(X, pool_size=2)
    for name in ("score", "reconstruction_error"):
        assert_allclose(pieces.history_[name], whole.history_[name], rtol=1e-10)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian", "continuous"])
def test_a_new_model_starts_at_the_mean_of_each_channel(visible, channels_last):
    # Kernels of one pixel see no edge.
    X = np.random.default_rng(0).uniform(size=(50, 5, 4, 3)) ** [0.3, 1.0, 3.0]
    mean = X.mean((0, 1, 2))
    images = np.broadcast_to(mean, (1, 5, 4, 3))
    if not channels_last:
        X, images = X.transpose(0, 3, 1, 2), images.transpose(0, 3, 1, 2)
    rbm = fitted(
        X, n_components=8, kernel_size=1, n_iter=0, visible=visible, channels_last=channels_last
    )
    assert 0.01 < rbm.components_.std() < 0.1
    features = rbm.transform(images)
    assert_allclose(features, 1 / (1 + np.e), rtol=1e-5)
    assert_allclose(rbm.inverse_transform(features), images, rtol=1e-5)


def test_samples_start_at_the_mean_of_each_pixel():
    X = np.random.default_rng(0).uniform(size=(200, 6, 6)) ** np.linspace(0.2, 5, 36).reshape(6, 6)
    rbm = fitted(X, n_components=1, kernel_size=1, n_iter=0)
    # A pixel turns its hidden unit on, which turns it on: states stay what they are.
    rbm.components_[:] = 60
    rbm.intercept_visible_[:] = rbm.intercept_hidden_[:] = -30
    share = rbm.sample(2000, n_steps=1, random_state=0).mean(0)
    assert_allclose(share, X.mean(0), atol=5 * 0.5 / 2000**0.5)


def test_blocks_of_any_size_are_pooled_up_to_the_edge(digits):
    X = digits[0][:50]
    rbm = fitted(X, pool_size=4, kernel_size=(3, 2))
    weight = np.exp(fields(rbm, X[:5].reshape(5, 1, 8, 8)))  # (5, 3, 6, 7)
    assert rbm.maps_shape_ == (3, 2, 2)
    for i, j in itertools.product(range(2), repeat=2):
        total = weight[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].sum((2, 3))
        assert_allclose(rbm.transform_maps(X[:5])[:, :, i, j], total / (1 + total), rtol=1e-6)


def test_images_that_are_not_square_may_have_their_channels_first(colours):
    X = colours[:40, :7, :5] / 255.0
    last = fitted(X, kernel_size=(3, 2), stride=2)
    first = fitted(X.transpose(0, 3, 1, 2), kernel_size=(3, 2), stride=2, channels_last=False)
    assert first.maps_shape_ == last.maps_shape_ == (3, 3, 2)
    for name in ("components_", "intercept_visible_", "intercept_hidden_"):
        setattr(first, name, getattr(last, name))
    features = last.transform(X)
    assert_allclose(first.transform(X.transpose(0, 3, 1, 2)), features, rtol=1e-10)
    back = first.inverse_transform(features)
    assert_allclose(back.transpose(0, 2, 3, 1), last.inverse_transform(features), rtol=1e-10)


@pytest.mark.parametrize("params", [{}, {"image_shape": (8, 4)}])
def test_where_the_one_channel_stands_changes_nothing(params, digits):
    X = digits[0][:60].reshape(60, 8, 8)[:, :, :4]
    X = X.reshape(60, -1) if params else X
    last, first = fitted(X, **params), fitted(X, channels_last=False, **params)
    assert (last.image_shape_, first.image_shape_) == ((8, 4, 1), (1, 8, 4))
    assert_array_equal(first.components_, last.components_)
    assert_array_equal(first.transform(X), last.transform(X))


def test_filters_of_another_width_are_refused_too(digits):
    X = digits[0][:50]
    rbm = fitted(X, warm_start=True)
    with pytest.raises(ValueError, match=r"kernel_size=\(3, 4\)"):
        rbm.set_params(kernel_size=(3, 4)).fit(X)


@pytest.mark.parametrize("pool_size", [None, 2])
def test_the_reconstruction_error_is_that_of_features_and_back(pool_size, digits):
    # The probe is a thousand draws from the rows: one row, so that it is known.
    X = np.repeat(digits[0][:1], 10, axis=0)
    rbm = fitted(X, pool_size=pool_size)
    error = np.square(rbm.inverse_transform(rbm.transform(X)) - X).mean()
    assert_allclose(rbm.history_["reconstruction_error"][-1], error, rtol=1e-6)


@pytest.mark.parametrize("fitted_to", [(64,), (8, 8), (8, 8, 1)])
@pytest.mark.parametrize("n_samples", [None, 5])
def test_masks_may_be_images_whatever_the_model_was_fitted_to(fitted_to, n_samples, digits):
    X = digits[0][:60]
    rbm = fitted(X.reshape(60, *fitted_to))
    mask = np.zeros(64, dtype=bool)
    mask[:30] = True
    mask = mask if n_samples is None else np.tile(mask, (n_samples, 1))
    expected = rbm.gibbs(X[:5], 2, clamped=mask, random_state=0)
    for shape in ((64,), (8, 8), (8, 8, 1)):
        clamped = mask.reshape(*mask.shape[:-1], *shape)
        assert_array_equal(rbm.gibbs(X[:5], 2, clamped=clamped, random_state=0), expected)


@pytest.mark.slow
def test_memory_holds_the_maps_of_some_images_at_a_time():
    code = """
import resource
import numpy as np
from skebm import ConvRBM
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
X = np.random.default_rng(0).integers(0, 2, (20_000, 28, 28), dtype=np.uint8)
rbm = ConvRBM(40, kernel_size=9, pool_size=4, batch_size=100, n_iter=0, random_state=0).fit(X[:99])
before = peak()
rbm.partial_fit(X)
rbm.transform(X)
rbm.inverse_transform(np.zeros((20_000, 1000), dtype=np.float32))
print(20_000 * 40 * 20 * 20 * 4 / 2**30, peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    maps, peak = map(float, run.stdout.split())
    assert maps > 1
    assert peak < 0.5 * maps
