"""Plots, drawn without a screen: tests of the data in the artists."""

import sys
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

import skebm
from skebm import DBN, BernoulliRBM, ConvRBM, GaussianRBM, RBMClassifier, TabularRBM

mpl.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")
components = skebm.ComponentsDisplay.from_estimator
training = skebm.TrainingDisplay.from_estimator
reconstruction = skebm.ReconstructionDisplay.from_estimator
samples = skebm.SamplesDisplay.from_estimator
likelihood = skebm.LikelihoodDisplay.from_estimator
RNG = np.random.default_rng(0)
X16, Y16 = RNG.uniform(size=(30, 16)), np.repeat(["a", "b", "c"], 10)
SIGNAL = [f"t{i}" for i in range(16)]
AGE, OLD = RNG.normal(50, 9, 30), X16[:, 0] > 0.5
TABLE = pd.DataFrame({"suit": [*"shc"] * 10, "age": AGE, "old": OLD})


@pytest.fixture(autouse=True)
def _clean():
    before = mpl.rcParams.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert mpl.rcParams == before
    plt.close("all")


def fitted(n_features=12, n_components=5, kind=BernoulliRBM, names=None, **settings):
    X = np.random.default_rng(0).uniform(size=(30, n_features))
    X = X if names is None else pd.DataFrame(X, columns=names)
    return kind(n_components, **({"n_iter": 1, "random_state": 0} | settings)).fit(X)


def pictures(axes):
    """The arrays of the images in axes."""
    return [np.asarray(place.images[0].get_array()) for place in np.ravel(axes)]


def lines(axes):
    """The ydata of the first lines in axes."""
    return np.array([place.lines[0].get_ydata() for place in np.ravel(axes)])


def refused(match, draw, *args, **settings):
    with pytest.raises(ValueError, match=match):
        draw(*args, **settings)


def yticks(place):
    return [label.get_text() for label in place.get_yticklabels()]


@pytest.mark.parametrize("image_shape", [None, (2, 8), (8, 2, 1)])
def test_images_are_the_components_in_their_shape(image_shape):
    rbm = fitted(16)
    display = components(rbm, image_shape=image_shape)
    assert [len(place.images) for place in display.ax_.flat] == [1, 1, 1, 1, 1, 0]
    for place, component in zip(display.ax_.flat, rbm.components_, strict=False):
        shape = (4, 4) if image_shape is None else image_shape[:2]
        assert_array_equal(pictures(place)[0], component.reshape(shape))
        assert_allclose(place.images[0].get_clim(), np.array([-1, 1]) * np.abs(component).max())
    rbm = fitted(12)
    drawn = pictures(components(rbm, image_shape=(2, 2, 3)).ax_.flat[:5])
    for image, component in zip(drawn, rbm.components_, strict=True):
        expected = (component / np.abs(component).max() + 1) / 2
        assert_allclose(image, expected.reshape(2, 2, 3), rtol=1e-5)
    display.figure_.canvas.draw()


def test_any_number_of_components():
    for n, n_columns, size in ((1, None, (1, 1)), (5, 5, (1, 5)), (30, 7, (5, 7))):
        display = components(fitted(16, 30), n_components=n, n_columns=n_columns)
        assert display.ax_.shape == size
        assert sum(len(place.images) for place in display.ax_.flat) == n


@pytest.mark.parametrize("is_in_grid", [True, False])
def test_it_draws_in_the_place_of_given_axes(is_in_grid):
    figure, (left, right) = plt.subplots(1, 2)
    if not is_in_grid:
        right = figure.add_axes((0.5, 0.5, 0.3, 0.3))
    display = components(fitted(16), ax=right)
    assert display.figure_ is figure
    box = right.get_position()
    for place in display.ax_.flat:
        assert place.get_position().x0 >= box.x0 - 1e-9
        assert place.get_position().y1 <= box.y1 + 1e-9
    assert left.axison > right.axison


