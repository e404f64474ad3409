"""Decoders of recordings: from the words of a file to events, for CPU.

Decoders take a state, integers that tell where they are in a file, and return the one with which the next block goes
on: what is decoded in blocks is what is decoded at once. They fill as much of an array `out` of dtype `EVENT` as fits,
and return how many events there are: called with an empty array first, they count.
"""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.kernels.compilation import kernel

Array = NDArray[Any]

# types of words in EVT 2.0, 2.1 and 3.0; those from D on are inertial and vendor's data, and what continues a word
TIME_HIGH, TRIGGER, SKIPPED = 0x8, 0xA, 0xD
# of EVT: high part of the time, -1 before the first one, and what has wrapped around; low part, row, first column and
# polarity of a vector, of EVT 3.0; how many events came before the first time, triggers, and unknown words
EVT_START = (-1, 0, 0, -1, -1, 0, 0, 0, 0)
# digits that are exact in 64 bits
DIGITS = 18


@kernel
@no_type_check
def first_fault(events: Array, height: int, width: int) -> Any:
    """Return the first event outside of the sensor, or -1, and the first one before its predecessor, or -1."""
    back = -1
    before = events[0].t if len(events) else 0
    for i in range(len(events)):
        event = events[i]
        if not (0 <= event.x < width and 0 <= event.y < height):
            return i, back
        if event.t < before and back < 0:
            back = i
        before = event.t
    return -1, back


@kernel
@no_type_check
def pack(x: Array, y: Array, t: Array, p: Array, sides: int, latest: int, out: Array) -> Any:
    """Fill events from columns `[N]` of 64 bits.

    Rows and columns lie below `sides`, times within `latest`, polarities are 0 and 1, or -1 and 1.

    Returns:
        whether a value is none of a recording, and whether there are polarities of 0, and of -1.
    """
    wrong, zero, negative = False, False, False
    for i in range(len(t)):
        wrong |= x[i] < 0 or x[i] >= sides or y[i] < 0 or y[i] >= sides or t[i] < -latest or t[i] > latest
        wrong |= p[i] < -1 or p[i] > 1
        zero |= p[i] == 0
        negative |= p[i] < 0
        event = out[i]
        event.x = x[i]
        event.y = y[i]
        event.t = t[i]
        event.p = p[i] > 0
    return wrong or (zero and negative), zero, negative


@kernel
@no_type_check
def largest(events: Array) -> Any:
    """Return the largest x and y, 0 of no events."""
    x, y = 0, 0
    for i in range(len(events)):
        x, y = max(x, events[i].x), max(y, events[i].y)
    return x, y


@kernel
@no_type_check
def five_bytes(records: Array, overflow_row: int, overflow_us: int, later: int, out: Array) -> Any:
    """Decode bytes `[N, 5]`: x, y, one bit of polarity and 23 of time.

    Records of the row `overflow_row` are no events, but let `overflow_us` pass for all that follow; -1 for none.

    Returns:
        how many events there are, what has passed, which is the state, and the largest row of all records.
    """
    count, highest = 0, 0
    for i in range(len(records)):
        y, word = np.int64(records[i, 1]), np.int64(records[i, 2])
        highest = max(highest, y)
        if y == overflow_row:
            later += overflow_us
            continue
        event = out[count]
        event.x = records[i, 0]
        event.y = y
        event.t = ((word & 127) << 16 | np.int64(records[i, 3]) << 8 | np.int64(records[i, 4])) + later
        event.p = word >> 7
        count += 1
    return count, later, highest


@kernel
@no_type_check
def _swapped(word: Any) -> Any:
    """Return 32 bits with their bytes in the other order."""
    return np.int64(word >> 24 | (word >> 8 & 0xFF00) | (word & 0xFF00) << 8 | (word & 0xFF) << 24)


