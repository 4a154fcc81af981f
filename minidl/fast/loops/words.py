"""Intrinsics for what Python cannot express: atomic operations, function pointers, BLAS, a processor's modes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD = ir.IntType(64)
SUBNORMALS_ARE_ZERO = 1 << 15 | 1 << 6  # x86's MXCSR: in results, and in what is computed with
ARM64 = "aarch64", "arm64"  # what LLVM's names of such machines begin with


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The address of board[i]; board and i are the first two arguments."""
    return builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])


def _intrinsic(builder: Any, result: Any, name: str, *args: Any) -> Any:
    """A call of LLVM's intrinsic. Assembly instead would end the process on ARM64: numba loads no parser for it."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def load(_: Any, board: Any, i: Any) -> Any:
    """board[i], by an atomic load."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, sig, args), "seq_cst", 8)

    return types.int64(board, types.int64), generate


@intrinsic
def store(_: Any, board: Any, i: Any, value: Any) -> Any:
    """board[i] = value, by an atomic store: a thread that reads it sees everything written before it."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, sig, args), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(board, types.int64, types.int64), generate


@intrinsic
def add(_: Any, board: Any, i: Any, value: Any) -> Any:
    """board[i] += value, atomically."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(context, builder, sig, args), args[2], "seq_cst")

    return types.int64(board, types.int64, types.int64), generate


@intrinsic
def swap(_: Any, board: Any, i: Any, old: Any, new: Any) -> Any:
    """Compare and swap: board[i] = new if it is still `old`, atomically. Returns whether it was."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _place(context, builder, sig, args)
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return types.boolean(board, types.int64, types.int64, types.int64), generate


@intrinsic
def pause(_: Any) -> Any:
    """A spin-wait hint: for some tens of nanoseconds it lets the other hyperthread of this core, if any, run."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            _intrinsic(builder, ir.VoidType(), "llvm.x86.sse2.pause")
        elif builder.module.triple.startswith(ARM64):  # its `yield` does nothing on most processors
            _intrinsic(builder, ir.VoidType(), "llvm.aarch64.isb", ir.Constant(ir.IntType(32), 15))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def ticks(_: Any) -> Any:
    """A hardware counter as a clock: about two to five ticks in a nanosecond; 0 on unknown processors."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            return _intrinsic(builder, WORD, "llvm.readcyclecounter")
        if builder.module.triple.startswith(ARM64):
            count, per_second = (
                _intrinsic(builder, WORD, "llvm.read_volatile_register.i64", builder.module.add_metadata([register]))
                for register in ("cntvct_el0", "cntfrq_el0")  # the second: 24 million on Apple's, up to a billion
            )
            return builder.mul(count, builder.udiv(ir.Constant(WORD, 2 * 10**9), per_second))
        return ir.Constant(WORD, 0)

    return types.int64(), generate


@intrinsic
def entry(typing: Any, function: Any, args: Any) -> Any:
    """(address of a C function, address of the args), for `call`: the C function calls function(i, *args).

    The args are on the caller's stack: they are gone when it returns.
    """
    kinds = (types.int64, *args.types)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        typing.resolve_function_type(function, kinds, {})
        made = function.dispatcher.overloads[kinds]
        context.active_code_library.add_linking_library(made.library)
        memory = cgutils.alloca_once_value(builder, values[1])
        plain = ir.Function(builder.module, ir.FunctionType(WORD, [WORD, WORD]), builder.module.get_unique_name("part"))
        plain.linkage = "internal"
        inside = ir.IRBuilder(plain.append_basic_block())
        tuple_ = inside.load(inside.inttoptr(plain.args[1], memory.type))
        numba_function = context.declare_function(builder.module, made.fndesc)
        unpacked = zip(args.types, cgutils.unpack_tuple(inside, tuple_, len(args.types)), strict=True)
        given = [plain.args[0], *(_lent(context, inside, kind, value) for kind, value in unpacked)]
        status, _result = context.call_conv.call_function(inside, numba_function, types.none, kinds, given)
        inside.ret(inside.zext(status.is_error, WORD))
        addresses = [builder.ptrtoint(plain, WORD), builder.ptrtoint(memory, WORD)]
        return context.make_tuple(builder, sig.return_type, addresses)

    return types.UniTuple(types.int64, 2)(function, args), generate


def _lent(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A borrowed array: without its reference count, which all threads would contend for at each slice."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


@intrinsic
def call(_: Any, code: Any, i: Any, args: Any) -> Any:
    """Compute part i of what `entry` returned. Returns 1 if it failed, for lack of memory."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        kind = ir.FunctionType(WORD, [WORD, WORD])
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def gemm(_: Any, address: Any, turn_a: Any, turn_b: Any, m: Any, n: Any, k: Any, a: Any, lda: Any, b: Any, ldb: Any,
         beta: Any, c: Any, ldc: Any) -> Any:  # fmt: skip
    """BLAS's cblas_?gemm at that address: C = op(A) op(B) + beta C, row-major. c is an array that starts at C; a and
    b are arrays too, or addresses."""
    size = types.int64
    flag = types.int64
    real = c.dtype

    def generate(context: Any, builder: Any, sig: Any, v: Any) -> Any:
        number, int32 = context.get_value_type(real), ir.IntType(32)
        pointer = number.as_pointer()
        data = [
            builder.inttoptr(v[i], pointer)
            if isinstance(sig.args[i], types.Integer)
            else context.make_array(sig.args[i])(context, builder, v[i]).data
            for i in (6, 8, 11)
        ]
        kind = ir.FunctionType(ir.VoidType(), [
            int32, int32, int32, WORD, WORD, WORD, number, pointer, WORD, pointer, WORD, number, pointer, WORD
        ])  # fmt: skip
        trans = [builder.trunc(builder.add(flag_, ir.Constant(WORD, 111)), int32) for flag_ in v[1:3]]
        builder.call(builder.inttoptr(v[0], kind.as_pointer()), [
            ir.Constant(int32, 101), *trans, *v[3:6], ir.Constant(number, 1.0), data[0], v[7], data[1], v[9], v[10],
            data[2], v[12],
        ])  # fmt: skip
        return context.get_dummy_value()

    return types.void(size, flag, flag, size, size, size, a, size, b, size, real, c, size), generate


