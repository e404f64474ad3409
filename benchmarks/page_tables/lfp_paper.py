"""What the LFP paper says, and what was found."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from page_tables.common import SETS, markdown, of_experiment, one, percent
from spiking_lfp.studies.lfp_paper.spiking_images import METHODS as IMAGE_METHODS

VERDICTS = {True: "holds", False: "no", None: "not settled"}


def verdict(name: str, statement: str) -> str:
    """Return whether a finding of an experiment holds, whose statement of the paper begins like this."""
    [holds] = [found["holds"] for found in of_experiment(name, "findings") if found["paper"].startswith(statement)]
    return VERDICTS[holds]


GRADIENT, EPSILON, Z, ALPHA = "gradient", "epsilon", "zplus-zminus", "alpha2-beta1"
EPSILON_Z, EPSILON_ALPHA = "epsilon-zplus-zminus", "epsilon-alpha2-beta1"
RULES = {
    GRADIENT: "gradient", EPSILON: "ε", Z: "z⁺z⁻", EPSILON_Z: "ε-z⁺z⁻", EPSILON_ALPHA: "ε-α2β1", ALPHA: "α2β1",  # noqa: RUF001
}  # fmt: skip


def each(values: Mapping[str, float], digits: int = 1) -> str:
    """Return what rules come to, in percent."""
    return ", ".join(f"{RULES.get(name, name)} {percent(value, digits)}" for name, value in values.items()) + " %"


def lfp_paper() -> str:
    """Statements of the LFP paper, and what was measured."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in of_experiment("cifar"):
        key = row["network"], row["method"]
        best[key] = max(best.get(key, row), row, key=lambda each: each["accuracy"])
    pairs = [(title, best[name, EPSILON], best[name, GRADIENT]) for name, title in (("mlp", "MLP"), ("lenet", "LeNet"))]
    vgg = {
        start: {row["method"]: row for row in of_experiment("vgg") if row["start"] == start}
        for start in ("random", "pretrained")
    }
    random, pretrained = ({method: rows[method]["accuracy"] for method in RULES} for rows in vgg.values())
    signs = {method: vgg["pretrained"][method]["signs changed in an epoch"] for method in (GRADIENT, EPSILON, Z)}
    tuned = {
        f"{'gradient then ' if row['gradient updates before'] != 0 else ''}{RULES[row['method']]}": row
        for row in of_experiment("fine-tuning")
    }
    pruned = "; ".join(
        f"{name} {' '.join(percent(row[f'{share} % pruned']) for share in (70, 80, 90))}" for name, row in tuned.items()
    )
    changed = {name: tuned[name]["signs changed in a later epoch"] for name in (GRADIENT, "ε")}
    constant, decayed = of_experiment("simple-reward")
    moves = [f"{percent(row['change from step to step'])} %" for row in (constant, decayed)]
    noise = {row["method"]: row["correlation"] for row in of_experiment("shattering") if row["hidden layers"] == 500}
    depth: dict[int, dict[str, float]] = {}
    for row in of_experiment("depth"):
        depth.setdefault(row["hidden layers"], {})[row["method"]] = row["mean"]
    lines = [
        [
            f"`cifar`, fig. 2, at the paper's scale, seeds: {pairs[0][1]['seeds']}",
            "LFP-ε is comparable to gradients at its best learning rate",
            "; ".join(f"{name} {percent(a['accuracy'])} % against {percent(b['accuracy'])} %" for name, a, b in pairs),
            ", ".join(f"{title} {verdict('cifar', f'{title}: with the right')}" for title, *_ in pairs),
        ],
        ["", "the best learning rates differ",
         "; ".join(f"{title} {a['lr']:g} for LFP-ε, {b['lr']:g} for gradients" for title, a, b in pairs),
         verdict("cifar", "MLP: the learning rates")],
        ["`vgg`, fig. 3, from random weights", "LFP-ε is on par with gradients",
         each({name: random[name] for name in (EPSILON, GRADIENT)}),
         verdict("vgg", "From random weights: LFP-epsilon is on par")],
        ["", "every other composite is worse", each({name: random[name] for name in (EPSILON_ALPHA, EPSILON_Z, Z)}),
         verdict("vgg", "From random weights: all other composites")],
        ["", f"LFP-{RULES[ALPHA]} alone stays at chance", f"{percent(random[ALPHA])} %, chance is 20 %",
         verdict("vgg", "From random weights: LFP-alpha2-beta1 only")],
        ["pretrained", f"all but LFP-{RULES[ALPHA]} do as well as gradients, z⁺z⁻ too", each(pretrained),
         f"{verdict('vgg', 'Pretrained: only LFP')}, {verdict('vgg', 'Pretrained: LFP-z+z- performs')}"],
        ["", "gradients change most signs", f"in an epoch {each(signs, 2)} of parameters",
         verdict("vgg", "Pretrained: gradients change")],
        ["`snn-grid`, fig. 4, A.4, A.5", "see below", "", ""],
        ["`fine-tuning`, fig. 5, at the paper's scale", "LFP-ε ends equal to gradients, within a point",
         f"{each({name: row['accuracy'] for name, row in tuned.items()})} after 10 epochs",
         verdict("fine-tuning", "LFP-epsilon achieves")],
        ["", "gradients converge fastest, and LFP faster after some of them", "panel I of [its figure](gallery.md)",
         verdict("fine-tuning", "Gradient descent converges")],
        ["", "signs stop changing once LFP is applied", f"in an epoch after the first {each(changed, 2)}",
         verdict("fine-tuning", "Signs of parameters")],
        ["", "LFP-ε keeps its accuracy longer under pruning", f"at 70, 80, 90 % pruned: {pruned} %",
         verdict("fine-tuning", "LFP-epsilon preserves")],
        ["", "z⁺z⁻ keeps it longer after some gradients, and beyond gradients above 80 %", "the same figures",
         f"{verdict('fine-tuning', 'With pretraining')}, {verdict('fine-tuning', 'LFP-z+z-, especially')}"],
        ["", "z⁺z⁻ changes the distribution of magnitudes least", "the median, in units of the 75th percentile, from "
         f"{tuned['ε']['median at first']:.2f} to "
         + ", ".join(f"{name} {row['median at last']:.2f}" for name, row in tuned.items()),
         verdict("fine-tuning", "Of the rules")],
        ["`simple-reward`, fig. A.1", "+1 and -1 teach, and are unstable without a schedule",
         f"{percent(constant['best'])} % at best; accuracy moves by {moves[0]} a step without, by {moves[1]} with "
         "(one sample a step, chosen to show both)",
         "holds" if constant["best"] > 0.9 else "less than the 90 % asked for"],
        ["`shattering`, fig. A.2", "gradients and LFP-ε turn to noise with depth, z⁺z⁻ does not",
         "correlation of neighbours at 500 hidden layers: "
         + ", ".join(f"{RULES[name]} {noise[name]:.2f}" for name in (GRADIENT, EPSILON, Z)), "holds"],
        ["`depth`, fig. A.3", f"z⁺z⁻ and {RULES[ALPHA]} are most robust, worse at 6 layers, random at 20",
         "; ".join(f"at {layers} layers {each(depth[layers], 0)}" for layers in (3, 6, 20)), f"{RULES[ALPHA]} is"],
    ]  # fmt: skip
    return markdown(["experiment", "what the paper says", "what was found", ""], lines)


