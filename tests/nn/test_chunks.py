"""Sequences in chunks give what they give in one go, with the memory of a chunk."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spiking_lfp as lfp
from spiking_lfp.errors import UsageError

LABELS = torch.tensor([0, 1, 4])


class Twice(nn.Module):
    """Runs one layer twice, and adds what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = lfp.LIF(nn.Linear(20, 20), threshold=0.4)

    def forward(self, x: Tensor) -> Tensor:
        return lfp.add(self.layer(self.layer(x)), x)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        lfp.LIF(nn.Conv2d(2, 4, 3), threshold=0.5),
        lfp.MaxPool2d(2),
        lfp.Dropout(0.3),
        lfp.Flatten(),
        lfp.LIF(nn.Linear(36, 20), reset="zero", threshold=0.4),
        Twice(),
        lfp.LIF(nn.Linear(20, 5), threshold=0.3, reset="none"),
    ]
    return nn.Sequential(*layers).double()


def outcome(net: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Spikes, feedback on the input and updates."""
    torch.manual_seed(7)  # of the dropout
    net.zero_grad()
    x = x.clone() if x.stride(0) else x
    x.requires_grad_(x.stride(0) > 0)
    spikes = run(x)
    lfp.propagate(spikes, lfp.spike_count_reward(spikes, LABELS))
    grads = [parameter.grad for parameter in net.parameters()] + ([x.grad] if x.requires_grad else [])
    assert all(grad is not None for grad in grads)
    return [spikes.detach(), *(grad.clone() for grad in grads if grad is not None)]


def inputs(kind: str) -> Tensor:
    torch.manual_seed(1)
    if kind == "constant":
        return lfp.constant(torch.rand(3, 2, 8, 8, dtype=torch.float64), 11)
    return (torch.rand(11, 3, 2, 8, 8) < 0.3).double()


@pytest.mark.parametrize("kind", ["constant", "events"])
@pytest.mark.parametrize("chunk", [1, 3, 4, 10, 11, 50])
def test_chunks_change_nothing(kind: str, chunk: int) -> None:
    net, x = network(), inputs(kind)
    whole = outcome(net, x, net)
    assert whole[0].any()
    assert all(grad.any() for grad in whole[1:])
    for one, other in zip(outcome(net, x, lambda x: lfp.run_in_chunks(net, x, chunk)), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_chunks_leave_nothing_behind() -> None:
    net = network()
    before = {id(module): dict(vars(module)) for module in net.modules()}
    outcome(net, inputs("events"), lambda x: lfp.run_in_chunks(net, x, 4))
    with pytest.raises(UsageError):
        lfp.run_in_chunks(net, torch.zeros(9, 3, 3, 8, 8).double(), 4)
    for module in net.modules():
        after = {**vars(module), "carry": None}
        assert after.keys() - {"carry"} == before[id(module)].keys() - {"carry"}
        assert getattr(module, "carry", None) is None


def test_chunks_run_without_feedback() -> None:
    net, x = network().eval(), inputs("events")
    with torch.no_grad():
        assert torch.equal(lfp.run_in_chunks(net, x, 4), net(x))


def test_chunks_keep_less() -> None:
    net = nn.Sequential(lfp.LIF(nn.Linear(50, 200)), lfp.LIF(nn.Linear(200, 200)), lfp.LIF(nn.Linear(200, 5)))
    x = (torch.rand(60, 8, 50) < 0.5).float()

    def bytes_saved(run: Callable[[Tensor], Tensor]) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each: sizes.append(each.nbytes) or each, lambda each: each
        ):
            outputs = run(x)
        assert outputs.requires_grad
        return sum(sizes)

    assert bytes_saved(lambda x: lfp.run_in_chunks(net, x, 6)) < bytes_saved(net) / 5


@pytest.mark.parametrize(("chunk", "what"), [(0, ""), (-2, ""), (2.5, "an integer, ")])
def test_chunks_are_checked(unchecked: None, chunk: Any, what: str) -> None:
    with pytest.raises(UsageError, match=f"chunk must be {what}at least 1, found {chunk}"):
        lfp.run_in_chunks(network(), inputs("events"), chunk)


def test_what_needs_all_steps_is_refused() -> None:
    net = nn.Sequential(lfp.LIF(nn.Linear(2, 2)), lfp.NormalizeFeedback())
    with pytest.raises(UsageError, match=re.escape("NormalizeFeedback needs the feedback of all steps at once")):
        lfp.run_in_chunks(net, torch.zeros(4, 1, 2), 2)


@pytest.mark.parametrize("run", [lambda net, x: lfp.run_in_chunks(net, x, 3), lambda net, x: lfp.Stateful(net)(x[:3])])
@pytest.mark.parametrize(
    ("last", "found"),
    [
        (lambda x: x.mean(0, keepdim=True), r"\[1, 3, 5\]"),
        (lambda x: x.mean(0), r"\[3, 5\]"),  # as many samples as steps
        (lambda x: (x, None), "tuple"),
    ],
)
def test_networks_without_outputs_of_every_step_are_refused(
    run: Callable[[nn.Module, Tensor], object], last: Callable[[Tensor], object], found: str
) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = lfp.LIF(nn.Linear(4, 5))

        def forward(self, x: Tensor) -> object:
            return last(self.layer(x))

    with pytest.raises(
        UsageError, match=f"^the network returned {found} for a part of 3 steps of 3 samples, expected one"
    ):
        run(Last().eval(), torch.rand(6, 3, 4))
