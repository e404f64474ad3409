"""Any processor with a C compiler, by the C99 runtime in hardware/runtime_c."""

from spiking_lfp.deploy.chip import Backend, Chip


def _runtime() -> Backend:
    from spiking_lfp.deploy.backends.c import CRuntime

    return CRuntime()


CHIP = Chip(
    title="any processor, in C99",
    arithmetic=None,
    backends={"c": _runtime},
    programs={"cc": "gcc", "make": "make"},
)
