"""Composites on models of torchvision, and batch normalisation, which is folded."""

import copy
import re
import sys

import pytest
import torch
from torch import nn

from helpers.composites import RULES, Model, Residual, double, run
from helpers.forks import Forks
from helpers.tensors import assert_near, random
from spiking_lfp.data._torchvision import torchvision_models
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.rewards import logit_reward, propagate
from spiking_lfp.nn.composites import COMPOSITES, Composite, composite
from spiking_lfp.nn.folding import fold_batch_norm


def with_random_weights(model: nn.Module) -> nn.Module:
    """Fill a model that was built on the meta device, so that building costs nothing."""
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.05)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.zero_()
    return model


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = torchvision_models().resnet18(num_classes=5)
    return with_random_weights(model)


def test_vgg_16_of_torchvision_learns_in_every_layer() -> None:
    with torch.device("meta"):
        model = torchvision_models().vgg16(num_classes=5)
        model.classifier[0], model.classifier[3] = nn.Linear(512, 20), nn.Linear(20, 16)
        model.classifier[6] = nn.Linear(16, 5)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    with_random_weights(model)
    x, labels = torch.rand(1, 3, 32, 32).requires_grad_(), torch.tensor([4])
    with composite("epsilon").applied(model):
        logits = model(x)
    assert logits.shape == (1, 5)
    propagate(logits, logit_reward(logits, labels))
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert len(list(model.named_parameters())) == 2 * 16
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_resnet_18_of_torchvision_is_refused_for_its_batch_normalisation(resnet: nn.Module) -> None:
    message = (
        "LFP does not define batch normalisation: fold it into the layers before with fold_batch_norm(model), "
        "or use a model without it"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(resnet):
        resnet(torch.rand(2, 3, 32, 32))


def test_resnet_18_of_torchvision_folds_and_learns_in_every_layer(resnet: nn.Module) -> None:
    folded = fold_batch_norm(resnet)
    x, labels = torch.rand(1, 3, 32, 32).requires_grad_(), torch.tensor([4])
    with torch.no_grad():
        expected = copy.deepcopy(resnet).eval()(x)
        assert (folded(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    with composite("epsilon").applied(folded):
        logits = folded(x)
    torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    propagate(logits, logit_reward(logits, labels))
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert len(list(folded.parameters())) == 2 * 20 + 2
    for parameter in learning(folded):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_the_blocks_of_resnet_split_their_feedback_by_the_rule() -> None:
    """torchvision's own block, folded, against the hand-made one."""
    with torch.device("meta"):
        block = sys.modules[torchvision_models().resnet18.__module__].BasicBlock(2, 2)
    folded = fold_batch_norm(with_random_weights(block)).double().requires_grad_()
    plain = Residual()
    plain.one.load_state_dict(folded.conv1.state_dict())
    plain.two.load_state_dict(folded.conv2.state_dict())
    x, reward = random(2, 2, 4, 4).requires_grad_(), random(2, 2, 4, 4)
    for rule in RULES.values():
        out = run(folded, x, Composite(rule), reward)
        assert x.grad is not None
        actual = [out, x.grad.clone(), folded.conv1.weight.grad, folded.conv2.bias.grad]
        expected = [run(plain, x, Composite(rule), reward), x.grad, plain.one.weight.grad, plain.two.bias.grad]
        for each, reference in zip(actual, expected, strict=True):
            assert_near(each, reference, 1e-12)


def test_folding_gives_no_warnings(forks: Forks) -> None:
    code = (
        "import torch; from torch import nn; from spiking_lfp.nn.folding import fold_batch_norm;"
        "fold_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)))"
    )
    done = forks.run(code)
    assert done.returncode == 0, done.stderr


def normalised() -> nn.Sequential:
    """A model whose batch normalisation has seen data."""
    model = double(
        nn.Conv2d(1, 3, 2, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.BatchNorm1d(6),
        nn.Tanh(),
        nn.Linear(6, 2),
    )
    for _ in range(3):
        model(random(8, 1, 3, 3) + 0.5)
    return model


def learning(model: nn.Module) -> list[nn.Parameter]:
    """Those that learn: all weights, see the next test for biases."""
    actual = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter in set(actual) for name, parameter in model.named_parameters() if name.endswith("weight"))
    return actual


def test_folded_biases_learn_as_those_of_the_normalisation_did() -> None:
    assert all(parameter.requires_grad for parameter in normalised().parameters())
    assert all(parameter.requires_grad for parameter in fold_batch_norm(normalised()).parameters())


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_is_refused_in_one_sentence(training: bool) -> None:
    message = (
        "LFP does not define batch normalisation: fold it into the layers before with fold_batch_norm(model), "
        "or use a model without it"
    )
    model = normalised().train(training)
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(model):
        model(random(4, 1, 3, 3))


@pytest.mark.parametrize("name", COMPOSITES)
def test_folded_models_give_the_same_and_work_under_every_composite(name: str) -> None:
    model = normalised()
    before = copy.deepcopy(model.state_dict())
    x = random(4, 1, 3, 3)
    folded = fold_batch_norm(model)
    expected = copy.deepcopy(model).eval()(x)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    actual = run(folded, x, composite(name))
    torch.testing.assert_close(actual, expected.detach(), rtol=0, atol=1e-5)
    for parameter in learning(folded):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(one, two) for one, two in zip(model.state_dict().values(), before.values(), strict=True))


def test_folding_leaves_the_given_model_in_the_mode_it_was_in() -> None:
    model = normalised()
    assert model.training
    folded = fold_batch_norm(model)
    assert not folded.training
    assert all(module.training for module in model.modules())


def test_batch_normalisation_that_follows_something_else_cannot_be_folded() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4))
    with pytest.raises(UsageError, match=r"^2 does not follow a linear layer or convolution: it cannot be folded$"):
        fold_batch_norm(model)


def test_models_that_cannot_be_traced_cannot_be_folded() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), Model(lambda m, x: m.a(x) if x.sum() > 0 else m.b(x)))
    with pytest.raises(UsageError, match=r"^the batch normalisation of Sequential cannot be folded: .+$"):
        fold_batch_norm(model)
