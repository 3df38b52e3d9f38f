"""Which axes of a body's values are rows.

An axis is a **row axis** when every equation works pointwise along it: nothing is summed, cut or
multiplied over it. Rows never meet, so one thread can own some of them for the whole loop. The axes
of all values fall into classes (an elementwise equation joins the axes of its operands, a carry
that goes in is joined with the one that comes out); a class that anything mixes is spoilt. What is
left over of a value's shape, in its order, are its features.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from recurrax.loop.body import Body
from recurrax.loop.native import places
from recurrax.loop.native.inline import Atom, Equation, Name, Number, Program
from recurrax.loop.native.places import Places
from recurrax.loop.operations import picks_rows

Node = tuple[Name, int]


@dataclasses.dataclass(frozen=True)
class Rows:
    """`count` rows; `axes[name]` says of a value which of its axes are rows, in their order.

    `meet` tells that there is a leading axis, but something mixes what lies along it.
    """

    count: int
    axes: dict[Name, tuple[int, ...]]
    meet: bool = False

    def of(self, atom: Atom) -> tuple[int, ...]:
        return () if isinstance(atom, Number) else self.axes.get(atom, ())

    def features(self, atom: Atom) -> tuple[int, ...]:
        """The axes of `atom` that are features."""
        rows = self.of(atom)
        return tuple(k for k in range(len(atom.shape)) if k not in rows)

    def order(self, atom: Atom) -> tuple[int, ...]:
        """The axes of `atom` as they lie in memory, rows first; empty where they stand so."""
        order = (*self.of(atom), *self.features(atom))
        return () if order == tuple(range(len(order))) else order

    def feature_shape(self, atom: Atom) -> tuple[int, ...]:
        return tuple(atom.shape[k] for k in self.features(atom))


class Classes:
    """Sets of axes that are one (union-find), some of them spoilt."""

    def __init__(self) -> None:
        self.parent: dict[Node, Node] = {}
        self.spoilt: set[Node] = set()

    def find(self, node: Node) -> Node:
        root = node
        while (above := self.parent.get(root, root)) != root:
            root = above
        while node != root:
            self.parent[node], node = root, self.parent.get(node, node)
        return root

    def join(self, a: Atom, i: int, c: Atom, j: int) -> None:
        if isinstance(a, Name) and isinstance(c, Name) and a.shape[i] == c.shape[j]:
            one, other = self.find((a, i)), self.find((c, j))
            if one != other:
                self.parent[one] = other
                if one in self.spoilt:
                    self.spoilt.add(other)

    def spoil(self, a: Atom, axes) -> None:
        if isinstance(a, Name):
            self.spoilt.update(self.find((a, k)) for k in axes)

    def is_spoilt(self, a: Name, axis: int) -> bool:
        return self.find((a, axis)) in self.spoilt


def joined(body: Body, program: Program) -> tuple[Classes, set[Name]]:
    """The classes of all axes of a body, and its values that are the same at every step."""
    classes = Classes()
    fixed = set(program.inputs[: body.num_consts])
    for equation in program.equations:
        if all(isinstance(x, Number) or x in fixed for x in equation.inputs):
            fixed.update(equation.outputs)
        _join(classes, equation, fixed)
    carry_in = program.inputs[body.num_consts : body.num_consts + body.num_carry]
    for before, after in zip(carry_in, program.outputs, strict=False):
        for axis in range(len(before.shape)):
            classes.join(before, axis, after, axis)
    return classes, fixed


def find_rows(body: Body, program: Program) -> Rows:
    """The rows of a body: axes that its carries and xs share and never mix, leading ones first."""
    classes, fixed = joined(body, program)
    outer = [*program.inputs, *(x for x in program.outputs if isinstance(x, Name))]
    moving = [x for x in outer if x not in fixed]
    lead = max(moving, key=lambda x: len(x.shape), default=None)
    if lead is None or len(lead.shape) < 2:
        return Rows(1, {})
    chosen = _leading(classes, lead, outer) or _anywhere(classes, lead, outer)
    sizes = {classes.find((lead, axis)): size for axis, size in enumerate(lead.shape)}
    names = {*program.inputs, *itertools.chain(*(e.outputs for e in program.equations))}
    picked = {}
    for name in names:
        own = [classes.find((name, k)) for k in range(len(name.shape))]
        picked[name] = tuple(k for node in chosen for k, held in enumerate(own) if held == node)
    meet = not chosen and lead.shape[0] > 1
    count = math.prod(sizes[node] for node in chosen)
    return Rows(count, {name: axes for name, axes in picked.items() if axes}, meet)


def _leading(classes: Classes, lead: Name, outer: Sequence[Name]) -> list[Node]:
    """The leading axes of `lead` that are rows, and lead all others."""
    chosen: list[Node] = []
    for axis in range(len(lead.shape) - 1):
        node = classes.find((lead, axis))
        if node in classes.spoilt or lead.shape[axis] == 1:
            break
        if not all(_leads(classes, x, [*chosen, node]) for x in outer):
            break
        chosen.append(node)
    return chosen


def _anywhere(classes: Classes, lead: Name, outer: Sequence[Name]) -> list[Node]:
    """Axes of `lead` that are rows, wherever they stand; one axis is left to be features."""
    chosen: list[Node] = []
    for axis, size in enumerate(lead.shape):
        more = [*chosen, classes.find((lead, axis))]
        if more[-1] in classes.spoilt or size == 1 or len(more) == len(lead.shape):
            continue
        if all(_has_once(classes, x, more) for x in outer):
            chosen = more
    return chosen


def _held(classes: Classes, name: Name, chosen: Sequence[Node]) -> list[Node]:
    """The classes of the axes of `name` that are among the chosen ones."""
    own = (classes.find((name, k)) for k in range(len(name.shape)))
    return [node for node in own if node in chosen]


def _leads(classes: Classes, name: Name, chosen: Sequence[Node]) -> bool:
    """Whether `name` has all of these classes as its leading axes, in order, or none of them."""
    held = _held(classes, name, chosen)
    leading = [classes.find((name, k)) for k in range(min(len(chosen), len(name.shape)))]
    return not held or held == leading == [*chosen]


def _has_once(classes: Classes, name: Name, chosen: Sequence[Node]) -> bool:
    """Whether `name` has each of these classes once, or none of them."""
    held = _held(classes, name, chosen)
    return not held or (len(held) == len(chosen) and set(held) == set(chosen))


def _join(classes: Classes, eqn: Equation, fixed: set[Name]) -> None:
    params, inputs, outputs = eqn.params, eqn.inputs, eqn.outputs
    out = outputs[0]
    match eqn.primitive:
        case "broadcast_in_dim":
            for axis, place in enumerate(params["broadcast_dimensions"]):
                classes.join(inputs[0], axis, out, place)
        case "reshape":
            _join_reshaped(classes, inputs[0], out)
        case "squeeze":
            kept = [k for k in range(len(inputs[0].shape)) if k not in params["dimensions"]]
            for place, axis in enumerate(kept):
                classes.join(inputs[0], axis, out, place)
            classes.spoil(inputs[0], params["dimensions"])
        case "transpose":
            for place, axis in enumerate(params["permutation"]):
                classes.join(inputs[0], axis, out, place)
        case "dot_general":
            _join_product(classes, eqn, fixed)
        case "gather" if inputs[0] in fixed and picks_rows(params, *(x.shape for x in inputs)):
            table, index = inputs
            classes.spoil(table, range(len(table.shape)))
            classes.spoil(out, [len(out.shape) - 1])
            for axis in range(len(index.shape) - 1):
                classes.join(index, axis, out, axis)
        case "gather":
            _join_windows(classes, places.of_gather(eqn), inputs, out)
        case name if name.startswith("scatter"):
            at = places.of_scatter(eqn)
            for whole in (inputs[0], out):
                _join_windows(classes, at, (whole, inputs[1]), inputs[2])
            # updates of several windows meet
            classes.spoil(inputs[2], [k for k in at.indexed if k not in at.paired])
        case "constant":
            classes.spoil(out, range(len(out.shape)))
        case "iota":  # a row does not know its number
            classes.spoil(out, [params["dimension"]])
        case "tile" | "slice" | "pad" | "rev" | "concatenate" | "split":
            for whole in outputs:
                for part in inputs:
                    for axis in range(len(part.shape)):
                        if _kept_whole(eqn, axis, part, whole):
                            classes.join(part, axis, whole, axis)
                        else:
                            classes.spoil(part, [axis])
                            classes.spoil(whole, [axis])
        case name if name.startswith("reduce_") and "axes" in params:
            kept = [k for k in range(len(inputs[0].shape)) if k not in params["axes"]]
            classes.spoil(inputs[0], params["axes"])
            for place, axis in enumerate(kept):
                classes.join(inputs[0], axis, out, place)
        case _ if all(_spreads_to(x.shape, out.shape) for x in inputs):
            for x in inputs:
                for axis in range(len(x.shape)):
                    classes.join(x, axis, out, axis)
        case _:
            for x in (*inputs, *outputs):
                classes.spoil(x, range(len(x.shape)))


def _spreads_to(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an elementwise operand of this shape is, or repeats to, `whole`."""
    return not shape or (
        len(shape) == len(whole) and all(n in (1, m) for n, m in zip(shape, whole, strict=True))
    )


