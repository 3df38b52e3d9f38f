"""Whether a partner is worth its while, found out as the loop runs.

How long two threads take to meet is not known beforehand: where the system has put both on one
core, as hosts of virtual machines do at times, it is more than they save. So the first steps are
made alone, and the shortest step of either kind is kept in mind. As soon as a few steps have been
shared and none was shorter than the shortest made alone, the trial is over and the partner let go.
So it is if it is late a few times, one after the other.
"""

from recurrax.loop.native.emit import Builder, Register, declared, i1, i64, integer
from recurrax.loop.native.target import Target

_ALONE, _SHARED, _LATE = 3, 4, 4  # steps to be seen
_LONG = (1 << 63) - 1


class Trial:
    """Emits the trial of a tile whose steps have so many products to share."""

    def __init__(self, b: Builder, target: Target, products: int):
        self._b = b
        self._target = target
        self._products = products
        self._alone, self._shared, self._before, self._answered, self._seen, self._late = (
            b.alloca(i64) for _ in range(6)
        )
        self._is_lost = b.alloca(i1)

    def begin(self) -> None:
        """Emitted before the first step."""
        for place, start in (
            (self._alone, _LONG),
            (self._shared, _LONG),
            (self._answered, 0),
            (self._seen, 0),
            (self._late, 0),
        ):
            self._b.store(integer(start), place)
        self._b.store(i1(False), self._is_lost)
        self._b.store(self._now(), self._before)

    def admits(self, step: Register) -> Register:
        """Whether products may be shared yet, and still."""
        b = self._b
        has_begun = b.icmp_signed(">=", step, integer(_ALONE))
        return b.and_(has_begun, b.not_(b.load(self._is_lost, typ=i1)))

    def note(self, answered: Register) -> None:
        """Emitted after a product that could be shared, with whether it was."""
        b = self._b
        b.store(b.add(self._load(self._answered), b.zext(answered, i64)), self._answered)

    def note_late(self) -> None:
        """Emitted where a partner that was to share a product has not come in time."""
        self._b.store(self._b.add(self._load(self._late), integer(1)), self._late)

    def judge(self) -> Register:
        """Emitted after a step: tells whether the partner is to be let go."""
        b, now = self._b, self._now()
        took = b.sub(now, self._load(self._before))
        b.store(now, self._before)
        answered = self._load(self._answered)
        b.store(integer(0), self._answered)
        with b.if_then(b.icmp_signed("==", answered, integer(0))):
            self._keep_shorter(self._alone, took)
        is_shared = b.icmp_signed("==", answered, integer(self._products))
        with b.if_then(is_shared):
            self._keep_shorter(self._shared, took)
            b.store(b.add(self._load(self._seen), integer(1)), self._seen)
            b.store(integer(0), self._late)
        is_longer = b.icmp_signed(">=", self._load(self._shared), self._load(self._alone))
        has_been_seen = b.icmp_signed(">=", self._load(self._seen), integer(_SHARED))
        is_late = b.icmp_signed(">=", self._load(self._late), integer(_LATE))
        is_lost = b.or_(is_late, b.and_(is_shared, b.and_(is_longer, has_been_seen)))
        with b.if_then(is_lost, likely=False):
            b.store(i1(True), self._is_lost)
            b.store(integer(0), self._late)
        return is_lost

    def _keep_shorter(self, place: Register, took: Register) -> None:
        b, least = self._b, self._load(place)
        b.store(b.select(b.icmp_signed("<", took, least), took, least), place)

    def _load(self, place: Register) -> Register:
        return self._b.load(place, typ=i64)

    def _now(self) -> Register:
        """A clock: cycles on x86; on AArch64 programs may read the steady one alone."""
        name = "cycle" if self._target.is_x86 else "steady"
        clock = declared(self._b.module, f"llvm.read{name}counter", i64, [])
        return self._b.call(clock, [])
