"""When each value of a step is computed.

A value's **stage** is (level, pass): the level counts the products before it, the pass counts the
reductions since. Between two levels all rows of a tile go through a product together; within a
level each row goes through its passes alone, and in each pass one loop over the features computes
everything that belongs there, in registers. What features are picked from has to be stored before,
and what others are scattered over is stored as that is done: both take a pass of their own.
"""

import dataclasses
from collections.abc import Sequence

from recurrax.loop.native.graph import Value, Weight, stripped
from recurrax.loop.native.lower import Step

Stage = tuple[int, int]

_MAX_ADDENDS = 3


@dataclasses.dataclass(eq=False)
class Product:
    """`result` = operand · weight + addends, for all rows of a tile."""

    operand: Value
    weight: Weight
    addends: tuple[Value, ...]
    result: Value
    level: int = 0


class Stages:
    """The products of a step, in the order they run, and the stage `of` each value.

    `values` are those that results need, operands before what uses them; `users[value]` are the
    values that it is an operand of; `by_result[value]` is the product that it is the result of.
    """

    def __init__(self, step: Step):
        self.users = _users(step.results)
        self.values = [v for v in step.graph.values if v in self.users]
        self.products = self._find_products(set(step.results))
        self.by_result = {p.result: p for p in self.products}
        self.of = self._find_stages()
        self.products.sort(key=lambda p: (p.level, p.result.number))

    def _find_products(self, results: set[Value]) -> list[Product]:
        """Every product, with the sums that it can start from rather than end with."""
        level = dict.fromkeys(self.users, 0)
        for value in self.values:
            below = max((level[a] for a in value.args), default=0)
            level[value] = below + (value.op == "dot")
        products: list[Product] = []
        made: set[Value] = set()
        for dot in [v for v in self.values if v.op == "dot"]:
            result, addends = dot, []
            while len(self.users[result]) == 1 and result not in results:
                (user,) = self.users[result]
                if user.op != "map" or user.param[0] != "add" or len(addends) == _MAX_ADDENDS:
                    break
                addend = user.args[0] if user.args[1] is result else user.args[1]
                source = stripped(addend)[0]
                fits = addend is not result and addend.width == result.width
                early = source.op == "leaf" and level[addend] < level[dot]
                if not fits or not (early or addend in made):
                    break
                addends.append(addend)
                result = user
            made.add(result)
            products.append(Product(dot.args[0], dot.param, tuple(addends), result))
        return products

    def _find_stages(self) -> dict[Value, Stage]:
        stage: dict[Value, Stage] = {}
        for value in self.values:
            product = self.by_result.get(value)
            if product is not None:
                before = stage[product.operand][0] + 1
                product.level = max([before, *(stage[a][0] for a in product.addends)])
                stage[value] = (product.level, 0)
                continue
            latest = max((stage[a] for a in value.args), default=(0, 0))
            if value.op in ("reduce", "scatter"):
                latest = _next_pass(latest)
            elif value.op == "pick" and not self._lies_ready(value.args[0]):
                latest = max(latest, _next_pass(stage[value.args[0]]))
            stage[value] = latest
        return stage

    def _lies_ready(self, value: Value) -> bool:
        """Whether `value` is in memory without being stored."""
        source = stripped(value)[0]
        return source.op in ("leaf", "numbers", "scatter") or source in self.by_result


def _users(results: Sequence[Value]) -> dict[Value, list[Value]]:
    users: dict[Value, list[Value]] = {}
    pending, seen = list(results), set()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        users.setdefault(value, [])
        for arg in value.args:
            users.setdefault(arg, []).append(value)
            pending.append(arg)
    return users


def _next_pass(stage: Stage) -> Stage:
    return (stage[0], stage[1] + 1)
