"""Converted networks against the packages they came from or went to: every spike on random input, or a refusal."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import snntorch.utils
import torch
from torch import Tensor, nn

from spiking_lfp.deploy import conformance
from spiking_lfp.deploy.interop import from_norse, from_snntorch, to_norse, to_snntorch
from spiking_lfp.deploy.interop.chains import our_layers
from spiking_lfp.errors import ExportError
from spiking_lfp.lfp.execution import Integer
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.nn.layers import Affine, Dropout, Flatten, NormalizeFeedback
from spiking_lfp.nn.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, MaxPool3d, SumPool2d, SumPool3d
from spiking_lfp.nn.spiking import LIF


@pytest.fixture
def norse() -> Any:
    return pytest.importorskip("norse.torch", reason="norse is not installed")


def exact(membrane: Tensor) -> Tensor:
    return (membrane > 0).to(membrane.dtype)


def leaky(beta: Any = 0.9, **arguments: Any) -> snntorch.Leaky:
    return snntorch.Leaky(beta, init_hidden=True, **{"threshold": 0.3, "spike_grad": exact, **arguments})


def snntorch_run(network: nn.Module, x: Tensor) -> Tensor:
    snntorch.utils.reset(network)
    outs = [network(step) for step in x]
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outs])


def norse_run(network: nn.Module, x: Tensor) -> Tensor:
    """Run a norse network that takes steps."""
    state, spikes = None, []
    for step in x:
        out, state = network(step, state)
        spikes.append(out)
    return torch.stack(spikes)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert 0.01 < expected.detach().mean() < 0.9
    assert int((found != expected).sum()) == 0


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(30, 5, 2, 8, 8, dtype=dtype) * 2


def ours(reset: Reset, beta: float | Tensor = 0.8, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(LIF(nn.Conv2d(2, 4, 3, padding=1), beta, 0.3, reset), MaxPool2d(2), NormalizeFeedback()),
        LIF(nn.Conv2d(4, 6, 2, bias=False), 0.9, torch.rand(6, 1, 1) / 4 + 0.1, reset),
        AvgPool2d(2, 1),
        Flatten(),
        LIF(nn.Linear(24, 20), torch.rand(20) / 2 + 0.4, 0.2, reset),
    ).to(dtype)


# snnTorch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_our_networks_spike_alike_in_snntorch_and_come_back_unchanged(reset: Reset, dtype: torch.dtype) -> None:
    network, x = ours(reset, dtype=dtype), images(dtype)
    theirs = to_snntorch(network)
    assert_equal(snntorch_run(theirs, x), network(x))
    back = from_snntorch(theirs)
    for found, expected in zip(back.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(found.to(dtype), expected)
    assert_equal(back(x), network(x))


def on_signals() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"), torch.rand(4, 1), 0.3, "zero"),
        MaxPool1d(3, 2, 1),
        LIF(nn.ConvTranspose1d(4, 4, 3, stride=2, groups=2), 0.8, 0.2, "zero"),
        AvgPool1d(2),
        LIF(nn.Conv1d(4, 5, 3, 2, "valid"), 0.8, torch.rand(5, 1) / 2 + 0.1, "zero"),
    )


def on_images() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv2d(2, 4, 3), 0.8, 0.3, "zero"),
        MaxPool2d((1, 2)),
        SumPool2d(2, 1),
        AvgPool2d((2, 1), padding=(1, 0)),
        LIF(nn.Conv2d(4, 3, 2), 0.8, 0.3, "zero"),
    )


def on_volumes() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv3d(2, 4, (1, 2, 3), padding=1), 0.8, 0.3, "zero"),
        MaxPool3d((1, 2, 2)),
        SumPool3d((2, 1, 1), padding=(1, 0, 0)),
        LIF(nn.Conv3d(4, 5, 2), torch.rand(5, 1, 1, 1), 0.3, "zero"),
    )


SIDES: list[tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = [
    (on_signals, (8,)),
    (on_images, (7, 8)),
    (on_volumes, (3, 4, 5)),
]


@pytest.mark.parametrize(("build", "sides"), SIDES)
def test_networks_on_any_number_of_axes_spike_alike_there_and_come_back(
    build: Callable[[], nn.Sequential], sides: tuple[int, ...], norse: Any
) -> None:
    network = build().double()
    x = torch.rand(20, 3, 2, *sides, dtype=torch.float64) * 2
    theirs = to_snntorch(network)
    assert_equal(snntorch_run(theirs, x), network(x))
    back = from_snntorch(theirs)
    assert [repr(module) for module in back] == [repr(module) for module in network]
    assert_equal(back(x), network(x))
    there = to_norse(network)
    assert_equal(there(x)[0], network(x))
    assert_equal(from_norse(there)(x), network(x))


def test_gains_of_outputs_do_not_go_into_transposed_weights(norse: Any) -> None:
    layer = LIF(nn.ConvTranspose1d(3, 3, 2), torch.rand(3, 1), reset="zero")
    with pytest.raises(ExportError, match="layer 0: betas of shape"):
        to_norse(nn.Sequential(layer))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (LIF(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")), "layer 1: Conv1d.* padded evenly with zeros"),
        (LIF(nn.ConvTranspose2d(1, 1, 3)), "layer 1: ConvTranspose2d"),
        (LIF(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "layer 1: Conv2d.* padded evenly with zeros"),
        (LIF(nn.Conv2d(1, 1, 2, padding="same")), "layer 1: Conv2d.* padded evenly with zeros"),
        (MaxPool1d(2), "layer 1: MaxPool1d has no counterpart that runs the same in nir"),
        (MaxPool2d((1, 2)), "layer 1: MaxPool2d.* expected a square window"),
        (MaxPool2d(2, padding=1), "layer 1: MaxPool2d.* no padding of a maximum"),
        (AvgPool2d(2, (1, 2)), "layer 1: AvgPool2d.* expected a square window"),
    ],
)
def test_what_nir_has_no_node_for_is_refused(layer: nn.Module, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        our_layers(nn.Sequential(LIF(nn.Conv2d(1, 1, 1)), layer), "nir")


def normalised() -> nn.Sequential:
    """A network of snnTorch whose normalisation has seen and learned something."""
    modules = [
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), leaky(0.8), nn.Flatten(),
        nn.Linear(144, 12), nn.BatchNorm1d(12, affine=False), leaky(0.9, threshold=0.5),
    ]  # fmt: skip
    for norm in (modules[1], modules[5]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(modules[1].weight, -0.5, 1)
    nn.init.uniform_(modules[1].bias, -0.5, 1)
    return nn.Sequential(*modules).double()


def test_batch_normalisation_of_snntorch_is_taken_over_and_folded_on_the_way_back(norse: Any) -> None:
    theirs, x = normalised(), images()
    network = from_snntorch(theirs)
    assert [type(layer.norm) for layer in (network[0], network[2])] == [nn.BatchNorm2d, nn.BatchNorm1d]
    assert network[0].norm is not theirs[1]
    expected = snntorch_run(theirs.eval(), x)
    assert_equal(network.eval()(x), expected)
    back = to_snntorch(network)
    assert not [module for module in back if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert_equal(snntorch_run(back, x), expected)
    assert network[0].norm is not None
    for layer in (network[0], network[2]):
        layer.reset = "zero"
    there = to_norse(network)
    assert_equal(there(x)[0], network(x))


def test_batch_normalisation_of_norse_is_folded_with_the_gain_of_its_neurons(norse: Any) -> None:
    conv, norm, _, _, linear, after, _ = normalised()
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=200.0, v_th=torch.tensor(0.1)))
    theirs = norse.SequentialState(conv, norm, cell, nn.Flatten(), linear, after, norse.IAFCell()).double().eval()
    network, x = from_norse(theirs), images()
    assert network[0].norm is None
    assert_equal(network(x), norse_run(theirs, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("reset", "delay"), [("subtract", True), ("zero", True), ("zero", False), ("none", True), ("none", False)]
)
def test_snntorch_networks_spike_alike_here(reset: str, delay: bool, dtype: torch.dtype) -> None:
    arguments = {"reset_mechanism": reset, "reset_delay": delay}
    theirs = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(1, 2)),
        leaky(torch.rand(4, 1, 1), threshold=torch.rand(4, 1, 1) + 0.1, **arguments),
        nn.AvgPool2d(3, 2, 1),
        nn.Identity(),
        nn.Conv2d(4, 4, 1, groups=2),
        leaky(0.7, **arguments),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(8, 20, bias=False),
        leaky(torch.rand(20), threshold=0.1, output=True, **arguments),
    ).to(dtype)
    x = images(dtype)
    assert_equal(from_snntorch(theirs)(x), snntorch_run(theirs, x))


def test_a_fixed_parameter_converts_and_conversions_copy() -> None:
    neuron = leaky(learn_beta=True, learn_threshold=True)
    neuron.beta.requires_grad_(False)
    neuron.threshold.requires_grad_(False)
    theirs = nn.Sequential(nn.Linear(30, 20), neuron)
    network, x = from_snntorch(theirs), torch.rand(20, 4, 30) * 2
    expected = snntorch_run(theirs, x)
    assert_equal(network(x), expected)
    with torch.no_grad():
        theirs[0].weight.zero_()
        neuron.beta.zero_()
    assert_equal(network(x), expected)


def test_immediate_subtraction_really_differs() -> None:
    # what is refused is refused for a reason
    theirs = nn.Sequential(nn.Linear(30, 20), leaky(reset_delay=False))
    x = torch.rand(20, 4, 30) * 2
    network = nn.Sequential(LIF(theirs[0], theirs[1].beta, theirs[1].threshold))
    assert not torch.equal(network(x), snntorch_run(theirs, x))


def changed(neuron: snntorch.Leaky) -> snntorch.Leaky:
    neuron.reset_mechanism = "zero"
    return neuron


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda *_: None)
    return module


LINEAR = nn.Linear(8, 8)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: [LINEAR, leaky(reset_delay=False)], "layer 1: reset_delay=False"),
        (lambda: [LINEAR, leaky(learn_beta=True)], "layer 1: beta is learned"),
        (lambda: [LINEAR, leaky(learn_threshold=True)], "layer 1: threshold is learned"),
        (lambda: [LINEAR, leaky(graded_spikes_factor=2.0)], "layer 1: graded_spikes_factor is not 1"),
        (lambda: [LINEAR, leaky(state_quant=lambda x: x)], "layer 1: state_quant rounds the membrane"),
        (
            lambda: [LINEAR, leaky(spike_grad=lambda x: (x >= 0).float())],
            "layer 1: its spike_grad returns other values",
        ),
        (lambda: [LINEAR, leaky(spike_grad=lambda x: (x > 0).double())], "spike_grad gives torch.float64 for"),
        (lambda: [LINEAR, changed(leaky())], "layer 1: reset_mechanism is 'zero', but _base_sub runs"),
        (lambda: [LINEAR, leaky(1.5)], "layer 1: beta must be greater than 0"),
        (lambda: [LINEAR, leaky(threshold=0.0)], "layer 1: threshold must be"),
        (
            lambda: [LINEAR, leaky(torch.rand(8).double())],
            "layer 1: beta is torch.float64 but weights are torch.float32",
        ),
        (lambda: [LINEAR, leaky(torch.rand(3, 8))], r"layer 1: beta has shape \[3, 8\]"),
        (lambda: [LINEAR, snntorch.Alpha(0.9, 0.8, init_hidden=True)], "layer 1: snn.Alpha has other states"),
        (lambda: [LINEAR, snntorch.RLeaky(0.9, linear_features=8, init_hidden=True)], "layer 1: snn.RLeaky"),
        (lambda: [LINEAR, snntorch.Leaky(0.9), nn.Linear(8, 8), leaky()], "layer 1: returns its membrane"),
        (lambda: [nn.Linear(8, 8).bfloat16(), leaky()], "layer 1: weights are torch.bfloat16"),
        (lambda: [leaky()], "layer 0: Leaky has no nn.Linear and no convolution directly before it"),
        (lambda: [LINEAR], "layer 0: Linear has no neurons after it"),
        (lambda: [nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), leaky()], "layer 0: Conv2d is followed by MaxPool2d"),
        (lambda: [nn.Flatten(0), LINEAR, leaky()], "layer 0: flattens axes 0 to -1"),
        (lambda: [nn.MaxPool2d(2, dilation=2), LINEAR, leaky()], "layer 0: .* has dilation"),
        (lambda: [nn.MaxPool1d(2, ceil_mode=True), LINEAR, leaky()], "layer 0: .* has dilation, ceil_mode"),
        (lambda: [nn.AvgPool2d(2, divisor_override=3), LINEAR, leaky()], "layer 0: .* divides by something else"),
        (lambda: [nn.AvgPool2d(2, count_include_pad=False), LINEAR, leaky()], "layer 0: .* divides by something else"),
        (lambda: [nn.BatchNorm1d(8), LINEAR, leaky()], "layer 0: BatchNorm1d is not converted"),
        (lambda: [LINEAR, nn.BatchNorm1d(7), leaky()], "layer 1: norm has 7 features, but .* has 8 outputs"),
        (
            lambda: [LINEAR, nn.BatchNorm1d(8, track_running_stats=False), leaky()],
            "layer 1: BatchNorm1d keeps no running statistics",
        ),
        (lambda: [LINEAR, *[nn.BatchNorm1d(8)] * 2, leaky()], "layer 2: is the same module as layer 1"),
        (lambda: [LINEAR, nn.BatchNorm1d(8), nn.BatchNorm1d(8), leaky()], "layer 0: Linear is followed by BatchNorm1d"),
        (
            lambda: [nn.Sequential(LINEAR, leaky()), nn.Sequential(LINEAR, leaky())],
            "layer 1.0: is the same module as layer 0.0",
        ),
        (lambda: [hooked(nn.Linear(8, 8)), leaky()], "layer 0: has hooks"),
        (
            lambda: [nn.Dropout(1.0).eval(), LINEAR, leaky()],
            r"layer 0: Dropout\(p=1.0, .* drops everything in training",
        ),
        (lambda: [nn.Dropout2d(0.5).eval(), LINEAR, leaky()], "layer 0: Dropout2d is not converted"),
        (lambda: [LINEAR, leaky(learn_graded_spikes_factor=True)], "layer 1: learns its graded_spikes_factor"),
        (lambda: [nn.Flatten()], "the network has no neurons"),
        (list, "the network is empty"),
    ],
)
def test_snntorch_networks_that_differ_are_refused(build: Callable[[], list[nn.Module]], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        from_snntorch(nn.Sequential(*build()))


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature:UserWarning")
def test_inhibition_and_networks_with_code_of_their_own_are_refused() -> None:
    with pytest.raises(ExportError, match="layer 1: inhibition lets only one neuron spike"):
        from_snntorch(nn.Sequential(nn.Linear(8, 8), leaky(inhibition=True)))
    with pytest.raises(ExportError, match="the network is a Bilinear, whose order of layers is in its code only"):
        from_snntorch(nn.Bilinear(2, 2, 2))


def changes() -> dict[str, Callable[[nn.Module], Any]]:
    """What makes a module compute other things than its class says, or more."""

    def own_call(module: nn.Module) -> None:
        module.__class__ = type("Own", (type(module),), {"__call__": lambda self, *x: 0 * nn.Module.__call__(self, *x)})

    return {
        "hooks": lambda module: module.register_forward_hook(lambda *_: None),
        "hooks before": lambda module: module.register_forward_pre_hook(lambda *_: None),
        "hooks on gradients": lambda module: module.register_full_backward_hook(lambda *_: None),
        "a forward": lambda module: setattr(module, "forward", lambda *x: type(module).forward(module, *x)),
        "a __call__": own_call,
    }


@pytest.mark.parametrize("change", changes())
@pytest.mark.parametrize("of", ["", "0"])
def test_changed_containers_are_refused(of: str, change: str) -> None:
    where = "layer 0: " if of else "the network: "
    refused = pytest.raises(
        ExportError, match=f"^{where}has {' '.join(change.split()[:2]) if change[:2] == 'a ' else 'hooks'}"
    )
    theirs = nn.Sequential(nn.Sequential(nn.Linear(8, 8), leaky()))
    our = nn.Sequential(nn.Sequential(LIF(nn.Linear(8, 8), reset="zero")))
    for network in (theirs, our):
        changes()[change](network.get_submodule(of))
    with refused:
        from_snntorch(theirs)
    for package in ("snntorch", "norse", "nir"):
        with refused:
            our_layers(our, package)


@pytest.mark.parametrize("change", changes())
def test_changed_containers_of_norse_are_refused(norse: Any, change: str) -> None:
    for place in ("lifted_module", ""):
        theirs = norse.Lift(norse.SequentialState(nn.Linear(8, 8), norse.LIFBoxCell()))
        changes()[change](theirs.get_submodule(place))
        with pytest.raises(ExportError, match="the network: has "):
            from_norse(theirs)


def test_shared_parameters_are_refused_where_each_would_learn_apart() -> None:
    theirs = nn.Sequential(nn.Linear(8, 8), leaky(), nn.Linear(8, 8), leaky())
    theirs[2].weight = theirs[0].weight
    with pytest.raises(ExportError, match="layer 2: shares its weight with layer 0"):
        from_snntorch(theirs)
    our = nn.Sequential(LIF(nn.Linear(8, 8)), LIF(nn.Linear(8, 8)))
    our[1].synapse.weight = our[0].synapse.weight
    with pytest.raises(ExportError, match=r"layer 1: shares its synapse.weight with layer 0"):
        to_snntorch(our)
    assert len(our_layers(our, "nir")) == 2  # a file does not learn


def test_dropout_comes_over_in_evaluation() -> None:
    theirs = nn.Sequential(nn.Linear(8, 9), leaky(), nn.Dropout(0.4), nn.Linear(9, 5), leaky()).double()
    with pytest.raises(ExportError, match=r"layer 2: Dropout\(p=0.4, inplace=False\) is in training mode"):
        from_snntorch(theirs)
    network = from_snntorch(theirs.eval())
    x = torch.rand(30, 6, 8, dtype=torch.float64) * 2
    assert_equal(network(x), snntorch_run(theirs, x))
    assert isinstance(network[1], Dropout)
    assert network[1].p == 0.4
    back = to_snntorch(network)
    assert isinstance(back[2], nn.Dropout)
    assert_equal(snntorch_run(back, x), network(x))
    assert [name for name, _ in our_layers(network, "nir")] == ["0", "2"]


@pytest.mark.parametrize("convert", [to_snntorch, to_norse])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: [Affine(nn.Linear(8, 8))], "layer 0: Affine has no counterpart"),
        (lambda: [Dropout(0.2), LIF(LINEAR, reset="zero")], r"layer 0: Dropout\(p=0.2\) is in training mode"),
        (lambda: [LIF(nn.Linear(8, 8).bfloat16(), reset="zero")], "layer 0: weights are torch.bfloat16"),
        (lambda: [Flatten()], "the network has no spiking layer"),
    ],
)
def test_layers_that_nobody_else_has_are_refused(
    convert: Callable[[nn.Module], nn.Module], build: Callable[[], list[nn.Module]], message: str
) -> None:
    if convert is to_norse:
        pytest.importorskip("norse.torch", reason="norse is not installed")
    with pytest.raises(ExportError, match=message):
        convert(nn.Sequential(*build()))


def test_layers_in_fixed_point_are_refused() -> None:
    layer = LIF(nn.Linear(8, 8))
    layer.execution = Integer()
    with pytest.raises(ExportError, match="layer 0: computes in integers"):
        to_snntorch(nn.Sequential(layer))


# norse


@pytest.mark.parametrize("beta", [0.8, 1.0, torch.linspace(0.3, 0.95, 4).view(4, 1, 1)])
def test_our_networks_spike_alike_in_norse_and_come_back(norse: Any, beta: float | Tensor) -> None:
    network, x = ours("zero", beta), images()
    for dt in (0.001, 0.7):
        theirs = to_norse(network, dt)
        assert_equal(theirs(x)[0], network(x))
        assert_equal(from_norse(theirs)(x), network(x))


@pytest.mark.parametrize("rest", [0.0, 0.1, -0.2])
def test_norse_networks_spike_alike_here(norse: Any, rest: float) -> None:
    def neuron(tau_mem_inv: Any, dt: float = 0.001) -> nn.Module:
        v_rest, bound = (torch.tensor(value, dtype=torch.float64) for value in (rest, rest + 0.2))
        inverse = torch.as_tensor(tau_mem_inv, dtype=torch.float64)
        constants = norse.LIFBoxParameters(tau_mem_inv=inverse, v_leak=v_rest, v_reset=v_rest, v_th=bound)
        return norse.LIFBoxCell(constants, dt=dt)

    v_rest, bound = (torch.tensor(value, dtype=torch.float64) for value in (rest, rest + 0.2))
    modules = [
        nn.Conv2d(2, 4, 3),
        neuron(torch.linspace(100, 500, 4).view(4, 1, 1)),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 20),
        neuron(torch.linspace(300, 900, 20)),
        nn.Linear(20, 20),
        neuron(40, dt=0.01),
        nn.Linear(20, 10),
        norse.IAFCell(norse.IAFParameters(v_reset=v_rest, v_th=bound)),
    ]
    x = images() * 8
    steps = norse.SequentialState(*modules).double()
    expected = norse_run(steps, x)
    assert_equal(from_norse(steps)(x), expected)
    assert_equal(from_norse(norse.Lift(steps))(x), expected)
    nested = norse.SequentialState(norse.SequentialState(*modules[:4]), norse.SequentialState(*modules[4:]))
    assert_equal(from_norse(nested)(x), expected)
    lifts = norse.SequentialState(*(norse.Lift(module) for module in modules))
    assert_equal(from_norse(lifts)(x), lifts(x)[0][0])


def test_norse_networks_that_differ_are_refused(norse: Any) -> None:
    from norse.torch.functional.reset import reset_subtract

    def box(dt: float = 0.001, **constants: Any) -> nn.Module:
        values = {name: value if callable(value) else torch.as_tensor(value) for name, value in constants.items()}
        return norse.LIFBoxCell(norse.LIFBoxParameters(**values), dt=dt)

    conv = nn.Conv2d(1, 4, 3)
    mixed = box(tau_mem_inv=torch.linspace(100, 500, 6))
    cases: list[tuple[list[nn.Module], str]] = [
        ([LINEAR, box(reset_method=reset_subtract)], "layer 1: resets by reset_subtract"),
        ([LINEAR, box(v_reset=0.1)], "layer 1: v_reset is 0.1 and v_leak 0"),
        ([LINEAR, box(v_leak=0.1)], "layer 1: v_reset is 0 and v_leak 0.1"),
        ([LINEAR, box(0.01, tau_mem_inv=100.0)], r"layer 1: dt \* tau_mem_inv is 1, expected .* dt = 0.01"),
        ([LINEAR, box(v_th=0.0)], "layer 1: threshold must be"),
        ([LINEAR, box(tau_mem_inv=torch.tensor(100.0, requires_grad=True))], "layer 1: tau_mem_inv is learned"),
        ([conv, mixed], r"layer 1: betas of shape \[6\] give neurons of one output channel different input gains"),
        ([LINEAR, norse.LIFCell()], "layer 1: norse's LIFCell has other states"),
        ([box()], "layer 0: LIFBoxCell has no nn.Linear and no convolution directly before it"),
        ([LINEAR], "layer 0: Linear has no neurons after it"),
        ([nn.Sequential(LINEAR, box())], "layer 0.1: norse's LIFBoxCell returns its state"),
        ([norse.Lift(LINEAR), box()], "layer 1: LIFBoxCell is outside Lift"),
        ([norse.Lift(norse.Lift(LINEAR)), norse.Lift(box())], "layer 0: is in two nested Lifts"),
        ([], "the network is empty"),
    ]
    for modules, message in cases:
        with pytest.raises(ExportError, match=message):
            from_norse(norse.SequentialState(*modules))
    with pytest.raises(ExportError, match="the network is a Linear, expected norse's SequentialState"):
        from_norse(LINEAR)


def test_our_networks_that_norse_has_no_counterpart_of_are_refused(norse: Any) -> None:
    for reset in ("subtract", "none"):
        with pytest.raises(ExportError, match=f"layer 0: reset is '{reset}'; norse sets the membrane to v_reset"):
            to_norse(nn.Sequential(LIF(LINEAR, reset=reset)))
    some = LIF(LINEAR, torch.tensor([1.0] + [0.5] * 7), reset="zero")
    with pytest.raises(ExportError, match="layer 0: beta is 1 for some neurons only"):
        to_norse(nn.Sequential(some))
    with pytest.raises(ExportError, match=r"dt is 0\.0, expected a time step"):
        to_norse(nn.Sequential(LIF(LINEAR, reset="zero")), 0.0)


@pytest.mark.parametrize(("convert", "package"), [(to_norse, "norse"), (to_snntorch, "snntorch")])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, convert: Callable[[nn.Module], nn.Module], package: str
) -> None:
    for name in (package, f"{package}.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExportError, match=f"{package} cannot be imported .*: pip install {package}"):
        convert(nn.Sequential(LIF(LINEAR, reset="zero")))


# the table


def test_every_row_of_the_table_keeps_its_word() -> None:
    rows = conformance.conformance()
    assert all(row.passed for row in rows), [row for row in rows if not row.passed]
    snntorch_rows = [row for row in rows if row.package == "snntorch"]
    assert {row.verdict for row in snntorch_rows} == {"equal", "refused"}
    for row in rows:
        assert (row.compared > row.spikes > 0 and not row.reason) if row.verdict == "equal" else row.reason


def test_the_table_tells_differences_failures_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def different() -> tuple[Tensor, Tensor]:
        return torch.ones(2, 1, 3), torch.zeros(2, 1, 3)

    def failing() -> tuple[Tensor, Tensor]:
        raise RuntimeError("no such thing")

    rows = [conformance._row("package", "case", run, 0) for run in (different, failing)]
    assert [(row.verdict, row.different, row.compared) for row in rows] == [("different", 6, 6), ("failed", 0, 0)]
    assert not any(row.passed for row in rows)
    assert rows[1].reason == "RuntimeError: no such thing"
    for name in ("snntorch", "norse.torch", "nir"):
        monkeypatch.setitem(sys.modules, name, None)
    skipped = conformance.conformance()
    assert {row.verdict for row in skipped} == {"skipped"}
    assert [row.reason.partition(" ")[0] for row in skipped] == ["snntorch", "norse", "nir"]
