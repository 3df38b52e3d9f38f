"""Every published attack on Keras's loader, with a file made here, and some of our own."""

import base64
import builtins
import importlib
import io
import json
import marshal
import os
import pickle
import time

import h5py
import numpy as np
import pytest

import recurrax as rx
from recurrax import registry
from recurrax.saving import Limits, LoadError, load_model, model_from_json

from . import hostile
from .hostile import h5, members, model_bytes, raw_zip, with_config, with_weights, zipped


@pytest.fixture(scope="module")
def good():
    return model_bytes()


@pytest.fixture(autouse=True)
def watched(monkeypatch, tmp_path):
    """Fail where loading runs, imports, opens or unpickles anything."""

    def forbidden(*args, **kwargs):
        raise AssertionError(f"the loader called something: {args} {kwargs}")

    monkeypatch.chdir(tmp_path)
    for owner, name in [
        *((os, name) for name in ("system", "popen", "remove", "symlink")),
        *((pickle, "loads"), (pickle, "load"), (builtins, "eval")),
    ]:
        monkeypatch.setattr(owner, name, forbidden)
    real = importlib.import_module

    def imported(name, *rest):
        # Parts of the packages that are at work, which they fetch when first needed.
        return (real if name.split(".")[0] in ("jax", "jaxlib", "recurrax") else forbidden)(
            name, *rest
        )

    monkeypatch.setattr(importlib, "import_module", imported)
    yield
    assert os.listdir(tmp_path) == []


def refused(data, match=None, **options):
    with pytest.raises(LoadError, match=match):
        load_model(io.BytesIO(data), **options)


def with_layer(record, good):
    def change(config):
        config["config"]["layers"][-1] = record

    return with_config(change, good)


def _code():
    return base64.b64encode(marshal.dumps(compile("1", "x", "eval"))).decode()


LAMBDAS = [
    {"class_name": "__lambda__", "config": {"value": _code(), "defaults": None, "closure": None}},
    {"module": "builtins", "class_name": "function", "config": "system", "registered_name": None},
    [_code(), None, None],
    "system",
]


# CVE-2024-3660: code in a Lambda layer.
@pytest.mark.parametrize("function", LAMBDAS)
@pytest.mark.parametrize("safe_mode", [True, False])
def test_a_lambda_layer_is_refused_with_the_mend(function, safe_mode, good):
    layer = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "x", "function": function, "arguments": {}},
        "registered_name": None,
    }
    refused(with_layer(layer, good), "subclass of Layer", safe_mode=safe_mode)


def test_a_lambda_as_an_activation_is_refused(good):
    def change(config):
        config["config"]["layers"][-1]["config"]["activation"] = LAMBDAS[0]

    refused(with_config(change, good), "holds code")


def test_a_model_with_a_lambda_says_so_when_it_is_saved():
    class Lambda(rx.Layer):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="cannot be saved"):
        model_bytes(rx.Sequential([rx.Input((2,)), Lambda()]))


