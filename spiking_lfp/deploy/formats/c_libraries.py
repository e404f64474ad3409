"""The C sources of a network as a library: for Arduino's tools, and as a module of the system Zephyr."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spiking_lfp.deploy.formats.c import array_lines, c_files
from spiking_lfp.deploy.hardware import hardware_file
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS

ARDUINO = {
    "library.properties": "arduino/library.properties",
    "keywords.txt": "arduino/keywords.txt",
    "src/spiking_network.h": "spiking_network.h",
    "src/spiking_network.c": "spiking_network.c",
    "examples/Golden/Golden.ino": "arduino/Golden.ino",
}
ZEPHYR = {
    "zephyr/module.yml": "zephyr/module.yml",
    "CMakeLists.txt": "zephyr/CMakeLists.txt",
    "Kconfig": "zephyr/Kconfig",
    "include/spiking_network.h": "spiking_network.h",
    "src/spiking_network.c": "spiking_network.c",
    "samples/golden/CMakeLists.txt": "zephyr/sample.cmake",
    "samples/golden/prj.conf": "zephyr/prj.conf",
    "samples/golden/sample.yaml": "zephyr/sample.yaml",
    "samples/golden/src/main.c": "zephyr/main.c",
}


def write_arduino(network: IntegerNetwork, folder: str | Path) -> list[Path]:
    """Write a library for Arduino's tools: the network, and an example that replays its golden run.

    Args:
        network: any that C has, with a golden run.
        folder: made if missing; files of the same names are replaced, all of them or none.

    Returns:
        The files written.

    Raises:
        ExportError: if the network is not valid or has no golden run, or files cannot be read or written.
    """
    return _write(network, Path(folder), ARDUINO, "src", "src", "examples/Golden")


def write_zephyr(network: IntegerNetwork, folder: str | Path) -> list[Path]:
    """Write a module of the system Zephyr: the network, and a sample that replays its golden run.

    Args:
        network: any that C has, with a golden run.
        folder: made if missing; files of the same names are replaced, all of them or none.

    Returns:
        The files written.

    Raises:
        ExportError: if the network is not valid or has no golden run, or files cannot be read or written.
    """
    return _write(network, Path(folder), ZEPHYR, "include", "src", "samples/golden/src")


def _write(
    network: IntegerNetwork, folder: Path, named: dict[str, str], headers: str, sources: str, example: str
) -> list[Path]:
    """Write files of `hardware/libraries` by their names in the library, and those of the network to the folders."""
    if network.golden is None:
        raise ExportError("the network has no golden run, which the example replays: export it with samples")
    content = {f"{headers}/slfp.h": "slfp.h", f"{sources}/slfp.c": "slfp.c", f"{sources}/network.h": "network.h"}
    of_network = c_files(network)
    files = {name: of_network[source] for name, source in content.items()}
    files |= {name: hardware_file("libraries", source) for name, source in named.items()}
    files[f"{headers}/spiking_network_size.h"] = _sizes(network).encode()
    files[f"{example}/golden_samples.h"] = "".join(f"{line}\n" for line in _golden_samples(network)).encode()
    return EXPORTS.write_all(folder, files)


def _sizes(network: IntegerNetwork) -> str:
    """Return the header of the network's sizes."""
    values = {
        "INPUTS": int(np.prod(network.in_shape)),
        "LEVELS": network.levels,
        "STEPS": network.steps,
        "CLASSES": len(network.class_names),
    }
    lines = [f"#define SPIKING_NETWORK_{name} {value}" for name, value in values.items()]
    head = ["/* Written by spiking_lfp. */", "#ifndef SPIKING_NETWORK_SIZE_H", "#define SPIKING_NETWORK_SIZE_H", ""]
    return "\n".join([*head, *lines, "", "#endif", ""])


def _golden_samples(network: IntegerNetwork) -> Iterator[str]:
    """Yield the lines of the header of the golden run: inputs, and the class of each sample."""
    golden = network.golden
    assert golden is not None
    constant = network.encoder == "constant"
    inputs = golden.inputs if constant else golden.inputs.swapaxes(0, 1)
    outputs = golden.spikes[network.spiking[-1].name].astype(np.int64)
    step = int(np.prod(network.in_shape))
    yield "/* Written by spiking_lfp: inputs, and what the network says of them. */"
    yield f"#define GOLDEN_SAMPLES {len(inputs)}"
    yield f"#define GOLDEN_STEPS {len(outputs)}"
    yield f"#define GOLDEN_SAMPLE_BYTES {step if constant else step * len(outputs)}"
    yield "/* from one step to the next: images are the same in every step */"
    yield f"#define GOLDEN_STEP_BYTES {0 if constant else step}"
    yield ""
    yield from array_lines("uint8_t", "golden_inputs", inputs)
    yield from array_lines("uint32_t", "golden_classes", outputs.sum(0).reshape(len(inputs), -1).argmax(1))
