"""The GPU kernels against the reference: on a GPU where there is one, else run by Triton's interpreter."""

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.forks import Forks
from helpers.oracles import Recursions, one_q
from spiking_lfp import (
    LIF,
    AdaptiveClip,
    Epsilon,
    Flatten,
    MaxPool2d,
    constant,
    propagate,
    spike_count_reward,
)
from spiking_lfp.kernels import registry
from spiking_lfp.neurons import RESETS, LIFNeuron, Reset, Trace

pytest.importorskip("triton")
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are defined

from spiking_lfp.kernels.cuda import lif as cuda_kernels  # noqa: E402

lif, cuda = Recursions(), Recursions(cuda_kernels)
SEGMENT = cuda_kernels.SEGMENT

needs_gpu = pytest.mark.skipif(not GPU, reason="no CUDA device")


@pytest.fixture(autouse=True, scope="module")
def nearest() -> Iterator[None]:
    """Let the interpreter round to bfloat16 as GPUs do, to the nearest; it cuts off."""
    if GPU:
        yield
        return
    from triton.runtime import interpreter

    cut = interpreter._convert_float

    def convert(values: Any, source: Any, target: Any, mode: Any) -> Any:
        if (str(source), str(target)) == ("fp32", "bf16"):
            return torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
        return cut(values, source, target, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_convert_float", convert)
        yield


def on_device(value: Any) -> Any:
    if isinstance(value, LIFNeuron):
        return LIFNeuron(value.beta.to(DEVICE), value.threshold.to(DEVICE), value.reset)
    return value.to(DEVICE, copy=True) if isinstance(value, Tensor) else value


def forward(current: Tensor, steps: int, neuron: LIFNeuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    return cuda.forward(*map(on_device, (current, steps, neuron, initial)))


def assert_kernels_agree(
    current: Tensor,
    steps: int,
    neuron: LIFNeuron,
    initial: Tensor | None,
    on_final: Tensor | None,
    summed: bool,
    epsilon: float = 1e-6,
) -> None:
    """Forward to the bit, feedback to the bit too: the same operations in the same order."""
    spikes, final, trace = lif.forward(current.clone(), steps, neuron, initial)
    found_spikes, found_final, found_trace = forward(current, steps, neuron, initial)
    assert torch.equal(found_spikes.cpu(), spikes)
    assert torch.equal(found_final.cpu(), final)
    assert torch.equal(found_trace.record.cpu(), trace.record)
    assert (found_trace.states is None) == (trace.states is None) == (len(current) < steps)

    reward = torch.randn(spikes.shape, dtype=torch.float64).to(spikes.dtype)
    expected = one_q(lif.feedback(trace, reward, on_final, Epsilon(epsilon), summed))
    found = cuda.feedback_epsilon(found_trace, on_device(reward), on_device(on_final), epsilon, summed)
    assert found[0].shape == expected[0].shape == ((1 if summed else steps), *final.shape)
    if spikes.dtype != torch.bfloat16:
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.cpu(), other)
        return
    # the reference rounds after each operation, the kernel once
    wide = LIFNeuron(neuron.beta.double(), neuron.threshold.double(), neuron.reset)
    membrane = (
        trace
        if trace.states is not None
        else lif.forward(current.expand(steps, *final.shape), steps, neuron, initial)[2]
    ).record
    wide_trace = Trace(wide, steps, None if initial is None else (initial.double(),), (membrane.double(),))
    wide_final = None if on_final is None else on_final.double()
    exact = one_q(lif.feedback(wide_trace, reward.double(), wide_final, Epsilon(epsilon), summed))
    for one, truth in zip(found, exact, strict=True):
        scale = truth.abs().amax() if not summed else None
        torch.testing.assert_close(
            one.cpu().double(), truth, rtol=2**-8, atol=1e-4 * float(scale or truth.abs().amax())
        )


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@settings(max_examples=40, phases=[Phase.generate])  # to shrink takes the interpreter a minute
@given(data=st.data())
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_equal_the_reference(dtype: torch.dtype, data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    steps, batch = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    shape = data.draw(st.sampled_from([(1,), (7,), (65,), (3, 5, 3)]))  # 5 * 65: more than one block
    current = rand(data.draw(st.sampled_from([1, steps])), batch, *shape) * 3 - 1
    if data.draw(st.booleans()):
        current = (current * 4).round() / 4  # membranes exactly at the threshold, sums exactly 0
    kinds = {"one": (), "channel": (shape[0], *[1] * (len(shape) - 1)), "neuron": shape}
    beta = 1 - rand(*kinds[data.draw(st.sampled_from(list(kinds)))]) * 0.9
    threshold = rand(*kinds[data.draw(st.sampled_from(list(kinds)))]) + 0.25
    if data.draw(st.booleans()):
        beta, threshold = (beta * 4).ceil() / 4, (threshold * 4).round() / 4
    neuron = LIFNeuron(beta.to(dtype), threshold.to(dtype), data.draw(st.sampled_from(RESETS)))
    initial, on_final = (
        (rand(batch, *shape) * 3 - 1).to(dtype) if data.draw(st.booleans()) else None for _ in range(2)
    )
    epsilon = data.draw(st.sampled_from([1e-6, 0.01]))
    assert_kernels_agree(current.to(dtype), steps, neuron, initial, on_final, data.draw(st.booleans()), epsilon)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("steps", [2, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 2])
def test_membranes_computed_again_are_those_of_the_reference(steps: int, reset: Reset) -> None:
    neuron = LIFNeuron(torch.tensor(0.9), torch.tensor(0.7), reset)
    for summed in (False, True):
        assert_kernels_agree(torch.randn(1, 2, 150), steps, neuron, torch.randn(2, 150), torch.randn(2, 150), summed)


def test_tensors_may_lie_in_memory_as_they_like_and_arguments_are_left_alone() -> None:
    def strewn(tensor: Tensor) -> Tensor:
        return torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1)[..., 0].transpose(-1, -2)

    current, reward = strewn(torch.randn(6, 2, 3, 4, 5)), strewn(torch.randn(6, 2, 3, 4, 5))
    initial, on_final, beta = (
        strewn(torch.randn(2, 3, 4, 5)),
        strewn(torch.randn(2, 3, 4, 5)),
        strewn(rand(3, 4, 5).float()),
    )
    neuron = LIFNeuron(beta, torch.tensor(0.5), "subtract")
    _, _, trace = lif.forward(current, 6, neuron, initial)
    expected = one_q(lif.feedback(trace, reward, on_final, Epsilon(), False))
    kept = [on_device(tensor) for tensor in (reward, initial, on_final, beta)]
    copies = [tensor.clone() for tensor in kept]
    _, _, found_trace = cuda.forward(on_device(current), 6, on_device(neuron), kept[1])
    record = found_trace.record.clone()
    found = cuda.feedback_epsilon(found_trace, kept[0], kept[2], 1e-6, False)
    for one, other in zip((record, *found), (trace.record, *expected), strict=True):
        assert torch.equal(one.cpu(), other)
    for one, other in zip((found_trace.record, *kept), (record, *copies), strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("reset", RESETS)
def test_what_is_not_finite_goes_through_as_in_the_reference(reset: Reset, value: float) -> None:
    current = torch.randn(4, 1, 5)
    current[1, 0, 2] = value
    neuron = LIFNeuron(torch.tensor(0.9), torch.tensor(0.7), reset)
    for found, expected in zip(
        forward(current, 4, neuron, None)[:2], lif.forward(current, 4, neuron, None), strict=False
    ):
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0, equal_nan=True)


def network() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv2d(1, 3, 3), 0.9, torch.rand(3, 1, 1) / 4 + 0.1),
        MaxPool2d(2),
        LIF(nn.Conv2d(3, 2, 2), 0.8, 0.1, "zero"),
        Flatten(),
        LIF(nn.Linear(8, 4), torch.rand(4) / 2 + 0.5, 0.1),
    )


