"""Tensors of requests and answers as arrays and back: JSON by rows or by columns, and protocol buffers."""

import base64
import json
import math

import numpy as np
import tensorflow as tf

from tfvae.endpoint.statuses import invalid

# By dtype: the field of a TensorProto, and what Python's JSON gives for its values. TF Serving fills the fields, which clients
# read by name, and not `tensor_content`; like Python it takes 1 for a float, but not 1.0 for an integer.
_KINDS = {
    tf.float32: ("float_val", {int, float}),
    tf.float64: ("double_val", {int, float}),
    tf.int32: ("int_val", {int}),
    tf.int64: ("int64_val", {int}),
    tf.uint8: ("int_val", {int}),
    tf.string: ("string_val", {str, dict}),
}
# A proto of a few bytes may claim any shape, its last value repeated. 64 Mi elements are more than a body can hold.
_MOST_ELEMENTS = 1 << 26


def from_json(document, inputs):
    """A REST request's tensors, {name: array}. Raises: ServingError.

    Args:
        document: the body as Python values, a dict with `instances` (rows) or `inputs` (columns). inputs: {name:
            TensorInfo} of the signature.
    """
    names, as_rows = sorted(inputs), "instances" in document
    if as_rows == ("inputs" in document):
        raise invalid("expected either 'instances' (rows) or 'inputs' (columns)")
    if as_rows:
        rows = document["instances"] if isinstance(document["instances"], list) else []
        if len(names) == 1:
            rows = [row if _is_named(row) else {names[0]: row} for row in rows]
        if not rows or any(not _is_named(row) or set(row) != set(names) for row in rows):
            raise invalid(f"expected 'instances' to be a list of objects with exactly the inputs {', '.join(names)}")
        columns = {name: [row[name] for row in rows] for name in names}
    else:
        columns = document["inputs"]
        if len(names) == 1 and not _is_named(columns):
            columns = {names[0]: columns}
        if not _is_named(columns) or not set(names) <= set(columns):  # other keys pass, as in TF Serving
            raise invalid(f"expected 'inputs' to be an object with the inputs {', '.join(names)}")
    return {name: _from_lists(name, columns[name], tf.as_dtype(inputs[name].dtype)) for name in names}


def _is_named(value):
    """Whether a value is an object of inputs, not one value in base64."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _from_lists(name, value, dtype):
    """Nested lists as an array; `name` is the input's, for messages. Raises: ServingError."""
    if dtype not in _KINDS:
        raise invalid(f"input {name} is {dtype.name}, which has no form in JSON: ask by gRPC")
    # As objects, so that every value keeps its Python type. Lists that differ in length stay lists.
    array = np.array(value, dtype=object)
    items = array.ravel().tolist()
    if wrong := set(map(type, items)) - _KINDS[dtype][1]:
        item = next(item for item in items if type(item) in wrong)
        found = "lists of different lengths" if type(item) is list else json.dumps(item)[:100]
        raise invalid(f"input {name}: expected values of {dtype.name}, found {found}")
    try:
        if dtype == tf.string:
            return np.asarray(np.frompyfunc(_to_bytes, 1, 1)(array), dtype=object)
        with np.errstate(over="raise"):
            return array.astype(dtype.as_numpy_dtype)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise invalid(f"input {name}: a value is no {dtype.name}: {error}") from error


def _to_bytes(value):
    return value.encode() if isinstance(value, str) else base64.b64decode(value["b64"], validate=True)


def to_json(outputs, as_rows):
    """A REST answer's text. Raises: ServingError: an output has no form in JSON.

    Args:
        outputs: {output: array [B, ...]}. as_rows: `predictions`, one element per row; else `outputs`, one list per output.
    """
    columns = {name: _to_lists(name, array) for name, array in sorted(outputs.items())}
    if len(columns) == 1:
        (answer,) = columns.values()
    elif as_rows:
        answer = [dict(zip(columns, row)) for row in zip(*columns.values())]
    else:
        answer = columns
    return json.dumps({"predictions" if as_rows else "outputs": answer})


def _to_lists(name, array):
    """An array as nested lists; `name` is the output's. Raises: ServingError."""
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _KINDS:
        raise invalid(f"output {name} is {dtype.name}, which has no form in JSON: ask by gRPC")
    if dtype == tf.string:
        encode, decode = (
            lambda value: {"b64": base64.b64encode(value).decode()},
            lambda value: value.decode("utf-8", "replace"),
        )
        array = np.frompyfunc(encode if name.endswith("_bytes") else decode, 1, 1)(array)  # TF Serving's rule
    elif dtype == tf.float32:
        array = array.astype(str).astype(np.float64)  # by way of the shortest text: 0.1, not 0.10000000149011612
    return array.tolist()


def from_protos(protos):
    """{name: array} of {name: TensorProto}. Raises: ServingError: one contradicts itself."""
    arrays = {}
    for name, proto in protos.items():
        sizes = [dim.size for dim in proto.tensor_shape.dim]
        try:
            if min(sizes, default=0) < 0 or math.prod(sizes) > _MOST_ELEMENTS:
                raise ValueError(f"shape {sizes}")
            arrays[name] = tf.make_ndarray(proto)
        except (TypeError, ValueError) as error:
            raise invalid(f"input {name} cannot be read as a tensor: {error}") from error
    return arrays


def to_protos(arrays):
    """{name: TensorProto} of {name: array}."""
    protos = {}
    for name, array in arrays.items():
        protos[name] = tf.make_tensor_proto(array)
        if kind := _KINDS.get(tf.as_dtype(array.dtype)):
            protos[name].ClearField("tensor_content")
            getattr(protos[name], kind[0])[:] = array.ravel().tolist()
    return protos
