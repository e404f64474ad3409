"""One training step of each method on the same network, inputs and optimiser; imported in the method's own environment.

Needs only torch, NumPy and the method's package, so that it also runs where spiking_lfp is not installed. Adam is fused
for all methods, so that none is slowed by its optimiser.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BETA = 0.9
PACKAGE = Path(__file__).parents[1] / "spiking_lfp"


def parts(network: str) -> list[int | str]:
    """Return the layers in a network's name.

    A number is a dense layer; "12C5" has 12 channels and a 5 x 5 kernel, and its spikes are max-pooled 2 x 2.
    """
    words = network.removeprefix("784-").split("-")
    return [int(word) if word.isdigit() else word for word in words if word != "MP2"]


NETWORKS = {
    name: parts(name)
    for name in ("784-1000-10", "784-1000-1000-10", "12C5-MP2-64C5-MP2-10", "12C5-MP2-64C5-MP2-1024-10")
}


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Return real digits, float32 [count, 1, 28, 28] in [0, 1], and their labels."""
    with np.load(PACKAGE / "data/digits/digits.npz") as file:
        images, labels = file["train_images"][:count], file["train_labels"][:count]
    return torch.from_numpy(images).unsqueeze(1).float() / 255, torch.from_numpy(labels).long()


def synapses(network: str) -> list[nn.Module]:
    """Return the Linear and Conv2d modules of a network for 28 x 28 images."""
    layers: list[nn.Module] = []
    channels, side, features = 1, 28, 28 * 28
    for part in parts(network):
        if isinstance(part, str):
            outputs, kernel = map(int, part.split("C"))
            layers.append(nn.Conv2d(channels, outputs, kernel))
            channels, side = outputs, (side - kernel + 1) // 2
            features = channels * side * side
        else:
            layers.append(nn.Linear(features, part))
            features = part
    return layers


def stack(layers: list[nn.Module], wrap: Callable[[nn.Module, bool], nn.Module], pool: Any, flatten: Any) -> nn.Module:
    """Chain layers, wrapped as neurons (the flag marks the last), with pooling and flattening where they belong."""
    modules: list[nn.Module] = [] if isinstance(layers[0], nn.Conv2d) else [flatten()]
    for index, layer in enumerate(layers):
        modules.append(wrap(layer, index == len(layers) - 1))
        if isinstance(layer, nn.Conv2d):
            modules.append(pool(2))
            if not isinstance(layers[index + 1], nn.Conv2d):
                modules.append(flatten())
    return nn.Sequential(*modules)


