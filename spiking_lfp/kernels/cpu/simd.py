"""Loops over vectors that the compiler does not find by itself, written in its own language (LLVM IR).

`sum_rows` keeps its sums in registers while it walks through a list of rows; `add_rows` adds one row of each pair to
the other; `share_rows` does that and multiplies the first with a third; `share_word` does the same for 64 inputs at
once; `nonzeros` and `non_ones` compare 64 values at once; `prefetch` asks for memory that will be needed soon. Vectors
are 64 bytes: one register with AVX-512, two or four elsewhere.
Arrays are contiguous and addressed by their flat index.
"""

from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 64


@no_type_check
def array_data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return where an array's values begin."""
    return context.make_array(kind)(context, builder, array).data


@no_type_check
def _vector(context: Any, dtype: Any) -> ir.VectorType:
    return ir.VectorType(context.get_value_type(dtype), VECTOR_BYTES * 8 // dtype.bitwidth)


@no_type_check
def _load(builder: Any, vector: ir.VectorType, pointer: Any, size: int) -> Any:
    value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    value.align = size
    return value


@no_type_check
def _store(builder: Any, value: Any, pointer: Any, size: int) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = size


@no_type_check
def _at(builder: Any, data: Any, index: Any) -> Any:
    """Return what stands at `index` of an array of unsigned indices, as a machine word."""
    return builder.zext(builder.load(builder.gep(data, [index])), ir.IntType(64))


@intrinsic(prefer_literal=True)
@no_type_check
def sum_rows(
    typing: Any, table: Any, base: Any, rows: Any, first: Any, count: Any, out: Any, at: Any, vectors: Any
) -> Any:
    """Add to `out[at:]` the rows `rows[first:first + count]` of the table at `table[base:]`, each `vectors` long.

    `vectors` is a literal number.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    width = vectors.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # each array, and where to start in it
        data = {k: array_data(context, builder, signature.args[k], arguments[k]) for k in (0, 2, 5)}
        source, listed, target = (builder.gep(data[k], [arguments[k + 1]]) for k in data)
        vector, size = _vector(context, table.dtype), table.dtype.bitwidth // 8
        word = ir.IntType(64)
        places = [word(k * vector.count) for k in range(width)]
        sums = [cgutils.alloca_once(builder, vector) for _ in places]  # become registers
        for place, total in zip(places, sums, strict=True):
            builder.store(_load(builder, vector, builder.gep(target, [place]), size), total)
        with cgutils.for_range(builder, arguments[4]) as loop:
            row = builder.gep(source, [builder.mul(_at(builder, listed, loop.index), word(width * vector.count))])
            for place, total in zip(places, sums, strict=True):
                value = _load(builder, vector, builder.gep(row, [place]), size)
                builder.store(builder.fadd(builder.load(total), value), total)
        for place, total in zip(places, sums, strict=True):
            _store(builder, builder.load(total), builder.gep(target, [place]), size)
        return context.get_dummy_value()

    return types.void(table, base, rows, first, count, out, at, vectors), generate


@no_type_check
def _for_vectors(builder: Any, count: Any, body: Any) -> None:
    """Call `body(place, lane)` for the places 0 to count, four by four: `lane` is the place among the four."""
    word = ir.IntType(64)
    with builder.if_else(builder.icmp_unsigned("==", count, word(4))) as (just_four, any_number):
        with just_four:  # the common convolution, without the cost of loops
            for lane in range(4):
                body(word(lane), lane)
        with any_number:
            fours = builder.lshr(count, word(2))
            with cgutils.for_range(builder, fours) as loop:
                for lane in range(4):
                    body(builder.add(builder.shl(loop.index, word(2)), word(lane)), lane)
            done = builder.shl(fours, word(2))
            with cgutils.for_range(builder, builder.sub(count, done)) as loop:
                body(builder.add(done, loop.index), 0)


@no_type_check
def _row(context: Any, builder: Any, signature: Any, arguments: Any, which: int, base: int, starts: int, k: Any) -> Any:
    """Return the place `array[base + starts[k]]`, of the arguments with these numbers."""
    array, listed = (array_data(context, builder, signature.args[n], arguments[n]) for n in (which, starts))
    return builder.gep(array, [builder.add(arguments[base], _at(builder, listed, k))])


@intrinsic
@no_type_check
def add_rows(
    typing: Any, a: Any, base_a: Any, starts_a: Any, b: Any, base_b: Any, starts_b: Any, first: Any, pairs: Any,
    vectors: Any,
) -> Any:  # fmt: skip
    """Add `a[base_a + starts_a[k]:]` to `b[base_b + starts_b[k]:]`, `vectors` long, for `pairs` k from `first` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, size = _vector(context, a.dtype), a.dtype.bitwidth // 8
        with cgutils.for_range(builder, arguments[7]) as loop:
            k = builder.add(arguments[6], loop.index)
            rows = [_row(context, builder, signature, arguments, n, n + 1, n + 2, k) for n in (0, 3)]

            def add(place: Any, _: int) -> None:
                places = [builder.gep(row, [builder.mul(place, ir.IntType(64)(vector.count))]) for row in rows]
                values = [_load(builder, vector, place, size) for place in places]
                _store(builder, builder.fadd(*values), places[1], size)

            _for_vectors(builder, arguments[8], add)
        return context.get_dummy_value()

    return types.void(a, base_a, starts_a, b, base_b, starts_b, first, pairs, vectors), generate


@intrinsic
@no_type_check
def share_rows(
    typing: Any, q: Any, base_q: Any, starts_q: Any, table: Any, base_table: Any, outer: Any, base_outer: Any,
    starts: Any, first: Any, pairs: Any, vectors: Any,
) -> Any:  # fmt: skip
    """Both adjoints of one spike, for `pairs` k from `first` on, of rows `vectors` long.

    Return the sum of the dot products of `q[base_q + starts_q[k]:]` and `table[base_table + starts[k]:]`, and add the
    former to `outer[base_outer + starts[k]:]`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, size = _vector(context, q.dtype), q.dtype.bitwidth // 8
        suffix = f"v{vector.count}f{q.dtype.bitwidth}"
        kind = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.{suffix}")
        sums = [cgutils.alloca_once(builder, vector) for _ in range(4)]  # four, so that no sum waits for itself
        for total in sums:
            builder.store(ir.Constant(vector, [0.0] * vector.count), total)
        with cgutils.for_range(builder, arguments[9]) as loop:
            k = builder.add(arguments[8], loop.index)
            where = ((0, 1, 2), (3, 4, 7), (5, 6, 7))
            rows = [_row(context, builder, signature, arguments, *numbers, k) for numbers in where]

            def share(place: Any, lane: int) -> None:
                places = [builder.gep(row, [builder.mul(place, ir.IntType(64)(vector.count))]) for row in rows]
                part, weights, update = (_load(builder, vector, place, size) for place in places)
                builder.store(builder.call(fma, [part, weights, builder.load(sums[lane])]), sums[lane])
                _store(builder, builder.fadd(update, part), places[2], size)

            _for_vectors(builder, arguments[10], share)
        first_two, last_two = (builder.fadd(*map(builder.load, sums[k : k + 2])) for k in (0, 2))
        kind = ir.FunctionType(vector.element, [vector.element, vector])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.{suffix}")
        zero = ir.Constant(vector.element, -0.0)
        return builder.call(reduce, [zero, builder.fadd(first_two, last_two)], fastmath=("reassoc",))

    kinds = (q, base_q, starts_q, table, base_table, outer, base_outer, starts, first, pairs, vectors)
    return q.dtype(*kinds), generate


@intrinsic
@no_type_check
def share_word(
    typing: Any, word: Any, q: Any, at: Any, listed: Any, count: Any, weight: Any, stride: Any, base: Any,
    feedback: Any, place: Any, outer: Any,
) -> Any:  # fmt: skip
    """Both adjoints of 64 inputs, those of the bits set in `word`, for `count` outputs `listed`.

    Add `q[at + o]` to 64 values of `outer[o * stride + base:]` where a bit is set, and write into 64 values of
    `feedback[place:]` the sum of `q[at + o] * weight[o * stride + base:]` where a bit is set, else 0.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = {n: array_data(context, builder, signature.args[n], arguments[n]) for n in (1, 3, 5, 8, 10)}
        size = q.dtype.bitwidth // 8
        vector = ir.VectorType(context.get_value_type(q.dtype), 64)
        zero = ir.Constant(vector, [0.0] * 64)
        mask = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), 64))
        total = cgutils.alloca_once(builder, vector)  # becomes registers
        builder.store(zero, total)
        kind = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v64f{q.dtype.bitwidth}")
        with cgutils.for_range(builder, arguments[4]) as loop:
            output = _at(builder, data[3], loop.index)
            part = builder.load(builder.gep(data[1], [builder.add(arguments[2], output)]))
            part = builder.insert_element(ir.Constant(vector, ir.Undefined), part, ir.IntType(32)(0))
            part = builder.shuffle_vector(part, part, ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64))
            row = builder.add(builder.mul(output, arguments[6]), arguments[7])
            weights, update = (builder.gep(data[n], [row]) for n in (5, 10))
            builder.store(builder.call(fma, [part, _load(builder, vector, weights, size), builder.load(total)]), total)
            added = builder.fadd(_load(builder, vector, update, size), builder.select(mask, part, zero))
            _store(builder, added, update, size)
        masked = builder.select(mask, builder.load(total), zero)
        _store(builder, masked, builder.gep(data[8], [arguments[9]]), size)
        return context.get_dummy_value()

    return types.void(word, q, at, listed, count, weight, stride, base, feedback, place, outer), generate


