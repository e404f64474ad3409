"""The report page: complete, escaped, self-contained, with the simulator's numbers, and usable in a browser."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import integer_networks as make
from helpers.browser import chromium, frames, needs_chromium
from spiking_lfp.deploy.costs import ENERGIES, costs, footprint
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.report import _depth, _si, write_report
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.deploy.verify import Agreement
from spiking_lfp.errors import ExportError

HOSTILE = "<script>document.documentElement.dataset.stolen = 1</script>"
BREAKOUT = '</script><img src=x onerror="document.documentElement.dataset.stolen = 1">\u2028\''
SECTIONS = ["layers", "spikes", "confusion", "costs", "quantisation", "agreement"]


class Page(HTMLParser):
    """What a page holds: elements with their attributes, and the texts of table cells by section and table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.scripts: list[str] = []
        self.section, self.cell, self.inside = "", False, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        self.inside = tag
        if tag == "section":
            self.section = found["id"]
            self.tables[self.section] = []
        elif tag == "table":
            self.tables[self.section].append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("th", "td"):
            self.tables[self.section][-1][-1].append("")
            self.cell = True
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
        if tag in ("th", "td"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        if self.cell:
            row = self.tables[self.section][-1][-1]
            row[-1] = " ".join(f"{row[-1]} {data}".split())

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def column(self, section: str, head: str, table: int = 0) -> dict[str, str]:
        """The cells below `head` by the first cell of their rows."""
        first, *rows = self.tables[section][table]
        place = next(k for k, text in enumerate(first) if text.startswith(head))
        return {row[0]: row[place] for row in rows}


def quantisation(net: IntegerNetwork) -> str:
    layers = [
        {
            "name": layer.name, "bits": 8, "scale_min": 0.01, "scale_max": 0.02, "weight_error": 0.0123,
            "clipped": 0.001, "rate_float": 0.2, "rate_integer": 0.1, "disagreement": 0.04, "saturated": 3,
        }
        for layer in net.spiking
    ]  # fmt: skip
    steps = [{"step": "float", "accuracy": 0.98}, {"step": "weights", "accuracy": 0.975}]
    return json.dumps({"layers": layers, "accuracy": steps, "samples": 1000})


def full(net: IntegerNetwork, samples: int = 12) -> dict[str, Any]:
    """The arguments of a report with all its sections."""
    notes = {"name": "tiny", "accuracy_float": "0.98", "seed": "7", "quantisation": quantisation(net)}
    agreements = [
        Agreement("c", net.spiking[0].name, 40, 0, 400, 0.25),
        Agreement("icarus", net.spiking[-1].name, 40, 2, 400, 1.5),
        Agreement("lava", net.spiking[-1].name, 0, 0, 400, 1.5),
        Agreement("sanafe", None, reason="SANA-FE is not installed"),
    ]
    labels = np.random.default_rng(1).integers(0, len(net.class_names), samples)
    return {
        "network": replace(net, notes=notes), "inputs": make.inputs_for(net, samples), "labels": labels,
        "agreements": agreements,
    }  # fmt: skip


def page_of(folder: Path, **arguments: Any) -> Page:
    path = folder / "report.html"
    write_report(path, **arguments)
    return Page(path.read_text("utf-8"))


NETWORKS: dict[str, Callable[[], IntegerNetwork]] = {
    "lenet": make.lenet,
    "spikes": make.mlp,
    "one layer": lambda: make.mlp((9, 3)),
    "vectors": lambda: make.mlp((30, 20, 5), levels=255),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_loaded_and_every_section_is_there(name: str, tmp_path: Path) -> None:
    page = page_of(tmp_path, **full(NETWORKS[name]()))
    assert list(page.tables) == SECTIONS
    assert not re.search(r"https?:|//www|@import|url\(", page.text)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "xlink:href", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert not page.of("link")
    assert not page.of("iframe")
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert len(targets) == sum("id" in attributes for _, attributes in page.elements)
    references = [link["href"][1:] for link in page.of("a")]
    for name in ("aria-controls", "aria-labelledby", "for"):
        references += [attributes[name] for _, attributes in page.elements if name in attributes]
    assert set(SECTIONS) < set(references) <= targets


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    net = make.mlp()
    page = page_of(
        tmp_path, network=net, inputs=make.inputs_for(net), labels=np.zeros(3, np.int64), samples=(7,), agreements=()
    )
    assert list(page.tables) == ["layers", "confusion", "costs"]
    assert {link["href"] for link in page.of("a")} == {"#main", "#layers", "#confusion", "#costs"}
    assert page_of(tmp_path, network=replace(net, notes={"quantisation": '{"accuracy": []}'}),
                   inputs=make.inputs_for(net), labels=np.zeros(3, np.int64)).tables.keys() == {
        "layers", "spikes", "confusion", "costs"}  # fmt: skip


def test_the_numbers_are_those_of_the_simulator(tmp_path: Path) -> None:
    arguments = full(make.lenet(), 40)
    net, labels = arguments["network"], arguments["labels"]
    page = page_of(tmp_path, **arguments)
    outcome = simulate(net, arguments["inputs"])
    right = int((outcome.predictions == labels).sum())
    assert f"{right} of 40 samples" in page.text
    assert f"<dd>{100 * right / 40:.2f} %</dd>" in page.text
    assert "<dd>98.00 %</dd>" in page.text
    head, *rows = page.tables["confusion"][0]
    assert head[1:-1] == list(net.class_names)
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, outcome.predictions), 1)
    np.testing.assert_array_equal([[int(cell) for cell in row[1:-1]] for row in rows], expected)
    for layer in net.spiking:
        counters = outcome.counters[layer.name]
        row = {head: page.column("layers", head)[layer.name] for head in page.tables["layers"][0][0]}
        assert row["Neurons"] == f"{layer.neurons:,}"
        assert row["Synapses"] == f"{int(layer.fan_out().sum()):,}"
        assert row["Threshold"] == f"{layer.neuron.theta[0]:,}"
        assert row["Decay"] == "410"
        assert row["Spike rate"] == f"{100 * counters.spikes / counters.updates:.2f} %"
        assert row["Memory, bytes"] == f"{footprint(layer).total:,}"
        assert row["Saturated"] == str(counters.saturated)
    assert page.column("layers", "Kind")["1"] == "max pool"