@dataclass
class Method:
    """A network and how its method trains it.

    Attributes:
        model: holds the parameters.
        optimizer: Adam, fused.
        counts: from images [B, 1, 28, 28] to output spike counts [B, 10].
        step: one training step on images and labels.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    counts: Callable[[Tensor], Tensor]
    step: Callable[[Tensor, Tensor], None]


def ours(network: str, steps: int, lr: float = 1e-3, chunk: int | None = None) -> Method:
    """spiking_lfp: LFP-epsilon, adaptive clipping; `chunk` steps at a time, or all at once."""
    lfp = importlib.import_module("spiking_lfp")
    model = stack(synapses(network), lambda layer, _: lfp.LIF(layer, BETA), lfp.MaxPool2d, lfp.Flatten)
    optimizer, clip = torch.optim.Adam(model.parameters(), lr, fused=True), lfp.AdaptiveClip(model.parameters())

    def run(images: Tensor) -> Tensor:
        x = lfp.constant(images, steps)
        spikes: Tensor = model(x) if chunk is None else lfp.run_in_chunks(model, x, chunk)
        return spikes

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        spikes = run(images)
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels) / steps)
        clip()
        optimizer.step()

    return Method(model, optimizer, lambda images: run(images).sum(0), step)


def snntorch(network: str, steps: int, lr: float = 1e-3) -> Method:
    """snnTorch as its tutorials have it: the whole network once per time step, BPTT through the paper's surrogate."""
    snn = importlib.import_module("snntorch")

    class Neurons(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.leaky = layer, _leaky(snn)

        def forward(self, x: Tensor) -> Tensor:
            current = self.layer(x)
            spikes: Tensor
            spikes, self.membrane = self.leaky(current, getattr(self, "membrane", torch.zeros_like(current)))
            return spikes

    model = stack(synapses(network), lambda layer, _: Neurons(layer), nn.MaxPool2d, nn.Flatten)
    neurons = [module for module in model.modules() if isinstance(module, Neurons)]

    def counts(images: Tensor) -> Tensor:
        for module in neurons:
            module.__dict__.pop("membrane", None)
        return torch.stack([model(images) for _ in range(steps)]).sum(0)

    return _backpropagation(model, counts, lr)


def snntorch_merged(network: str, steps: int, lr: float = 1e-3) -> Method:
    """snnTorch in its fastest form: layer by layer, all time steps in one product, the constant input only once."""
    snn = importlib.import_module("snntorch")

    class Neurons(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.leaky, self.batch = layer, _leaky(snn), 0

        def forward(self, x: Tensor) -> Tensor:
            """Map [T * B, ...] to spikes [T * B, ...]; an input of batch size B is the same in all steps."""
            current = self.layer(x)
            currents = current.unflatten(0, (-1, self.batch))
            membrane, spikes = torch.zeros_like(currents[0]), []
            for t in range(steps):
                out, membrane = self.leaky(currents[t % len(currents)], membrane)
                spikes.append(out)
            return torch.cat(spikes)

    model = stack(synapses(network), lambda layer, _: Neurons(layer), nn.MaxPool2d, nn.Flatten)

    def counts(images: Tensor) -> Tensor:
        for module in model.modules():
            if isinstance(module, Neurons):
                module.batch = len(images)
        out: Tensor = model(images)
        return out.view(steps, len(images), -1).sum(0)

    return _backpropagation(model, counts, lr)


def spikingjelly(network: str, steps: int, lr: float = 1e-3) -> Method:
    """SpikingJelly in multi-step mode: layer by layer, all time steps in one product, with its default surrogate.

    Its soft reset is at once, before the membrane decays, where the other methods subtract one step later.
    """
    layer, neuron, functional = (
        importlib.import_module(f"spikingjelly.activation_based.{name}") for name in ("layer", "neuron", "functional")
    )
    every_step = layer.SeqToANNContainer

    def wrap(synapse: nn.Module, _: bool) -> nn.Module:
        # V (1 - 1 / tau) is beta V
        lif = neuron.LIFNode(tau=1 / (1 - BETA), decay_input=False, v_reset=None, step_mode="m")
        return nn.Sequential(every_step(synapse), lif)

    model = stack(
        synapses(network), wrap, lambda size: every_step(nn.MaxPool2d(size)), lambda: every_step(nn.Flatten())
    )

    def counts(images: Tensor) -> Tensor:
        functional.reset_net(model)
        spikes: Tensor = model(images.unsqueeze(0).repeat(steps, 1, 1, 1, 1))
        return spikes.sum(0)

    return _backpropagation(model, counts, lr)


def _leaky(snn: Any) -> nn.Module:
    leaky: nn.Module = snn.Leaky(beta=BETA, spike_grad=snn.surrogate.fast_sigmoid(25))
    return leaky


def _backpropagation(model: nn.Module, counts: Callable[[Tensor], Tensor], lr: float) -> Method:
    """Return a method that trains with cross entropy on spike counts (LFP app. A.6.3, the gradient baseline)."""
    optimizer = torch.optim.Adam(model.parameters(), lr, fused=True)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(counts(images), labels).backward()
        optimizer.step()

    return Method(model, optimizer, counts, step)


def lfprop(network: str, steps: int, lr: float = 1e-3) -> Method:
    """lfprop 1.0.0, the LFP authors' package: LFP-epsilon, the training step of its README, once per time step."""
    module_at("data/_torchvision.py").torchvision_datasets()
    snn = importlib.import_module("snntorch")
    spiking = importlib.import_module("lfprop.model.spiking_networks")
    composite = importlib.import_module("lfprop.propagation.propagator_snn").LFPSNNEpsilonComposite()
    reward = importlib.import_module("lfprop.rewards.reward_functions").SnnCorrectClassRewardSpikesRateCoded("cpu")

    def wrap(layer: nn.Module, last: bool) -> nn.Module:
        leaky = snn.Leaky(beta=BETA, init_hidden=True, output=last, spike_grad=spiking.SPIKE_GRAD_MAP["step"]())
        module: nn.Module = spiking.SpikingLayer(layer, leaky)
        return module

    model = stack(synapses(network), wrap, nn.MaxPool2d, nn.Flatten)
    optimizer = torch.optim.Adam(model.parameters(), lr, fused=True)

    def run(net: nn.Module, images: Tensor) -> Tensor:
        snn.Leaky.reset_hidden()
        snn.Leaky.detach_hidden()
        return torch.stack([net(images)[0] for _ in range(steps)])

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        with composite.context(model) as modified:
            images = images.detach().requires_grad_()
            spikes = run(modified, images)
            torch.autograd.grad((spikes,), (images,), grad_outputs=(reward(spikes, labels),))
            for parameter in model.parameters():
                parameter.grad = -parameter.feedback  # type: ignore[attr-defined]
            optimizer.step()

    return Method(model, optimizer, lambda images: run(model, images).sum(0), step)


METHODS: dict[str, Callable[..., Method]] = {
    "spiking_lfp": ours,
    "lfprop": lfprop,
    "snntorch": snntorch,
    "snntorch-merged": snntorch_merged,
    "spikingjelly": spikingjelly,
}


def module_at(path: str) -> ModuleType:
    """Import one file of spiking_lfp where the package is not installed; `path` is relative to the package."""
    spec = spec_from_file_location(Path(path).stem, PACKAGE / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
