"""Devices and types."""

import numpy as np
import pytest
import torch

from skebm.engine.devices import ONE_THREAD, float_type, resolve, threads


def test_auto_is_cuda_where_there_is_one():
    assert resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "cuda:x", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda'"):
        resolve(name)


def test_small_updates_have_one_thread(two_threads):
    with threads(ONE_THREAD):
        assert torch.get_num_threads() == 1
        with threads(ONE_THREAD + 1):  # a fit inside of a fit
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with threads(ONE_THREAD + 1):
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), threads(1):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_an_absent_device_is_an_error_or_a_warning():
    with pytest.raises(ValueError, match="'cuda:99' is not present"):
        resolve("cuda:99")
    with pytest.warns(UserWarning, match="the CPU is used"):
        assert resolve("cuda:99", fall_back=True) == torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("bool", "float32"),
        ("uint8", "float32"),
        ("int16", "float32"),
        ("float16", "float32"),
        ("float32", "float32"),
        ("int32", "float64"),
        ("int64", "float64"),
        ("float64", "float64"),
        ("longdouble", "float64"),
    ],
)
def test_the_type_holds_every_value(given, expected):
    assert float_type(np.dtype(given)) == expected
