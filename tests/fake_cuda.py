"""A CUDA device that is not there: real numbers on the CPU, behind tensors that say "cuda:0".

Every tensor is a plain CPU tensor. Its storage has a mark if the tensor is on the device. Two modes
see all calls: `Front` sees the functions of torch, and answers questions about devices; `FakeCuda`
sees the operations below autograd, those of the backward pass too.

What fails on a GPU fails here: tensors of two devices in one operation, a generator of the other
device, a wait of the host during a capture, and a graph whose input was freed. The mode counts
the waits of the host. A captured graph is the list of the operations of the capture. A replay runs
them on the same storages. The emulation says nothing about speed, memory or the kernels of CUDA.
"""

import contextlib
import sys
from collections import Counter
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
#: Operations after which the host waits for a number or a shape.
WAITS = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "allclose", "bincount"),
    *("_unique2", "unique_dim", "unique_consecutive", "_linalg_svd", "_linalg_eigh"),
}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


def on_cuda(x) -> bool:
    """Whether x is a tensor on the emulated device."""
    return isinstance(x, Tensor) and getattr(x.untyped_storage(), "on_cuda", False)


def tensors_of(*values) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def key_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextlib.contextmanager
def without_modes():
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        yield


class Input:
    """A tensor that a record reads or writes, but does not keep alive."""

    def __init__(self, tensor: Tensor):
        self.storage = StorageWeakRef(tensor.untyped_storage())
        self.dtype = tensor.dtype
        self.view = tensor.storage_offset(), tensor.size(), tensor.stride()

    def tensor(self, func) -> Tensor:
        if self.storage.expired():
            raise RuntimeError(f"{func} reads memory that was freed after the capture")
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.view)


class Record:
    """A list of operations, and the tensors that they made: these stay alive."""

    def __init__(self):
        self.calls: list[tuple] = []
        self.kept: dict[int, Tensor] = {}

    def run(self, func, args, kwargs):
        """Call an operation and record it."""
        result = func(*args, **kwargs)
        given = {key_of(t) for t in tensors_of(args, kwargs)}
        made = [t if key_of(t) not in given else None for t in tensors_of(result)]
        self.keep(*(t for t in made if t is not None))
        args, kwargs = tree_map(self._input, (args, kwargs))
        self.calls.append((func, args, kwargs, made))
        return result

    def keep(self, *tensors):
        self.kept |= {key_of(t): t for t in tensors}

    def _input(self, x):
        return Input(x) if isinstance(x, Tensor) and key_of(x) not in self.kept else x

    def replay(self) -> None:
        """Call all operations again; they write to the same memory."""
        with without_modes(), torch.inference_mode():
            for func, *inputs, made in self.calls:
                args, kwargs = tree_map(
                    lambda x, func=func: x.tensor(func) if isinstance(x, Input) else x, inputs
                )
                for new, old in zip(tensors_of(func(*args, **kwargs)), made):
                    if old is not None:
                        old.copy_(new)


class Operations(TorchDispatchMode):
    """Passes every operation that is not made of others to `operation`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            if func.has_kernel_for_dispatch_key(COMPOSITE):  # as it comes in inference mode
                with self:
                    return func.decompose(*args, **(kwargs or {}))
            return self.operation(func, args, dict(kwargs or {}))


class Recorder(Operations):
    """Runs a block on CPU tensors and records it; `replay` runs the block again."""

    def __init__(self):
        super().__init__()
        self.record = Record()
        self.operation, self.replay = self.record.run, self.record.replay


class Generator(torch.Generator):
    """A generator of one of the two devices."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")

    def __init__(self, device="cpu"):
        self._device = CUDA if torch.device(device).type == "cuda" else CPU
        if self._device == CUDA:  # an operation gets another object for the same generator
            active().generators[self._cdata] = self

    @property
    def device(self):
        return self._device


class Stream:
    def __init__(self, device=None, priority=0):
        self.device = CUDA

    def is_capturing(self):
        return active().graph is not None

    def wait_stream(self, stream):
        pass

    wait_event = wait_stream

    def synchronize(self):
        active().wait("synchronize")


class Event:
    def __init__(self, *_, **__):
        self.recorded = False

    def record(self, stream=None):
        self.recorded = True

    def synchronize(self):
        if self.recorded:
            active().wait("Event.synchronize")


