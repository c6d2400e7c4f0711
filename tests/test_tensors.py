"""Tensors in, tensors out, with scikit-learn's `array_api_dispatch`."""

import contextlib

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skebm import (
    DBN,
    BernoulliRBM,
    ConvRBM,
    DBNClassifier,
    DBNRegressor,
    DropoutRBM,
    GaussianRBM,
    PoissonRBM,
    RBMClassifier,
    TabularRBM,
)
from tests.fake_cuda import fake_cuda

rng = np.random.default_rng(0)
N = 60
BINARY = (rng.uniform(size=(N, 8)) < 0.4).astype(np.float32)
REAL = (3 * rng.normal(size=(N, 8)) + 1).astype(np.float32)
COUNTS = rng.poisson(2.0, size=(N, 8)).astype(np.float32)
IMAGES = rng.normal(size=(N, 3, 5, 4)).astype(np.float32)
LABELS, NAMES = rng.integers(0, 3, N), np.array(["a", "b", "c"])[rng.integers(0, 3, N)]
METHODS = (
    *("transform", "score_samples", "free_energy", "reconstruction_error"),
    *("predict", "predict_proba", "predict_log_proba", "decision_function"),
)
CASES = {
    "binary": (BernoulliRBM(6), BINARY, None),
    "dropout": (DropoutRBM(6), BINARY, None),
    "gaussian": (GaussianRBM(6), REAL, None),
    "gaussian, field": (GaussianRBM(6, output="field"), REAL.astype(np.float64), None),
    "counts": (PoissonRBM(6, learning_rate=0.01), COUNTS, None),
    "images": (
        ConvRBM(2, kernel_size=2, visible="gaussian", channels_last=False, pool_size=2),
        IMAGES,
        None,
    ),
    "table": (TabularRBM(6), REAL, None),
    "labels": (RBMClassifier(6), BINARY, LABELS),
    "labels, names": (RBMClassifier(6, visible="gaussian"), REAL, NAMES),
    "stack": (DBN((6, 4), output="all"), BINARY, None),
    "stack, residual": (DBN((6, 4), residual=(0.5, 0.5)), BINARY, None),
    "stack with labels": (DBN((6, RBMClassifier(5))), BINARY, LABELS),
    "network": (DBNClassifier((6, 4)), REAL, LABELS),
    "regression": (DBNRegressor((6, 4)), REAL, REAL[:, 0]),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:A stack with a residual path"),
    pytest.mark.filterwarnings("ignore:device='cuda' is not present"),
]


def device_named(name):
    """A context in which the device exists: emulated unless the machine has one."""
    is_emulated = name == "cuda" and not torch.cuda.is_available()
    return fake_cuda() if is_emulated else contextlib.nullcontext()


both_devices = pytest.mark.parametrize("device", ["cpu", "cuda"])


def new(name):
    estimator, X, y = CASES[name]
    return (
        type(estimator)(**estimator.get_params(deep=False)).set_params(n_iter=2, random_state=0),
        X,
        y,
    )


@both_devices
@pytest.mark.parametrize("name", CASES)
def test_methods_return_tensors_on_the_device_of_x(name, device):
    estimator, X, y = new(name)
    with device_named(device), config_context(array_api_dispatch=True):
        rows = torch.from_numpy(X).to(device)
        labels = torch.from_numpy(y).to(device) if y is not None and y is not NAMES else y
        estimator.set_params(device=device).fit(rows, labels)
        tensors, arrays = {}, {}
        for method in METHODS:
            if hasattr(estimator, method):
                tensors[method] = getattr(estimator, method)(rows)
        if hasattr(estimator, "inverse_transform"):
            tensors["inverse_transform"] = estimator.inverse_transform(tensors["transform"])
        for method, result in tensors.items():
            if method == "predict" and y is NAMES:  # tensors hold no strings
                assert isinstance(result, np.ndarray)
            else:
                assert result.device.type == device, method
        with config_context(array_api_dispatch=False):
            for method in tensors:
                given = X if method != "inverse_transform" else arrays["transform"]
                arrays[method] = getattr(estimator, method)(given)
        for method, array in arrays.items():
            assert isinstance(array, np.ndarray), method
            result = tensors[method]
            result = result.cpu().numpy() if isinstance(result, torch.Tensor) else result
            assert result.dtype == array.dtype, method
            if array.dtype.kind == "f":
                assert_allclose(result, array, rtol=1e-5, atol=1e-6, err_msg=method)
            else:
                assert_array_equal(result, array)


