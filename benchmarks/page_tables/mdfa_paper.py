"""What the mDFA paper says, and what was found."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from records import KEPT, read

from page_tables.common import SETS, markdown, of_experiment, one, percent
from spiking_lfp.studies.mdfa_paper.alignment import METHODS as ALIGNMENT
from spiking_lfp.studies.mdfa_paper.pairs import METHODS as READOUTS

NETWORKS = {"fc": "fully connected", "cnn": "convolutional"}


def aligned(rows: Sequence[dict[str, Any]], keys: Sequence[str], columns: Sequence[str], training: bool) -> list[Any]:
    """Return a line for each entry of the tables of mDFA, its test accuracies and maybe that in training."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        [
            *columns_of(group[0], columns),
            *(f"{percent(one(group, method=method)['test'])} %" for method in ALIGNMENT),
            *([f"{percent(one(group, method='mdfa')['train'])} %"] if training else []),
        ]
        for group in groups.values()
    ]


def columns_of(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Return what an entry is: its data and network in words, and other settings."""
    words = {
        "network": f"{NETWORKS[row['network']]}, {row['activation'].replace('relu', 'ReLU')}",
        "data": f"{SETS[row['set']]}, {row['classes']} classes, {NETWORKS[row['network']]}",
    }
    return [words.get(column, str(row.get(column))) for column in columns]


def mdfa_pairs(name: str, columns: Sequence[str]) -> str:
    """Pairs of classes of one of the sets."""
    rows = [row for row in of_experiment("mdfa-binary") if row["set"] == name]
    return markdown(
        ["", *columns[1:], *ALIGNMENT.values(), "mDFA, training"],
        aligned(rows, ("network", "activation"), columns, True),
    )


def mdfa_classes() -> str:
    """More classes than two."""
    keys = ("data", "epochs", "draws")
    rows = of_experiment("mdfa-classes")
    return markdown(["", *keys[1:], *ALIGNMENT.values()], aligned(rows, ("set", "classes", "network"), keys, False))


def spiking_pairs() -> str:
    """Pairs of classes in spikes: means over pairs."""
    rows = of_experiment("spiking-pairs")
    sets = {"mnist": "MNIST", "n-mnist": "N-MNIST", "dvs128-objects": "DVS128 objects"}
    lines = [
        [
            title,
            *(
                f"{percent(fmean(r['accuracy'] for r in rows if (r['data'], r['method']) == (name, method)), digits)} %"
                for name, digits in zip(sets, (2, 1, 1), strict=True)
            ),
        ]
        for method, title in READOUTS.items()
    ]
    return markdown(["", *sets.values()], lines)


def latency() -> str:
    """An update by depth."""
    names = {"forward": "forward pass", "bp": "back-propagation", "mdfa": "mDFA", "autograd": "autograd, both ways"}
    lines = [
        [
            str(line["hidden layers"]), *(f"{line['ms'][name]:#.2g} ms" for name in names),
            *(str(line["path"][name]) for name in ("bp", "mdfa")),
        ]
        for line in {line["hidden layers"]: line for line in read(KEPT / "latency.jsonl")}.values()
    ]  # fmt: skip
    return markdown(["hidden layers", *names.values(), "waits, back-propagation", "waits, mDFA"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "mdfa-cifar": partial(mdfa_pairs, "cifar", ("network", "epochs")),
    "mdfa-imagenet": partial(mdfa_pairs, "imagenet", ("network",)),
    "mdfa-classes": mdfa_classes,
    "spiking-pairs": spiking_pairs,
    "latency": latency,
}
