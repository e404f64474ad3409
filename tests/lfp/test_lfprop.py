"""Against the authors' package itself, `lfprop`, where it is installed (it needs snntorch < 1 and transformers < 5)."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import LIF, Epsilon, Flatten, MaxPool2d, constant, propagate
from spiking_lfp.data._torchvision import torchvision_datasets


@pytest.fixture(scope="module")
def lfprop() -> SimpleNamespace:
    pytest.importorskip(
        "lfprop", reason="lfprop is not installed: pip install lfprop[snn] in an environment of its own"
    )
    # lfprop imports torchvision, which beside a CPU build of torch only imports once its operators are declared
    torchvision_datasets()
    import snntorch

    propagation = pytest.importorskip(
        "lfprop.propagation.propagator_snn",
        reason="lfprop is installed, but what it needs (snntorch < 1, transformers < 5, torchvision) does not import",
        exc_type=ImportError,
    )
    from lfprop.model.spiking_networks import SpikingLayer

    return SimpleNamespace(snntorch=snntorch, layer=SpikingLayer, composite=propagation.LFPSNNEpsilonComposite)


def theirs(lfprop: SimpleNamespace, network: nn.Sequential) -> nn.Sequential:
    """Build the same network of their parts, around the same parameters and without their noise."""
    modules: list[nn.Module] = []
    for module in network:
        if isinstance(module, LIF):
            # their own Heaviside returns float32; its derivative is never asked for
            leaky = lfprop.snntorch.Leaky(
                beta=module.beta.clone(),
                threshold=module.threshold.clone(),
                spike_grad=lambda excess: (excess > 0).to(excess.dtype),
                init_hidden=True,
                reset_delay=True,
            )
            modules.append(lfprop.layer(module.synapse, leaky))
        elif isinstance(module, MaxPool2d):
            modules.append(nn.MaxPool2d(module.kernel_size, module.stride))
        else:
            modules.append(nn.Flatten())
    return nn.Sequential(*modules)


def their_feedback(lfprop: SimpleNamespace, network: nn.Sequential, x: Tensor, reward: Tensor, epsilon: float) -> Any:
    """Their spikes, updates by name of our parameters, and feedback on `x`."""
    leaf = x.clone().requires_grad_()
    with lfprop.composite(epsilon).context(theirs(lfprop, network)) as model:
        spikes = [model(step) for step in leaf]
        torch.autograd.backward(spikes, list(reward))
        updates = {name: parameter.feedback.clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        del parameter.feedback
    return torch.stack(spikes).detach(), updates, leaf.grad


pytestmark = pytest.mark.filterwarnings("ignore:This functionality is not yet fully tested")  # of lxt, on leaving
NETWORKS = {
    "mlp": ((11,), lambda: [LIF(nn.Linear(11, 16), 0.9), LIF(nn.Linear(16, 12), 0.8), LIF(nn.Linear(12, 4), 0.95)]),
    "threshold": ((11,), lambda: [LIF(nn.Linear(11, 16), 0.5, 0.3), LIF(nn.Linear(16, 4), 1.0, 0.7)]),
    "cnn": (
        (2, 10, 9),
        lambda: [
            LIF(nn.Conv2d(2, 4, 3, padding=1), 0.9, 0.5),
            MaxPool2d(2),
            LIF(nn.Conv2d(4, 5, 3, bias=False), 0.9, 0.5),
            Flatten(),
            LIF(nn.Linear(30, 3), 0.9, 0.5),
        ],
    ),
}


@pytest.mark.parametrize("constant_input", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_feedback_is_that_of_lfprop(lfprop: SimpleNamespace, name: str, constant_input: bool) -> None:
    sample, modules = NETWORKS[name]
    epsilon = 1e-4
    network = nn.Sequential(*modules()).double()
    for layer in network:
        if isinstance(layer, LIF):
            layer.rule = Epsilon(epsilon)
            nn.init.normal_(layer.synapse.weight, 0.1, 0.4)
    images = torch.rand(3, *sample, dtype=torch.float64)
    x = constant(images, 12) if constant_input else (torch.rand(12, 3, *sample) < 0.4).double()
    reward = torch.randn(12, 3, network[-1].synapse.out_features, dtype=torch.float64)

    expected_spikes, expected_updates, expected_feedback = their_feedback(lfprop, network, x, reward, epsilon)

    leaf = (images if constant_input else x).clone().requires_grad_()
    spikes = network(constant(leaf, 12) if constant_input else leaf)
    propagate(spikes, reward)

    assert 0 < spikes.sum() < spikes.numel()
    assert torch.equal(spikes, expected_spikes)
    if constant_input:
        expected_feedback = expected_feedback.sum(0)
    torch.testing.assert_close(
        leaf.grad, expected_feedback, rtol=1e-10, atol=1e-10 * expected_feedback.abs().max().item()
    )
    for parameter_name, parameter in network.named_parameters():
        update = expected_updates[parameter_name]
        assert update.any()
        assert parameter.grad is not None
        torch.testing.assert_close(-parameter.grad, update, rtol=1e-10, atol=1e-10 * update.abs().max().item())
