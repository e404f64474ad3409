"""A small language of vectors: functions written in it read like equations and become instructions one by one.

    @vector_function(lanes=64, mask="valid", returns=types.uint64)
    def fire(v, valid, membrane, place, threshold, neuron):
        return v.bits(v.load(membrane[place]) > v.load(threshold[neuron]))

is called from compiled code as `fire(valid, membrane, place, threshold, neuron)`. The function runs once for each
signature, while its caller is compiled, and `v`, a `Writer`, writes the instructions as it goes. Arguments are arrays
(`Memory`: contiguous, addressed by a flat index), numbers (`Value`) and tuples of them, those with names included.
Nothing is reordered or contracted behind its back: `a * b + c` rounds twice, `v.fma(a, b, c)` once.

A vector holds as many values as `lanes` says, by default 64 bytes: one register with AVX-512, two or four elsewhere.
Its values are of the type of the first array of floats, so that one source serves float32 and float64.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 64
WORD, TRUTH = ir.IntType(64), ir.IntType(1)
# says nothing of what it points to: LLVM has no other pointers any more
POINTER = ir.PointerType()


class Value:
    """A vector, a number or a truth value; together with a vector, a number stands in all lanes."""

    __hash__ = None  # type: ignore[assignment]  # comparisons answer for each lane

    def __init__(self, writer: "Writer", inner: Any) -> None:
        self.writer, self.inner = writer, inner

    def _with(self, other: Any, floats: str, integers: str, *comparison: str) -> "Value":
        other = self.writer.like(other, self)
        mine = self.writer.like(self, other)
        name = floats if isinstance(_element(mine.inner.type), ir.FloatType | ir.DoubleType) else integers
        return Value(self.writer, getattr(self.writer.builder, name)(*comparison, mine.inner, other.inner))

    def __add__(self, other: Any) -> "Value":
        return self._with(other, "fadd", "add")

    def __sub__(self, other: Any) -> "Value":
        return self._with(other, "fsub", "sub")

    def __mul__(self, other: Any) -> "Value":
        return self._with(other, "fmul", "mul")

    def __truediv__(self, other: Any) -> "Value":
        return self._with(other, "fdiv", "sdiv")

    def __and__(self, other: Any) -> "Value":
        return self._with(other, "and_", "and_")

    def __rshift__(self, other: Any) -> "Value":
        return self._with(other, "lshr", "lshr")

    def __gt__(self, other: Any) -> "Value":
        return self._with(other, "fcmp_ordered", "icmp_signed", ">")

    def __eq__(self, other: Any) -> "Value":  # type: ignore[override]
        return self._with(other, "fcmp_ordered", "icmp_signed", "==")

    def __ne__(self, other: Any) -> "Value":  # type: ignore[override]  # NaN is other than all
        return self._with(other, "fcmp_unordered", "icmp_signed", "!=")

    def __abs__(self) -> "Value":
        return self.writer.call("fabs", self)


@dataclass(frozen=True)
class Memory:
    """Values in memory; `memory[index]` are those from there on."""

    writer: "Writer"
    element: Any
    pointer: Any

    def __getitem__(self, index: Any) -> "Memory":
        place = self.writer.like(index, self.writer.word(0)).inner
        return replace(self, pointer=self.writer.builder.gep(self.pointer, [place], source_etype=self.element))


class Variable:
    """What loops and branches change."""

    def __init__(self, initial: Value) -> None:
        self._writer = initial.writer
        self._slot = cgutils.alloca_once(initial.writer.builder, initial.inner.type)  # becomes a register
        self.value = initial

    @property
    def value(self) -> Value:
        """What it holds."""
        return Value(self._writer, self._writer.builder.load(self._slot))

    @value.setter
    def value(self, value: Value) -> None:
        self._writer.builder.store(value.inner, self._slot)


@dataclass(frozen=True)
class Writer:
    """Writes instructions: the `v` of vector functions.

    Attributes:
        builder: llvmlite's.
        element: LLVM's type of the values of a vector.
        lanes: values of a vector.
        mask: in which lanes vectors are loaded, else 0, and stored; None for all.
    """

    builder: Any
    element: Any
    lanes: int
    mask: Any = None

    @property
    def _vector(self) -> Any:
        return ir.VectorType(self.element, self.lanes)

    def word(self, value: int) -> Value:
        """Return a whole number."""
        return Value(self, WORD(value))

    def number(self, value: float) -> Value:
        """Return a vector of one number."""
        return Value(self, ir.Constant(self._vector, [value] * self.lanes))

    def like(self, value: Any, other: Value) -> Value:
        """Return a number, Python's or ours, as what stands beside `other`: a vector, or a number of its type."""
        kind = other.inner.type
        if not isinstance(value, Value):
            return Value(self, ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value))
        if isinstance(value.inner.type, ir.VectorType) or not isinstance(kind, ir.VectorType):
            return value
        vector = ir.VectorType(value.inner.type, kind.count)
        first = Value(self, self.builder.insert_element(ir.Constant(vector, ir.Undefined), value.inner, WORD(0)))
        return self.pick(first, first, [0] * kind.count)

    def pick(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Return these lanes, counted through `a` and on through `b`."""
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
        return Value(self, self.builder.shuffle_vector(a.inner, b.inner, chosen))

    def read(self, memory: Memory) -> Value:
        """Read one number; an unsigned index becomes a word."""
        value = self.builder.load(memory.pointer, typ=memory.element)
        narrow = isinstance(memory.element, ir.IntType) and memory.element.width < WORD.width
        return Value(self, self.builder.zext(value, WORD) if narrow else value)

    def load(self, memory: Memory) -> Value:
        """Read a vector."""
        if self.mask is None:
            return Value(self, self.builder.load(memory.pointer, typ=self._vector, align=_bytes(self.element)))
        rest = ir.IntType(32)(_bytes(self.element)), self.mask, self.number(0.0).inner
        return self._masked("load", self._vector, memory.pointer, *rest)

    def store(self, value: Value, memory: Memory) -> None:
        """Write a vector."""
        if self.mask is None:
            self.builder.store(value.inner, memory.pointer, align=_bytes(self.element))
            return
        rest = memory.pointer, ir.IntType(32)(_bytes(self.element)), self.mask
        self._masked("store", ir.VoidType(), value.inner, *rest)

    def _masked(self, what: str, result: Any, *arguments: Any) -> Value:
        return self._call(f"masked.{what}.{_name(self._vector)}.p0", result, *arguments)

    def where(self, condition: Value, yes: Any, no: Any) -> Value:
        """Return `yes` in the lanes where the condition holds, else `no`."""
        yes, no = (self.like(each, self.number(0.0)) for each in (yes, no))
        return Value(self, self.builder.select(condition.inner, yes.inner, no.inner))

    def either(self, condition: Value, yes: Memory, no: Memory) -> Memory:
        """Return one of two places in memory."""
        return replace(no, pointer=self.builder.select(condition.inner, yes.pointer, no.pointer))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return `a * b + c`, rounded once."""
        return self.call("fma", self.like(a, c), self.like(b, c), c)

    def sum(self, value: Value) -> Value:
        """Return the sum of all lanes, in any order."""
        name, start = f"vector.reduce.fadd.{_name(value.inner.type)}", ir.Constant(self.element, -0.0)
        return self._call(name, self.element, start, value.inner, fastmath=("reassoc",))

    def bits(self, answers: Value) -> Value:
        """Return the answers of 64 lanes as a word."""
        return Value(self, self.builder.bitcast(answers.inner, WORD))

    def answers(self, word: Value) -> Value:
        """Return the bits of a word as answers of 64 lanes."""
        return Value(self, self.builder.bitcast(word.inner, ir.VectorType(TRUTH, 64)))

    def first(self, count: Value) -> Value:
        """Return the answer yes in so many lanes, or all if there are fewer."""
        numbers = Value(self, ir.Constant(ir.VectorType(WORD, self.lanes), list(range(self.lanes))))
        return self.like(count, numbers) > numbers

    def only(self, answers: Value) -> "Writer":
        """Return what loads and stores where the answer is yes."""
        return replace(self, mask=answers.inner)

    def prefetch(self, memory: Memory) -> None:
        """Ask for what will be read, into the nearest cache."""
        to_read, soonest, data = (ir.IntType(32)(number) for number in (0, 3, 1))
        self._call("prefetch.p0", ir.VoidType(), memory.pointer, to_read, soonest, data)

    def call(self, name: str, *values: Value) -> Value:
        """Call a function of LLVM whose result is of the type of its arguments."""
        kind = values[0].inner.type
        return self._call(f"{name}.{_name(kind)}", kind, *(value.inner for value in values))

    def trailing_zeros(self, word: Value) -> Value:
        """Return how many bits of a word that is not 0 are unset below its lowest one."""
        kind = word.inner.type
        return self._call(f"cttz.{_name(kind)}", kind, word.inner, ir.Constant(ir.IntType(1), 1))

    def _call(self, name: str, result: Any, *arguments: Any, **options: Any) -> Value:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}")
        return Value(self, self.builder.call(function, arguments, **options))

    @contextmanager
    def loop(self, count: Value) -> Iterator[Value]:
        """Repeat the block for 0 to `count`."""
        with cgutils.for_range(self.builder, count.inner) as loop:
            yield Value(self, loop.index)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Run the block if the condition holds."""
        with self.builder.if_then(condition.inner):
            yield

    def branch(self, condition: Value, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Run one of both."""
        with self.builder.if_else(condition.inner) as (holds, fails):
            with holds:
                yes()
            with fails:
                no()


