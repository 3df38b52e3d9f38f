"""float16 and float32, by their bits: not every processor converts between them itself.

Nothing here is a subnormal float32, which XLA's threads take for zero.
"""

from recurrax.loop.native.emit import Builder, Register, constant, f32, i16, i32, like

_BIAS = 127 - 15
_SUBNORMAL = 2.0**-24  # the distance between subnormal float16 numbers


def widened(b: Builder, raw: Register) -> Register:
    """The bits of float16 numbers as float32."""
    word, real = like(raw.type, i32), like(raw.type, f32)
    bits = b.zext(raw, word)
    sign = b.shl(b.and_(bits, constant(word, 0x8000)), constant(word, 16))
    size = b.and_(bits, constant(word, 0x7FFF))
    normal = b.add(b.shl(size, constant(word, 13)), constant(word, _BIAS << 23))
    endless = b.add(normal, constant(word, _BIAS << 23))
    small = b.bitcast(b.fmul(b.sitofp(size, real), constant(real, _SUBNORMAL)), word)
    result = b.select(b.icmp_signed("<", size, constant(word, 0x0400)), small, normal)
    result = b.select(b.icmp_signed(">=", size, constant(word, 0x7C00)), endless, result)
    return b.bitcast(b.or_(result, sign), real)


def rounded(b: Builder, value: Register) -> Register:
    """float32 numbers as the bits of the nearest float16, ties to even, NaN kept NaN."""
    word, real = like(value.type, i32), value.type
    bits = b.bitcast(value, word)
    sign = b.and_(b.lshr(bits, constant(word, 16)), constant(word, 0x8000))
    size = b.and_(bits, constant(word, 0x7FFFFFFF))
    odd = b.and_(b.lshr(size, constant(word, 13)), constant(word, 1))
    near = b.lshr(b.add(size, b.add(odd, constant(word, 0xFFF))), constant(word, 13))
    result = b.sub(near, constant(word, _BIAS << 10))
    # beside 1/2 the last place of float32 is that of subnormal float16 numbers
    half = constant(real, 0.5)
    shifted = b.bitcast(b.fadd(b.bitcast(size, real), half), word)
    small = b.sub(shifted, b.bitcast(half, word))
    result = b.select(b.icmp_signed("<", size, constant(word, 0x38800000)), small, result)
    large = b.icmp_signed(">=", size, constant(word, 0x477FF000))
    result = b.select(large, constant(word, 0x7C00), result)
    nan = b.icmp_signed(">", size, constant(word, 0x7F800000))
    result = b.select(nan, constant(word, 0x7E00), result)
    return b.trunc(b.or_(result, sign), like(value.type, i16))
