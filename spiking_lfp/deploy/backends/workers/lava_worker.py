"""Runs a network in lava-nc: python lava_worker.py NETWORK.npz SPIKES.npz; see `external`.

Feature maps are [H, W, C] here, so the weights of a dense layer after a feature map are reordered.
"""

import dataclasses
import sys
from time import perf_counter
from typing import Any

import numpy as np


def accept_mutable_defaults() -> None:
    """Let lava be imported by Python 3.11 and later, which refuse its dataclasses with unhashable defaults."""
    original = getattr(dataclasses, "_get_field", None)
    if sys.version_info < (3, 11) or original is None:
        return

    def get_field(cls: Any, name: str, *rest: Any) -> Any:
        default = getattr(cls, name, None)
        kind = type(default)
        if kind.__hash__ is None and kind.__module__.startswith("lava."):
            kind.__hash__ = object.__hash__
        return original(cls, name, *rest)

    vars(dataclasses)["_get_field"] = get_field


def main(source: str, target: str) -> None:
    """Read a network, run it, write its spikes."""
    accept_mutable_defaults()
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi1SimCfg
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF
    from lava.utils.weightutils import SignMode

    data = dict(np.load(source))
    inputs, layers = data["inputs"], int(data["layers"])
    steps, samples, _ = inputs.shape
    total = steps + layers
    started = perf_counter()
    shape = tuple(data["in_shape0"])
    # [N, *shape, steps], time last as lava has it
    trains = np.zeros((samples, *maps_last(np.zeros(shape)).shape, total), np.int32)
    trains[..., :steps] = np.array(
        [np.stack([maps_last(inputs[t, n].reshape(shape)) for t in range(steps)], -1) for n in range(samples)]
    )
    first = Source(data=trains[0])
    before, sinks, neurons = first.s_out, [], []
    for k in range(layers):
        weight = data[f"weight{k}"].astype(np.int32)
        in_shape, out_shape = tuple(data[f"in_shape{k}"]), tuple(data[f"out_shape{k}"])
        if weight.ndim == 4:
            vertical, horizontal, top, left, groups = map(int, data[f"geometry{k}"])
            # a convolution with flipped kernels is a cross-correlation as ours
            synapse = Conv(
                weight=np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)),
                input_shape=(in_shape[1], in_shape[2], in_shape[0]),
                stride=(vertical, horizontal),
                padding=(top, left),
                groups=groups,
            )
        else:
            if len(before.shape) == 3:
                height, width, channels = before.shape
                weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)
                before = before.flatten()
            # mantissas of mixed sign are even: twice the weight, half the scale
            synapse = Dense(weights=2 * weight, weight_exp=-1, num_weight_bits=8, sign_mode=SignMode.MIXED)
        before.connect(synapse.s_in)
        bias = maps_last(data[f"bias{k}"].reshape(out_shape))
        # with du = 4095 the current is gone after one step
        lif = LIF(shape=bias.shape, vth=int(data[f"theta{k}"][0]), dv=int(data[f"decay{k}"]), du=4095)
        synapse.a_out.connect(lif.a_in)
        if np.any(bias):
            # LIF's own bias would be added before the first inputs reach this layer
            delayed = np.zeros((*bias.shape, total), np.int32)
            delayed[..., k + 1 : k + 1 + steps] = bias[..., None]
            Source(data=delayed).s_out.connect(lif.a_in)
        sink = Sink(shape=bias.shape, buffer=total)
        lif.s_out.connect(sink.a_in)
        sinks.append(sink)
        neurons.append(lif)
        before = lif.s_out
    condition, config = RunSteps(num_steps=total), Loihi1SimCfg(select_tag="fixed_pt")
    spikes: dict[str, list[Any]] = {f"spikes{k}": [] for k in range(layers)}
    setup = run = 0.0
    try:
        first.create_runtime(run_cfg=config)
        setup = perf_counter() - started
        started = perf_counter()
        for n in range(samples):
            if n:
                first.data.set(trains[n])
                # membranes only: nothing spikes without inputs after reset "zero", so no spike is left in transit
                for lif in neurons:
                    lif.v.set(np.zeros(lif.v.shape, np.int32))
            first.run(condition=condition, run_cfg=config)
            for k, sink in enumerate(sinks):
                # layer 0 fires one step after its inputs
                found = sink.data.get()[..., k + 1 : k + 1 + steps]
                spikes[f"spikes{k}"].append(np.stack([maps_first(found[..., t]) for t in range(steps)]))
        run = perf_counter() - started
    finally:
        first.stop()
    arrays: dict[str, Any] = {name: np.stack(of, 1).astype(np.uint8) for name, of in spikes.items()}
    np.savez(target, seconds=np.array([setup, run]), **arrays)


def maps_last(x: Any) -> Any:
    """Return `[C, H, W]` as `[H, W, C]`, and anything else as it is."""
    return x.transpose(1, 2, 0) if x.ndim == 3 else x


def maps_first(x: Any) -> Any:
    """Undo `maps_last`, and flatten."""
    return (x.transpose(2, 0, 1) if x.ndim == 3 else x).ravel()


if __name__ == "__main__":
    main(*sys.argv[1:])
