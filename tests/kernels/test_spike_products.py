"""Event-driven products equal dense ones, whatever the shapes, and are taken only where they pay."""

from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import spiking_lfp as lfp
from spiking_lfp import kernels
from spiking_lfp.kernels.cpu import packing, spike_products
from spiking_lfp.kernels.cpu.threads import all_threads
from spiking_lfp.kernels.spikes import PackedSpikes, Window
from spiking_lfp.lfp.reading import read_synapse
from spiking_lfp.lfp.synapses import Convolution, Dense

dtypes = st.sampled_from([torch.float32, torch.float64])
rates = st.floats(0, 0.25)


def exactly(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}


def few_spikes(shape: tuple[int, ...], rate: float, dtype: torch.dtype) -> Tensor:
    """Spikes at `rate`, of which a quarter at most are left."""
    flat = torch.zeros(shape, dtype=dtype).flatten()
    flat[torch.randperm(len(flat))[: int(rate * len(flat))]] = 1
    return flat.view(shape)


def packed(x: Tensor) -> PackedSpikes:
    found = kernels.pack_spikes(x)
    assert found is not None
    return found


def unpacked(found: PackedSpikes) -> Tensor:
    """The bits as zeros and ones, in memory order."""
    words = found.bits.numpy().view(np.uint8)
    return torch.from_numpy(np.unpackbits(words, axis=1, bitorder="little"))


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 4), st.integers(1, 200), rates, dtypes)
def test_events_are_the_spikes(seed: int, steps: int, batch: int, features: int, rate: float, dtype: Any) -> None:
    torch.manual_seed(seed)
    x = few_spikes((steps, batch, features), rate, dtype)
    found = packed(x)
    bits = unpacked(found)
    assert torch.equal(bits[:, :features], x.flatten(0, 1).byte())
    assert not bits[:, features:].any()
    assert torch.equal(found.counts, x.flatten(0, 1).sum(1).long())
    assert found.shape == x.shape


@pytest.mark.parametrize("sides", [(7,), (5, 6), (2, 5, 6)])
def test_samples_with_several_axes_are_read_with_their_channels_last(sides: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = few_spikes((2, 3, 4, *sides), 0.2, torch.float32)
    in_memory_order = x.movedim(2, -1).reshape(6, -1)
    assert torch.equal(unpacked(packed(x))[:, : x[0, 0].numel()], in_memory_order.byte())


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), float("inf"), 1 + 2**-23])
@pytest.mark.parametrize("place", [0, 63, 64, 100])
def test_other_values_than_spikes_are_no_events(value: float, place: int) -> None:
    x = torch.zeros(3, 2, 101)
    x[1, 1, 5] = 1
    assert kernels.pack_spikes(x) is not None
    x[2, 0, place] = value
    assert kernels.pack_spikes(x) is None


def test_many_spikes_are_no_events() -> None:
    x = torch.zeros(2, 2, 100)
    x[..., :25] = 1
    assert kernels.pack_spikes(x) is not None
    x[0, 0, 25] = 1
    assert kernels.pack_spikes(x) is None


def test_the_plain_reference_sees_no_events() -> None:
    assert kernels.pack_spikes(torch.zeros(1, 1, 4, dtype=torch.bfloat16)) is None


@settings(deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4), st.integers(1, 150), st.integers(1, 150), rates,
    dtypes, st.booleans(), st.floats(0, 1),
)  # fmt: skip
def test_dense_products(
    seed: int, steps: int, batch: int, inputs: int, outputs: int, rate: float, dtype: Any, biased: bool, alive: float
) -> None:
    torch.manual_seed(seed)
    x, weight = few_spikes((steps, batch, inputs), rate, dtype), torch.randn(outputs, inputs, dtype=dtype)
    bias = torch.randn(outputs, dtype=dtype) if biased else None
    q = torch.randn(steps, batch, outputs, dtype=dtype) * (torch.rand(outputs) < alive)
    found = packed(x)
    near = exactly(dtype)
    current = spike_products.dense_current(found, weight, bias)
    torch.testing.assert_close(current, F.linear(x, weight, bias), **near)
    # each row alone has the very same sum, though few spikes are added up in another way than many
    rows = [PackedSpikes(found.bits[n : n + 1], found.counts[n : n + 1], x[:1, :1].shape) for n in range(steps * batch)]
    alone = torch.cat([spike_products.dense_current(row, weight, bias) for row in rows])
    assert torch.equal(alone.view_as(current), current)
    down, outer = spike_products.dense_adjoints(found, q, weight, True, True)
    torch.testing.assert_close(down, x * (q @ weight), **near)
    torch.testing.assert_close(outer, torch.einsum("tbo,tbi->oi", q, x), **near)


