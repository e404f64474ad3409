"""Damaged files of every format: an ExportError in one line, or the same network, and always an end."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from helpers import integer_networks as make
from helpers.damaged_files import damaged
from spiking_lfp.deploy.artifact import checksum, load_network, save_network
from spiking_lfp.deploy.formats.netx import read_netx, write_netx
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.layers import Add, Flatten, Pad, SumPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.nn.spiking import LIF

nir = pytest.importorskip("nir", reason="nir is not installed")


@dataclass(frozen=True)
class Format:
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    digest: Callable[[Any], str]
    cases: int = 3000


def small() -> IntegerNetwork:
    net = make.mlp((4, 3), reset="zero", steps=3)
    layer = net.spiking[0]
    return replace(net, layers=(replace(layer, bias=layer.bias * 0),))


def skip() -> IntegerNetwork:
    entry, block = make.conv("entry", (1, 3, 3), 2), make.conv("block", (2, 1, 1), 2, padding=(1, 1))
    border = Pad("border", (2, 1, 1), (1, 0), np.array([1, 0], np.int32))
    pool = SumPool("pool", border.out_shape, (3, 1), (1, 1))
    total = Add("add", (2, 1, 1), sources=("entry", "pool"))
    return make.network(
        [entry, block, border, pool, total, Flatten("flat", (2, 1, 1)), make.dense("out", 2, 2)], steps=2
    )


def decays() -> IntegerNetwork:
    return make.with_decays(small())


def floats() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(LIF(nn.Linear(4, 3), reset="zero"))


def floats_digest(net: nn.Module) -> str:
    return repr(net) + str({name: values.tolist() for name, values in net.state_dict().items()})


def of_others(path: Path) -> None:
    write_nir(floats(), path)
    graph = nir.read(path)
    for node in (graph, *graph.nodes.values()):
        node.metadata = {}
    nir.write(path, graph)


FORMATS = {
    "artifact": Format(
        lambda path: save_network(with_golden_run(small(), make.inputs_for(small(), 1)), path),
        load_network,
        checksum,
        1000,
    ),
    "artifact of a graph": Format(
        lambda path: save_network(with_golden_run(skip(), make.inputs_for(skip(), 1)), path),
        load_network,
        checksum,
        500,
    ),
    "artifact with decays": Format(
        lambda path: save_network(with_golden_run(decays(), make.inputs_for(decays(), 1)), path),
        load_network,
        checksum,
        500,
    ),
    "netx": Format(lambda path: write_netx(small(), path), read_netx, checksum),
    "nir": Format(lambda path: write_nir(floats(), path), read_nir, floats_digest),
    "nir, integers": Format(lambda path: write_nir(small(), path, dynamics_in_metadata=True), read_nir, checksum, 150),
    # without a checksum of ours no change of a value is noticed
    "nir of others": Format(of_others, lambda path: read_nir(path, 1e-4), lambda _: "", 500),
}


@pytest.mark.usefixtures("unchecked")  # with annotations checked it takes three times as long
@pytest.mark.parametrize("name", FORMATS)
def test_damage_ends_in_one_sentence_or_changes_nothing(name: str, tmp_path: Path) -> None:
    format, path = FORMATS[name], tmp_path / "net"
    format.write(path)
    whole, expected = path.read_bytes(), format.digest(format.read(path))
    sentences = []
    for number, content in enumerate(damaged(whole, format.cases)):
        # a new file each time: to overwrite one takes longer
        path.unlink()
        path = tmp_path / f"net{number}"
        path.write_bytes(content)
        try:
            found = format.read(path)
        except ExportError as error:
            sentences.append(str(error))
        else:
            assert format.digest(found) == expected
    assert format.cases / 2 < len(sentences) < format.cases
    assert not any("\n" in sentence for sentence in sentences)
