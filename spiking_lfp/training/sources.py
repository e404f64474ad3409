"""Networks of the user's own: from a Python function by name, and as stored in the folder of a run."""

import ast
import importlib
import importlib.util
import inspect
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import torch
from torch import nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.files import RESULTS
from spiking_lfp.neurons import Neuron
from spiking_lfp.rules import Rule

NETWORK = "network.pt"
_SOURCE = re.compile(r"(?P<place>.+?):(?P<function>[A-Za-z_]\w*)(?P<arguments>\(.*\))?", re.DOTALL)


def is_source(name: str) -> bool:
    """Tell whether the name of a network is a function: `FILE.py:FUNCTION`, `MODULE:FUNCTION(ARGUMENTS)`."""
    return _SOURCE.fullmatch(name) is not None


def absolute_source(name: str) -> str:
    """Return the name of a function with the whole path of its file, which is the same in every folder."""
    match = _SOURCE.fullmatch(name)
    if match is None or not match["place"].endswith(".py"):
        return name
    return f"{Path(match['place']).expanduser().resolve()}{name[match.end('place') :]}"


def network_from_source(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the function called `name` for a network.

    Args:
        name: see `is_source`; arguments in it are literals.
        arguments: by name, those that the function takes and `name` does not give; with the `seed`.

    Raises:
        UsageError: if there is no such function, it fails, or it returns something else.
    """
    with _function(name, arguments["seed"]) as (make, free):
        network = make(**{key: arguments[key] for key in free if key in arguments})
    if not isinstance(network, nn.Module):
        raise UsageError(f"network {name}: it returned {type(network).__name__}, expected a torch.nn.Module")
    return network


def free_arguments(name: str, seed: int) -> list[str]:
    """Return the names of the arguments that the function called `name` takes and `name` does not give.

    Its file is executed now, and not again for the network that is made next with this seed.

    Raises:
        UsageError: if there is no such function.
    """
    with _function(name, seed, asking=True) as (_, free):
        return free


@contextmanager
def _function(name: str, seed: int, asking: bool = False) -> Iterator[tuple[Callable[..., Any], list[str]]]:
    """Yield the function called `name`, with the arguments in it, and the names of its other arguments.

    Raises:
        UsageError: if there is none, and for all that goes wrong inside the context.
    """
    match = _SOURCE.fullmatch(name)
    assert match is not None
    positional, named = _literals(name, match["arguments"] or "()")
    with _importable(Path(match["place"]).parent if match["place"].endswith(".py") else Path()):
        try:
            make = getattr(_module(match["place"], seed, asking), match["function"], None)
        except Exception as error:
            raise UsageError(f"network {name}: {_sentence(error)}") from error
        if not callable(make):
            raise UsageError(f"network {name}: {match['place']} has no function or class {match['function']}")
        try:
            signature = inspect.signature(make)
            given = signature.bind_partial(*positional, **named).arguments
            yield partial(make, *positional, **named), [key for key in signature.parameters if key not in given]
        except Exception as error:
            raise UsageError(f"network {name}: {_sentence(error)}") from error


def store_network(network: nn.Module, folder: Path) -> None:
    """Write the modules of a network, with their classes by name, so that `stored_network` makes it again.

    Warns:
        UserWarning: if that is not possible, as for functions and lambdas in its attributes.
    """
    buffer = BytesIO()
    try:
        torch.save(network, buffer)
        _load(buffer)
    except Exception as error:
        warnings.warn(
            f"the network itself cannot be stored in {folder} ({_sentence(error)}); its weights are: give the network "
            "to load_run(folder, network=...) later",
            stacklevel=2,
        )
        return
    RESULTS.write(folder / NETWORK, buffer.getbuffer())


def stored_network(folder: Path) -> nn.Module:
    """Make the network whose modules are stored in the folder of a run; only their classes are imported.

    Raises:
        RunError: if there is none, it is damaged, or a class is not found.
    """
    path = folder / NETWORK
    try:
        return _load(BytesIO(path.read_bytes()))
    except FileNotFoundError:
        raise RunError(
            f"{folder} stores no network of its own: give load_run(folder, network=...) one like it"
        ) from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:
        raise RunError(
            f"cannot load {path}: {_sentence(error)}; give load_run(folder, network=...) a network like it"
        ) from None


def _load(file: BytesIO) -> nn.Module:
    """Load a module from a file that may name classes of modules only, and values as our neurons and rules."""
    file.seek(0)
    names = get_unsafe_globals_in_checkpoint(file)
    file.seek(0)
    with safe_globals([_allowed(name) for name in names]):
        network = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(network, nn.Module):
        raise TypeError(f"it holds {type(network).__name__}, expected a module")
    return network


def _allowed(name: str) -> Any:
    """Return a class by name.

    Raises:
        ValueError: if it is none of a module, a rule or neurons, and none of ours.
    """
    place, _, entry = name.rpartition(".")
    if place == "__main__":
        found = getattr(sys.modules["__main__"], entry, None)
        if found is None:
            raise ValueError(f"class {entry} was defined in a script that is not running: put it into a module")
    else:
        found = getattr(importlib.import_module(place), entry, None)
    ours = place.split(".")[0] == "spiking_lfp"
    if not isinstance(found, type) or not (ours or issubclass(found, nn.Module | Rule | Neuron)):
        raise ValueError(f"{name} is no class of torch modules, rules or neurons")
    return found


# by path, content and seed: the file that was executed only to ask for arguments
_asked: dict[tuple[Path, bytes, int], ModuleType] = {}


def _module(place: str, seed: int, asking: bool) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {place}")
    key = path.resolve(), path.read_bytes(), seed
    # for one network only, as two may not share what the file holds
    module = _asked.pop(key, None) or _executed(path, seed)
    sys.modules[path.stem] = module
    if asking:
        _asked.clear()
        _asked[key] = module
    return module


def _executed(path: Path, seed: int) -> ModuleType:
    """Execute a file as a module by the name of its stem, with random numbers that depend on the seed only."""
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported inside the context, as beside a script."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _literals(name: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        assert isinstance(call, ast.Call)
        return (
            [ast.literal_eval(each) for each in call.args],
            {str(each.arg): ast.literal_eval(each.value) for each in call.keywords},
        )
    except (SyntaxError, ValueError, AssertionError):
        raise UsageError(
            f"network {name}: its arguments must be literals, as in (width=64, names=['a', 'b'])"
        ) from None


def _sentence(error: BaseException) -> str:
    """Say in one line what went wrong, and where in the user's file."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError | BadZipFile | pickle.UnpicklingError) or type(error) is ValueError:
        return text
    trace, line = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.exists() and not any(file.is_relative_to(root) for root in _LIBRARIES):
            line = f" ({file.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {text}{line}"


_LIBRARIES = (Path(__file__).parents[1], Path(torch.__file__).parents[1], Path(inspect.__file__).parent)
