"""What scikit-learn, and its users, expect of the estimators that are made of others."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator, check_param_validation

from skebm import DBM, DBN, ConvRBM, DBNClassifier, DBNRegressor, GaussianRBM, RBMClassifier
from tests.test_contract import every_round_trip

SETTINGS = {"n_iter": 2, "learning_rate": 0.05}
TUNING = {"n_iter": 3, "learning_rate": 0.02, "batch_size": 16, "random_state": 0}
STACKS = {
    "DBN": DBN((6, 4), random_state=0, **SETTINGS),
    "DBN, up-down": DBN((6, 4), random_state=0, fine_tune="up-down", **SETTINGS),
    "DBN, residual": DBN((6, 4), random_state=0, residual=(1, 1), output="all", **SETTINGS),
    "DBN of labels": DBN((6, RBMClassifier(4)), random_state=0, **SETTINGS),
    "DBM": DBM((6, 4, 3), random_state=0, n_iter=3),
    "DBM, not pre-trained": DBM((6, 4), random_state=0, n_iter=3, pretrain=False, gradient="cd"),
    "DBNClassifier": DBNClassifier(DBN((6, 4), **SETTINGS), **TUNING),
    "DBNClassifier, dropout": DBNClassifier(
        DBN((GaussianRBM(6), 4), **SETTINGS), dropout=0.2, optimizer="sgd", momentum=0.5, **TUNING
    ),
    "DBNClassifier of a DBM": DBNClassifier(DBM((6, 4), n_iter=2), posterior_inputs=True, **TUNING),
    "DBNRegressor": DBNRegressor(DBN((6, 4), **SETTINGS), **TUNING),
}
CHECKED = [
    DBN((8, 5), n_iter=1),
    DBM((8, 5), n_iter=2),
    DBNClassifier(DBN((16,), n_iter=2), n_iter=20, learning_rate=0.03),
    DBNRegressor([GaussianRBM(16, n_iter=2)], n_iter=20, learning_rate=0.03),
]
CHECKED_SLOWLY = [
    DBN(),
    DBN((GaussianRBM(8), 5), output="all"),
    DBN((8, 5), residual=(1, 1)),
    DBN((8, 5), fine_tune="up-down", fine_tune_n_iter=2),
    DBN((ConvRBM(4, kernel_size=2, n_iter=3), 5), n_iter=3),
    DBN((8, RBMClassifier(8))),
    DBM(),
    DBM((GaussianRBM(8), 5, 4), n_iter=5, output="all"),
    DBNClassifier(),
    DBNClassifier([GaussianRBM(16), 8]),
    DBNRegressor(),
]
every_stack = pytest.mark.parametrize("name", STACKS)


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return (np.random.default_rng(0).uniform(size=(43, 6)) < 0.4).astype(np.float64)


@pytest.fixture(scope="module")
def y(X):
    return (X.sum(1) > 2).astype(int)


def new(name):
    return clone(STACKS[name])


def result(fitted, X):
    """What the estimator is for."""
    for method in ("predict_proba", "predict"):
        if hasattr(fitted, method):
            return getattr(fitted, method)(X)
    return fitted.transform(X)


def arrays(fitted):
    """Everything that was learned."""
    dbn = getattr(fitted, "dbn_", fitted)
    for layer in (*dbn.estimators_, *getattr(dbn, "generative_", ())):
        yield from (layer.components_, layer.intercept_visible_, layer.intercept_hidden_)
    if dbn is not fitted:
        yield from (fitted.coef_, fitted.intercept_)


def layers_of(fitted):
    """The estimators that compute."""
    stack = getattr(fitted, "dbn_", fitted)
    return [*stack.estimators_, *([stack] if isinstance(stack, DBM) else [])]


def assert_same_fit(first, second, rtol=0.0):
    for one, other in zip(arrays(first), arrays(second), strict=True):
        assert_allclose(one, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "estimator",
    [*CHECKED, *(pytest.param(each, marks=pytest.mark.slow) for each in CHECKED_SLOWLY)],
    ids=repr,
)
def test_scikit_learn_has_no_objections(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {
        "check_array_api_input"
    }


@every_stack
def test_every_parameter_is_validated(name):
    check_param_validation(type(STACKS[name]).__name__, new(name))


@every_stack
def test_same_seed_same_bits_and_other_seed_other_bits(name, X, y):
    first, again = new(name).fit(X, y), new(name).fit(X, y)
    assert_same_fit(first, again)
    assert_same_fit(first.fit(X, y), again)
    other = new(name).set_params(random_state=1).fit(X, y)
    assert np.abs(result(first, X) - result(other, X)).max() > 1e-4


@every_stack
def test_a_fit_does_not_depend_on_the_order_of_the_rows(name, X, y):
    order = np.random.default_rng(1).permutation(len(X))
    # A product of matrices may round a row otherwise, where it stands in another place.
    assert_same_fit(new(name).fit(X, y), new(name).fit(X[order], y[order]), rtol=1e-8)


@every_stack
def test_integer_weights_are_repetitions(name, X, y):
    weight = np.random.default_rng(2).integers(0, 4, len(X))
    weighted = new(name).fit(X, y, sample_weight=weight)
    repeated = new(name).fit(X.repeat(weight, axis=0), y.repeat(weight))
    assert_same_fit(weighted, repeated, rtol=1e-8)
    plain = new(name).fit(X, y)
    assert np.abs(result(plain, X) - result(weighted, X)).max() > 1e-4


@every_stack
@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_bad_weights_are_refused(name, bad, X, y):
    with pytest.raises(ValueError, match="sample_weight"):
        new(name).fit(X, y, sample_weight=np.full(len(X), bad))


@every_stack
@every_round_trip
def test_round_trips_give_the_same_model(name, round_trip, X, y):
    fitted = new(name).fit(X, y)
    again = round_trip(fitted)
    assert_array_equal(result(again, X), result(fitted, X))
    assert_same_fit(again.partial_fit(X, y), fitted.partial_fit(X, y))
    assert_same_fit(round_trip(fitted), fitted)


@every_stack
def test_the_pickle_does_not_mention_torch(name, X, y):
    assert b"torch" not in pickle.dumps(new(name).fit(X, y))


@every_stack
def test_a_model_mapped_read_only_from_disk_works(name, X, y, tmp_path):
    fitted = new(name).fit(X, y)
    joblib.dump(fitted, tmp_path / "model.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
        assert_array_equal(result(mapped, X), result(fitted, X))
        mapped.partial_fit(X, y)


@every_stack
def test_kinds_of_input_that_hold_the_same_numbers(name, X, y, tmp_path):
    reference = new(name).fit(X, y)
    np.save(tmp_path / "X.npy", X)
    same = {
        "csr_array": sparse.csr_array(X),
        "data frame": pd.DataFrame(X, columns=list("abcdef")),
        "torch": torch.from_numpy(X),
        "memmap": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "fortran": np.asfortranarray(X),
        "list": X.tolist(),
        "int64": X.astype(np.int64),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind, other in same.items():
            fitted = new(name).fit(other, y)
            for one, two in zip(arrays(fitted), arrays(reference), strict=True):
                assert one.dtype == np.float64, kind
                assert_allclose(one, two, rtol=1e-7, atol=1e-9, err_msg=kind)
            assert_allclose(result(fitted, other), result(reference, X), rtol=1e-7, err_msg=kind)
    frame = new(name).fit(same["data frame"], y)
    assert_array_equal(frame.feature_names_in_, list("abcdef"))
    assert not hasattr(reference, "feature_names_in_")
    assert reference.n_features_in_ == 6


@every_stack
@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_small_types_are_computed_in_single_precision(name, dtype, X, y):
    fitted = new(name).fit(X.astype(dtype), y)
    double = new(name).fit(X, y)
    for one, other in zip(arrays(fitted), arrays(double), strict=True):
        assert one.dtype == np.float32
        assert_allclose(one, other, rtol=1e-2, atol=1e-3)


@every_stack
def test_results_of_a_row_do_not_depend_on_the_others(name, X, y):
    fitted = new(name).fit(X, y)
    apart = np.concatenate([result(fitted, row[None]) for row in X])
    assert_allclose(result(fitted, X), apart, rtol=1e-12)


def test_set_output(X):
    frame = new("DBN").set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == ["dbn0", "dbn1", "dbn2", "dbn3"]


@every_stack
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((4, 6), np.nan), "NaN"),
        (np.zeros(6), "2D array"),
        (np.zeros((0, 6)), "0 sample|label"),
        (np.array([["a", "b"]] * 4), "numeric"),
    ],
)
def test_a_refused_input_leaves_nothing_behind(name, bad, message, X, y):
    estimator = new(name)
    labels = np.arange(len(bad)) % 2
    with pytest.raises(ValueError, match=message):
        estimator.fit(bad, labels)
    assert not [attribute for attribute in vars(estimator) if attribute.endswith("_")]
    with pytest.raises(NotFittedError):
        result(estimator, X)
    estimator.fit(X, y)
    before = copy.deepcopy(estimator)
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=message):
            method(bad, labels)
    assert_same_fit(estimator.partial_fit(X, y), before.partial_fit(X, y))


@every_stack
def test_the_number_of_features_is_checked(name, X, y):
    fitted = new(name).fit(X, y)
    for method in (lambda Z: result(fitted, Z), lambda Z: fitted.partial_fit(Z, y)):
        with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6"):
            method(X[:, :5])


@every_stack
def test_a_device_that_is_gone_is_replaced_by_the_cpu_with_a_warning(name, X, y):
    fitted = new(name).fit(X, y)
    expected = result(fitted, X)
    for layer in layers_of(fitted):
        layer.set_params(device="cuda:77")
    with pytest.warns(UserWarning, match="device='cuda:77' is not present"):
        assert_allclose(result(fitted, X), expected)
    with pytest.raises(ValueError, match="device='cuda:77' is not present"):
        new(name).set_params(device="cuda:77").fit(X, y)


@every_stack
def test_nothing_global_changes(name, X, y, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002

    def state():
        return (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.matmul.fp32_precision,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_rng_state().numpy().tobytes(),
            str(np.random.get_state()),  # noqa: NPY002
            np.geterr(),
            list(tmp_path.iterdir()),
        )

    before = state()
    estimator = new(name)
    params = str(estimator.get_params())
    result(estimator.fit(X, y).partial_fit(X, y), X)
    assert state() == before
    assert str(estimator.get_params()) == params


@every_stack
def test_the_data_are_left_alone(name, X, y):
    rows, targets, weight = X.copy(), y.copy(), np.ones(len(X))
    for array in (rows, targets, weight):
        array.flags.writeable = False
    result(new(name).fit(rows, targets, sample_weight=weight), rows)
    assert_array_equal(rows, X)


@every_stack
@pytest.mark.gpu
def test_a_fit_on_cuda_is_used_on_the_cpu(name, X, y):
    on_gpu = new(name).set_params(device="cuda").fit(X, y)
    assert all(isinstance(array, np.ndarray) for array in arrays(on_gpu))
    on_cpu = pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu")
    for layer in layers_of(on_cpu):
        layer.set_params(device="cpu")
    assert_allclose(result(on_cpu, X), result(on_gpu, X), rtol=1e-5)
    assert_same_fit(on_gpu, new(name).set_params(device="cuda").fit(X, y))


class Watched(DBNClassifier):
    """Notes how many threads torch has when training begins and after it has ended."""

    def _trainer(self, *args):
        self.at_start = torch.get_num_threads()
        return super()._trainer(*args)

    def _check_convergence(self, *args):
        self.at_end = torch.get_num_threads()


@pytest.mark.parametrize(("size", "n_threads"), [(8, 1), (2**15, 2)])
def test_all_of_a_small_fit_has_one_thread(size, n_threads, X, y, two_threads):
    network = Watched((size,), pretrain=False, n_iter=1, random_state=0)
    network.fit(X, y)
    assert (network.at_start, network.at_end) == (n_threads, n_threads)
    assert torch.get_num_threads() == 2