def _kept_whole(eqn: Equation, axis: int, part: Atom, whole: Name) -> bool:
    params = eqn.params
    match eqn.primitive:
        case "rev":
            return axis not in params["dimensions"]
        case "pad":
            return tuple(params["padding_config"][axis]) == (0, 0, 0)
        case _:  # of slice, split and concatenate: the only piece is the whole
            return part.shape[axis] == whole.shape[axis]


def _join_reshaped(classes: Classes, before: Atom, after: Name) -> None:
    """Axes that go through a reshape one to one are joined, those that merge or split spoilt."""
    i = j = 0
    while i < len(before.shape) or j < len(after.shape):
        ends_i, ends_j = i + 1, j + 1
        left = before.shape[i] if i < len(before.shape) else 1
        right = after.shape[j] if j < len(after.shape) else 1
        if left == 1 and right != 1 and i < len(before.shape):
            i += 1
            continue
        if right == 1 and left != 1 and j < len(after.shape):
            j += 1
            continue
        while left != right:
            if left < right:
                left *= before.shape[ends_i]
                ends_i += 1
            else:
                right *= after.shape[ends_j]
                ends_j += 1
        if ends_i == i + 1 <= len(before.shape) and ends_j == j + 1 <= len(after.shape):
            classes.join(before, i, after, j)
        else:
            classes.spoil(before, range(i, min(ends_i, len(before.shape))))
            classes.spoil(after, range(j, min(ends_j, len(after.shape))))
        i, j = ends_i, ends_j


