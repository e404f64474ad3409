"""Figures: whole PNG and GIF files of every kind of sample, also where little happens."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from spiking_lfp import constant, plots
from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.plots import curves, drawing, moving, stills

ON, OFF = (0, 114, 178), (213, 94, 0)
NAMES = list("abcdefghij")


def spikes(*shape: int, rate: float = 0.1) -> Tensor:
    return (torch.rand(shape) < rate).float()


def shown(*shape: int) -> Tensor:
    """An image in each of 5 steps."""
    return constant(torch.rand(1, *shape), 5)[:, 0]


SAMPLES = {
    "digit": lambda: shown(1, 28, 28),
    "photograph": lambda: shown(3, 32, 32),
    "camera": lambda: spikes(5, 2, 34, 34),
    "counts": lambda: torch.randint(0, 4, (5, 2, 16, 24)).float(),
    "one polarity": lambda: spikes(5, 1, 12, 12),
    "ear": lambda: spikes(5, 1, 1, 700),
    "ear on its side": lambda: spikes(5, 1, 70, 1),
    "skin": lambda: spikes(5, 2, 128, 4),
    "one step": lambda: spikes(1, 2, 8, 8, rate=0.3),
    "nothing": lambda: torch.zeros(5, 2, 8, 8),
    "no sound": lambda: torch.zeros(5, 1, 1, 40),
}
every_kind = pytest.mark.parametrize("kind", SAMPLES)


def pixels(path: Path) -> np.ndarray:
    assert path.read_bytes().startswith(b"\x89PNG")
    return np.round(matplotlib.image.imread(path)[..., :3] * 255)


def count(path: Path, colour: tuple[int, int, int]) -> int:
    return int((pixels(path) == colour).all(-1).sum())


def epoch(
    number: int, accuracy: float, held_out: str = "test", trained: tuple[int, float] = (80, 0.625)
) -> dict[str, Any]:
    line: dict[str, Any] = {"kind": "epoch", "epoch": number, "test": None, "validation": None}
    return {**line, "train": dict(zip(("samples", "accuracy"), trained, strict=True)), held_out: {"accuracy": accuracy}}


def batch(number: int, done: int, images: int, accuracy: float) -> dict[str, Any]:
    return {"kind": "batch", "epoch": number, "batch": done, "batches": 8, "samples": images, "accuracy": accuracy}


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


@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_the_learning_curve_has_both_courses(held_out: str, tmp_path: Path, drawn: list[Figure]) -> None:
    # of 40 images 10 were right, of the next 40 all; then 80 new ones, half of them right, and another 80, all right
    metrics = [batch(1, 2, 40, 0.25), batch(1, 4, 80, 0.625), epoch(1, 0.5, held_out)]
    metrics += [batch(2, 4, 80, 0.5), epoch(2, 0.75, held_out, (160, 0.75))]
    plots.learning_curve(metrics, tmp_path / "curve.png", "a run on data")
    axes = drawn[0].axes[0]
    training, chosen = axes.lines
    assert np.allclose(training.get_xydata(), [(0.25, 25), (0.5, 100), (1.5, 50), (2, 100)])
    assert np.allclose(chosen.get_xydata(), [(1, 50), (2, 75)])
    assert chosen.get_label() == f"{held_out}, 75.00 % after epoch 2"
    assert axes.get_title() == "a run on data"
    assert [tick for tick in axes.get_xticks() if 0 <= tick <= 2] == [0, 1, 2]
    assert (pixels(tmp_path / "curve.png") == drawing.OFF).all(-1).sum() > 100


def test_the_learning_curve_of_a_run_too_short_for_lines_of_batches(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.learning_curve([epoch(1, 1.0)], tmp_path / "curve.png")
    training, test = drawn[0].axes[0].lines
    assert (training.get_xydata().tolist(), training.get_marker()) == ([[1, 62.5]], ".")
    colour = [round(255 * part) for part in to_rgb(test.get_color())]
    assert (pixels(tmp_path / "curve.png") == colour).all(-1).sum() > 10


def test_the_legend_of_a_learning_curve_covers_nothing(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.learning_curve([epoch(number, 0.1 * number) for number in range(1, 10)], tmp_path / "curve.png")
    legend, axes = drawn[0].legends[0], drawn[0].axes[0]
    assert axes.get_legend() is None
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_the_raster_has_a_mark_for_each_spike(tmp_path: Path, drawn: list[Figure]) -> None:
    first, second = torch.zeros(5, 3), torch.zeros(5, 100)
    first[0, 2] = first[4, 1] = 1
    second[3, [7, 99]] = 1
    layers = {"1. LIF": first, "2. LIF out": second}
    plots.spike_raster(shown(1, 4, 4), layers, "a digit", tmp_path / "raster.png", title="a run on data")
    image, small, large = drawn[0].axes
    assert image.get_title() == "a digit"
    assert [small.get_title(), large.get_title()] == list(layers)
    assert drawn[0].get_suptitle() == "a run on data"
    assert small.get_xlim() == large.get_xlim()
    assert small.collections[0].get_offsets().tolist() == [[0, 2], [4, 1]]
    # of many neurons only those that spike
    assert large.collections[0].get_offsets().tolist() == [[3, 0], [3, 1]]
    assert small.get_xlim()[0] < 0 <= 4 < small.get_xlim()[1]
    assert (pixels(tmp_path / "raster.png") < 50).all(-1).sum() > 50


def test_outputs_that_do_not_fire_are_lines_and_the_prediction_stands_out(tmp_path: Path, drawn: list[Figure]) -> None:
    membranes = torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, -1.0], [2.0, 1.0, -5.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    layers = {"1. LIF": spikes(5, 12)}
    plots.spike_raster(shown(1, 4, 4), layers, "it", tmp_path / "raster.png", ["a", "b", "c"], outputs=membranes)
    _, hidden, outputs = drawn[0].axes
    assert hidden.get_ylabel() == "12 neurons"
    assert [line.get_ydata().tolist() for line in outputs.lines] == membranes.T.tolist()
    assert outputs.get_title() == "outputs, b in colour"
    first, second, third = (line.get_color() for line in outputs.lines)
    assert first == third != second
    for names in ((), ("a",)):  # names of something else are not those of outputs
        plots.spike_raster(shown(1, 4, 4), layers, "it", class_names=names, outputs=membranes)
        assert drawn[-1].axes[2].get_title() == "outputs, 1 in colour"


@pytest.mark.parametrize("shape", [(5,), (4, 3), (5, 3, 1)])
def test_outputs_without_a_row_for_each_step_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"outputs have shape .*, expected \[5, classes\]"):
        plots.spike_raster(torch.zeros(5, 1, 4, 4), {"1. LIF": spikes(5, 3)}, "it", outputs=torch.zeros(shape))


@pytest.mark.parametrize("classes", [2, 12])
def test_output_neurons_have_the_names_of_their_classes(classes: int, tmp_path: Path, drawn: list[Figure]) -> None:
    names = [f"class {index}" for index in range(classes)]
    layers = {"1. LIF": spikes(5, classes), "2. LIF": spikes(5, classes)}
    plots.spike_raster(shown(1, 4, 4), layers, "it", tmp_path / "raster.png", names)
    _, hidden, outputs = drawn[0].axes
    assert [label.get_text() for label in outputs.get_yticklabels()] == names
    assert outputs.get_yticks().tolist() == list(range(classes))
    assert outputs.get_ylabel() == "class"
    assert len({each.get_ylim() for each in (hidden, outputs)}) == 1
    assert outputs.yaxis_inverted()  # the first class on top, as in a confusion matrix
    assert "class" not in hidden.get_ylabel()


@pytest.mark.parametrize("shape", [(8,), (2, 30), (1, 4, 5, 6)])
def test_samples_without_height_and_width_are_drawn(shape: tuple[int, ...], tmp_path: Path) -> None:
    sample = spikes(5, *shape)
    plots.spike_raster(sample, {"1. LIF": spikes(5, 3)}, "it", tmp_path / "raster.png")
    plots.frame_strip(sample, "it", tmp_path / "strip.png", 2)
    plots.explanation(sample[:, None], sample[:, None] / 2, ["it"], tmp_path / "explain.png")
    assert all(pixels(tmp_path / f"{name}.png").std() > 1 for name in ("raster", "strip", "explain"))
    plots.animation(sample, spikes(5, 3), NAMES, 0, tmp_path / "sample.gif")


@pytest.mark.parametrize("neurons", [1, 61])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rasters_of_silent_and_of_restless_layers(
    neurons: int, value: float, tmp_path: Path, drawn: list[Figure]
) -> None:
    layers = {"1": torch.full((4, neurons), value), "2": torch.zeros(4, 10)}
    plots.spike_raster(torch.full((4, 1, 5, 6), value), layers, "nothing", tmp_path / "raster.png")
    assert pixels(tmp_path / "raster.png").std() > 1
    assert len(drawn[0].axes[1].collections[0].get_offsets()) == 4 * min(neurons, 60) * value


def test_colours_of_events_on_white() -> None:
    off, on = torch.tensor([[0.0, 2, 0, 2, 0.5]]), torch.tensor([[0.0, 0, 2, 2, 1]])
    colours = drawing.rgb_image(torch.stack([off, on]), 2.0)[0]
    mean = [round((a + b) / 2) for a, b in zip(ON, OFF, strict=True)]
    assert colours[:4].tolist() == [[255] * 3, [*OFF], [*ON], mean]
    # a quarter and a half: three quarters as strong, four parts of on to one of off
    mixed = [255 - 0.75 * (255 - (4 * a + b) / 5) for a, b in zip(ON, OFF, strict=True)]
    assert np.abs(colours[4] - mixed).max() <= 0.5
    assert drawing.rgb_image(torch.tensor([[[0.0, 1, 0.5]]]), 1.0)[0].tolist() == [[255] * 3, [0] * 3, [128] * 3]


def test_photographs_keep_their_colours() -> None:
    image = torch.rand(3, 4, 5)
    colours = drawing.rgb_image(image, 1.0)
    assert np.abs(colours / 255 - image.permute(1, 2, 0).numpy()).max() < 0.002


def test_an_image_is_shown_as_it_is_and_frames_are_added_up() -> None:
    image = shown(1, 3, 3) / 2
    frame, largest = drawing.single_frame(image)
    assert torch.equal(frame, image[0])
    assert largest == 1
    frames = torch.zeros(4, 2, 5, 5)
    frames[:, 0] = 1
    frames[2, 1, 3, 3] = 1
    frames[0, 0, 0, 0] = 500  # a pixel that is always active
    frame, largest = drawing.single_frame(frames)
    assert torch.equal(frame, frames.sum(0))
    assert largest == 4


@pytest.mark.parametrize(
    ("shape", "flat"), [((1, 1), True), ((1, 4), True), ((700, 1), True), ((128, 4), True), ((34, 34), False),
                        ((10, 80), False), ((180, 240), False)]
)  # fmt: skip
def test_which_frames_are_not_those_of_a_camera(shape: tuple[int, int], flat: bool) -> None:
    assert drawing.is_flat(torch.zeros(2, 1, *shape)) is flat


@every_kind
def test_the_raster_shows_every_kind_of_sample(kind: str, tmp_path: Path, drawn: list[Figure]) -> None:
    sequence = SAMPLES[kind]()
    plots.spike_raster(sequence, {"1": spikes(len(sequence), 12)}, "it", tmp_path / "raster.png")
    first = drawn[0].axes[0]
    assert first.get_title() == "it"
    if kind in ("ear", "ear on its side", "skin", "no sound"):
        marks = [len(each.get_offsets()) for each in first.collections]
        assert marks == [int(channel.sum()) for channel in sequence.unbind(1)]
    else:
        assert first.images[0].get_array().shape == (*sequence.shape[2:], 3)
    assert len(drawn[0].legends) == (sequence.shape[1] == 2)
    if kind == "camera":  # more than the legend's patches
        assert min(count(tmp_path / "raster.png", ON), count(tmp_path / "raster.png", OFF)) > 150


def test_taxels_keep_their_levels_together(tmp_path: Path, drawn: list[Figure]) -> None:
    sequence = torch.zeros(6, 2, 128, 4)
    sequence[2, 0, 5, 3] = sequence[4, 1, 100, 1] = 1
    plots.spike_raster(sequence, {"1": spikes(6, 3)}, "", tmp_path / "raster.png")
    off, on = drawn[0].axes[0].collections
    assert off.get_offsets().tolist() == [[2, 3 * 128 + 5]]
    assert on.get_offsets().tolist() == [[4, 1 * 128 + 100]]
    assert np.allclose([off.get_facecolor()[0, :3] * 255, on.get_facecolor()[0, :3] * 255], [OFF, ON])


@every_kind
@pytest.mark.parametrize(("frames", "titles"), [(2, ["0 to 2", "3 to 4"]), (9, [f"step {t}" for t in range(5)])])
def test_a_strip_shows_every_event_once(
    kind: str, frames: int, titles: list[str], tmp_path: Path, drawn: list[Figure]
) -> None:
    sequence = SAMPLES[kind]()
    plots.frame_strip(sequence, "it", tmp_path / "strip.png", frames)
    places = drawn[0].axes
    assert [each.get_title() for each in places] == (titles if len(sequence) == 5 else ["step 0"])
    assert pixels(tmp_path / "strip.png").std() > 1
    if kind == "ear":
        assert sum(len(each.collections[0].get_offsets()) for each in places) == sequence.sum()
    if kind == "camera":
        drawn_frames = [each.images[0].get_array() for each in places]
        inked = [int((each != 255).any(-1).sum()) for each in drawn_frames]
        pieces = [sequence[:3], sequence[3:]] if frames == 2 else list(sequence.split(1))
        assert inked == [int(piece.any(0).any(0).sum()) for piece in pieces]


def gif(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        pages = []
        for page in range(image.n_frames):
            image.seek(page)
            pages.append(np.asarray(image.convert("RGB")).astype(int))
    return pages


@every_kind
def test_an_animation_has_a_picture_for_each_step(kind: str, tmp_path: Path) -> None:
    sequence = SAMPLES[kind]()
    plots.animation(sequence, spikes(len(sequence), 10, rate=0.5), NAMES, 3, tmp_path / "a.gif", fps=4.0)
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")
    pages = gif(tmp_path / "a.gif")
    assert len(pages) == len(sequence)
    assert all((before != after).any() for before, after in pairwise(pages))
    assert all(page.std() > 10 for page in pages)


def test_an_animation_of_a_silent_network_goes_on(tmp_path: Path) -> None:
    plots.animation(shown(1, 8, 8), torch.zeros(5, 10), NAMES, 3, tmp_path / "a.gif")
    assert len(gif(tmp_path / "a.gif")) == 5


def test_an_animation_keeps_its_pace_and_ends_with_the_answer(tmp_path: Path) -> None:
    plots.animation(spikes(4, 2, 8, 8), spikes(4, 10), NAMES, 3, tmp_path / "a.gif", fps=20.0)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0
        lasts = []
        for page in range(4):
            image.seek(page)
            lasts.append(image.info["duration"])
    assert lasts == [50, 50, 50, 1500]


def test_spikes_and_counts_grow_with_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = torch.zeros(4, 3)
    outputs[[0, 1, 3], 2] = 1
    outputs[2, 0] = 1
    states: list[Any] = []
    render = moving._render

    def look(figure: Figure) -> np.ndarray:
        top, raster, bars = figure.axes
        widths = [bar.get_width() for bar in bars.patches[:3]]
        greens = [bar.get_facecolor()[:3] == matplotlib.colors.to_rgb(moving.WINNER) for bar in bars.patches[:3]]
        states.append((top.get_title(), len(raster.collections[0].get_offsets()), widths, greens))
        bold = [each.get_text() for each in raster.get_yticklabels() if each.get_fontweight() == "bold"]
        assert bold == ["owl"]
        now = sequence[len(states) - 1].any(0).numpy()
        assert np.array_equal((top.images[0].get_array() != 255).any(-1), now)
        return render(figure)

    monkeypatch.setattr(moving, "_render", look)
    sequence = spikes(4, 2, 6, 6)
    plots.animation(sequence, outputs, ["cat", "owl", "dog"], 1, tmp_path / "a.gif")
    assert states == [
        ("owl, step 0", 1, [0, 0, 1], [False, False, True]),
        ("owl, step 1", 2, [0, 0, 2], [False, False, True]),
        ("owl, step 2", 3, [1, 0, 2], [False, False, True]),
        ("owl, step 3", 4, [1, 0, 3], [False, False, True]),
    ]


def test_of_many_classes_the_true_one_and_those_that_spike_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = torch.zeros(3, 100)
    outputs[0, 30:50] = 1
    outputs[:, 45] = 1
    figures: list[Figure] = []
    render = moving._render
    monkeypatch.setattr(moving, "_render", lambda figure: (figures.append(figure), render(figure))[1])
    plots.animation(spikes(3, 1, 6, 6), outputs, [f"c{index}" for index in range(100)], 7, tmp_path / "a.gif")
    raster = figures[0].axes[1]
    names = [each.get_text() for each in raster.get_yticklabels()]
    assert names == ["c7", *(f"c{index}" for index in range(30, 40)), "c45"]
    assert raster.get_ylabel() == "12 of 100 classes"


def test_animations_are_small(tmp_path: Path) -> None:
    plots.animation(spikes(25, 2, 34, 34, rate=0.5), spikes(25, 10, rate=0.5), NAMES, 3, tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 1_000_000


@every_kind
@pytest.mark.parametrize(("samples", "grid"), [(1, (1, 2)), (3, (2, 3)), (7, (4, 4)), (9, (4, 5))])
def test_an_explanation_of_every_kind_of_sample(
    kind: str, samples: int, grid: tuple[int, int], tmp_path: Path, drawn: list[Figure]
) -> None:
    sequences = torch.stack([SAMPLES[kind]() for _ in range(samples)], 1)
    feedback = sequences * torch.randn(sequences.shape)
    plots.explanation(sequences, feedback, NAMES[:samples], tmp_path / "explain.png", "a cat")
    *places, bar = drawn[0].axes
    assert len(places) == 2 * samples
    assert places[0].get_gridspec().get_geometry() == grid
    assert drawn[0].get_figwidth() <= drawing.PAGE_WIDTH
    assert [each.get_title() for each in places if each.get_title()] == NAMES[:samples]
    assert [each.get_text() for each in bar.get_xticklabels()] == ["against a cat", "for a cat"]
    assert pixels(tmp_path / "explain.png").std() > 1


def test_an_explanation_leaves_padding_out(tmp_path: Path, drawn: list[Figure]) -> None:
    sequences = torch.ones(7, 2, 5)
    plots.explanation(sequences, sequences, ["short", "long"], tmp_path / "explain.png", lengths=[3, 7])
    short, _, beneath, _ = (axes.collections[0].get_offsets()[:, 0] for axes in drawn[0].axes[:4])
    assert short.max() == beneath.max() == 2
    for wrong in ([3], [0, 7], [3, 8], [3.0, 7.0]):
        with pytest.raises(UsageError, match=r"^expected a length in 1\.\.7 for each of 2 samples, found \[\d"):
            plots.explanation(sequences, sequences, ["short", "long"], lengths=wrong)


def test_red_speaks_for_and_blue_against(tmp_path: Path, drawn: list[Figure]) -> None:
    sequence, feedback = torch.ones(2, 1, 2, 4, 4), torch.zeros(2, 1, 2, 4, 4)
    sequence[1] = 0
    feedback[0, 0, 1, 1, 2], feedback[1, 0, 0, 1, 2] = 0.3, 0.2
    feedback[0, 0, 1, 3, 0] = -0.5
    feedback[0, 0, 0, 0, 0] = 0.001
    plots.explanation(sequence, feedback, ["it"], tmp_path / "explain.png")
    beneath = drawn[0].axes[1]
    image, over = beneath.images
    assert np.allclose(image.get_array(), 0.8)
    assert np.allclose(over.get_array(), feedback[:, 0].sum((0, 1)))
    assert over.get_clim()[0] == -over.get_clim()[1]
    opacity = over.get_alpha()
    assert opacity[1, 2] == opacity[3, 0] == 1
    assert 0 < opacity[0, 0] < 0.01
    assert opacity[2, 2] == 0
    red, _, blue, _ = over.cmap(over.norm(0.5))
    assert red > 0.3 > 0.2 > blue
    assert count(tmp_path / "explain.png", (103, 0, 31)) > 100
    assert count(tmp_path / "explain.png", (5, 48, 97)) > 100


def test_feedback_of_flat_sensors_is_drawn_over_time(tmp_path: Path, drawn: list[Figure]) -> None:
    sequence, feedback = torch.zeros(5, 1, 1, 1, 9), torch.zeros(5, 1, 1, 1, 9)
    sequence[1, 0, 0, 0, [2, 3]] = sequence[4, 0, 0, 0, 8] = 1
    feedback[1, 0, 0, 0, 2], feedback[4, 0, 0, 0, 8] = 0.5, -0.5
    plots.explanation(sequence, feedback, ["it"], tmp_path / "explain.png")
    faint, strong = drawn[0].axes[1].collections
    assert faint.get_offsets().tolist() == [[1, 2], [1, 3], [4, 8]]
    assert strong.get_offsets().tolist() == [[1, 2], [4, 8]]
    assert strong.get_array().tolist() == [0.5, -0.5]
    assert strong.get_clim() == (-0.5, 0.5)


def test_a_figure_without_a_path_is_returned_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raster = plots.spike_raster(shown(1, 28, 28), {"out": spikes(5, 10)}, "a digit")
    table = plots.confusion(torch.eye(3), NAMES[:3], "a run")
    assert [axes.get_title() for axes in raster.axes] == ["a digit", "out"]
    assert table.axes[0].get_xlabel() == "predicted class"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a", b"\x89PNG"),
        ("a.png", b"\x89PNG"),
        ("a.PNG", b"\x89PNG"),
        ("a.pdf", b"%PDF-"),
        ("a.svg", b"<?xml"),
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.webp", b"RIFF"),
        ("a.tif", b"II*\0"),
    ],
)
def test_a_picture_is_what_its_suffix_says(name: str, begins: bytes, tmp_path: Path) -> None:
    plots.confusion(torch.eye(3), NAMES[:3], "a run", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_suffixes_of_no_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.xyz: its name must end in \.png, \.pdf, .* or \.tiff$"):
        plots.confusion(torch.eye(3), NAMES[:3], "a run", tmp_path / "a.xyz")
    with pytest.raises(UsageError, match=r"a\.png: its name must end in \.gif$"):
        plots.animation(spikes(2, 1, 6, 6), spikes(2, 10), NAMES, 3, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"^cannot write {tmp_path / 'nowhere' / 'curve.png'}"):
        plots.learning_curve([epoch(1, 1.0)], tmp_path / "nowhere" / "curve.png")


def test_an_animation_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spiking_lfp.files.os.fsync", full)
    with pytest.raises(RunError, match=f"^cannot write {path}: No space left"):
        plots.animation(spikes(2, 1, 6, 6), spikes(2, 10), NAMES, 3, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["$^$", "from $5 to $10"])
def test_names_with_dollars_are_no_formulas(name: str, tmp_path: Path) -> None:
    plots.animation(spikes(3, 2, 8, 8), spikes(3, 2), [name, "b"], 0, tmp_path / "a.gif")
    figures = [
        plots.confusion([[3, 1], [0, 4]], [name, "b"], name, tmp_path / "a.png"),
        plots.spike_raster(spikes(3, 2, 8, 8), {name: spikes(3, 2)}, name, tmp_path / "a.png", [name, "b"], name),
        plots.frame_strip(spikes(3, 2, 8, 8), name, tmp_path / "a.png"),
        plots.explanation(spikes(3, 1, 2, 8, 8), spikes(3, 1, 2, 8, 8), [name], tmp_path / "a.png", name),
    ]
    for figure in figures:
        texts = [text for text in figure.findobj(Text) if name in text.get_text()]
        assert texts
        assert not any(text.get_parse_math() for text in texts)
