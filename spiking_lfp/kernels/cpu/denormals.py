"""Numbers next to zero, with which processors compute a hundred times slower, taken for zero.

Training makes ever more of them: updates are proportional to a weight's size, so that unused weights shrink for ever,
and where nothing is fed back Adam's mean of updates decays until rounding holds it at the smallest numbers there are.
"""

import platform
from typing import Any, no_type_check

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads

# of MXCSR, the register of a thread that says how its vector units compute: take denormal results and operands for zero
FLUSH = 1 << 15 | 1 << 6
X86 = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
@no_type_check
def _set_bits(typing: Any, flush: Any) -> Any:
    """Set `FLUSH` of MXCSR in the calling thread, or clear it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(32)
        place = cgutils.alloca_once(builder, word)
        pointer = builder.bitcast(place, ir.PointerType(ir.IntType(8)))
        kind = ir.FunctionType(ir.VoidType(), [pointer.type])
        names = ("llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr")
        store, load = (cgutils.get_or_insert_function(builder.module, kind, name) for name in names)
        builder.call(store, [pointer])
        others = builder.and_(builder.load(place), word(~FLUSH & 0xFFFFFFFF))
        wanted = builder.select(values[0], word(FLUSH), word(0))
        builder.store(builder.or_(others, wanted), place)
        builder.call(load, [pointer])
        return context.get_dummy_value()

    return types.void(types.boolean), generate


@kernel
@no_type_check
def _set_threads(begin: int, end: int, flush: bool) -> None:
    """Set or clear the bits in the threads that have these items, one each."""
    if in_threads(begin, end):
        return
    _set_bits(flush)


def flush_denormals(flush: bool = True) -> bool:
    """Let all CPU threads, torch's and ours, take numbers below 1.2e-38 for zero, or no longer; return what held.

    The longer a network learns, the more of them there are, and the slower are its steps: `benchmarks/denormals.py`.
    `fit` and the commands do it while they train; call it once before a loop of your own. `torch.set_flush_denormal`
    concerns the calling thread only, and so does this on processors other than x86. Threads beyond those that numba may
    use (NUMBA_NUM_THREADS) are left as they are.

    Args:
        flush: whether to take them for zero.

    Returns:
        whether the calling thread did so before.

    Example:
        >>> before = flush_denormals()
        >>> float(torch.tensor(1e-40) * 1.0)
        0.0
        >>> flush_denormals(before)
        True
    """
    before = float(torch.tensor(1e-40) * 1.0) == 0
    if X86:
        threads = -all_threads()
        _set_threads(-threads, threads, flush)
    else:
        torch.set_flush_denormal(flush)
    return before
