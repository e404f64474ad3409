"""Virtual environments for peers whose dependencies we do not want among ours, made once and kept in `.bench/`."""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent / "constraints.txt"

REQUIREMENTS = {
    # lfprop 1.0.0 breaks with newer snntorch and transformers
    "lfprop": ["lfprop==1.0.0", "snntorch<1", "transformers<5", "torch", "torchvision"],
    # brings a dozen packages that nothing else here needs
    "spikingjelly": ["spikingjelly==2.0.0", "torch", "torchvision"],
}


def python_of(method: str) -> str:
    """Return the Python that runs `method`: this one, or that of the method's own environment, made if missing."""
    if method not in REQUIREMENTS:
        return sys.executable
    folder = HERE / ".bench" / method
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making an environment for {method} in {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        # the same torch for all, so that the comparison is of methods
        torch = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith(("torch==", "torchvision=="))]
        subprocess.run([*install, *torch], check=True)
        subprocess.run([*install, *REQUIREMENTS[method], *torch], check=True)
        (folder / "complete").touch()
    return str(python)
