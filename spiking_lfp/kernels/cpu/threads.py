"""Kernels that share their work out among threads, as many as torch may use.

A kernel whose first two arguments are `begin` and `end` works on the items from one to the other, and starts so:

    @kernel
    def _double(begin, end, x):
        if in_threads(begin, end):
            return
        for i in range(begin, end):
            x[i] *= 2

`_double(all_threads(), len(x), x)` calls itself in every thread with a share of the items. numba's own parallel loops
do the same, and take twice as long to compile: they compile their bodies apart, and once more inside the function.
"""

import os
from typing import Any, no_type_check

import llvmlite.binding
import numba
import numpy as np
import torch
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from spiking_lfp.kernels.compilation import kernel

WORD = ir.IntType(64)
SHARE_OUT = "spiking_lfp_share_out"


def all_threads() -> int:
    """Return the `begin` of a kernel that is to share its items out among all threads: minus their number.

    That is bounded by torch's setting; a forked process has one.
    """
    threads: int = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads > 1:
        numba.set_num_threads(threads)
    return -threads


# Threads of numba and torch are OpenMP's. A fork does not copy them, and waiting for them would end or hang it. Both
# follow torch's setting, which torch's own DataLoader puts to 1 in its workers, too.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@intrinsic
@no_type_check
def _call(typing: Any, address: Any, arguments: Any, begin: Any, end: Any) -> Any:
    """Call the function at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        # llvmlite finds the type of a called function only in a pointer that tells it
        function = builder.inttoptr(values[0], ir.PointerType(ir.FunctionType(ir.VoidType(), [WORD] * 3)))
        builder.call(function, values[1:])
        return context.get_dummy_value()

    return types.void(address, arguments, begin, end), generate


_chosen = torch.get_num_threads()


@kernel(signature=types.void(types.intp, types.intp, types.intp, types.intp), parallel=True, no_cfunc_wrapper=False)
@no_type_check
def _share_out(address: int, arguments: int, parts: int, count: int) -> None:
    """Call the function at an address for so many parts of `count` items, each in a thread."""
    parts = min(parts, count)
    if parts == 1:  # without waking another thread
        _call(address, arguments, 0, count)
        return
    for part in prange(parts):
        _call(address, arguments, np.intp(part) * count // parts, (np.intp(part) + 1) * count // parts)


# numba has started its threads, and told OpenMP their number, by which torch would go from now on
torch.set_num_threads(_chosen)
# compiled kernels, those on disk too, call it by its name
_compiled = _share_out.overloads[_share_out.signatures[0]]
_address = _compiled.library.get_pointer_to_function(_compiled.fndesc.llvm_cfunc_wrapper_name)
llvmlite.binding.add_symbol(SHARE_OUT, _address)


@intrinsic
@no_type_check
def in_threads(typing: Any, begin: Any, end: Any) -> Any:
    """Tell whether `begin` comes from `all_threads`, and if so let the kernel around this call do all its items."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kernel, (begin, end) = builder.function, values
        negative = builder.icmp_signed("<", begin, WORD(0))
        with builder.if_then(negative):
            # the kernel's own arguments, and how it ended
            parts = [*kernel.args, ir.Constant(kernel.function_type.return_type, 0)]
            packet = cgutils.alloca_once(builder, ir.LiteralStructType([part.type for part in parts]))
            places = [cgutils.gep_inbounds(builder, packet, 0, index) for index in range(len(parts))]
            for part, place in zip(parts, places, strict=True):
                builder.store(part, place)
            worker = _worker(builder.module, kernel, packet.allocated_type)
            arguments = [builder.ptrtoint(each, WORD) for each in (worker, packet)]
            share_out = ir.FunctionType(ir.VoidType(), [WORD] * 4)
            function = cgutils.get_or_insert_function(builder.module, share_out, SHARE_OUT)
            builder.call(function, [*arguments, builder.neg(begin), end])
            status = builder.load(places[-1])
            with builder.if_then(cgutils.is_not_null(builder, status)):
                builder.ret(status)  # numba raises what the kernel raised in a thread
        return negative

    return types.boolean(begin, end), generate


@no_type_check
def _worker(module: Any, kernel: Any, packet_type: Any) -> Any:
    """Write a function that calls `kernel` with the arguments in a packet, but for a share of its items."""
    worker = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORD] * 3), f"{kernel.name}.worker")
    worker.linkage = "internal"
    builder = ir.IRBuilder(worker.append_basic_block())
    address, begin, end = worker.args
    packet = builder.inttoptr(address, ir.PointerType(packet_type))
    places = [cgutils.gep_inbounds(builder, packet, 0, index) for index in range(len(kernel.args) + 1)]
    share = {"arg.begin": begin, "arg.end": end}
    arguments = [
        share.get(argument.name) or builder.load(place)
        for argument, place in zip(kernel.args, places[:-1], strict=True)
    ]
    status = builder.call(kernel, arguments)
    with builder.if_then(cgutils.is_not_null(builder, status)):
        builder.store(status, places[-1])
    builder.ret_void()
    return worker
