"""Tensors of requests and answers: protocol buffers to arrays and back, and whether a request fits its signature."""

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tfvae.endpoint.statuses import invalid

# A tensor proto of a few bytes may claim any shape, its last value repeated. 64 Mi elements are more than a body can hold.
_MOST_ELEMENTS = 1 << 26

# TF Serving fills the typed fields, which clients read by name, and not `tensor_content`.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
}


def type_name(enum):
    """A data type as TensorFlow's messages call it: float, int64, uint8, string, …"""
    return types_pb2.DataType.Name(enum).removeprefix("DT_").lower()


def shape_text(shape):
    """[2,3], with ? for what is not fixed."""
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"


def from_proto(alias, proto):
    """A TensorProto as an array; `alias`: the input's name, for the message.

    Raises:
        ServingError: the proto contradicts itself.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    elements = 1
    for size in sizes:
        elements *= max(size, 0)
    try:
        if elements > _MOST_ELEMENTS or min(sizes, default=0) < 0 or len(sizes) > 32:
            raise ValueError(f"shape {shape_text(sizes)}")
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def to_proto(array):
    """An array as a TensorProto, as TF Serving writes it."""
    dtype = tf.as_dtype(array.dtype).as_datatype_enum
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())
    return proto


def check_names(signature, request):
    """Whether a PredictRequest has exactly the signature's inputs.

    Raises:
        ServingError.
    """
    given, expected = set(request.inputs), set(signature.inputs)
    if len(given) != len(expected):

        def listed(names):
            return ",".join(sorted(names))

        raise invalid(
            f"input size does not match signature: {len(given)}!={len(expected)} len({{{listed(given)}}}) != "
            f"len({{{listed(expected)}}}). Sent extra: {{{listed(given - expected)}}}. Missing but required: "
            f"{{{listed(expected - given)}}}."
        )
    for alias in sorted(expected - given):
        raise invalid(
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no default "
            f"value provided. Inputs expected to be in the request {{{','.join(sorted(given))}}}, or default input alias set: "
        )


def check_inputs(signature, arrays, most_rows):
    """Rows of a request whose arrays fit the signature.

    One request that does not fit would fail all those that share its batch.

    Args:
        arrays: {input: array}, all inputs. most_rows: of a request.

    Raises:
        ServingError.
    """
    rows = None
    places = {
        alias: place for place, alias in enumerate(sorted(arrays, key=lambda alias: signature.inputs[alias].name))
    }
    for alias, array in sorted(arrays.items()):
        info = signature.inputs[alias]
        dtype = tf.as_dtype(array.dtype).as_datatype_enum
        if dtype != info.dtype:
            raise invalid(
                f"Expects arg[{places[alias]}] to be {type_name(info.dtype)} but {type_name(dtype)} is provided"
            )
        if not array.ndim:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if rows is not None and len(array) != rows:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(array)
        if not tf.TensorShape(info.tensor_shape).is_compatible_with(array.shape):
            expected = tf.TensorShape(info.tensor_shape).as_list()
            raise invalid(f"Input {alias} has shape {shape_text(array.shape)}, expected {shape_text(expected)}")
    check_rows(rows, most_rows)
    return rows


def check_rows(rows, most_rows):
    """Raises: ServingError if a request has more rows than one may have."""
    if rows > most_rows:
        raise invalid(
            f"Task size {rows} is larger than maximum input batch size {most_rows}: send at most {most_rows} rows a request"
        )
