"""What `fit` refuses, tells of, and leaves behind where it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import spiking_lfp as lfp
from helpers.own_networks import ENCODED, LABELS, PAIR, SMALL, VALUES, network
from helpers.small_runs import Sigterm
from spiking_lfp.errors import DataError, RunStopped, SpikingLFPError, UsageError
from spiking_lfp.training import fit, load_run


class Counted(IterableDataset[tuple[Tensor, int]]):
    """Says another length than it has."""

    def __init__(self, says: int) -> None:
        self.says = says

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter(zip(VALUES, LABELS.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning")
@pytest.mark.parametrize(("says", "batches"), [(15, 3), (30, 6)])
def test_a_loader_of_another_length_than_it_says_is_told_of(says: int, batches: int, tmp_path: Path) -> None:
    given = DataLoader(Counted(says), 5), DataLoader(TensorDataset(*PAIR), 5)
    sentence = f"the data loader yields 5 batches in an epoch, its length says {batches}; give its data set"
    with pytest.warns(UserWarning, match=sentence):
        found = fit(network(), *given, out=tmp_path / "run", schedule="constant", **SMALL)
    assert found.history[-1]["train"]["samples"] == 23
    if batches < 5:
        with pytest.raises(DataError, match="schedule one-cycle ends before the epoch: the data loader yields more"):
            fit(network(), *given, out=tmp_path / "cycle", schedule="one-cycle", **SMALL)


@pytest.mark.parametrize(
    ("third", "settings", "sentence"),
    [
        (torch.arange(23), {}, "encoding 'constant' makes 4 steps of every sample; leave it out"),
        (
            torch.full((23,), 1.5),
            {"encoding": "sequence"},
            r"one integer from 1 to 3 a sample, found torch.float32 \[5\]",
        ),
        (
            torch.arange(23),
            {"encoding": "sequence"},
            r"one integer from 1 to 3 a sample, found torch.int64 \[5\], 0 to 4",
        ),
        (torch.ones(23, 2).long(), {"encoding": "sequence"}, r"found torch.int64 \[5, 2\], 1 to 1"),
    ],
)
def test_a_third_tensor_that_is_no_lengths_is_refused(
    third: Tensor, settings: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    values = torch.stack([VALUES] * 3, 1) if settings else VALUES
    loader = DataLoader(TensorDataset(values, LABELS, third), 5)
    with pytest.raises(DataError, match=f"a third tensor in the batches of data is the lengths.*{sentence}"):
        fit(
            network(),
            loader,
            loader,
            out=tmp_path / "run",
            **{**SMALL, **({"steps": 0} if settings else {})},
            **settings,
        )
    assert not (tmp_path / "run").exists()


class Annealing(lfp.training.Callback):
    """Changes constants while the network learns, and stops once."""

    def start(self, run: Any) -> None:
        self.network = run.network

    def epoch(self, metrics: dict[str, Any]) -> None:
        self.network.entry.threshold.mul_(0.9)
        self.network.head.requires_grad_(False)


def test_constants_that_a_callback_changes_do_not_stand_in_the_way_of_going_on(tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        fit(network(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Annealing(), Sigterm(2, 2)], **SMALL)
    found = fit(network(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Annealing()], resume=True, **SMALL)
    assert found.network.entry.threshold.item() == pytest.approx(0.2 * 0.9)


class Writing(lfp.training.Callback):
    """Writes into the folder of the run when it starts."""

    def start(self, run: Any) -> None:
        (run.folder / "more").mkdir()
        (run.folder / "more" / "events.txt").touch()


class Strange(nn.Module):
    """Runs once, for the shape of its outputs, and then returns another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = lfp.LIF(nn.Linear(6, 2), threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out[:, :, :1] if self.training else out


def test_what_fails_in_the_first_batch_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpikingLFPError):
        fit(Strange(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Writing()], **SMALL)
    assert not (tmp_path / "run").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpikingLFPError):
        fit(Strange(), PAIR, PAIR, out=tmp_path / "link", callbacks=[Writing()], **SMALL)
    assert list((tmp_path / "link").iterdir()) == []


def mono() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(lfp.LIF(nn.Linear(6, 8), threshold=0.2), lfp.MonoReadout(8, 2, hidden=(8,)))


