"""Cameras through dv-processing and aestream: what stands in for them here has their interfaces."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from helpers import event_bytes as make
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events import cameras
from spiking_lfp.events._formats import common
from spiking_lfp.events.cameras import aestream_camera, dv_camera
from spiking_lfp.events.records import EVENT, EventArray
from spiking_lfp.events.streams import Window, read_stream

# what dv-processing's EventStore.numpy() returns
DV_EVENT = np.dtype(
    {
        "names": ["timestamp", "x", "y", "polarity"],
        "formats": ["<i8", "<i2", "<i2", "i1"],
        "offsets": [0, 8, 10, 12],
        "itemsize": 16,
    }
)
EVENTS = make.made(2, 500, 34, 20)


def joined(windows: list[Window]) -> EventArray:
    return np.concatenate([np.empty(0, EVENT), *(window.events for window in windows)])


class Capture:
    """A camera, server or recording of dv-processing that has some events, now and then."""

    def __init__(self, events: EventArray, error: Exception | None = None) -> None:
        self.batches = self._batches(events)
        self.error, self.running = error, True

    @staticmethod
    def _batches(events: EventArray) -> Iterator[np.ndarray | None]:
        made = np.zeros(len(events), DV_EVENT)
        for name, mine in zip(DV_EVENT.names or (), "txyp", strict=True):
            made[name] = events[mine]
        for start in range(0, len(events), 60):
            yield None  # none have come yet
            yield made[start : start + 60]
            yield made[:0]

    def isRunning(self) -> bool:
        return self.running

    def getEventResolution(self) -> tuple[int, int] | None:
        return (34, 20)

    def getNextEventBatch(self) -> Any:
        try:
            batch = next(self.batches)
        except StopIteration:
            if self.error is not None:
                raise self.error from None
            self.running = False
            return None
        return None if batch is None else SimpleNamespace(numpy=lambda: batch)


@pytest.fixture
def dv(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the module dv_processing, with one camera, A1, and one server."""

    def opened(serial: str = "A1") -> Capture:
        if serial != "A1":
            # as it says it
            raise RuntimeError(
                "/project/discovery.hpp(88): CameraPtr open()\nRuntimeError: Could not find it\nStack:\n 0"
            )
        return Capture(EVENTS)

    def connected(host: str, port: int) -> Capture:
        if (host, port) != ("127.0.0.1", 7777):
            raise RuntimeError("connect: Connection refused [system:111 at /vcpkg/reactive_socket_service.hpp:588]")
        return Capture(EVENTS)

    camera = SimpleNamespace(open=opened, discover=lambda: ["A1"])
    module = SimpleNamespace(io=SimpleNamespace(camera=camera, NetworkReader=connected))
    monkeypatch.setitem(sys.modules, "dv_processing", module)  # type: ignore[arg-type]
    return module


@pytest.mark.usefixtures("dv")
@pytest.mark.parametrize("source", ["", "A1", "127.0.0.1:7777", Capture(EVENTS)])
def test_events_of_a_camera_come_in_windows(source: Any) -> None:
    camera = dv_camera(source)
    assert camera.sensor == (2, 20, 34)
    windows = list(read_stream(camera, 20.0))
    assert make.rows(joined(windows)) == make.rows(EVENTS)
    assert {window.duration for window in windows} == {20_000}
    assert len(windows) == (EVENTS["t"][-1] - EVENTS["t"][0]) // 20_000 + 1


def test_what_is_not_there_is_said(dv: SimpleNamespace) -> None:
    for source, message in (
        ("B2", "^the camera B2 cannot be read: dv-processing says: Could not find it$"),
        ("127.0.0.1:1", "^the camera 127.0.0.1:1 cannot be read: dv-processing says: Connection refused$"),
        (SimpleNamespace(getEventResolution=lambda: None), "^the camera cannot be read: it has no events$"),
    ):
        with pytest.raises(DataError, match=message):
            dv_camera(source)
    with pytest.raises(UsageError, match="the source is 'a:b', expected a serial number, or a server as"):
        dv_camera("a:b")
    dv.io.camera.discover = list
    with pytest.raises(DataError, match="the camera cannot be read: none is connected that dv-processing knows"):
        dv_camera()


