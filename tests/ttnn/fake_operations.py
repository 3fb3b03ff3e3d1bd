"""The operations of the stand-in for ttnn: which shapes and keywords each accepts."""

from __future__ import annotations

import functools

import numpy as np

from tests.ttnn import fake_numbers as numbers
from tests.ttnn.fake_device import BufferType, DataType, Layout

APPROXIMATE = ("exp", "gelu", "tanh", "sqrt", "rsqrt")


class Operations:
    """Operations on tensors, each one call of ``run_operation``."""

    def simple_operation(self, name):
        """Return an elementwise operation or a reduction by its name, or None."""
        for table, run in (
            (numbers.UNARY, self.unary),
            (numbers.BINARY, self.binary),
            (numbers.REDUCTIONS, self.reduction),
        ):
            if name in table:
                return functools.partial(run, name)
        return None

    def unary(self, name, tensor, *, memory_config=None, output_tensor=None, **options):
        approximate = options.pop("fast_and_approximate_mode", None)
        if options or (approximate is not None and name not in APPROXIMATE):
            raise TypeError(f"ttnn.{name}(): incompatible function arguments: {options}")
        compute = numbers.UNARY[name]
        if name == "gelu" and approximate:
            compute = numbers.gelu_tanh
        if getattr(tensor, "device", lambda: None)() is None:
            raise AssertionError(f"{name} of a host tensor crashes the process")
        return self.run_operation(
            name,
            compute,
            [tensor],
            memory_config=memory_config,
            output_tensor=output_tensor,
            fast_and_approximate_mode=approximate,
        )

    def elu(self, tensor, *, alpha=1.0, memory_config=None):
        return self.run_operation(
            "elu",
            lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),
            [tensor],
            memory_config=memory_config,
            alpha=alpha,
        )

    def clamp(self, tensor, min=None, max=None, *, memory_config=None):
        return self.run_operation(
            "clamp",
            lambda x: np.clip(x, min, max),
            [tensor],
            memory_config=memory_config,
            min=min,
            max=max,
        )

    clip = clamp

    def binary(self, name, a, b, *, dtype=None, memory_config=None, output_tensor=None):
        operation = numbers.BINARY[name]
        scalar = {}
        if np.isscalar(b):
            inputs, compute, scalar = [a], (lambda x: operation(x, b)), {"scalar": b}
        elif np.isscalar(a):
            inputs, compute, scalar = [b], (lambda x: operation(a, x)), {"scalar_first": a}
        else:
            inputs, compute = [a, b], operation
            self.require_broadcast(a.shape, b.shape)
        return self.run_operation(
            name,
            compute,
            inputs,
            dtypes=None if dtype is None else [dtype],
            memory_config=memory_config,
            output_tensor=output_tensor,
            **scalar,
        )

    @staticmethod
    def require_broadcast(a, b):
        for back, (i, j) in enumerate(zip(reversed(a), reversed(b), strict=False), start=1):
            if i != j and 1 not in (i, j):
                if back <= 2:
                    raise RuntimeError("TT_THROW: Invalid subtile broadcast type")
                raise RuntimeError(
                    f"TT_FATAL: Broadcasting rule violation at dimension index {-back}, "
                    f"dim a: {i}, dim b: {j}"
                )

    def where(self, mask, a, b, *, memory_config=None):
        operands = [a, b]
        tensors = [value for value in operands if not np.isscalar(value)]
        for tensor in tensors:
            self.require_broadcast(mask.shape, tensor.shape)
        if len(tensors) == 1 and tensors[0].dtype is not mask.dtype:
            raise RuntimeError("TT_FATAL: Mixed dtype is not supported by this where")

        def choose(mask, *arrays):
            arrays = iter(arrays)
            chosen = [value if np.isscalar(value) else next(arrays) for value in operands]
            return np.where(mask != 0, *chosen)

        return self.run_operation(
            "where",
            choose,
            [mask, *tensors],
            dtypes=[(tensors or [mask])[0].dtype],
            memory_config=memory_config,
            scalars=[value for value in operands if np.isscalar(value)],
        )

    def linear(self, a, b, *, bias=None, **options):
        return self.product("linear", a, b, bias, **options)

    def matmul(self, a, b, **options):
        return self.product("matmul", a, b, None, **options)

    def product(
        self,
        name,
        a,
        b,
        bias,
        *,
        transpose_a=False,
        transpose_b=False,
        memory_config=None,
        dtype=None,
        activation=None,
        compute_kernel_config=None,
        core_grid=None,
        program_config=None,
    ):
        if activation is not None and activation not in numbers.FUSED:
            raise RuntimeError(f"TT_THROW: Unknown unary op: {activation}")
        self.require_product(
            tuple(a.shape[:-2]) + tuple(a.shape[-2:][:: -1 if transpose_a else 1]),
            tuple(b.shape[:-2]) + tuple(b.shape[-2:][:: -1 if transpose_b else 1]),
            # with these the real one finds a plan for some numbers of rows only
            program_config is None and (core_grid, compute_kernel_config) != (None, None),
        )
        batched = any(size != 1 for size in b.shape[:-2])
        if batched and activation is not None and core_grid is not None:
            raise RuntimeError("TT_FATAL: Cannot use activation with batched input b")
        if bias is not None and bias.shape[-1] not in (1, b.shape[-2 if transpose_b else -1]):
            raise RuntimeError(
                f"TT_FATAL: Broadcasting rule violation at dimension index -1: bias {bias.shape}"
            )

        def multiply(a, b, *added):
            a = np.swapaxes(a, -1, -2) if transpose_a else a
            b = np.swapaxes(b, -1, -2) if transpose_b else b
            product = numbers.matmul(a, b)
            for row in added:
                self.require_broadcast(product.shape, row.shape)
                product = product + row
            return product if activation is None else numbers.FUSED[activation](product)

        return self.run_operation(
            name,
            multiply,
            [a, b] if bias is None else [a, b, bias],
            dtypes=None if dtype is None else [dtype],
            memory_config=memory_config or self.DRAM_MEMORY_CONFIG,
            transpose_a=transpose_a,
            transpose_b=transpose_b,
            activation=activation,
            core_grid=core_grid,
            compute_kernel_config=compute_kernel_config,
            program_config=program_config,
        )

    @staticmethod
    def require_product(a, b, planned):
        if a[-1] != b[-2]:
            raise RuntimeError(
                "TT_FATAL: The width of the first tensor must be equal to the height of the second "
                f"tensor. Mismatch: width={a[-1]} height={b[-2]}"
            )
        if len(b) > len(a) and any(size != 1 for size in b[: len(b) - len(a)]):
            raise RuntimeError(
                "TT_FATAL: When in1 rank greater than in0 rank front dimensions need to be 1"
            )
        rank = max(len(a), len(b))
        front_a = (1,) * (rank - len(a)) + a[:-2]
        front_b = (1,) * (rank - len(b)) + b[:-2]
        # a plan of its own choice may not repeat the first operand
        if front_a != front_b and set(front_b) != {1} and (planned or set(front_a) != {1}):
            raise RuntimeError(
                "TT_FATAL: bmm (non-bcast matmul) expects input tensors of shapes BCMK*BCKN=BCMN "
                f"or batch dimension 0 mismatch: a={front_a} vs b={front_b}"
            )

    def softmax(
        self, tensor, dim=-1, *, memory_config=None, compute_kernel_config=None, numeric_stable=True
    ):
        return self.run_operation(
            "softmax",
            lambda x: numbers.softmax(x, dim),
            [tensor],
            memory_config=memory_config,
            dim=dim,
            numeric_stable=numeric_stable,
            compute_kernel_config=compute_kernel_config,
        )

    def reduction(
        self,
        name,
        tensor,
        dim=None,
        keepdim=False,
        *,
        memory_config=None,
        compute_kernel_config=None,
        scalar=1.0,
    ):
        if dim is None:
            raise AssertionError(f"pass dim to {name}: the stand-in reduces one axis")
        return self.run_operation(
            name,
            lambda x: numbers.REDUCTIONS[name](x, axis=dim, keepdims=keepdim) * scalar,
            [tensor],
            memory_config=memory_config,
            dim=dim,
            keepdim=keepdim,
            scalar=scalar,
            compute_kernel_config=compute_kernel_config,
        )

    def slice(
        self,
        tensor,
        slice_start=None,
        slice_end=None,
        slice_step=None,
        *,
        memory_config=None,
    ):
        """Cut a tensor; what lies between its size and its tiles comes back as garbage."""
        starts, ends = list(slice_start), list(slice_end)
        steps = [1] * len(starts) if slice_step is None else list(slice_step)
        aligned = all(start % 32 == 0 for start in starts[-2:]) and set(steps) == {1}
        if tensor.dtype is DataType.BFLOAT8_B and set(steps) != {1}:
            raise RuntimeError("TT_FATAL: Strided slice is not supported for BFLOAT8 tensors")
        # only what is cut along tiles can reach into the padding
        limits = tensor.padded_shape if aligned and len(starts) > 1 else tensor.shape
        for axis, (start, end, limit) in enumerate(zip(starts, ends, limits, strict=True)):
            if end > limit:
                raise RuntimeError(
                    f"TT_FATAL: Ends {end} must be less than or equal to the shape of the tensor "
                    f"{limit}"
                )
            if start >= tensor.shape[axis]:
                raise RuntimeError(
                    f"TT_FATAL: Slice start[{axis}] ({start}) must be less than input tensor "
                    f"shape[{axis}] ({tensor.shape[axis]})"
                )
        whole = [0] * len(starts), list(tensor.shape), [1] * len(starts)
        same = memory_config in (None, tensor.memory_config())
        if (starts, ends, steps) == whole and same and tensor.device() is not None:
            self.require_alive("slice", tensor)
            return self.free_alias("slice", tensor, tensor.shape)

        def cut(x):
            tiles = numbers.garbage(limits).astype(x.dtype)
            tiles[tuple(map(slice, x.shape))] = x
            return tiles[tuple(map(slice, starts, ends, steps))]

        becomes = tensor.dtype
        if becomes is DataType.BFLOAT8_B and not aligned:
            becomes = DataType.BFLOAT16
        return self.run_operation(
            "slice",
            cut,
            [tensor],
            dtypes=[becomes],
            memory_config=memory_config,
            starts=starts,
            ends=ends,
            steps=steps,
        )

    def concat(self, tensors, dim=0, *, memory_config=None):
        if len({tensor.dtype for tensor in tensors}) > 1:
            raise RuntimeError("TT_FATAL: All Tensors should have same dtypes.")
        return self.run_operation(
            "concat",
            lambda *arrays: np.concatenate(arrays, axis=dim),
            list(tensors),
            memory_config=memory_config or self.DRAM_MEMORY_CONFIG,
            dim=dim,
        )

    def reshape(self, tensor, shape, *, memory_config=None):
        shape = tuple(shape)
        volume = int(np.prod(tensor.shape))
        if -1 in shape:
            known = -int(np.prod(shape))
            shape = tuple(volume // known if size == -1 else size for size in shape)
        if int(np.prod(shape)) != volume:
            raise RuntimeError("TT_FATAL: Invalid arguments to reshape")
        same = memory_config in (None, tensor.memory_config())
        if self.keeps_tiles(tensor.shape, shape) and same and tensor.device() is not None:
            self.require_alive("reshape", tensor)
            return self.free_alias("reshape", tensor, shape)
        return self.run_operation(
            "reshape",
            lambda x: x.reshape(shape),
            [tensor],
            memory_config=memory_config,
            to=shape,
        )

    @staticmethod
    def keeps_tiles(old, new):
        """Say whether a reshape leaves every number in its place of its tile."""
        rows = [(1, *shape)[-2] for shape in (old, new)]
        aligned = all(count % 32 == 0 for count in rows)
        return old[-1] == new[-1] and (aligned or rows[0] == rows[1])

    def unsqueeze(self, tensor, dim):
        shape = list(tensor.shape)
        shape.insert(dim if dim >= 0 else len(shape) + 1 + dim, 1)
        return self.reshape(tensor, shape)

    def squeeze(self, tensor, dim):
        shape = list(tensor.shape)
        if shape[dim] == 1:
            del shape[dim]
        return self.reshape(tensor, shape)

    def permute(self, tensor, dims, *, memory_config=None):
        dims = tuple(dims)
        if dims == tuple(range(len(dims))) and memory_config in (None, tensor.memory_config()):
            self.require_alive("permute", tensor)
            return self.free_alias("permute", tensor, tensor.shape)
        return self.run_operation(
            "permute",
            lambda x: np.transpose(x, dims),
            [tensor],
            memory_config=memory_config,
            dims=dims,
        )

    def transpose(self, tensor, dim1, dim2, *, memory_config=None):
        return self.run_operation(
            "transpose",
            lambda x: np.swapaxes(x, dim1, dim2),
            [tensor],
            memory_config=memory_config,
            dims=(dim1, dim2),
        )

    def repeat(self, tensor, repeat_dims, *, memory_config=None):
        return self.run_operation(
            "repeat",
            lambda x: np.tile(x, tuple(repeat_dims)),
            [tensor],
            memory_config=memory_config,
            repeats=tuple(repeat_dims),
        )

    def typecast(self, tensor, dtype, *, memory_config=None):
        return self.run_operation(
            "typecast", lambda x: x, [tensor], dtypes=[dtype], memory_config=memory_config
        )

    def clone(self, tensor, *, dtype=None, memory_config=None):
        dtypes = None if dtype is None else [dtype]
        return self.run_operation(
            "clone", lambda x: x, [tensor], dtypes=dtypes, memory_config=memory_config
        )

    def to_memory_config(self, tensor, memory_config, dtype=None):
        if memory_config == tensor.memory_config() and dtype in (None, tensor.dtype):
            self.require_alive("to_memory_config", tensor)
            return self.free_alias("to_memory_config", tensor, tensor.shape)
        return self.run_operation(
            "to_memory_config",
            lambda x: x,
            [tensor],
            dtypes=None if dtype is None else [dtype],
            memory_config=memory_config,
        )

    def to_layout(self, tensor, layout):
        if layout is tensor.layout:
            return self.free_alias("to_layout", tensor, tensor.shape)
        becomes = tensor.dtype
        if layout is Layout.ROW_MAJOR and becomes is DataType.BFLOAT8_B:
            becomes = DataType.BFLOAT16
        return self.run_operation(
            "to_layout", lambda x: x, [tensor], dtypes=[becomes], layout=layout
        )

    def copy(self, source, target):
        if source.shape != target.shape:
            raise RuntimeError("TT_FATAL: copy takes tensors of one shape")
        return self.run_operation("copy", lambda x: x, [source], output_tensor=target)

    def topk(self, tensor, k=32, dim=-1, largest=True, sorted=True, *, memory_config=None):
        size = tensor.shape[dim]
        if k > size:
            raise RuntimeError(
                "TT_FATAL: K cannot be larger than the dimension size! "
                f"K={k}, dimension size={size}"
            )
        wide = tensor.dtype is DataType.FLOAT32
        return self.run_operation(
            "topk",
            lambda x: numbers.topk(x, k, dim, largest),
            [tensor],
            dtypes=[tensor.dtype, DataType.UINT32 if wide else DataType.UINT16],
            memory_config=memory_config,
            k=k,
            dim=dim,
            largest=largest,
        )

    def scatter(self, input, dim, index, src, *, memory_config=None):
        if input.dtype is self.float32:
            raise RuntimeError("TT_FATAL: Scatter doesn't work for fp32 tiled tensors yet")
        return self.run_operation(
            "scatter",
            lambda x, index, source: numbers.scatter(x, index, source, dim),
            [input, index, src],
            memory_config=memory_config,
            dim=dim,
        )

    def gather(self, input, dim, index, *, memory_config=None):
        return self.run_operation(
            "gather",
            lambda x, index: np.take_along_axis(x, index.astype(np.int64), axis=dim),
            [input, index],
            memory_config=memory_config,
            dim=dim,
        )

    def pad(self, tensor, padding, value, *, memory_config=None):
        return self.run_operation(
            "pad",
            lambda x: np.pad(x, padding, constant_values=value),
            [tensor],
            memory_config=memory_config,
            padding=[tuple(pair) for pair in padding],
            value=value,
        )

    def l1_peak(self, device):
        """Return the most bytes of L1 that one bank held, for tests."""
        return device.banks[BufferType.L1].peak