def test_mono_readouts_train_by_name_and_in_networks_of_ones_own(tmp_path: Path) -> None:
    by_name = fit("mlp", PAIR, PAIR, out=tmp_path / "name", readout="mono", hidden=(8,), readout_hidden=(5,), **SMALL)
    inside = fit(mono(), PAIR, PAIR, out=tmp_path / "inside", **SMALL)
    replaced = nn.Sequential(lfp.LIF(nn.Linear(6, 8), threshold=0.2), lfp.LIF(nn.Linear(8, 2)))
    instead = fit(replaced, PAIR, PAIR, out=tmp_path / "instead", readout="mono", readout_hidden=(5,), **SMALL)
    for run in (by_name, inside, instead):
        assert torch.equal(load_run(run.folder).predict(VALUES).scores, run.predict(VALUES).scores)
    with pytest.raises(UsageError, match="a mono readout learns by cross-entropy, found reward spike-rate"):
        fit(mono(), PAIR, PAIR, out=tmp_path / "reward", reward="spike-rate", **SMALL)


class Endless(IterableDataset[tuple[Tensor, int]]):
    """Has no length."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        yield VALUES[0], 0


REFUSED: list[tuple[dict[str, Any], type[SpikingLFPError], str]] = [
    ({"train": VALUES}, DataError, "train is Tensor|values"),
    ({"train": 3}, DataError, r"train is int, expected a pair \(values, labels\)"),
    ({"train": (VALUES, LABELS[:-1])}, DataError, r"train has values \[23, 6\] and labels \[22\]"),
    ({"train": (VALUES[:0], LABELS[:0])}, DataError, "train has no samples"),
    ({"train": (VALUES, LABELS + 1)}, DataError, r"labels of train go from 1 to 2, the network has 2 outputs"),
    ({"train": (VALUES, LABELS + 0.5)}, DataError, r"labels of train hold ..5, expected class indices: number classes"),
    ({"test": (VALUES, LABELS - 1)}, DataError, "labels of test go from -1 to 0"),
    ({"train": (VALUES / 0, LABELS)}, DataError, "values of train hold NaN or infinity"),
    ({"train": (VALUES + 1j, LABELS)}, DataError, "values of train are torch.complex64, expected real numbers: give"),
    ({"test": (VALUES.numpy() * 1j, LABELS)}, DataError, "values of test are torch.complex64, expected real numbers"),
    ({"train": (VALUES, LABELS + 0j)}, DataError, "labels of train are torch.complex64, expected real numbers"),
    (
        {"train": DataLoader(TensorDataset(VALUES + 1j, LABELS)), "batch_size": None},
        UsageError,
        "the values are torch.complex64",
    ),
    ({"train": (["a", "b"], [0, 1])}, DataError, "are list, expected numbers"),
    ({"train": ([[1.0], [1.0, 2.0]], [0, 1])}, DataError, "have different shapes: give encoding='sequence'"),
    ({"train": DataLoader(Endless()), "batch_size": None}, DataError, "without a length"),
    (
        {"train": DataLoader(TensorDataset(VALUES), 4), "batch_size": None},
        DataError,
        r"is \(Tensor\), expected tensors \(values, labels\)",
    ),
    ({"test": None}, UsageError, "test is None: give samples for evaluation, or hold out some"),
    ({"class_names": ["a"]}, UsageError, "1 class_names, the network has 2 outputs"),
    ({"callbacks": [print]}, UsageError, "a callback is builtin_function_or_method, without a method start"),
    ({"network": network().requires_grad_(False)}, UsageError, "nothing in the network learns: it has no parameters"),
    (
        {"network": nn.DataParallel(network())},
        UsageError,
        "is wrapped by DataParallel, .*: give network.module, the one",
    ),
    ({"network": nn.Sequential(nn.Identity())}, UsageError, "nothing in the network learns: it has no parameters"),
    ({"class_names": "ab"}, UsageError, "1 class_names, the network has 2 outputs"),
    ({"hidden": (3,)}, UsageError, "setting hidden is for networks by name"),
    ({"network": nn.Sequential(nn.Flatten(0, 1), nn.Linear(6, 2))}, UsageError, r"returned \[4, 2\] for a sequence"),
    ({"network": "perceptron"}, UsageError, "network = 'perceptron'"),
    ({"data": "mnist"}, UsageError, "setting data is given by an argument of fit"),
    ({"epoch": 3}, UsageError, "unknown setting 'epoch': did you mean 'epochs'"),
    ({"readout": "mono"}, UsageError, "readout mono replaces the last layer of an nn.Sequential"),
    ({"class_names": ["a", "a"]}, UsageError, "class_names has 'a' more than once"),
    ({"callbacks": lfp.Callback()}, UsageError, "callbacks must be a list of objects .*, found Callback"),
    ({"callbacks": [lfp.Callback]}, UsageError, r"a callback is the class Callback, expected an object: Callback\(\)"),
    ({"optimizer": torch.optim.Adam}, UsageError, "setting optimizer = the class Adam: expected its name, a text"),
    ({"rule": lfp.Flat()}, UsageError, "setting rule = Flat: expected its name, a text"),
    (
        {"train": DataLoader(TensorDataset(*PAIR), 4)},
        UsageError,
        "setting batch_size = 5 changes nothing: .* batches of 4",
    ),
    ({"encoder": lambda values: values}, UsageError, "setting steps is given by an argument of fit: leave it out"),
    ({"reward": lfp.spike_count_reward}, UsageError, "setting reward is a function, expected a name, spike-count, .*"),
    (
        {"encoder": lambda values: values, "steps": None},
        UsageError,
        r"encoder returned \[1, 6\] for values \[1, 6\], expected a tensor",
    ),
    ({"encoder": lambda values: values.numpy(), "steps": None}, UsageError, "encoder returned ndarray for values"),
]


@pytest.mark.parametrize(("change", "error", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    unchecked: None, change: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    given = {"network": network(), "train": PAIR, "test": PAIR, "out": tmp_path / "run", **SMALL, **change}
    given = {name: value for name, value in given.items() if value is not None or name == "test"}
    with pytest.raises(error, match=sentence):
        fit(given.pop("network"), given.pop("train"), given.pop("test"), **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
def test_a_compiled_network_is_refused(unchecked: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is wrapped by OptimizedModule, .*: give network\._orig_mod, the one inside"):
        fit(torch.compile(network()), PAIR, PAIR, out=tmp_path / "run", **SMALL)


def test_classes_without_samples_are_told_where_labels_say_how_many_there_are(tmp_path: Path) -> None:
    settings = {**SMALL, "hidden": (8,), "epochs": 1, "gain": 9.0}
    with pytest.warns(UserWarning, match=r"has 3 outputs, one for each class .* but train has no samples of class 0:"):
        fit("mlp", (VALUES, LABELS + 1), (VALUES, LABELS + 1), out=tmp_path / "gap", **settings)
    fit("mlp", (VALUES, LABELS), (VALUES, LABELS), out=tmp_path / "none", **settings)
    with pytest.raises(DataError, match="train has one class, 0: give samples of another one, too, or class_names"):
        fit("mlp", (VALUES, LABELS * 0), PAIR, out=tmp_path / "one", **settings)


def test_samples_are_held_out_without_a_test_set(tmp_path: Path) -> None:
    found = fit(network(), PAIR, out=tmp_path / "run", validation=0.2, patience=1, **SMALL)
    assert found.history[-1]["validation"]["samples"] == 5
    assert found.history[-1]["train"]["samples"] == 18


def test_an_encoder_of_ones_own_is_asked_for_again(tmp_path: Path) -> None:
    def encoder(values: Tensor) -> Tensor:
        return torch.stack([values, 1 - values, values])

    found = fit(network(), PAIR, PAIR, encoder=encoder, out=tmp_path / "run", **ENCODED)
    scores = found.predict(VALUES).scores
    assert torch.equal(scores, found.network(encoder(VALUES)).detach().mean(0))
    loaded = load_run(tmp_path / "run")
    with pytest.raises(UsageError, match="an encoder given in Python: give it again"):
        loaded.predict(VALUES)
    loaded.encoder = encoder
    assert torch.equal(loaded.predict(VALUES).scores, scores)


@pytest.mark.parametrize("given", [PAIR, DataLoader(TensorDataset(*PAIR), 4)], ids=["tensors", "loader"])
def test_an_encoder_with_the_batch_axis_first_is_refused_where_there_are_as_many_steps_as_samples(
    given: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"encoder returned \[1, 4, 6\] for values \[1, 6\], expected .* time first"):
        fit(
            network(), given, given, encoder=lambda values: values.unsqueeze(1).repeat(1, 4, 1), out=tmp_path / "run",
            **ENCODED | {"batch_size": 4},
        )  # fmt: skip


def test_a_network_of_one_layer_that_is_silent_is_told_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="^the network did not spike during epoch 1, so it learns nothing: lower"):
        fit(lfp.LIF(nn.Linear(6, 2), threshold=1e6), PAIR, PAIR, out=tmp_path / "run", **SMALL)
