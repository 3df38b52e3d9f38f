"""Configurations that are no model's: of another kind, in contradiction, going in circles."""

import io
import json

import pytest

import recurrax as rx
from recurrax import registry
from recurrax.saving import LoadError, load_model, model_from_json

from .hostile import members, model_bytes, refused, with_config, with_units, zipped

pytestmark = pytest.mark.usefixtures("watched")


@pytest.mark.parametrize(
    "units", [-1, 0, 1.5, "2", None, [2], {}, True, 2**64, "2" * 100, {"class_name": "x"}]
)
def test_a_wrong_argument_is_an_error_of_the_loader(units, good):
    refused(with_units(units, good))


@pytest.mark.parametrize(
    "text",
    [
        "[]", "null", "1", '"x"', "{}", "[" * 150 + "]" * 150,
        '{"class_name": "Sequential"}',
        '{"class_name": "Sequential", "config": {}}',
        '{"module": "keras", "class_name": "Sequential", "config": []}',
        '{"module": "keras", "class_name": "Sequential", "config": {"layers": {"a": 1}}}',
        '{"module": "keras", "class_name": "Sequential", "config": {"layers": [1]}}',
        '{"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}}',
        '{"module": "keras.initializers", "class_name": "Zeros", "config": {}}',
    ],
)  # fmt: skip
def test_json_that_is_no_model_is_refused(text, good):
    refused(zipped(members(good) | {"config.json": text.encode()}))
    with pytest.raises(LoadError):
        model_from_json(text)


def test_nan_and_duplicate_keys_in_the_configuration_are_refused(good):
    content = members(good)
    text = content["config.json"]
    nan = text.replace(b'"units": 1', b'"units": NaN')
    refused(zipped(content | {"config.json": nan}), "NaN is not a number")
    twice = text.replace(b'"units": 1', b'"units": 1, "units": 2')
    refused(zipped(content | {"config.json": twice}), "stands twice")


def test_two_layers_of_one_name_are_refused(good):
    def change(config):
        layers = config["config"]["layers"]
        layers[-1]["config"]["name"] = layers[-2]["config"]["name"]

    refused(with_config(change, good), "already has a layer named")


def functional():
    a = rx.Input((3,), name="a")
    b = rx.layers.Dense(2, name="b")(a)
    return rx.Model(a, rx.layers.Dense(2, name="c")(rx.layers.Add(name="sum")([b, b])))


def _history(config, layer, to):
    found = {entry["name"]: entry for entry in config["config"]["layers"]}[layer]
    text = json.dumps(found["inbound_nodes"])
    found["inbound_nodes"] = json.loads(text.replace('"b", 0, 0', to).replace('"a", 0, 0', to))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: _history(c, "b", '"c", 0, 0'), "not connected"),
        (lambda c: _history(c, "b", '"b", 0, 0'), "not connected"),
        (lambda c: _history(c, "sum", '"nowhere", 0, 0'), "not connected"),
        (lambda c: _history(c, "sum", '"b", 7, 0'), "not connected"),
        (lambda c: _history(c, "sum", '"b", 0, 7'), ""),
        (lambda c: c["config"].update(output_layers=["c", 9, 0]), "output 0 of call 9"),
        (lambda c: c["config"].update(output_layers=["b", -1, 0]), "does not hold"),
        (lambda c: c["config"]["layers"].append(c["config"]["layers"][1]), "Two layers"),
        (lambda c: c["config"]["layers"].__delitem__(0), "not connected"),
    ],
)
def test_graphs_that_go_in_circles_or_nowhere_are_refused(change, complaint):
    refused(with_config(change, model_bytes(functional())), complaint or None)


def test_an_object_that_claims_to_be_another_is_refused(good):
    def change(config):
        config = config["config"]["layers"][-1]["config"]
        config["kernel_initializer"]["shared_object_id"] = 1
        config["bias_initializer"]["shared_object_id"] = 1

    refused(with_config(change, good), "the same as")


def test_an_object_inside_itself_ends(good):
    def change(config):
        config["shared_object_id"] = 1
        config["config"]["layers"][-1] = dict(config["config"]["layers"][-1])
        config["config"]["layers"].append(
            {**config, "config": {"layers": [], "name": "inner"}, "shared_object_id": 1}
        )

    model = load_model(io.BytesIO(with_config(change, good)))
    assert all(layer is not model for layer in model.layers)


@pytest.mark.parametrize("dtype", ["O", "(100000,100000)f4", "S100000000", "V9", 3, None, [1]])
def test_an_array_of_another_dtype_in_the_configuration_is_refused(dtype):
    with pytest.raises(ValueError, match="unknown dtype"):
        registry.deserialize({"class_name": "__numpy__", "config": {"value": [1], "dtype": dtype}})
