"""Cycles that the Verilog core takes for the first sample of a golden run, and the fewest that its adders allow.

    python benchmarks/cycles.py

The core has 8 lanes, each of which adds 4 weights in a cycle. At least it needs a cycle for each span of weights of an
event, and for each word of neurons in each step. Writes docs/experiments/cycles.jsonl; `python benchmarks/tables.py`
writes the table in hardware/README.md. Needs Verilator.
"""

from typing import Any

import numpy as np
import records
from fpga import Case, made

from spiking_lfp.deploy.backends.verilog import VerilogCore
from spiking_lfp.deploy.chips.verilog import VERILATOR
from spiking_lfp.deploy.simulator import simulate

RESULTS = records.KEPT / "cycles.jsonl"
LANES, ADDS = 8, 4
NETWORKS = ("784-1000-1000-10", "mnist-mlp-int8", "braille-mlp-int8", "nmnist-conv-int8")


def main() -> None:
    """Run the first sample of each network."""
    lines = [measured(name) for name in NETWORKS]
    RESULTS.unlink(missing_ok=True)
    for line in lines:
        records.add(RESULTS, line, 1)


def measured(name: str) -> dict[str, Any]:
    """Return the cycles of a network, and the fewest if all its layers are dense."""
    network = made(Case(name, 8))
    golden = network.golden
    assert golden is not None
    image = network.encoder == "constant"
    sample = golden.inputs[:1] if image else golden.inputs[:, :1]
    spikes = simulate(network, sample, record=True).spikes
    events, dense, fewest = int((sample != 0).sum()), True, 0
    for layer in network.spiking:
        dense = dense and len(layer.out_shape) == 1
        outputs = int(np.prod(layer.out_shape))
        fewest += events * -(-outputs // (LANES * ADDS)) + network.steps * -(-outputs // LANES)
        events = int(spikes[layer.name].sum())
    return {
        "network": name,
        "T": network.steps,
        "lanes": LANES,
        "adds": ADDS,
        "cycles": int(VerilogCore("verilator", VERILATOR, LANES, ADDS).measure(network, sample).cycles[0]),
        "at least": fewest if dense else None,
    }


if __name__ == "__main__":
    main()