@intrinsic(prefer_literal=True)
@no_type_check
def sum_scaled(
    typing: Any, table: Any, base: Any, rows: Any, first: Any, values: Any, start: Any, count: Any, out: Any, at: Any,
    vectors: Any,
) -> Any:  # fmt: skip
    """Add to `out[at:]` rows of the table at `table[base:]`, times the value of each, as `sum_rows` does.

    The rows are `rows[first:first + count]`, their values `values[start:start + count]`.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    width = vectors.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = {k: array_data(context, builder, signature.args[k], arguments[k]) for k in (0, 2, 4, 7)}
        source, listed, scales, target = (builder.gep(data[k], [arguments[k + 1]]) for k in data)
        vector, size = _vector(context, table.dtype), table.dtype.bitwidth // 8
        word, lane = ir.IntType(64), ir.IntType(32)
        kind = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fma.v{vector.count}f{table.dtype.bitwidth}"
        fma = cgutils.get_or_insert_function(builder.module, kind, name)
        places = [word(k * vector.count) for k in range(width)]
        sums = [cgutils.alloca_once(builder, vector) for _ in places]  # become registers
        for place, total in zip(places, sums, strict=True):
            builder.store(_load(builder, vector, builder.gep(target, [place]), size), total)
        with cgutils.for_range(builder, arguments[6]) as loop:
            row = builder.gep(source, [builder.mul(_at(builder, listed, loop.index), word(width * vector.count))])
            scale = builder.load(builder.gep(scales, [loop.index]))
            scale = builder.insert_element(ir.Constant(vector, ir.Undefined), scale, lane(0))
            scale = builder.shuffle_vector(scale, scale, ir.Constant(ir.VectorType(lane, vector.count), None))
            for place, total in zip(places, sums, strict=True):
                value = _load(builder, vector, builder.gep(row, [place]), size)
                builder.store(builder.call(fma, [value, scale, builder.load(total)]), total)
        for place, total in zip(places, sums, strict=True):
            _store(builder, builder.load(total), builder.gep(target, [place]), size)
        return context.get_dummy_value()

    return types.void(table, base, rows, first, values, start, count, out, at, vectors), generate


@intrinsic
@no_type_check
def transpose(typing: Any, x: Any, at: Any, stride: Any, out: Any, to: Any, out_stride: Any) -> Any:
    """Write the transpose of a square as wide as a vector, from `x[at:]` to `out[to:]`, rows `stride` values apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, size = _vector(context, x.dtype), x.dtype.bitwidth // 8
        word, lanes = ir.IntType(64), range(_vector(context, x.dtype).count)
        data = {k: array_data(context, builder, signature.args[k], arguments[k]) for k in (0, 3)}
        source, target = (builder.gep(data[k], [arguments[k + 1]]) for k in data)

        def place(data: Any, stride: Any, row: int) -> Any:
            return builder.gep(data, [builder.mul(stride, word(row))])

        def pick(a: Any, b: Any, chosen: list[int]) -> Any:
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), chosen))

        rows = [_load(builder, vector, place(source, arguments[2], k), size) for k in lanes]
        step = len(lanes) // 2
        while step:  # swap the upper right and lower left quarter of ever smaller squares
            for k in lanes:
                if not k & step:
                    a, b = rows[k], rows[k + step]
                    rows[k] = pick(a, b, [j + len(lanes) - step if j & step else j for j in lanes])
                    rows[k + step] = pick(a, b, [j + len(lanes) if j & step else j + step for j in lanes])
            step //= 2
        for k in lanes:
            _store(builder, rows[k], place(target, arguments[5], k), size)
        return context.get_dummy_value()

    return types.void(x, at, stride, out, to, out_stride), generate


