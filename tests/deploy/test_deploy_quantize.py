"""From real weights to integers: exact where the network was trained in integers, close where it was not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spiking_lfp as lfp
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime
from spiking_lfp.deploy.conversion import CALIBRATION_METHODS, CalibrationMethod
from spiking_lfp.deploy.layers import Conv, Dense, Flatten, MaxPool
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import IntegerReset
from spiking_lfp.lfp.execution import Integer
from spiking_lfp.nn.encoders import constant
from spiking_lfp.nn.execution import run_in_integers
from spiking_lfp.nn.spiking import spiking_layers

CLASSES = ("a", "b", "c", "d")


def lenet(reset: Any = "subtract") -> nn.Sequential:
    torch.manual_seed(3)
    return lfp.lenet((1, 12, 12), 4, (3, 4), (20,), kernel=3, threshold=0.3, reset=reset)


def digits(count: int = 12) -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (count, 1, 12, 12)) * (torch.rand(count, 1, 12, 12) < 0.6)
    return images.to(torch.uint8), torch.arange(count) % 4


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_what_was_trained_in_integers_is_exported_to_the_bit(bits: int, per_channel: bool, reset: Any) -> None:
    network, (images, labels) = lenet(reset), digits()
    run_in_integers(network, bits, per_channel=per_channel)
    integers, _ = quantize(network, images, labels, 9, CLASSES, per_channel=per_channel)
    found = simulate(integers, images.numpy(), record=True).spikes
    seen = lfp.constant(images.float() / 255, 9)
    for name, module in network.named_children():
        seen = module(seen)
        if isinstance(module, lfp.LIF):
            assert seen.any()
            assert np.array_equal(found[name], seen.detach().byte().numpy())
    assert all(layer.bits == bits for layer in integers.spiking)


def test_an_output_without_weights_is_quantised_with_the_unit_of_the_coarsest() -> None:
    network, (images, labels) = lenet("subtract"), digits()
    last = network[-1].synapse
    with torch.no_grad():
        last.weight[1] = 0
        last.bias[1] = 0.2
    integers, _ = quantize(network, images, labels, 9, CLASSES, per_channel=True)
    layer = integers.spiking[-1]
    assert layer.scale[1] == layer.scale.max()
    assert not layer.weight[1].any()
    expected = round(0.2 / float(layer.scale[1]))
    assert layer.bias is not None
    assert layer.bias[1] == expected > 0
    assert simulate(integers, images.numpy()).counts[:, 1].any()


@pytest.mark.parametrize("bits", [2, 8])
def test_a_network_that_sees_recordings_takes_spikes(bits: int) -> None:
    network = lenet()
    spikes = (torch.rand(7, 12, 1, 12, 12) < 0.4).to(torch.uint8)
    run_in_integers(network, bits, levels=1)
    integers, report = quantize(network, spikes, torch.arange(12) % 4, None, CLASSES)
    assert (integers.encoder, integers.levels, integers.steps, report.samples) == ("spikes", 1, 7, 12)
    found = simulate(integers, spikes.numpy(), record=True).spikes
    seen = spikes.float()
    for name, module in network.named_children():
        seen = module(seen)
        if isinstance(module, lfp.LIF):
            assert seen.any()
            assert np.array_equal(found[name], seen.detach().byte().numpy())


@pytest.mark.parametrize("scale", CALIBRATION_METHODS)
def test_eight_bits_are_close_to_real_weights(scale: CalibrationMethod) -> None:
    network, (images, labels) = lenet(), digits()
    integers, report = quantize(network, images, labels, 9, CLASSES, 8, scale)
    assert [type(layer) for layer in integers.layers] == [Conv, MaxPool, Conv, MaxPool, Flatten, Dense, Dense]
    spikes = simulate(integers, images.numpy(), record=True).spikes
    seen = lfp.constant(images.float() / 255, 9)
    for name, module in network.named_children():
        seen = module(seen)
        if isinstance(module, lfp.LIF):
            line = next(line for line in report.layers if line.name == name)
            real = seen.detach().byte().numpy()
            assert line.disagreement == pytest.approx(np.mean(spikes[name] != real))
            assert line.disagreement < 0.06
            assert line.rate_float == pytest.approx(real.mean())
            assert line.rate_integer == pytest.approx(spikes[name].mean())
    first, *_, last = report.accuracy
    assert first.step == "real weights"
    assert first.accuracy == pytest.approx(float((seen.sum(0).argmax(-1) == labels).float().mean()))
    answers = spikes["6"].sum(0).argmax(-1)
    assert last.accuracy == pytest.approx(np.mean(answers == labels.numpy()))
    assert json.loads(integers.notes["quantisation"])["samples"] == 12


def test_the_search_finds_fewer_different_spikes_than_the_largest_weight_as_unit() -> None:
    network, (images, labels) = lenet(), digits(40)
    with torch.no_grad():
        network[0].synapse.weight[0, 0, 0, 0] = 4.0  # one weight far above the others
    differing = {}
    for scale in CALIBRATION_METHODS:
        _, report = quantize(network, images, labels, 9, CLASSES, 2, scale)
        differing[scale] = report.layers[0].disagreement
    assert differing["search"] < differing["max"]
    assert differing["search"] == min(differing.values())


@pytest.mark.parametrize("reset", ["zero", "subtract_decayed"])
def test_another_reset_than_that_of_training(reset: IntegerReset) -> None:
    network, (images, labels) = lenet(), digits()
    integers, _ = quantize(network, images, labels, 9, CLASSES, 8, "max", reset=reset)
    assert {layer.neuron.reset for layer in integers.spiking} == {reset}


def test_the_network_itself_is_left_alone() -> None:
    network, (images, labels) = lenet(), digits()
    run_in_integers(network, 4)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantize(network, images, labels, 5, CLASSES, 8)
    assert network.training
    executions = [layer.execution for layer in spiking_layers(network).values()]
    assert all(isinstance(execution, Integer) and execution.bits == 4 for execution in executions)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_layers_that_only_matter_in_training_fall_away() -> None:
    torch.manual_seed(0)
    images, labels = digits()
    modules = [lfp.LIF(nn.Linear(144, 10), threshold=0.2), lfp.LIF(nn.Linear(10, 4), threshold=0.2)]
    network = nn.Sequential(
        lfp.Flatten(), nn.Sequential(modules[0], lfp.Dropout(0.5)), lfp.NormalizeFeedback(), modules[1]
    )
    integers, _ = quantize(network, images, labels, 5, CLASSES)
    assert [layer.name for layer in integers.layers] == ["0", "1.0", "3"]


def signal_network(normalised: bool) -> nn.Sequential:
    """Two convolutions along one axis, with their thresholds by channel."""

    def norm(channels: int) -> nn.Module | None:
        return lfp.ThresholdBatchNorm(channels, 0.4) if normalised else None

    return nn.Sequential(
        lfp.LIF(nn.Conv1d(2, 6, 5, stride=2, padding=2), 0.9, torch.rand(6, 1) / 4 + 0.3, norm=norm(6)),
        lfp.Dropout(0.2),
        lfp.LIF(nn.Conv1d(6, 8, 3, padding="same", groups=2), 0.9, 0.4, norm=norm(8)),
        lfp.Flatten(),
        lfp.LIF(nn.Linear(80, 4), 0.9, 0.4),
    )


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("encoder", ["constant", "spikes"])
def test_signals_are_images_one_pixel_high(encoder: str, normalised: bool, tmp_path: Path) -> None:
    """The integer network is that of training in integers, to the bit, in the simulator, a file and the C program."""
    torch.manual_seed(0)
    network, labels = signal_network(normalised), torch.arange(20) % 4
    levels, steps = (255, 12) if encoder == "constant" else (1, None)
    signals = torch.randint(0, levels + 1, (20, 2, 20) if steps else (12, 20, 2, 20)).byte()
    sequence = lfp.constant(signals.float() / levels, 12) if steps else signals.float()
    network(sequence)
    network.eval()
    lfp.run_in_integers(network, 8, levels)
    expected = network(sequence)
    integers, _ = quantize(network, signals, labels, steps, list("abcd"))
    assert integers.in_shape == (2, 1, 20)
    outcome = simulate(integers, signals.numpy())
    assert expected.any()
    assert np.array_equal(outcome.counts, expected.sum(0).int().numpy())
    whole = with_golden_run(integers, signals.numpy())
    save_network(whole, tmp_path / "net.h5")
    kept = load_network(tmp_path / "net.h5")
    assert kept.golden is not None
    assert kept.golden.inputs.shape[-3:] == (2, 1, 20)
    if CRuntime().missing() is None:
        found = CRuntime().run(kept, signals.numpy())
        for name, spikes in simulate(integers, signals.numpy(), record=True).spikes.items():
            assert np.array_equal(found[name], spikes)


def head(features: int) -> list[nn.Module]:
    return [lfp.Flatten(), lfp.LIF(nn.Linear(features, 4))]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([lfp.Flatten(), lfp.Affine(nn.Linear(144, 4))], "layer 1: Affine has no integer form"),
        (
            [lfp.Flatten(), lfp.LIF(nn.Linear(144, 4), reset="none")],
            "layer 1: integer neurons reset to zero or subtract",
        ),
        (
            [lfp.Flatten(), lfp.LIF(nn.Linear(144, 4), threshold=1e-9)],
            "layer 1: its threshold is less than half a weight unit",
        ),
        (
            [lfp.LIF(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), *head(144)],
            "layer 0: Conv2d.* evenly with zeros",
        ),
        ([lfp.LIF(nn.ConvTranspose2d(1, 1, 3)), *head(196)], "layer 0: ConvTranspose2d.* has no integer form"),
        ([lfp.LIF(nn.Conv2d(1, 1, 3)), lfp.MaxPool2d((1, 2)), *head(50)], "layer 1: MaxPool2d.* square windows"),
        ([lfp.LIF(nn.Conv2d(1, 1, 3)), lfp.MaxPool2d(2, padding=1), *head(36)], "layer 1: .* without padding"),
        ([lfp.LIF(nn.Conv2d(1, 4, 12))], "outputs are .* let a dense layer be the last"),
        ([lfp.LIF(nn.Conv2d(1, 4, 12)), lfp.Flatten()], "ends in flatten 1, .* let a dense layer be the last"),
        (
            [nn.Flatten(2), lfp.LIF(nn.Linear(144, 4))],
            r"layer 0: nn\.Flatten has no .* Flatten and add of this package",
        ),
        ([lfp.Flatten(), lfp.AdaptiveLIF(nn.Linear(144, 4))], "layer 1: AdaptiveLIF has no integer form"),
        ([lfp.RecurrentLIF(nn.Conv2d(1, 4, 3)), *head(400)], "layer 0: recurrent convolutions have no integer form"),
    ],
)
def test_what_has_no_integer_form_is_refused(modules: list[nn.Module], message: str) -> None:
    images, labels = digits(2)
    with pytest.raises(ExportError, match=message):
        quantize(nn.Sequential(*modules), images, labels, 3, CLASSES)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lfp.LIF(nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular")), "layer 1: Conv1d.* evenly with zeros"),
        (lfp.LIF(nn.ConvTranspose1d(2, 2, 3, padding=1)), "layer 1: ConvTranspose1d.* has no integer form"),
        (lfp.MaxPool1d(2), r"layer 1: MaxPool1d\(kernel_size=2, stride=2\) .* use AvgPool1d or SumPool1d"),
    ],
)
def test_what_has_no_integer_form_on_signals_is_refused_as_it_was_given(module: nn.Module, message: str) -> None:
    signals = (torch.rand(5, 2, 2, 20) < 0.3).byte()
    network = nn.Sequential(lfp.LIF(nn.Conv1d(2, 2, 3, padding=1)), module, lfp.Flatten(), lfp.LIF(nn.LazyLinear(4)))
    network(signals.float())
    with pytest.raises(ExportError, match=message):
        quantize(network, signals, torch.tensor([0, 1]), None, CLASSES)


@pytest.mark.parametrize(
    "synapse",
    [
        nn.Conv2d(1, 4, 3, dilation=2),
        nn.Conv2d(1, 4, (2, 3), stride=(2, 1), padding=(2, 0), dilation=(3, 1), bias=False),
        nn.Conv2d(1, 4, 3, padding="same", dilation=2),
    ],
)
def test_dilated_kernels_become_larger_ones_with_holes(synapse: nn.Conv2d) -> None:
    torch.manual_seed(0)
    images, labels = digits(8)
    with torch.no_grad():
        for each in synapse.parameters():
            each.copy_(torch.randint(-90, 91, each.shape))
        synapse.weight[0, 0, 0, 0] = 127.0
    layer = lfp.LIF(synapse, 1.0, 60.0, "zero")
    seen = constant(images.float() / 255, 3)
    spikes = layer(seen)
    assert 0.05 < spikes.mean() < 0.95
    network = nn.Sequential(layer, lfp.Flatten(), lfp.LIF(nn.Linear(spikes[0, 0].numel(), 4)))
    integers, report = quantize(network, images, labels, 3, CLASSES, 8, "max")
    first = integers.spiking[0]
    assert report.layers[0].disagreement == 0
    found = simulate(integers, images.numpy(), record=True).spikes[first.name]
    np.testing.assert_array_equal(found, spikes.detach())
    holes = np.ones(first.weight.shape[2:], bool)
    holes[:: synapse.dilation[0], :: synapse.dilation[1]] = False
    assert holes.any()
    assert not first.weight[:, :, holes].any()


def test_pruned_synapses_stay_away() -> None:
    network, (images, labels) = lenet(), digits()
    with torch.no_grad():
        for layer in (network[0], network[5]):
            layer.synapse.weight[torch.rand(layer.synapse.weight.shape) < 0.5] = 0.0
    integers, _ = quantize(network, images, labels, 9, CLASSES, 4)
    for layer in integers.spiking[:3:2]:
        real = network.get_submodule(layer.name).synapse.weight
        assert not layer.weight[(real == 0).numpy()].any()
        assert layer.weight.any()


def test_weights_that_round_to_nothing_are_refused_not_zeroed() -> None:
    network, (images, labels) = lenet(), digits(2)
    with torch.no_grad():
        network[5].synapse.weight.zero_()
    with pytest.raises(ExportError, match="layer 5: all weights are zero"):
        quantize(network, images, labels, 3, CLASSES)