def test_without_dv_processing_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(common, "import_module", missing)
    with pytest.raises(UsageError, match=r"dv_processing is not installed: pip install 'spiking-lfp\[cameras\]'"):
        dv_camera()


def test_a_camera_that_is_pulled_out() -> None:
    stream = read_stream(dv_camera(Capture(EVENTS, RuntimeError("device was disconnected"))), 20.0)
    found: list[Window] = []
    with pytest.raises(DataError, match=r"^the camera cannot be read: dv-processing says: device was disconnected$"):
        found.extend(stream)
    assert np.array_equal(joined(found), EVENTS[: len(joined(found))])
    assert len(joined(found)) > 400


SERVER = """
import sys, time
import numpy as np, dv_processing as dv
writer = dv.io.NetworkWriter("127.0.0.1", int(sys.argv[1]), dv.io.Stream.EventStream(0, "events", "camera", (34, 20)))
print("listening", flush=True)
while not writer.getClientCount():
    time.sleep(0.01)
for part in np.array_split(np.loadtxt(sys.argv[2], dtype=int), 9):
    store = dv.EventStore()
    for x, y, t, p in part.tolist():
        store.push_back(t, x, y, bool(p))
    writer.writeEvents(store)
    time.sleep(0.02)
sys.stdin.read()
sys.stdout.flush()
import os
os._exit(0)
"""


def test_a_server_of_dv_processing(tmp_path: Any) -> None:
    """The real library on both sides of a connection, where it is installed."""
    pytest.importorskip("dv_processing", reason="needs dv-processing, the extra cameras")
    np.savetxt(tmp_path / "events.txt", make.rows(EVENTS), fmt="%d")
    command = [sys.executable, "-c", SERVER, "10987", str(tmp_path / "events.txt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        assert server.stdin is not None
        windows = []
        for window in read_stream(dv_camera("127.0.0.1:10987"), 20.0):
            windows.append(window)
            if window.start + 2 * window.duration > EVENTS["t"][-1]:
                server.stdin.close()  # the server goes, and with it the stream
    events = joined(windows)
    assert make.rows(events) == make.rows(EVENTS)


class Clock:
    """Stands in for `time`; to sleep takes no time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class AestreamInput:
    """Stands in for aestream's inputs: sums of events since it was last asked, columns before rows."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.asked = clock, [clock.now]

    def read(self) -> np.ndarray:
        """One event at (3, 1) each 4 ms, two at (0, 0) each 1000 ms."""
        since, now = (round((each - 100) * 1000) for each in (self.asked[-1], self.clock.now))
        self.asked.append(self.clock.now)
        frame = np.zeros((5, 2), np.float32)
        frame[3, 1] = now // 4 - since // 4
        frame[0, 0] = 2 * (now // 1000 - since // 1000)
        return frame


def test_sums_of_aestream_come_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(cameras, "time", clock)
    source = AestreamInput(clock)
    camera = aestream_camera(source, 10.0)
    assert camera.sensor == (1, 2, 5)
    clock.now += 5  # what comes before the first window is not in it
    stream = read_stream(camera, 20.0)
    windows = list(islice(stream, 3))
    assert [window.start for window in windows] == [0, 20_000, 40_000]
    assert windows[0].events.tolist() == [(3, 1, 0, True)] * 2 + [(3, 1, 10_000, True)] * 3
    # each is there when it is over
    assert clock.now == pytest.approx(105 + 0.06)
    clock.now += 0.1
    late = list(islice(stream, 6))
    assert [window.start for window in late] == [20_000 * number for number in range(3, 9)]
    # the events of what was missed are in the last interval that is over
    assert [len(window.events) for window in late] == [0, 0, 0, 0, 25, 5]
    with pytest.raises(UsageError, match=r"interval_ms must be at least 0\.001, found 0\.0"):
        aestream_camera(source, 0.0)


def test_still_scenes_are_empty_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(cameras, "time", clock)
    frames = iter([np.zeros((5, 2)), np.zeros((5, 2)), np.ones((5, 2)), *[np.zeros((5, 2))] * 5])
    camera = aestream_camera(SimpleNamespace(read=lambda: next(frames)), 10.0)
    windows = list(islice(read_stream(camera, 10.0), 4))
    assert [len(window.events) for window in windows] == [10, 0, 0, 0]