def test_the_costs_are_those_counted(tmp_path: Path) -> None:
    arguments = full(make.lenet(), 40)
    page = page_of(tmp_path, **arguments)
    expected = costs(arguments["network"], simulate(arguments["network"], arguments["inputs"]))
    for cost in (*expected.layers, expected.total):
        events = {head.strip(): page.column("costs", head)[cost.name] for head in page.tables["costs"][0][0]}
        for head, value in {"Spikes": cost.spikes, "Neuron updates": cost.updates, "SynOps": cost.synops}.items():
            assert float(events[head].replace(",", "")) == pytest.approx(value, rel=0.005)
        assert float(events["MACs"].replace(",", "")) == pytest.approx(cost.macs, rel=0.005)
        assert events["Sparsity"] == f"{100 * cost.sparsity:.2f} %"
        for head, energy in {"45 nm core": cost.energy_45nm, "Loihi": cost.energy_loihi}.items():
            text = page.column("costs", head, table=1)[cost.name]
            if energy is None:
                assert text == "\N{EN DASH}"
            else:
                number, unit = text.split()
                assert float(number) * {"pJ": 1, "nJ": 1e3, "µJ": 1e6}[unit] == pytest.approx(energy, rel=0.005)
    assert "These energies are estimates" in page.text
    named, source = set(), ""
    for row in page.tables["costs"][2][1:]:
        if len(row) == 1:
            source = row[0]
        else:
            named.add((row[0], row[1], source))
    assert named == {(figure.name, f"{figure.picojoules} pJ", figure.source) for figure in ENERGIES}
    shares = [
        attributes["style"] for tag, attributes in page.elements if tag == "i" and "--share" in attributes["style"]
    ]
    operations = [cost.synops + cost.macs for cost in expected.layers]
    energies = [
        energy for cost in expected.layers for energy in (cost.energy_45nm, cost.energy_loihi) if energy is not None
    ]
    for values in (operations, energies, [0.2, 0.1] * 4):
        assert shares[: len(values)] == [f"--share: {100 * value / max(values):.1f}%" for value in values]
        del shares[: len(values)]
    assert not shares


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 J"), (1e-12, "1 pJ"), (2.5e-14, "0.025 pJ"), (9.996e-10, "1 nJ"), (1.234e-6, "1.23 µJ"), (1500, "1.5 kJ"),
     (999.6, "1 kJ")],
)  # fmt: skip
def test_prefixes(value: float, text: str) -> None:
    assert _si(value, "J") == text


