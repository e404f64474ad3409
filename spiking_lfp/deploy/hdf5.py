"""HDF5 files that may be damaged or made to do harm, read field by field; and records, of which checksums are made.

A field is read with the type and size that it must have. What would lead out of the file or never end is refused:
links, virtual and external data sets, filters that are plug-ins, groups inside themselves, values larger than what is
stored of them. A file is read into memory before HDF5 sees it.
"""

import hashlib
import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import ExportError

Array = NDArray[Any]
Value = str | int | tuple[str, ...] | tuple[int, ...] | Array
Content = TypeVar("Content")

# beyond these a file is damaged or made to exhaust memory
LARGEST_TEXT = 2**24
LARGEST_NUMBER = 2**31 - 1
_LARGEST_FILE = 2**32
_LARGEST_ARRAY = 2**31
_MOST_OBJECTS = 100_000
_MOST_TEXTS = 100_000
_DEEPEST = 16
# of a text of any length: how long it is, the address of a heap, and its index there
_REFERENCE = "<IQI"
# gzip cannot shrink more than this
_LARGEST_RATIO = 1040
# gzip, shuffle, Fletcher's checksum: others would be loaded from plug-ins
_FILTERS = {1, 2, 3}
_LINKS = {h5py.h5l.TYPE_SOFT: "SoftLink", h5py.h5l.TYPE_EXTERNAL: "ExternalLink"}
_OBJECTS = {h5py.h5g.GroupID: h5py.Group, h5py.h5d.DatasetID: h5py.Dataset}


def digest(records: Iterable[tuple[str, Value]]) -> str:
    """Return the SHA-256 of records, pairs of a path and a value, as 64 hexadecimal digits.

    A record is the line `PATH TYPE SHAPE` in ASCII, and then the bytes of the value. TYPE is NumPy's name for it, or
    `utf8`; SHAPE is empty for single numbers, and the number of bytes for texts. Several texts are one record each,
    `PATH/0` and so on.
    """
    found = hashlib.sha256()
    for name, each in _single(records):
        if isinstance(each, str):
            content = each.encode()
            kind, shape = "utf8", str(len(content))
        else:
            array = np.asarray(each, None if isinstance(each, np.ndarray) else np.int64)
            array = array.astype(array.dtype.newbyteorder("<"))
            kind, shape, content = array.dtype.str, "x".join(map(str, array.shape)), array.tobytes()
        found.update(f"{name} {kind} {shape}\n".encode())
        found.update(content)
    return found.hexdigest()


def _single(records: Iterable[tuple[str, Value]]) -> Iterator[tuple[str, Value]]:
    for where, value in records:
        texts = tuple(value.ravel()) if isinstance(value, np.ndarray) and value.dtype == object else value
        if isinstance(texts, tuple) and texts and isinstance(texts[0], str):
            yield from ((f"{where}/{k}", text) for k, text in enumerate(texts))
        else:
            yield where, value


def difference(found: Mapping[str, Value], written: Mapping[str, Value]) -> tuple[str, str, str] | None:
    """Return the first path where values by path are not the same, with what is there and what should be, or None."""
    for where in sorted(found.keys() | written.keys()):
        first, second = (every.get(where, "missing") for every in (found, written))
        if digest([("", first)]) != digest([("", second)]):
            return where, _shown(first), _shown(second)
    return None


def _shown(value: Value) -> str:
    return str(np.asarray(value).tolist())[:40]


def write_attribute(at: h5py.Group, name: str, value: str | int | tuple[str, ...] | tuple[int, ...]) -> None:
    """Write an attribute that `Reader` reads: texts of fixed length, padded with zeros, or int64."""
    if isinstance(value, str):
        text = value.encode()
        at.attrs.create(name, np.bytes_(text), dtype=h5py.string_dtype("utf-8", max(1, len(text))))
    elif isinstance(value, tuple) and value and isinstance(value[0], str):
        texts = [str(each).encode() for each in value]
        longest = max(1, *map(len, texts))
        at.attrs.create(name, np.array(texts, f"S{longest}"), dtype=h5py.string_dtype("utf-8", longest))
    else:
        at.attrs.create(name, np.array(value, "<i8"), dtype="<i8")


def json_object(texts: Mapping[str, str]) -> str:
    """Return texts by name as JSON, always the same for the same texts."""
    return json.dumps(texts, sort_keys=True, ensure_ascii=False)