@kernel
@no_type_check
def addresses(words: Array, layout: Any, state: Any, out: Array) -> Any:
    """Decode big-endian pairs `[N, 2]` of address and microseconds, which wrap around at 32 bits.

    Args:
        layout: the lowest bit of p, x and y; masks of x and y; what x and y are subtracted from, or -1; masks of bits
            that mark signals, of bits that mark other records, and of bits that are never set.
        state: the last time, and what has wrapped around; 0 and 0.

    Returns:
        how many events there are, the state, how many signals, and the first record with a bit that is never set, or
        -1.
    """
    at_p, at_x, at_y, x_mask, y_mask, last_x, last_y, signal, other, never = layout
    before, later = state
    count, signals, invalid = 0, 0, -1
    for i in range(len(words)):
        address, t = _swapped(words[i, 0]), _swapped(words[i, 1])
        if before - t > 1 << 31:
            later += 1 << 32
        before = t
        if address & never and invalid < 0:
            invalid = i
        if address & other:
            continue
        if address & signal:
            signals += 1
            continue
        x, y = address >> at_x & x_mask, address >> at_y & y_mask
        event = out[count]
        event.x = last_x - x if last_x >= 0 else x
        event.y = last_y - y if last_y >= 0 else y
        event.t = t + later
        event.p = address >> at_p & 1
        count += 1
    return count, (before, later), signals, invalid


@kernel
@no_type_check
def dat(words: Array, state: Any, out: Array) -> Any:
    """Decode pairs `[N, 2]` of microseconds, which wrap around, and address.

    Returns:
        the state, as of `addresses`, and the largest polarity.
    """
    before, later = state
    highest = 0
    for i in range(len(words)):
        t, address = np.int64(words[i, 0]), np.int64(words[i, 1])
        if before - t > 1 << 31:
            later += 1 << 32
        before = t
        highest = max(highest, address >> 28)
        event = out[i]
        event.x = address & 0x3FFF
        event.y = address >> 14 & 0x3FFF
        event.t = t + later
        event.p = address >> 28 & 1
    return (before, later), highest


@kernel
@no_type_check
def _int32(content: Array, at: int) -> Any:
    """Return a signed, little-endian number of 32 bits."""
    low = np.int64(content[at]) | np.int64(content[at + 1]) << 8 | np.int64(content[at + 2]) << 16
    return low | (np.int64(content[at + 3]) ^ 128) - 128 << 24


@kernel
@no_type_check
def packets(content: Array, state: Any, out: Array) -> Any:
    """Decode packets of AEDAT 3.1: a header of 28 bytes and its events, of which those of kind 1 are read.

    Args:
        content: bytes.
        state: how many bytes the packet still has; its kind, bytes of an event, overflows of the time and number of
            events; how many records of events there were, and how many special events; 0 each.
        out: with room for an event in 8 bytes.

    Returns:
        how many events there are, the state, where the last record ends, and whether what comes there is no header of a
        packet: 1, or 2 if only its events have the wrong size.
    """
    left, kind, size, overflows, number, seen, special = state
    count, at = 0, 0
    while True:
        if left == 0:
            if at + 28 > len(content):
                break
            size, overflows = _int32(content, at + 4), _int32(content, at + 12)
            number, valid = _int32(content, at + 20), _int32(content, at + 24)
            if size <= 0 or overflows < 0 or valid < 0 or valid > number or number != _int32(content, at + 16):
                return count, (left, kind, size, overflows, number, seen, special), at, 1
            kind = np.int64(content[at]) | np.int64(content[at + 1]) << 8
            if kind == 1 and size != 8:
                return count, (left, kind, size, overflows, number, seen, special), at, 2
            special += number if kind == 0 else 0
            left, at = number * size, at + 28
            continue
        if kind != 1:
            there = min(left, len(content) - at)
            at, left = at + there, left - there
        while kind == 1 and left and at + 8 <= len(content):
            word, t = _int32(content, at), _int32(content, at + 4)
            if word & 1:
                event = out[count]
                event.x = word >> 17 & 0x7FFF
                event.y = word >> 2 & 0x7FFF
                event.t = t + (overflows << 31)
                event.p = word >> 1 & 1
                count += 1
            seen += 1
            at, left = at + 8, left - 8
        if left:
            break
    return count, (left, kind, size, overflows, number, seen, special), at, 0


