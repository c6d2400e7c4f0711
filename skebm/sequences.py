"""Sequences of categories, such as proteins: weights of rows, gauge, couplings, contacts.

weight of row n  = 1 / number of rows m with at least threshold · L equal entries
J_ij(a, b)       = Σ_k W_k,ia W_k,jb Var(h_k | v), mean over rows: −∂²F/∂v_ia ∂v_jb
contact score    = F_ij − F_i F_j / F,   F_ij = ‖J_ij‖
"""

import copy
import math
from numbers import Real
from typing import Annotated, Any

import numpy as np
import torch
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from skebm._shared import Unvalidated, validated
from skebm._sklearn import Interval
from skebm.engine.products import product
from skebm.fitted import FittedModel
from skebm.tensors import as_array

#: Rows that are compared with all others at a time.
BLOCK = 2000
#: The step of a derivative of means of hidden units, in their field.
STEP = 1e-3

Share = Annotated[float, Interval(Real, 0, 1, closed="right")]


@validated
def sequence_weights(X: Unvalidated, threshold: Share = 0.8) -> np.ndarray:
    """Weights that count similar sequences once: 1 / number of rows that are similar to a row.

    Two rows are similar if at least the share `threshold` of their entries is equal; a row is
    similar to itself. Sequences of one family are no independent draws [1]_: pass these weights
    as `sample_weight`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_columns)
        Categories: integers or strings.
    threshold : float, default=0.8
        Share of equal entries, above 0 and at most 1.

    Returns
    -------
    weight : ndarray of shape (n_samples,)
        Their sum is the effective number of sequences.

    Notes
    -----
    The time grows with the square of the number of rows.

    References
    ----------
    .. [1] F. Morcos and others (2011). Direct-coupling analysis of residue coevolution captures
       native contacts across many protein families. PNAS 108.

    Examples
    --------
    >>> from skebm import sequence_weights
    >>> X = [["A", "C", "D"], ["A", "C", "D"], ["E", "F", "G"]]
    >>> sequence_weights(X).tolist()
    [0.5, 0.5, 1.0]
    """
    X = np.asarray(as_array(X))
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X has the shape {X.shape}; pass a table of sequences, one in each row.")
    n, n_columns = X.shape
    encoder = OneHotEncoder(sparse_output=False, dtype=np.float32)
    one_hot = torch.from_numpy(encoder.fit_transform(X))
    least = math.ceil(threshold * n_columns - 1e-9)
    precision = "medium" if n_columns <= 256 else "highest"  # bfloat16 has integers up to 256
    similar = torch.zeros(n)
    for a in range(0, n, BLOCK):
        for b in range(a, n, BLOCK):  # pairs of blocks, each once
            rows, others = one_hot[a : a + BLOCK], one_hot[b : b + BLOCK]
            equal = product(rows, others.T, None, precision)  # numbers of equal entries
            are_similar = (equal >= least).float()
            similar[a : a + BLOCK] += are_similar.sum(1)
            if b > a:
                similar[b : b + BLOCK] += are_similar.sum(0)
    return 1 / similar.double().numpy()


def _units_of_columns(estimator: Any) -> np.ndarray:
    """Which visible units belong to each column of a model of categories: (n_columns, n_visible).

    The array has ones and zeros.
    """
    check_is_fitted(estimator)
    kinds = getattr(estimator, "kinds_", None)
    if kinds is None or set(kinds) != {"categorical"}:
        raise ValueError(
            f"{type(estimator).__name__} is no model of categories; pass a fitted CategoricalRBM."
        )
    columns = estimator.encoding_.column_of_unit(estimator.components_.shape[1])
    members: np.ndarray = (columns == np.arange(len(kinds))[:, None]).astype(np.float64)
    return members


def zero_sum_gauge(estimator: Any) -> Any:
    """The same distribution with weights and visible biases that sum to zero in each column.

    Exactly one unit of a column is on. A number that is added to all weights of a hidden unit in a
    column, and subtracted from the bias of this hidden unit, therefore changes no probability.
    Weights of different models can be compared in this gauge only.

    Parameters
    ----------
    estimator : CategoricalRBM
        A fitted model; it is not changed.

    Returns
    -------
    estimator : CategoricalRBM
        A copy with other `components_`, `intercept_hidden_` and `intercept_visible_`.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import CategoricalRBM, zero_sum_gauge
    >>> X = np.array([["A", "C"], ["D", "E"], ["A", "E"]] * 20)
    >>> rbm = zero_sum_gauge(CategoricalRBM(4, random_state=0).fit(X))
    >>> bool(np.abs(rbm.components_[:, :2].sum(1)).max() < 1e-5)
    True
    """
    members = _units_of_columns(estimator)
    share = members / members.sum(1, keepdims=True)
    W = estimator.components_.astype(np.float64)
    means = W @ share.T  # (n_components, n_columns)
    b = estimator.intercept_visible_.astype(np.float64)
    arrays = {
        "components_": W - means @ members,
        "intercept_hidden_": estimator.intercept_hidden_ + means.sum(1),
        "intercept_visible_": b - (share @ b) @ members,
    }
    other = copy.copy(estimator)
    for name, array in arrays.items():
        setattr(other, name, array.astype(getattr(estimator, name).dtype))
    return other


