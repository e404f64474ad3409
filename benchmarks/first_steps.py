"""Time a stranger's way: from a bare clone to a first accuracy, to data of one's own, to a C program with new files.

    python benchmarks/first_steps.py --folder new --output docs/experiments/first-steps.jsonl

Runs the commands of README and `docs/own_data.md`, in a new environment, one after the other, and adds a line for each
stage. The data of one's own are digits of the package as PNG files, a folder for each class, 200 files a class.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from environments import HERE
from records import add

PHOTOS = """
from pathlib import Path
from PIL import Image
import spiking_lfp as lfp
digits = lfp.load_dataset("mnist-subset")
for folder, images, labels in (("photos", digits.train_images, digits.train_labels),
                               ("new", digits.test_images[:20], digits.test_labels[:20])):
    counts = {}
    for image, label in zip(images, labels.tolist()):
        counts[label] = counts.get(label, 0) + 1
        if counts[label] <= 200:
            path = Path(folder, f"class{label}" if folder == "photos" else "", f"{label}-{counts[label]}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)
"""
# stage: commands of the pages, and what a stranger brings, which is not timed
STAGES: dict[str, list[str]] = {
    "a clone": ["git clone --quiet REPOSITORY spiking_lfp"],
    "an environment": ["python3 -m venv env"],
    "PyTorch": ["pip install --quiet torch torchvision INDEX"],
    "the package": ["pip install --quiet ./spiking_lfp"],
    "a first accuracy": ["spiking-lfp train mnist-mlp --epochs 3 --seed 1"],
    "a network of one's own data": ["spiking-lfp train mnist-mlp --data photos/ --epochs 5 --out runs/photos"],
    "its answers to new files": ["spiking-lfp predict runs/photos new/"],
    "integers and C": ["spiking-lfp export runs/photos --to artifact c -o out", "make -C out/c classify"],
    "a C program's answers to new files": [
        "spiking-lfp convert new/ --for out/net.h5 -o samples.bin", "out/c/classify < samples.bin",
    ],
}  # fmt: skip
INDEX = "--index-url https://download.pytorch.org/whl/cpu"


def main(
    folder: Annotated[Path, typer.Option(help="Made for this, and must not exist.")],
    output: Annotated[Path, typer.Option(help="File of the results.")] = HERE / "results" / "first-steps.jsonl",
    repository: Annotated[str, typer.Option(help="What is cloned.")] = str(HERE.parent),
    packages: Annotated[str, typer.Option(help="Where packages come from, for the page.")] = "from the network",
    index: Annotated[str, typer.Option(help="Where pip finds PyTorch, as options.")] = INDEX,
) -> None:
    """Go the way, and time it."""
    folder.mkdir(parents=True)
    # as from a new shell: nothing of this environment
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SPIKING_LFP"))}
    environment |= {"PATH": f"{folder / 'env' / 'bin'}:{environment['PATH']}", "HOME": str(folder / "home")}
    (folder / "home").mkdir()
    if shutil.which("make") is None:
        sys.exit("error: make is not installed")
    total = 0.0
    for stage, commands in STAGES.items():
        if stage == "a network of one's own data":
            subprocess.run([folder / "env" / "bin" / "python", "-c", PHOTOS], cwd=folder, env=environment, check=True)
        started = time.perf_counter()
        for command in commands:
            words = command.replace("REPOSITORY", repository).replace("INDEX", index)
            print(f"$ {words}", flush=True)
            subprocess.run(["bash", "-c", words], cwd=folder, env=environment, check=True)
        seconds = time.perf_counter() - started
        total += seconds
        print(f"{stage}: {seconds:.1f} s, {total:.1f} s since the start", flush=True)
        line = {"stage": stage, "commands": commands, "seconds": round(seconds, 1), "packages": packages}
        add(output, line, os.cpu_count() or 1)


if __name__ == "__main__":
    typer.run(main)
