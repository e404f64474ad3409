"""The page in which a network runs: bit for bit as the simulator, on pictures and files as `predict` reads them."""

import json
import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from helpers import event_bytes
from helpers import integer_networks as make
from helpers.browser import frames, needs_chromium
from spiking_lfp.cli.main import app
from spiking_lfp.data import load_dataset
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.images import read_images
from spiking_lfp.data.recipes import EventRecipe, InputRecipe
from spiking_lfp.data.spec import VALUES, DataSpec
from spiking_lfp.deploy import live
from spiking_lfp.deploy.artifact import load_network
from spiking_lfp.deploy.costs import costs
from spiking_lfp.deploy.formats.wasm import network_image, wasm_runtime
from spiking_lfp.deploy.hardware import hardware_folder
from spiking_lfp.deploy.layers import Array
from spiking_lfp.deploy.live import write_live
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.predict import NOTE, convert_files, note_of, predict_files
from spiking_lfp.deploy.pretrained import network_names, network_path
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import Arithmetic
from spiking_lfp.integers.cuba import IntegerCubaLIF
from spiking_lfp.integers.li import IntegerLI

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node here: apt-get install nodejs")
WEB = hardware_folder("web")
SOURCES = ("web.c", "../runtime_c/slfp.c", "../runtime_c/slfp.h", "Makefile")
SCRIPT = Path(live.__file__).with_name("pages") / "live.js"


def text(content: bytes) -> str:
    return b64encode(content).decode()


