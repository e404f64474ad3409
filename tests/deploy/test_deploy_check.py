"""Limits of chips: one network that fits, and one number too far for each limit; and chips as files."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import integer_networks as make
from spiking_lfp.deploy import check as checks
from spiking_lfp.deploy import chips, nir_readers
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chip import Chip, Cores, Limits, SynapseMemory
from spiking_lfp.deploy.layers import MaxPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic


def with_layer(net: IntegerNetwork, index: int, **change: Any) -> IntegerNetwork:
    layers = list(net.layers)
    layers[index] = make.changed(layers[index], **change)
    return replace(net, layers=tuple(layers))


def limits_of(name: str, **change: Any) -> Limits:
    limits = chips.targets()[name].limits
    assert limits is not None
    return replace(limits, **change)


def test_the_targets_that_there_are() -> None:
    assert list(chips.targets()) == ["fpga-small", "loihi", "sanafe-loihi", "xylo"]
    for name in ("fpga-small", "loihi", "sanafe-loihi"):
        assert limits_of(name) != Limits()
        assert check(make.mlp(reset="zero"), name) == []
        assert check(make.lenet(reset="zero", levels=1), name) == []
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
    assert check(net, "loihi") == ([] if finding is None else [finding])


def test_theta_beyond_17_bits_needs_fewer_fraction_bits() -> None:
    net = with_layer(make.mlp(reset="zero"), 0, theta=np.full(20, 131072, np.int32), frac_bits=0)
    assert check(net, "loihi") == [
        "layer 0: theta is 131072, loihi holds 1..131071",
        "layer 0: frac_bits is 0, loihi holds 6",
    ]
    assert check(net, "fpga-small") == []


@pytest.mark.parametrize("target", ["loihi", "sanafe-loihi"])
def test_analogue_inputs_are_for_others_and_so_is_their_layer(target: str) -> None:
    net = make.lenet(reset="zero", levels=255)
    assert check(net, target) == [
        f"layer 0: has inputs 0..255, {target} takes spikes only: run this layer elsewhere and send its spikes"
    ]
    assert check(net, "fpga-small") == []


def test_fan_in_of_loihi() -> None:
    # exactly what a core takes, and one input more
    for inputs, findings in (
        (4096, []),
        (4097, ["layer 0: a neuron has a fan-in of 4097, a core of loihi takes 4096"]),
    ):
        assert check(make.mlp((inputs, 4, 2), reset="zero", bits=4), "loihi") == findings


def test_cores_of_loihi() -> None:
    # 1025 neurons take 2 cores; 4096 * 1000 synapses of 8 bits take 32 times 1048576, 1000 * 1000 take 8 times that
    sizes = (64, 1025, 10)
    assert check(make.mlp(sizes, reset="zero"), "loihi") == []
    limits = limits_of("loihi", cores=replace(limits_of("loihi").cores, count=2))
    assert [*checks._cores(make.mlp(sizes, reset="zero").layers, "two", limits)] == [
        "the network needs 3 cores at least (layer 0 2, layer 1 1), two has 2"
    ]
    wide = make.mlp((4096, 1000, *[1000] * 13, 10), reset="zero", bits=2)
    per_layer = ", ".join(f"layer {k} {32 if k == 0 else 8 if k < 14 else 1}" for k in range(15))
    assert check(wide, "loihi") == [f"the network needs 137 cores at least ({per_layer}), loihi has 128"]
    assert check(replace(wide, layers=(*wide.layers[:1], *wide.layers[3:])).check(), "loihi") == []


def test_pooling_takes_neurons() -> None:
    net = make.lenet(reset="zero", levels=1)
    limits = limits_of("loihi", cores=Cores(count=1, neurons=100))
    # 4 * 10 * 10 neurons, 4 * 5 * 5 pooled, 6 * 6 * 6 neurons, 6 * 3 * 3 pooled, 16, 10
    expected = "(layer 0 4, layer 1 1, layer 2 3, layer 3 1, layer 5 1, layer 6 1)"
    assert [*checks._cores(net.layers, "x", limits)] == [f"the network needs 11 cores at least {expected}, x has 1"]
    limits = replace(limits, pooling_neurons=False)
    expected = "(layer 0 4, layer 2 3, layer 5 1, layer 6 1)"
    assert [*checks._cores(net.layers, "x", limits)] == [f"the network needs 9 cores at least {expected}, x has 1"]


def test_inputs_of_a_neuron() -> None:
    # kernels of 5 by 3 over 2 of 4 channels, of 4 by 7 pixels: padding is no input; then windows of 2 by 2
    conv = make.conv("a", (4, 4, 7), 4, (5, 3), reset="zero", padding=(1, 0), groups=2)
    pool = MaxPool("b", conv.out_shape, 2, 1)
    limits = limits_of("loihi", cores=Cores(input_axons=3))
    assert [*checks._cores((conv, pool), "x", limits)] == [
        "layer a: a neuron has a fan-in of 24, a core of x takes 3",
        "layer b: a neuron has a fan-in of 4, a core of x takes 3",
    ]
    limits = replace(limits, cores=Cores(synapse_memory=SynapseMemory(31, 8)))
    assert [*checks._cores((conv, pool), "x", limits)] == [
        "layer a: a neuron's synapses take 192 bits, a core of x has 31",
        "layer b: a neuron's synapses take 32 bits, a core of x has 31",
    ]
    limits = replace(limits, cores=Cores(synapse_memory=SynapseMemory(192, 8)))
    assert [*checks._cores((conv, pool), "x", limits)] == []
    assert conv.out_shape == (4, 2, 5)
    # pooled: 4 channels of 1 by 4, 4 pixels each
    limits = replace(limits, synapses=int(conv.fan_out().sum()) + 63)
    assert [*checks._network((conv, pool), "x", limits)] == [
        f"the network has {conv.fan_out().sum() + 64} synapses, {conv.fan_out().sum()} of them in layer a, x holds "
        f"{conv.fan_out().sum() + 63}"
    ]


def test_synapses_of_sanafe() -> None:
    fits, too_many = make.mlp((1000, 499, 2)), make.mlp((1000, 499, 3))
    assert check(fits, "sanafe-loihi") == []
    assert check(too_many, "sanafe-loihi") == [
        "the network has 500497 synapses, 499000 of them in layer 0, sanafe-loihi holds 500000"
    ]


def test_memory_of_the_small_fpga() -> None:
    net = make.mlp((784, 150, 10))
    # weights, membranes, accumulators of the larger layer, biases and thresholds, spikes
    bits = [(784 * 150 + 150 * 10) * 8, 160 * 24, 150 * 24, 160 * 48, 160 + 784]
    assert sum(bits) < 1032192
    assert check(net, "fpga-small") == []
    # images: a first layer whose sums stay, pixels of 8 bits
    wide = make.mlp((784, 160, 10), levels=255)
    bits = [(784 * 160 + 160 * 10) * 8, 170 * 24, (10 + 160) * 24, 170 * 48, 170, 784 * 8]
    assert check(wide, "fpga-small") == [
        f"the network needs {sum(bits)} bits of memory at least (weights {bits[0]}, membranes {bits[1]}, "
        f"accumulators {bits[2]}, biases and thresholds {bits[3]}, spikes {bits[4]}, pixels {bits[5]}; most "
        "weights in layer 0), fpga-small has 1032192"
    ]
    # the widest weights are the width of all
    narrow = make.mlp((784, 160, 10), levels=255, bits=4)
    assert check(narrow, "fpga-small") == []
    assert check(with_layer(narrow, 1, bits=8), "fpga-small")


SHIFTS = Arithmetic("shifts", 8, 16, 0, "shift", ">=", ("subtract_decayed",), "saturate")


def test_another_arithmetic_than_the_chip_has() -> None:
    net = make.mlp((20, 5), 1, 4, "subtract_decayed", arithmetic=SHIFTS)
    for name in sorted(set(chips.targets()) - {"xylo"}):
        assert f"layer 0: its leak is shift, not mul12_trunc as in {name}" in check(net, name)
    assert "layer 0: IntegerLIF is not supported by xylo, only IntegerCubaLIF is" in check(net, "xylo")
    net = make.mlp((20, 5), reset="zero", arithmetic=replace(DEFAULT, comparison=">="))
    assert check(net, "loihi") == ["layer 0: its comparison is >=, not > as in loihi"]


# a chip is its file: what it holds, what runs it, how to install that
FAKE = """
from spiking_lfp.deploy.chip import Chip, Environment, Limits
from spiking_lfp.integers.arithmetic import Arithmetic


