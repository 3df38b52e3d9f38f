"""Compiled kernels called as XLA calls them, without XLA: nothing but the loop is compiled."""

import ctypes
import mmap

import llvmlite.binding as llvm
import numpy as np

from recurrax.loop import batch_major, fed, plan
from recurrax.loop.body import Body, Products
from recurrax.loop.native import kernel
from recurrax.loop.native.target import Target, host
from recurrax.loop.runners import native
from recurrax.loop.runners.accompanied import accompanied

SSE = Target(llvm.get_process_triple(), "x86-64", "", 16, 16)


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
    ]


class _Buffers(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("buffers", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    ]


class _Frame(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("api", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("args", _Buffers),
        ("rets", _Buffers),
    ]


class _Request(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("task", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("data", ctypes.c_void_p),
    ]


class _Error(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
        ("code", ctypes.c_int),
    ]


_CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error))


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Request))
def _run_at_once(request):
    """A pool of threads that is never late: the helper is done before the caller begins."""
    request.contents.task(request.contents.data)


# Where tests may put another pool.
POOL = {"schedule": _run_at_once}


def _buffers(addresses, shapes, keep):
    made = []
    for address, shape in zip(addresses, shapes, strict=True):
        dims = (ctypes.c_int64 * len(shape))(*shape)
        made.append(_Buffer(48, None, 11, address, len(shape), dims))
        keep += [dims, made[-1]]
    pointers = (ctypes.POINTER(_Buffer) * len(made))(*(ctypes.pointer(m) for m in made))
    keep.append(pointers)
    return _Buffers(40, None, len(made), None, pointers)