def words(error: BaseException) -> str:
    """Return the message of an exception, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())[:200]


class Reader(ABC, Generic[Content]):
    """Reads files of one kind.

    Attributes:
        noun: what a file is, for messages.
        remedy: the end of messages: what to do about a damaged one.
    """

    noun: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, path: Path, file: h5py.File, stored: bytes | None = None) -> None:
        self.path, self.file = path, file
        self.stored = file.id.get_file_image() if stored is None else stored
        self._heaps: dict[int, dict[int, bytes]] = {}

    @classmethod
    def read(cls, path: Path) -> Content:
        """Return what a file holds.

        Raises:
            ExportError: if there is no such file, or it is damaged, or of another kind.
        """
        content = cls._bytes(path)
        try:
            with h5py.File.in_memory(content) as file:
                return cls(path, file, content).content()
        except ExportError:
            raise
        # what HDF5, NumPy and JSON raise for damaged files
        except (OSError, LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError) as error:
            raise ExportError(f"{path} is damaged ({words(error)}): {cls.remedy}") from error
        except MemoryError as error:
            raise ExportError(f"{path} holds more than fits into memory: {cls.remedy}") from error

    @classmethod
    def _bytes(cls, path: Path) -> bytes:
        """Return the file's bytes, if it may be an HDF5 file."""
        name = f"name the file of {cls.noun}"
        try:
            if path.is_dir():
                raise ExportError(f"cannot read {path}: it is a folder, {name}")
            if path.exists() and not path.is_file():
                raise ExportError(f"cannot read {path}: it is no ordinary file, {name}")
            size = path.stat().st_size
            if size > _LARGEST_FILE:
                raise ExportError(f"{path} has {size} bytes, expected {_LARGEST_FILE} at most: it is not {cls.noun}")
            content = path.read_bytes()
        except FileNotFoundError:
            raise ExportError(f"there is no file {path}: {name}") from None
        except (OSError, ValueError) as error:
            raise ExportError(f"cannot read {path}: {words(error)}; {name}") from error
        if not content:
            raise ExportError(f"{path} is empty, expected the HDF5 file of {cls.noun}: {cls.remedy}")
        if not content.startswith(b"\x89HDF\r\n\x1a\n"):
            raise ExportError(f"{path} is no HDF5 file, expected that of {cls.noun}: name another file")
        return content

    @abstractmethod
    def content(self) -> Content:
        """Return what the file holds."""

    def refuse(self, where: str, found: str, expected: str) -> NoReturn:
        """Raise an ExportError that says what is wrong with a field."""
        raise ExportError(f"{self.path}: {where} is {found}, expected {expected}: {self.remedy}")

    def compare(self, computed: str, expected: str) -> None:
        """Raise an ExportError if the checksum of the content is not the one in the file."""
        if computed != expected:
            raise ExportError(
                f"{self.path} is damaged: its content has checksum {computed[:16]}..., expected {expected[:16]}...: "
                f"{self.remedy}"
            )

    def everything(self, folder: h5py.Group, attributes: bool = True) -> Iterator[tuple[str, Value]]:
        """Yield all attributes of a group and its groups, and their data sets, by path, sorted by name.

        Numbers, truth values and texts are read; a data set of texts of any length is a text, or an array of objects.
        """
        yield from self._everything(folder, attributes, set(), 0)

    def _everything(
        self, folder: h5py.Group, attributes: bool, seen: set[int], depth: int
    ) -> Iterator[tuple[str, Value]]:
        base = folder.name.rstrip("/")
        address = h5py.h5o.get_info(folder.id).addr
        if address in seen or depth > _DEEPEST:
            self.refuse(base or "/", "at two places, or inside itself", "at one place")
        seen.add(address)
        for name in sorted(folder.attrs) if attributes else ():
            yield f"{base}/{name}", self._free_attribute(folder, name)
        for name in self.names(folder):
            if len(seen) > _MOST_OBJECTS:
                self.refuse(base or "/", "one of too many objects", f"{_MOST_OBJECTS} at most")
            found = self.member(folder, name, "a group or data set", h5py.Group, h5py.Dataset)
            if isinstance(found, h5py.Group):
                yield from self._everything(found, attributes, seen, depth + 1)
            else:
                address = h5py.h5o.get_info(found.id).addr
                if address in seen:
                    self.refuse(f"{base}/{name}", "at two places", "at one place")
                seen.add(address)
                yield f"{base}/{name}", self._free_values(found)

    def names(self, folder: h5py.Group) -> list[str]:
        """Return the names in a group, sorted."""
        found: list[bytes] = []

        def note(name: bytes) -> bool | None:
            found.append(name)
            return True if len(found) > _MOST_OBJECTS else None

        stopped, _ = folder.id.links.iterate(note)
        if stopped:
            self.refuse(folder.name, "a group of too many objects", f"{_MOST_OBJECTS} at most")
        return sorted(name.decode() for name in found)

    def member(self, folder: h5py.Group, name: str, word: str, *kinds: type[Any]) -> Any:
        """Return an object of this kind in a group; links to elsewhere are refused."""
        where, key = f"{folder.name.rstrip('/')}/{name}", name.encode()
        try:
            link = folder.id.links.get_info(key).type
        except RuntimeError:
            self.refuse(where, "missing", word)
        if link != h5py.h5l.TYPE_HARD:
            self.refuse(where, f"a link to somewhere else ({_LINKS.get(link, 'of an unknown kind')})", word)
        identifier = h5py.h5o.open(folder.id, key)
        kind = _OBJECTS.get(type(identifier))
        if kind not in kinds:
            self.refuse(where, "something else" if kind is None else f"a {kind.__name__.lower()}", word)
        return kind(identifier)

    def group(self, folder: h5py.Group, name: str) -> h5py.Group:
        """Return a group in a group."""
        return self.member(folder, name, "a group", h5py.Group)

    def array(self, folder: h5py.Group, name: str, dtype: str, shape: tuple[int | None, ...]) -> Array:
        """Read a data set of this type and shape; None is any number."""
        wanted = np.dtype(dtype)
        expected = f"{wanted.name} [{', '.join('any' if side is None else str(side) for side in shape)}]"
        data = self.member(folder, name, f"a data set {expected}", h5py.Dataset)
        kind, sides = data.dtype, data.shape
        fits = (
            kind == wanted
            and sides is not None
            and len(sides) == len(shape)
            and all(want is None or want == side for side, want in zip(sides, shape, strict=True))
        )
        if not fits:
            self.refuse(data.name, "without values" if sides is None else f"{kind} {list(sides)}", expected)
        return self._values(data, sides, kind)

    def _values(self, data: h5py.Dataset, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the values of a data set, if all of them are stored in this file."""
        self._check_stored(data, shape, dtype.itemsize)
        found = np.empty(shape, dtype)
        data.id.read(h5py.h5s.ALL, h5py.h5s.ALL, found)
        return found

    def _check_stored(self, data: h5py.Dataset, shape: tuple[int, ...], width: int) -> None:
        plist = data.id.get_create_plist()
        layout = plist.get_layout()
        if layout == h5py.h5d.VIRTUAL or plist.get_external_count():
            self.refuse(data.name, "stored in another file", "stored in this one")
        if not {plist.get_filter(k)[0] for k in range(plist.get_nfilters())} <= _FILTERS:
            self.refuse(data.name, "compressed by an unknown filter", "gzip or nothing")
        size, stored = prod(shape) * width, data.id.get_storage_size()
        if not 0 < size <= min(_LARGEST_ARRAY, stored * _LARGEST_RATIO):
            self.refuse(
                data.name, f"{size} bytes, {stored} of them stored", f"some, up to {_LARGEST_ARRAY}, all of them stored"
            )
        if layout == h5py.h5d.CHUNKED and prod(plist.get_chunk()) * width > _LARGEST_ARRAY:
            self.refuse(
                data.name, f"in chunks of {list(plist.get_chunk())}", f"chunks of {_LARGEST_ARRAY} bytes at most"
            )

    def _free_values(self, data: h5py.Dataset) -> Value:
        """Read a data set of any type of number, or of texts."""
        shape, dtype = data.shape, data.dtype
        if shape is None:
            self.refuse(data.name, "without values", "numbers or texts")
        if dtype.kind == "O" and h5py.check_string_dtype(dtype) is not None:
            return self._long_texts(data, shape)
        if dtype.kind not in "biufS" or dtype.itemsize > (LARGEST_TEXT if dtype.kind == "S" else 8):
            self.refuse(data.name, str(dtype), "numbers or texts")
        return self._values(data, shape, dtype).astype(dtype.newbyteorder("="))

    def _long_texts(self, data: h5py.Dataset, shape: tuple[int, ...]) -> Value:
        """Read a data set of texts of any length, without HDF5, which never ends in some damaged heaps."""
        count, width = prod(shape), struct.calcsize(_REFERENCE)
        if count > _MOST_TEXTS:
            self.refuse(data.name, f"{count} texts", f"{_MOST_TEXTS} at most")
        self._check_stored(data, shape, width)
        start, sizes = data.id.get_offset(), self.file.id.get_create_plist().get_sizes()
        if start is None or sizes != (8, 8):
            self.refuse(data.name, "in parts, or compressed", "texts in one piece")
        texts, room = np.empty(count, object), LARGEST_TEXT
        references = struct.iter_unpack(_REFERENCE, self.stored[start : start + count * width])
        for place, (length, address, index) in enumerate(references):
            room -= length
            if room < 0:
                self.refuse(data.name, "longer", f"{LARGEST_TEXT} bytes at most")
            text = self._heap(address).get(index, b"") if length else b""
            if len(text) < length:
                self.refuse(data.name, "not in the file", f"a text of {length} bytes")
            texts[place] = text[:length].decode()
        found: Value = texts.reshape(shape) if shape else texts[0]
        return found

    def _heap(self, address: int) -> dict[int, bytes]:
        """Return the objects of a global heap by their index (HDF5's file format, III.E)."""
        if address not in self._heaps:
            head = self.stored[address : address + 16]
            size = int.from_bytes(head[8:], "little")
            if head[:8] != b"GCOL\x01\0\0\0" or address + size > len(self.stored):
                self.refuse(f"the heap at {address}", "none", "one of texts")
            if sum(map(len, self._heaps.values())) > _MOST_TEXTS:
                self.refuse("the heaps", f"of more than {_MOST_TEXTS} texts", "fewer")
            objects: dict[int, bytes] = {}
            place, end = address + 16, address + size
            while place + 16 <= end:
                index, length = struct.unpack_from("<H6xQ", self.stored, place)
                if not index or place + 16 + length > end:
                    break
                objects[index] = self.stored[place + 16 : place + 16 + length]
                place += 16 + -(-length // 8) * 8
            self._heaps[address] = objects
        return self._heaps[address]

    def _free_attribute(self, at: h5py.Group, name: str) -> Value:
        """Read an attribute of texts of fixed length, or of numbers."""
        found, where = at.attrs.get_id(name), f"{at.name.rstrip('/')}/{name}"
        if found.shape is None or found.dtype.kind not in "biufS":
            self.refuse(where, str(found.dtype), "numbers, or texts of fixed length")
        values = self._attribute(found, where)
        return values.astype(values.dtype.newbyteorder("="))

    def _attribute(self, found: h5py.h5a.AttrID, where: str) -> Array:
        """Return the values of an attribute."""
        if prod(found.shape) * found.dtype.itemsize > LARGEST_TEXT * 8:
            self.refuse(where, f"{found.dtype} {list(found.shape)}", "less")
        values = np.empty(found.shape, found.dtype)
        found.read(values)
        return values

    def attribute(self, at: h5py.Group, name: str, kind: str, axes: int, expected: str) -> Any:
        """Read an attribute of a kind of NumPy dtype and this number of axes."""
        where = f"{at.name.rstrip('/')}/{name}"
        if name not in at.attrs:
            self.refuse(where, "missing", expected)
        found = at.attrs.get_id(name)
        if (
            found.shape is None
            or len(found.shape) != axes
            or found.dtype.kind != kind
            or (kind == "i" and found.dtype != np.dtype("<i8"))
        ):
            what = "without values" if found.shape is None else f"{found.dtype} {list(found.shape)}"
            self.refuse(where, what, expected)
        return self._attribute(found, where)

    def text(self, at: h5py.Group, name: str) -> str:
        """Read a text."""
        return bytes(self.attribute(at, name, "S", 0, "a text of fixed length")[()]).decode()

    def choice(self, at: h5py.Group, name: str, choices: tuple[str, ...]) -> str:
        """Read a text that is one of these."""
        found = self.text(at, name)
        if found not in choices:
            self.refuse(f"{at.name.rstrip('/')}/{name}", repr(found), " or ".join(choices))
        return found

    def texts(self, at: h5py.Group, name: str) -> tuple[str, ...]:
        """Read a list of texts."""
        return tuple(bytes(each).decode() for each in self.attribute(at, name, "S", 1, "a list of texts"))

    def number(self, at: h5py.Group, name: str) -> int:
        """Read an integer."""
        return self.in_range(at, name, [int(self.attribute(at, name, "i", 0, "an integer, int64"))])[0]

    def numbers(self, at: h5py.Group, name: str, count: int | None = None) -> tuple[int, ...]:
        """Read integers, `count` of them if it is given."""
        expected = f"{'' if count is None else f'{count} '}integers, int64"
        values = self.in_range(at, name, [int(each) for each in self.attribute(at, name, "i", 1, expected)])
        if count is not None and len(values) != count:
            self.refuse(f"{at.name}/{name}", f"{len(values)} integers", expected)
        return values

    def shape(self, at: h5py.Group, name: str) -> tuple[int, ...]:
        """Read the shape of a sample."""
        found = self.numbers(at, name)
        if not 1 <= len(found) <= 8 or prod(found) > LARGEST_NUMBER:
            self.refuse(f"{at.name}/{name}", str(list(found)), f"1..8 axes, {LARGEST_NUMBER} values at most")
        return found

    def in_range(self, at: h5py.Group, name: str, values: list[int]) -> tuple[int, ...]:
        """Return numbers if they are in the range of files."""
        if not all(0 <= value <= LARGEST_NUMBER for value in values):
            self.refuse(f"{at.name.rstrip('/')}/{name}", str(values), f"0..{LARGEST_NUMBER}")
        return tuple(values)

    def texts_by_name(self, where: str, text: str) -> dict[str, str]:
        """Return a JSON object of texts."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            self.refuse(where, f"no JSON ({words(error)})", "a JSON object of texts")
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            self.refuse(where, f"a JSON {type(found).__name__}", "a JSON object of texts")
        return found