NAMED = [(SIGNAL, "line"), (SIGNAL[::-1], "heatmap"), ([*"abcdefghijklmnop"], "heatmap")]
UNNAMED = [(None, "image"), (range(16), "image")]  # numbers are no names


@pytest.mark.parametrize(("names", "kind"), NAMED + UNNAMED)
def test_names_of_features_decide_what_is_drawn(names, kind):
    rbm = fitted(16, names=names)
    assert components(rbm).kind_ == kind
    assert components(rbm, image_shape=(2, 8)).components.shape == (5, 2, 8)
    assert {components(rbm, kind=k).kind_ for k in ("image", "line")} == {"image", "line"}
    # Names also count where the steps of a pipeline turn the rows into arrays.
    X = pd.DataFrame(X16, columns=names)
    for first in (MinMaxScaler(clip=True), FunctionTransformer(np.asarray)):
        model = make_pipeline(first, BernoulliRBM(3, n_iter=1)).fit(X)
        assert components(model).kind_ == kind


def test_components_that_are_no_images_are_lines():
    rbm = fitted(12)
    assert_array_equal(lines(components(rbm).ax_.flat[:5]), rbm.components_)
    rbm = ConvRBM(4, n_iter=1).fit(X16[:, None, :])
    assert_array_equal(lines(components(rbm).ax_), rbm.components_[:, 0, 0])
    assert components(PCA(4).fit(X16)).kind_ == "image"


def test_a_heat_map_has_a_line_for_each_named_feature():
    rbm = fitted(4, 6, GaussianRBM, names=["d", "c", "b", "a"])
    place = components(rbm).ax_[0, 0]
    assert_array_equal(pictures(place)[0], rbm.components_.T)
    assert yticks(place) == ["d", "c", "b", "a"]
    assert_allclose(place.images[0].get_clim(), np.array([-1, 1]) * np.abs(rbm.components_).max())


def test_a_heat_map_of_a_table_has_its_columns_and_categories_in_their_order():
    rbm = TabularRBM(3, n_iter=1, random_state=0).fit(TABLE)
    display = components(rbm)
    assert yticks(display.ax_[0, 0]) == ["suit=c", "suit=h", "suit=s", "age", "old"]
    # The model has its units in the order age, old, suit.
    assert_array_equal(pictures(display.ax_)[0], rbm.components_.T[[2, 3, 4, 0, 1]])
    rbm = skebm.CategoricalRBM(3, n_iter=1).fit(TABLE[["suit"]].to_numpy())
    assert yticks(components(rbm).ax_[0, 0]) == ["x0=c", "x0=h", "x0=s"]


def test_errors_of_components_say_what_is_wrong():
    refused(r"holds 9 pixels, .* 12 features", components, fitted(), image_shape=(3, 3))
    refused("must be .height, width. or", components, fitted(), image_shape=(3, 2, 2))
    refused("12 features are no square; pass", components, fitted(), kind="image")
    refused("kind must be None or one of", components, fitted(), kind="picture")
    refused("set only one", components, fitted(), kind="line", image_shape=(3, 4))
    refused("has 1 layers; pass an integer from 0 to 0", components, fitted(), layer=1)
    with pytest.raises(NotFittedError):
        components(BernoulliRBM())
    refused("`components_`; got Logistic", components, LogisticRegression().fit(X16, Y16))


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("channels_last", [True, False])
def test_filters_are_drawn_in_their_own_shape_and_in_colour(n_channels, channels_last):
    shape = (6, 5, n_channels) if channels_last else (n_channels, 6, 5)
    X = np.random.default_rng(0).uniform(size=(20, *shape))
    rbm = ConvRBM(4, kernel_size=(3, 2), channels_last=channels_last, n_iter=1).fit(X)
    display = components(make_pipeline(rbm))
    for image, filters in zip(pictures(display.ax_), rbm.components_, strict=True):
        expected = (filters.transpose(1, 2, 0) / np.abs(filters).max() + 1) / 2
        expected = filters[0] if n_channels == 1 else expected
        assert_allclose(image, expected, rtol=1e-5, strict=True)


