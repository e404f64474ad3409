"""Pictures: whole PNG files, also of runs in which little happens."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from spiking_lfp import plots
from spiking_lfp.errors import RunError


def pixels(path: Path) -> np.ndarray:
    assert path.read_bytes().startswith(b"\x89PNG")
    return np.round(matplotlib.image.imread(path)[..., :3] * 255)


def epoch(number: int, accuracy: float, held_out: str = "test") -> dict[str, Any]:
    line: dict[str, Any] = {"kind": "epoch", "epoch": number, "test": None, "validation": None}
    return {**line, held_out: {"accuracy": accuracy}}


def batch(number: int, done: int, images: int, accuracy: float) -> dict[str, Any]:
    return {"kind": "batch", "epoch": number, "batch": done, "batches": 8, "samples": images, "accuracy": accuracy}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_the_learning_curve_has_both_courses(held_out: str, tmp_path: Path, drawn: list[Figure]) -> None:
    # of 40 images 10 were right, of the next 40 all; then 80 new ones, half of them right
    metrics = [batch(1, 2, 40, 0.25), batch(1, 4, 80, 0.625), epoch(1, 0.5, held_out)]
    metrics += [batch(2, 4, 80, 0.5), epoch(2, 0.75, held_out)]
    plots.learning_curve(metrics, tmp_path / "curve.png")
    training, chosen = drawn[0].axes[0].lines
    assert np.allclose(training.get_xydata(), [(0.25, 25), (0.5, 100), (1.5, 50)])
    assert np.allclose(chosen.get_xydata(), [(1, 50), (2, 75)])
    assert chosen.get_label() == held_out
    assert (pixels(tmp_path / "curve.png") == (255, 127, 14)).all(-1).sum() > 100


def test_the_learning_curve_of_a_run_too_short_for_lines_of_batches(tmp_path: Path) -> None:
    plots.learning_curve([epoch(1, 1.0)], tmp_path / "curve.png")
    assert (pixels(tmp_path / "curve.png") == (255, 127, 14)).all(-1).sum() > 10


def test_the_raster_has_a_mark_for_each_spike(tmp_path: Path, drawn: list[Figure]) -> None:
    first, second = torch.zeros(5, 3), torch.zeros(5, 100)
    first[0, 2] = first[4, 1] = 1
    second[3, [7, 99]] = 1
    plots.spike_raster(torch.rand(1, 4, 4), {"1": first, "out": second}, "a digit", tmp_path / "raster.png")
    image, small, large = drawn[0].axes
    assert image.get_title() == "a digit"
    assert [small.get_title(), large.get_title()] == ["layer 1", "layer out"]
    assert small.collections[0].get_offsets().tolist() == [[0, 2], [4, 1]]
    # of many neurons only those that spike
    assert large.collections[0].get_offsets().tolist() == [[3, 0], [3, 1]]
    assert small.get_xlim()[0] < 0 <= 4 < small.get_xlim()[1]
    assert (pixels(tmp_path / "raster.png") < 50).all(-1).sum() > 50


@pytest.mark.parametrize("neurons", [1, 61])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rasters_of_silent_and_of_restless_layers(
    neurons: int, value: float, tmp_path: Path, drawn: list[Figure]
) -> None:
    layers = {"1": torch.full((4, neurons), value), "2": torch.zeros(4, 10)}
    plots.spike_raster(torch.full((1, 5, 6), value), layers, "nothing", tmp_path / "raster.png")
    assert pixels(tmp_path / "raster.png").std() > 1
    assert len(drawn[0].axes[1].collections[0].get_offsets()) == 4 * min(neurons, 60) * value


def test_a_colour_image_is_the_mean_of_its_channels(tmp_path: Path, drawn: list[Figure]) -> None:
    image = torch.rand(3, 4, 5)
    plots.spike_raster(image, {"1": torch.ones(2, 3)}, "", tmp_path / "raster.png")
    assert np.allclose(drawn[0].axes[0].images[0].get_array(), image.mean(0))


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"^cannot write {tmp_path / 'nowhere' / 'curve.png'}"):
        plots.learning_curve([epoch(1, 1.0)], tmp_path / "nowhere" / "curve.png")
