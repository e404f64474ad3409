"""Train the networks in the package, export them, measure them on all test samples, and write them and their cards.

    python benchmarks/pretrained.py                      # all of them
    python benchmarks/pretrained.py mnist-mlp-int8

Started again it goes on: runs are resumed, and those that are finished are only exported and measured. Settings of the
presets and of the digits were chosen on training samples held out, of the digits a sixth (`--set validation=0.16666`).
"""

import hashlib
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tomli_w
import torch
import typer
from environments import HERE

from spiking_lfp import __version__
from spiking_lfp.data import dataset_status, event_set_status
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.costs import costs, footprint
from spiking_lfp.deploy.export import network_inputs
from spiking_lfp.deploy.layers import Conv, MaxPool, Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.pretrained import FOLDER, Card, LicencePart, markdown
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.files import RESULTS
from spiking_lfp.training import load_run, preset_config, read_config, samples_for

PAGE = HERE.parent / "docs" / "networks.md"


class Recipe(NamedTuple):
    """How a network is made: a line about it, the settings of its training, and options of its export."""

    title: str
    preset: str
    settings: dict[str, Any]
    export: tuple[str, ...] = ()


_MLP = {"data": "mnist", "hidden": "128", "steps": 10, "seed": 1}
# learns as well without these three, but then 8 bits of its largest weights need more than 24 bits of membrane
_EVEN = {"gain": 3, "reward": "spike-rate", "lr": 4e-3, "epochs": 6}
RECIPES = {
    "mnist-mlp-int8": Recipe("Handwritten digits, one hidden layer", "mnist-mlp", _MLP | _EVEN, ("--bits", "8")),
    "mnist-mlp-ternary": Recipe(
        "Handwritten digits, weights -1, 0 and 1, trained in integers",
        "mnist-mlp",
        _MLP | {"quantize": 2, "epochs": 10},
    ),
    "braille-mlp-int8": Recipe(
        "Braille letters, felt by a fingertip, as spikes", "braille", {"hidden": "64", "seed": 1}, ("--bits", "8")
    ),
    "nmnist-conv-int8": Recipe(
        "Handwritten digits seen by a moving event camera", "nmnist-conv", {"seed": 1}, ("--bits", "8")
    ),
}

_PASSED_ON = "the file holds test samples, its golden run, and weights learned from the data: passed on as the data are"
_SHARE_ALIKE = "https://creativecommons.org/licenses/by-sa/"
LICENCES = {
    "mnist": LicencePart(name="CC BY-SA 3.0", url=f"{_SHARE_ALIKE}3.0/", reason=_PASSED_ON),
    "n-mnist": LicencePart(name="CC BY-SA 4.0", url=f"{_SHARE_ALIKE}4.0/", reason=_PASSED_ON),
    "braille": LicencePart(name="CC BY 4.0", url="https://creativecommons.org/licenses/by/4.0/", reason=_PASSED_ON),
}


def commands(name: str) -> tuple[list[str], list[str]]:
    """Return the words of the commands that train and export a network."""
    recipe, run = RECIPES[name], f"runs/{name}"
    changes = [f"--set={key}={value}" for key, value in recipe.settings.items()]
    return ["train", recipe.preset, *changes, "--out", run], ["export", run, *recipe.export, "--out", f"out/{name}"]