@intrinsic
def ignore_subnormals(_: Any) -> Any:
    """From now on this thread computes with 0 for subnormal numbers, which are too small for all their digits; returns
    what `restore` takes. On x86 computing with them takes up to a hundred times as long."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not builder.module.triple.startswith("x86_64"):
            return ir.Constant(WORD, 0)
        control = cgutils.alloca_once(builder, ir.IntType(32))  # x86's register for this is called MXCSR
        address = builder.bitcast(control, cgutils.voidptr_t)
        _intrinsic(builder, ir.VoidType(), "llvm.x86.sse.stmxcsr", address)
        before = builder.load(control)
        builder.store(builder.or_(before, ir.Constant(ir.IntType(32), SUBNORMALS_ARE_ZERO)), control)
        _intrinsic(builder, ir.VoidType(), "llvm.x86.sse.ldmxcsr", address)
        return builder.zext(before, WORD)

    return types.int64(), generate


@intrinsic
def restore(_: Any, before: Any) -> Any:
    """Compute with subnormal numbers as before `ignore_subnormals`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            control = cgutils.alloca_once_value(builder, builder.trunc(args[0], ir.IntType(32)))
            _intrinsic(builder, ir.VoidType(), "llvm.x86.sse.ldmxcsr", builder.bitcast(control, cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def copy(_: Any, to: Any, source: Any, count: Any) -> Any:
    """Copy the first `count` elements of a contiguous array to another: for short runs, where a loop costs more."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(sig.args[:2], values[:2], strict=True)
        ]
        size = context.get_abi_sizeof(context.get_data_type(to.dtype))
        cgutils.raw_memcpy(builder, arrays[0].data, arrays[1].data, values[2], size, 1)
        return context.get_dummy_value()

    return types.void(to, source, types.int64), generate


@intrinsic
def copy_long(_: Any, to: Any, i: Any, source: Any, j: Any, count: Any) -> Any:
    """to[i : i + count] = source[j : j + count], for contiguous arrays taken as flat.

    It copies blocks of 64 bytes, the last one up to the end of the run, over some of what the one before it copied: so
    there is neither a call nor a rest, which cost more than the copying itself. Shorter runs are copied as by copy().
    """

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        size = context.get_abi_sizeof(context.get_data_type(to.dtype))
        lanes = ir.Constant(WORD, 64 // size)
        block = ir.VectorType(context.get_value_type(to.dtype), 64 // size)
        a, b = (
            builder.gep(context.make_array(sig.args[k])(context, builder, values[k]).data, [values[k + 1]])
            for k in (0, 2)
        )

        def copy_block(at: Any) -> None:
            target, origin = (builder.bitcast(builder.gep(run, [at]), block.as_pointer()) for run in (a, b))
            builder.store(builder.load(origin, align=size), target, align=size)

        with builder.if_else(builder.icmp_signed("<", values[4], lanes)) as (short, long):
            with short:
                cgutils.raw_memcpy(builder, a, b, values[4], size, 1)
            with long:
                last = builder.sub(values[4], lanes)
                blocks = builder.udiv(builder.sub(values[4], ir.Constant(WORD, 1)), lanes)
                with cgutils.for_range(builder, blocks) as each:
                    copy_block(builder.mul(each.index, lanes))
                copy_block(last)
        return context.get_dummy_value()

    return types.void(to, types.int64, source, types.int64, types.int64), generate


@intrinsic
def multiply_high(_: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the 128-bit product."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        wide = [builder.zext(value, ir.IntType(128)) for value in values]
        return builder.trunc(builder.lshr(builder.mul(*wide), ir.Constant(ir.IntType(128), 64)), WORD)

    return types.uint64(types.uint64, types.uint64), generate
