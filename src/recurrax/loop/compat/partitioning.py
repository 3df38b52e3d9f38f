"""How XLA's partitioner is told of an operation, and tells of how arrays are divided."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax._src.sharding_impls import GSPMDSharding as _GSPMDSharding
from jax._src.sharding_impls import ShardingContext as _ShardingContext
from jax.experimental import custom_partitioning as _partitioning
from jax.interpreters import mlir as _mlir
from jax.sharding import Mesh
from jaxlib import xla_client as _xla_client

from recurrax.loop.compat.lowering import lower_fun

# For each axis of an array into how many parts it is cut, and a last axis for the devices that have
# the same part: the numbers of the devices in a program; None where each device has all of it.
Tiles = np.ndarray | None


def lower_partitioned(
    context: Any,
    args: Sequence[Any],
    function: Callable[..., list[Any]],
    *,
    devices: Sequence[Any],
    axis: str,
    factors: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    whole: Sequence[str],
    partition: Callable[..., tuple[Callable[..., list[Any]], list[Tiles], list[Tiles]]],
) -> Any:
    """Lower `function(*args)` as an operation that XLA's partitioner asks for its parts.

    `factors` names each axis of arguments and results: those of one name are divided alike, those
    in `whole` not at all. Once XLA knows how it would divide them, `partition(arguments, results)`,
    pairs of a shape and its `Tiles`, returns the function of one device, whose collectives name
    `axis`, and how arguments and results are divided. Results are None where it asks for theirs.

    Relies on `custom_partitioning` with `decode_shardings=False`, which needs no mesh (a program
    may have several), on its asking the axis context for devices (of which only the number
    matters), and on `owner` of an MLIR value.
    """
    mesh = Mesh(np.array(devices), (axis,))

    def shardings(tiles: list[Tiles]) -> list[Any]:
        return [_GSPMDSharding(tuple(devices), _hlo_sharding(t)) for t in tiles]

    def read(arrays: Sequence[Any]) -> list[tuple[tuple[int, ...], Tiles]]:
        return [(a.shape, _tiles(getattr(a.sharding, "_hlo_sharding", None))) for a in arrays]

    def infer(_: Any, arguments: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        del results
        return shardings(partition(read(arguments), None)[2])

    def parts(_: Any, arguments: Sequence[Any], results: Sequence[Any]) -> Any:
        run, ins, outs = partition(read(arguments), read(results))
        return mesh, run, shardings(outs), tuple(shardings(ins))

    mappings = [tuple(_partitioning.ArrayMapping(*names) for names in arrays) for arrays in factors]
    operation = _partitioning.custom_partitioning(lambda *args: function(*args))
    operation.def_partition(
        parts,
        infer_sharding_from_operands=infer,
        sharding_rule=_partitioning.SdyShardingRule(
            *mappings, need_replication_factors=tuple(whole)
        ),
        decode_shardings=False,
    )
    axes = _ShardingContext(len(devices), tuple(devices))
    module = context.module_context.replace(axis_context=axes)
    results = lower_fun(operation)(context.replace(module_context=module), *args)
    # JAX's cache on disk knows the operation by an address, which may come to be another's; and
    # what is found there lacks the kernels, which are made when its parts are asked for.
    name = {"recurrax_operation": uuid.uuid4().hex}
    results[0].owner.attributes["mhlo.frontend_attributes"] = _mlir.ir_attribute(name)
    return results


def _tiles(sharding: Any) -> Tiles:
    """How `HloSharding` says that an array is divided, where devices hold equal parts of it."""
    kinds = _xla_client.OpSharding.Type
    if sharding is None or not sharding.is_tiled():
        return None
    if any(kind != kinds.REPLICATED for kind in sharding.subgroup_types()):
        return None
    sizes = sharding.tile_assignment_dimensions()
    devices = np.array(sharding.tile_assignment_devices()).reshape(sizes)
    shared = sharding.subgroup_types() or sharding.replicate_on_last_tile_dim()
    return devices if shared else devices[..., None]


def _hlo_sharding(tiles: Tiles) -> Any:
    if tiles is None:
        return _xla_client.HloSharding.replicate()
    kinds = _xla_client.OpSharding.Type
    return _xla_client.HloSharding.subgroup_with_device_ordering(tiles, [kinds.REPLICATED])
