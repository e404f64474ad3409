"""A process that loads packages once, and forks one for each piece of code: a fresh start without its seconds.

`python forks.py LOAD` executes LOAD, reads lines of JSON, what `Forks.run` is given, and answers each with how its
process ended. Any Python can be started so, whatever is installed for it.
"""

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from subprocess import PIPE
from typing import NoReturn

# torch loads much of itself only when it trains, and so do kernels
TRAINING = """
import torch
import spiking_lfp.training
from spiking_lfp import LIF, constant, propagate, spike_count_reward

layer = LIF(torch.nn.Linear(9, 3))
spikes = layer(constant(torch.ones(2, 9), 3))
propagate(spikes, spike_count_reward(spikes, torch.tensor([0, 1])))
torch.optim.Adam(layer.parameters()).step()
"""


class Forks:
    """The process, seen from the tests.

    Args:
        command: the Python, and its options.
        load: code that loads packages.
        environment: of the process.
    """

    def __init__(self, command: list[str], load: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen([*command, __file__, load], stdin=PIPE, stdout=PIPE, env=environment, text=True)

    def run(
        self, code: str, *words: object, folder: Path | None = None, path: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run code in a process of its own, as `python -c CODE WORDS`.

        Args:
            code: the code.
            words: of the command line.
            folder: to work in.
            path: where to look for packages first.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        task = {"code": code, "words": list(map(str, words)), "folder": str(folder or Path.cwd())}
        print(json.dumps({**task, "path": path and str(path)}), file=self.process.stdin, flush=True)
        ended = json.loads(self.process.stdout.readline())
        return subprocess.CompletedProcess(["-c", *words], ended["code"], ended["stdout"], ended["stderr"])

    def end(self) -> None:
        """End the process."""
        self.process.communicate()


def answer(code: str, words: list[str], folder: str, path: str | None) -> dict[str, object]:
    """Fork, return how the fork ended; the fork itself never returns."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            for stream, file in enumerate((stdout, stderr), 1):
                os.dup2(file.fileno(), stream)
            os.chdir(folder)
            sys.argv[:] = ["-c", *words]
            sys.path[:0] = [path] if path else []
            signal.alarm(600)  # nothing is waited for for ever
            execute(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stdout.seek(0)
        stderr.seek(0)
        return {"code": ended, "stdout": stdout.read().decode(), "stderr": stderr.read().decode()}


def execute(code: str) -> NoReturn:
    """Run code and end this process, but for taking apart all that is loaded: that takes a second or two."""
    status: object = None
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    if isinstance(status, str):
        print(status, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    exec(sys.argv.pop(), {})
    gc.freeze()  # a collection in a fork would write to, and so copy, what is shared
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
