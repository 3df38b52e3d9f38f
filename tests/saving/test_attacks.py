"""Every published attack on Keras's loader, with a file made here, and some of our own."""

import base64
import io
import json
import marshal
import pickle

import h5py
import numpy as np
import pytest

import recurrax as rx
from recurrax import registry
from recurrax.saving import LoadError, load_model

from . import hostile
from .hostile import (
    h5,
    members,
    model_bytes,
    raw_zip,
    refused,
    with_config,
    with_layer,
    with_weights,
    zipped,
)

pytestmark = pytest.mark.usefixtures("watched")


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