def vector_function(
    lanes: int | None = None, mask: str = "", returns: Any = types.void, literal: str = ""
) -> Callable[[Callable[..., Any]], Any]:
    """Make compiled code able to call a function that is written with a `Writer`.

    Args:
        lanes: values of a vector, or as many as fit into 64 bytes.
        mask: the argument that says, as a word, which of 64 lanes are meant. The function is written twice then, once
            for words whose bits are all set.
        returns: numba's type of the result, or "element" for that of a vector's values.
        literal: an argument that is a number in the source of the caller; the function gets it as Python's.
    """

    def decorate(source: Callable[..., Any]) -> Any:
        names = list(inspect.signature(source).parameters)[1:]

        @no_type_check
        def definition(_: Any, *kinds: Any) -> Any:
            constants = {literal: kinds[names.index(literal)].literal_value} if literal else {}
            floats = [kind.dtype for kind in _flat(kinds) if _holds_floats(kind)]
            result = floats[0] if returns == "element" else returns

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                element = context.get_value_type(floats[0]) if floats else ir.IntType(8)
                writer = Writer(builder, element, lanes or VECTOR_BYTES // _bytes(element))
                arguments = {
                    name: _argument(context, writer, kind, value)
                    for name, kind, value in zip(names, signature.args, values, strict=True)
                } | constants
                if not mask:
                    found = source(writer, **arguments)
                    return context.get_dummy_value() if found is None else found.inner
                found = []

                def write(writer: Writer) -> None:
                    value = source(writer, **arguments)
                    if value is not None:
                        found[:] = found or [Variable(value)]
                        found[0].value = value

                valid = arguments[mask]
                masked = writer.only(writer.answers(valid))
                writer.branch(valid == -1, lambda: write(writer), lambda: write(masked))
                return found[0].value.inner if found else context.get_dummy_value()

            return result(*kinds), generate

        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ["_", *names]]
        definition.__signature__ = inspect.Signature(parameters)
        definition.__name__, definition.__doc__ = source.__name__, source.__doc__
        return intrinsic(prefer_literal=bool(literal))(definition)

    return decorate