def test_filters_of_two_channels_are_refused():
    rbm = ConvRBM(4, n_iter=1).fit(np.random.default_rng(0).uniform(size=(20, 4, 4, 2)))
    refused("these have 2", components, rbm)
    drawn = components(rbm, kind="line").ax_[0, 0].lines[:2]
    assert_array_equal([x.get_ydata() for x in drawn], rbm.components_[0].reshape(2, -1))


def test_the_components_of_estimators_that_contain_others():
    X = (X16 > 0.5) / 1.0
    rbm = BernoulliRBM(4, n_iter=1, random_state=0)
    for estimator in (
        DBN([rbm, 2], random_state=0),
        skebm.DBNClassifier([rbm, 2], n_iter=0, random_state=0),
        skebm.RBMImputer(rbm),
        RBMClassifier(4, n_iter=1),
        make_pipeline(DBN([rbm, 2]), LogisticRegression()),
        GridSearchCV(make_pipeline(rbm, LogisticRegression()), {}, cv=2),
    ):
        with pytest.raises(NotFittedError):
            components(estimator)
        assert components(estimator.fit(X, X[:, 0])).components.shape == (4, 4, 4)


def test_deeper_layers_are_weighted_sums_of_the_layer_below():
    dbn = DBN([6, 4, 3], n_iter=1, random_state=0).fit(X16)
    W0, W1, W2 = (layer.components_ for layer in dbn.estimators_)
    display = components(dbn, layer=2)
    assert_allclose(np.ravel(pictures(display.ax_.flat[:3])), (W2 @ W1 @ W0).ravel(), rtol=1e-5)
    network = skebm.DBNClassifier([6, 4], n_iter=1, random_state=0).fit(X16, Y16)
    W0, W1 = (layer.components_ for layer in network.dbn_.estimators_)
    two = components(network, layer=1, n_components=2).components
    assert_allclose(two.reshape(2, 16), (W1 @ W0)[:2], rtol=1e-5)