@settings(deadline=None)
@given(st.data(), st.integers(0, 2**31), rates, dtypes)
def test_convolutions(data: st.DataObject, seed: int, rate: float, dtype: Any) -> None:
    torch.manual_seed(seed)
    axes = data.draw(st.integers(1, 3))

    def sides(least: int, most: int) -> tuple[int, ...]:
        return data.draw(st.tuples(*[st.integers(least, most)] * axes))

    kernel, stride, padding = sides(1, 4), sides(1, 3), sides(0, 3)
    image = sides(4, 9 if axes < 3 else 5)
    channels, outputs = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([1, 5, 8, 16, 33, 64, 70]))
    x, weight = few_spikes((2, 3, channels, *image), rate, dtype), torch.randn(outputs, channels, *kernel, dtype=dtype)
    bias = torch.randn(outputs, dtype=dtype)
    window = Window(image, kernel, stride, padding)
    found, near = packed(x), exactly(dtype)
    merged, run = x.flatten(0, 1), [F.conv1d, F.conv2d, F.conv3d][axes - 1]
    current = spike_products.conv_current(found, weight, bias, window)
    torch.testing.assert_close(current.flatten(0, 1), run(merged, weight, bias, stride, padding), **near)
    q = torch.randn_like(current)
    down, outer = spike_products.conv_adjoints(found, q, weight, window, True, True)
    merged.requires_grad_()
    weight.requires_grad_()
    run(merged, weight, None, stride, padding).backward(q.flatten(0, 1))
    torch.testing.assert_close(down.flatten(0, 1), merged.detach() * merged.grad, **near)
    torch.testing.assert_close(outer, weight.grad, **near)


@pytest.mark.parametrize(("need_input", "need_weight"), [(True, False), (False, True), (False, False)])
def test_only_what_is_needed_is_returned(need_input: bool, need_weight: bool) -> None:
    dense, image = packed(torch.eye(8)[None]), packed(torch.eye(8)[None, None, None])
    window = Window((8, 8), (3, 3), (1, 1), (0, 0))
    for shares in (
        spike_products.dense_adjoints(dense, torch.ones(1, 8, 2), torch.ones(2, 8), need_input, need_weight),
        spike_products.conv_adjoints(
            image, torch.ones(1, 1, 2, 6, 6), torch.ones(2, 1, 3, 3), window, need_input, need_weight
        ),
    ):
        assert [share is not None for share in shares] == [need_input, need_weight]


@pytest.mark.parametrize(
    ("synapse", "shape", "taken"),
    [
        (nn.Linear(20, 3), (20,), True),
        (nn.Conv2d(4, 2, 3), (4, 5, 5), True),
        (nn.Conv2d(4, 2, 3, groups=2), (4, 5, 5), False),
        (nn.Conv2d(4, 2, 3, dilation=2), (4, 5, 5), False),
        (nn.ConvTranspose2d(4, 2, 3), (4, 5, 5), False),
        (nn.Conv1d(4, 2, 3, stride=2), (4, 5), True),
        (nn.Conv3d(4, 2, 3, padding=1), (4, 3, 4, 5), True),
    ],
)
def test_layers_take_spikes_as_events_where_they_can(synapse: nn.Module, shape: tuple[int, ...], taken: bool) -> None:
    x = torch.zeros(3, 2, *shape)
    described, _, _ = read_synapse(synapse)
    assert isinstance(described, Dense | Convolution)
    assert isinstance(described.inputs(x, None), PackedSpikes) == taken
    halves = x + 0.5
    assert described.inputs(halves, None) is halves


def test_the_number_of_threads_changes_nothing_but_the_order_of_sums() -> None:
    torch.manual_seed(3)
    x, weight = few_spikes((4, 5, 3, 9, 9), 0.2, torch.float64), torch.randn(8, 3, 3, 3, dtype=torch.float64)
    window, q = Window((9, 9), (3, 3), (1, 1), (0, 0)), torch.randn(4, 5, 8, 7, 7, dtype=torch.float64)
    before = torch.get_num_threads()
    shares = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            shares.append(spike_products.conv_adjoints(packed(x), q, weight, window, True, True))
            assert all_threads() == -min(threads, numba.config.NUMBA_NUM_THREADS)
    finally:
        torch.set_num_threads(before)
    for share, other in zip(*shares, strict=True):
        torch.testing.assert_close(share, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", [lfp.mlp(hidden=(50,)), lfp.lenet(channels=(4, 6), hidden=(30,))])
def test_a_network_does_the_same_with_and_without_events(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    network.double()
    torch.manual_seed(1)
    images, labels = torch.rand(5, 1, 28, 28, dtype=torch.float64), torch.tensor([0, 3, 1, 9, 9])
    taken, outcomes = [], []
    for most in (0.25, -1.0):
        monkeypatch.setattr(packing, "MOST_SPIKES", most)
        network.zero_grad()
        for layer in lfp.name_layers(network).values():
            layer.register_forward_pre_hook(lambda _, args: taken.append(kernels.pack_spikes(args[0]) is not None))
        spikes = network(lfp.constant(images, 12))
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels))
        outcomes.append([spikes.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert any(taken)
    assert taken[-1] is False
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    for with_events, without in zip(*outcomes, strict=True):
        torch.testing.assert_close(with_events, without, rtol=1e-9, atol=1e-12)


def test_layers_take_the_bits_that_the_layer_before_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first, second = lfp.LIF(nn.Linear(20, 70), threshold=0.5), lfp.LIF(nn.Linear(70, 5), threshold=0.1)
    spikes = first(lfp.constant(torch.rand(3, 20), 6))
    scanned: list[bool] = []
    pack = packing._pack
    monkeypatch.setattr(packing, "_pack", lambda *arrays: scanned.append(True) or pack(*arrays))
    expected = second(spikes.detach().clone())
    assert scanned.pop()
    assert torch.equal(second(spikes), expected)
    assert not scanned
    with torch.no_grad():
        spikes[:, 0] = 0
    changed = second(spikes)  # written to since: found anew
    assert scanned
    assert torch.equal(changed, second(spikes.detach().clone()))
    assert not torch.equal(changed, expected)
