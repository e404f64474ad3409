"""The pictures of runs: what they say about run, data, layers and classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from spiking_lfp import LI, LIF, DataError, Run, fit, plots
from spiking_lfp.plots import curves, drawing, stills
from spiking_lfp.plots.runs import title_of


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []

    def save(figure: Figure, path: Path | None) -> Figure:
        figures.append(figure)
        return drawing.save(figure, path)

    for module in (curves, stills):
        monkeypatch.setattr(module, "save", save)
    return figures


class Named(nn.Module):
    """A network whose layers have names, and are not made in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = LIF(nn.Linear(16, 2), threshold=0.02)
        self.body = nn.Sequential(LIF(nn.Conv1d(1, 2, 1), threshold=0.02), nn.Flatten(2))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 0, 0.2)  # so that all layers spike

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.answer(self.body(x))
        return outputs


SAMPLES = torch.rand(12, 1, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2


def run_of(network: nn.Module, tmp_path: Path, **settings: Any) -> Run:
    names = ["left", "right"]
    return fit(
        network,
        SAMPLES,
        SAMPLES,
        out=tmp_path / "sides",
        class_names=names,
        epochs=1,
        steps=5,
        progress=False,
        **settings,
    )


def test_pictures_say_which_run_layers_and_classes(tmp_path: Path, drawn: list[Figure]) -> None:
    run = run_of(Named(), tmp_path)
    assert plots.draw_run(run, SAMPLES) == [run.folder / "learning_curve.png", run.folder / "spike_raster.png"]
    curve, raster = drawn
    assert curve.axes[0].get_title() == "sides: Named, data given in Python"
    assert raster.get_suptitle() == "sides: Named, data given in Python, sample 0"
    sample, first, second = raster.axes
    assert sample.get_title().startswith("left")
    assert [first.get_title(), second.get_title()] == ["1. LIF, Conv1d", "2. LIF answer"]
    assert [label.get_text() for label in second.get_yticklabels()] == ["left", "right"]
    assert len({each.get_xlim() for each in raster.axes}) == 1
    assert all(not layer._forward_hooks for layer in run.network.modules())


def test_hidden_neurons_get_no_names_of_classes(tmp_path: Path, drawn: list[Figure]) -> None:
    network = nn.Sequential(nn.Flatten(2), LIF(nn.Linear(8, 2), threshold=0.1), LI(nn.Linear(2, 2)))
    plots.draw_run(run_of(network, tmp_path), SAMPLES)
    _, hidden, outputs = drawn[1].axes
    assert hidden.get_ylabel() == "neuron"
    assert (outputs.get_ylabel(), len(outputs.lines), outputs.lines[0].get_ydata().shape) == ("output", 2, (5,))
    assert outputs.get_title() in ("outputs, left in colour", "outputs, right in colour")


def test_padding_is_not_drawn_as_if_it_were_recorded(tmp_path: Path, drawn: list[Figure]) -> None:
    sequences = [(torch.rand(length, 8) < 0.5).float() for length in (6, 20) * 6]
    network = nn.Sequential(LIF(nn.Linear(8, 4)), LIF(nn.Linear(4, 2), threshold=0.1))
    nn.init.constant_(network[1].synapse.bias, 1.0)  # spikes in every step, also of silence
    samples = sequences, torch.arange(12) % 2
    run = fit(network, samples, samples, out=tmp_path / "run", encoding="sequence", epochs=1, lr=1e-9, progress=False)
    plots.draw_run(run, samples)
    sample, *layers = drawn[1].axes
    assert {axes.get_xlim() for axes in (sample, *layers)} == {(-1, 6)}
    assert len(layers[-1].collections[0].get_offsets()) == 2 * 6
    # bins would take the padding with the samples
    with pytest.raises(DataError, match=r"the values of train have different lengths, which steps = 5 bins would take"):
        fit(network, samples, samples, out=tmp_path / "bins", encoding="sequence", steps=5, progress=False)


def test_data_given_in_python_are_drawn_if_they_are_given_again(tmp_path: Path, drawn: list[Figure]) -> None:
    run = run_of(Named(), tmp_path)
    assert plots.draw_run(run) == [run.folder / "learning_curve.png"]
    with pytest.raises(DataError, match="samples"):
        plots.draw_run(run, 3)


def test_a_title_says_what_was_predicted() -> None:
    assert title_of("ab", 0, torch.tensor([2.0, 1.0])) == "a"
    assert title_of("ab", 0, torch.tensor([1.0, 2.0])) == "a, predicted b"
    assert title_of("ab", 1, torch.zeros(2)) == "b, no prediction"
