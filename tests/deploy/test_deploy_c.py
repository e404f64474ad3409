"""The C runtime against the integer simulator, spike for spike, under sanitizers; and the folder that is exported."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from helpers import integer_networks as make
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.chip import Backend
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.formats.c import LAYER, SOURCES, write_c
from spiking_lfp.deploy.hardware import hardware_folder
from spiking_lfp.deploy.layers import Array, Flatten, MaxPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, IntegerReset

pytestmark = pytest.mark.skipif(compiler() is None, reason=f"{CRuntime().missing()}")

STRICT = CRuntime(
    ("-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)


def assert_equal_everywhere(net: IntegerNetwork, inputs: Array) -> dict[str, Array]:
    found = STRICT.run(net, inputs)
    expected = simulate(net, inputs, record=True).spikes
    assert list(found) == list(expected)
    for name, spikes in expected.items():
        assert found[name].dtype == np.uint8
        np.testing.assert_array_equal(found[name], spikes)
    return expected


@settings(max_examples=10)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.one_of(st.just(0), st.just(4095), st.integers(0, 4095)),
    st.sampled_from([1, 3, 255]), st.integers(1, 9), st.integers(2, 8), st.integers(1, 40),
)  # fmt: skip
def test_dense_networks(
    seed: int, reset: IntegerReset, decay: int, levels: int, steps: int, bits: int, hidden: int
) -> None:
    net = make.mlp((13, hidden, 4), seed, decay, reset, steps, levels, bits)
    inputs = make.inputs_for(net, 3, seed)
    assume(simulate(net, inputs).counters["0"].spikes)
    assert_equal_everywhere(net, inputs)


@settings(max_examples=10)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.sampled_from([1, 2, 4]), st.sampled_from([1, 255]), st.integers(1, 9),
)  # fmt: skip
def test_convolutions(
    seed: int, reset: IntegerReset, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    groups: int, levels: int, share: int,
) -> None:  # fmt: skip
    first = make.conv(
        "0", (4, 5, 6), groups * share, kernel, seed, 300, reset, stride, padding, groups, 0.2,
        0 if levels > 1 else 6, levels,
    )  # fmt: skip
    flat = Flatten("1", first.out_shape)
    try:
        net = make.network([first, flat, make.dense("2", flat.out_shape[0], 3, seed, 300, reset)], 4, levels)
    except ExportError:  # weights that overflow the membrane
        reject()
    inputs = make.inputs_for(net, 2, seed)
    assume(simulate(net, inputs).counters["0"].spikes)
    assert_equal_everywhere(net, inputs)


@pytest.mark.parametrize("levels", [1, 255])
@pytest.mark.parametrize("reset", INTEGER_RESETS)
def test_a_small_lenet_spikes_everywhere(reset: IntegerReset, levels: int) -> None:
    net = make.lenet(reset=reset, levels=levels)
    for spikes in assert_equal_everywhere(net, make.inputs_for(net, 3)).values():
        assert spikes.any()


@pytest.mark.parametrize("reset", INTEGER_RESETS)
@pytest.mark.parametrize("decay", [0, 4095])
def test_the_ends_of_the_decay(reset: IntegerReset, decay: int) -> None:
    net = make.mlp((40, 31, 15, 16, 5), decay=decay, reset=reset)
    for spikes in assert_equal_everywhere(net, make.inputs_for(net, 3)).values():
        assert spikes.any()


@pytest.mark.parametrize("reset", INTEGER_RESETS)
def test_the_leak_truncates_towards_zero(reset: IntegerReset) -> None:
    # membranes of a few units, where rounding decides
    layer = make.dense("0", 6, 20, decay=2048, reset=reset, bits=3, frac_bits=0, gain=0.01)
    net = make.network([layer], 40)
    assert (layer.neuron.theta == 1).all()
    assert assert_equal_everywhere(net, make.inputs_for(net, 3))["0"].any()


@pytest.mark.parametrize("reset", INTEGER_RESETS)
def test_membranes_saturate_at_both_ends(reset: IntegerReset) -> None:
    layer = make.dense("0", 1000, 6, decay=3, reset=reset)
    weight = np.full((6, 1000), 127, np.int8)
    weight[:, 500:] = -127
    weight[3:] *= -1
    theta = np.array([10, 40_000, DEFAULT.largest >> 6] * 2, np.int32)
    net = make.network([make.changed(layer, weight=weight, theta=theta)], 16)
    # the first half of the inputs for some steps, then the other
    inputs = np.zeros((16, 2, 1000), np.uint8)
    for sample, period in enumerate((3, 5)):
        for t in range(16):
            half = t // period % 2
            inputs[t, sample, 500 * half : 500 * half + 500] = 1
    assert simulate(net, inputs).counters["0"].saturated > 10
    spikes = assert_equal_everywhere(net, inputs)["0"]
    assert spikes.any((0, 1)).all()
    assert not spikes.all((0, 1)).any()


@pytest.mark.parametrize("levels", [1, 255])
def test_pools_that_overlap_or_leave_a_rest(levels: int) -> None:
    first = make.conv("0", (2, 9, 8), 5, padding=(1, 1), levels=levels, frac_bits=0 if levels > 1 else 6, gain=1.0)
    layers: list[make.Layer] = [first, MaxPool("1", first.out_shape, 3, 2)]
    layers += [Flatten("2", layers[-1].out_shape)]
    layers += [make.dense("3", layers[-1].out_shape[0], 4)]
    net = make.network(layers, 9, levels)
    for spikes in assert_equal_everywhere(net, make.inputs_for(net, 2, rate=0.1)).values():
        assert spikes.any()
        assert not spikes.all()


def test_a_pool_may_come_first_and_sequences_may_be_longer() -> None:
    pool = MaxPool("0", (3, 6, 7), 2, 2)
    flat = Flatten("1", pool.out_shape)
    net = make.network([pool, flat, make.dense("2", flat.out_shape[0], 4)], 5)
    inputs = (np.random.default_rng(0).random((13, 3, 3, 6, 7)) < 0.1).astype(bool)
    assert assert_equal_everywhere(net, inputs)["2"][5:].any()


def test_the_backend_is_known_and_agrees() -> None:
    found = backend("c")
    net = make.mlp()
    assert isinstance(found, Backend)
    assert found.missing() is None
    assert found.unsupported(net) is None
    lines = verify(net, make.inputs_for(net), ["c"])
    assert [line.layer for line in lines] == ["0", "1"]
    assert all(line.agrees for line in lines)


def test_a_missing_or_failing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make.mlp()
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    assert "C compiler" in str(CRuntime().missing())
    with pytest.raises(ExportError, match="C compiler"):
        CRuntime().run(net, make.inputs_for(net))
    monkeypatch.setenv("CC", "gcc 'unclosed")
    with pytest.raises(
        UsageError, match=r"the variable CC is .*, expected a command such as gcc: No closing quotation"
    ):
        CRuntime().missing()
    monkeypatch.delenv("CC")
    with pytest.raises(ExportError, match=r"failed with 1: .*no-such-flag"):
        CRuntime(("--no-such-flag",)).run(net, make.inputs_for(net))
    with pytest.raises(ExportError, match="inputs are"):
        CRuntime().run(net, make.inputs_for(net)[..., :-1])


def test_no_heap_and_no_floats(tmp_path: Path) -> None:
    write_c(make.lenet(), tmp_path)
    for name in ("slfp.c", "slfp.h", "network.h"):
        source = (tmp_path / name).read_text()
        assert not re.search(r"\b(malloc|calloc|realloc|free|alloca|float|double)\b", source)
        included = re.findall(r"^#include (\S+)", source, re.MULTILINE)
        assert {"<stddef.h>", "<stdint.h>", "<string.h>", '"slfp.h"'}.issuperset(included)


def call_make(folder: Path, *targets: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return subprocess.run(["make", *targets], cwd=folder, capture_output=True, text=True, check=False)


def test_the_exported_folder_builds_and_tests_itself(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    net = make.lenet()
    net = with_golden_run(net, make.inputs_for(net))
    assert net.golden is not None
    files = write_c(net, folder)
    assert files == [folder / name for name in (*SOURCES, "network.h", "golden.h")]
    assert sorted(folder.iterdir()) == sorted(files)
    built = call_make(folder)
    assert built.returncode == 0, built.stderr
    assert (folder / "run").exists()
    for target in ("test", "sanitize"):
        tested = call_make(folder, target)
        assert tested.returncode == 0, tested.stderr
        for name, spikes in net.golden.spikes.items():
            assert f"layer {name}: {spikes.sum()} spikes, 0 differ" in tested.stdout
    short = subprocess.run(["./run"], cwd=folder, input=b"123", capture_output=True, check=False)
    assert short.returncode == 1
    assert b"incomplete" in short.stderr

    flipped = {name: spikes.copy() for name, spikes in net.golden.spikes.items()}
    flipped["2"][-1, -1, -1, -1, -1] ^= 1
    write_c(replace(net, golden=replace(net.golden, spikes=flipped)), folder)
    tested = call_make(folder, "test")
    assert tested.returncode != 0
    assert f"layer 2: {flipped['2'].sum()} spikes, 1 differ" in tested.stdout
    assert "layer 5: " in tested.stdout

    # without a golden run, that of the network before is gone
    assert folder / "golden.h" not in write_c(make.lenet(), folder)
    assert call_make(folder).returncode == 0
    tested = call_make(folder, "test")
    assert tested.returncode != 0
    assert "no golden run" in tested.stderr


def compile_cpp(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    command = ["c++", "-std=c++20", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


OTHER = replace(DEFAULT, name="other", leak="mul12_floor", comparison=">=", overflow="wrap")
KINDS: dict[str, Callable[[], IntegerNetwork]] = {
    "convolutions": make.lenet,
    "a graph": lambda: make.graph(1, 255),
    "recurrent": lambda: make.network([make.recurrent("0", 20, 9), make.dense("1", 9, 4)]),
    "an arithmetic": lambda: make.network([make.dense("0", 20, 4, arithmetic=OTHER)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_programs_and_runtime_are_cpp_too(kind: str, tmp_path: Path) -> None:
    net = KINDS[kind]()
    net = with_golden_run(net, make.inputs_for(net))
    write_c(net, tmp_path)
    for program in ("run", "classify", "selftest"):
        built = compile_cpp(tmp_path, "-x", "c++", f"{program}.c", "slfp.c", "-o", program)
        assert built.returncode == 0, built.stderr
    assert subprocess.run(["./selftest"], cwd=tmp_path, check=False, stdout=subprocess.DEVNULL).returncode == 0
    # or the runtime is C, and the program that includes the network is not
    subprocess.run([*(compiler() or []), "-std=c99", "-c", "slfp.c"], cwd=tmp_path, check=True)
    built = compile_cpp(tmp_path, "-x", "c++", "selftest.c", "-x", "none", "slfp.o", "-o", "selftest")
    assert built.returncode == 0, built.stderr
    assert subprocess.run(["./selftest"], cwd=tmp_path, check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_fields_of_layers_are_written_in_the_order_of_the_header() -> None:
    header = (hardware_folder("runtime_c") / "slfp.h").read_text()
    structure = re.search(r"typedef struct \{([^}]*)\} slfp_layer;", header)
    assert structure is not None
    declared = re.sub(r"/\*.*?\*/|\[\d\]", "", structure[1], flags=re.DOTALL)
    names = [name for line in declared.split(";") for name in re.findall(r"(\w+)\s*(?:,|$)", line.strip())]
    assert names == ["name", *LAYER]


@pytest.mark.parametrize("name", ["network.h", "golden.h"])
def test_a_header_may_be_included_again_but_not_that_of_another_network(name: str, tmp_path: Path) -> None:
    nets = [make.mlp((20, 9, 3), seed) for seed in (0, 1)]
    for number, net in enumerate(nets):
        write_c(with_golden_run(net, make.inputs_for(net, 1, number)), tmp_path / str(number))
    shutil.copytree(tmp_path / "0", tmp_path / "same")

    def compile_both(first: str, second: str) -> "subprocess.CompletedProcess[str]":
        source = f'#include "{first}/{name}"\n#include "{second}/{name}"\nint main(void) {{ return 0; }}\n'
        (tmp_path / "both.c").write_text(source)
        command = [*(compiler() or []), "-std=c99", "-fsyntax-only", "both.c"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert compile_both("0", "0").returncode == 0
    assert compile_both("0", "same").returncode == 0
    refused = compile_both("0", "1")
    assert refused.returncode != 0
    assert refused.stderr.count(" error: ") == 1
    assert f"{name} of another network was included before: include each in a file of its own" in refused.stderr


@pytest.mark.parametrize("program", ["run", "classify"])
def test_steps_are_a_whole_number_greater_than_0(program: str, tmp_path: Path) -> None:
    net = make.mlp((20, 9, 3), levels=255)
    write_c(net, tmp_path)
    assert call_make(tmp_path).returncode == 0
    inputs = make.inputs_for(net, 1).tobytes()

    def call(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
        command = [f"./{program}", *arguments]
        return subprocess.run(command, cwd=tmp_path, input=inputs, capture_output=True, check=False, timeout=60)

    for steps in (
        "-1",
        " -1",
        "3x",
        "",
        "0",
        "x",
        "1e3",
        "0x10",
        "4294967296",
        str(2**64),
        str(2**64 + 1),
        str(1 - 2**64),
    ):
        done = call(steps)
        expected = "expected a whole number from 1 to 4294967295, or none for the network's own"
        assert done.stderr.decode() == f"{program}: STEPS is '{steps}', {expected}\n"
        assert (done.returncode, done.stdout) == (1, b"")
    assert b"there are 2 arguments, expected STEPS or none" in call("3", "4").stderr
    found = [call(*arguments) for arguments in ((), (str(net.steps),), (f" +{net.steps}",))]
    assert all((done.returncode, done.stderr) == (0, b"") for done in found)
    assert len({done.stdout for done in found}) == 1
    assert found[0].stdout != call(str(net.steps - 1)).stdout


def test_spike_inputs_and_strange_names_in_a_golden_run(tmp_path: Path) -> None:
    net = make.mlp((20, 9, 3))
    name = 'a "quoted" \\ ??/ */ % line\né'
    net = replace(net, layers=(replace(net.spiking[0], name=name), net.layers[1]), class_names=('"', "\\", "\1"))
    inputs = make.inputs_for(net)
    write_c(with_golden_run(net, inputs), tmp_path)
    tested = call_make(tmp_path, "test")
    assert tested.returncode == 0, tested.stderr
    spikes = simulate(net, inputs, record=True).spikes[name].sum()
    assert f"layer {name}: {spikes} spikes, 0 differ" in tested.stdout


def test_a_silent_golden_run_proves_nothing(tmp_path: Path) -> None:
    net = make.mlp((20, 3))
    silent = replace(net.spiking[0], bias=np.zeros(3, np.int32))
    net = with_golden_run(replace(net, layers=(silent,)), np.zeros((net.steps, 2, 20), np.uint8))
    write_c(net, tmp_path)
    tested = call_make(tmp_path, "test")
    assert tested.returncode != 0
    assert "no spikes to compare" in tested.stdout


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    net = make.mlp()
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"cannot create .*file: File exists; choose another folder"):
        write_c(net, tmp_path / "file")
    golden = with_golden_run(net, make.inputs_for(net)).golden
    assert golden is not None
    other = replace(net, golden=replace(golden, spikes={"0": golden.spikes["0"]}))
    with pytest.raises(ExportError, match="layer 1"):
        write_c(other, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(ExportError, match="decay"):
        write_c(replace(net, layers=(net.layers[0], make.changed(net.spiking[1], decay=4096))), tmp_path / "folder")


def test_more_steps_than_the_runtime_counts_are_refused(tmp_path: Path) -> None:
    net = make.mlp()
    write_c(replace(net, steps=2**32 - 1), tmp_path / "most")
    with pytest.raises(ExportError, match=r"^4294967296 steps, the C runtime counts to 4294967295$"):
        write_c(replace(net, steps=2**32), tmp_path / "more")
    assert not (tmp_path / "more").exists()
