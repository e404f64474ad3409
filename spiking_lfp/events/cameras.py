"""Event cameras, by the libraries that drive them.

dv-processing has the cameras of iniVation and hands over every event. aestream has those of iniVation, Prophesee and
SynSense, and events from the network; it hands over how many events each pixel had since it was last asked, without
their polarities and times. What another library yields as arrays, `read_stream` takes as it is.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiking_lfp.errors import DataError, SpikingLFPError, UsageError, one_line
from spiking_lfp.events._formats.common import import_extra
from spiking_lfp.events.records import EVENT, Sensor

# between two questions for events where there were none
POLL_S = 0.001


@dataclass(frozen=True)
class Camera:
    """A source of events that has no end of its own.

    Attributes:
        name: for errors.
        sensor: polarities, height and width.
        batches: arrays of events, with the time in microseconds before which there are no others, if that is known.
    """

    name: str
    sensor: Sensor
    batches: Iterator[tuple[Any, int | None]]


def dv_camera(source: Any = "") -> Camera:
    """Open a camera by dv-processing, the extra `cameras`.

    Args:
        source: serial number of a camera, or the first one that is found if empty; `HOST:PORT` of a server of events,
            as DV and dv-processing's `NetworkWriter` are; or what dv-processing has opened, with settings of your own.

    Returns:
        the camera, whose events have the camera's times; it ends when the camera is unplugged or the server gone.

    Raises:
        DataError: if there is no camera or server, or it has no events.
        UsageError: if dv-processing is not installed.

    Example:
        >>> from types import SimpleNamespace
        >>> capture = SimpleNamespace(getEventResolution=lambda: (346, 260))  # for dv_processing.io.camera.open()
        >>> dv_camera(capture).sensor
        (2, 260, 346)

        With a camera: `for window in read_stream(dv_camera(), window_ms=10.0): ...`.
    """
    name = f"the camera {source}" if isinstance(source, str) and source else "the camera"
    try:
        capture = _opened(source) if isinstance(source, str) else source
        resolution = capture.getEventResolution()
    except SpikingLFPError:
        raise
    except Exception as error:  # of its C++ code
        raise DataError(f"{name} cannot be read: {_said(error)}") from None
    if resolution is None:
        raise DataError(f"{name} cannot be read: it has no events")
    width, height = resolution
    return Camera(name, (2, int(height), int(width)), _dv_batches(capture))


def _opened(source: str) -> Any:
    io = import_extra("dv_processing", "cameras").io
    host, _, port = source.rpartition(":")
    if host:
        if not port.isdecimal():
            raise UsageError(f"the source is {source!r}, expected a serial number, or a server as 127.0.0.1:7777")
        return io.NetworkReader(host, int(port))
    if source:
        return io.camera.open(source)
    if not io.camera.discover():
        raise DataError("the camera cannot be read: none is connected that dv-processing knows")
    return io.camera.open()


def _dv_batches(capture: Any) -> Iterator[tuple[Any, None]]:
    while True:
        running = capture.isRunning()
        try:
            store = capture.getNextEventBatch()
        except Exception as error:  # of its C++ code, as where a cable is pulled
            raise DataError(_said(error)) from None
        if store is not None:
            yield store.numpy(), None
        elif not running:
            return
        else:
            time.sleep(POLL_S)


def _said(error: Exception) -> str:
    """Return what dv-processing says, without the places in its code."""
    line = re.search(r"^\w+: (.+)$", str(error), re.MULTILINE)
    said = (line[1] if line else str(error)).partition(" [")[0]
    return f"dv-processing says: {one_line(ValueError(said))}"


def aestream_camera(source: Any, interval_ms: float) -> Camera:
    """Take the events of a camera, or from the network, that aestream has opened.

    aestream adds up events, which lose their times: those of an interval all are at its start, by the clock of this
    computer, which is 0 with the first. They lose their polarities too and count as on. Where windows are asked for too
    late, the events since the last one are in the latest interval.

    Args:
        source: aestream's `USBInput`, `UDPInput` or `SpeckInput`, in its `with` statement.
        interval_ms: how often it is asked for events, in milliseconds; the duration of windows, or a part of it.

    Returns:
        the camera, with one polarity; it does not end.

    Raises:
        UsageError: for an interval of less than a microsecond.

    Example:
        >>> from types import SimpleNamespace
        >>> source = SimpleNamespace(read=lambda: torch.eye(4))  # for aestream.UDPInput((4, 4), port=3333)
        >>> window = next(read_stream(aestream_camera(source, 10.0), window_ms=10.0))
        >>> len(window.events)
        4
    """
    interval = round(interval_ms * 1000) if 0 < interval_ms < float("inf") else 0
    if interval < 1:
        raise UsageError(f"interval_ms must be at least 0.001, found {interval_ms}")
    # columns before rows
    width, height = source.read().shape
    return Camera("aestream", (1, int(height), int(width)), _aestream_batches(source, interval))


def _aestream_batches(source: Any, interval: int) -> Iterator[tuple[Any, int]]:
    source.read()  # what has gathered meanwhile
    started, done = time.monotonic(), 0
    while True:
        end = max(done + interval, int((time.monotonic() - started) * 1e6) // interval * interval)
        time.sleep(max(started + end / 1e6 - time.monotonic(), 0))
        counts = np.asarray(source.read()).astype(np.int64)
        x, y = counts.nonzero()
        events = np.zeros(int(counts.sum()), EVENT)
        events["x"], events["y"] = np.repeat(x, counts[x, y]), np.repeat(y, counts[x, y])
        events["t"], events["p"], done = end - interval, True, end
        yield events, end
