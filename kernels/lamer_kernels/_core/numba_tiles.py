# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,type-arg,untyped-decorator"
"""Matrix products of small matrices for numba kernels, in float32: a tile of the result stays in registers.

A compiler vectorises loops but does not tile them; so the tile is written in its intermediate language. Its
vectors are as wide as any machine's; where they are narrower one takes several registers.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from .numba_math import LANES, jit

ROWS = 8  # of a tile
VECTOR, BITS, HALVES = (
    ir.VectorType(kind, LANES) for kind in (ir.FloatType(), ir.IntType(32), ir.IntType(16))
)


def _tile(num_vectors):
    """An intrinsic: c[:ROWS, : num_vectors * LANES] = a @ b, or += where `add`.

    a [ROWS, K] at any strides, b [K, ...] and c [ROWS, ...] in rows of `b_row` and `c_row` numbers; flat
    arrays, in which b and c begin at `b_at` and `c_at`. b may be bfloat16, in int16.
    """

    @intrinsic
    def tile(typing_context, a, a_row, a_column, b, b_at, b_row, c, c_at, c_row, K, add):
        index = types.intp
        arrays = types.Array(types.float32, 1, "C")
        signature = types.void(
            arrays, index, index, b, index, index, arrays, index, index, index, types.boolean
        )
        return signature, codegen

    def codegen(context, builder, signature, args):
        def pointer(array, at):
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            return builder.gep(data, [at], inbounds=True)

        index = ir.IntType(64)
        a, b, c = pointer(0, ir.Constant(index, 0)), pointer(3, args[4]), pointer(6, args[7])
        a_row, a_column, b_row, c_row, K, add = (args[i] for i in (1, 2, 5, 8, 9, 10))
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )

        halves = signature.args[3].dtype == types.int16

        def vector(start, offset, number, kind=VECTOR):
            address = builder.gep(
                start, [builder.add(offset, ir.Constant(index, number * LANES))], inbounds=True
            )
            return builder.bitcast(address, kind.as_pointer())

        def load(start, offset, number):
            return builder.load(vector(start, offset, number), align=4)

        def load_b(offset, number):
            if not halves:
                return load(b, offset, number)
            upper = builder.zext(builder.load(vector(b, offset, number, HALVES), align=2), BITS)
            return builder.bitcast(builder.shl(upper, ir.Constant(BITS, [16] * LANES)), VECTOR)

        def row(i):
            return builder.mul(c_row, ir.Constant(index, i))

        tile = [(i, j) for i in range(ROWS) for j in range(num_vectors)]
        sums = {at: cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None)) for at in tile}
        with builder.if_then(add):
            for i, j in tile:
                builder.store(load(c, row(i), j), sums[i, j])
        with cgutils.for_range(builder, K, intp=index) as loop:
            line = [load_b(builder.mul(loop.index, b_row), j) for j in range(num_vectors)]
            for i in range(ROWS):
                at = builder.add(builder.mul(loop.index, a_column), builder.mul(a_row, ir.Constant(index, i)))
                one = builder.load(builder.gep(a, [at], inbounds=True))
                undefined = ir.Constant(VECTOR, ir.Undefined)
                first = builder.insert_element(undefined, one, ir.Constant(ir.IntType(32), 0))
                everywhere = ir.Constant(BITS, [0] * LANES)
                spread = builder.shuffle_vector(first, undefined, everywhere)
                for j in range(num_vectors):
                    total = builder.load(sums[i, j])
                    builder.store(builder.call(fma, [spread, line[j], total]), sums[i, j])
        for i, j in tile:
            builder.store(builder.load(sums[i, j]), vector(c, row(i), j), align=4)
        return context.get_dummy_value()

    return tile


_wide, _narrow = _tile(2), _tile(1)


@jit
def multiply(a, a_row, a_column, b, b_row, c, c_row, M, N, K, add):
    """c [M, N] = a [M, K] @ b [K, N], or += where `add`; flat float32 arrays, b perhaps bfloat16.

    a's numbers lie `a_row` and `a_column` apart, rows of b and c `b_row` and `c_row`. M is a multiple of ROWS
    and N of LANES: who calls it pads with zeros. No number depends on M or N.
    """
    for n in range(0, N - LANES, 2 * LANES):  # columns of b stay in the cache
        for m in range(0, M, ROWS):
            _wide(a[m * a_row :], a_row, a_column, b, n, b_row, c, m * c_row + n, c_row, K, add)
    if N % (2 * LANES):
        n = N - LANES
        for m in range(0, M, ROWS):
            _narrow(a[m * a_row :], a_row, a_column, b, n, b_row, c, m * c_row + n, c_row, K, add)


def _reduction(combine):
    """An intrinsic: x[0] combined with x[1], ... x[n - 1], always in one order; n is a multiple of LANES."""

    @intrinsic
    def reduce(typing_context, x, n):
        return types.float32(types.Array(types.float32, 1, "C"), types.intp), codegen

    def codegen(context, builder, signature, args):
        index = ir.IntType(64)
        start = context.make_array(signature.args[0])(context, builder, args[0]).data

        def vector(at):
            pointer = builder.bitcast(builder.gep(start, [at], inbounds=True), VECTOR.as_pointer())
            return builder.load(pointer, align=4)

        found = cgutils.alloca_once_value(builder, vector(ir.Constant(index, 0)))
        lanes = ir.Constant(index, LANES)
        with cgutils.for_range_slice(builder, lanes, args[1], lanes, intp=index) as (at, _):
            builder.store(combine(builder, builder.load(found), vector(at)), found)
        out, width = builder.load(found), LANES
        while width > 1:  # the upper half with the lower
            width //= 2
            kind, undefined = ir.VectorType(ir.IntType(32), width), ir.Constant(out.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(out, undefined, ir.Constant(kind, [first + i for i in range(width)]))
                for first in (0, width)
            )
            out = combine(builder, low, high)
        return builder.extract_element(out, ir.Constant(ir.IntType(32), 0))

    return reduce


total = _reduction(lambda builder, a, b: builder.fadd(a, b))
largest = _reduction(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