@kernel
@no_type_check
def event_stream(content: Array, time: int, overflow: int, unit: int, flags: int, out: Array) -> Any:
    """Decode the events of Event Stream 2.

    Args:
        time: the state, 0.
        overflow: first bytes from here on let some `unit` of microseconds pass.
        flags: the number of flags in the low bits of a first byte; of two, the lowest marks what is no event.

    Returns:
        how many events there are, the state, and where the last complete record ends.
    """
    count, at = 0, 0
    while at < len(content):
        first = np.int64(content[at])
        if first >= overflow:
            time, at = time + unit * (first - overflow), at + 1
            continue
        if at + 5 > len(content):
            break
        time += first >> flags
        if flags == 1 or not first & 1:
            if count < len(out):
                event = out[count]
                event.x = np.int64(content[at + 1]) | np.int64(content[at + 2]) << 8
                event.y = np.int64(content[at + 3]) | np.int64(content[at + 4]) << 8
                event.t = time
                event.p = first >> (flags - 1) & 1
            count += 1
        at += 5
    return count, time, at


@kernel
@no_type_check
def evt2(words: Array, state: Any, out: Array) -> Any:
    """Decode words of 32 bits of EVT 2.0, as in `evt21`, with one event a word."""
    high, later, _, _, _, _, early, triggers, unknown = state
    count = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= 1:
            if high < 0:
                early += 1
                continue
            if count < len(out):
                event = out[count]
                event.x = word >> 11 & 0x7FF
                event.y = word & 0x7FF
                event.t = (high + later) << 6 | word >> 22 & 0x3F
                event.p = kind
            count += 1
        elif kind == TIME_HIGH:
            if high - (word & 0xFFFFFFF) > 1 << 27:
                later += 1 << 28
            high = word & 0xFFFFFFF
        elif kind == TRIGGER:
            triggers += 1
        elif kind < SKIPPED:
            unknown += 1
    return count, (high, later, 0, 0, 0, 0, early, triggers, unknown)


@kernel
@no_type_check
def evt21(words: Array, state: Any, out: Array) -> Any:
    """Decode words `[N, 2]` of EVT 2.1: 32 bits that say which of 32 pixels in a row, and 32 as in EVT 2.0.

    The high part of times, 28 bits, comes in words of its own and wraps around; the low part has 6 bits.

    Args:
        state: see `EVT_START`.

    Returns:
        how many events there are, and the state.
    """
    high, later, _, _, _, _, early, triggers, unknown = state
    count = 0
    for i in range(len(words)):
        word, pixels = np.int64(words[i, 1]), np.int64(words[i, 0])
        kind = word >> 28
        if kind <= 1:
            x, y, t = word >> 11 & 0x7FF, word & 0x7FF, (high + later) << 6 | word >> 22 & 0x3F
            while pixels:
                if pixels & 1:
                    if high < 0:
                        early += 1
                    else:
                        if count < len(out):
                            event = out[count]
                            event.x, event.y, event.t, event.p = x, y, t, kind
                        count += 1
                x += 1
                pixels >>= 1
        elif kind == TIME_HIGH:
            if high - (word & 0xFFFFFFF) > 1 << 27:
                later += 1 << 28
            high = word & 0xFFFFFFF
        elif kind == TRIGGER:
            triggers += 1
        elif kind < SKIPPED:
            unknown += 1
    return count, (high, later, 0, 0, 0, 0, early, triggers, unknown)


