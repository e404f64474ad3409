"""NIR graphs as files have them: nodes whose fields are checked one by one, and the chain that they form.

Nothing of a file is trusted: a field has the type, the number of axes and the range that NIR gives it, other fields are
refused. A graph in a graph is taken apart. Neurons may see their own spikes, one step later, through an Affine or
Linear node; without these connections a graph has to be a chain from one input to one output.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NoReturn

import numpy as np

from spiking_lfp.deploy.hdf5 import LARGEST_NUMBER, Array, Reader, Value, digest
from spiking_lfp.deploy.layers import Shape
from spiking_lfp.errors import ExportError

WRITER, SCHEMA = "spiking_lfp", 2
CHECKSUM = "/node/metadata/checksum"


@dataclass(frozen=True)
class Field:
    """What a field of a node may be: kinds of NumPy dtypes, numbers of axes, and whether it may be missing."""

    kinds: str
    axes: tuple[int, ...]
    optional: bool = False


REAL = tuple(Field("iuf", (axes,)) for axes in range(5))
ANY, ANY_OR_NONE = (Field("iuf", tuple(range(5)), optional) for optional in (False, True))
SIZES, SHAPE = Field("iu", (0, 1)), Field("iu", (1,))
_POOL = {"kernel_size": SIZES, "stride": SIZES, "padding": SIZES}
_CONV = {
    "bias": REAL[1],
    "stride": SIZES,
    "padding": Field("iuO", (0, 1)),
    "dilation": SIZES,
    "groups": Field("iu", (0,)),
}
_LIF = {"r": ANY, "v_leak": ANY, "v_threshold": ANY, "v_reset": ANY_OR_NONE}
# the nodes that are read, by type; neurons have constants of the shape of the neurons, or one for all
NODES: dict[str, dict[str, Field]] = {
    "Input": {"shape": SHAPE},
    "Output": {"shape": SHAPE},
    "Affine": {"weight": REAL[2], "bias": REAL[1]},
    "Linear": {"weight": REAL[2]},
    "Conv1d": {"weight": REAL[3], **_CONV, "input_shape": Field("iu", (0,), True)},
    "Conv2d": {"weight": REAL[4], **_CONV, "input_shape": Field("iu", (1,), True)},
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": {"start_dim": Field("i", (0,)), "end_dim": Field("i", (0,)), "input_type": Field("iu", (1,), True)},
    "Threshold": {"threshold": ANY},
    "LIF": {"tau": ANY, **_LIF},
    "IF": {name: each for name, each in _LIF.items() if name != "v_leak"},
    "LI": {"tau": ANY, "r": ANY, "v_leak": ANY},
    "I": {"r": ANY},
    "CubaLIF": {"tau_mem": ANY, "tau_syn": ANY, "w_in": ANY_OR_NONE, **_LIF},
}
NEURONS = ("Threshold", "LIF", "IF", "LI", "I", "CubaLIF")
WEIGHTS = ("Affine", "Linear", "Conv1d", "Conv2d")


class Fields(dict[str, Any]):
    """Fields of a node, or its metadata, by name; `where` is for messages."""

    def __init__(self, where: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.where = where

    def refuse(self, name: str, found: str, expected: str) -> NoReturn:
        """Raise an ExportError that says what is wrong with a field."""
        raise ExportError(f"{self.where}: {name} is {found}, expected {expected}")

    def array(self, name: str, kinds: str, axes: tuple[int, ...], expected: str = "numbers") -> Array:
        """Return an array of one of these kinds of dtype and one of these numbers of axes; numbers are finite."""
        found = self.get(name)
        if not isinstance(found, np.ndarray):
            self.refuse(name, "missing" if found is None else f"a {type(found).__name__}", expected)
        if found.dtype.kind not in kinds or found.ndim not in axes:
            shown = f"{' or '.join(map(str, axes))} {'axis' if axes == (1,) else 'axes'}"
            self.refuse(name, f"{found.dtype} {list(found.shape)}", f"{expected} of {shown}")
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            self.refuse(name, "not finite", f"finite {expected}")
        return found

    def text(self, name: str, choices: Sequence[str] = ()) -> str:
        """Return a text, one of the choices if there are any."""
        found = self.get(name)
        if not isinstance(found, str):
            self.refuse(name, "missing" if found is None else "no text", " or ".join(choices) or "a text")
        if choices and found not in choices:
            self.refuse(name, repr(found), " or ".join(choices))
        return found

    def number(self, name: str) -> float:
        """Return a number."""
        return float(self.array(name, "iuf", (0,), "a number"))

    def integers(self, name: str, least: int = 0, axes: tuple[int, ...] = (0, 1)) -> tuple[int, ...]:
        """Return integers of at least `least`."""
        found = tuple(int(each) for each in self.array(name, "iu", axes, "integers").ravel())
        if not found or not all(least <= each <= LARGEST_NUMBER for each in found):
            self.refuse(name, str(list(found)), f"integers of at least {least}")
        return found

    def integer(self, name: str, least: int = 0) -> int:
        """Return an integer of at least `least`."""
        return self.integers(name, least, (0,))[0]

    def sides(self, name: str, axes: int, least: int = 0) -> tuple[int, ...]:
        """Return a size for each of one or two axes, which one number gives for both."""
        found = self.integers(name, least)
        if len(found) not in (1, axes):
            self.refuse(name, str(list(found)), "one size" if axes == 1 else "one or two sizes")
        return found * axes if len(found) == 1 else found

    def pair(self, name: str, least: int = 0) -> tuple[int, int]:
        """Return sizes of rows and columns."""
        rows, columns = self.sides(name, 2, least)
        return rows, columns


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        key: its name in the graph.
        kind: its type.
        fields: checked as in `NODES`.
        about: metadata.
        recurrent: the weights through which neurons see their own spikes.
        in_shape: of one sample's input; empty before the node is in a chain.
        out_shape: of its output.
    """

    key: str
    kind: str
    fields: Fields
    about: Fields
    recurrent: "Node | None" = None
    in_shape: Shape = ()
    out_shape: Shape = ()

    @property
    def name(self) -> str:
        """The layer's name in the network that was written, or the node's."""
        return self.about.text("layer") if "layer" in self.about else self.key

    def constant(self, name: str) -> Array:
        """Return a constant of neurons, float64 and of their shape."""
        if name not in self.fields:  # v_reset and w_in, see NODES
            return np.full(self.in_shape, 0.0 if name == "v_reset" else 1.0)
        found: Array = self.fields[name].astype(np.float64)
        return np.broadcast_to(found.reshape(()) if found.size == 1 else found, self.in_shape)


