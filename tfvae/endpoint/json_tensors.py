"""Predict requests and answers as JSON, by the rules of TF Serving's json_tensor.cc: rows and columns."""

import base64
import binascii
import json
import math

import numpy as np
import tensorflow as tf

from tfvae.endpoint.statuses import ServingError, invalid
from tfvae.endpoint.tensors import check_rows, type_name

# What an error message quotes of a request. TF Serving quotes all of it.
_MOST_QUOTED = 1000

_JSON_TYPES = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}

# Integers narrower than 32 bits are read as 32 bits and wrap, as in TF Serving.
_INTEGERS = {
    tf.int8: (-(1 << 31), (1 << 31) - 1),
    tf.uint8: (-(1 << 31), (1 << 31) - 1),
    tf.int16: (-(1 << 31), (1 << 31) - 1),
    tf.int32: (-(1 << 31), (1 << 31) - 1),
    tf.int64: (-(1 << 63), (1 << 63) - 1),
    tf.uint32: (0, (1 << 32) - 1),
    tf.uint64: (0, (1 << 64) - 1),
}

# Largest integer that a float keeps, and largest finite value.
_FLOATS = {tf.float32: ((1 << 24) - 1, float(np.finfo(np.float32).max)), tf.float64: ((1 << 53) - 1, float("inf"))}


def parse(body):
    """The JSON object of a request's body, bytes.

    Raises:
        ServingError.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {quoted(document)} Is not object")
    return document


def signature_name(document):
    """The signature that a request names; "" if none. Raises: ServingError."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {quoted(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def to_arrays(document, inputs, most_rows):
    """A request's tensors: ({input: array}, whether they came as rows).

    Args:
        document: from `parse`. inputs: {name: TensorInfo} of the signature. most_rows: of a request.

    Raises:
        ServingError.
    """
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {quoted(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
            "exist "
        )
    dtypes = {name: tf.as_dtype(info.dtype) for name, info in inputs.items()}
    try:
        if "instances" in document:
            return _from_rows(document, dtypes, most_rows), True
        if "inputs" in document:
            return _from_columns(document["inputs"], dtypes), False
    except RecursionError as error:
        raise invalid("JSON Parse error: lists are nested too deep") from error
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_rows(document, dtypes, most_rows):
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {quoted(document)} Excepting 'instances' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {quoted(document)} No values in 'instances' array")
    check_rows(len(rows), most_rows)
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )
    named = _is_named(rows[0])
    names = ",".join(sorted(dtypes))
    values, shapes = {name: [] for name in dtypes}, {}
    for place, row in enumerate(rows):
        if named != _is_named(row):
            raise invalid(
                f"Expecting object but got list at item {place} of input list"
                if named
                else f"Expecting value/list but got object at item {place} of input list"
            )
        for name, item in row.items() if named else [(next(iter(dtypes)), row)]:
            try:
                if name not in dtypes:
                    raise invalid(f"JSON object: does not have named input: {name}")
                shape = _shape(item)
                flat = _flat(item, dtypes[name], shape)
                first = shapes.setdefault(name, shape)
                if math.prod(shape) != math.prod(first):
                    raise invalid(f"Expecting tensor size: {math.prod(first)} but got: {math.prod(shape)}")
                if shape != first:
                    raise invalid(f"Expecting shape {_text(first)} but got: {_text(shape)}")
                values[name] += flat
            except ServingError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {place}{key} of 'instances' list. Error: {error.code}: {error.message}"
                ) from error
        if named and set(row) != set(dtypes):
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object: {quoted(row)} keys must be equal to: "
                f"{names}"
            )
    return {name: _array(values[name], dtype, [len(rows), *shapes[name]]) for name, dtype in dtypes.items()}


def _from_columns(columns, dtypes):
    if not _is_named(columns):
        if len(dtypes) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
            )
        columns = {next(iter(dtypes)): columns}
    arrays = {}
    for name, dtype in sorted(dtypes.items()):
        # Other keys than the inputs' are ignored here, in rows they are not: TF Serving's way.
        if name not in columns:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        shape = _shape(columns[name])
        arrays[name] = _array(_flat(columns[name], dtype, shape), dtype, shape)
    return arrays


def _is_named(value):
    """Whether a value is an object of inputs, and not one of bytes."""
    return isinstance(value, dict) and not _is_bytes(value)