def test_the_rasters_are_those_of_the_simulator(tmp_path: Path) -> None:
    net = make.mlp((200, 300, 5), steps=9)
    inputs = make.inputs_for(net, 4, rate=0.4)
    page = page_of(tmp_path, network=net, inputs=inputs, labels=np.arange(4), samples=(2, 0))
    spikes = simulate(net, inputs, record=True).spikes
    for table, sample in zip(page.tables["spikes"], (2, 0), strict=True):
        counts = {row[0].split()[0] if k < 2 else k - 2: row[2] for k, row in enumerate(table[1:])}
        assert counts["input"] == str(inputs[:, sample].sum())
        assert counts["0"] == str(spikes["0"][:, sample].sum())
        assert [int(counts[k]) for k in range(5)] == spikes["1"][:, sample].sum(0).tolist()
    data = json.loads(page.scripts[1])
    assert data["steps"] == 9
    assert data["samples"] == [[np.flatnonzero(spikes["1"][:, n, k]).tolist() for k in range(5)] for n in (2, 0)]
    # the hidden layer of sample 2: no more rows than can be told apart, each one a neuron that spikes, none twice
    drawn = np.zeros((96, 9), int)
    for step, row in re.findall(r"M(\d+) (\d+)\.5", page.of("path")[1]["d"]):
        drawn[int(row), int(step)] += 1
    real = spikes["0"][:, 2].T
    real = real[real.any(1)]
    assert len(real) > 96
    remaining = iter(real.tolist())
    assert drawn.any(1).all()
    assert all(row in remaining for row in drawn.tolist())


def test_pictures_are_png_files_of_the_inputs(tmp_path: Path) -> None:
    net = make.lenet(levels=15)
    inputs = make.inputs_for(net, 2)
    page = page_of(tmp_path, network=net, inputs=inputs, labels=np.zeros(2, np.int64), samples=(1,))
    png = base64.b64decode(page.of("img")[0]["src"].partition(",")[2])
    assert png[12:24] == b"IHDR" + (12).to_bytes(4) * 2
    start = png.index(b"IDAT") + 4
    lines = np.frombuffer(zlib.decompressobj().decompress(png[start:]), np.uint8).reshape(12, 13)
    np.testing.assert_array_equal(lines[:, 1:], inputs[1, 0] * 17)


def hostile(folder: Path) -> Page:
    net = make.mlp((9, 6, 3))
    first = replace(net.layers[0], name=HOSTILE)
    net = replace(net, layers=(first, net.layers[1]), class_names=(HOSTILE, BREAKOUT, "{{ 7 * 7 }}"))
    arguments = full(net)
    notes = arguments["network"].notes | {"name": BREAKOUT, HOSTILE: BREAKOUT, BREAKOUT + "accuracy": HOSTILE}
    report = json.loads(notes["quantisation"])
    report["accuracy"][0]["step"] = BREAKOUT
    notes["quantisation"] = json.dumps(report)
    agreements = [Agreement(HOSTILE, BREAKOUT, 1, 0, 5), Agreement(BREAKOUT, None, reason=HOSTILE)]
    return page_of(folder, **arguments | {"network": replace(net, notes=notes), "agreements": agreements})


def test_names_and_notes_are_text(tmp_path: Path) -> None:
    page = hostile(tmp_path)
    assert len(page.scripts) == 3
    assert not any("stolen" in script for script in page.scripts)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not page.of("img")
    assert page.tables["layers"][0][1][0] == HOSTILE
    assert page.tables["confusion"][0][0][1:4] == [HOSTILE, " ".join(BREAKOUT.split()), "{{ 7 * 7 }}"]
    assert "\u2028" not in page.scripts[1]


def test_quantisation_and_agreement_are_shown_as_given(tmp_path: Path) -> None:
    page = page_of(tmp_path, **full(make.mlp()))
    assert page.column("quantisation", "Accuracy") == {"float": "98.00 %", "weights": "97.50 %"}
    assert page.column("quantisation", "Change") == {"float": "\N{EN DASH}", "weights": "-0.50"}
    expected = {
        "Bits": "8", "Weight error": "1.23 %", "Weights clipped": "0.10 %", "Spike rate before": "20.00 %",
        "Spike rate after": "10.00 %", "Spikes that differ": "4.00 %", "Saturated": "3",
    }  # fmt: skip
    for head, text in expected.items():
        assert page.column("quantisation", head, table=1) == {"0": text, "1": text}
    results = {row[0]: row[-1] for row in page.tables["agreement"][0][1:]}
    assert results == {"c": "agrees", "icarus": "differs", "lava": "no spikes", "sanafe": "did not run"}
    assert page.tables["agreement"][0][4][1] == "SANA-FE is not installed"


