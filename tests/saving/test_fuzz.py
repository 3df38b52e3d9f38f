"""10,000 damaged files: each loads or raises the loader's own error, in bounded memory."""

import io
import json
import os
import random
import resource

import pytest

import recurrax as rx
from recurrax.saving import LoadError, load_model, safetensors_format
from recurrax.saving.hdf5 import read_file

from .hostile import members, model_bytes, small_model, zipped

SPARE = 400 * 2**20


@pytest.fixture(scope="module", autouse=True)
def bounded(tmp_path_factory):
    """Fail where memory grows beyond the bound, or where anything is written."""
    folder = tmp_path_factory.mktemp("fuzz")
    home = os.getcwd()
    os.chdir(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    os.chdir(home)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < SPARE
    assert os.listdir(folder) == []


def damaged(data: bytes, draw: random.Random) -> bytes:
    """`data` with bits flipped, bytes or numbers put in, parts cut out, doubled or exchanged."""
    result = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        at = draw.randrange(len(result))
        kind = draw.randrange(7)
        if kind == 0:
            result[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            result[at] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        elif kind == 2:
            width = draw.choice([2, 4, 8])
            number = draw.choice([0, 1, 2**15, 2**31 - 1, 2**63 - 1, 2**64 - 1, len(data)])
            result[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
        elif kind == 3:
            del result[at : at + draw.choice([1, 2, 8, 100])]
        elif kind == 4:
            result[at:at] = result[at : at + draw.choice([1, 8, 40])]
        elif kind == 5:
            there = draw.randrange(len(result))
            result[at : at + 8] = result[there : there + 8]
        else:
            del result[at:]
        if not result:
            return b""
    return bytes(result)


def outcomes(load, files):
    """How many files load and how many are refused; anything else fails."""
    loaded = refused = 0
    for file in files:
        try:
            load(file)
            loaded += 1
        except LoadError:
            refused += 1
    return loaded, refused


def test_damaged_archives(good):
    draw = random.Random(1)
    files = (damaged(good, draw) for _ in range(3000))
    loaded, refused = outcomes(lambda data: load_model(io.BytesIO(data)), files)
    # What is damaged is found by a checksum, unless nothing reads it.
    assert refused > 2500
    assert loaded > 10


def test_damaged_hdf5_files(good):
    draw = random.Random(2)
    weights = members(good)["model.weights.h5"]
    loaded, refused = outcomes(read_file, (damaged(weights, draw) for _ in range(3000)))
    assert refused > 1000
    assert loaded > 100


def test_damaged_safetensors_files():
    model = small_model()
    nodes = rx.saving.tree.walk(model)
    data = safetensors_format.write(rx.saving.transfer.collect(model), nodes)
    draw = random.Random(3)
    files = (damaged(data, draw) for _ in range(1000))
    loaded, refused = outcomes(lambda file: safetensors_format.read(file, nodes), files)
    assert refused > 500
    assert loaded > 10


def mutated(value, draw: random.Random, pool: list):
    """`value` with one of its parts, or one of its parts' parts, exchanged."""
    containers = [value]
    for container in containers:
        items = container.values() if isinstance(container, dict) else container
        containers += [item for item in items if isinstance(item, dict | list) and item]
    container = draw.choice(containers)
    key = draw.choice(list(container) if isinstance(container, dict) else range(len(container)))
    new = draw.choice(
        [None, True, -1, 0, 2**40, 1e308, "", "x", "relu", "../x", [], {}, [[]], draw.choice(pool)]
    )
    kind = draw.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[draw.choice(["shared_object_id", "class_name", "module", "zz"])] = new
    else:
        container[key] = new
    return value


def graph():
    """A compiled functional model with a shared layer and a nested model."""
    inner = rx.Sequential([rx.Input((2,)), rx.layers.Dense(2, "relu")])
    a, b = rx.Input((3, 2), name="a"), rx.Input((3, 2), name="b")
    shared = rx.layers.Bidirectional(rx.layers.GRU(1))
    y = rx.layers.Add()([inner(shared(a)), shared(b)])
    model = rx.Model([a, b], [rx.layers.Dense(1)(y), y])
    model.compile("adam", ["mse", None], metrics=[["mae"], []])
    return model


@pytest.mark.parametrize(("make", "count"), [(small_model, 2000), (graph, 1000)])
def test_damaged_configurations(make, count):
    """Files with right checksums whose configuration or weights are other ones."""
    draw = random.Random(4)
    content = members(model_bytes(make()))
    text = content["config.json"]
    parts: list = [json.loads(text)]
    for part in parts:
        parts += (
            [v for v in part.values() if isinstance(v, dict | list)]
            if isinstance(part, dict)
            else [v for v in part if isinstance(v, dict | list)]
        )

    def files():
        for number in range(count):
            if number % 4:
                config = mutated(json.loads(text), draw, parts)
                yield zipped(content | {"config.json": json.dumps(config).encode()})
            else:
                weights = damaged(content["model.weights.h5"], draw)
                yield zipped(content | {"model.weights.h5": weights})

    loaded, refused = outcomes(lambda data: load_model(io.BytesIO(data)), files())
    assert refused > count / 4
    assert loaded > count / 10