def node(folder: Path, code: str, given: Any) -> Any:
    """What `code`, the body of an async function, returns for `given`, with the page's live.js before it."""
    assert NODE is not None
    path = folder / "script.js"
    path.write_text(
        f"{SCRIPT.read_text('utf-8')}\nconst given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n"
        "const text = bytes => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');\n"
        f"(async () => {{ {code} }})().then(found => console.log(JSON.stringify(found)));\n"
    )
    done = subprocess.run([NODE, path], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


RUN = """
const found = [];
for (const { image, model, inputs } of given.networks) {
  const network = await Network.load(bytesOf(given.wasm), bytesOf(image), model);
  const bytes = bytesOf(inputs), size = (model.constant ? 1 : model.steps) * sizeOf(model.inShape);
  const outputs = model.layers.map(() => []), operations = model.layers.map(() => 0);
  for (let start = 0; start < bytes.length; start += size) {
    for (network.start(bytes.subarray(start, start + size)); network.now < network.steps;) {
      network.step();
      model.layers.forEach((layer, k) => {
        outputs[k].push(...network.outputs(layer));
        operations[k] += network.operations(layer);
      });
    }
  }
  found.push({ outputs: outputs.map(each => text(Int32Array.from(each))), operations });
}
return found;
"""


def li(net: IntegerNetwork) -> IntegerNetwork:
    """The same, with a last layer that does not fire."""
    last = net.spiking[-1]
    changed = replace(last, neuron=IntegerLI(300, last.neuron.frac_bits, last.neuron.arithmetic))
    return replace(net, layers=(*net.layers[:-1], changed)).check()


def cuba(net: IntegerNetwork) -> IntegerNetwork:
    """The same, with currents of their own in the first layer."""
    first = net.spiking[0]
    neuron = IntegerCubaLIF(**{**vars(first.neuron), "frac_bits": 0}, current_decay=900)
    layers = [replace(layer, neuron=neuron) if layer is first else layer for layer in net.layers]
    return replace(net, layers=tuple(layers)).check()


def random_networks() -> list[IntegerNetwork]:
    odd = Arithmetic("odd", 8, 20, 4, "shift", ">=", ("zero", "subtract_decayed"), "wrap")
    floor = Arithmetic("floor", 8, 22, 6, "mul12_floor", ">", ("zero", "subtract"), "saturate")
    first = make.conv("0", (4, 7, 6), 6, (3, 2), 5, stride=(2, 1), padding=(1, 1), groups=2, gain=0.2)
    flat = make.Flatten("1", first.out_shape)
    return [
        *(make.mlp((30, 40, 5), seed, bits=bits, reset=reset) for seed, (bits, reset) in enumerate(
            [(8, "zero"), (4, "subtract"), (2, "subtract_decayed")])),
        make.mlp((50, 33, 4), 7, levels=255),
        make.mlp(arithmetic=odd, decay=3, reset="zero"),
        make.mlp(arithmetic=floor, reset="subtract"),
        make.lenet(levels=255),
        make.lenet(levels=1, seed=4),
        make.network([first, flat, make.dense("2", flat.out_shape[0], 3)], 6),
        *(make.graph(seed, levels) for seed in range(4) for levels in (1, 200)),
        make.network([make.recurrent("0", 20, 30, 1, 3), make.recurrent("1", 30, 4, 2, 300)]),
        make.network([make.recurrent("0", 20, 9, frac_bits=0, levels=255)], levels=255),
        make.network([make.dense("0", 20, 9, frac_bits=0, levels=255), make.dense("1", 9, 3)], 6, 255, (-2.0, 3.0)),
        li(make.mlp(seed=3)),
        cuba(make.mlp(seed=9)),
        *(make.with_decays(net) for net in (make.mlp(seed=3), li(make.mlp(seed=3)), cuba(make.mlp(seed=9)))),
        make.with_decays(make.mlp(arithmetic=odd, decay=3, reset="zero")),
        make.with_decays(make.network([first, flat, make.dense("2", flat.out_shape[0], 3)], 6)),
    ]  # fmt: skip


def assert_equal_in_node(folder: Path, wasm: bytes) -> None:
    """Every value of every layer, and the operations that were counted."""
    networks = random_networks()
    inputs = [make.inputs_for(net, 3, seed) for seed, net in enumerate(networks)]
    given = [
        {
            "image": text(network_image(net)),
            "inputs": text((each if net.encoder == "constant" else each.swapaxes(0, 1)).tobytes()),
            "model": {
                "constant": net.encoder == "constant", "inShape": net.in_shape, "steps": net.steps,
                "layers": live._layers(net),
            },
        }
        for net, each in zip(networks, inputs, strict=True)
    ]  # fmt: skip
    spikes = 0
    for net, each, found in zip(
        networks, inputs, node(folder, RUN, {"wasm": text(wasm), "networks": given}), strict=True
    ):
        outcome = simulate(net, each, record=True)
        spikes += sum(counters.spikes for counters in outcome.counters.values())
        counted = [outcome.counters[layer.name] for layer in net.spiking]
        assert found["operations"] == [each.synops - each.recurrent for each in counted]
        for layer, outputs in zip(net.spiking, found["outputs"], strict=True):
            values = np.frombuffer(b64decode(outputs), "<i4").reshape(3, net.steps, *layer.out_shape)
            np.testing.assert_array_equal(values.swapaxes(0, 1), outcome.spikes[layer.name])
    assert spikes > 1000


@needs_node
def test_random_networks_run_as_in_the_simulator(tmp_path: Path) -> None:
    assert_equal_in_node(tmp_path, wasm_runtime())


def test_the_runtime_was_built_from_the_sources_as_they_are() -> None:
    digest = sha256(b"".join((WEB / name).read_bytes() for name in SOURCES)).hexdigest()
    assert digest.encode() in wasm_runtime(), "run make in hardware/web"
    assert len(wasm_runtime()) < 20_000


@pytest.mark.skipif(not (shutil.which("clang") and shutil.which("wasm-ld")), reason="apt-get install clang lld")
def test_the_runtime_can_be_built_again(tmp_path: Path) -> None:
    """The same compiler makes the same bytes; another one what computes the same."""
    for name in ("web", "runtime_c"):
        shutil.copytree(hardware_folder(name), tmp_path / name)
    subprocess.run(["make", "-s", "-B"], cwd=tmp_path / "web", check=True)
    built = (tmp_path / "web" / "slfp.wasm").read_bytes()
    version = re.search(rb"clang version ([\d.]+)", subprocess.check_output(["clang", "--version"]))
    assert version is not None
    if version[1] in wasm_runtime():
        assert built == wasm_runtime()
    elif NODE is not None:
        assert_equal_in_node(tmp_path, built)


SIZES = [(28, 28), (31, 20), (100, 300), (12, 5), (300, 170), (29, 28), (56, 200), (111, 29), (20, 31)]


@needs_node
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_scaled_as_for_training(channels: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = []
    for number, (width, height) in enumerate(SIZES):
        # smooth and noisy
        wave = 127 * np.sin(np.arange(width * height * 3).reshape(height, width, 3) / 50)
        picture = np.clip(127 + wave + random.normal(0, 40, wave.shape), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rgba = np.concatenate([picture, np.full((height, width, 1), 255, np.uint8)], 2)
        given.append([text(rgba.tobytes()), width, height])
    code = f"return given.map(each => text(pixels(bytesOf(each[0]), each[1], each[2], [{channels}, 24, 28])));"
    for number, found in enumerate(node(tmp_path, code, given)):
        colour = "grey" if channels == 1 else "rgb"
        expected = read_images([tmp_path / f"{number}.png"], "28x24", colour)[0].numpy()
        np.testing.assert_array_equal(np.frombuffer(b64decode(found), np.uint8).reshape(expected.shape), expected)


def with_inputs(net: IntegerNetwork, encoding: str = "constant") -> IntegerNetwork:
    """A network that says that it takes pictures."""
    recipe, inputs = EventRecipe(steps=net.steps), InputRecipe(encoding=encoding)
    data = DataSpec(list(net.in_shape), len(net.class_names), list(net.class_names), [], [], [], VALUES)
    return replace(net, notes={NOTE: note_of(recipe, inputs, data)})


ARRAYS = """
return given.files.map(bytes => {
  try { return arrays(bytesOf(bytes), [1, 12, 12], 255).map(text); } catch (error) { return error.message; }
});
"""


@needs_node
def test_arrays_are_read_as_for_predictions(tmp_path: Path) -> None:
    net = with_inputs(make.lenet())
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 12, 12), np.uint8)
    halves = (np.arange(144).reshape(12, 12) + 0.5) / 255
    good = [images[0], images, images[:, None], images[1:2] / 255, (images / 255).astype(np.float32), halves,
            halves.astype(np.float32), images > 99, (images[0] > 99).astype(np.int64).astype(np.int32)]  # fmt: skip
    wrong = {"beyond 0 to 1": images.astype(np.float32), "expected samples": images[:, :5], "array is <c8": images * 1j}
    files = []
    for number, array in enumerate([*good, *wrong.values()]):
        np.save(tmp_path / f"{number}.npy", array.astype(np.complex64) if array.dtype.kind == "c" else array)
        files.append(tmp_path / f"{number}.npy")
    found = node(tmp_path, ARRAYS, {"files": [text(file.read_bytes()) for file in files]})
    for file, samples in zip(files, found[: len(good)], strict=False):
        assert b"".join(map(b64decode, samples)) == convert_files(net, [file])[1]
    for what, message in zip(wrong, found[len(good) :], strict=True):
        assert what in message


@needs_node
@pytest.mark.parametrize("polarities", [1, 2])
def test_recordings_are_binned_as_for_predictions(polarities: int, tmp_path: Path) -> None:
    net = load_network(network_path("nmnist-conv-int8"))
    events = event_bytes.made(3, 900, 34, 34)
    path = tmp_path / "x.bin"
    # an overflow of the timer in the middle
    path.write_bytes(event_bytes.nmnist(events[:500]) + bytes([0, 240, 0, 0, 0]) + event_bytes.nmnist(events[500:]))
    shape, expected = [polarities, 34, 34], np.frombuffer(convert_files(net, [path])[1], np.uint8)
    if polarities == 1:
        expected = expected.reshape(10, 2, 34, 34).max(1).reshape(-1)
    found = node(tmp_path, f"return text(recording(bytesOf(given), {shape}, 10));", text(path.read_bytes()))
    np.testing.assert_array_equal(np.frombuffer(b64decode(found), np.uint8), expected)


@needs_node
def test_values_become_spikes_as_in_training(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 12, 12), np.uint8)
    latency = Encoder("latency", 9)
    given = {"values": text(values.tobytes()), "latency": live._code(latency), "rate": live._code(Encoder("rate", 9))}
    code = "return ['latency', 'rate'].map(name => text(encoded(bytesOf(given.values), given[name], 9)));"
    spikes, random = (np.frombuffer(b64decode(each), np.uint8).reshape(9, -1) for each in node(tmp_path, code, given))
    np.testing.assert_array_equal(spikes, latency(torch.from_numpy(values)[None]).numpy().reshape(9, -1))
    assert abs(random.mean() - values.mean() / 255) < 0.05
    assert live._inputs(with_inputs(make.lenet(levels=1), "latency"))["picture"] == (1, 12, 12)


