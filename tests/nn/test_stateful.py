"""Parts of a sequence, however it is cut, give the outputs of the whole."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import spiking_lfp as lfp
from spiking_lfp.errors import UsageError

STEPS = 20


def mlp() -> nn.Module:
    return lfp.mlp((2, 8, 8), 5, (40, 30), threshold=0.3)


def convolutional() -> nn.Module:
    return lfp.stack((2, 8, 8), 5, "6C3-MP2-DP0.5-20", threshold=0.2)


def recurrent() -> nn.Module:
    return lfp.stack((2, 8, 8), 5, "40R-30R", threshold=0.3)


def others() -> nn.Module:
    return nn.Sequential(
        lfp.Flatten(),
        lfp.CubaLIF(nn.Linear(128, 40), alpha=0.7, threshold=0.5),
        lfp.NormalizeFeedback(),
        lfp.AdaptiveLIF(nn.Linear(40, 30), threshold=0.3),
        lfp.LIF(nn.Linear(30, 5), reset="zero", threshold=0.3),
    )


NETWORKS = [mlp, convolutional, recurrent, others]


def inputs(batch: int = 2, density: float = 0.1) -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(STEPS, batch, 2, 8, 8) < density).double()


def made(network: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return network().double().eval()


@settings(max_examples=10)
@given(data=st.data())
@pytest.mark.parametrize("network", NETWORKS)
def test_parts_are_the_whole(network: Callable[[], nn.Module], data: st.DataObject) -> None:
    net, x = made(network), inputs(density=data.draw(st.sampled_from([0.1, 0.5])))
    cuts = data.draw(st.lists(st.integers(1, STEPS - 1), unique=True))
    part_after_part = lfp.Stateful(net)
    ends = [*sorted(cuts), STEPS]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    parts = torch.cat([part_after_part(part) for part in x.split(sizes)])
    whole = net(x)
    assert torch.equal(parts, whole)
    assert 0 < whole.mean() < 1
    # alone, the second half is something else: states are what makes them equal
    assert not torch.equal(net(x[STEPS // 2 :]), whole[STEPS // 2 :])


@pytest.mark.parametrize("network", [mlp, convolutional])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_integers_are_equal_in_any_precision(network: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    net, x = made(network).to(dtype), inputs().to(dtype)
    lfp.run_in_integers(net, 4, levels=1)
    run = lfp.Stateful(net)
    assert torch.equal(torch.cat([run(part) for part in x.split(7)]), net(x))
    assert net(x).any()


@pytest.mark.parametrize("network", NETWORKS)
def test_event_driven_products_are_equal_in_float32(network: Callable[[], nn.Module]) -> None:
    net, x = made(network).float(), inputs(density=0.03).float()
    run = lfp.Stateful(net)
    assert torch.equal(torch.cat([run(part) for part in x.split([1, 2, 3, 4, 10])]), net(x))


@pytest.mark.parametrize("density", [0.03, 0.5])
def test_membranes_of_integrators_go_on(density: float) -> None:
    torch.manual_seed(0)
    layers = [lfp.Flatten(), lfp.LIF(nn.Linear(128, 40), threshold=0.3), lfp.LI(nn.Linear(40, 10), beta=0.99)]
    net, x = nn.Sequential(*layers).double().eval(), inputs(density=density)
    run = lfp.Stateful(net)
    parts = torch.cat([run(part) for part in x.split(3)])
    torch.testing.assert_close(parts, net(x), rtol=1e-12, atol=1e-12)
    assert (parts[-1] - net(x[3 * (STEPS // 3) :])[-1]).abs().min() > 1e-3


def test_arrays_are_taken_as_they_are() -> None:
    net, x = made(mlp), inputs()
    assert torch.equal(lfp.Stateful(net)(x.numpy()), net(x))


def test_reset_begins_anew() -> None:
    net, x = made(mlp), inputs()
    run = lfp.Stateful(net)
    first = run(x)
    assert not torch.equal(run(x), first)
    run.reset()
    assert torch.equal(run(x), first)
    # another batch, too
    run.reset()
    assert torch.equal(run(x[:, :1]), first[:, :1])


def test_nothing_is_recorded_for_autograd() -> None:
    outputs = lfp.Stateful(made(mlp))(inputs().requires_grad_())
    assert not outputs.requires_grad
    with pytest.raises(UsageError):
        lfp.propagate(outputs, torch.zeros_like(outputs))


def test_an_error_leaves_the_states_as_they_are() -> None:
    net, x = made(mlp), inputs()
    run = lfp.Stateful(net)
    run(x[:10])
    bad = x[10:].clone()
    bad[0] = float("nan")
    with pytest.raises(lfp.NonFiniteError):
        run(bad)
    assert torch.equal(run(x[10:]), net(x)[10:])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: x[:, :1], r"expected steps \[2, 2, 8, 8\] of torch.float64 on cpu as before, found \[1, 2, 8, 8\]"),
        (lambda x: x.float(), r"found \[2, 2, 8, 8\] of torch.float32 on cpu: call reset\(\) where another sequence"),
        (lambda x: x[:0], r"expected one step or more, found x \[0, 2, 2, 8, 8\]"),
    ],
)
def test_steps_that_do_not_follow_are_refused(other: Callable[[Tensor], Tensor], message: str) -> None:
    run = lfp.Stateful(made(mlp))
    run(inputs())
    with pytest.raises(UsageError, match=message):
        run(other(inputs()))


class Changing(nn.Module):
    """Runs its second layer every now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = lfp.LIF(nn.Linear(4, 4)), lfp.LIF(nn.Linear(4, 4))
        self.often = True

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) if self.often else self.first(x)


def test_a_network_that_runs_other_layers_is_refused() -> None:
    net, x = Changing().eval(), torch.ones(3, 1, 4)
    run = lfp.Stateful(net)
    run(x)
    net.often = False
    with pytest.raises(UsageError, match="the network runs fewer layers with states than in the chunk before"):
        run(x)
    run.reset()
    run(x)
    net.often = True
    with pytest.raises(UsageError, match="the network runs more layers with states than in the chunk before"):
        run(x)


@pytest.mark.parametrize(
    ("module", "name"),
    [(lfp.MonoReadout(8, 2, (4,)), "MonoReadout"), (nn.LSTM(8, 3), "LSTM"), (nn.MultiheadAttention(8, 2), "Multihead")],
)
def test_what_needs_the_whole_sequence_is_refused_by_name(module: nn.Module, name: str) -> None:
    net = nn.Sequential(lfp.LIF(nn.Linear(4, 8)), module)
    message = rf"{name}\w* \(1\) needs all steps at once: remove it, or do not run in chunks"
    with pytest.raises(UsageError, match=message):
        lfp.Stateful(net)
    with pytest.raises(UsageError, match=message):
        lfp.run_in_chunks(net, torch.zeros(4, 1, 4), 2)


def test_training_and_recordings_are_refused() -> None:
    net, x = made(convolutional), inputs()
    run = lfp.Stateful(net)
    net[2].train()  # type: ignore[index]
    with pytest.raises(UsageError, match=r"2 is in training mode: call network.eval\(\), or train by run_in_chunks"):
        run(x)
    net.train()
    with pytest.raises(UsageError, match="the network is in training mode"):
        run(x)
    net.eval()
    membrane: dict[str, Any] = {"5": torch.zeros(STEPS, 2, 5).double()}
    with lfp.recorded(net, membrane), pytest.raises(UsageError, match="layer 5 returns a recording, which has an end"):
        run(x)
