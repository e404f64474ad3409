"""Normalised inputs folded into what takes them: the same network on pixels, from the preset to the integers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spiking_lfp as lfp
from spiking_lfp import LIF, AvgPool2d, ExportError, Flatten, MaxPool2d, ThresholdBatchNorm, constant, export
from spiking_lfp.deploy.layers import Pad
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.predict import predict_files
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.scaled_inputs import fold_normalisation
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import UsageError
from spiking_lfp.training import load_run, preset_config, train

MEAN, DEVIATION = [0.5, 0.4, 0.6, 0.45], [0.25, 0.2, 0.3, 0.5]


def normalised(x: Tensor) -> Tensor:
    m, s = (torch.tensor(values, dtype=x.dtype).view(4, *[1] * (x.dim() - 3)) for values in (MEAN, DEVIATION))
    return (x - m) / s


def small(synapse: nn.Module, outputs: int, **arguments: object) -> nn.Sequential:
    return nn.Sequential(LIF(synapse, 0.8, 0.5, **arguments), Flatten(), LIF(nn.Linear(outputs, 3), 0.8, 0.2)).double()


def in_integers(net: nn.Sequential) -> nn.Sequential:
    lfp.run_in_integers(net, 8)
    return net


NETWORKS = {
    "convolution": lambda: small(nn.Conv2d(4, 6, 3, stride=2), 24),
    "groups": lambda: small(nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), 24),
    "signal": lambda: small(nn.Conv1d(4, 6, 3, dilation=2), 12),
    "norm": lambda: small(nn.Conv2d(4, 6, 3, 2, bias=False), 24, norm=ThresholdBatchNorm(6, 0.5)),
    "flat": lambda: nn.Sequential(Flatten(), LIF(nn.Linear(100, 9)), LIF(nn.Linear(9, 3), threshold=0.1)).double(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_on_pixels_what_it_did_on_normalised_ones(name: str) -> None:
    net = NETWORKS[name]()
    x = constant(torch.rand(7, 4, *[6] * 1 if name == "signal" else [5, 5]).double(), 6)
    net(normalised(x))  # statistics of a normalisation
    net.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    folded = fold_normalisation(net, MEAN, DEVIATION, x)
    expected = net(normalised(x))
    assert torch.equal(folded(x), expected)
    assert 0 < expected.mean() < 1
    assert not torch.equal(net(x), expected)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


PADDED = {
    "convolution": lambda: small(nn.Conv2d(4, 6, 3, padding=1), 150),
    "one way": lambda: small(nn.Conv2d(4, 6, 3, padding=(0, 2), stride=2), 48),
    "same": lambda: small(nn.Conv2d(4, 6, 3, padding="same", groups=2), 150),
    "signal": lambda: small(nn.Conv1d(4, 6, 3, padding=2), 48),
}


@pytest.mark.parametrize("name", PADDED)
def test_a_border_of_zeros_becomes_one_of_their_integers(name: str) -> None:
    net = PADDED[name]().eval()
    x = constant(torch.rand(7, 4, *[6] * 1 if name == "signal" else [5, 5]).double(), 6)
    mean = [128 / 255, 102 / 255, 153 / 255, 0.0]  # which integers stand for
    folded = fold_normalisation(net, mean, DEVIATION, x)
    m, s = (torch.tensor(values).double().view(4, *[1] * (x.dim() - 3)) for values in (mean, DEVIATION))
    expected = net((x - m) / s)
    assert torch.equal(folded(x), expected)
    assert 0 < expected.mean() < 1
    assert [key for key, _ in folded.named_children()] == ["border", "0", "1", "2"]
    pixels = (x[0] * 255).round()
    integers, _ = quantize(folded, pixels.to(torch.uint8), torch.arange(7) % 3, 6, ["a", "b", "c"])
    spikes = simulate(integers, integers_of(pixels, integers), record=True).spikes["0"]
    assert np.mean(spikes.reshape(expected_of(folded, pixels).shape) != expected_of(folded, pixels)) < 0.02
    border = integers.layers[0]
    assert isinstance(border, Pad)
    assert border.fill.tolist() == [128, 102, 153, 0]


def integers_of(pixels: Tensor, network: IntegerNetwork) -> np.ndarray:
    return pixels.numpy().astype(np.uint8).reshape(len(pixels), *network.in_shape)


def expected_of(folded: nn.Module, pixels: Tensor) -> np.ndarray:
    """Return the spikes of the first neurons."""
    hidden = nn.Sequential(*list(folded.children())[:2])
    return hidden(constant(pixels / 255, 6)).detach().numpy()


def test_a_layer_that_takes_the_inputs_runs_once() -> None:
    shared = LIF(nn.Conv2d(4, 4, 3, padding=1), threshold=0.2)
    net = nn.Sequential(shared, shared, Flatten(), LIF(nn.Linear(100, 3))).double()
    with pytest.raises(ExportError, match="layer 0: takes normalised inputs and runs more than once"):
        fold_normalisation(net, MEAN, DEVIATION, constant(torch.rand(2, 4, 5, 5).double(), 3))


def test_a_chain_behind_a_border_keeps_a_layer_that_it_has_twice() -> None:
    pool, first = MaxPool2d(2), LIF(nn.Conv2d(4, 4, 3, padding=1), threshold=0.2)
    net = nn.Sequential(first, pool, LIF(nn.Conv2d(4, 3, 1), threshold=0.1), pool, Flatten()).double()
    x, mean = constant(torch.rand(2, 4, 8, 8).double(), 3), [128 / 255, 102 / 255, 153 / 255, 0.0]
    m, s = (torch.tensor(values).double().view(4, 1, 1) for values in (mean, DEVIATION))
    expected = net((x - m) / s)
    found = fold_normalisation(net, mean, DEVIATION, x)(x)
    assert found.shape == (3, 2, 12)
    assert torch.equal(found, expected)


def test_a_module_of_ones_own_has_a_border_in_front_of_it() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eyes, self.flat = LIF(nn.Conv2d(4, 6, 3, padding=1), 0.8, 0.5), Flatten()
            self.out = LIF(nn.Linear(150, 3), 0.8, 0.2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.flat(self.eyes(x)))

    net, mean = Own().double().eval(), [128 / 255, 102 / 255, 153 / 255, 0.0]
    x = constant(torch.rand(7, 4, 5, 5).double(), 6)
    m, s = (torch.tensor(values).double().view(4, 1, 1) for values in (mean, DEVIATION))
    folded = fold_normalisation(net, mean, DEVIATION, x)
    assert torch.equal(folded(x), net((x - m) / s))
    integers, _ = quantize(folded, (x[0] * 255).round().byte(), torch.arange(7) % 3, 6, ["a", "b", "c"])
    assert [layer.name for layer in integers.layers] == ["border", "network.eyes", "network.flat", "network.out"]


def test_two_layers_do_not_share_inputs_with_a_border() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = LIF(nn.Conv2d(4, 3, 3, padding=1)), LIF(nn.Conv2d(4, 3, 3, padding=1))

        def forward(self, x: Tensor) -> Tensor:
            return lfp.add(self.a(x), self.b(x))

    with pytest.raises(ExportError, match="layer b: takes the normalised inputs of layer a, too"):
        fold_normalisation(Two().double(), MEAN, DEVIATION, constant(torch.rand(2, 4, 5, 5).double(), 3))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat = Flatten()
        self.a, self.b = (LIF(nn.Linear(100, 9), threshold=0.5) for _ in range(2))
        self.out = LIF(nn.Linear(9, 3), threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.flat(x)
        return self.out(lfp.add(self.a(x), self.b(x)))


def test_every_branch_that_takes_the_inputs_is_changed() -> None:
    net, x = Branches().double().eval(), constant(torch.rand(5, 4, 5, 5).double(), 4)
    folded = fold_normalisation(net, MEAN, DEVIATION, x)
    assert torch.equal(folded(x), net(normalised(x)))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (small(nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), 150), "layer 0: Conv2d.* evenly with zeros"),
        (nn.Sequential(AvgPool2d(2), Flatten(), LIF(nn.Linear(16, 3))).double(), "layer 0: AvgPool2d takes normalised"),
        (in_integers(small(nn.Conv2d(4, 6, 3, stride=2), 24)), "layer 0: was trained in integers on inputs that"),
    ],
)
def test_what_cannot_be_folded_is_named(net: nn.Sequential, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        fold_normalisation(net, MEAN, DEVIATION, constant(torch.rand(2, 4, 5, 5).double(), 3))
    with pytest.raises(UsageError, match="quantize takes pixels as they are"):
        preset_config("cifar10-conv", {"quantize": 8})


def test_a_run_on_normalised_pixels_answers_alike_in_integers(tmp_path: Path) -> None:
    changes = {
        "data": "mnist-subset",
        "normalize": True,
        "hidden": (40,),
        "epochs": 1,
        "steps": 6,
        "readout": "membrane",
    }
    run = load_run(train(preset_config("mnist-small", changes), tmp_path / "run"))
    digits = lfp.load_dataset("mnist-subset")
    made = export(run, out=tmp_path / "out", to=["artifact"])
    images, labels = digits.test_images[:500].numpy(), digits.test_labels[:500].numpy()
    integers = simulate(made.network, images)
    trained = run.predict(digits.test_images[:500]).scores.argmax(1).numpy()
    assert (trained == labels).mean() > 0.75
    assert (integers.predictions == trained).mean() > 0.97
    # calibrated and recorded with samples of all parts of a set, which may be sorted by class
    spread = [digits.test_images[k * 500].numpy() for k in range(4)]
    np.testing.assert_array_equal(made.network.golden.inputs, np.stack(spread))
    np.save(tmp_path / "digits.npy", images[:20, 0])
    _, answered = predict_files(lfp.load(tmp_path / "out" / "net.h5"), [tmp_path / "digits.npy"])
    assert answered.scores.argmax(1).tolist() == integers.predictions[:20].tolist()


def test_inputs_that_nobody_normalised_are_not_called_so(tmp_path: Path) -> None:
    network = nn.Sequential(AvgPool2d(2), Flatten(), LIF(nn.Linear(4, 3)))
    with pytest.raises(ExportError, match=r"layer 0: AvgPool2d takes inputs other than 0 and 1, .* or train on spikes"):
        export(network, (torch.randint(5, (6, 7, 1, 4, 4)), [0, 1, 2] * 2), out=tmp_path)