@kernel
@no_type_check
def evt3(words: Array, state: Any, out: Array) -> Any:
    """Decode words of 16 bits of EVT 3.0: row, column, vectors of columns, and 12 bits each of low and high time.

    State and result are as of `evt21`. A row of which no event has come yet, and one of another kind of events, has
    none.
    """
    high, later, low, y, base, polarity, early, triggers, unknown = state
    count, t = 0, (later + high) << 12 | low
    for i in range(len(words)):
        word = np.int64(words[i])
        kind, value = word >> 12, word & 0xFFF
        if kind == 2:
            if y >= 0 and high >= 0:
                if count < len(out):
                    event = out[count]
                    event.x = value & 0x7FF
                    event.y = y
                    event.t = t
                    event.p = value >> 11
                count += 1
            else:
                early += 1
        elif kind == 4 or kind == 5:
            size = 12 if kind == 4 else 8
            pixels = value & ((1 << size) - 1)
            x = base
            while pixels:
                if pixels & 1:
                    if y >= 0 and base >= 0 and high >= 0:
                        if count < len(out):
                            event = out[count]
                            event.x = x
                            event.y = y
                            event.t = t
                            event.p = polarity
                        count += 1
                    else:
                        early += 1
                x += 1
                pixels >>= 1
            if base >= 0:
                base += size
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == 0:
            y = value
        elif kind == 1:
            y = -1
        elif kind == 6:
            low = value
            t = (later + high) << 12 | low
        elif kind == TIME_HIGH:
            if high - value > 1 << 11:
                later += 1 << 12
            # until its low part comes, the time is the first one with this high part
            if value != high:
                low = 0
            high = value
            t = (later + high) << 12 | low
        elif kind == TRIGGER:
            triggers += 1
        elif kind < SKIPPED and kind != 7:
            unknown += 1
    return count, (high, later, low, y, base, polarity, early, triggers, unknown)


@kernel
@no_type_check
def numbers(text: Array, digits: Array, exponents: Array) -> Any:
    """Read lines of numbers, of which white space, commas and semicolons part one from the other.

    Lines that begin with # or % and empty ones are skipped. True and False are read as 1 and 0.

    Args:
        text: bytes, with a line break at the end.
        digits: int64 `[C, N]`, where C is the numbers of a line and N at least the number of lines.
        exponents: int16 `[C, N]`: a number is its digits times 10 to this power.

    Returns:
        how many lines of C numbers there are, and where the first line that is none begins, or -1.
    """
    columns, row, at, size = len(digits), 0, 0, len(text)
    while at < size:
        start = at
        while text[at] == 32 or text[at] == 9 or text[at] == 13:
            at += 1
        if text[at] == 10:
            at += 1
            continue
        if text[at] == 35 or text[at] == 37:
            while text[at] != 10:
                at += 1
            at += 1
            continue
        for column in range(columns):
            sign, value, exponent, kept, any_digit = 1, np.int64(0), 0, 0, False
            if text[at] == 45 or text[at] == 43:
                sign = -1 if text[at] == 45 else 1
                at += 1
            if text[at] == 84 or text[at] == 116 or text[at] == 70 or text[at] == 102:  # T t F f
                value, any_digit = np.int64(text[at] == 84 or text[at] == 116), True
                while 97 <= text[at] | 32 <= 122:
                    at += 1
            point = False
            while True:
                c = text[at]
                if 48 <= c <= 57:
                    any_digit = True
                    if kept < DIGITS:
                        value = value * 10 + (c - 48)
                        kept += value > 0
                        exponent -= point
                    else:
                        exponent += not point
                elif c == 46 and not point:
                    point = True
                else:
                    break
                at += 1
            if any_digit and text[at] | 32 == 101:  # e
                at += 1
                power, power_sign = 0, 1
                if text[at] == 45 or text[at] == 43:
                    power_sign = -1 if text[at] == 45 else 1
                    at += 1
                any_digit = False
                while 48 <= text[at] <= 57:
                    power, any_digit = min(power * 10 + (text[at] - 48), 9999), True
                    at += 1
                exponent += power_sign * power
            if not any_digit:
                return row, start
            # 2500e-3 is 25 times 10 to the -1, and 10e-1 is whole
            while exponent < 0 and value % 10 == 0 and value:
                value, exponent = value // 10, exponent + 1
            while exponent > 0 and 0 < value < 10 ** (DIGITS - 1):
                value, exponent = value * 10, exponent - 1
            digits[column, row] = sign * value
            exponents[column, row] = exponent if value else 0
            parted = False
            while text[at] == 32 or text[at] == 9 or text[at] == 13 or text[at] == 44 or text[at] == 59:
                at, parted = at + 1, True
            if column < columns - 1 and not parted:
                return row, start
        if text[at] != 10:
            return row, start
        at, row = at + 1, row + 1
    return row, -1