class CUDAGraph:
    def __init__(self):
        self.record, self.generators, self.is_broken = None, [], False

    def register_generator_state(self, generator):
        if generator.device != CUDA:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        self.generators.append(generator)

    def capture_begin(self, pool=None, capture_error_mode="global"):
        mode = active()
        if mode.graph is not None or mode.streams[-1] is mode.streams[0]:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        self.record, self.is_broken, mode.graph = Record(), False, self
        self._states = [g.get_state() for g in self.generators]
        self._before: dict[int, tuple] = {}

    def run(self, func, args, kwargs):
        """Record an operation, and save what it is about to change."""
        named = dict(zip((a.name for a in func._schema.arguments), args)) | kwargs
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                for t in tensors_of(named.get(argument.name)):
                    if key_of(t) not in self.record.kept and key_of(t) not in self._before:
                        self._before[key_of(t)] = t.untyped_storage(), t.untyped_storage().clone()
        if func.overloadpacket.__name__ != "copy_":  # a number of the host stays as it is now
            args, kwargs = tree_map(self._constant, (args, kwargs))
        return self.record.run(func, args, kwargs)

    def _constant(self, x):
        if isinstance(x, Tensor) and not on_cuda(x):
            x = x.clone()
            self.record.keep(x)
        return x

    def capture_end(self):
        """Nothing has run: what was changed is as it was, what was made holds no numbers."""
        active().graph = None
        with without_modes():
            for storage, before in self._before.values():
                storage.copy_(before)
            for t in tensors_of([made for *_, made in self.record.calls]):
                torch.empty(0, dtype=torch.uint8).set_(t.untyped_storage()).fill_(255)
        for generator, state in zip(self.generators, self._states):
            generator.set_state(state)
        if self.is_broken:
            self.record = None
            raise RuntimeError("CUDA error: the capture failed due to a previous error")
        active().captures += 1

    def replay(self):
        if self.record is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        active().replays += 1
        self.record.replay()