class Nothing:
    def missing(self):
        return "nothing runs it"

    def unsupported(self, network):
        return None

    def run(self, network, inputs):
        return {}


CHIP = Chip(
    title="a chip that is not there",
    limits=Limits(synapses=100),
    arithmetic=Arithmetic("mine", 8, 20, 3, "mul12_floor", ">=", ("zero",), "wrap"),
    backends={"daydream": Nothing},
    programs={"dream": "dream-tools"},
    environments=(Environment("day-dream", "dreamer", ("dreamer==1", "numpy<3"), ("sleep==8",)),),
)
"""


@pytest.fixture
def fake_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "fake_chip.py").write_text(FAKE)
    monkeypatch.setattr(chips, "__path__", [*chips.__path__, str(tmp_path)])
    # the next test must not find it
    monkeypatch.setitem(sys.modules, f"{chips.__name__}.fake_chip", None)
    monkeypatch.delitem(sys.modules, f"{chips.__name__}.fake_chip")
    return "fake-chip"


def test_a_file_is_all_that_a_chip_takes(fake_chip: str) -> None:
    assert list(chips.chips()) == ["c", fake_chip, "fpga-small", "loihi", "sanafe-loihi", "verilog", "xylo"]
    assert chips.backend("daydream").missing() == "nothing runs it"
    mine = chips.chips()[fake_chip].arithmetic
    assert mine is not None
    fits = make.network([make.dense("0", 10, 3, reset="zero", frac_bits=3, arithmetic=mine)])
    assert check(fits, fake_chip) == []
    assert check(make.mlp((11, 10), reset="zero"), fake_chip) == [
        "layer 0: its leak is mul12_trunc, not mul12_floor as in fake-chip",
        "the network has 110 synapses, 110 of them in layer 0, fake-chip holds 100",
    ]
    assert check(fits, "fpga-small") == ["layer 0: its leak is mul12_floor, not mul12_trunc as in fpga-small"]


def test_the_command_line_and_the_installation_know_it(tmp_path: Path) -> None:
    (tmp_path / "fake_chip.py").write_text(FAKE)
    known = f"from spiking_lfp.deploy import chips; chips.__path__.append({str(tmp_path)!r}); "
    environment = {"COLUMNS": "200", "PATH": "/usr/bin:/bin"}

    def said(code: str, *words: str) -> str:
        command = [sys.executable, "-c", f"{known}{code}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    run = "from spiking_lfp.cli.main import main; main()"
    assert "fake-chip" in said(run, "check", "--help")
    assert "daydream" in said(run, "verify", "--help")
    lines = said("import runpy; runpy.run_module('spiking_lfp.deploy.chips', run_name='__main__')")
    assert "program|dream|dream-tools" in lines
    assert "environment|day-dream|dreamer==1 numpy<3|sleep==8" in lines


def test_the_installation_reads_chips_with_nothing_installed() -> None:
    # without site packages
    code = "import runpy, sys; runpy.run_module('spiking_lfp.deploy.chips', run_name='__main__')"
    root = Path(checks.__file__).parents[2]
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    needed = {tuple(line.split("|")[:2]) for line in done.stdout.splitlines()}
    programs = {"cc", "make", "g++", "iverilog", "vvp", "verilator", "yosys"}
    programs |= {"nextpnr-ice40", "icepack", "icebox_vlog"}
    programs |= {"arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "qemu-system-arm", "qemu-system-riscv32"}
    programs |= {"clang", "wasm-ld", "node"}
    environments = [*ENVIRONMENTS, *(home.name for home in nir_readers.ENVIRONMENTS)]
    assert needed == {*(("program", name) for name in programs), *(("environment", name) for name in environments)}


ENVIRONMENTS = {
    "sanafe": "SPIKING_LFP_SANAFE_PYTHON",
    "brian2-loihi": "SPIKING_LFP_BRIAN2_LOIHI_PYTHON",
    "lava": "SPIKING_LFP_LAVA_PYTHON",
    "xylosim": "SPIKING_LFP_XYLOSIM_PYTHON",
    "nextpnr-ecp5": "SPIKING_LFP_NEXTPNR_ECP5_PYTHON",
}


def test_environments_say_how_they_are_made() -> None:
    found = {home.name: home for chip in chips.chips().values() for home in chip.environments}
    assert {name: home.variable for name, home in found.items()} == ENVIRONMENTS
    assert found["lava"].install == (
        "python3 -m venv ENV && ENV/bin/pip install --ignore-requires-python --no-deps lava-nc==0.10.0 "
        "&& ENV/bin/pip install 'numpy<2' scipy 'networkx<=2.8.7' 'asteval<0.10'"
    )


def test_a_chip_without_limits_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "targets", lambda: {"free": Chip("anything", Limits(), None)})
    chip = make.mlp(decay=4, reset="subtract_decayed", arithmetic=SHIFTS)
    for net in (make.mlp(), make.lenet(), make.mlp(levels=255), chip):
        assert check(net, "free") == []