@dataclass(frozen=True)
class Graph:
    """What a file holds.

    Attributes:
        chain: the nodes between input and output, in the order in which they run.
        in_shape: of one sample.
        about: metadata of the graph, whose checksum is the one of the file if `write_nir` wrote it.
        records: everything in the file but the checksum.
    """

    chain: list[Node]
    in_shape: Shape
    about: Fields
    records: dict[str, Value]

    @property
    def ours(self) -> bool:
        """Whether `write_nir` wrote it."""
        return bool(self.about)


class GraphReader(Reader[Graph]):
    """Reads the file of a NIR graph."""

    noun = "a NIR graph"
    remedy = "take an undamaged copy of the file, or write it again"

    def content(self) -> Graph:
        """Read everything, and compare the checksum if `write_nir` wrote it."""
        try:
            return self._graph()
        except ExportError as error:
            raise ExportError(str(error) if str(self.path) in str(error) else f"{self.path}: {error}") from None

    def _graph(self) -> Graph:
        records = dict(self.everything(self.group(self.file, "node"), attributes=False))
        checksum = records.pop(CHECKSUM, None)
        tree = _tree(records)
        about = Fields("metadata", _folder(tree.pop("metadata", {}), "metadata"))
        if about.get("writer") == WRITER or checksum is not None:
            about.text("writer", [WRITER])
            schema = about.integer("schema")
            if schema != SCHEMA:
                raise ExportError(f"{self.path} has schema {schema}, this version reads {SCHEMA}: write it again")
            if not isinstance(checksum, str):
                self.refuse(CHECKSUM, "missing", "a text")
            self.compare(digest(records.items()), checksum)
        else:
            about = Fields("metadata", {})
        nodes, edges = _parts(tree, "", bool(about))
        chain = _chain(nodes, edges)
        return Graph(chain[1:-1], chain[0].out_shape, about, records)


def _tree(records: Mapping[str, Value]) -> dict[str, Any]:
    """Return values by path as groups in groups."""
    tree: dict[str, Any] = {}
    for where, value in records.items():
        *folders, name = where.split("/")[2:]
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = value
    return tree