def test_many_classes_have_no_matrix_but_mistakes(tmp_path: Path) -> None:
    net = make.mlp((30, 41))
    inputs = make.inputs_for(net, 5)
    wrong = (simulate(net, inputs).predictions[[0] * 5] + 1) % 41
    page = page_of(tmp_path, network=net, inputs=inputs[:, [0] * 5], labels=wrong)
    assert page.tables["confusion"] == []
    assert "<li>" in page.text.partition("Most frequent mistakes")[2]


@pytest.mark.parametrize("labels", [np.zeros(2, np.int64), np.array([0, 1, 5]), np.array([0, -1, 1]), np.zeros(3)])
def test_labels_that_do_not_fit(labels: np.ndarray, tmp_path: Path) -> None:
    net = make.mlp()
    with pytest.raises(ExportError, match=r"labels are .* expected 3 integers below 5"):
        write_report(tmp_path / "report.html", net, make.inputs_for(net), labels)


@pytest.mark.parametrize("text", ["{", "[]", '{"layers": [{}]}', '{"accuracy": [{"step": "x", "accuracy": "much"}]}'])
def test_a_damaged_note(text: str, tmp_path: Path) -> None:
    net = replace(make.mlp(), notes={"quantisation": text})
    with pytest.raises(ExportError, match='note "quantisation" is damaged'):
        write_report(tmp_path / "report.html", net, make.inputs_for(net), np.zeros(3, np.int64))


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full_disk(_: int) -> None:
        assert path.read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 2
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    net = make.mlp()
    with pytest.raises(ExportError, match=r"cannot write .*report\.html: No space left on device"):
        write_report(path, net, make.inputs_for(net), np.zeros(3, np.int64))
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_a_page_takes_the_old_one_s_place_by_renaming(tmp_path: Path) -> None:
    """Who has the old file open keeps it whole."""
    path, reader = tmp_path / "report.html", tmp_path / "reader"
    path.write_text("old")
    reader.hardlink_to(path)
    net = make.mlp()
    write_report(path, net, make.inputs_for(net), np.zeros(3, np.int64))
    assert reader.read_text() == "old"
    assert path.read_text("utf-8").endswith("</html>")
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "reader"}


def dom(folder: Path, page: Page) -> Page:
    """The page as the browser has it in the end."""
    path = folder / "probe.html"
    path.write_text(page.text, "utf-8")
    return Page(chromium(folder, "--dump-dom", path.as_uri()))


@needs_chromium
@pytest.mark.parametrize("name", NETWORKS)
def test_the_script_runs(name: str, tmp_path: Path) -> None:
    root = dom(tmp_path, page_of(tmp_path, **full(NETWORKS[name]()))).of("html")[0]
    assert root["data-ready"] == "true"
    assert "data-error" not in root


@needs_chromium
def test_the_script_runs_without_samples(tmp_path: Path) -> None:
    root = dom(tmp_path, page_of(tmp_path, **full(make.mlp()), samples=())).of("html")[0]
    assert root["data-ready"] == "true"
    assert "data-error" not in root


@needs_chromium
def test_hostile_names_do_not_run(tmp_path: Path) -> None:
    page = hostile(tmp_path)
    found = dom(tmp_path, page)
    assert found.of("html")[0]["data-ready"] == "true"
    assert "data-stolen" not in found.of("html")[0]


KEYS = """
const key = (element, name) => element.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
const facts = {};
const tabs = [...document.querySelectorAll("[role=tab]")];
const shown = () => [...document.querySelectorAll("[role=tabpanel]")].map(panel => panel.checkVisibility());
facts.atFirst = shown();
tabs[0].focus();
key(tabs[0], "ArrowLeft");
facts.afterLeft = shown();
facts.focused = document.activeElement.id;
key(tabs[3], "ArrowRight");
key(tabs[0], "ArrowRight");
facts.afterRight = shown();
facts.selected = tabs.map(tab => [tab.getAttribute("aria-selected"), tab.tabIndex]);
const slider = document.getElementById("step");
const counts = () =>
  [...document.querySelectorAll("#sample-1 [data-count]")].map(cell => Number(cell.textContent));
facts.whole = counts();
slider.value = 4;
slider.dispatchEvent(new Event("input"));
facts.early = counts();
facts.state = document.getElementById("state").textContent;
const theme = document.getElementById("theme");
theme.value = "dark";
theme.dispatchEvent(new Event("change"));
facts.dark = getComputedStyle(document.body).backgroundColor;
theme.value = "light";
theme.dispatchEvent(new Event("change"));
facts.light = getComputedStyle(document.body).backgroundColor;
facts.unreachable = [];
for (const element of document.querySelectorAll("a, button, select, input, summary, [role=region]")) {
  if (!element.checkVisibility() || element.tabIndex < 0) continue;
  element.focus();
  const style = getComputedStyle(element);
  if (document.activeElement !== element || !element.matches(":focus-visible") || style.outlineStyle === "none")
    facts.unreachable.push(element.outerHTML);
}
facts.unnamed = [...document.querySelectorAll("button, select, input, [role=region], [role=tablist], nav, svg")]
  .filter(e => !(e.ariaLabel || e.textContent.trim() && e.tagName !== "SELECT" || e.labels?.length))
  .map(e => e.outerHTML);
facts.scrollers = [...document.querySelectorAll("*")].filter(e => /auto|scroll/.test(getComputedStyle(e).overflowX)
  && e.tabIndex < 0 && !e.querySelector("a")).map(e => e.outerHTML);
parent.postMessage({ frame: name, error: document.documentElement.dataset.error, ...facts }, "*");
"""


