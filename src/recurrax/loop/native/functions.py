"""exp, log, tanh and their kin on vectors of float32 or float64, as sequences of IR.

Each works on scalars and vectors alike. The reductions and polynomials are the textbook ones
(Cody and Waite, "Software Manual for the Elementary Functions", 1980; Muller, "Elementary
Functions", 2016): an argument is brought to a short interval by exact steps, a polynomial serves
the interval, exponent bits do the rest. NaN goes through; nothing here branches.

Worst errors in float32, in units in the last place, over all arguments (XLA's threads take
subnormal numbers for zero): exp 1.0, expm1 1.4, log 1.1, log1p 1.5, logistic 1.7, tanh 1.8.
A processor that cannot multiply and add in one rounding (plain SSE) is worse by about one unit.
"""

import dataclasses
import math

import llvmlite.ir as ir

from recurrax.loop.native.emit import (
    Builder,
    Register,
    Type,
    constant,
    declared,
    element,
    f32,
    i32,
    i64,
    intrinsic,
    like,
)


@dataclasses.dataclass(frozen=True)
class _Format:
    """The bits of a float format, and ln 2 in two parts, the first short enough to be exact."""

    word: Type
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    smallest: float
    magic: float
    exp_low: float  # e to this, and less, is zero
    exp_high: float  # e to this, and more, is infinite
    normal: tuple[float, float]  # e to these, and all between, is a normal number
    saturated: float  # e to this is nothing beside 1


_SINGLE = _Format(
    word=i32,
    mantissa=23,
    bias=127,
    ln2=(0.693359375, -2.12194440e-4),
    smallest=2.0**-126,
    magic=1.5 * 2.0**23,
    exp_low=-104.0,
    exp_high=89.0,
    normal=(-87.0, 88.3),
    saturated=-20.0,
)
_DOUBLE = _Format(
    word=i64,
    mantissa=52,
    bias=1023,
    ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    smallest=2.0**-1022,
    magic=1.5 * 2.0**52,
    exp_low=-746.0,
    exp_high=710.0,
    normal=(-708.0, 709.0),
    saturated=-40.0,
)
# expm1(r) = r + r² p(r) for |r| <= ln 2 / 2
_EXP = {
    True: [1.0 / math.factorial(n) for n in range(14, 1, -1)],
    False: [
        *(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2),
        *(1.6666665459e-1, 5.0000001201e-1),
    ],
}
# The same to a quarter of a unit in the last place, for who rounds more than once.
_SHORT_EXP = {
    True: _EXP[True],
    False: [
        *(1.38825096656e-3, 8.36654752493e-3, 4.16672006249e-2, 1.66665434837e-1),
        4.99999970198e-1,
    ],
}
# log((1 + s) / (1 - s)) = 2s + s z q(z), z = s²
_LOG = {
    True: [
        *(1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01),
        *(2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01),
        6.666666666666735130e-01,
    ],
    False: [0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693],
}


def _format(x: Register) -> _Format:
    return _SINGLE if element(x.type) == f32 else _DOUBLE


def _double(x: Register) -> bool:
    return element(x.type) != f32


def number(x: Register, c: float) -> ir.Constant:
    return constant(x.type, c)


def fma(b: Builder, x: Register, y: Register, z: Register) -> Register:
    """x y + z, fused where the processor can."""
    return intrinsic(b, "fmuladd", x, y, z)


def polynomial(b: Builder, x: Register, coefficients) -> Register:
    """Horner's rule, the highest power first."""
    result = number(x, coefficients[0])
    for c in coefficients[1:]:
        result = fma(b, result, x, number(x, c))
    return result


def clamp(b: Builder, x: Register, low: float | None, high: float | None) -> Register:
    """`x` between `low` and `high`; NaN stays NaN. Written as processors' own min and max work."""
    if high is not None:
        x = b.select(b.fcmp_ordered("<", number(x, high), x), number(x, high), x)
    if low is not None:
        x = b.select(b.fcmp_ordered(">", number(x, low), x), number(x, low), x)
    return x


def absolute(b: Builder, x: Register) -> Register:
    return intrinsic(b, "fabs", x)


def copysign(b: Builder, x: Register, sign: Register) -> Register:
    return intrinsic(b, "copysign", x, sign)


