"""Powers, circular and error functions, computed in float64 whatever their argument is.

A float32 result is then as good as its rounding, for the price of twice the width. In float64
itself `sin` and `cos` are good to two units in the last place up to 10⁶, `erf` and `erfc` to about
3e-15, and `pow` loses digits as |y log x| grows. Angles beyond 10¹⁵ are taken for 0.
"""

import functools
import math
from collections.abc import Callable

from recurrax.loop.native.emit import Builder, Register, constant, element, f64, intrinsic, like
from recurrax.loop.native.functions import (
    absolute,
    copysign,
    exp,
    expm1,
    fma,
    log,
    nearest,
    number,
    polynomial,
)

# pi / 2 in three parts, the first two of 33 bits
_QUARTER = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_LARGEST_ANGLE = 1e15
_SIN = [
    *(1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06),
    *(-1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01),
]
_COS = [
    *(-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07),
    *(2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02),
]
_ERF = [
    (-1) ** n * 2.0 / math.sqrt(math.pi) / (math.factorial(n) * (2 * n + 1))
    for n in range(12, -1, -1)
]
# log(exp(z²) erfc(z) / t) with t = 2 / (2 + z), by Chebyshev polynomials of 2t - 1, z >= 0
_ERFC = [
    *(-0.6513268598908547, 0.6419697923564902, 0.019476473204185756, -0.009561514786808528),
    *(-0.0009465953444820287, 0.00036683949785273906, 4.252332480708388e-05),
    *(-2.027857811259817e-05, -1.6242900041714467e-06, 1.303655835168244e-06),
    *(1.5626442410425238e-08, -8.523809643466487e-08, 6.529055022630698e-09),
    *(5.0593429854563584e-09, -9.913636700637783e-10, -2.2736569335075878e-10),
    *(9.646880185760507e-11, 2.3933469422714144e-12, -6.885428434737109e-12),
    *(8.939401351750337e-13, 3.1335314757997646e-13, -1.1311492654802512e-13),
    *(8.33208848983016e-16, 6.416604603120215e-15),
]


def _wide(function: Callable[..., Register]) -> Callable[..., Register]:
    """`function` of float64, as a function of float32 too."""

    @functools.wraps(function)
    def widened(b: Builder, *args: Register) -> Register:
        if element(args[0].type) == f64:
            return function(b, *args)
        type_ = like(args[0].type, f64)
        return b.fptrunc(function(b, *(b.fpext(x, type_) for x in args)), args[0].type)

    return widened


def _quadrants(b: Builder, x: Register) -> tuple[Register, Register, Register]:
    """The quadrant of an angle, and the sine and cosine of what is left of it."""
    known = b.fcmp_ordered("<", absolute(b, x), number(x, _LARGEST_ANGLE))
    x = b.select(known, x, b.fmul(x, number(x, 0.0)))
    whole, n = nearest(b, b.fmul(x, number(x, 2.0 / math.pi)))
    r = x
    for part in _QUARTER:
        r = fma(b, whole, number(x, -part), r)
    z = b.fmul(r, r)
    sine = fma(b, b.fmul(r, z), polynomial(b, z, _SIN), r)
    half = fma(b, z, number(x, -0.5), number(x, 1.0))
    cosine = fma(b, b.fmul(z, z), polynomial(b, z, _COS), half)
    return n, sine, cosine


def _turned(b: Builder, n: Register, even: Register, odd: Register) -> Register:
    """`even` or `odd` by the quadrant `n`, negated in the second half of the turn."""
    word = n.type
    is_odd = b.icmp_signed("!=", b.and_(n, constant(word, 1)), constant(word, 0))
    is_behind = b.icmp_signed("!=", b.and_(n, constant(word, 2)), constant(word, 0))
    size = b.select(is_odd, odd, even)
    return b.select(is_behind, b.fneg(size), size)


@_wide
def sin(b: Builder, x: Register) -> Register:
    n, sine, cosine = _quadrants(b, x)
    return b.select(b.fcmp_ordered("==", x, number(x, 0.0)), x, _turned(b, n, sine, cosine))


@_wide
def cos(b: Builder, x: Register) -> Register:
    n, sine, cosine = _quadrants(b, x)
    return _turned(b, b.add(n, constant(n.type, 1)), sine, cosine)


@_wide
def tan(b: Builder, x: Register) -> Register:
    return b.fdiv(sin(b, x), cos(b, x))