# CVE-2025-1550 and CVE-2025-8747: a module and a class or function that the file names.
@pytest.mark.parametrize(
    ("module", "name", "config"),
    [
        ("os", "system", "touch x"),
        ("builtins", "eval", {"source": "1"}),
        ("subprocess", "Popen", {"args": ["touch", "x"]}),
        ("keras.utils", "get_file", {"fname": "x", "origin": "file:///etc/passwd"}),
        ("keras.src.utils.file_utils", "get_file", {"origin": "file:///etc/passwd"}),
        ("keras.src.saving.saving_lib", "load_model", {"filepath": "/etc/passwd"}),
        ("keras.src.utils.python_utils", "func_load", {"code": _code()}),
        ("keras.config", "enable_unsafe_deserialization", {}),
        ("keras.layers", "TFSMLayer", {"filepath": "/etc"}),
        # CVE-2025-12058: a vocabulary that is read from any path or address.
        ("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
        ("keras.layers", "TextVectorization", {"vocabulary": "http://localhost/x"}),
        ("keras.layers", "Layer.__init__.__globals__", {}),
        ("recurrax.registry", "deserialize", {"data": {}}),
        ("keras.layers", "__class__", {}),
        (["os"], {"system": 1}, {}),
    ],
)
@pytest.mark.parametrize("kind", ["class", "function", "registered"])
def test_what_a_file_names_is_looked_up_in_the_table_alone(module, name, config, kind, good):
    record = {"module": module, "class_name": name, "config": config, "registered_name": None}
    if kind == "function":
        record |= {"class_name": "function", "config": name}
    elif kind == "registered":
        record |= {"registered_name": f"{module}>{name}"}
    refused(with_layer(record, good), "not known here")


# CVE-2025-9906: a first object that turns the checks off for the next.
def test_no_object_of_a_file_turns_checks_off(good):
    def change(config):
        config["config"]["layers"].insert(
            0,
            {
                "module": "keras.config",
                "class_name": "function",
                "config": "enable_unsafe_deserialization",
                "registered_name": "enable_unsafe_deserialization",
            },
        )
        config["safe_mode"] = False

    refused(with_config(change, good), "not known here")


# CVE-2025-9905: the same in an .h5 file, whose loader had no checks.
def test_a_lambda_in_an_h5_model_is_refused():
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "s",
            "layers": [
                {
                    "class_name": "Lambda",
                    "config": {
                        "name": "x",
                        "function": [_code(), None, None],
                        "function_type": "lambda",
                        "batch_input_shape": [None, 2],
                    },
                }
            ],
        },
    }

    def write(file):
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")

    refused(h5(write), "subclass of Layer")


# CVE-2025-12060: paths and links that lead out of an archive.
@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../../evil", "data": b"x"},
        {"name": "/tmp/evil", "data": b"x"},
        {"name": "assets/x", "data": b"/etc", "attributes": 0o120777 << 16},
        {"name": "assets/x/../../../evil", "data": b"x"},
    ],
)
def test_an_archive_that_leads_out_is_refused(entry, good):
    content = [{"name": k, "data": v} for k, v in members(good).items()]
    refused(raw_zip([*content, entry]), "leads out of it|symbolic link")


def test_a_pickle_in_place_of_weights_is_refused(good):
    content = members(good)
    content["model.weights.h5"] = pickle.dumps({"a": 1})
    refused(zipped(content), "not an HDF5 file")
    del content["model.weights.h5"]
    content["model.weights.npz"] = pickle.dumps({"a": 1})
    refused(zipped(content), "no model")


# The reports of 2026: links, virtual datasets and shapes in the weights.
def _external_storage(file):
    hostile.replaced(file, shape=(2, 1), dtype="f4", external=[("/etc/passwd", 0, 8)])


def _virtual(file):
    layout = h5py.VirtualLayout((2, 1), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2, 1))
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


def _link(link):
    def change(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = link

    return change


def _array_for_group(file):
    del file["layers/dense"]
    file["layers/dense"] = 1.0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_external_storage, "another file"),
        (_virtual, "virtual"),
        (_link(h5py.SoftLink("/layers/dense/vars/1")), "link"),
        (_link(h5py.ExternalLink("/etc/passwd", "/")), "link"),
        (lambda f: hostile.replaced(f, shape=(2**30, 2**30), dtype="f4"), "holds 0"),
        (lambda f: hostile.replaced(f, shape=(2**30, 9), dtype="f4", chunks=(8, 9)), "chunked"),
        (lambda f: hostile.replaced(f, data=np.zeros((2, 2), "f4")), r"\(2, 1\), but .*\(2, 2\)"),
        (lambda f: hostile.replaced(f, data=np.zeros((2, 1), "i4")), "dtype int32"),
        (lambda f: hostile.replaced(f, data=np.zeros((2, 1), "S3")), "has dtype"),
        (lambda f: hostile.replaced(f, data=np.zeros((2, 1), "V2")), "has dtype"),
        (lambda f: f["layers/dense/vars"].__delitem__("0"), "has 2 weights.*file has 1"),
        (lambda f: f["layers"].__delitem__("dense"), "has 2 weights.*file has 0"),
        (lambda f: f["layers/dense/vars"].__setitem__("2", 1.0), "has 2 weights.*file has 3"),
        (lambda f: f["layers/dense/vars"].move("0", "x"), "has 2 weights"),
        (lambda f: f.__setitem__("layers/gru/vars/0", 1.0), "which the model does not have"),
        (_array_for_group, "has 2 weights"),
    ],
)
def test_weights_that_lead_elsewhere_or_do_not_fit_are_refused(change, complaint, good):
    refused(with_weights(change, good), complaint)


