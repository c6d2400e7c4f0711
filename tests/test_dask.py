"""Searches on a Dask cluster, and the wrappers of dask-ml."""

import warnings

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline

from skebm import BernoulliRBM, RBMClassifier

pytest.importorskip("dask_ml")
distributed = pytest.importorskip("distributed")


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:400] / 16, y[:400]


def test_a_search_on_a_cluster_is_the_local_one():
    X, y = digits()
    rbm = BernoulliRBM(16, n_iter=2, random_state=0)
    model = make_pipeline(rbm, LogisticRegression(max_iter=300))
    grid = {"bernoullirbm__learning_rate": [0.01, 0.1], "bernoullirbm__gradient": ["cd", "pcd"]}
    local, remote = (GridSearchCV(model, grid, cv=2) for _ in range(2))
    local.fit(X, y)
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**settings) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config("dask", scatter=[X, y]),
    ):
        remote.fit(X, y)
        threads = client.run(lambda: __import__("torch").get_num_threads())
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(local.cv_results_[name], remote.cv_results_[name])
    ours, theirs = (search.best_estimator_[0] for search in (local, remote))
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    assert set(threads.values()) == {1}


def test_epochs_are_a_resource_of_halving_searches():
    X, y = digits()
    grid = {"learning_rate": [1e-6, 1.0]}
    settings = {"resource": "n_iter", "min_resources": 2, "max_resources": 4, "factor": 2, "cv": 2}
    search = HalvingGridSearchCV(RBMClassifier(16, random_state=0), grid, **settings)
    search.fit(X, y)
    assert search.best_params_ == {"learning_rate": 1.0, "n_iter": 4}
    assert search.n_resources_ == [2, 4]


@pytest.mark.filterwarnings("ignore")
def test_blocks_of_a_dask_array_are_chunks_of_partial_fit():
    import dask.array as da
    from dask_ml.wrappers import Incremental, ParallelPostFit

    X, y = digits()
    rows, labels = da.from_array(X, chunks=(100, 64)), da.from_array(y, chunks=100)
    classifier = RBMClassifier(16, random_state=0)
    wrapped = Incremental(classifier, shuffle_blocks=False)
    wrapped.fit(rows, labels, classes=np.arange(10))
    for first in range(0, 400, 100):
        piece = slice(first, first + 100)
        classifier.partial_fit(X[piece], y[piece], classes=np.arange(10))
    np.testing.assert_array_equal(wrapped.estimator_.components_, classifier.components_)
    rbm = BernoulliRBM(16, n_iter=1, random_state=0).fit(X)
    features = ParallelPostFit(rbm).transform(rows).compute()
    np.testing.assert_array_equal(features, rbm.transform(X))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hyperband_fails_for_other_estimators_too():
    """The guide says so: if this test fails, dask-ml works again, and the guide is out of date."""
    import dask.array as da
    from dask_ml.model_selection import HyperbandSearchCV
    from sklearn.linear_model import SGDClassifier

    X, y = digits()
    rows, labels = da.from_array(X, chunks=(100, 64)), da.from_array(y, chunks=100)
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    search = HyperbandSearchCV(SGDClassifier(), {"alpha": [1e-4, 1e-3]}, max_iter=4)
    with (
        distributed.LocalCluster(**settings) as cluster,
        distributed.Client(cluster),
        warnings.catch_warnings(),
        pytest.raises(RuntimeError),
    ):
        search.fit(rows, labels, classes=np.arange(10))
