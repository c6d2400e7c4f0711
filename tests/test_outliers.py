"""Rows of low density are outliers."""

import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skebm import (
    DBM,
    BernoulliRBM,
    GaussianRBM,
    RBMOutlierDetector,
    TabularRBM,
    log_partition,
)


def ring(n=500, seed=0):
    """Rows on a circle, and its centre and a far row behind them."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    X += 0.05 * np.random.default_rng(seed + 1).normal(size=X.shape)
    return np.vstack([X, [[5, 5]]])


def test_scikit_learn_has_no_objections():
    detector = RBMOutlierDetector(GaussianRBM(4, n_iter=5))
    results = check_estimator(detector, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {
        "check_array_api_input"
    }


def test_the_score_is_the_log_density_up_to_log_z():
    X = np.random.default_rng(0).integers(2, size=(200, 6)).astype(float)
    for model in (
        BernoulliRBM(3, n_iter=5, temperature=2.0),
        GaussianRBM(3, n_iter=5),
        DBM((3, 2), n_iter=5),
    ):
        detector = RBMOutlierDetector(model, random_state=0).fit(X)
        fitted = detector.estimator_
        log_z = log_partition(fitted, method="exact").value
        if isinstance(model, DBM):
            expected = fitted.score_samples(X, log_z=0.0)
        else:
            expected = -fitted.free_energy(X) / model.temperature
        assert_allclose(detector.score_samples(X), expected, rtol=1e-5, atol=1e-5)
        if isinstance(model, BernoulliRBM):
            states = np.array(np.meshgrid(*[[0.0, 1.0]] * 6)).reshape(6, -1).T
            assert_allclose(np.exp(detector.score_samples(states) - log_z).sum(), 1, rtol=1e-4)


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.5])
def test_that_share_of_the_training_rows_are_outliers(contamination):
    X = ring()
    detector = RBMOutlierDetector(contamination=contamination, random_state=0).fit(X)
    outliers = detector.predict(X) == -1
    assert_allclose(outliers.mean(), contamination, atol=2 / len(X))
    assert outliers[-1]  # the far row
    scores = detector.score_samples(X)
    assert scores[outliers].max() < detector.offset_ <= scores[~outliers].min()
    assert_allclose(detector.decision_function(X), scores - detector.offset_)


def test_rows_of_weight_zero_do_not_count():
    X = ring()
    weight = np.ones(len(X))
    weight[100:] = 0
    model = GaussianRBM(4, n_iter=5)
    detector = RBMOutlierDetector(model, contamination=0.1, random_state=0)
    detector.fit(X, sample_weight=weight)
    assert_allclose((detector.predict(X[:100]) == -1).mean(), 0.1, atol=0.011)
    few = RBMOutlierDetector(model, contamination=0.1, random_state=0).fit(X[:100])
    assert_array_equal(detector.score_samples(X), few.score_samples(X))
    weight[:100] = np.arange(100) % 3
    shares = np.average(detector.fit(X, sample_weight=weight).predict(X) == -1, weights=weight)
    assert_allclose(shares, 0.1, atol=0.021)


def test_it_takes_what_its_model_takes():
    bits = np.random.default_rng(0).integers(2, size=(60, 5))
    dense, sparse = (
        RBMOutlierDetector(BernoulliRBM(2, n_iter=3), random_state=0).fit(X).score_samples(X)
        for X in (bits, csr_array(bits))
    )
    assert_allclose(dense, sparse, rtol=1e-6)
    table = pd.DataFrame({"suit": ["hearts", "clubs"] * 99, "red": [True, False] * 99})
    table.loc[198] = ["clubs", True]
    detector = RBMOutlierDetector(TabularRBM(4), contamination=0.01, random_state=0).fit(table)
    assert list(detector.feature_names_in_) == ["suit", "red"]
    assert (detector.predict(table) == -1).tolist() == [False] * 198 + [True]


def test_it_ends_a_pipeline_and_can_be_saved():
    X = 100 * ring() + 7
    pipeline = make_pipeline(StandardScaler(), RBMOutlierDetector(random_state=0)).fit(X)
    assert pipeline.predict(X)[-1] == -1
    assert_array_equal(pickle.loads(pickle.dumps(pipeline)).predict(X), pipeline.predict(X))
    detector = pipeline[-1]
    data = skops.io.dumps(detector)
    trusted = skops.io.get_untrusted_types(data=data)
    assert not [name for name in trusted if not name.startswith(("skebm.", "numpy."))]
    again = skops.io.loads(data, trusted=trusted)
    assert_array_equal(again.score_samples(X), detector.score_samples(X))
    model = GaussianRBM(3, n_iter=2)
    outer = RBMOutlierDetector(model, random_state=0)
    assert_array_equal(outer.fit_predict(X), clone(outer).fit_predict(X))
    assert not hasattr(model, "components_")


def test_a_failed_fit_leaves_nothing_behind():
    X = ring()
    X[0, 0] = np.nan
    detector = RBMOutlierDetector()
    with pytest.raises(ValueError, match="missing entries"):
        detector.fit(X)
    assert not [name for name in vars(detector) if name.endswith("_")]
    with pytest.raises(ValueError, match="contamination"):
        RBMOutlierDetector(contamination=0.0).fit(ring())
