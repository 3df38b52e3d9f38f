"""Files that ask for more memory or time than they are worth."""

import json
import time

import pytest

import recurrax as rx
from recurrax.saving import Limits, LoadError, model_from_json

from .hostile import (
    members,
    model_bytes,
    raw_zip,
    refused,
    small_model,
    with_config,
    with_units,
    zipped,
)

pytestmark = pytest.mark.usefixtures("watched")


def test_bombs_of_the_archive_are_refused(good):
    content = members(good)
    for name in ("config.json", "model.weights.h5"):
        bomb = {"name": name, "data": bytes(2**24), "method": 8}
        rest = [{"name": k, "data": v} for k, v in content.items() if k != name]
        refused(raw_zip([*rest, bomb]), "expansion=200")


def test_weights_larger_than_the_file_are_never_made(good):
    refused(with_units(2**40, good), "leaves room")
    refused(with_units(10**8, good), "leaves room")


def test_states_larger_than_the_file_are_never_made():
    layers = [rx.Input(batch_shape=(2, 3, 2)), rx.layers.SimpleRNN(2, stateful=True)]
    data = model_bytes(rx.Sequential(layers))

    def change(config):
        config["config"]["layers"][1]["build_config"]["input_shape"] = [2**40, 3, 2]

    refused(with_config(change, data), "leaves room")


def test_weights_of_json_alone_have_a_limit():
    text = small_model().to_json()
    record = json.loads(text)
    record["config"]["layers"][-1]["config"]["units"] = 2**40
    with pytest.raises(LoadError, match="leaves room"):
        model_from_json(json.dumps(record))
    with pytest.raises(LoadError, match="leaves room"):
        model_from_json(text, limits=Limits(weights_bytes=8))


def test_a_million_layers_are_refused_in_a_moment(good):
    config = members(good)["config.json"]
    start = config.index(b'"layers": [') + len(b'"layers": [')
    many = b'{"class_name": "Flatten", "config": {}}, ' * 10**6
    data = zipped(members(good) | {"config.json": config[:start] + many + config[start:]})
    began = time.process_time()
    refused(data, "json_bytes=")
    refused(data, "json_values=", limits=Limits(json_bytes=2**30))
    assert time.process_time() - began < 5


def test_more_objects_than_the_limit_are_refused(good):
    def change(config):
        config["config"]["layers"] += [config["config"]["layers"][-1]] * 300

    refused(with_config(change, good), "objects=200", limits=Limits(objects=200))


def test_layers_that_double_themselves_are_refused(good):
    """Each Bidirectional makes a twin of what is in it."""

    def change(config):
        layers = config["config"]["layers"]
        inner = layers[-2]
        for number in range(40):
            inner = {
                "module": "keras.layers",
                "class_name": "Bidirectional",
                "config": {"layer": inner, "name": f"b{number}"},
                "registered_name": None,
            }
        layers[-2] = inner

    began = time.process_time()
    refused(with_config(change, good))
    assert time.process_time() - began < 30
