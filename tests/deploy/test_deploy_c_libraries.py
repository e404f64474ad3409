"""C as libraries of Arduino and Zephyr: their examples, between stand-ins for the two systems, on the golden run."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import integer_networks as make
from spiking_lfp import export
from spiking_lfp.deploy.formats.c_libraries import write_arduino, write_zephyr
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import with_golden_run
from spiking_lfp.errors import ExportError

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")
# what the examples use of the two systems
ARDUINO = """
#include <stdint.h>
#include <stdio.h>
inline unsigned long micros() { static unsigned long now; return now += 7; }
struct Port {
    void begin(unsigned long) {}
    void print(const char *text) { fputs(text, stdout); }
    void print(unsigned long number) { printf("%lu", number); }
    void println(const char *text) { puts(text); }
};
static Port Serial;
"""
ZEPHYR = """
#include <stdint.h>
#include <stdio.h>
#define printk printf
static inline uint32_t k_cycle_get_32(void) { static uint32_t now; return now += 7; }
"""


@pytest.fixture(autouse=True)
def _compilers() -> None:
    if missing := [name for name in ("cc", "c++") if shutil.which(name) is None]:
        pytest.skip(f"needs {' and '.join(missing)}")


def call(*words: object, folder: Path) -> str:
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_arduino(folder: Path) -> list[str]:
    """Compile as Arduino's tools do: sources one by one, the sketch as C++ behind their header; run it."""
    example = folder / "examples" / "Golden"
    (example / "sketch.cpp").write_text(f"{ARDUINO}{(example / 'Golden.ino').read_text()}\nint main() {{ setup(); }}\n")
    call("cc", "-std=c11", "-O1", *WARNINGS, "-c", *(folder / "src").glob("*.c"), folder=folder)
    objects = sorted(folder.glob("*.o"))
    call(
        "c++",
        "-std=c++17",
        *WARNINGS,
        f"-I{folder / 'src'}",
        example / "sketch.cpp",
        *objects,
        "-o",
        "run",
        folder=folder,
    )
    return call(folder / "run", folder=folder).splitlines()


def run_zephyr(folder: Path) -> list[str]:
    for header in ("zephyr/kernel.h", "zephyr/sys/printk.h"):
        path = folder / "stand-in" / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ZEPHYR if path.name == "kernel.h" else "")
    sources = [*(folder / "src").glob("*.c"), folder / "samples" / "golden" / "src" / "main.c"]
    call("cc", "-std=c11", "-O1", *WARNINGS, "-Iinclude", "-Istand-in", *sources, "-o", "run", folder=folder)
    return call(folder / "run", folder=folder).splitlines()


NETWORKS = {
    "constant": lambda: make.mlp((40, 30, 5), steps=7, levels=255),
    "spikes": lambda: make.mlp((40, 30, 5), steps=7),
    "graph": lambda: make.graph(1, 255),
    "many classes": lambda: make.mlp((40, 300), steps=7),
}


def golden(name: str) -> IntegerNetwork:
    net = NETWORKS[name]()
    return with_golden_run(net, make.inputs_for(net, 3))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("write", "run"), [(write_arduino, run_arduino), (write_zephyr, run_zephyr)])
def test_examples_say_the_classes_of_the_golden_run(
    name: str, write: Callable[..., list[Path]], run: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    net = golden(name)
    files = write(net, tmp_path / "made")
    assert all(file.is_file() for file in files)
    said = run(tmp_path / "made")
    assert net.golden is not None
    counts = net.golden.spikes[net.spiking[-1].name].sum(0).reshape(3, -1)
    classes = [net.class_names[index] for index in counts.argmax(1)]
    assert [line.split()[0] for line in said[:3]] == classes
    assert said[3] == "all as expected"


def test_another_class_is_told(tmp_path: Path) -> None:
    write_zephyr(golden("constant"), tmp_path)
    header = tmp_path / "samples" / "golden" / "src" / "golden_samples.h"
    before, after = header.read_text().split("golden_classes[3] = {\n    ")
    other = (int(after[0]) + 1) % 5
    header.write_text(f"{before}golden_classes[3] = {{\n    {other}{after[1:]}")
    assert run_zephyr(tmp_path)[-1] == "FAILED"


def test_a_network_of_the_package_by_export(tmp_path: Path) -> None:
    made = export("mnist-mlp-ternary", out=tmp_path, to=["arduino", "zephyr"])
    assert sorted(made.files) == ["arduino", "zephyr"]
    assert run_arduino(tmp_path / "arduino")[-1] == "all as expected"
    properties = (tmp_path / "arduino" / "library.properties").read_text().splitlines()
    names = [line.partition("=")[0] for line in properties]
    # what the specification of libraries asks for
    asked = ["name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"]
    assert [name for name in names if name in asked] == asked
    assert "CONFIG_SPIKING_NETWORK=y" in (tmp_path / "zephyr" / "samples" / "golden" / "prj.conf").read_text()


def test_the_example_needs_a_golden_run(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no golden run, which the example replays"):
        write_arduino(NETWORKS["spikes"](), tmp_path / "made")
    assert not (tmp_path / "made").exists()
