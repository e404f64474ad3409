"""Noise that belongs to samples: the same in every batch, chunk and process, and random."""

import pytest
import torch
from torch import Tensor, nn

import spiking_lfp as lfp
from spiking_lfp import kernels
from spiking_lfp.kernels import registry
from spiking_lfp.nn.noise import noise_of, uniform

WORD = (1 << 64) - 1


def splitmix(state: int, count: int) -> list[int]:
    """The first outputs of SplitMix64, as in the paper's Java."""
    outputs = []
    for _ in range(count):
        state = state + 0x9E3779B97F4A7C15 & WORD
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
        outputs.append(z ^ z >> 31)
    return outputs


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float64, 53)])
@pytest.mark.parametrize("compiled", [True, False])
def test_numbers_are_those_of_splitmix64(
    dtype: torch.dtype, bits: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(registry, "device_of", lambda _: None)
    keys = torch.tensor([0, -1, 1 << 62, -(1 << 63), 12345678987654321])
    out = torch.empty(3, 5, 2, 7, dtype=dtype)
    kernels.uniform_(out, keys)
    expected = [[word >> 64 - bits for word in splitmix(int(key) & WORD, 42)] for key in keys]
    found = out.transpose(0, 1).flatten(1).double() * 2.0**bits
    assert found.long().tolist() == expected


def test_the_first_outputs_of_seed_0_are_those_published() -> None:
    # of Vigna's splitmix64.c, as in the tests of several libraries
    assert splitmix(0, 2) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def draw(samples: list[int], *seed: int) -> list[Tensor]:
    shape = (4, len(samples), 3, 2)
    with noise_of(torch.tensor(samples), *seed):
        return [uniform(shape, torch.float32, torch.device("cpu")) for _ in range(2)]


def test_noise_depends_on_sample_seed_and_draw_only() -> None:
    whole, other = draw([5, 0, 17, 3], 1, 0), draw([17, 5], 1, 0)
    for a, b in zip(whole, other, strict=True):
        assert torch.equal(a[:, [2, 0]], b)
    different = [*whole, *draw([5, 0, 17, 3], 1, 1), *draw([5, 0, 17, 3], 0, 1), *draw([5, 0, 17, 3])]
    drawn = torch.stack(different).flatten().tolist()
    assert len(set(drawn)) == len(drawn)


def test_noise_is_uniform_and_independent() -> None:
    size, samples = 50, 400
    with noise_of(torch.arange(samples), 3, 1):
        x = torch.stack([uniform((size, samples, 5), torch.float64, torch.device("cpu")) for _ in range(2)])
    count = torch.histc(x, 100, 0, 1)
    expected = x.numel() / 100
    # chi-square with 99 degrees of freedom: beyond 160 once in 10 000 times
    assert float(((count - expected).square() / expected).sum()) < 160
    centred = (x - 0.5) * 12**0.5
    for axis in range(4):  # neighbours along draws, steps, samples and features: 5 standard deviations
        a, b = centred.narrow(axis, 0, x.shape[axis] - 1), centred.narrow(axis, 1, x.shape[axis] - 1)
        assert abs(float((a * b).mean())) < 5 / a.numel() ** 0.5


def test_elsewhere_noise_is_that_of_torch() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2, 3, 4)
    torch.manual_seed(1)
    assert torch.equal(uniform((2, 3, 4), torch.float16, torch.device("cpu")), expected)


@pytest.mark.parametrize("chunk", [1, 3, 9])
def test_chunks_draw_the_same_noise_again(chunk: int) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 20), nn.Linear(20, 20), nn.Linear(20, 4)]
    network = nn.Sequential(
        lfp.LIF(layers[0], threshold=0.2), lfp.Dropout(0.5), lfp.LIF(layers[1], threshold=0.2), lfp.Dropout(0.3),
        lfp.LIF(layers[2], threshold=0.1),
    ).double()  # fmt: skip
    images, labels, updates = torch.rand(5, 6).double(), torch.arange(5) % 4, []
    for size in (9, chunk):
        network.zero_grad()
        with noise_of(torch.arange(5), 7):
            x = lfp.rate(images, 9)
            spikes = lfp.run_in_chunks(network, x, size) if size != 9 else network(x)
            lfp.propagate(spikes, lfp.spike_count_reward(spikes, labels))
            after = uniform((1, 5, 2), torch.float64, torch.device("cpu"))
        updates.append([spikes.detach(), after, *(layer.weight.grad.clone() for layer in layers)])
    for a, b in zip(*updates, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert updates[0][-1].abs().sum() > 0


def test_chunks_of_nothing_are_refused() -> None:
    with pytest.raises(lfp.UsageError, match=r"expected one step or more, found x \[0, 2, 6\]"):
        lfp.run_in_chunks(lfp.LIF(nn.Linear(6, 3)), torch.zeros(0, 2, 6), 4)
