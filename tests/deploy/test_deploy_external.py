"""The integer simulator against other people's: every spike of every layer. Without them, what they are handed."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from helpers import integer_networks as make
from helpers.forks import Forks
from spiking_lfp.deploy.backends import external
from spiking_lfp.deploy.backends.external import ExternalBackend, neuron_layers, synapses
from spiking_lfp.deploy.chip import Backend
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.layers import Dense, Layer, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import INTEGER_RESETS, IntegerReset

NAMES = ("sanafe", "brian2-loihi", "lava")
PAIRS = [("sanafe", reset) for reset in INTEGER_RESETS] + [("brian2-loihi", "zero"), ("lava", "zero")]
# an example starts a process: few of them, and none to make a failure smaller
few = settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
every_backend = pytest.mark.parametrize("name", NAMES)
every_reset = pytest.mark.parametrize(("name", "reset"), PAIRS)


# what workers import when they start
LOADS = {
    "sanafe_worker.py": "import sanafe",
    "brian2_loihi_worker.py": "import brian2_loihi",
    "lava_worker.py": """
worker["accept_mutable_defaults"]()
import lava.magma.core.run_conditions, lava.magma.core.run_configs, lava.utils.weightutils
import lava.proc.conv.process, lava.proc.dense.process, lava.proc.lif.process
import lava.proc.io.sink, lava.proc.io.source
""",
}
RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture(scope="module", autouse=True)
def forked_workers() -> Iterator[None]:
    """Let each simulator be loaded once, and each run be a fork of the process that has loaded it."""
    started: dict[str, Forks] = {}

    def run(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        python, worker, *words = command
        name = Path(worker).name
        if name not in LOADS:
            return subprocess.run(command, **options)
        if name not in started:
            load = f"import runpy; worker = runpy.run_path({worker!r})\n{LOADS[name]}"
            started[name] = Forks([python], load, dict(os.environ))
        return started[name].run(RUN, worker, *words, folder=Path(options["cwd"]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external, "subprocess", SimpleNamespace(run=run))
        yield
    for process in started.values():
        process.end()


def installed(name: str) -> ExternalBackend:
    found = backend(name)
    assert isinstance(found, Backend)
    assert isinstance(found, ExternalBackend)
    if (reason := found.missing()) is not None:
        pytest.skip(reason)
    return found


def spikes_of(net: IntegerNetwork, inputs: make.Array) -> dict[str, make.Array]:
    spikes = simulate(net, inputs, record=True).spikes
    if net.encoder == "constant":
        del spikes[net.spiking[0].name]
    return spikes


def tell_apart(expected: dict[str, make.Array]) -> bool:
    # silent networks agree with everything
    return all(spikes.any() and not spikes.all() for spikes in expected.values())


def assert_equal(name: str, net: IntegerNetwork, inputs: make.Array) -> None:
    other = installed(name)
    assert other.unsupported(net) is None
    expected = spikes_of(net, inputs)
    assert tell_apart(expected)
    found = other.run(net, inputs)
    assert found.keys() == expected.keys()
    for layer, spikes in expected.items():
        assert found[layer].dtype == np.uint8
        np.testing.assert_array_equal(found[layer], spikes)


def with_layer(net: IntegerNetwork, place: int, **changes: object) -> IntegerNetwork:
    layers: list[Layer] = list(net.layers)
    layers[place] = make.changed(layers[place], **changes)
    return replace(net, layers=tuple(layers)).check()


def per_output(layer: Spiking, values: object) -> make.Array:
    return np.broadcast_to(values, layer.outputs).astype(np.int32)


@every_reset
@few
@given(
    seed=st.integers(0, 2**31), decay=st.integers(0, 4095), levels=st.sampled_from([1, 255]),
    steps=st.integers(4, 20), bits=st.integers(2, 8),
)  # fmt: skip
def test_dense_networks(
    name: str, reset: IntegerReset, seed: int, decay: int, levels: int, steps: int, bits: int
) -> None:
    net = make.mlp((13, 11, 8, 4), seed, decay, reset, steps, levels, bits)
    inputs = make.inputs_for(net, 3, seed)
    assume(tell_apart(spikes_of(net, inputs)))
    assert_equal(name, net, inputs)


@every_reset
@few
@given(
    seed=st.integers(0, 2**31), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)), padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=st.sampled_from([1, 2]), decay=st.integers(0, 4095), overlap=st.integers(1, 2),
)  # fmt: skip
def test_convolutions_and_pooling(
    name: str, reset: IntegerReset, seed: int, kernel: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], groups: int, decay: int, overlap: int,
) -> None:  # fmt: skip
    first = make.conv("first", (2, 5, 7), 4, kernel, seed, decay, reset, stride, padding, groups)
    layers: list[Layer] = [first]
    if min(first.out_shape[1:]) > 1:
        layers.append(make.MaxPool("pool", first.out_shape, 2, overlap))
    second = make.conv("second", layers[-1].out_shape, 6, (1, 1), seed + 1, decay, reset, groups=groups)
    flat = make.Flatten("flat", second.out_shape)
    last = make.dense("last", flat.out_shape[0], 5, seed + 2, decay, reset)
    net = make.network([*layers, second, flat, last], 8)
    inputs = make.inputs_for(net, 2, seed, 0.5)
    assume(tell_apart(spikes_of(net, inputs)))
    assert_equal(name, net, inputs)


@every_reset
def test_a_small_lenet(name: str, reset: IntegerReset) -> None:
    net = make.lenet(reset=reset)
    assert_equal(name, net, make.inputs_for(net, 3))


@every_reset
def test_large_biases(name: str, reset: IntegerReset) -> None:
    net = make.mlp((20, 15, 6), decay=1000, reset=reset, steps=30)
    bias = np.linspace(-20_000, 20_000, 15).astype(np.int32)
    net = with_layer(net, 0, bias=bias, theta=per_output(net.spiking[0], 30_000))
    assert_equal(name, net, make.inputs_for(net, 2))


@pytest.mark.parametrize("reset", INTEGER_RESETS)
def test_a_threshold_for_each_neuron(reset: IntegerReset) -> None:
    net = make.lenet(reset=reset, levels=1)
    for place in (0, 2, 5):
        layer = net.layers[place]
        assert isinstance(layer, Spiking)
        net = with_layer(net, place, theta=np.arange(40, 40 + 25 * layer.outputs, 25).astype(np.int32))
    assert_equal("sanafe", net, make.inputs_for(net, 2))
    if reset == "zero":
        for name in ("lava", "brian2-loihi"):
            assert "layer 0: thresholds are 40..115" in str(backend(name).unsupported(net))


@every_reset
def test_thresholds_are_strict(name: str, reset: IntegerReset) -> None:
    weight, theta = np.array([[5], [5], [-5]], np.int8), np.array([5, 5, 5], np.int32)
    layer = Dense("0", (1,), weight, np.array([0, 1, 11], np.int32), np.ones(3), 8, IntegerLIF(theta, 4095, 6, reset))
    net = make.network([layer], 6)
    assert_equal(name, net, np.array([0, 1, 0, 0, 1, 1], np.uint8).reshape(6, 1, 1))


@every_reset
def test_saturation_is_equal_or_an_error(name: str, reset: IntegerReset) -> None:
    other = installed(name)
    net = make.mlp((200, 6), decay=0, reset=reset, steps=30)
    weight = net.spiking[0].weight.copy()
    weight[:3] = -127
    net = with_layer(net, 0, weight=weight)
    # down to the limit, and up again by biases
    inputs = np.zeros((30, 2, 200), np.uint8)
    inputs[:12] = 1
    net = with_layer(net, 0, bias=np.array([8000, 16000, 24000, 9, 8, 7], np.int32))
    assert simulate(net, inputs).counters["0"].saturated > 0
    if reset in other.saturating_resets:
        assert_equal(name, net, inputs)
    else:
        with pytest.raises(ExportError, match=r"layer 0: [0-9]+ membranes saturate"):
            other.run(net, inputs)


@every_reset
def test_one_more_decay_is_seen(name: str, reset: IntegerReset) -> None:
    net = make.mlp((30, 40), decay=200, reset=reset, steps=60)
    inputs = make.inputs_for(net, 4)
    found = installed(name).run(with_layer(net, 0, decay=201), inputs)
    assert not np.array_equal(found["0"], simulate(net, inputs, record=True).spikes["0"])


@every_backend
def test_a_sample_leaves_nothing_behind(name: str) -> None:
    net = make.mlp((20, 15, 6), decay=0, reset="zero")
    inputs = make.inputs_for(net, 2, rate=0.6)
    inputs = np.concatenate([inputs, inputs[:, :1], np.zeros_like(inputs)], 1)
    assert_equal(name, net, inputs)


@every_backend
def test_refusals_name_the_layer(name: str) -> None:
    other = backend(name)
    coarse = with_layer(make.mlp(reset="zero"), 1, frac_bits=4)
    assert "layer 1" in str(other.unsupported(coarse))
    assert "4" in str(other.unsupported(coarse))
    alone = make.mlp((30, 5), reset="zero", levels=255)
    assert "analogue" in str(other.unsupported(alone))
    for reset in INTEGER_RESETS:
        refused = other.unsupported(make.mlp(reset=reset))
        assert (refused is None) == ((name, reset) in PAIRS)
        assert refused is None or f"layer 0: {other.title} has no reset {reset!r}" in refused


def test_a_large_network_is_refused_with_its_memory() -> None:
    net = make.mlp((3000, 2000, 10), reset="zero", bits=4)
    assert backend("sanafe").unsupported(net) == (
        "6,020,000 synapses and 5,010 neurons would take 5.0 GB in SANA-FE, the limit is 4 GB"
    )
    assert backend("lava").unsupported(net) is None
    analogue = make.mlp((3000, 2000, 10), reset="zero", levels=3, bits=4)
    assert backend("sanafe").unsupported(analogue) is None


@every_backend
def test_missing_says_how_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = backend(name)
    assert isinstance(found, ExternalBackend)
    other = replace(found, environment=replace(found.environment, distribution=f"no-such-{name}"))
    variable = other.environment.variable
    monkeypatch.delenv(variable, raising=False)
    reason = str(other.missing())
    assert "pip install" in reason
    assert variable in reason
    assert "\n" not in reason
    monkeypatch.setenv(variable, "/no/such/python")
    assert "/no/such/python" in str(other.missing())
    with pytest.raises(ExportError, match="/no/such/python"):
        other.run(make.mlp(reset="zero"), make.inputs_for(make.mlp()))


def test_the_last_words_of_a_worker() -> None:
    assert find_spec("numpy")
    lava = backend("lava")
    assert isinstance(lava, ExternalBackend)
    broken = replace(lava, environment=replace(lava.environment, distribution="numpy"), worker="no_such_worker.py")
    assert broken.missing() is None
    net = make.mlp(reset="zero")
    with pytest.raises(ExportError, match=r"lava-nc ended with 2: .*no_such_worker\.py"):
        broken.run(net, make.inputs_for(net))


@settings(max_examples=30)
@given(
    st.integers(0, 2**31), st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([1, 2, 4]),
)  # fmt: skip
def test_synapses_are_the_convolution(
    seed: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], groups: int
) -> None:
    layer = make.conv("0", (4, 5, 6), 8, kernel, seed, 410, "zero", stride, padding, groups)
    pre, post, weight = synapses(layer)
    matrix = np.zeros((layer.neurons, 4 * 5 * 6), np.int64)
    np.add.at(matrix, (post, pre), weight)
    dense = Dense(
        "0", (120,), matrix.astype(np.int8), np.repeat(layer.bias, layer.neurons // 8), np.ones(layer.neurons),
        8, IntegerLIF(np.repeat(layer.neuron.theta, layer.neurons // 8), 410, 6, "zero"),
    )  # fmt: skip
    flat, inputs = make.Flatten("1", layer.out_shape), (np.random.default_rng(seed).random((6, 2, 4, 5, 6)) < 0.3)
    end = make.dense("2", flat.out_shape[0], 3)
    expected = simulate(make.network([layer, flat, end], 6), inputs, record=True).spikes["0"]
    found = simulate(make.network([dense, end], 6), inputs.reshape(6, 2, -1), record=True).spikes["0"]
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("levels", [1, 255])
def test_pooling_neurons_are_max_pooling(levels: int) -> None:
    net = make.lenet(13, levels=levels)
    inputs = make.inputs_for(net, 3)
    expected = simulate(net, inputs, record=True).spikes
    if levels > 1:
        assert [layer.name for layer in neuron_layers(net)] == ["1", "2", "3", "5", "6"]
        inputs = expected["0"]
    else:
        assert [layer.name for layer in neuron_layers(net)] == ["0", "1", "2", "3", "5", "6"]
    layers: list[Layer] = list(neuron_layers(net))
    layers.insert(-2, net.layers[4])
    found = simulate(IntegerNetwork(tuple(layers), "spikes", 1, net.steps, net.class_names), inputs, record=True)
    for layer in ("2", "5", "6"):
        np.testing.assert_array_equal(found.spikes[layer], expected[layer])
        assert expected[layer].any()