@intrinsic
@no_type_check
def prefetch(typing: Any, x: Any, at: Any) -> Any:
    """Ask for the memory of `x[at]`, which will be read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = array_data(context, builder, signature.args[0], arguments[0])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(ask, [place, word(0), word(3), word(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return types.void(x, at), generate


@no_type_check
def _compared(value: float) -> Any:
    """Return an intrinsic that tells of 64 values at a time which are other than `value`."""

    @no_type_check
    def other(typing: Any, x: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(context.get_value_type(x.dtype), 64)
            data = array_data(context, builder, signature.args[0], arguments[0])
            values = _load(builder, vector, builder.gep(data, [arguments[1]]), x.dtype.bitwidth // 8)
            different = builder.fcmp_unordered("!=", values, ir.Constant(vector, [value] * 64))
            return builder.bitcast(different, ir.IntType(64))

        return types.uint64(x, at), generate

    return intrinsic(other)


# of the 64 values from `x[at]` on, as bits: which are not 0, which are not 1
nonzeros, non_ones = _compared(0.0), _compared(1.0)


@intrinsic
@no_type_check
def count_bits(typing: Any, word: Any) -> Any:
    """Return how many bits are set in `word`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.ctpop.i64"), [arguments[0]])

    return types.intp(word), generate


@intrinsic
@no_type_check
def lowest_bit(typing: Any, word: Any) -> Any:
    """Return the place of the lowest bit set in `word`, which must not be 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64), ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.call(count, [arguments[0], ir.Constant(ir.IntType(1), 1)])

    return types.intp(word), generate