@pytest.mark.parametrize("pool_size", [None, 2])
def test_a_deeper_convolution_is_a_sum_of_shifted_filters(pool_size):
    lower = ConvRBM(2, kernel_size=2, pool_size=pool_size, temperature=2.0)
    dbn = DBN([lower, ConvRBM(3, kernel_size=2)], n_iter=1, random_state=0)
    dbn.fit(np.random.default_rng(0).uniform(size=(20, 7, 9)))
    W0, W1 = (layer.components_ for layer in dbn.estimators_)
    expected = np.zeros((3, 7, 9))
    _, height, width = dbn.estimators_[1]._unpooled_shape()
    size = pool_size or 1
    for f, c, i, j in np.ndindex(*W1.shape):  # a unit of a pool has an equal share of its feature
        for a, b in np.ndindex(size, size):
            y, x = (height // 2 + i) * size + a, (width // 2 + j) * size + b
            expected[f, y : y + 2, x : x + 2] += W1[f, c, i, j] * W0[c, 0] / size**2
    assert_allclose(components(dbn, layer=1).components, expected, atol=1e-6)


def test_each_measure_has_an_axes_and_each_history_a_line():
    rbm = fitted(n_iter=3, early_stopping=True, gradient=skebm.ParallelTempering(n_levels=3))
    display = training(make_pipeline(rbm))
    names = ["score", "validation_score", "reconstruction_error", "swap_rate"]
    assert display.measures_ == names
    for place, name in zip(display.ax_, names, strict=True):
        (line,) = place.lines
        assert_array_equal(line.get_xdata(), [1, 2, 3])
        assert_array_equal(line.get_ydata(), rbm.history_[name])
        assert place.get_ylabel() == name.replace("_", " ")
        assert place.get_legend() is None
    ax = plt.figure().add_subplot()
    assert training(rbm, measures="swap_rate_min", line_kw={"ls": ":"}, ax=ax).ax_[0] is ax
    assert_array_equal(ax.lines[0].get_ydata(), rbm.history_["swap_rate_min"])
    assert ax.lines[0].get_linestyle() == ":"


def labelled(place):
    return {line.get_label(): line.get_ydata() for line in place.lines}


def test_layers_of_a_stack_are_lines_of_their_own():
    layers = [BernoulliRBM(5, n_iter=2), RBMClassifier(4, n_iter=3, objective="generative")]
    dbn = DBN(layers, fine_tune="up-down", fine_tune_n_iter=2, random_state=0).fit(X16, Y16)
    display = training(dbn, measures=["reconstruction_error", "log_loss"])
    errors, losses = map(labelled, display.ax_)
    assert [*errors] == ["layer 0", "layer 1", "up-down"]
    assert [*losses] == ["layer 1", "up-down"]
    assert_array_equal(errors["layer 0"], dbn.estimators_[0].history_["reconstruction_error"])
    assert_array_equal(losses["layer 1"], dbn.estimators_[1].history_["log_loss"])
    assert_array_equal(losses["up-down"], dbn.fine_tuning_["log_loss"])
    assert [text.get_text() for text in display.ax_[1].get_legend().texts] == [*losses]
    assert [line.get_color() for line in display.ax_[1].lines] == ["C1", "C2"]
    assert [*labelled(training(dbn, layer=-1).ax_[0])] == ["up-down"]
    refused(r"layer=7, but .* layers \[0, 1, -1\]", training, dbn, layer=7)


def test_several_estimators_are_compared():
    a, b = fitted(n_iter=2), fitted(n_iter=4, learning_rate=0.01)
    net = skebm.DBNRegressor([BernoulliRBM(3)], n_iter=2, random_state=0).fit(X16, X16[:, 0])
    display = skebm.TrainingDisplay.from_estimators({"a": a, "b": make_pipeline(b), "net": net})
    assert display.measures_ == ["score", "mean_squared_error", "reconstruction_error"]
    scores, errors, _ = map(labelled, display.ax_)
    assert [*scores] == ["a", "b", "net, layer 0"]
    assert_array_equal(scores["b"], b.history_["score"])
    assert_array_equal(errors["net, fine-tuning"], net.history_["mean_squared_error"])
    display = skebm.TrainingDisplay.from_estimators([a, net, b], measures=["score"])
    names = "BernoulliRBM 1", "DBNRegressor, layer 0", "BernoulliRBM 2"
    assert tuple(labelled(display.ax_[0])) == names
    refused(r"choose from \['score',", training, a, measures=["accuracy"])
    refused("at least one", skebm.TrainingDisplay.from_estimators, [])
    refused("no epoch", training, fitted(n_iter=0))
    refused("BernoulliRBM has no layers", training, a, layer=1)


def again(model, X):
    return model.inverse_transform(model.transform(X))


def test_rows_reconstructions_and_differences():
    dbn = DBN([6, 4], n_iter=1, random_state=0)
    model = make_pipeline(MinMaxScaler(clip=True), dbn, LogisticRegression())
    model = GridSearchCV(model, {}, cv=2).fit(3 * X16, Y16)
    display = reconstruction(model, 3 * X16, n_rows=4)
    scaler, dbn, _ = model.best_estimator_
    rows = scaler.transform(3 * X16)[:4]
    expected = again(dbn, rows)
    above, middle, below = (np.reshape(pictures(axes), (4, 16)) for axes in display.ax_)
    assert_allclose(above, rows)
    assert_allclose(middle, expected, rtol=1e-5)
    assert_allclose(below, expected - rows, atol=1e-6)
    scale = [min(rows.min(), expected.min()), max(rows.max(), expected.max())]
    assert_allclose(display.ax_[0, 0].images[0].get_clim(), scale, rtol=1e-5)
    labels = [place.get_ylabel() for place in display.ax_[:, 0]]
    assert labels == ["rows", "reconstructions", "differences"]
    refused("DBN has no `impute`", reconstruction, dbn, np.full((1, 16), np.nan))


@pytest.mark.parametrize("kind", ["image", "line"])
def test_missing_entries_are_filled_in_and_marked(kind):
    X = np.where(np.arange(16) < 3, np.nan, X16[:2])
    X[1, 5] = np.nan
    imputer = skebm.RBMImputer(BernoulliRBM(4, n_iter=1), random_state=0).fit(X16)
    for model, rbm in ((fitted(16),) * 2, (imputer, imputer.estimator_)):
        display = reconstruction(model, X, kind=kind, random_state=3)
        filled = rbm.impute(X, random_state=3)
        expected = np.where(np.isnan(X), filled, again(rbm, filled))
        assert_allclose(display.reconstructions.reshape(2, 16), expected, rtol=1e-5)
        assert_allclose(display.differences.reshape(2, 16), expected - X)  # NaN where X has it
        for i, missing in enumerate(np.isnan(X)):
            if kind == "line":
                points = display.ax_[1, i].lines[1]
                assert_array_equal(points.get_xdata(), np.flatnonzero(missing))
                assert_allclose(points.get_ydata(), expected[i][missing], rtol=1e-5)
                continue
            for place, alpha in zip(display.ax_[:, i], (1, 0.4, 1)):
                cover = np.asarray(place.images[1].get_array())  # RGBA
                assert_allclose(cover[..., 3].ravel(), alpha * missing)
                assert_allclose(cover[0, 0, :3], mpl.colors.to_rgb("tab:orange"))


@pytest.mark.parametrize("channels_last", [True, False])
def test_colour_images_are_reconstructed_in_their_shape(channels_last):
    X = np.random.default_rng(0).uniform(size=(20, 4, 5, 3))
    given = X if channels_last else X.transpose(0, 3, 1, 2)
    rbm = ConvRBM(2, channels_last=channels_last, n_iter=1, random_state=0).fit(given)
    display = reconstruction(rbm, given, n_rows=3)
    expected = again(rbm, given)[:3]
    expected = expected if channels_last else expected.transpose(0, 2, 3, 1)
    both = np.stack([X[:3], expected])
    low, high = both.min(), both.max()
    above, middle, below = map(pictures, display.ax_)
    assert_allclose(above, (X[:3] - low) / (high - low), atol=1e-6)
    assert_allclose(middle, (expected - low) / (high - low), atol=1e-6)
    difference = both[1] - both[0]
    assert_allclose(below, (difference / np.abs(difference).max() + 1) / 2, atol=1e-6)


def test_rows_of_a_table_are_heat_maps_of_standardised_columns():
    rbm = TabularRBM(3, n_iter=1, random_state=0).fit(TABLE)
    holes = TABLE.head(4).astype({"age": float})
    holes.loc[1, "age"] = np.nan
    display = reconstruction(rbm, holes, random_state=0)
    rows, filled, difference = pictures(display.ax_)
    assert yticks(display.ax_[0, 0]) == ["suit=c", "suit=h", "suit=s", "age", "old"]
    assert_array_equal(rows[:3], [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]])
    mean, spread = TABLE.age.mean(), TABLE.age.std(ddof=0)
    assert_allclose(rows[3, [0, 2, 3]], (TABLE.age[[0, 2, 3]] - mean) / spread, atol=1e-3)
    age = rbm.impute(holes, random_state=0).age[1]
    assert_allclose(filled[3, 1], (age - mean) / spread, atol=1e-3)
    assert_allclose(difference[0], filled[0] - rows[0])
    cover = np.asarray(display.ax_[0, 1].images[1].get_array())[..., 3]
    assert_allclose(cover, 0.4 * ((np.arange(5)[:, None] == 3) & (np.arange(4) == 1)))


