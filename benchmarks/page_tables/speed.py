"""How long it takes: training steps, batches of recordings, and a stranger's first steps."""

from collections.abc import Callable
from typing import Any

from records import KEPT, read

from page_tables.common import markdown


def steps_line(network: str, steps: int) -> dict[str, Any]:
    """Return the latest run of `steps.py` on a network."""
    return [line for line in read(KEPT / "steps.jsonl") if (line["network"], line["T"]) == (network, steps)][-1]


def faster(line: dict[str, Any], name: str) -> str:
    """Return the method of this name in a line; snnTorch's is the faster of two forms."""
    forms: dict[str, float] = {key: ms for key, ms in line["median_ms"].items() if key.startswith(name)}
    return min(forms, key=lambda key: forms[key])


def times(line: dict[str, Any], method: str, measure: str = "median_ms") -> float:
    """Return how many times that of the first method a time or a peak of memory is."""
    kept = line.get({"median_ms": "times_first", "peak_mb": "memory_times_first"}[measure])
    if kept:  # from before all digits were kept
        return float(kept[method])
    values = line[measure]
    return float(values[method] / next(iter(values.values())))


def steps() -> str:
    """A training step beside those of others."""
    names = {"lfprop": "lfprop 1.0.0", "snntorch": "snnTorch 1.0.0, BPTT", "spikingjelly": "SpikingJelly 2.0.0"}
    latest = {(line["network"], line["T"]): line for line in read(KEPT / "steps.jsonl") if line["T"] < 100}
    lines = []
    for (network, length), line in latest.items():
        ms, mb = line["median_ms"], line["peak_mb"]
        lines.append([
            network, str(length), f"{ms['spiking_lfp']:.0f} ms, {mb['spiking_lfp']:.0f} MB",
            *(
                f"{ms[form]:.0f} ms ({times(line, form):.1f}), {mb[form]:.0f} MB ({times(line, form, 'peak_mb'):.1f})"
                for form in (faster(line, name) for name in names)
            ),
        ])  # fmt: skip
    return markdown(["network", "T", "spiking_lfp", *names.values()], lines)


def long_sequences() -> str:
    """A training step on 100 steps, at once and in chunks."""
    names = {
        "spiking_lfp": "at once",
        "spiking_lfp, chunks of 25": "in chunks",
        "snntorch": "snnTorch, loop over time",
    }
    latest = {line["network"]: line for line in read(KEPT / "steps.jsonl") if line["T"] == 100}
    lines = [
        [network, *(f"{line['median_ms'][name]:.0f} ms, {line['peak_mb'][name]:.0f} MB" for name in names)]
        for network, line in latest.items()
    ]
    return markdown(["network", *names.values()], lines)


def loading() -> str:
    """How long batches of recordings are made, read and waited for, beside the training step that takes them."""
    latest = {line["preset"]: line for line in read(KEPT / "loading.jsonl")}
    lines = []
    for preset, line in latest.items():
        step, batch, _, waited = line["median_ms"].values()
        files, copy = line["bytes"].values()
        times = [f"{step:.1f} ms", f"{batch:.2f} ms", f"{waited:.1f} ms"]
        lines.append([f"`{preset}`", *times, f"{files / 1e6:.1f} MB", f"{copy / 1e6:.1f} MB"])
    head = ["preset", "training step", "its batch from memory", "waited for two processes that read", "files"]
    return markdown([*head, "a copy in the cache"], lines)


def streaming() -> str:
    """How fast long recordings are read, and in how much memory."""
    latest = {(line["file"], line["into"]): line for line in read(KEPT / "streaming.jsonl")}
    lines = []
    for (name, into), line in latest.items():
        memory = [f"{each:.0f}" for each in sorted(line["mb_after_each_tenth"])]
        rate = f"{line['events_per_second'] / 1e6:.1f}"
        size = f"{line['bytes'] / 1e9:.1f} GB, {line['events'] / 1e6:.0f} million events"
        lines.append(
            [
                {"evt3": "EVT 3", "npy": "NumPy"}[name],
                size,
                into,
                rate,
                " to ".join(dict.fromkeys([memory[0], memory[-1]])),
            ]
        )
    return markdown(["file", "size", "into", "million events a second", "memory of the process, MB"], lines)


def first_steps() -> str:
    """A stranger's way from a clone to a C program."""
    latest = {line["stage"]: line for line in read(KEPT / "first-steps.jsonl")}
    total, lines = 0.0, []
    for stage, line in latest.items():
        total += line["seconds"]
        minutes, seconds = divmod(round(total), 60)
        lines.append([stage, f"{line['seconds']:.0f} s", f"{minutes} min {seconds} s"])
    return markdown(["", "takes", "since the start"], lines)


def precision_of_products() -> str:
    """Training steps with products in float32 and in bfloat16."""
    latest = {(line["preset"], line["made"]["threads"]): line for line in read(KEPT / "precision.jsonl")}
    lines = [
        [
            f"`{preset}`", str(line["T"]), str(threads),
            *(f"{line['median_ms'][name]:.0f} ms" for name in ("highest", "medium")),
            f"{line['median_ms']['highest'] / line['median_ms']['medium']:.1f}",
        ]
        for (preset, threads), line in latest.items()
    ]  # fmt: skip
    return markdown(["preset", "T", "threads", "float32", "bfloat16", "times faster"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "steps": steps, "long-sequences": long_sequences, "precision": precision_of_products, "loading": loading,
    "streaming": streaming, "first-steps": first_steps,
}  # fmt: skip