def _folder(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ExportError(f"{where} is {'missing' if found is None else 'a data set'}, expected a group")
    return found


def _parts(tree: dict[str, Any], prefix: str, ours: bool) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Return nodes and edges of a graph, those of graphs in it too, whose names have the `prefix` of their node."""
    title = f"node {prefix[:-1]}" if prefix else "the graph"
    if tree.get("type") != "NIRGraph":
        raise ExportError(f"{title}: its type is {str(tree.get('type'))[:40]!r}, expected 'NIRGraph'")
    nodes: dict[str, Node] = {}
    inner: dict[str, tuple[str, str]] = {}
    edges: list[tuple[str, str]] = []
    for key, found in _folder(tree.get("nodes"), f"{title}: nodes").items():
        fields = dict(_folder(found, f"node {prefix}{key}"))
        if fields.get("type") == "NIRGraph":
            below, links = _parts(fields, f"{prefix}{key}.", ours)
            ends = [[name for name, node in below.items() if node.kind == kind] for kind in ("Input", "Output")]
            if [len(each) for each in ends] != [1, 1]:
                raise ExportError(f"node {prefix}{key}: the graph in it has not one input and one output")
            inner[f"{prefix}{key}"] = ends[0][0], ends[1][0]
            nodes |= {name: replace(node, kind=f"inner {node.kind}") if node.kind in ("Input", "Output") else node
                      for name, node in below.items()}  # fmt: skip
            edges += links
        else:
            nodes[f"{prefix}{key}"] = _node(f"{prefix}{key}", fields, ours)
    known = set(nodes) | set(inner)
    for source, target in _pairs(tree.get("edges"), title):
        for end in (source, target):
            if f"{prefix}{end}" not in known:
                raise ExportError(f"{title}: an edge is of {end[:40]!r}, which is no node")
        source, target = (f"{prefix}{end}" for end in (source, target))
        edges.append((inner[source][1] if source in inner else source, inner[target][0] if target in inner else target))
    if len(set(edges)) != len(edges):
        raise ExportError(f"{title}: an edge is there twice")
    return nodes, edges


def _pairs(found: Any, title: str) -> Iterator[tuple[str, str]]:
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "OS" or found.shape[1:] != (2,):
        raise ExportError(f"{title}: its edges are not pairs of names")
    for pair in found:
        source, target = (each.decode() if isinstance(each, bytes) else str(each) for each in pair)
        yield source, target


def _node(key: str, found: dict[str, Any], ours: bool) -> Node:
    """Return a node whose fields are checked; metadata of others are left out."""
    where = f"node {key}"
    about = Fields(where, _folder(found.pop("metadata", {}), f"{where}: metadata"))
    kind = found.pop("type", None)
    if not isinstance(kind, str) or kind not in NODES:
        raise ExportError(f"{where}: {str(kind)[:40]} is not read here; expected {', '.join(NODES)}, NIRGraph")
    fields = Fields(where, found)
    for name, field in NODES[kind].items():
        if field.optional and name not in fields:
            continue
        if not (isinstance(fields.get(name), str) and "O" in field.kinds):
            fields.array(name, field.kinds, field.axes)
    for name in fields:
        if name not in NODES[kind]:
            raise ExportError(f"{where}: {kind} has no field {name[:40]!r}")
    return Node(key, kind, fields, about if ours else Fields(where, {}))


def _chain(nodes: dict[str, Node], edges: Sequence[tuple[str, str]]) -> list[Node]:
    """Return the nodes from input to output, with their shapes, in the order in which they run."""
    after, before = ({key: set[str]() for key in nodes} for _ in range(2))
    for source, target in edges:
        after[source].add(target)
        before[target].add(source)
    chain = list(_walk(nodes, after, before))
    if not chain or chain[-1].kind != "Output" or len(chain) != len(nodes):
        raise ExportError(
            f"the graph has {len(nodes)} nodes and {len(edges)} edges that form no chain from one input to one output; "
            "read are chains whose neurons may see their own spikes through an Affine or Linear node"
        )
    placed: list[Node] = []
    shape: Shape = ()
    for node in chain:
        out = out_shape(node, shape)
        if len(out) > 8 or prod(out) > LARGEST_NUMBER or min(out, default=0) < 1:
            raise ExportError(f"node {node.key}: its output would have the shape {list(out)}")
        placed.append(replace(node, in_shape=shape, out_shape=out))
        shape = out
    return placed


def _walk(nodes: dict[str, Node], after: dict[str, set[str]], before: dict[str, set[str]]) -> Iterator[Node]:
    """Yield the nodes of a chain as far as it is one; take out ends of inner graphs and recurrent weights."""
    for key, node in list(nodes.items()):
        if node.kind.startswith("inner ") and len(before[key]) == len(after[key]) == 1:
            (source,), (target,) = before.pop(key), after.pop(key)
            _unlink(after, before, source, key, target)
            del nodes[key]
    for key, node in list(nodes.items()):
        if node.kind not in ("Affine", "Linear"):
            continue
        way, ends = [key], list(after[key])
        if len(ends) == 1 and _changes_nothing(nodes[ends[0]]) and before[ends[0]] == {key}:
            way.append(ends[0])
            ends = list(after[ends[0]])
        if len(ends) == 1 and before[key] == set(ends) and ends[0] not in way:
            neurons = nodes[ends[0]]
            if neurons.kind in NEURONS and neurons.recurrent is None:
                nodes[ends[0]] = replace(neurons, recurrent=node)
                after[ends[0]].discard(key)
                before[ends[0]].discard(way[-1])
                for each in way:
                    del nodes[each], after[each], before[each]
    inputs = [key for key, node in nodes.items() if node.kind == "Input"]
    left, following = set(nodes), inputs if len(inputs) == 1 and not before[inputs[0]] else []
    while len(following) == 1 and following[0] in left:
        yield nodes[following[0]]
        left.discard(following[0])
        following = list(after[following[0]])


def _changes_nothing(node: Node) -> bool:
    """Return whether a node flattens one axis."""
    return node.kind == "Flatten" and int(node.fields["start_dim"]) == int(node.fields["end_dim"])


def _unlink(after: dict[str, set[str]], before: dict[str, set[str]], source: str, key: str, target: str) -> None:
    after[source].discard(key)
    after[source].add(target)
    before[target].discard(key)
    before[target].add(source)


def out_shape(node: Node, shape: Shape) -> Shape:
    """Return the shape of a node's output; `shape` is that of its input.

    Raises:
        ExportError: if the node does not take it.
    """
    fields, kind = node.fields, node.kind
    if kind == "Input":
        return fields.integers("shape", 1)
    if kind == "Output":
        return _expected(node, "shape", shape, fields.integers("shape", 1))
    if kind in ("Affine", "Linear"):
        weight = fields["weight"]
        _expected(node, "weight", shape, weight.shape[1:])
        if kind == "Affine":
            _expected(node, "bias", weight.shape[:1], fields["bias"].shape)
        return (len(weight),)
    if kind in NEURONS:
        for name in NODES[kind]:
            if name in fields and fields[name].size != 1:
                _expected(node, name, shape, fields[name].shape)
        if node.recurrent is not None and shape != out_shape(node.recurrent, shape):
            raise ExportError(
                f"node {node.recurrent.key}: it is not as wide as the {prod(shape)} neurons of {node.key}"
            )
        return shape
    if kind == "Flatten":
        axes = len(shape)
        first, last = (int(fields[name]) for name in ("start_dim", "end_dim"))
        if "input_type" in fields:
            _expected(node, "input_type", shape, fields.integers("input_type", 1))
        if not (-axes <= first < axes and -axes <= last < axes and first % axes <= last % axes):
            raise ExportError(f"node {node.key}: flattens axes {first} to {last} of {list(shape)}")
        first, last = first % axes, last % axes
        return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])
    axes = 1 if kind == "Conv1d" else 2
    if len(shape) != 1 + axes:
        expected = "channels, length" if axes == 1 else "channels, rows, columns"
        raise ExportError(f"node {node.key}: gets values of shape {list(shape)}, expected {expected}")
    if kind in ("SumPool2d", "AvgPool2d"):
        windows = zip(
            shape[1:],
            *(fields.sides(n, 2, k) for n, k in (("kernel_size", 1), ("stride", 1), ("padding", 0))),
            strict=True,
        )
        return (shape[0], *((side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in windows))
    weight, groups = fields["weight"], fields.integer("groups", 1)
    if "input_shape" in fields:
        _expected(node, "input_shape", shape[1:], fields.integers("input_shape", 1, (axes - 1,)))
    if weight.shape[1] * groups != shape[0] or len(weight) % groups:
        raise ExportError(
            f"node {node.key}: weights of shape {list(weight.shape)} in {groups} groups do not fit {list(shape)}"
        )
    _expected(node, "bias", weight.shape[:1], fields["bias"].shape)
    kernel, stride, padding, dilation = (
        weight.shape[2:],
        fields.sides("stride", axes, 1),
        padded(node),
        fields.sides("dilation", axes, 1),
    )
    sides = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    return (len(weight), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides))


def padded(node: Node) -> tuple[int, ...]:
    """Return the padding of a convolution along each axis, on each side."""
    found, kernel = node.fields["padding"], node.fields["weight"].shape[2:]
    axes = len(kernel)
    if not isinstance(found, str):
        return node.fields.sides("padding", axes)
    if found == "valid":
        return (0,) * axes
    gaps = [gap * (side - 1) for gap, side in zip(node.fields.sides("dilation", axes, 1), kernel, strict=True)]
    strides = node.fields.sides("stride", axes, 1)
    if found != "same" or set(strides) != {1} or any(gap % 2 for gap in gaps):
        raise ExportError(f"node {node.key}: padding is {found[:40]!r}, which is not the same on all sides here")
    return tuple(gap // 2 for gap in gaps)


def _expected(node: Node, name: str, shape: Iterable[int], found: Iterable[int]) -> Shape:
    """Return a shape if it is the one that is expected."""
    if tuple(found) != tuple(shape):
        raise ExportError(f"node {node.key}: its {name} is for {list(found)}, but it gets {list(shape)}")
    return tuple(shape)