def test_layers_take_them_for_tensors_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = network()
    theirs = deepcopy(ours)
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0])
    ran: list[str] = []
    load = registry.Kernel.load
    outcomes = []
    for net, device in ((theirs, "cpu"), (ours.to(DEVICE), DEVICE)):
        monkeypatch.setattr(registry, "device_of", lambda _: None)
        if net is ours:
            # a GPU tensor as far as the choice of kernels goes
            monkeypatch.setattr(registry, "device_of", lambda _: "cuda")
            monkeypatch.setattr(registry.Kernel, "load", lambda kernel: counted(load(kernel), ran))
        spikes = net(constant(images.to(device), 9))
        propagate(spikes, spike_count_reward(spikes, labels.to(device)))
        outcomes.append([spikes.detach().cpu(), *(p.grad.cpu() for p in net.parameters() if p.grad is not None)])
    assert ran == ["forward"] * 3 + ["feedback_epsilon"] * 3
    assert len(outcomes[0]) == 7
    assert 0.02 < outcomes[0][0].mean() < 0.98
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def counted(function: Callable[..., Any], ran: list[str]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        ran.append(function.__name__)
        return function(*arguments)

    return call


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_the_choice_of_kernels(dtype: torch.dtype) -> None:
    assert registry.device_of(torch.zeros(1, dtype=dtype)) in ("cpu", None)
    assert registry.device_of(torch.zeros(1, dtype=dtype, device="meta")) is None
    if GPU:
        found = registry.device_of(torch.zeros(1, dtype=dtype, device="cuda"))
        assert found == ("cuda" if dtype in DTYPES else None)


COMPILE = """
import re
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from spiking_lfp.kernels.cuda import lif as cuda

def assembly(kernel, capability, dtype, **constants):
    names = kernel.arg_names
    counts = {"steps", "magnitude", "elements", "neurons", "beta_stride", "threshold_stride"}
    signature = {name: "i32" if name in counts else "*" + dtype for name in names}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in names if signature[n][0] == "*"}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel.fn, signature, values, aligned)
    # fused as launched, unless that is what the kernels rely on
    return triton.compile(source, GPUTarget("cuda", capability, 32), {"enable_fp_fusion": FUSION}).asm["ptx"]

for reset, *targets in (
    ("subtract", (80, "fp32"), (90, "fp64"), (90, "bf16")),
    ("zero", (90, "fp32")),
    ("none", (90, "fp32")),
):
    for capability, dtype in targets:
        shared = {"RESET": reset, "BLOCK": 256}
        for constant in (False, True):
            # what is 1 at a launch is compiled in
            ones = dict.fromkeys(("elements", "neurons", "beta_stride"), 1)
            fixed = {"initial": None, **ones} if constant else {}
            code = assembly(cuda._forward, capability, dtype, CONSTANT=constant, **fixed, **shared)
            code += assembly(
                cuda._feedback_epsilon, capability, dtype, SEGMENT=8, SUMMED=constant, EPSILON=1e-6, **fixed, **shared,
                **({} if constant else {"segments": None}),
            )
            fused = re.findall(r"fma\\.rn\\.f\\d+", code)
            assert not fused, (reset, capability, dtype, fused)
            assert not re.search(r"(div|rcp)\\.(approx|full)", code)
"""


@pytest.mark.parametrize(("fusion", "code"), [(False, 0), (True, 1)])
def test_compiled_for_gpus_nothing_is_fused(fusion: bool, code: int, forks: Forks) -> None:
    """Compiled here, for GPUs that are elsewhere; and the check sees it where Triton may fuse."""
    done = forks.run(f"import os; os.environ.pop('TRITON_INTERPRET', None)\nFUSION = {fusion}\n{COMPILE}")
    assert done.returncode == code, done.stderr
    assert ("fma.rn.f32" in done.stderr) == fusion, done.stderr


# ---------------------------------------------------------------- on a GPU


@needs_gpu
def test_a_training_step_captured_as_a_graph_trains_like_the_steps_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    images, labels = torch.rand(4, 16, 1, 8, 8, device="cuda"), torch.randint(0, 4, (4, 16), device="cuda")
    ours = network().cuda()
    theirs = deepcopy(ours)
    seen_images, seen_labels = images[0].clone(), labels[0].clone()

    def stepper(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
        optimizer = torch.optim.Adam(net.parameters(), 1e-3, capturable=True)
        clip = AdaptiveClip(net.parameters())

        def step() -> None:
            optimizer.zero_grad()
            spikes = net(constant(x, 12))
            propagate(spikes, spike_count_reward(spikes, y) / 12)
            clip()
            optimizer.step()

        return step

    step, graph = stepper(ours, seen_images, seen_labels), torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # tunes the kernels and makes the optimiser's state
            step()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        step()

    other_images, other_labels = images[0].clone(), labels[0].clone()
    other_step = stepper(theirs, other_images, other_labels)
    for _ in range(3):
        other_step()
    for x, y in zip(images, labels, strict=True):
        for held, value in ((seen_images, x), (other_images, x), (seen_labels, y), (other_labels, y)):
            held.copy_(value)
        graph.replay()
        other_step()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@needs_gpu
def test_a_training_step_never_waits_for_the_gpu() -> None:
    from spiking_lfp.training import Meter, training_step

    net = network().cuda()
    optimizer, meter = torch.optim.Adam(net.parameters()), Meter()
    images, labels = torch.rand(16, 1, 8, 8, device="cuda"), torch.randint(0, 4, (16,), device="cuda")
    for tuned in (False, True):
        torch.cuda.set_sync_debug_mode("error" if tuned else "default")
        try:
            training_step(net, constant(images, 12), labels, optimizer, AdaptiveClip(net.parameters()), meter)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert meter.samples == 32
    assert 0 <= meter.accuracy <= 1
