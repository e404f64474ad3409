"""Any processor with a C compiler, by the C99 runtime in hardware/runtime_c."""

from spiking_lfp.deploy.chip import Backend, Chip


def _runtime() -> Backend:
    from spiking_lfp.deploy.backends.c import CRuntime

    return CRuntime()


# compilers for bare boards, and their simulators
BOARDS = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
}

# what builds the runtime for WebAssembly, and runs it in tests
WASM = {"clang": "clang", "wasm-ld": "lld", "node": "nodejs"}

CHIP = Chip(
    title="any processor, in C99",
    arithmetic=None,
    backends={"c": _runtime},
    programs={"cc": "gcc", "make": "make", **BOARDS, **WASM},
)
