"""Interim."""
from pathlib import Path
import numpy as np
from spiking_lfp.errors import DataError
from spiking_lfp.events.records import EVENT, Recording, Sensor
SUFFIXES = (".bin", ".bs2", ".aedat")

def read_events(path: Path, sensor: Sensor | None = None) -> Recording:
    """Read."""
    b = path.read_bytes()
    if path.suffix == ".aedat":
        i = 0
        while b[i:i+1] == b"#":
            i = b.index(b"\n", i) + 1
        a = np.frombuffer(b[i:], ">u4").reshape(-1, 2)
        e = np.zeros(len(a), EVENT)
        e["x"], e["y"], e["t"], e["p"] = (a[:, 0] >> 1) & 127, (a[:, 0] >> 8) & 127, a[:, 1], a[:, 0] & 1
        return Recording(e, (2, 128, 128))
    d = np.frombuffer(b, np.uint8).reshape(-1, 5).astype(np.int64)
    e = np.zeros(len(d), EVENT)
    e["x"], e["y"], e["t"], e["p"] = d[:, 0], d[:, 1], ((d[:, 2] & 127) << 16) | (d[:, 3] << 8) | d[:, 4], d[:, 2] >> 7
    return Recording(e, sensor or (2, int(d[:, 1].max()) + 1, int(d[:, 0].max()) + 1))
