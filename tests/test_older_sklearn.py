"""What versions of scikit-learn before 1.9 lack, on the present one."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.utils.class_weight import compute_class_weight

from skebm import _sklearn

CODE = """
import pickle, sys
import numpy as np
import sklearn.callback, sklearn.linear_model, sklearn.model_selection, sklearn.pipeline
if {blocked}:
    sys.modules["sklearn.callback"] = None
from skebm import DBN, BernoulliRBM, DBNClassifier, RBMImputer
X = (np.random.default_rng(0).uniform(size=(40, 5)) < 0.4).astype(float)
y = np.arange(40) % 2
rbm = BernoulliRBM(4, n_iter=3, random_state=0, verbose=1).fit(X)
dbn = DBN((4, 3), n_iter=2, fine_tune="up-down", fine_tune_n_iter=2, random_state=0, verbose=1)
network = DBNClassifier((4, 3), n_iter=2, random_state=0).fit(X, y)
holes = np.where(np.random.default_rng(1).uniform(size=X.shape) < 0.2, np.nan, X)
imputer = RBMImputer(BernoulliRBM(4, n_iter=2), random_state=0).fit(holes)
results = rbm.transform(X), dbn.fit(X).transform(X), network.predict_proba(X)
print(*(a.tobytes().hex() for a in (*results, imputer.transform(holes))))
try:
    rbm.set_callbacks()
    print("callbacks")
except NotImplementedError as error:
    print(error)
"""


def test_fits_are_the_same_without_callbacks():
    outputs = []
    for blocked in (False, True):
        command = [sys.executable, "-c", CODE.format(blocked=blocked)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        *lines, bits, callbacks = out.splitlines()
        outputs.append(([line.split(", time")[0] for line in lines], bits))
        wanted = "Callbacks need scikit-learn 1.9 or newer; update it." if blocked else "callbacks"
        assert callbacks == wanted
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("class_weight", [None, "balanced", {"a": 2.0, "b": 0.5, "c": 1.0}])
def test_weights_of_classes_are_those_of_newer_versions(class_weight, monkeypatch):
    rng = np.random.default_rng(0)
    y, classes = rng.choice(["a", "b", "c"], 30), np.array(["a", "b", "c"])
    given = {"classes": classes, "y": y, "sample_weight": rng.uniform(size=30)}
    newer = compute_class_weight(class_weight, **given)

    def older(class_weight, *, classes, y):  # it has no weights of rows
        return compute_class_weight(class_weight, classes=classes, y=y)

    monkeypatch.setattr(_sklearn, "HAS_WEIGHTED_CLASS_WEIGHTS", False)
    monkeypatch.setattr(_sklearn, "sklearn_class_weights", older)
    assert_allclose(_sklearn.compute_class_weight(class_weight, **given), newer)
