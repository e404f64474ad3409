"""The Verilog core of hardware/rtl, in two simulators; yosys counts the FPGA resources it takes."""

from spiking_lfp.deploy.chip import Backend, Chip

ICARUS = {"iverilog": "iverilog", "vvp": "iverilog"}
VERILATOR = {"verilator": "verilator", "make": "make", "g++": "g++"}


def _icarus() -> Backend:
    from spiking_lfp.deploy.backends.verilog import VerilogCore

    return VerilogCore("icarus", ICARUS, lanes=8)


def _verilator() -> Backend:
    from spiking_lfp.deploy.backends.verilog import VerilogCore

    return VerilogCore("verilator", VERILATOR, lanes=8)


CHIP = Chip(
    title="this project's core in Verilog",
    backends={"icarus": _icarus, "verilator": _verilator},
    programs={**ICARUS, **VERILATOR, "yosys": "yosys"},
)