class FakeCuda(Operations):
    """Runs and counts the operations, and knows the device of every result."""

    def __init__(self):
        super().__init__()
        #: How often the host waited: by (why, "file.py:line" of the innermost frame in skebm).
        self.waits: Counter = Counter()
        self.kernels = self.captures = self.replays = 0
        self.graph: CUDAGraph | None = None
        #: The free bytes of the device.
        self.memory = 2**40
        self.streams = [Stream()]
        self.generators: dict[int, Generator] = {}
        #: Whether the function that is called has tensors on the device, or moves one off it.
        self.inside = self.leaving = False

    def wait(self, why: str) -> None:
        if self.graph is not None:
            self.graph.is_broken = True
            raise RuntimeError(f"CUDA error: {why} is not permitted when a stream is capturing")
        frame = sys._getframe(1)
        while frame and frame.f_globals.get("__name__", "").split(".")[0] != "skebm":
            frame = frame.f_back
        code = frame and f"{frame.f_code.co_filename.split('/')[-1]}:{frame.f_lineno}"
        self.waits[why, code or ""] += 1

    @contextlib.contextmanager
    def stream(self, stream):
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams.pop()

    def operation(self, func, args, kwargs):
        name, given = func.overloadpacket.__name__, tensors_of(args, kwargs)
        there, here = [t for t in given if on_cuda(t)], [t for t in given if not on_cuda(t)]
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        if asked == "cuda":
            kwargs["device"] = CPU
        pinned = bool(kwargs.pop("pin_memory", False)) or name in ("pin_memory", "_pin_memory")
        if name == "is_pinned":
            return getattr(given[0].untyped_storage(), "pinned", False)
        # A function of tensors on the device makes new tensors there, though it names the CPU.
        to_cuda = (bool(there) or (self.inside and not given)) and (self.inside or not asked)
        to_cuda = (to_cuda or asked == "cuda") and not pinned
        if name == "_to_copy":
            if asked == "cuda" and here:
                self._move("H2D", here[0], kwargs.get("non_blocking"))
            to_cuda = to_cuda and not self.leaving
        elif name == "copy_" and there and here:
            to_cuda = on_cuda(args[0])
            self._move("H2D" if to_cuda else "D2H", here[0], args[2:] == (True,))
        elif there:
            index = tensors_of(args[1]) if name in INDEXED else []
            for i in index:
                if i.dtype in (torch.bool, torch.uint8):
                    self.wait("mask as index")
                if not on_cuda(i):
                    self.wait("H2D of an index")
            if any(t.dim() and not any(t is i for i in index) for t in here):
                raise RuntimeError(
                    f"{func}: Expected all tensors to be on the same device, but found at least "
                    "two devices, cuda:0 and cpu!"
                )
            if name in WAITS or str(func) == "aten.repeat_interleave.Tensor":
                self.wait("item" if name == "_local_scalar_dense" else name)
        self._check_generator(func, kwargs.get("generator"), to_cuda)
        if pinned:
            kwargs.pop("device", None)
            func, kwargs = (torch.clone, {}) if given else (func, kwargs)
            args = args[:1]
        if self.graph is not None and (there or to_cuda):
            result = self.graph.run(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
            self.kernels += to_cuda and not func.is_view
        for t in tensors_of(result) if to_cuda or pinned else []:
            setattr(t.untyped_storage(), "pinned" if pinned else "on_cuda", True)
        return result

    def _move(self, why, host, non_blocking):
        if not (non_blocking and getattr(host.untyped_storage(), "pinned", False)):
            self.wait(why)

    def _check_generator(self, func, generator, to_cuda):
        if generator is None:
            return
        if (generator._cdata in self.generators) != to_cuda:
            kinds = ("cuda", "cpu") if to_cuda else ("cpu", "cuda")
            raise RuntimeError(f"{func}: Expected a {kinds[0]} generator but found {kinds[1]}")
        known = self.graph.generators if self.graph is not None and to_cuda else [generator]
        if generator._cdata not in [g._cdata for g in known]:
            raise RuntimeError("The generator is not registered with the graph of this capture")


class Front(TorchFunctionMode):
    """Answers what a tensor says about its device, and moves tensors."""

    def __init__(self, mode: FakeCuda):
        super().__init__()
        self.mode = mode

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name, x = kwargs or {}, getattr(func, "__name__", ""), args[0] if args else None
        if str(kwargs.get("device")) == "cuda":
            kwargs = kwargs | {"device": CUDA}
        if func in GETTERS:
            return GETTERS[func](x) if on_cuda(x) else func(x)
        if isinstance(x, Tensor) and name in ("to", "cpu", "cuda", "as_tensor"):
            return self._to(name, x, *args[1:], **kwargs)
        is_there = any(map(on_cuda, tensors_of(args, kwargs)))
        if is_there and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        if is_there and name == "tolist":
            self.mode.wait("D2H")
        before, self.mode.inside = self.mode.inside, is_there and kwargs.get("device") is None
        try:
            if func is Tensor.backward:  # it may call functions that ask for devices
                kwargs["grad_tensors"] = kwargs.pop("gradient", None)
                with self:
                    return torch.autograd.backward(*args, **kwargs)
            return func(*args, **kwargs)
        finally:
            self.mode.inside = before

    def _to(self, name, x, *args, copy=False, **kwargs):
        if name in ("cpu", "cuda"):
            device, dtype, non_blocking = torch.device(name), None, False
        elif name == "as_tensor":
            device, dtype, non_blocking = kwargs.get("device"), kwargs.get("dtype"), False
        elif args and isinstance(args[0], Tensor):
            other, non_blocking = args[0], kwargs.get("non_blocking", False)
            device, dtype = CUDA if on_cuda(other) else CPU, other.dtype
        else:
            device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        dtype, was_there = dtype or x.dtype, on_cuda(x)
        to_there = was_there if device is None else torch.device(device).type == "cuda"
        if to_there == was_there:
            return x.to(dtype, copy=copy)
        if to_there:
            return x.to(CUDA, dtype, non_blocking=non_blocking)
        self.mode.wait("D2H")
        self.mode.leaving = True
        try:
            return x.to(dtype, copy=True)
        finally:
            self.mode.leaving = False


GETTERS = {
    Tensor.device.__get__: lambda x: CUDA,
    Tensor.is_cuda.__get__: lambda x: True,
    Tensor.is_cpu.__get__: lambda x: False,
    Tensor.get_device: lambda x: 0,
}
MODES: list[FakeCuda] = []


def active() -> FakeCuda:
    return MODES[-1]


def group(lists, with_indices=False, original=torch._C._group_tensors_by_device_and_dtype):
    """The groups of tensors that an optimiser makes, by the device that the tensors name."""
    groups = original(lists, with_indices)
    return {
        (CUDA if any(map(on_cuda, tensors_of(value[0]))) else device, dtype): value
        for (device, dtype), value in groups.items()
    }


@contextlib.contextmanager
def fake_cuda():
    """Emulate a CUDA device in this block, and yield the mode that counts what happens on it."""
    mode = FakeCuda()
    patches = {
        torch: {"Generator": Generator},
        torch._C: {"_group_tensors_by_device_and_dtype": group},
        torch.backends.cuda: {"is_built": lambda: True},
        torch.accelerator: {
            "current_accelerator": lambda check_available=False: CUDA,
            "current_stream": lambda device=None: mode.streams[-1],
        },
        torch.cuda: {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "mem_get_info": lambda device=None: (mode.memory, mode.memory),
            "synchronize": lambda device=None: mode.wait("synchronize"),
            "device": contextlib.nullcontext,
            "is_current_stream_capturing": lambda: mode.graph is not None,
            "current_stream": lambda device=None: mode.streams[-1],
            "stream": mode.stream,
            "Stream": Stream,
            "Event": Event,
            "CUDAGraph": CUDAGraph,
        },
    }
    with contextlib.ExitStack() as stack:
        for module, values in patches.items():
            stack.enter_context(mock.patch.multiple(module, **values))
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        MODES.append(mode)
        stack.callback(MODES.pop)
        with Front(mode), mode:
            yield mode
