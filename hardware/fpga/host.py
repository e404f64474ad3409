#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sends inputs to the network on a board, over its serial line, and prints the class of each sample.

host.py --port /dev/ttyUSB1 samples.bin       samples as `spiking-lfp convert` writes them
host.py --port /dev/ttyUSB1 --golden          the golden run of this folder: a spike of any layer that differs is told

It needs pyserial, and what the export wrote beside it: network.json, inputs.hex and golden.hex.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
TIMEOUT = 20.0


class Failure(Exception):
    """What went wrong, in one sentence."""


class Simulated:
    """A board that a command simulates: it reads "w XX" and "r N", and prints bytes."""

    def __init__(self, command):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(shlex.split(command), stdin=pipe, stdout=pipe, text=True)

    def write(self, data):
        """Send bytes."""
        self.process.stdin.write("".join(f"w {byte:02x}\n" for byte in data))

    def read(self, count):
        """Return as many bytes of the answer."""
        self.process.stdin.write(f"r {count:x}\n")
        self.process.stdin.flush()
        lines = [self.process.stdout.readline() for _ in range(count)]
        try:
            return bytes(int(line, 16) for line in lines)
        except ValueError:
            raise Failure(f"the simulation printed {''.join(lines).strip() or 'nothing'!r}") from None

    def close(self):
        """End the simulation."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def serial_line(port, baud):
    """Return the serial line of a board, after a break."""
    try:
        import serial
    except ImportError:
        raise Failure("pyserial is not installed: pip install pyserial") from None
    try:
        line = serial.Serial(port, baud, timeout=TIMEOUT)
        # whatever a program before this one left undone
        line.send_break(0.01)
        line.reset_input_buffer()
    except (OSError, ValueError) as error:
        raise Failure(f"{port}: {error}") from None
    return line


class Board:
    """The network on a board."""

    def __init__(self, line, network):
        self.line = line
        self.network = network
        line.write(b"I")
        found = self.read(5)
        if found != b"I" + network["id"].to_bytes(4, "little"):
            raise Failure(f"the board answers {found.hex()}: it does not have the network of {FOLDER}, make flash")
        if network["weight_bytes"]:
            # of a memory that no bitstream holds
            words_of_weights = hexadecimal("weights.hex")
            line.write(b"L" + b"".join(word.to_bytes(network["weight_bytes"], "little") for word in words_of_weights))
            if self.read(1) != b"L":
                raise Failure("the board did not take the weights")

    def read(self, count):
        """Return as many bytes, or raise a Failure."""
        data = self.line.read(count)
        if len(data) != count:
            raise Failure(f"the board sent {len(data)} of {count} bytes in {TIMEOUT:.0f} s")
        return data

    def run(self, steps):
        """Return counts of all classes, class, signature and cycles of a sample: bytes of an image, or of each step."""
        self.line.write(b"S" + len(steps).to_bytes(2, "little"))
        for number, data in enumerate(steps):
            if number and self.network["constant"]:
                break
            if number and self.read(1) != b"W":
                raise Failure(f"the board did not ask for step {number}")
            self.line.write(data)
        classes = len(self.network["classes"])
        answer = self.read(1 + 2 * classes + 10)
        if answer[:1] != b"R":
            raise Failure(f"the board sent {answer[:1].hex()} instead of a result")
        numbers = [int.from_bytes(answer[k : k + 2], "little") for k in range(1, 3 + 2 * classes, 2)]
        signature, cycles = (int.from_bytes(answer[k : k + 4], "little") for k in (len(answer) - 8, len(answer) - 4))
        return numbers[:classes], numbers[classes], signature, cycles


def words(network, values):
    """Return values in the order channels, rows, columns as the board takes them."""
    channels, height, width = network["shape"]
    pixels = [values[place :: height * width] for place in range(height * width)]
    if network["constant"]:
        return b"".join(pixels)
    lanes = network["lanes"]
    taken = bytearray()
    for pixel in pixels:
        for low in range(0, channels, lanes):
            word = sum(bit << lane for lane, bit in enumerate(pixel[low : low + lanes]))
            taken += word.to_bytes(-(-lanes // 8), "little")
    return bytes(taken)


def samples_of(network, content):
    """Yield the steps of each sample in a file of `spiking-lfp convert`."""
    channels, height, width = network["shape"]
    size = channels * height * width
    each = size * (1 if network["constant"] else network["steps"])
    if not content or len(content) % each:
        raise Failure(f"the file has {len(content)} bytes, a sample of this network has {each}")
    if max(content) > network["levels"]:
        raise Failure(f"an input is {max(content)}, the largest of this network is {network['levels']}")
    for start in range(0, len(content), each):
        parts = [words(network, content[k : k + size]) for k in range(start, start + each, size)]
        yield parts * network["steps"] if network["constant"] else parts


def hexadecimal(name):
    """Return the numbers of a file of this folder."""
    try:
        return [int(line, 16) for line in (FOLDER / name).read_text().split()]
    except OSError as error:
        raise Failure(f"{name} is missing, is there a golden run? {error}") from None


def golden_of(network):
    """Yield the steps of each sample of the golden run, and the signature of its spikes."""
    inputs, spikes = hexadecimal("inputs.hex"), hexadecimal("golden.hex")
    size = 1 if network["constant"] else -(-network["lanes"] // 8)
    data = b"".join(word.to_bytes(size, "little") for word in inputs)
    steps, samples = network["golden_steps"], network["golden_samples"]
    each = len(data) // samples // (1 if network["constant"] else steps)
    words_of_a_sample = len(spikes) // samples
    for sample in range(samples):
        first = sample * (1 if network["constant"] else steps)
        parts = [data[k * each : (k + 1) * each] for k in range(first, first + (1 if network["constant"] else steps))]
        expected = 0
        for word in spikes[sample * words_of_a_sample : (sample + 1) * words_of_a_sample]:
            expected = (expected << 1 ^ (0x104C11DB7 if expected >> 31 else 0)) ^ word
        yield parts * steps if network["constant"] else parts, expected


def main():
    """Run samples on a board, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="?", type=Path, help="file of samples")
    parser.add_argument("--golden", action="store_true", help="run the golden run, and compare all of its spikes")
    parser.add_argument("--port", help="the serial line")
    parser.add_argument("--baud", type=int, default=1000000, help="its speed, BAUD of make (default: %(default)s)")
    parser.add_argument("--simulate", metavar="COMMAND", help="a simulation in place of the board, for make simulate")
    chosen = parser.parse_args()
    if (chosen.port is None) == (chosen.simulate is None) or (chosen.samples is None) != chosen.golden:
        parser.error("give --port, and either a file of samples or --golden")
    try:
        network = json.loads((FOLDER / "network.json").read_text())
        line = Simulated(chosen.simulate) if chosen.simulate else serial_line(chosen.port, chosen.baud)
        board = Board(line, network)
        if chosen.golden:
            each = golden_of(network)
        else:
            each = ((steps, None) for steps in samples_of(network, chosen.samples.read_bytes()))
        wrong = 0
        for steps, expected in each:
            counts, best, signature, cycles = board.run(steps)
            differs = expected is not None and signature != expected
            wrong += differs
            told = "\tspikes differ from those of the golden run" if differs else ""
            print(f"{network['classes'][best]}\t{counts[best]}\t{cycles} cycles{told}", flush=True)
        line.close()
        if wrong:
            raise Failure(f"{wrong} samples differ")
        if chosen.golden:
            print("all spikes are equal to those of the golden run")
    except (Failure, OSError) as error:
        print(f"host.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