def test_rows_of_samples_are_chains_and_columns_are_steps():
    rbm = fitted(16)
    for model in (rbm, make_pipeline(rbm)):
        display = samples(model, n_chains=2, n_steps=9, n_columns=3, random_state=1)
        draws = rbm.sample_chains(2, 9, random_state=1).draws
        for (i, j), place in np.ndenumerate(display.ax_):
            assert_array_equal(pictures(place)[0].ravel(), draws[i, [0, 4, 8][j]])
        assert [p.get_title() for p in display.ax_[0]] == ["step 1", "step 5", "step 9"]
        assert [place.get_ylabel() for place in display.ax_[:, 0]] == ["chain 0", "chain 1"]


@pytest.mark.parametrize("is_stack", [False, True])
def test_rows_of_samples_of_a_classifier_are_classes(is_stack):
    model = RBMClassifier(4, n_iter=1, random_state=0)
    model = DBN([6, model], n_iter=1, random_state=0) if is_stack else model
    model.fit(X16, Y16)
    settings = {"n_columns": 2, "n_steps": 5, "random_state": 1}
    display = samples(model, **settings)
    rows = model.sample(6, 5, y=["a", "a", "b", "b", "c", "c"], random_state=1)
    assert_array_equal(np.reshape(pictures(display.ax_), (6, 16)), rows)
    assert [place.get_ylabel() for place in display.ax_[:, 0]] == ["a", "b", "c"]
    assert samples(model, n_chains=4, by_class=False, **settings).ax_.shape == (4, 2)
    refused("BernoulliRBM has no classes", samples, fitted(), by_class=True)