def _join_windows(classes: Classes, at: Places, inputs: Sequence[Atom], part: Atom) -> None:
    """Join the axes of a whole, the indices of windows in it and the windows' part."""
    whole, index = inputs
    alike = at.whole_axes(whole.shape)
    for axis, into in alike.items():
        classes.join(whole, into, part, axis)
    classes.spoil(whole, [k for k in range(len(whole.shape)) if k not in alike.values()])
    classes.spoil(part, [k for k in at.windowed if k not in alike])
    for axis, into in at.indexed.items():
        classes.join(index, into, part, axis)
    classes.spoil(index, [len(index.shape) - 1])


def _join_product(classes: Classes, eqn: Equation, fixed: set[Name]) -> None:
    left, right = eqn.inputs
    out = eqn.outputs[0]
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    classes.spoil(left, left_sum)
    classes.spoil(right, right_sum)
    for place, (i, j) in enumerate(zip(left_batch, right_batch, strict=True)):
        classes.join(left, i, right, j)
        classes.join(left, i, out, place)
        if left in fixed or right in fixed:  # a weight for each of them: no common panel
            classes.spoil(out, [place])
    place = len(left_batch)
    for operand, used in ((left, {*left_sum, *left_batch}), (right, {*right_sum, *right_batch})):
        for axis in range(len(operand.shape)):
            if axis not in used:
                classes.join(operand, axis, out, place)
                if operand in fixed:
                    classes.spoil(out, [place])
                place += 1
