"""The device, the threads and the floating-point type of the computations."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def resolve(device: str, *, fall_back: bool = False) -> torch.device:
    """The torch device that `device` names; "auto" is CUDA if it is available.

    With `fall_back`, the function warns and returns the CPU if a CUDA device is absent. A model
    that was fitted on a GPU can then be used on a machine without a GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:<index>'; got {device!r}.")
    if resolved.type == "cpu" or (resolved.index or 0) < torch.cuda.device_count():
        return resolved
    message = f"device={device!r} is not present on this machine"
    if not fall_back:
        raise ValueError(f"{message}; use device='auto' or device='cpu'.")
    warnings.warn(f"{message}; the CPU is used instead.", UserWarning, stacklevel=2)
    return torch.device("cpu")


def device_of(rows) -> torch.device:
    """The device of a tensor; the CPU for rows that are not a tensor."""
    return rows.device if isinstance(rows, torch.Tensor) else torch.device("cpu")


def numpy_type(dtype: np.dtype | torch.dtype) -> np.dtype:
    """The type of numpy with the same name."""
    return np.dtype(str(dtype).removeprefix("torch."))


def float_type(dtype: np.dtype | torch.dtype) -> np.dtype:
    """The type of computations: float32 if it can hold all values of `dtype`, else float64."""
    single = np.result_type(numpy_type(dtype), np.float32) == np.float32
    return np.dtype(np.float32 if single else np.float64)


#: With at most this many multiplications, a product of an update is computed by one thread.
ONE_THREAD = 2**22


@contextmanager
def threads(n_multiplications: float) -> Iterator[None]:
    """Use one thread of torch for small updates, and put the number back afterwards.

    The threads of torch wait for each other actively. A small product then takes longer than with
    one thread, and many times as long if another process uses the same cores.
    """
    before = torch.get_num_threads()
    if before == 1 or n_multiplications > ONE_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def precision(device: torch.device, precision: str = "highest") -> Iterator[None]:
    """Set how CUDA computes in single precision, and put the settings back afterwards.

    Products and convolutions use TF32 unless the precision is "highest", whatever the settings of
    the process are. Convolutions are deterministic.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    uses_tf32 = precision != "highest"
    settings: list[tuple[Any, str, Any]] = [(cudnn, "deterministic", True)]
    settings.append((cudnn, "benchmark", False))
    if hasattr(cudnn, "conv"):
        kind = "tf32" if uses_tf32 else "ieee"
        settings += [(of, "fp32_precision", kind) for of in (matmul, cudnn.conv)]
    else:  # torch < 2.9
        settings += [(of, "allow_tf32", uses_tf32) for of in (matmul, cudnn)]
    before = [getattr(of, name) for of, name, _ in settings]
    for of, name, value in settings:
        setattr(of, name, value)
    try:
        yield
    finally:
        for (of, name, _), value in zip(settings, before):
            if name == "fp32_precision":  # "none" takes the setting of a wider scope
                setattr(of, name, "none")
            if getattr(of, name) != value:
                setattr(of, name, value)