def test_samples_of_a_stack_are_independent_and_those_of_a_table_heat_maps():
    dbn = DBN([6, 4], n_iter=1, random_state=0).fit(X16)
    settings = {"n_chains": 2, "n_steps": 5, "n_columns": 3, "random_state": 1}
    display = samples(dbn, **settings)
    drawn = np.reshape(pictures(display.ax_), (6, 16))
    assert_array_equal(drawn, dbn.sample(6, 5, random_state=1))
    rbm = TabularRBM(3, n_iter=1, random_state=0).fit(TABLE)
    display = samples(rbm, **settings)
    draws = rbm.sample_chains(2, 5, random_state=1).draws[:, [0, 2, 4]]  # age, old, suit
    draws[..., 0] = (draws[..., 0] - rbm.location_[0]) / rbm.scale_[0]
    for image, chain in zip(pictures(display.ax_), draws, strict=True):
        assert_allclose(image, chain[:, [2, 3, 4, 0, 1]].T, rtol=1e-6)
    assert [place.get_title() for place in display.ax_[0]] == ["chain 0", "chain 1"]


def test_rows_of_any_shape_are_drawn_from_left_to_right():
    images = X16[:5, :8].reshape(5, 2, 4)
    for X, settings in ((images, {}), (images.reshape(5, 8), {"image_shape": (2, 4)})):
        display = skebm.SamplesDisplay.from_samples(X, n_columns=3, **settings)
        assert display.ax_.shape == (2, 3)
        assert_array_equal(pictures(display.ax_.flat[:5]), images)
        assert not display.ax_[1, 2].images
    colours = np.random.default_rng(0).uniform(size=(2, 4, 5, 3))
    for X in (colours, torch.from_numpy(colours.transpose(0, 3, 1, 2))):
        drawn = np.array(pictures(skebm.SamplesDisplay.from_samples(X).ax_))
        low, high = colours.min(), colours.max()
        assert_allclose(drawn, (colours - low) / (high - low))
    drawn = skebm.SamplesDisplay.from_samples(pd.DataFrame(X16, columns=SIGNAL)).ax_
    assert_array_equal(lines(drawn), X16)
    refused("no numbers; to draw samples of a table", skebm.SamplesDisplay.from_samples, TABLE)
    refused(r"its shape is \(0, 3\)", skebm.SamplesDisplay.from_samples, np.zeros((0, 3)))