@both_devices
@pytest.mark.parametrize("name", CASES)
def test_a_fit_is_the_same_for_a_tensor_and_for_an_array(name, device):
    estimator, X, y = new(name)
    other = new(name)[0]
    with device_named(device), config_context(array_api_dispatch=True):
        estimator.set_params(device=device).fit(torch.from_numpy(X).to(device), y)
        other.set_params(device=device).fit(X, y)
    method = "transform" if hasattr(other, "transform") else "predict"
    for fitted in (estimator, other):
        fitted.set_params(device="cpu")
    assert_allclose(getattr(estimator, method)(X), getattr(other, method)(X), rtol=1e-4)


@pytest.mark.parametrize("name", ["binary", "gaussian", "images", "labels", "stack", "network"])
def test_rows_on_cuda_do_not_visit_the_host(name):
    estimator, X, y = new(name)
    with fake_cuda() as mode, config_context(array_api_dispatch=True):
        rows = torch.from_numpy(X).to("cuda")
        estimator.set_params(device="cuda").fit(rows, y)
        for method in METHODS:
            if not hasattr(estimator, method) or method == "score_samples":
                continue
            before = mode.waits.copy()
            getattr(estimator, method)(rows)
            waits = {why for why, _ in mode.waits - before}
            assert "D2H" not in waits, method


@both_devices
@pytest.mark.parametrize(
    "last", [Ridge(solver="svd"), LinearDiscriminantAnalysis()], ids=lambda e: str(e)[:5]
)
def test_pipelines_with_scikit_learn_run_on_one_device(last, device):
    with device_named(device), config_context(array_api_dispatch=True):
        X, y = torch.from_numpy(REAL).to(device), torch.from_numpy(LABELS).to(device)
        rbm = GaussianRBM(6, n_iter=2, device=device, random_state=0)
        pipeline = make_pipeline(StandardScaler(), rbm, PCA(3), last)
        y = y.float() if isinstance(last, Ridge) else y
        predicted = pipeline.fit(X, y).predict(X)
        assert predicted.device.type == device
        assert predicted.shape == (N,)
        assert np.isfinite(float(pipeline.score(X, y)))


def test_without_the_dispatch_tensors_become_arrays():
    rbm = BernoulliRBM(6, n_iter=2, random_state=0).fit(torch.from_numpy(BINARY))
    assert isinstance(rbm.transform(torch.from_numpy(BINARY)), np.ndarray)
    assert_array_equal(rbm.transform(torch.from_numpy(BINARY)), rbm.transform(BINARY))


def test_a_fit_leaves_the_tensor_alone():
    X = torch.from_numpy(BINARY.copy())
    BernoulliRBM(6, n_iter=2, random_state=0).fit(X)
    assert_array_equal(X, BINARY)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@both_devices
def test_half_precision_is_computed_in_single_precision(dtype, device):
    with device_named(device), config_context(array_api_dispatch=True):
        halves = torch.from_numpy(REAL).to(dtype)
        rbm = GaussianRBM(6, n_iter=2, device=device, random_state=0).fit(halves.to(device))
        same = GaussianRBM(6, n_iter=2, device=device, random_state=0).fit(halves.float().numpy())
        features = rbm.transform(halves.to(device))
    assert features.dtype == torch.float32
    assert_allclose(rbm.components_, same.components_, rtol=1e-5, atol=1e-6)
