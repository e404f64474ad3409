"""Several processes, started by torchrun or its functions: they train as one would, and end together."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from filelock import FileLock

from helpers.forks import Forks
from helpers.processes import ENVIRONMENT
from helpers.several_processes import CONFIGS, gradients, updates
from helpers.small_runs import Sigterm, outcome, small_config
from spiking_lfp.errors import RunError, RunStopped, UsageError
from spiking_lfp.training import (
    distributed,
    evaluate,
    load_run,
    loop,
    processes,
    read_metrics,
    resume,
    samples_for,
    train,
)
from spiking_lfp.training.checkpoint import CHECKPOINT, Checkpoint
from spiking_lfp.training.files import CONFIG, METRICS

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch is built without torch.distributed")


@dataclass(frozen=True)
class Ended:
    """How torchrun ended, and where what its processes said is kept."""

    code: int
    said: Path

    def errors(self, attempt: int) -> list[str]:
        """Return what each process wrote to stderr, by rank."""
        return [path.read_text() for path in sorted(self.said.glob(f"*/attempt_{attempt}/*/stderr.log"))]


LAUNCH = """
import sys, warnings
from helpers.several_processes import launch, work
warnings.simplefilter("ignore")  # of forks of a process that has threads
launch(sys.argv[3:], work, *sys.argv[1:3])
"""
LAUNCH_TWICE = """
import json, os, sys, warnings
from helpers.several_processes import command, launch
warnings.simplefilter("ignore")
agents = []
for number in range(2):
    agents.append(os.fork())
    if agents[-1] == 0:
        launch([*json.loads(sys.argv[1]), f"--log-dir={sys.argv[2]} {number}"], command, *sys.argv[3:])
        os._exit(0)
print([os.waitpid(agent, 0)[1] for agent in agents])
"""


def torchrun(forks: Forks, what: str, root: Path, *options: str) -> Ended:
    said = root / "said"
    options = ("--nproc-per-node=2", "--redirects=3", f"--log-dir={said}", "--standalone", *options)
    return Ended(forks.run(LAUNCH, what, root, *options).returncode, said)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """What two processes made of all configs."""
    root = tmp_path_factory.mktemp("trained")
    done = torchrun(forks, "train", root)
    assert (done.code, done.errors(0)) == (0, ["", ""])
    return root


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_train_as_one(name: str, trained: Path, tmp_path: Path) -> None:
    alone = outcome(train(CONFIGS[name], tmp_path / "alone"))
    together = outcome(trained / name)
    same(load_run(trained / name).network, load_run(tmp_path / "alone").network)
    assert alone["progress"]["epoch"] == together["progress"]["epoch"]
    assert len(alone["metrics"]) == len(together["metrics"]) > 2
    for one, other in zip(alone["metrics"], together["metrics"], strict=True):
        assert flat(other) == pytest.approx(flat(one), abs=1e-6)


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def flat(line: dict[str, Any]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            numbers |= {f"{key}/{inner}": each for inner, each in flat(value).items()}
        elif isinstance(value, int | float):
            numbers[key] = value
    return numbers


def test_updates_of_two_processes_equal_those_of_one_in_float64(trained: Path) -> None:
    together = torch.load(trained / "found.pt")["updates"]
    starts = None
    for ours, theirs in zip(updates(parallel=False), together, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-12)
        assert starts is None or not torch.equal(starts, ours)
        starts = ours


def test_ones_own_loop_sums_updates_and_the_wrapper_of_torch_takes_their_mean(trained: Path) -> None:
    found, alone = torch.load(trained / "found.pt"), gradients(wrapped=False)
    for summed, mean, whole in zip(found["summed"], found["wrapped"], alone, strict=True):
        torch.testing.assert_close(summed, whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(2 * mean, whole, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """A run that was killed twice, and the state it was in after the first time."""
    root = tmp_path_factory.mktemp("killed")
    done = torchrun(forks, "die", root, "--max-restarts=2")
    assert (done.code, [len(done.errors(attempt)) for attempt in range(3)]) == (0, [2, 2, 2])
    return root


def test_a_run_whose_processes_are_killed_ends_like_one_in_one_go(killed: Path, trained: Path) -> None:
    assert outcome(killed / "killed") == outcome(trained / "whole")


def test_a_run_goes_on_with_fewer_processes(killed: Path, trained: Path) -> None:
    progress = Checkpoint.load(killed / "for one process").progress
    assert (progress.epoch, progress.batch) == (0, 4)
    same(load_run(resume(killed / "for one process")).network, load_run(trained / "whole").network)


def running(folder: Path) -> list[int]:
    """Return the processes that have this folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_torchrun_and_the_run_goes_on(how: signal.Signals, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "--redirects=3",
        f"--log-dir={tmp_path / 'said'}", "-m", "helpers.several_processes", "long", str(tmp_path),
    ]  # fmt: skip
    launcher = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    metrics, waited = tmp_path / "long" / METRICS, 0.0
    while not (metrics.exists() and metrics.stat().st_size > 0):
        time.sleep(0.1)
        waited += 0.1
        assert waited < 100, (tmp_path / "said").glob("*/*/*/stderr.log")
    launcher.send_signal(how)
    launcher.wait(timeout=60)
    for _ in range(200):
        if not running(tmp_path):
            break
        time.sleep(0.1)
    assert running(tmp_path) == []
    with FileLock(tmp_path / "long" / ".lock", timeout=20):
        pass  # a process that is ending has no command line any more, and may still hold the lock
    before = Checkpoint.load(tmp_path / "long").progress
    with pytest.raises(RunStopped):
        resume(tmp_path / "long", callbacks=(Sigterm(before.epoch + 2, 1),))
    if how == signal.SIGTERM:
        said = "".join(path.read_text() for path in (tmp_path / "said").glob("*/attempt_0/*/stderr.log"))
        assert "stopped by SIGTERM; continue with: spiking-lfp train --resume" in said
        assert before.batch + before.epoch > 0


