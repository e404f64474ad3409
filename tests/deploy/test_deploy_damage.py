"""Damaged files of every format: an ExportError in one line, or the same network, and always an end."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from helpers import integer_networks as make
from helpers.damaged_files import damaged
from spiking_lfp.deploy.artifact import checksum, load_network, save_network
from spiking_lfp.deploy.formats.netx import read_netx, write_netx
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import with_golden_run
from spiking_lfp.errors import ExportError

CASES = 3000


@dataclass(frozen=True)
class Format:
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    digest: Callable[[Any], str]


def small() -> IntegerNetwork:
    net = make.mlp((4, 3), reset="zero", steps=3)
    layer = net.spiking[0]
    return replace(net, layers=(replace(layer, bias=layer.bias * 0),))


FORMATS = {
    "artifact": Format(
        lambda path: save_network(with_golden_run(small(), make.inputs_for(small(), 1)), path), load_network, checksum
    ),
    "netx": Format(lambda path: write_netx(small(), path), read_netx, checksum),
}


@pytest.mark.parametrize("name", FORMATS)
def test_damage_ends_in_one_sentence_or_changes_nothing(name: str, tmp_path: Path) -> None:
    format, path = FORMATS[name], tmp_path / "net"
    format.write(path)
    whole, expected = path.read_bytes(), format.digest(format.read(path))
    sentences = []
    for content in damaged(whole, CASES):
        path.write_bytes(content)
        try:
            found = format.read(path)
        except ExportError as error:
            sentences.append(str(error))
        else:
            assert format.digest(found) == expected
    assert CASES / 2 < len(sentences) < CASES
    assert not any("\n" in sentence for sentence in sentences)