def nearest(b: Builder, x: Register) -> tuple[Register, Register]:
    """The nearest whole number to a small `x`, as a float and as an integer of its size."""
    form = _format(x)
    shifted = b.fadd(x, number(x, form.magic))
    word = like(x.type, form.word)
    bits = b.bitcast(number(x, form.magic), word)
    return b.fsub(shifted, number(x, form.magic)), b.sub(b.bitcast(shifted, word), bits)


def _power_of_two(b: Builder, n: Register, x: Register) -> Register:
    """2ⁿ for the exponents of normal numbers, in the float type of `x`."""
    form = _format(x)
    word = like(x.type, form.word)
    biased = b.add(n, constant(word, form.bias))
    return b.bitcast(b.shl(biased, constant(word, form.mantissa)), x.type)


def _growth(b: Builder, x: Register) -> tuple[Register, Register]:
    """n and eʳ - 1, where x = n ln 2 + r and |r| <= ln 2 / 2."""
    whole, n = nearest(b, b.fmul(x, number(x, math.log2(math.e))))
    return n, _growth_of_rest(b, x, whole, _EXP[_double(x)])


def _normal_growth(b: Builder, x: Register) -> tuple[Register, Register]:
    """2ⁿ and eʳ - 1 likewise, where 2ⁿ is a normal number: in fewer steps."""
    form = _format(x)
    # With the bias in it, the whole number lies in the low bits as the exponent wants it.
    magic = number(x, form.magic + form.bias)
    shifted = fma(b, x, number(x, math.log2(math.e)), magic)
    word = like(x.type, form.word)
    scale = b.shl(b.bitcast(shifted, word), constant(word, form.mantissa))
    growth = _growth_of_rest(b, x, b.fsub(shifted, magic), _SHORT_EXP[_double(x)])
    return b.bitcast(scale, x.type), growth


def _growth_of_rest(b: Builder, x: Register, whole: Register, coefficients) -> Register:
    """eʳ - 1, where r is what x is above `whole` times ln 2."""
    form = _format(x)
    r = fma(b, whole, number(x, -form.ln2[0]), x)
    r = fma(b, whole, number(x, -form.ln2[1]), r)
    return fma(b, polynomial(b, r, coefficients), b.fmul(r, r), r)


def exp(b: Builder, x: Register) -> Register:
    form = _format(x)
    n, growth = _growth(b, clamp(b, x, form.exp_low, form.exp_high))
    p = b.fadd(growth, number(x, 1.0))
    # 2ⁿ in two factors: the result may be subnormal, or the largest exponent
    half = b.ashr(n, constant(n.type, 1))
    p = b.fmul(p, _power_of_two(b, half, x))
    return b.fmul(p, _power_of_two(b, b.sub(n, half), x))


def expm1(b: Builder, x: Register) -> Register:
    form = _format(x)
    n, growth = _growth(b, clamp(b, x, form.saturated, form.exp_high))
    # (eʳ - 1) 2ⁿ + (2ⁿ - 1), at half its size so that 2ⁿ never overflows
    scale = _power_of_two(b, b.sub(n, constant(n.type, 1)), x)
    half = fma(b, growth, scale, b.fsub(scale, number(x, 0.5)))
    tiny = b.fcmp_ordered("<", absolute(b, x), number(x, form.smallest * 2**20))
    return b.select(tiny, x, b.fadd(half, half))


def logistic(b: Builder, x: Register) -> Register:
    """1 / (1 + e⁻ˣ), the sum rounded once; what would be subnormal may be zero."""
    form = _format(x)
    low, high = form.normal
    scale, growth = _normal_growth(b, b.fneg(clamp(b, x, -high, -low)))
    more = b.fadd(scale, number(x, 1.0))
    below = fma(b, growth, scale, more)
    lost = fma(b, growth, scale, b.fsub(more, below))
    return _quotient_of_one(b, below, lost)


def tanh(b: Builder, x: Register) -> Register:
    """m / (m + 2) with m = exp(2|x|) - 1, the sign put back."""
    size = absolute(b, x)
    scale, growth = _normal_growth(b, clamp(b, b.fadd(size, size), None, -_format(x).saturated))
    m = fma(b, growth, scale, b.fsub(scale, number(x, 1.0)))
    below = b.fadd(m, number(x, 2.0))
    lost = b.fsub(m, b.fsub(below, number(x, 2.0)))
    return copysign(b, _quotient(b, m, below, lost), x)


