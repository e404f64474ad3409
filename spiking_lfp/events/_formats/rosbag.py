"""Bags of ROS 1 with messages of events, read by the package rosbags."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from spiking_lfp.errors import DataError, one_line
from spiking_lfp.events._formats.common import Columns, Reading, import_extra
from spiking_lfp.events.records import Sensor

# both have the same fields; the first are those of ROS's drivers for DVS and DAVIS
MESSAGES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
EVENT_RECORD = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])


def bag(reading: Reading) -> Iterator[Columns]:
    """Events of `MESSAGES` on one topic, with their own times, to the nearest microsecond."""
    package = import_extra("rosbags.rosbag1", "ros")
    try:
        with package.Reader(reading.path) as reader:
            connections = [each for each in reader.connections if each.msgtype in MESSAGES]
            topics = sorted({each.topic for each in connections})
            if len(topics) != 1:
                found = ", ".join(topics) or ", ".join(sorted({each.msgtype for each in reader.connections}))
                said = f"events on the topics {found}" if topics else f"messages of {found or 'no type'}"
                raise DataError(f"it has {said}, expected one topic with events ({', '.join(MESSAGES)})")
            waiting, size = [np.zeros(0, EVENT_RECORD)], 0
            for _, _, content in reader.messages(connections=connections):
                sensor, records = _message(content)
                if sensor != (reading.sensor or sensor):
                    raise DataError(f"its messages are of sensors of different sizes, {reading.sensor} and {sensor}")
                reading.sensor = sensor
                waiting.append(records)
                size += records.nbytes
                if reading.block is not None and size >= reading.block:
                    yield _columns(waiting)
                    waiting, size = [], 0
            if waiting:
                yield _columns(waiting)
    except DataError:
        raise
    except Exception as error:  # rosbags raises all kinds of errors for damaged files
        raise DataError(f"rosbags says: {one_line(error)}") from None


def _columns(waiting: list[Any]) -> Columns:
    records = np.concatenate(waiting)
    t = records["s"].astype(np.int64) * 10**6 + (records["ns"].astype(np.int64) + 500) // 1000
    return {"x": records["x"], "y": records["y"], "t": t, "p": records["p"]}


def _message(content: Any) -> tuple[Sensor, Any]:
    """Return sensor and events of a message: number, time and name of a frame, height, width, count and events."""
    content = bytes(content)
    try:
        (name,) = struct.unpack_from("<I", content, 12)
        height, width, count = struct.unpack_from("<III", content, 16 + name)
        events = np.frombuffer(content, EVENT_RECORD, count, 28 + name)
    except (struct.error, ValueError):
        raise DataError("a message of events in it is damaged") from None
    return (2, height, width), events
