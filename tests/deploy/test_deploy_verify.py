"""Comparisons of backends, with backends made for the purpose."""

from dataclasses import dataclass
from typing import Any

import pytest

from helpers import integer_networks as make
from spiking_lfp.deploy import verify
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError, UsageError


@dataclass
class Pretender:
    """Answers what it is told to."""

    lacks: str | None = None
    refuses: str | None = None
    fails: str | None = None
    flips: int = 0

    def missing(self) -> str | None:
        return self.lacks

    def unsupported(self, network: IntegerNetwork) -> str | None:
        return self.refuses

    def run(self, network: IntegerNetwork, inputs: make.Array) -> dict[str, make.Array]:
        if self.fails:
            raise ExportError(self.fails)
        spikes = simulate(network, inputs, record=True).spikes
        spikes["1"].reshape(-1)[: self.flips] ^= 1
        return spikes


def compared(monkeypatch: pytest.MonkeyPatch, other: Pretender, rate: float = 0.3) -> list[verify.Agreement]:
    monkeypatch.setattr(verify, "backend", lambda name: other)
    net = make.mlp()
    return verify.verify(net, make.inputs_for(net, rate=rate), ["other"])


def test_equal_spikes_agree_in_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = compared(monkeypatch, Pretender())
    assert [(line.layer, line.agrees, line.different) for line in lines] == [("0", True, 0), ("1", True, 0)]
    assert lines[0].compared == 12 * 3 * 20


def test_every_different_bit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = compared(monkeypatch, Pretender(flips=3))
    assert first.agrees
    assert (second.agrees, second.different) == (False, 3)


def test_silence_is_no_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "backend", lambda name: Pretender())
    layer = make.dense("1", 5, 3, gain=50.0)
    net = make.network([layer], 4)
    (line,) = verify.verify(net, make.inputs_for(net, 2), ["other"])
    assert (line.spikes, line.different, line.agrees) == (0, 0, False)


@pytest.mark.parametrize(
    ("other", "failed"),
    [(Pretender(lacks="get it"), False), (Pretender(refuses="too wide"), False), (Pretender(fails="broken"), True)],
)
def test_what_did_not_run_says_why(monkeypatch: pytest.MonkeyPatch, other: Pretender, failed: bool) -> None:
    (line,) = compared(monkeypatch, other)
    assert line.reason == (other.lacks or other.refuses or other.fails)
    assert (line.layer, line.agrees, line.failed) == (None, False, failed)


def test_spikes_of_another_shape_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Pretender()
    run = other.run
    monkeypatch.setattr(other, "run", lambda *given: {name: value[:-1] for name, value in run(*given).items()})
    with pytest.raises(ExportError, match=r"other: layer 0 has \[11, 3, 20\] spikes, expected \[12, 3, 20\]"):
        compared(monkeypatch, other)
    nothing: Any = lambda *given: {}  # noqa: E731
    monkeypatch.setattr(other, "run", nothing)
    with pytest.raises(ExportError, match="other returned no spikes at all"):
        compared(monkeypatch, other)


def test_unknown_backends_are_named() -> None:
    with pytest.raises(UsageError, match="unknown backend 'verilater': did you mean 'verilator'"):
        backend("verilater")