def _is_bytes(value):
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _shape(value):
    """The shape of nested lists, by the first element of each."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _flat(value, dtype, shape):
    """The values of nested lists in order, checked and converted.

    Raises:
        ServingError: a value of another type than `dtype`, or lists that are not of `shape`.
    """
    flat = []

    def fill(value, level):
        if not isinstance(value, list):
            if level != len(shape):
                raise invalid(
                    f"JSON Value: {quoted(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                    f"{len(shape)}"
                )
            flat.append(_convert(value, dtype))
            return
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        if level == len(shape) - 1 and value and set(map(type, value)) == {int} and dtype in _INTEGERS:
            low, high = _INTEGERS[dtype]
            if low <= min(value) and max(value) <= high:  # pixels, by the ten thousand
                flat.extend(value)
                return
        for element in value:
            fill(element, level + 1)

    fill(value, 0)
    return flat


def _convert(value, dtype):
    """One value as Python feeds it to NumPy. Raises: ServingError."""
    kind = type(value)
    if dtype == tf.string:
        if _is_bytes(value):
            return _from_base64(value["b64"])
        if kind is dict:
            raise invalid(f"JSON Value: {quoted(value)} not formatted correctly for base64 data")
        if kind is str:
            return value.encode("utf-8", "surrogatepass")
    elif kind is dict:
        pass
    elif dtype == tf.bool:
        if kind is bool:
            return value
    elif dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        if kind is int and low <= value <= high:
            return value
    elif dtype in _FLOATS:
        most_integer, most = _FLOATS[dtype]
        if kind in (int, float):
            if kind is int and abs(value) > most_integer or math.isfinite(value) and abs(value) > most:
                raise invalid(
                    f"Cannot convert JSON value: {quoted(value)} to {type_name(dtype.as_datatype_enum)} without loss of "
                    "precision."
                )
            return value
    else:
        raise invalid(f"Conversion of JSON Value: {quoted(value)} to type: {type_name(dtype.as_datatype_enum)}")
    json_type = _JSON_TYPES.get(kind) or str(value)
    raise invalid(
        f"JSON Value: {quoted(value)} Type: {json_type} is not of expected type: {type_name(dtype.as_datatype_enum)}"
    )


def _from_base64(text):
    """Bytes of standard base64; white space and missing padding pass, as they do in Abseil."""
    text = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _array(flat, dtype, shape):
    if len(shape) > 32:
        raise invalid(f"Encountered list at unexpected level: {len(shape)} expected < 32")
    if dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = flat
    elif dtype in _INTEGERS:
        wide = np.uint64 if dtype == tf.uint64 else np.int64
        array = np.array(flat, wide).astype(dtype.as_numpy_dtype)
    else:
        array = np.array(flat, dtype.as_numpy_dtype)
    return array.reshape(shape)


def _text(shape):
    return f"[{','.join(map(str, shape))}]"


def quoted(value):
    """A value as an error message quotes it."""
    text = json.dumps(value, indent=4, ensure_ascii=False)
    return text if len(text) <= _MOST_QUOTED else text[:_MOST_QUOTED] + "…"


def from_arrays(outputs, as_rows):
    """The answer's JSON text.

    Args:
        outputs: {output: array}. as_rows: `predictions`, one element a row; else `outputs`, one array an output.

    Raises:
        ServingError: an output has no form in JSON.
    """
    several = len(outputs) > 1
    if not as_rows:
        columns = {name: _tokens(name, array, 0)[0] for name, array in sorted(outputs.items())}
        return _object({"outputs": _object(columns) if several else next(iter(columns.values()))})
    rows = None
    for name, array in sorted(outputs.items()):
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if rows is not None and len(array) != rows:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    tokens = {name: _tokens(name, array, 1) for name, array in sorted(outputs.items())}
    if several:
        elements = [_object({name: tokens[name][row] for name in tokens}) for row in range(rows)]
    else:
        elements = next(iter(tokens.values()))
    return _object({"predictions": _list(elements)})


def _object(tokens):
    """Texts by name as a JSON object's text."""
    return "{" + ", ".join(f"{json.dumps(name)}: {token}" for name, token in tokens.items()) + "}"


def _list(tokens):
    """Texts as a JSON array's text."""
    return "[" + ", ".join(tokens) + "]"


def _tokens(name, array, keep):
    """An array as JSON texts: one, or with `keep` = 1 one for each row."""
    tokens = _scalars(name, array)
    for level in range(array.ndim - 1, keep - 1, -1):
        size = array.shape[level]
        groups = math.prod(array.shape[:level])
        tokens = [_list(tokens[i * size : (i + 1) * size]) for i in range(groups)]
    return tokens


def _scalars(name, array):
    """Every element as a JSON text."""
    flat, dtype = array.ravel(), tf.as_dtype(array.dtype)
    if dtype == tf.string:
        if name.endswith("_bytes"):
            return [_object({"b64": f'"{base64.b64encode(value).decode()}"'}) for value in flat]
        return [json.dumps(value.decode("utf-8", "replace")) for value in flat]
    if dtype == tf.bool:
        return ["true" if value else "false" for value in flat]
    if dtype in _INTEGERS:
        return list(map(str, flat.tolist()))
    if dtype in _FLOATS:
        return [_decimal(value, flat.dtype.type) for value in flat.tolist()]
    raise invalid(f"Failed to write JSON value for tensor type: {type_name(dtype.as_datatype_enum)}")


def _decimal(value, kind):
    """A float with the six digits of %g if they are exact, else with as many as a reader needs to get it back."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:g}"
    if kind(text) != value:
        text = f"{value:.9g}" if kind is np.float32 else f"{value:.17g}"
    return text if "." in text or "e" in text else f"{text}.0"
