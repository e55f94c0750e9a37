"""A GPU for machines without one: tensors that report ``cuda:0``, and are computed on the CPU.

Within ``emulated()``, tensors that are made on ``cuda:0`` or moved there are ``DeviceTensor``. An operation that mixes
them with tensors of the CPU raises as on a GPU. Where the CPU would have to wait for the device (a number that is
read, a copy to the host, a copy from it without ``non_blocking``, a shape that depends on values), that is counted
with the line of ours that asked for it. The device draws random numbers from a generator of its own.

What it cannot show: speed, rounding of its own, kernels that are not deterministic, and what is compiled (nothing is).
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.profiler
import torch.utils._python_dispatch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._foreach_utils import _foreach_supported_types

ROOT = Path(__file__).parents[1]
OURS = (str(ROOT / "parity"), str(ROOT / "benchmarks"), str(ROOT / "tests" / "test_"))
DEVICE = torch.device("cuda", 0)
HOST = torch.device("cpu")

_INSIDE = torch.device("meta")
"""Where C++ believes tensors to lie: autograd asks CUDA for streams, and there are none."""

aten = torch.ops.aten

_READS = {
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.unique_dim, aten._unique,
    aten._unique2, aten.unique_consecutive, aten.unique_dim_consecutive, aten.bincount, aten.histc,
    aten._linalg_check_errors, aten._linalg_svd, aten._linalg_eigh, aten.multinomial,
}  # fmt: skip
"""Kernels that wait on a GPU, whatever they are called with."""

_MOVE = {aten._to_copy, aten.copy_, aten.copy}
_BY_INDEX = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}


class DeviceTensor(Tensor):
    """A tensor on the emulated device; ``host`` holds its values."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "DeviceTensor":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            layout=host.layout, device=_INSIDE,
        )  # fmt: skip
        made.host = host
        return made

    # C++ sees another device, see ``_INSIDE``.
    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    def get_device(self) -> int:
        return DEVICE.index

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        args, kwargs = pytree.tree_map_only((str, torch.device), _inside, (args, kwargs))
        return super().to(*args, **kwargs)

    def tolist(self) -> Any:
        _device().wait("tolist")
        return self.host.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def cuda(self, *_: Any, **__: Any) -> Tensor:
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _device().run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["host"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], meta: None, size: Any, stride: Any) -> "DeviceTensor":
        return DeviceTensor(inner["host"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        # torch.load puts what was saved on a GPU onto the CPU, by map_location.
        _device().wait("pickle")
        return self.host.detach().requires_grad_(self.requires_grad).__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.host!r})"


def _inside(device: str | torch.device) -> torch.device:
    return HOST if torch.device(device).type == HOST.type else _INSIDE


class MixedDevices(RuntimeError):
    """Tensors of two devices met."""


class EmulatedDevice:
    """What happens on the device: ``waits`` by line, ``launches``, random numbers."""

    def __init__(self, seed: int = 0) -> None:
        self.waits: Counter[str] = Counter()
        self.launches = 0
        self.forbidden = False
        """Whether a wait raises an error, as after ``torch.cuda.set_sync_debug_mode("error")``."""
        self.generator = torch.Generator().manual_seed(seed)

    def wait(self, what: str) -> None:
        """Count a wait of the CPU for the device."""
        line = f"{_line()}: {what}"
        self.waits[line] += 1
        if self.forbidden:
            raise RuntimeError(f"called a synchronizing CUDA operation: {line}")

    @contextmanager
    def counted(self) -> Iterator["Counter[str]"]:
        """Yield the waits within this block, complete at its end."""
        before, found = self.waits.copy(), Counter[str]()
        try:
            yield found
        finally:
            found.update(self.waits - before)

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation of ATen where its tensors lie."""
        tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        here = [each for each in tensors if isinstance(each, DeviceTensor)]
        target = kwargs.get("device")
        if target is not None:
            target = HOST if torch.device(target).type == HOST.type else DEVICE
        packet = func._overloadpacket
        if packet in (aten.pin_memory, aten._pin_memory):
            return args[0]
        if not here and target != DEVICE:
            return func(*args, **kwargs)
        if packet in _MOVE:
            self._check_move(packet, args, kwargs, target)
        else:
            self._check(func, packet, tensors, here, args, kwargs)
        self.launches += not _is_view(func)
        unwrapped = pytree.tree_map_only(DeviceTensor, lambda each: each.host, (args, kwargs))
        host_args, host_kwargs = unwrapped[0], dict(unwrapped[1])
        to_host = packet is aten._to_copy and target == HOST
        if target is not None:
            host_kwargs["device"] = HOST
        host_kwargs.pop("pin_memory", None)
        with self._random(func):
            made = func(*host_args, **host_kwargs)
        on_host = to_host or (packet in _MOVE and packet is not aten._to_copy and not isinstance(args[0], DeviceTensor))
        if on_host:
            return args[0] if packet is aten.copy_ else made
        made = pytree.tree_map_only(Tensor, DeviceTensor, made)
        return torch.utils._python_dispatch.return_and_correct_aliasing(func, args, kwargs, made)

    def _check_move(self, packet: Any, args: Any, kwargs: Any, target: torch.device | None) -> None:
        if packet is aten._to_copy:
            source, goal = args[0].device, target or args[0].device
            quiet = kwargs.get("non_blocking", False)
        else:
            source, goal = args[1].device, args[0].device
            quiet = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        if source.type != goal.type and (goal == HOST or not quiet):
            self.wait(f"copy from {source.type} to {goal.type}")

    def _check(self, func: Any, packet: Any, tensors: Any, here: Any, args: Any, kwargs: Any) -> None:
        allowed: Sequence[Any] = ()
        if packet in _BY_INDEX:
            allowed = [each for each in args[1] if each is not None]
            if any(each.dtype in (torch.bool, torch.uint8) for each in allowed):
                self.wait(f"{packet.__name__} by a mask")
            if any(not isinstance(each, DeviceTensor) for each in allowed):
                self.wait(f"{packet.__name__} by indices on the CPU")
        for each in tensors:
            is_number = each.dim() == 0 and not isinstance(each, DeviceTensor)
            if not isinstance(each, DeviceTensor) and not is_number and not any(each is other for other in allowed):
                raise MixedDevices(
                    f"{_line()}: {func} of tensors on {DEVICE} and on {each.device}, of shapes "
                    f"{[tuple(one.shape) for one in tensors]}"
                )
        if packet in _READS or (
            packet is aten.repeat_interleave and func._overloadname == "Tensor" and kwargs.get("output_size") is None
        ):
            self.wait(packet.__name__)

    @contextmanager
    def _random(self, func: Any) -> Iterator[None]:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            yield
            return
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.generator.get_state())
        try:
            yield
        finally:
            self.generator.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)


def _is_view(func: Any) -> bool:
    return any(result.alias_info is not None and not result.alias_info.is_write for result in func._schema.returns)


def _line() -> str:
    """Return the line of ours that is at work."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "no line of ours"