@needs_chromium
def test_the_keyboard_reaches_everything(tmp_path: Path) -> None:
    arguments = full(make.mlp())
    page = page_of(tmp_path, **arguments).text.replace("</body>", f"<script>{{{KEYS}}}</script></body>")
    facts = frames(tmp_path, {"report": (page, 1200)})["report"]
    assert "error" not in facts, facts
    assert facts["atFirst"] == [True, False, False, False]
    assert facts["afterLeft"] == [False, False, False, True]
    assert facts["focused"] == "tab-3"
    assert facts["afterRight"] == [False, True, False, False]
    assert facts["selected"] == [["false", -1], ["true", 0], ["false", -1], ["false", -1]]
    spikes = simulate(arguments["network"], arguments["inputs"], record=True).spikes["1"][:, 1]
    assert facts["whole"] == spikes.sum(0).tolist()
    assert facts["early"] == spikes[:4].sum(0).tolist()
    assert facts["early"] != facts["whole"]
    lead = int(spikes[:4].sum(0).argmax())
    assert facts["state"] == f"4 of 12: {lead} leads with {spikes[:4].sum(0)[lead]}"
    assert facts["dark"] != facts["light"]
    assert facts["unreachable"] == facts["unnamed"] == facts["scrollers"] == []


def rgb(colour: str) -> Any:
    """The channels of "#rrggbb" in 0..1."""
    return np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])


def contrast(one: Any, other: Any) -> float:
    """WCAG 2: the ratio of two colours."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(channels: Any) -> float:
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast(theme: int, tmp_path: Path) -> None:
    """WCAG AA: at least 4.5 for text."""
    pairs = re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\)", page_of(tmp_path, **full(make.mlp())).text)
    colours = {name: rgb(both[theme]) for name, *both in pairs}
    for ground in ("page", "card", "sunk"):
        for ink in ("ink", "soft", "accent", "warm", "good", "bad"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["accent-ink"], colours["accent"]) >= 4.5
    # cells of the confusion matrix
    for depth in map(_depth, np.linspace(0, 1, 101)):
        ink = colours["accent-ink" if depth > 0.5 else "ink"]
        for colour in ("accent", "warm"):
            ground = depth * colours[colour] + (1 - depth) * colours["sunk"]
            assert contrast(ink, ground) >= 4.5, (colour, depth)


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(width: int, tmp_path: Path) -> None:
    """In a frame of that width: browsers have a smallest window."""
    page_of(tmp_path, **full(make.lenet()))
    path = tmp_path / "report.html"
    probe = path.read_text("utf-8").replace(
        "</body>",
        "<script>parent.postMessage([document.documentElement.scrollWidth, innerWidth], '*')</script></body>",
    )
    (tmp_path / "inner.html").write_text(probe, "utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<script>onmessage = event => { document.documentElement.dataset.widths = event.data }</script>"
        f'<iframe src="inner.html" style="width: {width}px; height: 900px; border: 0"></iframe>'
    )
    widths = Page(chromium(tmp_path, "--window-size=1400,1000", "--dump-dom", outer.as_uri())).of("html")[0]
    assert widths["data-widths"] == f"{width},{width}"


@needs_chromium
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_system_chooses_the_colours(scheme: str, tmp_path: Path) -> None:
    """The corner of a screenshot is the page's background."""
    from matplotlib.image import imread

    page_of(tmp_path, **full(make.lenet()))
    picture = tmp_path / "page.png"
    chromium(
        tmp_path, f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", f"--screenshot={picture}",
        "--window-size=800,600", (tmp_path / "report.html").as_uri(),
    )  # fmt: skip
    pixels = imread(picture)[..., :3]
    assert (pixels[5, 5].mean() < 0.5) == (scheme == "dark")
    assert pixels.std() > 0.05
