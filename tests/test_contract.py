"""What scikit-learn, and its users, expect of every estimator that skebm exports."""

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator, check_param_validation

import skebm
from skebm import (
    CD,
    PCD,
    PTT,
    BernoulliRBM,
    CategoricalRBM,
    ConvRBM,
    DropoutRBM,
    Exact,
    GaussianRBM,
    ParallelTempering,
    PoissonRBM,
    TabularRBM,
)
from skebm._shared import estimator as declared
from skebm.base import BaseRBM
from skebm.encoding import Encoding
from skebm.engine.noise import Noise


def labels_of(X):
    """A label for each row, by its first feature."""
    X = X.float().numpy() if isinstance(X, torch.Tensor) else X
    X = X.toarray() if sparse.issparse(X) else np.asarray(X)
    return np.array([bool(row.size and row.flat[0] == 1) for row in X])


class RBMClassifier(skebm.RBMClassifier):
    """Finds the labels itself, so that it is fitted as the others are."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X, labels_of(X), sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(X, labels_of(X), [False, True], sample_weight)


ESTIMATORS = [
    RBMClassifier if estimator is skebm.RBMClassifier else estimator
    for estimator in (getattr(skebm, name) for name in skebm.__all__)
    if isinstance(estimator, type) and issubclass(estimator, BaseRBM)
]
VARIANTS = [
    BernoulliRBM(),
    BernoulliRBM(gradient="cd", optimizer="adam", learning_rate=0.01, n_iter=4),
    BernoulliRBM(
        gradient=PCD(n_steps=2, n_chains=7), momentum=0.5, weight_decay=1e-3, l1=1e-4, n_iter=4
    ),
    BernoulliRBM(n_components=4, gradient=Exact(), centered=False),
    BernoulliRBM(sparsity_target=0.1, max_norm=2.0, precision="medium", n_iter=4),
    BernoulliRBM(visible="spin", hidden="spin", n_iter=4),
    BernoulliRBM(gradient=PTT(n_chains=20, interval=2), n_iter=4),
    BernoulliRBM(hidden="drelu", learning_rate=0.01, n_iter=4),
    DropoutRBM(drop="energy", dropout=0.2, n_iter=4),
    ConvRBM(pool_size=2, kernel_size=3, gradient="pcd", sparsity_target=0.1, n_iter=3),
    ConvRBM(visible="gaussian", stride=2, optimizer="adam", learning_rate=0.01, n_iter=3),
    CategoricalRBM(gradient="cd", n_iter=3, hidden="spin", handle_unknown="ignore"),
    skebm.RBMClassifier(n_components=32, objective="discriminative", hidden="spin", n_iter=20),
    PoissonRBM(hidden="spin", n_iter=5),
    TabularRBM(kinds={0: "gaussian"}, gradient="cd", n_iter=5),
    TabularRBM(numbers="binned", n_bins=4, n_iter=5),
    GaussianRBM(gradient="pcd", optimizer="adam", n_iter=10),
    GaussianRBM(temperature=2.0, learning_rate_schedule="invscaling", n_iter=10),
]
#: Those that take longer, or differ from another in one setting.
MORE_VARIANTS = [
    BernoulliRBM(visible="mean"),
    BernoulliRBM(gradient="pt", temperature=0.5, learning_rate_schedule="invscaling"),
    BernoulliRBM(visible="continuous"),
    BernoulliRBM(hidden="relu"),
    DropoutRBM(),
    DropoutRBM(drop="weights", gradient="cd"),
    ConvRBM(n_iter=10),
    ConvRBM(visible="continuous", channels_last=False, centered=False, n_iter=3),
    CategoricalRBM(handle_unknown="ignore"),
    skebm.RBMClassifier(),
    skebm.RBMClassifier(objective="generative", visible="gaussian", gradient="cd", momentum=0.0),
    PoissonRBM(),
    TabularRBM(n_iter=20),
    GaussianRBM(),
    GaussianRBM(variance="unit", hidden="relu", n_iter=10),
    GaussianRBM(variance="fixed", hidden="nrelu", n_components=20, n_iter=10),
    GaussianRBM(n_components=4, gradient=Exact(), momentum=0.5, n_iter=10),
]
every_estimator = pytest.mark.parametrize("Estimator", ESTIMATORS)
every_variant = pytest.mark.parametrize(
    "variant",
    [*VARIANTS, *(pytest.param(variant, marks=pytest.mark.slow) for variant in MORE_VARIANTS)],
    ids=repr,
)
FITTED = ["components_", "intercept_hidden_", "intercept_visible_"]


def small(Estimator, **params):
    estimator = Estimator(
        n_components=5,
        n_iter=3,
        learning_rate=0.2,
        learning_rate_schedule="constant",
        gradient="pcd",
        random_state=0,
    )
    return estimator.set_params(**params)


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return (np.random.default_rng(0).uniform(size=(43, 6)) < 0.4).astype(np.float64)


def assert_same_fit(first, second):
    for name in FITTED:
        assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_all_estimators_are_covered():
    assert {type(v).__name__ for v in VARIANTS} == {e.__name__ for e in ESTIMATORS}


@every_variant
def test_scikit_learn_has_no_objections(variant):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(variant, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {
        "check_array_api_input"
    }


@every_estimator
def test_every_parameter_is_validated(Estimator):
    check_param_validation(Estimator.__name__, Estimator())


@every_estimator
def test_same_seed_same_bits_and_other_seed_other_bits(Estimator, X):
    first, again = small(Estimator).fit(X), small(Estimator).fit(X)
    assert_same_fit(first, again)
    assert_array_equal(first.gibbs(X), again.gibbs(X))
    assert_array_equal(first.sample(3, n_steps=5), again.sample(3, n_steps=5))
    other = small(Estimator, random_state=1).fit(X)
    assert np.abs(first.components_ - other.components_).max() > 1e-3


@every_estimator
def test_a_fit_does_not_depend_on_the_order_of_the_rows(Estimator, X):
    order = np.random.default_rng(1).permutation(len(X))
    assert_same_fit(small(Estimator).fit(X), small(Estimator).fit(X[order]))


@every_estimator
@pytest.mark.parametrize("gradient", ["cd", "pcd"])
def test_integer_weights_are_repetitions_bit_for_bit(Estimator, gradient, X):
    weight = np.random.default_rng(2).integers(0, 4, len(X))
    weighted = small(Estimator, gradient=gradient).fit(X, sample_weight=weight)
    repeated = small(Estimator, gradient=gradient).fit(X.repeat(weight, axis=0))
    assert_same_fit(weighted, repeated)


@every_estimator
def test_other_weights_are_relative(Estimator, X):
    weight = np.random.default_rng(2).uniform(0, 2, len(X))
    once = small(Estimator).fit(X, sample_weight=weight)
    tenfold = small(Estimator).fit(X, sample_weight=weight / 1024)
    plain = small(Estimator).fit(X)
    for name in FITTED:
        assert_allclose(getattr(once, name), getattr(tenfold, name), rtol=1e-7, atol=1e-9)
    assert np.abs(once.intercept_visible_ - plain.intercept_visible_).max() > 0.02


@every_estimator
@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_bad_weights_are_refused(Estimator, bad, X):
    with pytest.raises(ValueError, match="sample_weight"):
        small(Estimator).fit(X, sample_weight=np.full(len(X), bad))


@every_estimator
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"momentum": 0.9, "momentum_ramp": 3},
        {"optimizer": "adam"},
        {"gradient": PCD(2, 7), "batch_size": 7},
        {"gradient": ParallelTempering(4, n_chains=10)},
        {"gradient": "cd", "centered": False},
        {"learning_rate_schedule": "invscaling", "temperature": 0.7},
    ],
    ids=str,
)
def test_interrupted_and_resumed_is_uninterrupted(Estimator, change, X):
    whole = small(Estimator, n_iter=4, **change).fit(X)
    half = small(Estimator, n_iter=2, warm_start=True, **change).fit(X)
    resumed = pickle.loads(pickle.dumps(half)).fit(X)
    assert_same_fit(whole, resumed)
    assert resumed.n_iter_ == whole.n_iter_ == 4
    assert_array_equal(resumed.history_["epoch"], [1, 2, 3, 4])
    assert_array_equal(
        resumed.history_["reconstruction_error"], whole.history_["reconstruction_error"]
    )
    by_parts = small(Estimator, **change)
    for _ in range(4):
        by_parts.partial_fit(X)
    assert_same_fit(whole, by_parts)


@every_estimator
def test_a_second_fit_starts_afresh(Estimator, X):
    estimator = small(Estimator).fit(X)
    first = copy.deepcopy(estimator)
    assert_same_fit(estimator.fit(X), first)
    assert estimator.n_iter_ == 3


@every_estimator
def test_fitted_state_is_numpy_or_plain(Estimator, X):
    def leaves(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str)
                yield from leaves(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from leaves(inner)
        elif isinstance(value, Encoding):
            yield from leaves(vars(value))
        else:
            yield value

    estimator = small(Estimator, optimizer="adam").fit(X)
    for name, value in vars(estimator).items():
        for leaf in leaves(value):
            kinds = (np.ndarray, np.random.RandomState, int, float, str, bool, type(None))
            assert isinstance(leaf, kinds), name


@every_estimator
def test_history_has_one_entry_an_epoch(Estimator, X):
    estimator = small(Estimator).fit(X)
    assert {"epoch", "seconds", "reconstruction_error"} <= set(estimator.history_)
    for values in estimator.history_.values():
        assert values.shape == (3,)
    assert estimator.n_iter_ == 3


def _skops_round_trip(estimator):
    data = skops.io.dumps(estimator)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def _joblib_round_trip(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


every_round_trip = pytest.mark.parametrize(
    "round_trip",
    [
        lambda e: pickle.loads(pickle.dumps(e)),
        _joblib_round_trip,
        copy.deepcopy,
        _skops_round_trip,
    ],
    ids=["pickle", "joblib", "deepcopy", "skops"],
)


@every_estimator
@every_round_trip
def test_round_trips_give_the_same_model(Estimator, round_trip, X):
    estimator = small(Estimator, gradient=PCD(n_steps=2), optimizer="adam").fit(X)
    again = round_trip(estimator)
    assert_array_equal(again.transform(X), estimator.transform(X))
    assert_array_equal(again.free_energy(X), estimator.free_energy(X))
    assert_array_equal(again.gibbs(X), estimator.gibbs(X))
    assert again.get_params(deep=False).keys() == estimator.get_params(deep=False).keys()
    assert_same_fit(again.partial_fit(X), estimator.partial_fit(X))


@every_estimator
def test_the_pickle_does_not_mention_torch(Estimator, X):
    estimator = small(Estimator, gradient=PCD(), optimizer="adam").fit(X)
    assert b"torch" not in pickle.dumps(estimator)


@every_estimator
def test_a_model_mapped_read_only_from_disk_works(Estimator, X, tmp_path):
    estimator = small(Estimator).fit(X)
    joblib.dump(estimator, tmp_path / "model.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
        assert_array_equal(mapped.transform(X), estimator.transform(X))
        mapped.partial_fit(X)


@every_estimator
def test_kinds_of_input_that_hold_the_same_numbers(Estimator, X, tmp_path):
    estimator = small(Estimator)
    reference = clone(estimator).fit(X)
    np.save(tmp_path / "X.npy", X)
    same = {
        "csr_array": sparse.csr_array(X),
        "csc_matrix": sparse.csc_matrix(X),
        "data frame": pd.DataFrame(X, columns=list("abcdef")),
        "torch": torch.from_numpy(X),
        "memmap": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "fortran": np.asfortranarray(X),
        "list": X.tolist(),
        "int64": X.astype(np.int64),
    }
    if not estimator.__sklearn_tags__().input_tags.sparse:
        same = {kind: other for kind, other in same.items() if not kind.startswith("cs")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind, other in same.items():
            fitted = clone(estimator).fit(other)
            for name in FITTED:
                assert getattr(fitted, name).dtype == np.float64, kind
                assert_allclose(
                    getattr(fitted, name), getattr(reference, name), rtol=1e-9, err_msg=kind
                )
            assert_allclose(
                fitted.transform(other), reference.transform(X), rtol=1e-9, err_msg=kind
            )


@every_estimator
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int8", "bool"])
def test_small_types_are_computed_in_single_precision(Estimator, dtype, X):
    # Booleans and numbers of a table would be columns of different kinds.
    params = {"kinds": dict.fromkeys(range(6), "bernoulli")} if Estimator is TabularRBM else {}
    fitted = small(Estimator, **params).fit(X.astype(dtype))
    double = small(Estimator, **params).fit(X)
    for name in FITTED:
        assert getattr(fitted, name).dtype == np.float32
        assert_allclose(getattr(fitted, name), getattr(double, name), rtol=1e-3, atol=1e-4)
    assert fitted.transform(X.astype(dtype)).dtype == np.float32


@every_estimator
def test_bfloat16_tensors_are_taken(Estimator, X):
    fitted = small(Estimator).fit(torch.from_numpy(X).bfloat16())
    assert_same_fit(fitted, small(Estimator).fit(X.astype(np.float32)))


@every_estimator
def test_set_output_and_feature_names(Estimator, X):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    estimator = small(Estimator).set_output(transform="pandas").fit(frame)
    out = estimator.transform(frame)
    prefix = Estimator.__name__.lower()
    assert list(out.columns) == [f"{prefix}{i}" for i in range(out.shape[1])]
    assert_array_equal(estimator.feature_names_in_, list("abcdef"))


@every_estimator
def test_features_of_a_row_do_not_depend_on_the_others(Estimator, X):
    estimator = small(Estimator).fit(X)
    apart = np.vstack([estimator.transform(row[None]) for row in X])
    assert_allclose(estimator.transform(X), apart, rtol=1e-12)


@every_estimator
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((4, 6), np.nan), "NaN"),
        (np.full((4, 6), np.inf), "infinity"),
        (np.zeros(6), "2D array"),
        (np.zeros((0, 6)), "0 sample"),
        (np.zeros((4, 0)), "0 feature"),
        (np.array([["a", "b"]] * 4), "numeric"),
        (np.zeros((4, 6), dtype=complex), "[Cc]omplex"),
        (np.zeros((4, 2, 3)), "dim 3"),
    ],
)
def test_a_refused_input_leaves_nothing_behind(Estimator, bad, message, X):
    estimator = small(Estimator)
    tags = estimator.__sklearn_tags__().input_tags
    if (message == "numeric" and tags.string) or (message == "dim 3" and tags.three_d_array):
        return
    message = "no value" if message == "NaN" and tags.allow_nan else message
    with pytest.raises(ValueError, match=message):
        estimator.fit(bad)
    assert not [name for name in vars(estimator) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        estimator.transform(X)
    estimator.fit(X)
    before = copy.deepcopy(estimator)
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=message):
            method(bad)
    assert_array_equal(estimator.transform(X), before.transform(X))
    assert_same_fit(estimator.partial_fit(X), before.partial_fit(X))


@every_estimator
def test_the_number_of_features_is_checked(Estimator, X):
    estimator = small(Estimator).fit(X)
    methods = [estimator.transform, estimator.free_energy, estimator.gibbs, estimator.partial_fit]
    for method in methods:
        with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6"):
            method(X[:, :5])
    with pytest.raises(ValueError, match=r"X has 4 features.*as many as transform gives"):
        estimator.inverse_transform(np.zeros((2, 4)))


@every_estimator
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 0}, "'n_components' parameter of"),
        ({"learning_rate": -1.0}, "'learning_rate' parameter of"),
        ({"gradient": "contrastive"}, "'gradient' parameter of"),
        ({"gradient": CD(n_steps=0)}, "'n_steps' parameter of CD"),
        ({"gradient": PCD(n_chains=-3)}, "'n_chains' parameter of PCD"),
        ({"gradient": Exact(), "n_components": 25}, r"at most 2\^20 states|'gradient' parameter"),
        ({"optimizer": "rmsprop"}, "'optimizer' parameter of"),
        ({"momentum": 1.0}, "'momentum' parameter of"),
        ({"gradient": ParallelTempering(n_levels=0)}, "'n_levels' parameter of ParallelTempering"),
        ({"learning_rate_schedule": "cosine"}, "'learning_rate_schedule' parameter of"),
        ({"sparsity_target": 1.5}, "'sparsity_target' parameter of"),
        ({"temperature": 0.0}, "'temperature' parameter of"),
        ({"precision": "low"}, "'precision' parameter of"),
        ({"early_stopping": True, "validation_fraction": 0.999}, "validation|n_samples"),
        ({"device": "gpu"}, "device must be 'auto', 'cpu', 'cuda'"),
        ({"device": "meta"}, "device must be 'auto', 'cpu', 'cuda'"),
        ({"device": "cuda:77"}, "device='cuda:77' is not present"),
    ],
    ids=str,
)
def test_an_unknown_value_is_named(Estimator, change, message):
    X = np.random.default_rng(0).uniform(size=(30, 25))
    estimator = small(Estimator, **change)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X)
    assert not [name for name in vars(estimator) if name.endswith("_")]


@every_estimator
def test_numbers_of_steps_and_samples_are_checked(Estimator, X):
    estimator = small(Estimator).fit(X)
    calls = [
        ("gibbs", X, -1, "n_steps"),
        ("sample", 2, -1, "n_steps"),
        ("sample", 0, 5, "n_samples"),
    ]
    for method, first, second, name in calls:
        with pytest.raises(ValueError, match=f"'{name}' parameter of .* must be an int"):
            getattr(estimator, method)(first, second)


@every_estimator
def test_the_number_of_components_cannot_change_midway(Estimator, X):
    estimator = small(Estimator, warm_start=True).fit(X)
    estimator.set_params(n_components=6)
    with pytest.raises(ValueError, match=r"n_components=6 differs from the 5"):
        estimator.fit(X)


@every_estimator
def test_a_device_that_is_gone_is_replaced_by_the_cpu_with_a_warning(Estimator, X):
    estimator = small(Estimator).fit(X)
    expected = estimator.transform(X)
    estimator.set_params(device="cuda:77")
    with pytest.warns(UserWarning, match="device='cuda:77' is not present"):
        assert_allclose(estimator.transform(X), expected)


@pytest.mark.parametrize(
    ("estimator", "n_threads"),
    [
        (BernoulliRBM(20, batch_size=100), 1),
        (BernoulliRBM(600, batch_size=200), 2),
        (GaussianRBM(20), 1),
        (ConvRBM(8, kernel_size=3), 1),
        (ConvRBM(200, kernel_size=3, batch_size=100), 2),
    ],
    ids=str,
)
def test_small_updates_have_one_thread(estimator, n_threads, two_threads):
    seen = set()

    @declared
    class Watched(CD):
        def __call__(self, *args):
            seen.add(torch.get_num_threads())
            return super().__call__(*args)

    X = np.random.default_rng(0).random((200, 64))
    estimator.set_params(gradient=Watched(), n_iter=1).fit(X)
    assert seen == {n_threads}
    assert torch.get_num_threads() == 2


@pytest.mark.filterwarnings("ignore:The effective sample size")
@pytest.mark.parametrize(("n_components", "n_threads"), [(20, 1), (1000, 2)])
def test_small_chains_have_one_thread(n_components, n_threads, two_threads, monkeypatch):
    X, seen, bernoulli = np.random.default_rng(0).random((200, 64)), [], Noise.bernoulli

    def watched(*args, **keywords):
        seen[-1].add(torch.get_num_threads())
        return bernoulli(*args, **keywords)

    rbm = BernoulliRBM(n_components, n_iter=0, random_state=0).fit(X)
    monkeypatch.setattr(Noise, "bernoulli", watched)
    for chains in (
        lambda: rbm.sample(100, n_steps=2),
        lambda: rbm.sample_chains(100, n_steps=2),
        lambda: skebm.log_partition(rbm, method="ais", n_chains=100, betas=5),
    ):
        seen.append(set())
        chains()
        assert torch.get_num_threads() == 2
    assert seen == [{n_threads}] * 3


@pytest.mark.parametrize("Estimator", [BernoulliRBM, GaussianRBM, ConvRBM, skebm.DBNClassifier])
def test_bits_of_a_small_fit_do_not_depend_on_the_number_of_threads(Estimator, two_threads):
    X, fitted = np.random.default_rng(0).random((200, 64)), []
    for n_threads in (2, 1):
        torch.set_num_threads(n_threads)
        fitted.append(vars(Estimator(random_state=0, n_iter=2).fit(X, np.arange(200) % 2)))
    arrays = {name: value for name, value in fitted[0].items() if isinstance(value, np.ndarray)}
    assert {"components_", "coef_"} & set(arrays)
    for name, value in arrays.items():
        assert_array_equal(value, fitted[1][name], err_msg=name)


@every_estimator
def test_nothing_global_changes(Estimator, X, tmp_path, monkeypatch):
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
            [repr(handler) for handler in __import__("logging").getLogger().handlers],
        )

    before = state()
    params = str(small(Estimator).get_params())
    estimator = small(Estimator, verbose=1).fit(X)
    estimator.partial_fit(X)
    estimator.gibbs(X)
    estimator.sample(2)
    assert state() == before
    assert str(estimator.set_params(verbose=0).get_params()) == params


@every_estimator
def test_the_data_are_left_alone(Estimator, X):
    rows, weight = X.copy(), np.ones(len(X))
    rows.flags.writeable = weight.flags.writeable = False
    small(Estimator).fit(rows, sample_weight=weight).transform(rows)
    assert_array_equal(rows, X)


@every_estimator
def test_gradients_are_settings_and_nothing_else(Estimator, X):
    gradient = PCD(n_steps=2)
    before = copy.deepcopy(vars(gradient))
    small(Estimator, gradient=gradient).fit(X)
    assert vars(gradient) == before


@every_estimator
@pytest.mark.gpu
def test_a_fit_on_cuda_is_used_on_the_cpu(Estimator, X):
    on_gpu = small(Estimator, device="cuda", n_iter=20).fit(X)
    assert all(isinstance(getattr(on_gpu, name), np.ndarray) for name in FITTED)
    on_cpu = pickle.loads(pickle.dumps(on_gpu)).set_params(device="cpu")
    assert_allclose(on_cpu.transform(X), on_gpu.transform(X), rtol=1e-6)
    assert_allclose(on_cpu.free_energy(X), on_gpu.free_energy(X), rtol=1e-6)
    assert_same_fit(on_gpu, small(Estimator, device="cuda", n_iter=20).fit(X))
    mean_error = np.abs(on_gpu.sample(2000, n_steps=100).mean(0) - X.mean(0)).max()
    assert mean_error < 0.15


def test_gradient_objects_are_estimators_like_any_other():
    for gradient in (CD(3), PCD(2, 5), Exact(), ParallelTempering(4)):
        assert isinstance(gradient, BaseEstimator)
        assert str(clone(gradient)) == str(gradient)
