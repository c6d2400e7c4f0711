"""What a type checker says of a user's code."""

import pytest

api = pytest.importorskip("mypy.api")

RIGHT = """
import numpy as np
from skebm import CD, DBN, BernoulliRBM, DBNClassifier, GaussianRBM, RBMClassifier, log_likelihood

def main(X: np.ndarray, y: np.ndarray) -> float:
    rbm = BernoulliRBM(64, gradient=CD(2), learning_rate=0.05, visible="spin").fit(X)
    rbm.set_params(n_iter=3).partial_fit(X)
    print(rbm.transform(X).mean(), rbm.sample(10, method="pt"), rbm.sample_chains(4).draws)
    print(rbm.components_.shape, rbm.history_["score"][-1], rbm.fit_transform(X))
    clf = RBMClassifier(32, class_weight="balanced", unlabeled=-1).fit(X, y)
    print(clf.predict_proba(X).sum(), clf.score(X, y), clf.classes_)
    dbn = DBN([GaussianRBM(32), 16], learning_rate=[0.1, 0.05]).fit(X)
    print(dbn.score_samples(X, n_draws=3), DBNClassifier(dbn, freeze=1).fit(X, y).predict(X))
    return float(log_likelihood(rbm, X).mean())
"""
WRONG = {
    "rbm.transfrm([[0]])": 'has no attribute "transfrm"',
    "rbm.sample(n_sampels=3)": 'Unexpected keyword argument "n_sampels"',
    "BernoulliRBM(n_component=3)": 'Unexpected keyword argument "n_component"',
    'BernoulliRBM(visible="spinn")': 'Argument "visible"',
    "RBMClassifier().fit([[0]], [1]).predict_prob([[0]])": 'has no attribute "predict_prob"',
    "DBN([3]).fit([[0]]).sampel(2)": 'has no attribute "sampel"',
    "log_partition(rbm, n_chain=3)": 'Unexpected keyword argument "n_chain"',
}


def test_it_knows_the_methods_and_their_arguments(tmp_path):
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(RIGHT)
    names = "DBN, BernoulliRBM, RBMClassifier, log_partition"
    head = [f"from skebm import {names}", "rbm = BernoulliRBM()"]
    wrong.write_text("\n".join([*head, *WRONG]))
    options = ["--strict", "--follow-imports=silent", "--no-incremental", "--no-pretty"]
    out, err, _ = api.run([*options, str(right), str(wrong)])
    assert not err
    found = [line for line in out.splitlines() if ": error: " in line]
    assert len(found) == len(WRONG), out
    for number, (line, message) in enumerate(zip(found, WRONG.values()), 3):
        assert f"wrong.py:{number}: error: " in line
        assert message in line
