"""The graph of a network: which layer takes the outputs of which, found by running it once.

A module's forward pass is code, so hooks on its layers, and `add`, tell which tensors they take and hand on. A tensor
that none of them has handed on, or that was written to since, comes from code between the layers, which no integer
network runs: that is refused, by the name of the layer that takes it.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.errors import ExportError
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.layers import Dropout, Flatten, NormalizeFeedback, PopulationReadout, SynapticLayer, add, sums_told
from spiking_lfp.nn.pooling import Pool

# in the forward pass they are the identity
IDENTITIES = (Dropout, NormalizeFeedback, nn.Identity)


@dataclass(frozen=True)
class Place:
    """A layer where it runs.

    Attributes:
        name: its path in the network, with a number if it runs more than once; of a sum, "add" in the path of the
            module whose code adds.
        module: None for `add`.
        sources: where its inputs come from: 0 is the input of the network, k + 1 the place k.
    """

    name: str
    module: nn.Module | None
    sources: tuple[int, ...]

    def run(self, given: Sequence[Tensor]) -> Tensor:
        """Return its outputs."""
        out: Tensor = add(given[0], given[1]) if self.module is None else self.module(given[0])
        return out


def trace(network: nn.Module, x: Tensor) -> tuple[Place, ...]:
    """Return the places of a network in the order in which they run, but for those that its outputs do not depend on.

    Args:
        network: in evaluation mode.
        x: a sequence that it takes, `[T, B, ...]`.

    Raises:
        ExportError: naming the layer, if code between layers makes or changes what it takes, or it has hooks.
    """
    # a network that is one layer has no path in itself, and layers of files need names
    listed = list(_modules(network, "network" if _is_layer(network) else "", set()))
    recorder = _Recorder(x, {name for name, module in listed if _is_layer(module)})
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(sums_told(recorder.sum))
        for name, module in listed:
            before, after = recorder.hooks(name, module)
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        outputs = network(x)
    last = recorder.maker(outputs)
    if last == 0:
        raise ExportError("the network is empty: it hands its inputs on")
    if last is None:
        raise ExportError(
            f"the network returns a {type(outputs).__name__} that no layer has handed on: return the outputs of the "
            "last layer as they are"
        )
    return _used(recorder.places[:last])


def evaluate(places: Sequence[Place], values: Mapping[int, Tensor]) -> Tensor:
    """Return the outputs of the last place.

    Args:
        places: of a graph.
        values: outputs that are known: 0 are the inputs, k + 1 those of place k.
    """
    values, needed = dict(values), sources_of_last(places, values)
    order = [k for k in range(len(places)) if k + 1 in needed and k + 1 not in values]
    uses = Counter(source for k in order for source in places[k].sources)
    for k in order:
        values[k + 1] = places[k].run([values[source] for source in places[k].sources])
        uses.subtract(places[k].sources)
        for source in {source for source in places[k].sources if not uses[source]}:
            del values[source]
    return values[len(places)]


def sources_of_last(places: Sequence[Place], known: Container[int] = ()) -> set[int]:
    """Return the numbers of the last place, of its sources, of theirs, and so on up to those that are known."""
    needed = {len(places)}
    for k in reversed(range(len(places))):
        if k + 1 in needed and k + 1 not in known:
            needed.update(places[k].sources)
    return needed


class _Recorder:
    """What runs, and which tensors it takes and hands on."""

    def __init__(self, x: Tensor, names: set[str]) -> None:
        self.places: list[Place] = []
        # tensors are kept, so that no other one gets their identity
        self._made: dict[int, tuple[Tensor, int, int]] = {}
        self._paths: list[str] = []
        self._names = names
        self._runs: Counter[str] = Counter()
        self._hand_on(x, 0)

    def maker(self, tensor: object) -> int | None:
        """Return which place handed a tensor on, 0 for the inputs, or None."""
        made, version, number = self._made.get(id(tensor), (None, 0, 0))
        return number if made is not None and version == _version(made) else None

    def hooks(self, name: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return what is to be called before and after a module runs."""
        layer = _is_layer(module)
        if layer and (module._forward_hooks or module._forward_pre_hooks):
            raise ExportError(f"layer {name}: has forward hooks, which may change what it computes; remove them")
        if layer and ("forward" in vars(module) or not _is_known(module)):
            kind = type(module).__name__
            raise ExportError(f"layer {name}: {kind} has a forward pass of its own, so that it has no integer form")

        def before(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._paths.append(name)

        def after(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], outputs: Any) -> None:
            self._paths.pop()
            if layer:
                given = [each for each in (*arguments, *named.values()) if isinstance(each, Tensor)]
                self._ran(name, module, given, outputs)

        return before, after

    def sum(self, a: Tensor, b: Tensor, total: Tensor) -> None:
        """Take note of a sum."""
        name = f"{self._paths[-1]}.add".lstrip(".")
        self._ran(f"{name}:sum" if name in self._names else name, None, (a, b), total)

    def _ran(self, name: str, module: nn.Module | None, given: Sequence[Tensor], outputs: Any) -> None:
        sources = []
        for tensor in given:
            source = self.maker(tensor)
            if source is None:
                raise ExportError(
                    f"layer {name}: takes a tensor that code between layers has made or changed, which integer "
                    "networks do not run: use layers of this package, spiking_lfp.add for +, and Flatten for views"
                )
            sources.append(source)
        if len(sources) != (2 if module is None else 1):
            raise ExportError(f"layer {name}: takes {len(sources)} tensors, expected one")
        if type(module) in IDENTITIES:
            self._hand_on(outputs, sources[0])
            return
        self._runs[name] += 1
        runs = self._runs[name]
        self.places.append(Place(name if runs == 1 else f"{name}:{runs}", module, tuple(sources)))
        for each in outputs if isinstance(outputs, tuple) else (outputs,):
            self._hand_on(each, len(self.places))

    def _hand_on(self, tensor: Any, number: int) -> None:
        if isinstance(tensor, Tensor):
            self._made[id(tensor)] = tensor, _version(tensor), number


def _modules(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield each module of a network with its first path, but not what is inside of layers, which they do not call."""
    if module in seen:
        return
    seen.add(module)
    yield name, module
    if not _is_layer(module):
        for child, found in module.named_children():
            yield from _modules(found, f"{name}.{child}" if name else child, seen)


def _is_layer(module: nn.Module) -> bool:
    """Tell whether a module is a layer, of this package or torch, and no container of others."""
    ours = SynapticLayer | Pool | Flatten | PopulationReadout | MonoReadout | Dropout | NormalizeFeedback
    return isinstance(module, ours) or (_is_known(module) and type(module).forward is not nn.Sequential.forward)


def _is_known(module: nn.Module) -> bool:
    """Tell whether what a module computes is code of this package or torch."""
    return type(module).forward.__module__.startswith(("spiking_lfp.", "torch."))


def _used(places: Sequence[Place]) -> tuple[Place, ...]:
    """Return the places that the last one depends on."""
    needed = sources_of_last(places)
    kept = [0, *(number for number in range(1, len(places) + 1) if number in needed)]
    numbers = {number: new for new, number in enumerate(kept)}
    return tuple(
        replace(places[number - 1], sources=tuple(numbers[source] for source in places[number - 1].sources))
        for number in kept[1:]
    )


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was written to."""
    return -1 if tensor.is_inference() else tensor._version