@_wide
def exp2(b: Builder, x: Register) -> Register:
    return exp(b, b.fmul(x, number(x, math.log(2.0))))


@_wide
def sinh(b: Builder, x: Register) -> Register:
    m = expm1(b, absolute(b, x))
    one = number(x, 1.0)
    # at the upper end m / (m + 1) is inf / inf
    small = b.select(b.fcmp_ordered("<", m, number(x, 1e20)), b.fdiv(m, b.fadd(m, one)), one)
    return copysign(b, b.fmul(b.fadd(m, small), number(x, 0.5)), x)


@_wide
def cosh(b: Builder, x: Register) -> Register:
    e = exp(b, absolute(b, x))
    return b.fmul(b.fadd(e, b.fdiv(number(x, 1.0), e)), number(x, 0.5))


@_wide
def cbrt(b: Builder, x: Register) -> Register:
    size = absolute(b, x)
    guess = exp(b, b.fmul(log(b, size), number(x, 1.0 / 3.0)))
    square = b.fmul(guess, guess)
    better = b.fsub(
        guess, b.fdiv(fma(b, square, guess, b.fneg(size)), b.fmul(square, number(x, 3.0)))
    )
    ordinary = b.and_(
        b.fcmp_ordered(">", size, number(x, 0.0)), b.fcmp_ordered("<", size, number(x, math.inf))
    )
    return b.select(ordinary, copysign(b, better, x), x)


@_wide
def pow(b: Builder, x: Register, y: Register) -> Register:
    """xʸ; of a negative x only for whole y, unless it is infinite."""
    zero, one = number(x, 0.0), number(x, 1.0)
    size = exp(b, b.fmul(y, log(b, absolute(b, x))))
    half = b.fmul(y, number(x, 0.5))
    is_whole = b.fcmp_ordered("==", intrinsic(b, "floor", y), y)
    is_odd = b.and_(is_whole, b.fcmp_ordered("!=", intrinsic(b, "floor", half), half))
    signed = b.select(is_odd, copysign(b, size, x), size)
    negative = b.and_(b.fcmp_ordered("<", x, zero), b.fcmp_ordered(">", x, number(x, -math.inf)))
    bad = b.and_(negative, b.not_(is_whole))
    result = b.select(bad, number(x, math.nan), signed)
    plain = b.or_(b.fcmp_ordered("==", y, zero), b.fcmp_ordered("==", x, one))
    return b.select(plain, one, result)


def _erfc_positive(b: Builder, z: Register) -> Register:
    t = b.fdiv(number(z, 2.0), b.fadd(number(z, 2.0), z))
    twice = b.fsub(b.fmul(t, number(z, 4.0)), number(z, 2.0))
    ahead = behind = number(z, 0.0)
    for c in reversed(_ERFC[1:]):  # Clenshaw's recurrence
        ahead, behind = b.fadd(fma(b, twice, ahead, b.fneg(behind)), number(z, c)), ahead
    x = b.fmul(twice, number(z, 0.5))
    exponent = b.fadd(fma(b, x, ahead, b.fneg(behind)), number(z, _ERFC[0]))
    return b.fmul(t, exp(b, b.fsub(exponent, b.fmul(z, z))))


def _erf_small(b: Builder, x: Register) -> Register:
    return b.fmul(x, polynomial(b, b.fmul(x, x), _ERF))


@_wide
def erfc(b: Builder, x: Register) -> Register:
    size = absolute(b, x)
    far = _erfc_positive(b, size)
    negative = b.fcmp_ordered("<", x, number(x, 0.0))
    far = b.select(negative, b.fsub(number(x, 2.0), far), far)
    near = b.fsub(number(x, 1.0), _erf_small(b, x))
    return b.select(b.fcmp_ordered("<", size, number(x, 0.5)), near, far)


@_wide
def erf(b: Builder, x: Register) -> Register:
    size = absolute(b, x)
    far = copysign(b, b.fsub(number(x, 1.0), _erfc_positive(b, size)), x)
    return b.select(b.fcmp_ordered("<", size, number(x, 0.5)), _erf_small(b, x), far)


def floor(b: Builder, x: Register) -> Register:
    return intrinsic(b, "floor", x)


def ceil(b: Builder, x: Register) -> Register:
    return intrinsic(b, "ceil", x)


def rounded(b: Builder, x: Register, to_even: bool) -> Register:
    """To the nearest whole number, halves to even or away from zero."""
    return intrinsic(b, "rint" if to_even else "round", x)