class _Mode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _device().run(func, args, kwargs or {})


_LOW = {
    torch.nn.functional.linear, torch.conv1d, torch.conv2d, torch.nn.functional.conv2d, torch.matmul, Tensor.matmul,
    Tensor.__matmul__, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum,
}  # fmt: skip
_FULL = {
    torch.nn.functional.cross_entropy, torch.nn.functional.mse_loss, torch.nn.functional.kl_div, torch.softmax,
    torch.log_softmax, Tensor.softmax, Tensor.log_softmax, Tensor.sum, torch.sum, Tensor.pow, Tensor.norm, Tensor.exp,
    Tensor.log, torch.nn.functional.l1_loss,
}  # fmt: skip


class _Autocast(torch.overrides.TorchFunctionMode):
    """What ``torch.autocast("cuda")`` does: products in its type, sums and losses in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not torch.is_autocast_enabled(DEVICE.type) or func not in _LOW | _FULL:
            return func(*args, **kwargs)
        dtype = torch.get_autocast_dtype(DEVICE.type) if func in _LOW else torch.float32

        def cast(each: DeviceTensor) -> Tensor:
            return each.to(dtype) if each.dtype in (torch.float16, torch.bfloat16, torch.float32) else each

        args, kwargs = pytree.tree_map_only(DeviceTensor, cast, (args, kwargs))
        return func(*args, **kwargs)


_CURRENT: list[EmulatedDevice] = []


def _device() -> EmulatedDevice:
    return _CURRENT[-1]


def _properties(*_: Any) -> Any:
    return mock.Mock(name="emulated", major=9, minor=0, total_memory=1 << 36, multi_processor_count=1)


def _not_compiled(function: Any = None, **_: Any) -> Any:
    return _not_compiled if function is None else function


@contextmanager
def emulated(seed: int = 0) -> Iterator[EmulatedDevice]:
    """Within this block there is one GPU, which is emulated."""
    device = EmulatedDevice(seed)

    def strict(mode: int | str) -> None:
        device.forbidden = mode in ("error", 2)

    @contextmanager
    def profile(**_: Any) -> Iterator[Any]:
        before, profiled = device.launches, mock.Mock()
        yield profiled
        kind, time = SimpleNamespace(name="CUDA"), SimpleNamespace(elapsed_us=lambda: 1.0)
        launch = SimpleNamespace(device_type=kind, time_range=time, is_user_annotation=False)
        profiled.events.return_value = [launch] * (device.launches - before)

    replaced: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "synchronize": lambda *_: device.wait("torch.cuda.synchronize"),
        "empty_cache": lambda: None,
        "is_current_stream_capturing": lambda: False,
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "emulated",
        "get_device_properties": _properties,
        "get_rng_state": lambda *_: device.generator.get_state(),
        "set_rng_state": lambda state, *_: device.generator.set_state(state),
        "manual_seed": lambda number: device.generator.manual_seed(int(number)) and None,
        "manual_seed_all": lambda number: device.generator.manual_seed(int(number)) and None,
        "set_sync_debug_mode": strict,
        "get_sync_debug_mode": lambda: 2 * device.forbidden,
        "memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 0,
    }

    def inference_mode(mode: bool = True) -> Any:
        return torch.no_grad() if mode else nullcontext()

    swapped = torch.__future__.get_swap_module_params_on_conversion()
    with ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        _foreach_supported_types.append(DeviceTensor)
        stack.callback(_foreach_supported_types.remove, DeviceTensor)
        stack.enter_context(mock.patch.object(torch, "compile", _not_compiled))
        stack.enter_context(mock.patch.object(torch.profiler, "profile", profile))
        stack.enter_context(mock.patch.object(torch, "inference_mode", inference_mode))  # it has no wrapped tensors
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") would ask the driver
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swapped)
        _CURRENT.append(device)
        stack.callback(_CURRENT.remove, device)
        stack.enter_context(_Mode())
        stack.enter_context(_Autocast())
        yield device
