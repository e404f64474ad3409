"""The integer simulator against the specification, neuron by neuron."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import integer_networks as make
from spiking_lfp.deploy.simulator import Stream, simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import INTEGER_RESETS, IntegerReset


@settings(max_examples=30)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.integers(0, 4095), st.sampled_from([1, 3, 255]),
    st.integers(1, 9), st.integers(2, 8),
)  # fmt: skip
def test_dense_networks(seed: int, reset: IntegerReset, decay: int, levels: int, steps: int, bits: int) -> None:
    net = make.mlp((13, 8, 4), seed, decay, reset, steps, levels, bits)
    inputs = make.inputs_for(net, 3, seed)
    found = simulate(net, inputs, record=True)
    expected = make.slowly(net, inputs)
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
    assert np.array_equal(found.counts, expected["1"].sum(0))


@settings(max_examples=15)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([1, 2]), st.sampled_from([1, 255]),
)  # fmt: skip
def test_convolutions(
    seed: int, reset: IntegerReset, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    groups: int, levels: int,
) -> None:  # fmt: skip
    layer = make.conv(
        "0", (2, 5, 6), 4, kernel, seed, 300, reset, stride, padding, groups, 0.2, 0 if levels > 1 else 6, levels
    )
    flat = make.Flatten("1", layer.out_shape)
    net = make.network([layer, flat, make.dense("2", flat.out_shape[0], 3, seed, 300, reset)], 4, levels)
    inputs = make.inputs_for(net, 2, seed)
    found = simulate(net, inputs, record=True).spikes
    for name, spikes in make.slowly(net, inputs).items():
        np.testing.assert_array_equal(found[name], spikes)


@pytest.mark.parametrize("reset", INTEGER_RESETS)
def test_a_small_lenet_spikes_everywhere(reset: IntegerReset) -> None:
    net = make.lenet(reset=reset)
    inputs = make.inputs_for(net, 2)
    found = simulate(net, inputs, record=True)
    for name, spikes in make.slowly(net, inputs).items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
        assert spikes.any()
        assert found.counters[name].spikes == spikes.sum()


def test_inputs_that_stay_can_be_pooled_first() -> None:
    pool = make.MaxPool("p", (1, 6, 6), 2, 2)
    flat = make.Flatten("f", pool.out_shape)
    chain = make.network([pool, flat, make.dense("d", 9, 4)])
    net = make.IntegerNetwork(chain.layers, "constant", 1, 5, chain.class_names).check()
    inputs = make.inputs_for(net, 4)
    spikes = simulate(net, inputs, record=True).spikes["d"]
    assert spikes.any()
    np.testing.assert_array_equal(spikes, make.slowly(net, inputs)["d"])


def test_blocks_and_streams_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make.mlp((13, 8, 4))
    inputs = make.inputs_for(net, 5)
    whole = simulate(net, inputs, record=True)
    monkeypatch.setattr("spiking_lfp.deploy.simulator.BLOCK", 16)
    parts = simulate(net, inputs, record=True)
    assert whole.counters == parts.counters
    stream = Stream(net, 5)
    for t in range(net.steps):
        spikes = stream.step(inputs[t])
        for name in whole.spikes:
            assert np.array_equal(whole.spikes[name][t], spikes[name])
            assert np.array_equal(whole.spikes[name][t], parts.spikes[name][t])


def test_counters_count_events_times_synapses() -> None:
    net = make.lenet(levels=1)
    inputs = make.inputs_for(net, 2)
    outcome = simulate(net, inputs, record=True)
    first, second = net.spiking[:2]
    synops = 0
    for t, n, c, i, j in zip(*np.nonzero(inputs), strict=True):
        del t, n, c
        synops += sum(
            first.outputs
            for y in range(first.out_shape[1])
            for x in range(first.out_shape[2])
            if y <= i < y + 3 and x <= j < x + 3
        )
    assert outcome.counters["0"].synops == synops
    assert outcome.counters["0"].updates == first.neurons * net.steps * 2
    assert outcome.counters["6"].synops == outcome.spikes["5"].sum() * 10
    assert second.fan_out().sum() == second.weight[0, 0].size * second.neurons * second.weight.shape[1] - _cut(second)


def _cut(layer: make.Conv) -> int:
    """Synapses that would reach into the padding."""
    reached = np.zeros(1, np.int64)
    height, width = layer.in_shape[1:]
    for _, y, x, a, b in np.ndindex(*layer.out_shape, *layer.kernel):
        i, j = y * layer.stride[0] + a - layer.padding[0], x * layer.stride[1] + b - layer.padding[1]
        reached += not (0 <= i < height and 0 <= j < width)
    return int(reached[0]) * layer.weight.shape[1]


def test_saturated_membranes_are_counted() -> None:
    layer = make.dense("0", 2, 1, decay=0, frac_bits=6)
    numbers = {"weight": np.array([[127, -127]], np.int8), "bias": np.array([130_000], np.int32)}
    heavy = make.changed(layer, **numbers, theta=np.array([131_071], np.int32))
    net = make.network([heavy], 3)
    outcome = simulate(net, np.ones((3, 1, 2), np.uint8), record=True)
    assert outcome.counters["0"].saturated > 0
    np.testing.assert_array_equal(outcome.spikes["0"], make.slowly(net, np.ones((3, 1, 2), np.uint8))["0"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.ones((12, 2, 29), np.uint8), r"inputs are \[12, 2, 29\], expected \[T, N, ...\] of samples \[30\]"),
        (np.full((12, 2, 30), 2, np.uint8), r"inputs go from 2 to 2, expected integers 0..1"),
        (np.ones((12, 2, 30)), "inputs are float64, expected integers"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: make.Array, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        simulate(make.mlp(), inputs)