def _can_estimate(b: Builder, x: Register) -> bool:
    """Whether the processor has an estimate of 1 / x that beats its slow division."""
    alike = not b.module.repeatable  # scalars have no such estimate
    return alike and b.module.target.has_avx512 and x.type == ir.VectorType(f32, 16)


def _estimate(b: Builder, x: Register) -> Register:
    """1 / x to 14 bits."""
    mask = ir.IntType(16)
    name = "llvm.x86.avx512.rcp14.ps.512"
    callee = declared(b.module, name, x.type, [x.type, x.type, mask])
    return b.call(callee, [x, number(x, 0.0), ir.Constant(mask, 0xFFFF)])


def reciprocal(b: Builder, x: Register) -> Register:
    """1 / x for ordinary x, to 0.6 units in the last place."""
    one = number(x, 1.0)
    if not _can_estimate(b, x):
        return b.fdiv(one, x)
    y = _estimate(b, x)
    return fma(b, y, fma(b, b.fneg(x), y, one), y)


def _quotient_of_one(b: Builder, y: Register, lost: Register) -> Register:
    """1 / (y + lost) for ordinary numbers; `lost` is what the rounding of y left out."""
    one = number(y, 1.0)
    near = _estimate(b, y) if _can_estimate(b, y) else b.fdiv(one, y)
    rest = fma(b, b.fneg(lost), near, fma(b, b.fneg(y), near, one))
    return fma(b, near, rest, near)


def _quotient(b: Builder, x: Register, y: Register, lost: Register) -> Register:
    """x / (y + lost) for ordinary numbers; `lost` is what the rounding of y left out."""
    inverse = reciprocal(b, y)
    near = b.fmul(x, inverse)
    rest = fma(b, b.fneg(lost), near, fma(b, b.fneg(y), near, x))
    return fma(b, rest, inverse, near)


def log(b: Builder, x: Register) -> Register:
    form = _format(x)
    word = like(x.type, form.word)
    lift = float(2**form.mantissa)
    tiny = b.fcmp_ordered("<", x, number(x, form.smallest))
    lifted = b.select(tiny, b.fmul(x, number(x, lift)), x)
    # m between √½ and √2
    bits = b.bitcast(lifted, word)
    root = b.bitcast(number(x, math.sqrt(0.5)), word)
    n = b.ashr(b.sub(bits, root), constant(word, form.mantissa))
    m = b.bitcast(b.sub(bits, b.shl(n, constant(word, form.mantissa))), x.type)
    n = b.sub(n, b.select(tiny, constant(word, form.mantissa), constant(word, 0)))
    exponent = b.sitofp(n, x.type)
    f = b.fsub(m, number(x, 1.0))
    s = b.fdiv(f, b.fadd(f, number(x, 2.0)))
    z = b.fmul(s, s)
    square = b.fmul(b.fmul(f, f), number(x, 0.5))
    tail = b.fmul(s, fma(b, polynomial(b, z, _LOG[_double(x)]), z, square))
    low = fma(b, exponent, number(x, form.ln2[1]), tail)
    result = fma(b, exponent, number(x, form.ln2[0]), b.fsub(f, b.fsub(square, low)))
    infinity, zero = number(x, math.inf), number(x, 0.0)
    result = b.select(b.fcmp_ordered("==", x, zero), number(x, -math.inf), result)
    result = b.select(b.fcmp_unordered("<", x, zero), number(x, math.nan), result)
    return b.select(b.fcmp_ordered("==", x, infinity), infinity, result)


def log1p(b: Builder, x: Register) -> Register:
    """log(u) with u = 1 + x rounded, and what the rounding lost."""
    one, infinity = number(x, 1.0), number(x, math.inf)
    u = b.fadd(x, one)
    lost = b.select(
        b.fcmp_ordered(">=", u, number(x, 2.0)),
        b.fsub(one, b.fsub(u, x)),
        b.fsub(x, b.fsub(u, one)),
    )
    result = b.fadd(log(b, u), b.fdiv(lost, u))
    result = b.select(b.fcmp_ordered("==", u, number(x, 0.0)), number(x, -math.inf), result)
    result = b.select(b.fcmp_ordered("==", x, number(x, 0.0)), x, result)
    return b.select(b.fcmp_ordered("==", x, infinity), infinity, result)


def sqrt(b: Builder, x: Register) -> Register:
    return intrinsic(b, "sqrt", x)


def rsqrt(b: Builder, x: Register) -> Register:
    return b.fdiv(number(x, 1.0), sqrt(b, x))