def effective_couplings(estimator: Any, X: Any) -> np.ndarray:
    """Pairwise couplings of the visible units, in the zero-sum gauge.

    J_ij(a, b) = Σ_k W_k,ia W_k,jb Var(h_k | v), as a mean over the rows: the second derivatives of
    −F(v)/T, which is the energy of a Potts model if hidden units are Gaussian [1]_.

    Parameters
    ----------
    estimator : CategoricalRBM
        A fitted model.
    X : array-like of shape (n_samples, n_columns)
        Rows over which the variances of the hidden units are averaged.

    Returns
    -------
    J : ndarray of shape (n_visible, n_visible)
        In nats; the units stand in the order of `components_`. Blocks of a column with itself are
        zero.

    References
    ----------
    .. [1] J. Tubiana, S. Cocco, R. Monasson (2019). Learning protein constitutive motifs from
       sequence data. eLife 8.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import CategoricalRBM, effective_couplings
    >>> X = np.array([["A", "C"], ["D", "E"]] * 50)
    >>> rbm = CategoricalRBM(4, n_iter=20, random_state=0).fit(X)
    >>> J = effective_couplings(rbm, X)  # units A, D, C, E
    >>> bool(J[0, 2] > 0 > J[0, 3])
    True
    """
    members = _units_of_columns(estimator)
    gauged = zero_sum_gauge(estimator)
    fitted = FittedModel(gauged)

    def variances(model, v):
        field = model.hidden_field(v).double()
        ends = (model.hidden.mean(field + sign * STEP) for sign in (1, -1))
        return torch.sub(*ends) / (2 * STEP)  # (n, n_hidden)

    variance = fitted.apply(variances, X).mean(0, dtype=np.float64)
    W = gauged.components_.astype(np.float64) / gauged.temperature
    J = W.T @ (variance[:, None] * W)  # (n_visible, n_visible)
    J[members.T @ members == 1] = 0
    return J


def contact_map(estimator: Any, X: Any) -> np.ndarray:
    """Scores of the pairs of columns, from effective couplings, with average-product correction.

    F_ij = ‖J_ij‖ is the Frobenius norm of the couplings of two columns; the score is
    F_ij − F_i F_j / F, where F_i is the mean over j, and F the mean of all pairs [1]_. In proteins,
    pairs of residues with high scores are often in contact.

    Parameters
    ----------
    estimator : CategoricalRBM
        A fitted model.
    X : array-like of shape (n_samples, n_columns)
        Rows, as in :func:`effective_couplings`.

    Returns
    -------
    score : ndarray of shape (n_columns, n_columns)
        Symmetric; NaN on the diagonal.

    References
    ----------
    .. [1] M. Ekeberg, C. Lövkvist, Y. Lan, M. Weigt, E. Aurell (2013). Improved contact prediction
       in proteins: using pseudolikelihoods to infer Potts models. Physical Review E 87.

    Examples
    --------
    >>> import numpy as np
    >>> from skebm import CategoricalRBM, contact_map
    >>> rng = np.random.default_rng(0)
    >>> X = rng.choice(list("ACDE"), size=(400, 6))
    >>> X[:, 4] = X[:, 1]  # these two columns depend on each other
    >>> rbm = CategoricalRBM(10, n_iter=20, random_state=0).fit(X)
    >>> score = contact_map(rbm, X)
    >>> [int(i) for i in np.unravel_index(np.nanargmax(score), score.shape)]
    [1, 4]
    """
    members = _units_of_columns(estimator)
    J = effective_couplings(estimator, X)
    norms = np.sqrt(members @ np.square(J) @ members.T)  # (n_columns, n_columns)
    n = len(norms)
    if n < 2:
        raise ValueError("The model has one column; contacts need at least two.")
    means = norms.sum(1) / (n - 1)
    score = norms - np.outer(means, means) / (norms.sum() / (n * (n - 1)))
    np.fill_diagonal(score, np.nan)
    return score