def test_errors_of_all_processes_or_of_one_are_one_sentence_and_end_all(tmp_path: Path, forks: Forks) -> None:
    done = torchrun(forks, "fail", tmp_path, "--max-restarts=1")
    assert done.code == 1
    of_all, of_one = done.errors(0), done.errors(1)
    assert sorted(of_all) == ["", "error: layer 1: its membrane holds NaN or infinity; check inputs and weights\n"]
    full = f"error: cannot write {tmp_path / 'failed' / CHECKPOINT}: No space left on device; free some space or "
    assert of_one[0].startswith(full)
    assert (of_one[0].count("\n"), of_one[1]) == (1, "")


def test_the_command_runs_on_two_machines_that_find_each_other(tmp_path: Path, forks: Forks) -> None:
    """Two agents of torchrun on this machine, a process each."""
    endpoint = f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--redirects=3", "--rdzv-backend=c10d", endpoint]
    changes = ("hidden=20", "steps=3", "batch_size=250", "lr=1e-2", "threshold=0.2", "epochs=1")
    words = ("train", "mnist-mlp", *(f"--set={each}" for each in changes), "--out", tmp_path / "run")
    machines = forks.run(LAUNCH_TWICE, json.dumps(meeting), tmp_path / "said", *words)
    assert (machines.returncode, machines.stdout) == (0, "[0, 0]\n"), machines.stderr
    said = sorted(path.read_text() for path in tmp_path.glob("said */*/attempt_0/*/std*.log"))
    assert said[:3] == ["", "", ""]
    files = ["checkpoint.pt", "config.toml", "learning_curve.png", "metrics.jsonl", "spike_raster.png"]
    assert sorted(path.name for path in (tmp_path / "run").glob("[!.]*")) == files
    loaded = load_run(tmp_path / "run")
    network, config = loaded.network, loaded.config
    meter = evaluate(network, samples_for(config).test)
    assert f"test accuracy {meter.accuracy:.2%} after epoch 1\n" in said[3]
    assert read_metrics(tmp_path / "run")[-1]["test"]["accuracy"] == meter.accuracy > 0.3


@pytest.fixture
def started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun starts a single process."""
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)


def test_a_single_process_of_torchrun_goes_on_with_its_run(
    started_by_torchrun: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(small_config(), tmp_path / "whole")
    step, done = loop.training_step, []

    def dies(*arguments: Any) -> None:
        done.append(1)
        if len(done) == 5:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(loop, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(), tmp_path / "run")
    train(small_config(), tmp_path / "run")
    assert len(done) == 8  # the fifth, that died, once more
    assert outcome(tmp_path / "run") == outcome(whole)
    assert not dist.is_initialized()


def test_a_run_of_other_settings_is_not_gone_on_with(started_by_torchrun: None, run: Callable[..., Path]) -> None:
    folder = run()
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(RunError, match=f"^{folder} exists already: "):
        run(lr=0.5)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


def test_without_torchrun_a_folder_is_never_used_again(run: Callable[..., Path]) -> None:
    folder = run()
    with pytest.raises(RunError, match=f"^{folder} exists already: "):
        run()


@pytest.mark.parametrize("left", [[CONFIG, ".checkpoint.pt.tmp"], [".config.toml.tmp"], [CONFIG], []])
def test_a_run_that_died_before_its_first_checkpoint_begins_anew(
    left: list[str], started_by_torchrun: None, tmp_path: Path, run: Callable[..., Path]
) -> None:
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("steps = ")
    assert outcome(run()) == outcome(run("fresh"))
    assert sorted(each.name for each in (tmp_path / "run").glob("[!.]*")) == [CHECKPOINT, CONFIG, METRICS]


@pytest.mark.parametrize("other", ["notes.txt", METRICS])
def test_what_is_not_of_a_run_stays(
    other: str, started_by_torchrun: None, tmp_path: Path, run: Callable[..., Path]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (CONFIG, other):
        (folder / name).write_text("mine")
    with pytest.raises(RunError, match=f"^{folder} exists already: "):
        run()
    assert sorted(each.name for each in folder.iterdir()) == sorted([CONFIG, other])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("images", [1, 2, 7, 10])
def test_shares_are_disjoint_and_even(size: int, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "size", lambda: size)
    shares = []
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(distributed.shard(torch.arange(images)))
    assert torch.equal(torch.cat(shares), torch.arange(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(shares[0])  # the process that writes always has something to tell


@pytest.mark.parametrize(
    ("name", "gpus", "expected"),
    [
        ("auto", 2, "cuda:1"),
        ("cuda", 2, "cuda:1"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "2 processes need a GPU each, this machine has 1: start fewer, or give --device cpu"),
        ("cuda:0", 2, "2 processes need a GPU each: give --device cuda instead of cuda:0"),
    ],
)
def test_each_process_takes_a_gpu_of_its_own(
    name: str, gpus: int, expected: str, started_by_torchrun: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "pick_device", lambda name: torch.device("cpu" if name == "cpu" else "cuda:0"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if " " in expected:
        with pytest.raises(UsageError) as caught, processes(name):
            pass
        assert str(caught.value) == expected
    else:
        with processes(name) as device:
            assert device == torch.device(expected)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"), True),
        (dist.DistBackendError("NCCL error: remote process exited"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("gloo"), False),
    ],
)
def test_lost_connections_are_told_from_other_errors(error: Exception, lost: bool) -> None:
    assert distributed._is_lost_connection(error) == lost
