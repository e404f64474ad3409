"""Runs a network in SANA-FE: python sanafe_worker.py NETWORK.npz SPIKES.npz; see `external`."""

import sys
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

PER_CORE = 1024
CORES_PER_TILE = 4
LOWEST = -(2**23 - 1) / 64
SUBTRACT = 1


def loihi(cores: int, inputs: int) -> Any:
    """Return SANA-FE's own Loihi with only the cores and inputs that are needed: the whole chip takes seconds."""
    import sanafe

    text = (files("sanafe.examples") / "loihi.yaml").read_text()
    tiles = -(-cores // CORES_PER_TILE)
    for before, after in (
        ("width: 8", f"width: {tiles}"),
        ("height: 4", "height: 1"),
        ("loihi_tile[0..31]", f"loihi_tile[0..{tiles - 1}]"),
        ("loihi_inputs[0..1023]", f"loihi_inputs[0..{inputs - 1}]"),
    ):
        text = text.replace(before, after)
    # the backend starts workers in a temporary folder
    path = Path("loihi.yaml")
    path.write_text(text)
    return sanafe.load_arch(path)


def main(source: str, target: str) -> None:
    """Read a network, run it, write its spikes."""
    import sanafe

    data = np.load(source)
    inputs, layers = data["inputs"], int(data["layers"])
    steps, samples, features = inputs.shape
    total = steps + layers
    started = perf_counter()
    network = sanafe.Network()
    sizes = [features, layers, *(len(data[f"theta{k}"]) for k in range(layers))]
    architecture = loihi(sum(-(-size // PER_CORE) for size in sizes), min(PER_CORE, max(features, layers)))
    cores = iter(architecture.cores())

    def place(group: Any, inputs: bool = False) -> None:
        """Map neurons to cores that no other group uses."""
        for n in range(len(group.neurons)):
            if n % PER_CORE == 0:
                core = next(cores)
            if inputs:
                group[n].set_attributes(soma_hw_name=f"loihi_inputs[{n % PER_CORE}]")
            group[n].map_to_core(core)

    def generators(name: str, trains: Any) -> Any:
        """Return a group of spike generators with the spikes `[steps of all samples, neurons]`."""
        group = network.create_neuron_group(name, trains.shape[1])
        place(group, inputs=True)
        for n in range(trains.shape[1]):
            group[n].set_attributes(model_attributes={"spikes": trains[:, n].astype(bool).tolist()})
        return group

    def connect(before: Any, after: Any, pre: Any, post: Any, weight: Any) -> None:
        pairs = list(zip(pre.tolist(), post.tolist(), strict=True))
        before.connect_neurons_sparse(after, {"w": weight.astype(float).tolist()}, pairs)

    padded = np.zeros((samples, total, features), np.uint8)
    padded[:, :steps] = inputs.transpose(1, 0, 2)
    before = generators("inputs", padded.reshape(-1, features))
    # a generator for the bias of each layer, active one step before each step of the layer
    biases = np.zeros((samples, total, layers), np.uint8)
    for k in range(layers):
        biases[:, k : k + steps, k] = 1
    bias = generators("biases", biases.reshape(-1, layers))
    for k in range(layers):
        theta, reset = data[f"theta{k}"], int(data[f"reset{k}"])
        neurons = np.arange(len(theta))
        group = network.create_neuron_group(
            f"layer{k}",
            len(theta),
            model_attributes={
                "reset_mode": ("hard", "none", "soft")[reset],
                "leak_decay": (4096 - int(data[f"decay{k}"])) / 4096,
                "input_decay": 0.0,
                "force_update": True,
                "reverse_threshold": LOWEST,
                "reverse_reset_mode": "saturate",
            },
            default_synapse_hw_name="loihi_sparse_synapse",
            default_dendrite_hw_name="loihi_dendrites",
            soma_hw_name="loihi_lif",
            log_spikes=True,
        )
        for n in range(len(theta)):
            group[n].set_attributes(model_attributes={"threshold": float(theta[n])})
        place(group)
        connect(before, group, data[f"pre{k}"], data[f"post{k}"], data[f"weight{k}"])
        wanted = np.flatnonzero(data[f"bias{k}"])
        if len(wanted):
            connect(bias, group, np.full(len(wanted), k), wanted, data[f"bias{k}"][wanted])
        if reset == SUBTRACT:
            connect(group, group, neurons, neurons, -theta)
        before = group
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    setup, run = perf_counter() - started, 0.0
    spikes = [np.zeros((steps, samples, len(data[f"theta{k}"])), np.uint8) for k in range(layers)]
    for sample in range(samples):
        started = perf_counter()
        trace = chip.sim(total, timing_model="simple", spike_trace=True)["spike_trace"]
        chip.reset()
        run += perf_counter() - started
        for step, addresses in enumerate(trace):
            for address in addresses:
                k = int(address.group_name.removeprefix("layer"))
                # layer 0 fires one step after its inputs
                t = step - k - 1
                if 0 <= t < steps:
                    spikes[k][t, sample, address.neuron_offset] = 1
    found: dict[str, Any] = {f"spikes{k}": of for k, of in enumerate(spikes)}
    np.savez(target, seconds=np.array([setup, run]), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
