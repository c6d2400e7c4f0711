"""Pictures, drawn without a screen."""

import matplotlib as mpl
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skebm import DBN, BernoulliRBM, ComponentsDisplay, ConvRBM, DBNClassifier, RBMImputer

mpl.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def fitted(n_features=12, n_components=5):
    X = np.random.default_rng(0).uniform(size=(30, n_features))
    return BernoulliRBM(n_components, n_iter=1, random_state=0).fit(X)


@pytest.mark.parametrize(
    ("n_features", "image_shape", "drawn"),
    [
        (16, None, (4, 4)),
        (12, None, (1, 12)),
        (12, (3, 4), (3, 4)),
        (12, (2, 2, 3), (2, 2, 3)),
    ],
)
def test_images_are_the_components_in_their_shape(n_features, image_shape, drawn):
    rbm = fitted(n_features)
    display = ComponentsDisplay.from_estimator(rbm, image_shape=image_shape)
    images = [place.images for place in display.ax_.flat]
    assert [len(image) for image in images] == [1, 1, 1, 1, 1, 0]
    for (image,), component in zip(images[:5], rbm.components_):
        shown = np.asarray(image.get_array())
        assert shown.shape == drawn
        if len(drawn) == 3:
            component = (component / np.abs(component).max() + 1) / 2
        assert_allclose(shown.ravel(), component)
        if len(drawn) == 2:
            assert_allclose(image.get_clim(), np.array([-1, 1]) * np.abs(component).max())
    display.figure_.canvas.draw()


@pytest.mark.parametrize(
    ("n", "n_columns", "grid"), [(1, None, (1, 1)), (5, 5, (1, 5)), (30, 7, (5, 7))]
)
def test_any_number_of_components(n, n_columns, grid):
    display = ComponentsDisplay.from_estimator(fitted(16, 30), n_components=n, n_columns=n_columns)
    assert display.ax_.shape == grid
    assert sum(len(place.images) for place in display.ax_.flat) == n


def test_it_draws_in_the_place_of_given_axes():
    figure, (left, right) = plt.subplots(1, 2)
    display = ComponentsDisplay.from_estimator(fitted(16), ax=right)
    assert display.figure_ is figure
    box = right.get_position()
    for place in display.ax_.flat:
        assert place.get_position().x0 >= box.x0 - 1e-9
        assert place.get_position().y1 <= box.y1 + 1e-9
    assert left.axison
    assert not right.axison


def test_it_finds_the_model_in_a_pipeline():
    X = np.random.default_rng(0).uniform(size=(30, 9))
    model = make_pipeline(MinMaxScaler(), BernoulliRBM(4, n_iter=1)).fit(X)
    display = ComponentsDisplay.from_estimator(model)
    assert_allclose(display.components.reshape(4, 9), model[1].components_)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"image_shape=.* holds 9 pixels, .* has 12 features"):
        ComponentsDisplay.from_estimator(fitted(), image_shape=(3, 3))
    with pytest.raises(NotFittedError):
        ComponentsDisplay.from_estimator(BernoulliRBM())


@pytest.mark.parametrize(("n_channels", "drawn"), [(1, (3, 2)), (3, (3, 2, 3))])
@pytest.mark.parametrize("channels_last", [True, False])
def test_filters_are_drawn_in_their_own_shape_and_in_colour(n_channels, drawn, channels_last):
    shape = (6, 5, n_channels) if channels_last else (n_channels, 6, 5)
    X = np.random.default_rng(0).uniform(size=(20, *shape))
    rbm = ConvRBM(4, kernel_size=(3, 2), channels_last=channels_last, n_iter=1).fit(X)
    display = ComponentsDisplay.from_estimator(make_pipeline(rbm))
    for place, filters in zip(display.ax_.flat, rbm.components_, strict=True):
        image = place.images[0].get_array()
        assert image.shape == drawn
        expected = filters.transpose(1, 2, 0)
        if n_channels == 1:
            assert_allclose(image, expected[..., 0])
        else:
            assert_allclose(image, (expected / np.abs(expected).max() + 1) / 2, rtol=1e-6)


def test_filters_of_two_channels_are_refused():
    X = np.random.default_rng(0).uniform(size=(20, 4, 4, 2))
    with pytest.raises(ValueError, match="these have 2"):
        ComponentsDisplay.from_estimator(ConvRBM(4, n_iter=1).fit(X))


def test_the_components_of_estimators_that_contain_others():
    X = np.random.default_rng(0).integers(2, size=(30, 16)) / 1.0
    y = X[:, 0]
    rbm = BernoulliRBM(4, n_iter=1, random_state=0)
    for estimator in (
        DBN([rbm, 2], random_state=0),
        DBNClassifier([rbm, 2], n_iter=0, random_state=0),
        RBMImputer(rbm),
        make_pipeline(DBN([rbm, 2]), LogisticRegression()),
        GridSearchCV(make_pipeline(rbm, LogisticRegression()), {}, cv=2),
    ):
        with pytest.raises(NotFittedError):
            ComponentsDisplay.from_estimator(estimator)
        assert ComponentsDisplay.from_estimator(estimator.fit(X, y)).components.shape == (4, 4, 4)