@no_type_check
def _argument(context: Any, writer: Writer, kind: Any, value: Any) -> Any:
    """Return an argument of numba's as the language sees it."""
    if isinstance(kind, types.Array):
        data = context.make_array(kind)(context, writer.builder, value).data
        slot = cgutils.alloca_once(writer.builder, POINTER)  # numba's pointer is typed; read back, it is not
        writer.builder.store(data, slot)
        return Memory(writer, context.get_data_type(kind.dtype), writer.builder.load(slot, typ=POINTER))
    if isinstance(kind, types.BaseTuple):
        parts = [
            _argument(context, writer, part, writer.builder.extract_value(value, index))
            for index, part in enumerate(kind)
        ]
        return kind.instance_class(*parts) if isinstance(kind, types.BaseNamedTuple) else tuple(parts)
    return Value(writer, value)


@no_type_check
def _flat(kinds: Any) -> Iterator[Any]:
    for kind in kinds:
        yield from _flat(kind) if isinstance(kind, types.BaseTuple) else [kind]


def _holds_floats(kind: Any) -> bool:
    return isinstance(kind, types.Array) and isinstance(kind.dtype, types.Float)


def _element(kind: Any) -> Any:
    return kind.element if isinstance(kind, ir.VectorType) else kind


def _bytes(element: Any) -> int:
    return {ir.FloatType: 4, ir.DoubleType: 8}.get(type(element), 1)


def _name(kind: Any) -> str:
    """Return what LLVM calls a type in the names of its functions."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_name(kind.element)}"
    return f"i{kind.width}" if isinstance(kind, ir.IntType) else f"f{8 * _bytes(kind)}"