# what a frame tells its parent, and what it does before
TELL = """
const tell = facts => parent.postMessage({ frame: name, ...facts }, "*");
ready.then(async found => {
  const facts = { golden: found?.golden, trouble: document.getElementById("trouble").textContent };
  facts.width = document.documentElement.scrollWidth - innerWidth;
  if (!found) { tell(facts); return; }
  const act = ACTION;
  if (act) facts.action = await act(found);
  facts.unnamed = [...document.querySelectorAll("button, select, input, canvas, progress, [role=region], [role=group]")]
    .filter(e => e.checkVisibility() && !e.closest("#samples button")
      && !(e.ariaLabel || e.tagName === "BUTTON" && e.textContent.trim() || e.labels?.length
        || e.getAttribute("aria-labelledby")))
    .map(e => e.outerHTML);
  facts.unreachable = [...document.querySelectorAll("a, button:enabled, select, input, #pad, [role=region]")]
    .filter(e => e.checkVisibility()).filter(e => { e.focus(); return document.activeElement !== e
      || !e.matches(":focus-visible") || getComputedStyle(e).outlineStyle === "none"; }).map(e => e.outerHTML);
  tell(facts);
}).catch(error => tell({ error: `${error.message} ${error.stack}` }));
"""
ACT = """async found => {
  const speed = document.getElementById("speed");
  speed.value = "0";
  const shown = async () => {
    if (document.getElementById("play").textContent === "Play") document.getElementById("play").click();
    while (document.getElementById("play").textContent === "Pause") await new Promise(next => setTimeout(next, 5));
    return {
      answer: document.getElementById("answer").textContent,
      counts: [...document.querySelectorAll("#classes b")].map(each => Number(each.textContent)),
      costs: [...document.querySelectorAll(".costs :is(tbody, tfoot) tr")].map(row =>
        [...row.cells].map(cell => cell.textContent)),
    };
  };
  const all = {};
  for (const [name, kind, bytes] of FILES) {
    await found.take([new File([bytesOf(bytes)], name, { type: kind })]);
    all[name] = document.getElementById("trouble").textContent || await shown();
  }
  document.querySelectorAll("#samples button")[1].click();
  all.sample = await shown();
  const pad = document.getElementById("pad"), seen = document.querySelector(".views canvas");
  const key = name => pad.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
  const inked = () => seen.getContext("2d").getImageData(0, 0, 28, 28).data.filter((v, k) => k % 4 === 0 && v).length;
  all.ink = [];
  found.show({ name: "nothing", values: new Uint8Array(784) }, null, false);
  for (const name of ["ArrowUp", " ", "ArrowUp", "ArrowUp", "ArrowUp", " ", "ArrowLeft", "Delete"]) {
    key(name);
    all.ink.push(inked());
  }
  return all;
}"""


