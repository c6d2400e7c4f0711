"""Encodings: rows become units and rows again, and densities know by how much volumes change."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator

from skebm import BernoulliRBM, GaussianRBM, TabularRBM
from skebm.encoding import Encoding, Images, Standardised, Table

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "kind": RNG.choice(["a", "b", "c"], 30),
        "size": RNG.normal(5, 3, 30),
        "big": RNG.uniform(size=30) < 0.5,
        "share": RNG.uniform(size=30),
        "count": RNG.integers(2, 90, 30),
    }
)
CASES = {
    "plain": (Encoding, RNG.uniform(size=(30, 4))),
    "standardised": (Standardised, RNG.normal(3, 2, (30, 4))),
    "rows as images": (Images, RNG.normal(3, 2, (30, 16))),
    "images": (Images, RNG.normal(3, 2, (30, 4, 5))),
    "channels last": (Images, RNG.normal(0, [1, 2, 3], (30, 4, 5, 3))),
    "channels first": (
        lambda: Images(channels_last=False),
        np.moveaxis(RNG.normal(0, [1, 2, 3], (30, 4, 5, 3)), 3, 1),
    ),
    "table": (Table, FRAME),
    "array of objects": (lambda: Table("categorical"), FRAME[["kind", "kind"]].to_numpy(object)),
}
every_case = pytest.mark.parametrize("case", CASES)


def fitted(case):
    make, X = CASES[case]
    encoding = make()
    rows = encoding.read(BaseEstimator(), X, reset=True)
    return encoding.fit(rows, None), X, rows


@every_case
def test_rows_come_back_from_units_and_x_comes_back_from_rows(case):
    encoding, X, rows = fitted(case)
    units = encoding.scaling("cpu").encode(torch.from_numpy(rows))
    again = encoding.scaling("cpu").decode(units).numpy()
    assert_allclose(again, rows, rtol=1e-12, atol=1e-12)
    presented = encoding.present(again)
    if isinstance(X, pd.DataFrame):
        pd.testing.assert_frame_equal(presented, X, check_exact=False)
    elif X.dtype == object:
        assert_array_equal(presented.astype(str), X.astype(str))
    else:
        assert_allclose(presented, X)


@every_case
def test_the_volume_is_that_of_the_jacobian(case):
    encoding, _, rows = fitted(case)
    unit = encoding.scaling("cpu").encode(torch.from_numpy(rows[0]))
    jacobian = torch.autograd.functional.jacobian(encoding.scaling("cpu").decode, unit)
    assert_allclose(encoding.log_volume(), torch.linalg.slogdet(jacobian)[1], atol=1e-9)


@every_case
def test_another_object_goes_on_with_the_fitted_state(case):
    encoding, X, rows = fitted(case)
    other = CASES[case][0]()
    other.load(encoding)
    assert_array_equal(other.read(BaseEstimator(), X, reset=False), rows)
    assert_array_equal(
        other.scaling("cpu").encode(torch.from_numpy(rows)),
        encoding.scaling("cpu").encode(torch.from_numpy(rows)),
    )


@pytest.mark.parametrize("case", ["channels last", "channels first"])
def test_channels_have_moments_of_their_own(case):
    encoding, X, _ = fitted(case)
    axis = 3 if case == "channels last" else 1
    of_pixels = encoding.scale_.reshape(encoding.image_shape_)
    others = tuple(k for k in range(4) if k != axis)
    expected = X.std(others)
    assert_allclose(np.moveaxis(of_pixels, axis - 1, 2)[1, 2], expected, rtol=1e-6)
    assert encoding.n_channels == 3
    assert encoding.sides == (4, 5)


@pytest.mark.parametrize("case", ["images", "channels last", "channels first"])
def test_masks_are_flattened_as_images_are(case):
    encoding, X, rows = fitted(case)
    assert_array_equal(encoding.flatten(X > 1), rows > 1)
    assert_array_equal(encoding.flatten(X[0] > 1), rows[0] > 1)


def test_units_know_their_columns():
    encoding, _, rows = fitted("table")
    columns = encoding.column_of_unit(rows.shape[1])
    assert sorted(np.bincount(columns)) == [1, 1, 1, 1, 3]
    for k in range(3):  # the units of the categories are one-hot
        assert_array_equal(rows[:, columns == 0][:, k], FRAME["kind"] == "abc"[k])
    assert_array_equal(rows[:, columns == 1][:, 0], FRAME["size"])


def test_an_attribute_that_is_set_on_a_copy_is_not_set_on_the_original():
    rbm = GaussianRBM(2, n_iter=1, random_state=0).fit(np.arange(12.0).reshape(6, 2))
    before, other = rbm.location_.copy(), copy.copy(rbm)
    other.location_ = before + 7
    assert_array_equal(rbm.location_, before)
    assert_allclose(other.means_, rbm.means_ + 7)


def test_the_parameters_of_reading_are_those_that_are_set_now():
    X = FRAME[["kind", "size"]]
    rbm = TabularRBM(2, n_iter=1, random_state=0).fit(X)
    new = X.assign(kind="z")
    with pytest.raises(ValueError, match="unknown category 'z'"):
        rbm.transform(new)
    assert rbm.set_params(handle_unknown="ignore").transform(new).shape == (30, 2)


def test_an_attribute_of_the_encoding_is_there_only_after_fit():
    assert not hasattr(GaussianRBM(), "scale_")
    assert not hasattr(BernoulliRBM(2, n_iter=1).fit(np.eye(3)), "scale_")
