"""A stand-in for the module ttnn in numpy, so that its backend is tested where ttnn can't be.

An instance is handed over as the module. Tensors keep what their type can store; memory, traces,
queues and the order of calls are checked. What kills a process of the real one, or is undefined
there, is an AssertionError here, which no backend catches; what raises there raises alike.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from types import SimpleNamespace

import numpy as np

from tests.ttnn import fake_numbers as numbers
from tests.ttnn.fake_device import (
    CHIPS,
    Arch,
    Banks,
    BufferType,
    Call,
    ComputeConfig,
    CoreGrid,
    DataType,
    Device,
    Layout,
    MathFidelity,
    MemoryConfig,
    Record,
    ReuseRowsProgram,
    Shape,
    Step,
    Storage,
    StorageType,
    TensorMemoryLayout,
    Trace,
)
from tests.ttnn.fake_operations import Operations
from tests.ttnn.fake_tensor import Tensor

NO_CHIPS = "TT_FATAL: No chips detected in the cluster"
ACCEPTED = ("bool", "float32", "int8", "int32", "uint8", "uint16", "uint32")


class FakeTtnn(Operations):
    """The module: constants, devices, transfers, traces, and the operations of its base class.

    ``l1_bytes`` and ``dram_bytes`` are totals over all banks; None takes those of the chip.
    """

    bfloat16, float32, bfloat8_b = DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B
    uint16, uint32, int32 = DataType.UINT16, DataType.UINT32, DataType.INT32
    TILE_LAYOUT, ROW_MAJOR_LAYOUT, TILE_SIZE = Layout.TILE, Layout.ROW_MAJOR, numbers.TILE
    DRAM_MEMORY_CONFIG = MemoryConfig(buffer_type=BufferType.DRAM)
    L1_MEMORY_CONFIG = MemoryConfig(buffer_type=BufferType.L1)
    DataType, Layout, BufferType, StorageType = DataType, Layout, BufferType, StorageType
    MathFidelity, MemoryConfig, CoreGrid, Shape = MathFidelity, MemoryConfig, CoreGrid, Shape
    TensorMemoryLayout, QueueId = TensorMemoryLayout, int
    MatmulMultiCoreReuseMultiCast1DProgramConfig = ReuseRowsProgram
    __name__, __version__ = "ttnn", "0.81.1"

    def __init__(self, arch="wormhole_b0", n_devices=1, l1_bytes=None, dram_bytes=None):
        self.chip, self.n_devices = arch, n_devices
        self.l1_bytes, self.dram_bytes = l1_bytes, dram_bytes
        self.calls = Record()
        self.opened = []
        self.handles = weakref.WeakValueDictionary()
        self.trace_numbers = itertools.count(1)
        self.Tensor = type("Tensor", (Tensor,), {"tt": self})
        self.device = SimpleNamespace(
            Arch=Arch, is_blackhole=lambda device: device.arch() is Arch.BLACKHOLE
        )

    def __getattr__(self, name):
        function = self.simple_operation(name)
        if function is None:
            raise AttributeError(f"module 'ttnn' (the stand-in for tests) has no {name!r}")
        return function

    def note(self, name, kind="other", **details):
        self.calls.append(Call(name, {"kind": kind, **details}))

    # devices

    def count_devices(self):
        if not self.n_devices:
            raise RuntimeError(NO_CHIPS)
        return self.n_devices

    GetNumAvailableDevices = GetNumPCIeDevices = get_num_devices = count_devices

    def get_device_ids(self):
        return list(range(self.count_devices()))

    def get_arch_name(self):
        self.count_devices()
        return self.chip

    def open_device(
        self,
        *,
        device_id=0,
        l1_small_size=0,
        trace_region_size=0,
        num_command_queues=1,
        dispatch_core_config=None,
        worker_l1_size=None,
    ):
        self.note(
            "open_device",
            device_id=device_id,
            l1_small_size=l1_small_size,
            trace_region_size=trace_region_size,
            num_command_queues=num_command_queues,
        )
        if device_id >= self.count_devices():
            raise RuntimeError(f"TT_FATAL: Chip to board mapping for chip {device_id} not found")
        other = self.handles.get(device_id)
        if other is not None and other.is_open:
            raise AssertionError(
                f"device {device_id} is opened twice: closing either handle breaks the other"
            )
        _, _, (cores, l1), (channels, dram) = CHIPS[self.chip]
        l1 = l1 if self.l1_bytes is None else self.l1_bytes // cores
        dram = dram if self.dram_bytes is None else self.dram_bytes // channels
        share = -(-trace_region_size // channels // 4096) * 4096
        device = Device(
            self.chip,
            device_id,
            Banks(BufferType.L1, cores, l1 - l1_small_size),
            Banks(BufferType.DRAM, channels, dram - share),
            trace_region_size,
            num_command_queues,
        )
        self.handles[device_id] = device
        return device

    def close_device(self, device):
        self.note("close_device", device_id=device.get_device_ids()[0])
        device.close()

    def get_memory_view(self, device, buffer_type):
        return device.banks[buffer_type].view()

    def init_device_compute_kernel_config(
        self,
        arch,
        *,
        math_fidelity=MathFidelity.LoFi,
        math_approx_mode=True,
        fp32_dest_acc_en=False,
        packer_l1_acc=False,
    ):
        if not isinstance(arch, Arch):
            raise TypeError(f"init_device_compute_kernel_config takes device.arch(), not {arch!r}")
        if arch is Arch.WORMHOLE_B0 and math_fidelity is MathFidelity.HiFi4 and fp32_dest_acc_en:
            raise AssertionError("HiFi4 with fp32_dest_acc_en gives wrong numbers on Wormhole")
        return ComputeConfig(math_fidelity, math_approx_mode, fp32_dest_acc_en, packer_l1_acc)

    # transfers

    @staticmethod
    def read_array(array, dtype):
        array_type = getattr(array, "dtype", None)
        if not isinstance(array, np.ndarray):
            raise TypeError(f"Tensor(): incompatible function arguments: {type(array).__name__}")
        if not array.flags.writeable:
            raise TypeError("Tensor(): incompatible function arguments: a read-only array")
        if array_type.name not in ACCEPTED:
            if dtype is None:
                raise AssertionError(
                    f"Tensor of {array_type} without a dtype aborts the process; pass a dtype"
                )
            raise RuntimeError("TT_THROW: parse_py_tensor: ndarray_import failed")
        return array

    def transfer(self, kind, name, tensor, cq_id, *written, **details):
        device = tensor.device()
        device.require_open(name)
        if device.capturing is not None:
            raise RuntimeError(f"TT_FATAL: {name} is not supported during trace capture")
        queue = device.queues.number(cq_id)
        reads = () if written else (tensor._storage,)
        command = device.queues.issue(queue, reads, written)
        self.note(
            name,
            kind,
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            memory=tensor.memory_config().buffer_type.name,
            bytes=tensor.nbytes,
            cq_id=queue,
            **details,
        )
        return command

    def to_device(self, tensor, device, memory_config=None, cq_id=None):
        if tensor.device() is not None:
            return tensor
        moved = object.__new__(self.Tensor)
        moved._set(
            tensor.shape, Storage(tensor._storage.values.copy()), tensor.dtype, tensor.layout
        )
        moved._move(device, memory_config or MemoryConfig())
        self.transfer("upload", "to_device", moved, cq_id, moved._storage)
        return moved

    def from_device(self, tensor, blocking=True, cq_id=None):
        if tensor.device() is None:
            return tensor
        if not tensor.device().is_open:
            raise RuntimeError("TT_FATAL: cq_id 0 is out of range")
        self.require_alive("from_device", tensor)
        queues = tensor.device().queues
        command = self.transfer("download", "from_device", tensor, cq_id, blocking=blocking)
        host = object.__new__(self.Tensor)
        host._set(tensor.shape, Storage(tensor._storage.values.copy()), tensor.dtype, tensor.layout)
        if blocking:
            queues.synchronize(command[0])
        else:
            host._arrives = queues, command
        return host

    @staticmethod
    def require_arrived(tensor):
        if hasattr(tensor, "_arrives"):
            queues, command = tensor._arrives
            queues.require_host(command)

    def to_dtype(self, tensor, dtype):
        if tensor.device() is not None:
            raise RuntimeError("TT_FATAL: to_dtype takes a host tensor; use typecast on a device")
        self.require_arrived(tensor)
        other = object.__new__(self.Tensor)
        values = dtype.store(tensor.values).ravel()
        other._set(tensor.shape, Storage(values), dtype, tensor.layout)
        return other

    def copy_host_to_device_tensor(self, host, tensor, cq_id=None):
        if host.device() is not None or tensor.device() is None:
            raise RuntimeError("TT_FATAL: copies a host tensor to a tensor on a device")
        if host.shape != tensor.shape:
            raise RuntimeError("TT_FATAL: Host tensor has different shape")
        if host.dtype is not tensor.dtype or host.layout is not tensor.layout:
            raise RuntimeError("TT_FATAL: Host tensor has different dtype or layout")
        self.require_alive("copy_host_to_device_tensor", tensor)
        self.transfer("upload", "copy_host_to_device_tensor", tensor, cq_id, tensor._storage)
        tensor._storage.values[...] = host._storage.values

    def allocate_tensor_on_device(self, shape, dtype, layout, device, memory_config=None):
        tensor = object.__new__(self.Tensor)
        tensor._set(shape, Storage(dtype.store(numbers.garbage(shape)).ravel()), dtype, layout)
        tensor._move(device, memory_config or MemoryConfig())
        self.note("allocate_tensor_on_device", shape=tuple(shape), dtype=dtype)
        return tensor

    def full(self, shape, fill_value, dtype=None, layout=None, device=None, memory_config=None):
        values = np.full(tuple(shape), fill_value, np.float32)
        return self.Tensor(values, dtype or DataType.BFLOAT16, device, layout, memory_config)

    def zeros(self, shape, **options):
        return self.full(shape, 0.0, **options)

    def ones(self, shape, **options):
        return self.full(shape, 1.0, **options)

    def deallocate(self, tensor, force=True):
        """Free the buffer of a tensor; with ``force`` that of its aliases too."""
        self.note("deallocate", shape=tuple(tensor.shape), force=force)
        buffer = tensor._buffer
        if buffer is not None and (force or len(buffer.tensors) == 1):
            buffer.free()

    # traces, queues and events

    def begin_trace_capture(self, device, cq_id=0):
        device.require_open("begin_trace_capture")
        self.note("begin_trace_capture", cq_id=device.queues.number(cq_id))
        if device.capturing is not None:
            raise RuntimeError("TT_FATAL: a trace is being captured already")
        if not device.trace_region_size:
            raise RuntimeError("TT_FATAL: the device has no trace region; pass trace_region_size")
        device.capturing = Trace(next(self.trace_numbers))
        return device.capturing.number

    def end_trace_capture(self, device, trace_id, cq_id=0):
        self.note("end_trace_capture", trace=trace_id, cq_id=device.queues.number(cq_id))
        if device.capturing is None or device.capturing.number != trace_id:
            raise RuntimeError(f"TT_FATAL: trace {trace_id} is not being captured")
        device.traces[trace_id], device.capturing = device.capturing, None

    def execute_trace(self, device, trace_id, cq_id=0, blocking=True):
        device.require_open("execute_trace")
        queue = device.queues.number(cq_id)
        self.note("execute_trace", "trace", trace=trace_id, cq_id=queue, blocking=blocking)
        if device.capturing is not None or trace_id not in device.traces:
            raise RuntimeError(f"TT_FATAL: Trace instance {trace_id} must exist on device")
        trace = device.traces[trace_id]
        device.queues.issue(queue, *trace.storages())
        trace.run()
        if blocking:
            device.queues.synchronize(queue)

    def release_trace(self, device, trace_id):
        self.note("release_trace", trace=trace_id)
        device.traces.pop(trace_id, None)

    def record_event(self, device, cq_id=0):
        queue = device.queues.number(cq_id)
        self.note("record_event", cq_id=queue)
        return SimpleNamespace(device=device, queue=queue, clock=list(device.queues.clocks[queue]))

    def wait_for_event(self, cq_id, event):
        queues = event.device.queues
        self.note("wait_for_event", cq_id=queues.number(cq_id), of=event.queue)
        queues.wait(queues.number(cq_id), event.clock)

    def event_synchronize(self, event):
        self.note("event_synchronize", of=event.queue)
        queues = event.device.queues
        queues.host = list(map(max, queues.host, event.clock))

    def synchronize_device(self, device, cq_id=None):
        device.require_open("synchronize_device")
        self.note("synchronize_device", cq_id=cq_id)
        everything = range(len(device.queues.clocks))
        for queue in everything if cq_id is None else [device.queues.number(cq_id)]:
            device.queues.synchronize(queue)

    # what operations are made of

    @staticmethod
    def require_alive(name, tensor):
        if not tensor.is_allocated():
            raise AssertionError(f"{name} of a deallocated tensor may crash the process")

    def run_operation(
        self,
        name,
        compute,
        inputs,
        *,
        dtypes=None,
        memory_config=None,
        output_tensor=None,
        **static,
    ):
        """Run an operation on tensors and wrap its results; record it in a trace."""
        for tensor in inputs:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"ttnn.{name}(): incompatible function arguments: {tensor!r}")
            if tensor.device() is None:
                raise RuntimeError(
                    f"TT_FATAL: {name}: Input tensor must be on device, got storage type: "
                    "StorageType::HOST"
                )
            tensor.device().require_open(name)
            self.require_alive(name, tensor)
            if tensor.layout is not Layout.TILE and name != "to_layout":
                if name in ("linear", "matmul"):
                    raise RuntimeError(f"TT_FATAL: Inputs to {name} must be tilized")
                raise AssertionError(f"{name} of rows: the stand-in computes with tiles only")
        device = inputs[0].device()
        if any(tensor.device() is not device for tensor in inputs):
            raise RuntimeError(f"TT_FATAL: {name}: operands are on different devices")
        config = memory_config or inputs[0].memory_config()
        layout = static.get("layout", Layout.TILE)
        with np.errstate(all="ignore"):
            compute = functools.partial(self.in_float64, compute)
            results = compute(*[tensor.values for tensor in inputs])
        dtypes = dtypes or [inputs[0].dtype] * len(results)
        key = (
            name,
            tuple((t.shape, t.dtype, t.layout, t.memory_config()) for t in inputs),
            tuple(dtypes),
            config,
            repr(sorted(static.items())),
        )
        if device.capturing is not None and key not in device.programs:
            raise AssertionError(f"{name} is first compiled in a trace capture; run it once before")
        outputs = []
        for result, dtype in zip(results, dtypes, strict=True):
            output = output_tensor
            if output is None:
                output = object.__new__(self.Tensor)
                storage = Storage(dtype.store(result).ravel())
                output._set(result.shape, storage, dtype, layout)
                output._move(device, config)
            else:
                self.require_alive(name, output)
                output._storage.values[...] = output.dtype.store(result).ravel()
            outputs.append(output)
        device.programs.add(key)
        sources = [(tensor._storage, tuple(tensor.shape)) for tensor in inputs]
        targets = [(output._storage, output.dtype) for output in outputs]
        if device.capturing is not None:
            device.capturing.add(Step(compute, sources, targets))
        else:
            device.queues.issue(0, [s for s, _ in sources], [s for s, _ in targets])
        self.note(
            name,
            "op",
            shape=tuple(outputs[0].shape),
            dtype=outputs[0].dtype,
            memory=config.buffer_type.name,
            inputs=[(tuple(t.shape), t.dtype) for t in inputs],
            captured=device.capturing is not None,
            **{key: value for key, value in static.items() if key not in ("shape", "dtype")},
        )
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @staticmethod
    def in_float64(compute, *arrays):
        """Compute in float64 what the chip accumulates in its own formats."""
        with np.errstate(all="ignore"):
            results = compute(*[np.asarray(array, dtype=np.float64) for array in arrays])
        return results if isinstance(results, tuple) else (results,)

    def free_alias(self, name, tensor, shape):
        self.note(name, "alias", shape=tuple(shape))
        return tensor._alias(shape)