def picture_files(folder: Path) -> dict[str, tuple[str, bytes]]:
    """A digit in files of different kinds, by name, with types."""
    digit = load_network(network_path("mnist-mlp-int8")).golden
    assert digit is not None
    grey = Image.fromarray(digit.inputs[2, 0])
    colours = Image.merge("RGB", [grey, grey.point(lambda v: v // 2), grey.point(lambda v: 255 - v)])
    ways: list[tuple[str, Image.Image, str]] = [
        ("grey.png", grey, "image/png"), ("large.png", grey.resize((300, 260)), "image/png"),
        ("colour.png", colours.resize((50, 40)), "image/png"), ("palette.png", colours.quantize(16), "image/png"),
        ("opaque.png", colours.convert("RGBA"), "image/png"), ("bits.png", grey.convert("1"), "image/png"),
        ("x.bmp", colours, "image/bmp"), ("x.gif", colours.resize((61, 33)), "image/gif"),
    ]  # fmt: skip
    files = {}
    for name, image, kind in ways:
        image.save(folder / name)
        files[name] = kind, (folder / name).read_bytes()
    np.save(folder / "x.npy", digit.inputs[1, 0] / 255)
    files["x.npy"] = "", (folder / "x.npy").read_bytes()
    clear = grey.convert("RGBA")
    clear.putalpha(128)
    clear.save(folder / "clear.png")
    Image.fromarray(digit.inputs[0, 0].astype(np.uint16) * 256).save(folder / "deep.png")
    for name in ("clear.png", "deep.png"):
        files[name] = "image/png", (folder / name).read_bytes()
    files["text.txt"] = "text/plain", b"no samples"
    return files


def written(folder: Path, network: IntegerNetwork, action: str = "null", labels: Sequence[int] = ()) -> str:
    path = folder / "live.html"
    write_live(path, network, labels)
    return path.read_text("utf-8").replace("</body>", f"<script>{{{TELL.replace('ACTION', action)}}}</script></body>")


@needs_chromium
def test_the_page_runs_in_a_browser(tmp_path: Path) -> None:
    """Golden runs of the networks in the package, one that adds up membranes, files, keys; and without WebAssembly."""
    networks = {name: load_network(network_path(name)) for name in network_names()}
    membranes = li(make.mlp((64, 20, 5), levels=255))
    networks["li"] = with_golden_run(membranes, make.inputs_for(membranes))
    files = picture_files(tmp_path)
    listed = json.dumps([[name, kind, text(content)] for name, (kind, content) in files.items()])
    pages = {
        name: (written(tmp_path, net, ACT.replace("FILES", listed) if name == "mnist-mlp-int8" else "null"), 390)
        for name, net in networks.items()
    }
    off = written(tmp_path, networks["li"]).replace("<title>", "<script>delete globalThis.WebAssembly</script><title>")
    found = frames(tmp_path, {**pages, "off": (off, 390)})
    assert "has no WebAssembly" in found.pop("off")["trouble"]
    assert set(found) == set(networks)
    for name, facts in found.items():
        net = networks[name]
        assert "error" not in facts, facts
        assert facts["width"] <= 0, name
        assert facts["unnamed"] == facts["unreachable"] == [], name
        assert net.golden is not None
        compared = sum(each.size for each in net.golden.spikes.values())
        axis = 0 if net.encoder == "constant" else 1
        assert facts["golden"] == {"samples": net.golden.inputs.shape[axis], "compared": compared, "different": 0}
    said = found["mnist-mlp-int8"]["action"]
    for bad, why in {"clear.png": "transparent", "deep.png": "16 bits", "text.txt": "does not take it"}.items():
        assert why in said[bad]
        files.pop(bad)
    net = networks["mnist-mlp-int8"]
    names, predicted = predict_files(net, [tmp_path / name for name in files])
    for path, answer, scores in zip(names, predicted.names, predicted.scores, strict=True):
        mine = said[Path(path).name]
        assert mine["counts"] == (scores * net.steps).round().int().tolist(), path
        assert mine["answer"].partition(" ")[0] == answer
    assert_costs(net, said["sample"]["costs"])
    up, pen_down, *drawn, lifted, left, cleared = said["ink"]
    assert up == cleared == 0
    assert 0 < pen_down < drawn[-1] == lifted == left


def assert_costs(net: IntegerNetwork, rows: list[list[str]]) -> None:
    """The table of costs after the second golden sample."""
    assert net.golden is not None
    expected = costs(net, simulate(net, net.golden.inputs[1:2]))
    for row, cost in zip(rows, [*expected.layers, expected.total], strict=True):
        name, *counts, core, loihi = row
        assert name == cost.name
        assert [int(each.replace(",", "")) for each in counts] == [cost.spikes, cost.synops, cost.macs, cost.updates]
        for shown, energy in ((core, cost.energy_45nm), (loihi, cost.energy_loihi)):
            units = {"pJ": 1, "nJ": 1e3, "µJ": 1e6}
            assert (shown == "\N{EN DASH}") == (energy is None)
            if energy is not None:
                value, unit = shown.split()
                assert float(value) * units[unit] == pytest.approx(energy, rel=5e-3)


def test_nothing_is_loaded_and_names_are_text(tmp_path: Path) -> None:
    hostile = '</script><img src=x onerror="alert(1)">'
    net = make.mlp()
    layers = (*net.layers[:-1], make.changed(net.layers[-1], name=hostile))
    names = (hostile, *net.class_names[1:])
    net = with_golden_run(replace(net, layers=layers, class_names=names, notes={"name": hostile}), make.inputs_for(net))
    write_live(tmp_path / "live.html", net, [0, 1, 2])
    page = (tmp_path / "live.html").read_text("utf-8")
    assert "<img" not in page
    assert not re.search(r"https?:|//www|@import|url\(|<link", page)
    assert "script-src 'unsafe-inline' 'wasm-unsafe-eval'" in page


def test_what_cannot_be_a_page_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "live.html"
    monkeypatch.setattr(live, "LARGEST_PAGE", 60_000)
    net = make.mlp((300, 200, 5))
    with pytest.raises(ExportError, match=r"would have 0\.1 MB, of them 0\.1 MB of weights; 0 MB are the most"):
        write_live(path, net)
    assert not path.exists()


def samples_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    samples: dict[str, Any] = json.loads(found[1])["samples"]
    return samples


def test_the_command(tmp_path: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["report", "mnist-mlp-ternary", "--live", "-o", str(tmp_path / "x.html")])
    assert done.exit_code == 0, done.output
    assert len(samples_of(tmp_path / "x.html")["labels"]) == 0
    assert samples_of(tmp_path / "x.html")["count"] == 4
    data = ("--data", "mnist-subset", "--samples", "5")
    done = run.invoke(app, ["report", "mnist-mlp-ternary", "--live", *data, "-o", str(tmp_path / "x.html")])
    assert done.exit_code == 0, done.output
    assert samples_of(tmp_path / "x.html")["labels"] == load_dataset("mnist-subset").test_labels[::400].tolist()
    done = run.invoke(app, ["report", "mnist-mlp-ternary", "--live", "--with", "c", "-o", str(tmp_path / "y.html")])
    assert done.exit_code != 0
    assert not (tmp_path / "y.html").exists()


def test_what_a_page_takes() -> None:
    """Pictures where inputs are some, and recordings where a bin of the page is one of the package."""

    def kinds(net: IntegerNetwork) -> Array:
        found = live._inputs(net)
        return [found["picture"], found["arrays"], found["recording"]]

    assert kinds(make.lenet()) == [(1, 12, 12), True, False]
    assert kinds(make.mlp((784, 5), levels=255)) == [(1, 28, 28), True, False]
    assert kinds(make.mlp((60, 5), levels=255)) == [None, True, False]
    assert kinds(make.mlp()) == [None, False, False]
    assert kinds(make.lenet(levels=9)) == [None, True, False]
    events = load_network(network_path("nmnist-conv-int8"))
    assert kinds(events) == [None, False, True]
    notes = json.loads(events.notes[NOTE])
    for name, value in {"window_ms": 100.0, "centre": True, "denoise_us": 5, "bin_by": "count"}.items():
        changed = {**notes, "recipe": {**notes["recipe"], name: value}}
        assert kinds(replace(events, notes={NOTE: json.dumps(changed)})) == [None, False, False]


def test_pixels_and_numbers_may_be_asked_about_together(tmp_path: Path) -> None:
    net = with_inputs(make.lenet())
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", pixels / 255)
    both = predict_files(net, [tmp_path / "x.png", tmp_path / "x.npy"])[1].scores
    assert both[0].any()
    assert torch.equal(both[0], both[1])