def make(name: str, folder: Path, data_root: Path | None) -> None:
    """Train, export and measure a network, and write it and its card."""
    recipe, (train, export) = RECIPES[name], commands(name)
    run_folder, root = folder / "runs" / name, [] if data_root is None else ["--data-root", str(data_root)]
    wanted = preset_config(recipe.preset, recipe.settings)
    if run_folder.exists():
        if read_config(run_folder) != wanted:
            raise UsageError(f"{run_folder} is a run with other settings than {name} has now: remove it")
        _call(["train", "--resume", f"runs/{name}", *root], folder)
    else:
        _call([*train, *root], folder)
    _call([*export, *root], folder)
    run = load_run(run_folder, "cpu")
    network = load_network(folder / "out" / name / "net.h5")
    if network.encoder == "spikes":  # one of them is as large as the weights
        assert network.golden is not None
        network = with_golden_run(network, network.golden.inputs[:, :1])
        save_network(network, folder / "out" / name / "net.h5")
    content = (folder / "out" / name / "net.h5").read_bytes()
    samples = samples_for(run.config, data_root)
    inputs, labels, _ = network_inputs(samples.test, len(samples.test))
    outcome = simulate(network, inputs.numpy())
    total = costs(network, outcome).total
    status = {each.name: each for each in (*dataset_status(data_root), *event_set_status(data_root))}[run.config.data]
    part = "" if status.incomplete_sizes is None else f"; a part, of {status.train_size:,} + {status.test_size:,}"
    results: dict[str, Any] = {
        "accuracy": float((outcome.predictions == labels.numpy()).mean()),
        "spikes": total.spikes,
        "synops": total.synops,
        "macs": total.macs,
        "energy_45nm": total.energy_45nm / 1000,
        "energy_loihi": (total.energy_loihi or 0) / 1000,
    }
    if not run.config.quantize:
        results["real_accuracy"] = run.history[-1]["test"]["accuracy"]
    made = Card.model_validate(
        {
            "title": recipe.title,
            "sha256": hashlib.sha256(content).hexdigest(),
            "data": {
                "name": run.config.data,
                "source": status.note + part,
                "training_samples": len(samples.train),
                "test_samples": len(samples.test),
            },
            "network": {
                "layers": layers(network),
                "inputs": inputs_of(network),
                "steps": network.steps,
                "bits": max(layer.bits for layer in network.spiking),
                "weights": sum(layer.weight.size for layer in network.spiking),
                "memory": sum(footprint(layer).total for layer in network.spiking),
            },
            "training": {
                "version": __version__,
                "commands": [" ".join(["spiking-lfp", *words]) for words in (train, export)],
                "seconds": round(sum(line["seconds"] for line in run.history), 1),
                "threads": torch.get_num_threads(),
            },
            "results": results,
            "licence": LICENCES[run.config.data],
        }
    )
    RESULTS.write(FOLDER / f"{name}.h5", content)
    RESULTS.write(FOLDER / f"{name}.toml", tomli_w.dumps(made.model_dump(exclude_none=True)).encode())


def layers(network: IntegerNetwork) -> str:
    """Return the layers in short, as 784-128-10."""
    first, words = network.layers[0], []
    for layer in network.layers:
        if isinstance(layer, Conv):
            words.append(f"{layer.outputs}C{layer.kernel[0]}")
        elif isinstance(layer, MaxPool):
            words.append(f"MP{layer.kernel}")
        elif isinstance(layer, Spiking):
            words.append(str(layer.outputs))
    of_images = any(isinstance(layer, Conv) for layer in network.layers)
    return "-".join(["x".join(map(str, first.in_shape)) if of_images else str(prod(first.in_shape)), *words])


def inputs_of(network: IntegerNetwork) -> str:
    """Return what goes in, in words."""
    shape = " x ".join(map(str, network.in_shape))
    return f"{shape} spikes" if network.encoder == "spikes" else f"{shape} of 0 to {network.levels}, in every step"


def _call(words: list[str], folder: Path) -> None:
    code = subprocess.run([sys.executable, "-m", "spiking_lfp", *words], cwd=folder, check=False).returncode
    if code:  # the command has said why
        sys.exit(code)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Networks, by default all.")] = None,
    folder: Annotated[Path, typer.Option(help="Where runs and exports are kept.")] = HERE / "results" / "pretrained",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
) -> None:
    """Make networks and their cards, and the page of all cards."""
    for name in names or RECIPES:
        if name not in RECIPES:
            raise unknown_name("network", name, RECIPES)
    folder.mkdir(parents=True, exist_ok=True)
    FOLDER.mkdir(exist_ok=True)
    for name in names or RECIPES:
        make(name, folder.resolve(), data_root)
    RESULTS.write(PAGE, markdown().encode())


if __name__ == "__main__":
    typer.run(main)