def spiking_images() -> str:
    """Spiking convolutions of the paper's newer version by each method, at the best of its rates."""
    best: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in of_experiment("snn-images"):
        key = row["data"], row["network"], row["method"]
        best[key] = max(best.get(key, row), row, key=lambda each: each["accuracy"])
    pairs = list(dict.fromkeys(key[:2] for key in best))
    lines = [
        [label, *(f"{percent(found['accuracy'])} ({found['lr']:g})" for found in (best[*pair, name] for pair in pairs))]
        for name, label in IMAGE_METHODS.items()
    ]
    return markdown(["test accuracy, % (rate)", *(f"{SETS[data]}, {network}" for data, network in pairs)], lines)


def activations() -> str:
    """Activation functions of the paper's newer version by gradients and by LFP."""
    found = of_experiment("activations")
    names = list(dict.fromkeys(row["activation"] for row in found))
    lines = [
        [label, *(percent(one(found, activation=name, method=method)["accuracy"]) for name in names)]
        for method, label in ((GRADIENT, "gradient"), (EPSILON, "LFP-ε"))
    ]
    return markdown(["test accuracy, %", *names], lines)


def snn_grid() -> str:
    """What the spiking networks reach over decay and steps, as a paragraph."""
    rows = of_experiment("snn-grid")
    best = {
        (network, method): max(row["accuracy"] for row in rows if (row["network"], row["method"]) == (network, method))
        for network in ("mlp", "lenet")
        for method in ("epsilon", "surrogate", "zplus-zminus")
    }
    awake = [row["accuracy"] for row in rows if row["method"] == "awake"]
    mlp, lenet = (
        " against ".join(percent(best[network, method]) for method in ("epsilon", "surrogate"))
        for network in ("mlp", "lenet")
    )
    z = " and ".join(percent(best[network, "zplus-zminus"]) for network in ("mlp", "lenet"))
    text = (
        f"As the paper finds, LFP-ε matches or beats the surrogate at its best setting (MLP {mlp} %, LeNet {lenet} %), "
        f"z⁺z⁻ does not ({z} %), and with a fast leak LFP learns nothing: only the biases of the last layer move, as "
        "in the paper's figure A.5. The cause is silence at the start, not LFP: first weights three times as large, "
        "and a reward that asks for a rate whatever T is (`awake` in the figure: `--set gain=3 --set "
        "reward=spike-rate`), "
        f"and the same rule reaches {percent(min(awake))} to {percent(max(awake))} % in every cell, more than the "
        "surrogate in each."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"


def snn_grid_at_scale() -> str:
    """What the paper says of its spiking networks, and what was found at its scale."""
    lines = [
        [found["paper"], found["found"], VERDICTS[found["holds"]]]
        for found in of_experiment("snn-grid-paper", "findings")
    ]
    return markdown(["what the paper says", "what was found", ""], lines)


TABLES: dict[str, Callable[[], str]] = {
    "lfp-paper": lfp_paper,
    "snn-grid": snn_grid,
    "snn-grid-paper": snn_grid_at_scale,
    "snn-images": spiking_images,
    "activations": activations,
}
