"""Rows on their way to the device."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import skebm.engine.batches as batches_module
from skebm.engine.batches import Batches, chunks, summarise, to_device, visits_of
from skebm.engine.noise import Noise

CPU, DOUBLE = torch.device("cpu"), np.dtype("float64")


def make(X, weight=None, batch_size=4, shuffle=True):
    return Batches(X, weight, batch_size=batch_size, shuffle=shuffle, device=CPU, dtype=DOUBLE)


def rows_of(epoch):
    """The batches of an epoch, kept: each is valid only until the next."""
    return [(v.double().clone(), w) for v, w in epoch]


def numbered(n):
    """Rows that carry their own number."""
    return np.arange(n, dtype=float)[:, None] * [1.0, 10.0]


@given(n=st.integers(1, 30), batch_size=st.integers(1, 12), shuffle=st.booleans())
def test_every_row_once_an_epoch_in_batches_of_one_shape(n, batch_size, shuffle):
    epoch = rows_of(make(numbered(n), None, batch_size, shuffle)(Noise(0)))
    size = min(n, batch_size)
    assert {(v.shape, w.shape) for v, w in epoch} == {((size, 2), (size,))}
    seen = torch.cat([v[w > 0, 0] for v, w in epoch])
    assert sorted(seen.tolist()) == list(range(n))
    weight = torch.cat([w[w > 0] for _, w in epoch])
    assert_allclose(weight, 1 / size)


@given(n=st.integers(1, 15), seed=st.integers(0, 100))
def test_shares_are_the_weights(n, seed):
    weight = np.random.default_rng(seed).uniform(size=n)
    weight[0] = 1.5
    weight[1 : n // 2] = 0
    share = np.zeros(n)
    for v, w in make(numbered(n), weight)(Noise(seed)):
        np.add.at(share, v[:, 0].long().numpy(), w.numpy())
    assert_allclose(share / share.sum(), weight / weight.sum())
    assert_allclose(make(numbered(n), weight).mean, weight @ numbered(n) / weight.sum(), 1e-6)


def test_integer_weights_count():
    seen = torch.cat(
        [v[w > 0, 0] for v, w in rows_of(make(numbered(3), np.array([2.0, 0.0, 3.0]))(Noise(0)))]
    )
    assert sorted(seen.tolist()) == [0, 0, 2, 2, 2]


def test_shuffling_takes_another_order_every_time_and_none_takes_the_rows_as_they_are():
    def order(batches, seed):
        return torch.cat([v[w > 0, 0] for v, w in rows_of(batches(Noise(seed)))]).tolist()

    shuffled = make(numbered(20))
    assert order(shuffled, 0) == order(shuffled, 0) != order(shuffled, 1)
    assert order(make(numbered(20), shuffle=False), 0) == list(range(20))


@given(seed=st.integers(0, 1000))
def test_the_order_belongs_to_the_rows_and_not_to_the_file(seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(3, size=(17, 4)).astype(float)
    mixed = X[rng.permutation(17)]
    for (v, w), (v_mixed, w_mixed) in zip(make(X)(Noise(seed)), make(mixed)(Noise(seed))):
        assert_array_equal(v, v_mixed)
        assert_array_equal(w, w_mixed)


def test_all_containers_hold_the_same_rows():
    X = (np.random.default_rng(0).uniform(size=(30, 5)) < 0.3).astype(float)
    reference = [v for v, _ in rows_of(make(X)(Noise(0)))]
    others = [
        sparse.csr_array(X),
        sparse.csr_matrix(X),
        X.astype(bool),
        X.astype("uint8"),
        X.astype(">f8"),
        X.astype("float16"),
        X[::-1].copy()[::-1],
        np.asfortranarray(X),
        np.broadcast_to(X, X.shape),
    ]
    for other in others:
        for v, expected in zip((v for v, _ in rows_of(make(other)(Noise(0)))), reference):
            assert_array_equal(v, expected)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32", "int64"])
def test_rows_arrive_in_the_type_asked_for_and_the_source_is_left_alone(dtype):
    X = np.ones((3, 2), dtype)
    X.flags.writeable = False
    for target in ("float32", "float64"):
        tensor = to_device(X, CPU, np.dtype(target))
        assert tensor.dtype == getattr(torch, target)
        tensor.zero_()
    assert X.all()


@given(n=st.integers(1, 50), row_size=st.integers(1, 20))
def test_chunks_cut_everything_into_bounded_pieces(n, row_size):
    X, before = np.empty((n, 1)), batches_module.CHUNK
    batches_module.CHUNK = 40
    try:
        pieces = [np.arange(n)[piece] for piece in chunks(X, row_size)]
    finally:
        batches_module.CHUNK = before
    assert_array_equal(np.concatenate(pieces), np.arange(n))
    assert all(len(piece) == 1 or len(piece) * row_size <= 40 for piece in pieces)


@pytest.mark.parametrize("block", [1, 30, 2**17])
def test_blocks_do_not_change_the_batches(block, monkeypatch):
    X = np.random.default_rng(0).uniform(size=(33, 5))
    for source in (X, sparse.csr_array(X)):
        reference = rows_of(make(source)(Noise(0)))
        monkeypatch.setattr(batches_module, "BLOCK", block)
        for (v, w), (expected, weight) in zip(rows_of(make(source)(Noise(0))), reference):
            assert_array_equal(v, expected)
            assert_array_equal(w, weight)
        monkeypatch.undo()


def test_the_probe_is_a_sample_of_the_visits():
    weight = np.array([0.0, 3.0, 1.0])
    few = make(numbered(3), weight).probe
    assert_array_equal(np.bincount(few[:, 0].long(), minlength=3), weight)  # all of them
    weight = np.tile(weight, 1000)
    probe = make(numbered(3000), weight).probe
    assert len(probe) == batches_module.PROBE
    share = np.bincount(probe[:, 0].long() % 3, minlength=3) / len(probe)
    assert_allclose(share, [0, 0.75, 0.25], atol=0.06)


@pytest.mark.parametrize(
    ("n", "n_measured"),
    [(150, 150), (399, 399), (400, 200), (1000, 200), (2000, 500), (9000, 1000)],
)
def test_measured_rows_are_spread_over_the_probe(n, n_measured):
    batches = make(numbered(n))
    assert len(batches.measured) == n_measured
    centre = batches.probe[:, 0].double().mean()
    assert abs(batches.measured[:, 0].double().mean() - centre) < 0.1 * n


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, "readonly"], ids=str)
def test_rows_on_cuda_are_those_of_the_cpu(kind):
    X = np.random.default_rng(0).uniform(size=(1000, 7)).astype(np.float32)
    rows = X.copy() if kind == "readonly" else kind(X)
    if kind == "readonly":
        rows.flags.writeable = False
    settings = {"batch_size": 3, "shuffle": False, "dtype": np.dtype("float32")}
    on_gpu = Batches(rows, None, device=torch.device("cuda"), **settings)
    assert (on_gpu.resident is None) == (kind is not np.asarray)
    seen = torch.cat([v.cpu()[w.cpu() > 0] for v, w in on_gpu(Noise(0, "cuda"))])
    assert_array_equal(seen, X)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
def test_a_tensor_is_summarised_as_the_array_is(dtype):
    rng = np.random.default_rng(0)
    X = (5 * rng.uniform(size=(500, 7))).astype(dtype)
    visits, weight = visits_of(rng.uniform(size=500), 500)
    of_array = summarise(X, visits, weight)
    of_tensor = summarise(torch.from_numpy(X), visits, weight)
    expected = np.average(X[visits].astype(float), weights=weight, axis=0)
    for mean, key in (of_array, of_tensor):
        assert_allclose(mean, expected, rtol=1e-6)
        assert_allclose(key, of_array[1], rtol=1e-12, atol=1e-12)