def call(engine, inputs, outputs, **sizes):
    """Call a linked handler on `(address, shape)` of each input and output.

    Returns the code of the error it made, or None. `sizes` are what structures claim to hold:
    `frame`, `api`, `args`, `rets`.
    """
    handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(
        engine.get_function_address("handler")
    )
    api = (ctypes.c_void_p * 32)()
    made = []
    create = _CREATE(lambda error: made.append(error.contents.code) or 1)
    api[0] = sizes.get("api", ctypes.sizeof(api))
    api[48 // 8] = ctypes.cast(create, ctypes.c_void_p)
    api[136 // 8] = ctypes.cast(POOL["schedule"], ctypes.c_void_p)
    keep = []
    frame = _Frame(
        struct_size=sizes.get("frame", ctypes.sizeof(_Frame)),
        api=ctypes.addressof(api),
        args=_buffers(*zip(*inputs, strict=True), keep) if inputs else _Buffers(40),
        rets=_buffers(*zip(*outputs, strict=True), keep) if outputs else _Buffers(40),
    )
    frame.args.struct_size = sizes.get("args", 40)
    frame.rets.struct_size = sizes.get("rets", 40)
    failed = handler(ctypes.addressof(frame)) is not None
    assert failed == bool(made)
    return made[0] if failed else None


def compiled(step, *, reverse, length, threads, target, windows=None, company=None):
    """The object code of a lowered step."""
    module = kernel.build_loop(step, target, reverse, length, threads, windows, company)
    return kernel.compile_module(module, target)


def link(code):
    """Object code in memory, ready to run."""
    engine = kernel._linked(code)
    assert engine is not None
    return engine


def call_here(code, inputs, outputs):
    """Call the handler in object code; `outputs` are filled, or are inputs themselves."""
    call_linked(link(code), inputs, outputs)


def call_linked(engine, inputs, outputs):
    """The same of object code that is ready to run, and stays so."""
    pairs = ([(a.ctypes.data, a.shape) for a in arrays] for arrays in (inputs, outputs))
    assert call(engine, *pairs) is None


def helper(request):
    """What a pool is asked to run: a function and its argument, for when the caller has gone on."""
    task = request.contents.task  # lies on the caller's stack
    address = ctypes.cast(task, ctypes.c_void_p).value
    return type(task)(address), request.contents.data


def call_fenced(code, inputs, outputs, *, at_end=True):
    """The same, where nothing beside the arrays may be touched."""
    fenced = [[Fenced(a, at_end) for a in arrays] for arrays in (inputs, outputs)]
    pairs = zip(fenced, (inputs, outputs), strict=True)
    given = ([(f.address, a.shape) for f, a in zip(*p, strict=True)] for p in pairs)
    assert call(link(code), *given) is None
    for array, memory in zip(outputs, fenced[1], strict=True):
        array[...] = memory.read()


def run(body, args, *, reverse, length, threads, target, call=call_here):
    """The outputs of a lowered loop, results in the place of arguments where the kernel may."""
    step = native._lowered(body)
    code = compiled(step, reverse=reverse, length=length, threads=threads, target=target)
    moving = step.num_consts + step.num_carry
    inputs = [
        np.array(_lying(a, p, k >= moving), order="C")
        for k, (a, p) in enumerate(zip(args, step.inputs, strict=True))
    ]
    overwritten = {k: i for i, k in native.overwritten(body, step, target).items()}
    outputs = []
    for k, aval in enumerate(body.jaxpr.out_avals):
        timed = k >= step.num_carry
        shape = (length, *aval.shape) if timed else aval.shape
        wanted = _lying(np.empty(shape, aval.dtype), step.outputs[k], timed)
        taken = inputs[overwritten[k]] if k in overwritten else np.empty(wanted.shape, wanted.dtype)
        assert taken.shape == wanted.shape and taken.dtype == wanted.dtype
        outputs.append(taken)
    call(code, inputs, outputs)
    return [
        _lying(a, p, k >= step.num_carry, back=True)
        for k, (a, p) in enumerate(zip(outputs, step.outputs, strict=True))
    ]


def _lying(array, place, timed, back=False):
    """An array with its axes in the order in which the kernel takes them, or back from it."""
    order = native._layout(place, np.ndim(array), timed)
    return np.transpose(array, np.argsort(order) if back else order)


class Fenced:
    """Memory for one array between two pages that nobody may touch, flush with one of them."""

    def __init__(self, array, at_end):
        page = mmap.PAGESIZE
        self.size = array.nbytes
        room = -(-self.size // page) * page
        self._map = mmap.mmap(-1, room + 2 * page)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.address = self._base + page + (room - self.size if at_end else 0)
        ctypes.memmove(self.address, array.ctypes.data, self.size)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for fence in (self._base, self._base + page + room):
            assert libc.mprotect(fence, page, 0) == 0
        self._array = array

    def in_place(self):
        """The array, where it is fenced."""
        array = self._array
        return np.ndarray(array.shape, array.dtype, self._map, self.address - self._base)

    def read(self):
        result = np.empty_like(self._array)
        ctypes.memmove(result.ctypes.data, self.address, self.size)
        return result


class Loops:
    """Runs the loops of a program natively; counts them, and tells why it did not take others.

    Products go alongside loops if `accompanied`; then `swapped` counts the arrays that kernels take
    or give as (batch, time, ...).

    To be handed to `interpreter.run`; `call` is how object code is called.
    """

    def __init__(self, threads=1, target=None, call=call_here, accompanied=False):
        self.threads = threads
        self.accompanied = accompanied
        self.accompanied_loops = 0
        self.swapped = 0
        self.target = target or host()
        self.call = call
        self.taken = 0
        self.refused = []

    def at_once(self, eqn, args):
        """A loop and the products alongside it, by one kernel; None where there is none for it."""
        if not self.accompanied or eqn.primitive is batch_major.batch_major_p:
            return None
        params = eqn.params
        m, n = params["num_consts"], params["num_consts"] + params["num_carry"]
        body = plan.plain(Body(params["jaxpr"], m, params["num_carry"]))
        end = n + body.num_xs
        leaders = fed.leaders(body, params.get("feds", ()))
        more = {k: params[k] for k in ("trailers", "hidden", "seen") if k in params}
        products = Products(args[end:], leaders, swapped=params["swapped"], **more)
        step, threads, target = native._lowered(body), self.threads, self.target
        how = {"reverse": params["reverse"], "length": params["length"]}
        found = accompanied(step, body, args[n:end], products, target, threads, **how)
        if found is None:
            return None
        how |= {"threads": threads, "target": target}
        code = compiled(step, windows=found.windows, company=found.company, **how)
        outputs = [np.empty(s.shape, s.dtype) for s in found.shapes]
        self.call(code, [np.array(a, order="C") for a in found.arguments(args)], outputs)
        self.accompanied_loops += 1
        self.swapped += len(found.swapping.arguments) + len(found.swapping.results)
        return found.results(outputs)

    def __call__(self, args, *, jaxpr, num_consts, num_carry, length, reverse, **_):
        body = plan.plain(Body(jaxpr, num_consts, num_carry))
        choice = plan.choose(body, length=length, runner=None)
        if choice.runner != "native":
            self.refused.append(choice.refusals["native"])
            return None
        self.taken += 1
        how = {"reverse": reverse, "length": length, "threads": self.threads}
        return run(body, args, target=self.target, call=self.call, **how)