def test_bombs_of_the_archive_are_refused(good):
    content = members(good)
    for name in ("config.json", "model.weights.h5"):
        bomb = {"name": name, "data": bytes(2**24), "method": 8}
        rest = [{"name": k, "data": v} for k, v in content.items() if k != name]
        refused(raw_zip([*rest, bomb]), "expansion=200")


# A configuration that asks for more memory or time than its file is worth.
def _units(units):
    return lambda config: config["config"]["layers"][-1]["config"].update(units=units)


def test_weights_larger_than_the_file_are_never_made(good):
    refused(with_config(_units(2**40), good), "leaves room")
    refused(with_config(_units(10**8), good), "leaves room")


def test_states_larger_than_the_file_are_never_made():
    layers = [rx.Input(batch_shape=(2, 3, 2)), rx.layers.SimpleRNN(2, stateful=True)]
    data = model_bytes(rx.Sequential(layers))

    def change(config):
        config["config"]["layers"][1]["build_config"]["input_shape"] = [2**40, 3, 2]

    refused(with_config(change, data), "leaves room")


def test_weights_of_json_alone_have_a_limit():
    text = hostile.small_model().to_json()
    record = json.loads(text)
    _units(2**40)(record)
    with pytest.raises(LoadError, match="leaves room"):
        model_from_json(json.dumps(record))
    with pytest.raises(LoadError, match="leaves room"):
        model_from_json(text, limits=Limits(weights_bytes=8))


@pytest.mark.parametrize(
    "units", [-1, 0, 1.5, "2", None, [2], {}, True, 2**64, "2" * 100, {"class_name": "x"}]
)
def test_a_wrong_argument_is_an_error_of_the_loader(units, good):
    refused(with_config(_units(units), good))


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


def test_two_layers_of_one_name_are_refused(good):
    def change(config):
        layers = config["config"]["layers"]
        layers[-1]["config"]["name"] = layers[-2]["config"]["name"]

    refused(with_config(change, good), "already has a layer named")


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


def test_nan_and_duplicate_keys_in_the_configuration_are_refused(good):
    content = members(good)
    text = content["config.json"]
    nan = text.replace(b'"units": 1', b'"units": NaN')
    refused(zipped(content | {"config.json": nan}), "NaN is not a number")
    twice = text.replace(b'"units": 1', b'"units": 1, "units": 2')
    refused(zipped(content | {"config.json": twice}), "stands twice")


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


def test_a_function_that_the_caller_registered_is_not_run_in_place_of_a_class(good):
    calls = []
    registry.register_keras_serializable("test", "danger")(calls.append)
    try:
        record = {"class_name": "x", "config": {"a": 1}, "registered_name": "test>danger"}
        refused(with_layer({"module": None, **record}, good))
    finally:
        registry.get_custom_objects().pop("test>danger")
    assert calls == []


def test_a_good_file_still_loads_under_watch(good):
    assert load_model(io.BytesIO(good)).output_shape == (None, 1)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/"])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(LoadError, match="not a file"):
        load_model(path)
