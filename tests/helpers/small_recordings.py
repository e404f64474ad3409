"""Small copies of event data sets, in the layouts in which tonic leaves them, with made-up events."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spiking_lfp.events.records import EVENT


def events(seed: int, count: int = 50, width: int = 34, height: int = 34, lasts: int = 90_000) -> np.ndarray:
    """Return random events of a sensor, in order of time."""
    random = np.random.default_rng(seed)
    made = np.zeros(count, EVENT)
    made["x"], made["y"] = random.integers(0, width, count), random.integers(0, height, count)
    made["t"], made["p"] = np.sort(random.integers(0, lasts, count)), random.integers(0, 2, count)
    return made


def write_bin(path: Path, made: np.ndarray) -> None:
    """Write events in N-MNIST's records of five bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = np.zeros((len(made), 5), np.uint8)
    t = made["t"]
    records[:, 0], records[:, 1] = made["x"], made["y"]
    records[:, 2] = (made["p"].astype(int) << 7) | (t >> 16)
    records[:, 3], records[:, 4] = (t >> 8) & 255, t & 255
    path.write_bytes(records.tobytes())


def write_columns(path: Path, made: np.ndarray, columns: str, divide: int = 1) -> None:
    """Write events as plain numbers [N, 4], with times in units of so many microseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([made[name] // (divide if name == "t" else 1) for name in columns], axis=1).astype(np.int64))


def write_nmnist(root: Path, per_class: int = 2) -> None:
    for part in ("Train", "Test"):
        for digit in range(10):
            for number in range(per_class):
                seed = 1000 * (part == "Test") + 10 * digit + number
                write_bin(root / "NMNIST" / part / str(digit) / f"{number:05}.bin", events(seed))


def write_caltech(root: Path) -> None:
    for label, name in enumerate(("BACKGROUND_Google", "accordion", "ant")):
        for number in range(6):
            made = events(10 * label + number, width=150, height=120)
            made["x"] += 7
            write_bin(root / "NCALTECH101/Caltech101" / name / f"image_{number:04}.bin", made)


def write_gesture(root: Path) -> None:
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        for user in ("user01_led", "user02_lab"):
            for label in (0, 3, 10):
                path = root / "DVSGesture" / part / user / f"{label}.npy"
                write_columns(path, events(int(user[5]) + label + len(part), width=128, height=128), "xypt", 1000)


def write_poker(root: Path) -> None:
    for part in ("pips_train", "pips_test"):
        for label, name in enumerate(("cl", "he", "di", "sp")):
            for number in range(2):
                path = root / "POKERDVS" / part / name / f"{number}.npy"
                write_columns(path, events(10 * label + number, width=35, height=35), "txyp")


def write_lip(root: Path) -> None:
    for part in ("train", "test"):
        for label, word in enumerate(("accused", "action", "young")):
            path = root / "DVSLip/DVS-Lip" / part / word / "0.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = events(label, width=128, height=128)
            stored = np.zeros(len(made), [("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")])
            for name in stored.dtype.names or ():
                stored[name] = made[name]
            np.save(path, stored)


def write_heidelberg(root: Path, name: str) -> None:
    folder = root / name.upper()
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    for part, count in (("train", 6), ("test", 4)):
        with h5py.File(folder / f"{name}_{part}.h5", "w") as file:
            lengths = random.integers(0, 60, count)
            times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.float32))
            units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(np.int64))
            for index, length in enumerate(lengths):
                times[index] = np.sort(random.uniform(0, 1, length)).astype(np.float32)
                units[index] = random.integers(0, 700, length)
            file["labels"] = np.arange(count, dtype=np.uint16) % 3
            file["extra/keys"] = np.array([b"zero", b"eins", b"two"])
            file["extra/speaker"] = np.zeros(count, np.uint16)


WRITERS: dict[str, Any] = {
    "n-mnist": write_nmnist,
    "n-caltech101": write_caltech,
    "dvs-gesture": write_gesture,
    "poker-dvs": write_poker,
    "dvs-lip": write_lip,
    "shd": lambda root: write_heidelberg(root, "shd"),
    "ssc": lambda root: write_heidelberg(root, "ssc"),
}
