"""Limits of targets: one network that fits, and one number too far for each limit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import integer_networks as make
import numpy as np
import pytest
from spiking_lfp.deploy.targets import check, read_limits, target_names

from spiking_lfp.deploy import targets
from spiking_lfp.deploy.model import IntegerNetwork, MaxPool
from spiking_lfp.errors import ExportError, UsageError


def with_layer(net: IntegerNetwork, index: int, **change: Any) -> IntegerNetwork:
    layers = list(net.layers)
    layers[index] = replace(layers[index], **change)
    return replace(net, layers=tuple(layers))


def test_the_targets_that_there_are() -> None:
    assert target_names() == ["fpga-small", "loihi", "sanafe-loihi"]
    for name in target_names():
        assert any(read_limits(name).values())
        assert check(make.mlp(reset="zero"), name) == (True, [])
        assert check(make.lenet(reset="zero", levels=1), name) == (True, [])
    with pytest.raises(
        UsageError, match=r"unknown target 'loihi2': did you mean 'loihi'\? known are fpga-small, loihi"
    ):
        check(make.mlp(), "loihi2")


def test_a_network_that_does_not_fit_together_is_no_question_of_targets() -> None:
    with pytest.raises(ExportError, match="steps must be at least 1"):
        check(replace(make.mlp(), steps=0), "loihi")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"reset": "subtract"}, "layer 1: reset is subtract, loihi has zero"),
        ({"frac_bits": 5}, "layer 1: frac_bits is 5, loihi holds 6"),
        ({"bias": np.array([-4096, 0, 1, 2, 3], np.int32)}, "layer 1: bias is -4096..3, loihi holds -4095..4095"),
        ({"bias": np.full(5, 4096, np.int32)}, "layer 1: bias is 4096, loihi holds -4095..4095"),
        ({"bias": np.array([-4095, 4095, 1, 2, 3], np.int32)}, None),
        ({"theta": np.array([1, 131071, 1, 1, 1], np.int32)}, None),
        ({"decay": 4095, "bits": 8}, None),
    ],
)
def test_numbers_of_loihi(change: dict[str, Any], finding: str | None) -> None:
    net = with_layer(make.mlp(reset="zero"), 1, **change)
    assert check(net, "loihi") == (finding is None, [] if finding is None else [finding])


def test_theta_beyond_17_bits_needs_fewer_fraction_bits() -> None:
    net = with_layer(make.mlp(reset="zero"), 0, theta=np.full(20, 131072, np.int32), frac_bits=0)
    assert check(net, "loihi") == (
        False,
        ["layer 0: theta is 131072, loihi holds 1..131071", "layer 0: frac_bits is 0, loihi holds 6"],
    )
    assert check(net, "fpga-small") == (True, [])


@pytest.mark.parametrize("target", ["loihi", "sanafe-loihi"])
def test_analogue_inputs_are_for_others_and_so_is_their_layer(target: str) -> None:
    net = make.lenet(reset="zero", levels=255)
    assert check(net, target) == (
        False,
        [f"layer 0: takes numbers 0..255, {target} takes spikes only: run this layer elsewhere and send its spikes"],
    )
    assert check(net, "fpga-small") == (True, [])


def test_fan_in_of_loihi() -> None:
    # exactly what a core takes, and one input more
    for inputs, findings in ((4096, []), (4097, ["layer 0: a neuron has 4097 inputs, a core of loihi takes 4096"])):
        assert check(make.mlp((inputs, 4, 2), reset="zero", bits=4), "loihi")[1] == findings


def test_cores_of_loihi() -> None:
    # 1025 neurons take 2 cores; 4096 * 1000 synapses of 8 bits take 32 times 1048576, 1000 * 1000 take 8 times that
    sizes = (64, 1025, 10)
    assert check(make.mlp(sizes, reset="zero"), "loihi") == (True, [])
    limits = {**read_limits("loihi"), "cores": {**read_limits("loihi")["cores"], "count": 2}}
    assert [*targets._cores(make.mlp(sizes, reset="zero").layers, "two", limits)] == [
        "the network needs 3 cores at least (layer 0 2, layer 1 1), two has 2"
    ]
    wide = make.mlp((4096, 1000, *[1000] * 13, 10), reset="zero", bits=2)
    per_layer = ", ".join(f"layer {k} {32 if k == 0 else 8 if k < 14 else 1}" for k in range(15))
    ok, findings = check(wide, "loihi")
    assert not ok
    assert findings == [f"the network needs 137 cores at least ({per_layer}), loihi has 128"]
    assert check(replace(wide, layers=(*wide.layers[:1], *wide.layers[3:])).check(), "loihi") == (True, [])


def test_pooling_takes_neurons() -> None:
    net = make.lenet(reset="zero", levels=1)
    limits = {**read_limits("loihi"), "cores": {"count": 1, "compartments": 100}}
    # 4 * 10 * 10 neurons, 4 * 5 * 5 pooled, 6 * 6 * 6 neurons, 6 * 3 * 3 pooled, 16, 10
    expected = "(layer 0 4, layer 1 1, layer 2 3, layer 3 1, layer 5 1, layer 6 1)"
    assert [*targets._cores(net.layers, "x", limits)] == [f"the network needs 11 cores at least {expected}, x has 1"]
    limits = {**limits, "pooling": {"neurons": False}}
    expected = "(layer 0 4, layer 2 3, layer 5 1, layer 6 1)"
    assert [*targets._cores(net.layers, "x", limits)] == [f"the network needs 9 cores at least {expected}, x has 1"]


def test_inputs_of_a_neuron() -> None:
    # kernels of 5 by 3 over 2 of 4 channels, of 4 by 7 pixels: padding is no input; then windows of 2 by 2
    conv = make.conv("a", (4, 4, 7), 4, (5, 3), reset="zero", padding=(1, 0), groups=2)
    pool = MaxPool("b", conv.out_shape, 2, 1)
    limits = {**read_limits("loihi"), "cores": {"in_axons": 3}}
    assert [*targets._cores((conv, pool), "x", limits)] == [
        "layer a: a neuron has 24 inputs, a core of x takes 3",
        "layer b: a neuron has 4 inputs, a core of x takes 3",
    ]
    limits = {**limits, "cores": {"synapse_bits": 31, "bits_per_synapse": 8}}
    assert [*targets._cores((conv, pool), "x", limits)] == [
        "layer a: a neuron's synapses take 192 bits, a core of x has 31",
        "layer b: a neuron's synapses take 32 bits, a core of x has 31",
    ]
    limits = {**limits, "cores": {"synapse_bits": 192, "bits_per_synapse": 8}}
    assert [*targets._cores((conv, pool), "x", limits)] == []
    assert conv.out_shape == (4, 2, 5)
    # pooled: 4 channels of 1 by 4, 4 pixels each
    limits = {**limits, "network": {"synapses": int(conv.fan_out().sum()) + 63}}
    assert [*targets._network((conv, pool), "x", limits)] == [
        f"the network has {conv.fan_out().sum() + 64} synapses, {conv.fan_out().sum()} of them in layer a, x holds "
        f"{conv.fan_out().sum() + 63}"
    ]


def test_synapses_of_sanafe() -> None:
    fits, too_many = make.mlp((1000, 499, 2)), make.mlp((1000, 499, 3))
    assert check(fits, "sanafe-loihi") == (True, [])
    assert check(too_many, "sanafe-loihi") == (
        False,
        ["the network has 500497 synapses, 499000 of them in layer 0, sanafe-loihi holds 500000"],
    )


def test_memory_of_the_small_fpga() -> None:
    net = make.mlp((784, 150, 10))
    # weights, membranes, accumulators of the larger layer, biases and thresholds, spikes
    bits = [(784 * 150 + 150 * 10) * 8, 160 * 24, 150 * 24, 160 * 48, 160 + 784]
    assert sum(bits) < 1032192
    assert check(net, "fpga-small") == (True, [])
    # images: a first layer whose sums stay, pixels of 8 bits
    wide = make.mlp((784, 160, 10), levels=255)
    bits = [(784 * 160 + 160 * 10) * 8, 170 * 24, (10 + 160) * 24, 170 * 48, 170, 784 * 8]
    assert check(wide, "fpga-small") == (
        False,
        [
            f"the network needs {sum(bits)} bits of memory at least (weights {bits[0]}, membranes {bits[1]}, "
            f"accumulators {bits[2]}, biases and thresholds {bits[3]}, spikes {bits[4]}, pixels {bits[5]}; most "
            "weights in layer 0), fpga-small has 1032192"
        ],
    )
    # the widest weights are the width of all
    narrow = make.mlp((784, 160, 10), levels=255, bits=4)
    assert check(narrow, "fpga-small") == (True, [])
    assert not check(with_layer(narrow, 1, bits=8), "fpga-small")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[neurons", r"cannot read the limits in .*odd\.toml"),
        ("[axons]\ncount = 1", r"odd\.toml: there is no table 'axons', expected inputs, neurons"),
        ("[cores]\naxons = 1", r"odd\.toml: there is no limit cores\.axons, expected count"),
        ("[cores]\ncount = true", r"odd\.toml: cores\.count is True, expected int"),
        ("[neurons]\ntheta = [1]", r"odd\.toml: neurons\.theta is \[1\], expected \[least, most\]"),
        ("[memory]\nbits = 1", r"odd\.toml: memory needs bits, bits_per_membrane, .*, all of them or none"),
    ],
)
def test_files_with_mistakes_are_refused(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.toml").write_text(content)
    monkeypatch.setattr(targets, "hardware_folder", lambda _: tmp_path)
    with pytest.raises(ExportError, match=message):
        check(make.mlp(), "odd")


def test_a_target_without_limits_takes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "free.toml").write_text('title = "anything"')
    monkeypatch.setattr(targets, "hardware_folder", lambda _: tmp_path)
    assert target_names() == ["free"]
    for net in (make.mlp(), make.lenet(), make.mlp(levels=255)):
        assert check(net, "free") == (True, [])