@pytest.mark.parametrize("response", ["score_samples", "log_likelihood", "free_energy"])
@pytest.mark.parametrize("density", [True, False])
def test_histograms_of_sets_have_the_same_bins(response, density):
    rbm = fitted(16)
    model, rows = make_pipeline(FunctionTransformer(lambda X: X / 2), rbm), X16[:20]
    sets = {"train": 2 * rows, "outside": 2 - 2 * rows[:5]}
    settings = {"threshold": 0.25, "bins": 7, "density": density}
    display = likelihood(model, sets, response_method=response, **settings)
    function = {
        "score_samples": rbm.score_samples,
        "log_likelihood": lambda X: skebm.log_likelihood(rbm, X, random_state=0),
        "free_energy": lambda X: -rbm.free_energy(X),
    }[response]
    scores = [function(rows), function(1 - rows[:5])]
    edges = np.histogram_bin_edges(np.concatenate(scores), 7)
    threshold = np.quantile(scores[0], 0.25)
    share = np.mean(scores[1] < threshold)
    names = ["train: 25.0 % below", f"outside: {100 * share:.1f} % below"]
    for patch, values, name in zip(display.ax_.patches, scores, names, strict=True):
        heights, drawn_edges, _ = patch.get_data()
        assert_allclose(drawn_edges, edges, rtol=1e-5)
        assert_allclose(heights, np.histogram(values, edges, density=density)[0], rtol=1e-4)
        assert patch.get_label() == name
    assert_allclose(display.ax_.lines[0].get_xdata(), threshold, rtol=1e-6)
    assert len(display.ax_.get_legend().texts) == 3


def test_scores_far_from_the_first_set_are_in_the_outermost_bins():
    scores = {"a": np.linspace(0, 1, 101), "b": np.array([-np.inf, -90, -1, 0.5, 90])}
    display = skebm.LikelihoodDisplay(scores, threshold=0.25).plot(bins=7, density=False)
    # Three widths beyond the quantiles 1 % and 99 % of the first set.
    assert_allclose(display.bin_edges_[[0, -1]], [0.01 - 3 * 0.98, 0.99 + 3 * 0.98])
    assert_array_equal(display.ax_.patches[1].get_data().values, [2, 1, 0, 1, 0, 0, 1])
    assert display.shares_below_ == {"a": 25 / 101, "b": 3 / 5}
    heights = display.plot(bins=[0.0, 0.25, 1.0], density=False).ax_.patches[1].get_data().values
    assert_array_equal(heights, [0, 1])


def test_errors_of_likelihoods_say_what_to_do():
    refused(r"between 0 and 1; got 1\.5", likelihood, fitted(), X16, threshold=1.5)
    refused(r"one of .*; got 'density'", likelihood, fitted(), X16, response_method="density")
    dbn = DBN([3], n_iter=1).fit(X16)
    refused("with `free_energy`; got DBN", likelihood, dbn, X16, response_method="free_energy")
    refused("X is empty", likelihood, fitted(), {})


# All displays

DISPLAYS = {
    skebm.ComponentsDisplay: lambda model, X: components(model),
    skebm.TrainingDisplay: lambda model, X: training(model),
    skebm.ReconstructionDisplay: reconstruction,
    skebm.SamplesDisplay: lambda model, X: samples(model, n_chains=2, n_columns=3, n_steps=4),
    skebm.LikelihoodDisplay: likelihood,
}
every_display = pytest.mark.parametrize("display", DISPLAYS, ids=lambda d: d.__name__)


@every_display
def test_a_fitted_stack_does_not_warn(display):  # see _clean: warnings are errors
    frame = pd.DataFrame(X16, columns=SIGNAL)
    residual = DBN([6, 4], n_iter=1, random_state=0, residual=(1, 1))
    for model in (
        residual,
        skebm.DBNClassifier([GaussianRBM(6), 4], n_iter=1),
        make_pipeline(residual),
    ):
        model.fit(frame, Y16)
        drawn = DISPLAYS[display](model, frame)
        assert drawn.figure_ is np.ravel(drawn.ax_)[0].figure
        drawn.figure_.canvas.draw()


@every_display
def test_matplotlib_is_needed_only_to_plot(display, monkeypatch):
    model = fitted(16)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    message = rf"{display.__name__} needs .* pip install 'skebm\[plot\]'"
    with pytest.raises(ImportError, match=message):
        DISPLAYS[display](model, X16)
