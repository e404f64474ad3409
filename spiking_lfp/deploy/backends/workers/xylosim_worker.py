"""Runs a configuration of Xylo in XyloSim: python xylosim_worker.py NETWORK.json SPIKES.json; see `formats.xylo`.

NETWORK.json has "configuration" and "inputs", `[N][T][I]`. SPIKES.json gets what XyloSim recorded of each sample, with
all states at 0 before: the spikes of "hidden" neurons and of "outputs", `[N][T][n]`, and if NETWORK.json says "states"
their "currents", "membranes", "currents_out" and "membranes_out", membranes after the reset.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(source: str, target: str) -> None:
    """Read a network, run it, write its spikes."""
    Path(target).write_text(json.dumps(recorded(json.loads(Path(source).read_text()))))


def recorded(task: dict[str, Any]) -> dict[str, Any]:
    """Run a network, and return what was recorded."""
    from xylosim.v2 import XyloLayer, XyloSynapse

    config = task["configuration"]
    hidden, outputs = len(config["threshold"]), len(config["threshold_out"])

    def synapses(name: str) -> Any:
        rows = config.get(name, [[]] * hidden)
        return [[XyloSynapse(post, 0, weight) for post, weight in enumerate(row) if weight] for row in rows]

    # XyloSim keeps references to the lists that it is given: they have to live as long as the layer
    given: dict[str, Any] = {
        "synapses_in": synapses("weights_in"),
        "synapses_rec": synapses("weights_rec"),
        "synapses_out": synapses("weights_out"),
        "aliases": [[] for _ in range(hidden)],
        "threshold": config["threshold"],
        "threshold_out": config["threshold_out"],
        "has_bias": "bias_hidden" in config,
        "bias": config.get("bias_hidden", [0] * hidden),
        "bias_out": config.get("bias_out", [0] * outputs),
        **{
            f"weight_shift_{theirs}": config.get(f"weight_shift_{ours}", 0)
            for theirs, ours in (("inp", "in"), ("rec", "rec"), ("out", "out"))
        },
        "dash_mem": config["dash_mem"],
        "dash_mem_out": config["dash_mem_out"],
        # two synapses of hidden neurons, of which the second has no weights
        "dash_syns": [[dash, 1] for dash in config["dash_syn"]],
        "dash_syns_out": [[dash] for dash in config["dash_syn_out"]],
        "name": "network",
    }
    layer = XyloLayer(**given)
    spikes = {"hidden": "rec_recurrent_spikes", "outputs": "rec_out_spikes"}
    states = {
        "currents": "rec_i_syn",
        "membranes": "rec_v_mem",
        "currents_out": "rec_i_syn_out",
        "membranes_out": "rec_v_mem_out",
    }
    found: dict[str, Any] = {name: [] for name in (*spikes, *(states if task.get("states") else ()))}
    for inputs in task["inputs"]:
        layer.reset_all()
        layer.evolve(inputs)
        for name in found:
            values = getattr(layer, spikes.get(name) or states[name])
            found[name].append(values if name in spikes else list(map(list, zip(*values, strict=True))))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
