"""Devices and types."""

import numpy as np
import pytest
import torch

from skebm.engine.devices import ONE_THREAD, float_type, precision, resolve, threads


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


def user_settings():
    return {
        "nothing": (torch.backends, "fp32_precision", "none"),
        "TF32": (torch.backends, "fp32_precision", "tf32"),
        "TF32 products": (torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        "exact convolutions": (torch.backends.cudnn.conv, "fp32_precision", "ieee"),
        "TF32 products, older": (torch.backends.cuda.matmul, "allow_tf32", True),
        "deterministic": (torch.backends.cudnn, "deterministic", True),
    }


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch < 2.9")
@pytest.mark.parametrize("name", user_settings() if hasattr(torch.backends.cudnn, "conv") else [])
def test_the_precision_of_cuda_is_as_asked_and_as_it_was_afterwards(name):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def state():
        kinds = (torch.backends, cudnn, matmul, cudnn.conv)
        return [*(kind.fp32_precision for kind in kinds), cudnn.deterministic, cudnn.benchmark]

    def check(kind):
        assert (matmul.fp32_precision, cudnn.conv.fp32_precision) == (kind, kind)
        assert cudnn.deterministic
        assert not cudnn.benchmark

    of, setting, value = user_settings()[name]
    unset = state()
    before = getattr(of, setting)
    setattr(of, setting, value)
    try:
        user = state()
        with precision(torch.device("cuda"), "high"):
            check("tf32")
            with precision(torch.device("cuda"), "highest"):
                check("ieee")
            check("tf32")
        assert state() == user
        with precision(torch.device("cpu"), "high"):
            assert state() == user
    finally:
        setattr(of, setting, before)
    if setting == "fp32_precision":  # what a wider scope had set is not kept
        assert matmul.fp32_precision == unset[2]


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
