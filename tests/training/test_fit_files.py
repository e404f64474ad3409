"""Networks of a function in a file, and scripts that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.own_networks import PAIR, SMALL, weights
from helpers.small_runs import outcome
from spiking_lfp.errors import UsageError
from spiking_lfp.training import fit, load_run

NET = """
from torch import nn
import spiking_lfp as lfp
from beside import THRESHOLD

def build(in_shape, classes, width=8):
    (inputs,) = in_shape
    layers = [lfp.LIF(nn.Linear(inputs, width), threshold=THRESHOLD), lfp.LIF(nn.Linear(width, classes), threshold=0.2)]
    return nn.Sequential(*layers)

def broken():
    return 1 / 0

number = 3
def wrong():
    return number
"""


def test_a_network_is_made_by_a_function_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("THRESHOLD = 0.2\n")
    monkeypatch.chdir(tmp_path)
    found = fit("net.py:build(width=5)", PAIR, PAIR, out="run", **SMALL)
    assert found.network[0].synapse.out_features == 5  # type: ignore[index, union-attr]
    monkeypatch.chdir("/")
    again = load_run(tmp_path / "run")
    assert weights(again.network) == weights(found.network)
    for source, sentence in {
        f"{tmp_path}/net.py:broken": r"ZeroDivisionError: division by zero \(net.py, line",
        f"{tmp_path}/net.py:wrong": "returned int, expected a torch.nn.Module",
        f"{tmp_path}/net.py:missing": "has no function or class missing",
        f"{tmp_path}/none.py:build": "there is no file",
        f"{tmp_path}/net.py:build(widt=5)": "unexpected keyword argument 'widt'",
        f"{tmp_path}/net.py:build(width=open('x'))": "must be literals",
        "no_such_module:build": "No module named 'no_such_module'",
    }.items():
        with pytest.raises(UsageError, match=sentence):
            fit(source, PAIR, PAIR, out=tmp_path / "other", **SMALL)
    assert not (tmp_path / "other").exists()


COUNTED = """
from torch import nn
import spiking_lfp as lfp

with open("executions", "a") as file:
    file.write("x")
shared = nn.Linear(6, 8)

def build(in_shape, classes, hidden):
    return nn.Sequential(lfp.LIF(shared, threshold=0.2), lfp.LIF(nn.Linear(8, classes), threshold=0.2))
"""


def test_the_file_of_a_network_is_executed_once_for_each_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(COUNTED)

    def executions() -> int:
        return len(Path("executions").read_text())

    plain = fit("net.py:build", PAIR, PAIR, **SMALL)
    assert executions() == 2  # for the network that is trained, and for that of the run which is returned
    named = fit("net.py:build", PAIR, PAIR, hidden=(8,), **SMALL)
    assert executions() == 4
    # what the file makes at random is the same whether it was asked for its arguments before or not, and not shared
    assert weights(named.network) == weights(plain.network)
    assert named.network[0].synapse is not plain.network[0].synapse  # type: ignore[index, union-attr]
    assert weights(fit("net.py:build", PAIR, PAIR, seed=1, **SMALL).network) != weights(plain.network)
    # another content is another file
    Path("net.py").write_text(COUNTED.replace(", hidden", ""))
    with pytest.raises(UsageError, match="hidden changes nothing of network"):
        fit("net.py:build", PAIR, PAIR, hidden=(8,), **SMALL)


SCRIPT = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import spiking_lfp as lfp

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = lfp.LIF(nn.Linear(6, 8), threshold=0.2), lfp.LIF(nn.Linear(8, 2), threshold=0.2)

    def forward(self, x):
        return self.b(self.a(x))

torch.manual_seed(0)
values = torch.rand(60, 6)
labels = (values[:, 0] > values[:, 1]).long()
train = DataLoader(TensorDataset(values, labels), 5, shuffle=True)
run = lfp.fit(Net(), train, DataLoader(TensorDataset(values, labels), 60), out=sys.argv[1], resume=True,
              steps=4, epochs=3, checkpoint_every=2, progress=False)
assert torch.equal(lfp.load(sys.argv[1]).a.synapse.weight, run.network.a.synapse.weight)
"""


def test_a_script_that_is_killed_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment)
    process = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment)
    try:
        while not (tmp_path / "killed" / "checkpoint.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, env=environment)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
