"""Requests and answers as arrays and back: JSON by TF Serving's rules for rows and columns, and protocol buffers."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfvae.endpoint import tensors
from tfvae.endpoint.statuses import ServingError


def read(document, **types):
    """{name: array} of a document, given as Python values or as JSON text, for inputs of these types."""
    document = json.loads(document) if isinstance(document, str) else document
    inputs = {
        name: meta_graph_pb2.TensorInfo(dtype=types_pb2.DataType.Value(f"DT_{kind}")) for name, kind in types.items()
    }
    return tensors.from_json(document, inputs)


def test_rows_of_one_input_may_be_plain_values_and_of_several_are_objects():
    arrays = read({"instances": [[1, 2], [3, 4]]}, x="FLOAT")
    assert arrays["x"].dtype == np.float32
    np.testing.assert_array_equal(arrays["x"], [[1, 2], [3, 4]])
    arrays = read({"instances": [{"x": 1, "y": [1.5]}, {"y": [2], "x": -7}]}, x="INT64", y="DOUBLE")
    np.testing.assert_array_equal(arrays["x"], np.array([1, -7], np.int64))
    np.testing.assert_array_equal(arrays["y"], np.array([[1.5], [2.0]]))


def test_columns_of_one_input_may_be_a_plain_list_and_of_several_are_an_object():
    arrays = read({"inputs": [[[1, 2, 255]]]}, x="UINT8")
    assert arrays["x"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["x"], [[[1, 2, 255]]])
    arrays = read({"inputs": {"x": [7], "y": ["ü"], "other": 1}}, x="INT32", y="STRING")
    assert arrays["x"].dtype == np.int32
    assert arrays["y"].tolist() == ["ü".encode()]


def test_bytes_come_as_base64():
    document = {"instances": [{"b64": "AP8="}, {"b64": ""}, "a"]}
    assert read(document, image_bytes="STRING")["image_bytes"].tolist() == [b"\x00\xff", b"", b"a"]


def test_floats_may_be_infinite_and_integers_are_read_exactly():
    arrays = read('{"inputs": {"x": [Infinity, -Infinity, NaN], "y": [9007199254740993]}}', x="FLOAT", y="INT64")
    np.testing.assert_array_equal(arrays["x"], np.array([np.inf, -np.inf, np.nan], np.float32))
    assert arrays["y"].tolist() == [9007199254740993]


@pytest.mark.parametrize(
    ("document", "types", "text"),
    [
        ({}, {"x": "INT64"}, "expected either 'instances'"),
        ({"instances": [1], "inputs": [1]}, {"x": "INT64"}, "expected either 'instances'"),
        ({"instances": 1}, {"x": "INT64"}, "to be a list of objects with exactly the inputs x"),
        ({"instances": []}, {"x": "INT64"}, "to be a list of objects"),
        ({"instances": [1.0]}, {"x": "INT64"}, "input x: expected values of int64, found 1.0"),
        ('{"instances": [NaN]}', {"x": "INT64"}, "found NaN"),
        ({"instances": [1 << 63]}, {"x": "INT64"}, "input x: a value is no int64"),
        ({"instances": [1 << 31]}, {"x": "INT32"}, "input x: a value is no int32"),
        ({"instances": [256]}, {"x": "UINT8"}, "input x: a value is no uint8"),
        ({"instances": [True]}, {"x": "INT32"}, "expected values of int32, found true"),
        ({"instances": ["7"]}, {"x": "FLOAT"}, 'expected values of float32, found "7"'),
        ({"instances": [None]}, {"x": "FLOAT"}, "found null"),
        ({"instances": [1e39]}, {"x": "FLOAT"}, "input x: a value is no float32"),
        ({"instances": [10**400]}, {"x": "FLOAT"}, "input x: a value is no float32"),
        ({"instances": [7]}, {"x": "STRING"}, "expected values of string, found 7"),
        ({"instances": [{"b64": "*"}]}, {"x": "STRING"}, "input x: a value is no string"),
        ({"instances": [{"b64": 1}]}, {"x": "STRING"}, "input x: a value is no string"),
        ({"inputs": [{"b65": "AA=="}]}, {"x": "STRING"}, "input x: a value is no string"),
        ({"instances": ["\ud800"]}, {"x": "STRING"}, "input x: a value is no string"),
        ({"instances": [0.5]}, {"x": "HALF"}, "input x is float16, which has no form in JSON"),
        ({"instances": [[1, 2], [3]]}, {"x": "INT64"}, "found lists of different lengths"),
        ({"instances": [[[1], [2]], [[3, 4]]]}, {"x": "INT64"}, "found lists of different lengths"),
        ({"instances": [[1, [2]]]}, {"x": "INT64"}, "found lists of different lengths"),
        ({"instances": [1]}, {"x": "INT64", "y": "INT64"}, "with exactly the inputs x, y"),
        ({"instances": [{"x": 1}]}, {"x": "INT64", "y": "INT64"}, "with exactly the inputs x, y"),
        ({"instances": [{"x": 1, "y": 1, "z": 1}]}, {"x": "INT64", "y": "INT64"}, "with exactly the inputs x, y"),
        ({"inputs": [1]}, {"x": "INT64", "y": "INT64"}, "to be an object with the inputs x, y"),
        ({"inputs": {"x": [1]}}, {"x": "INT64", "y": "INT64"}, "to be an object with the inputs x, y"),
        ({"inputs": json.loads("[" * 80 + "1" + "]" * 80)}, {"x": "INT64"}, "found lists of different lengths"),
    ],
)
def test_a_document_that_does_not_fit_the_inputs_is_refused(document, types, text):
    with pytest.raises(ServingError) as raised:
        read(document, **types)
    assert raised.value.code == "INVALID_ARGUMENT"
    assert text in raised.value.message


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ServingError) as raised:
        read({"inputs": {"x": "a" * 100_000}}, x="INT64")
    assert len(raised.value.message) < 200


def test_one_output_loses_its_name_and_several_keep_theirs():
    pixels = np.arange(4, dtype=np.uint8).reshape(2, 2)
    one = {"image": pixels}
    assert json.loads(tensors.to_json(one, as_rows=True)) == {"predictions": [[0, 1], [2, 3]]}
    assert json.loads(tensors.to_json(one, as_rows=False)) == {"outputs": [[0, 1], [2, 3]]}
    two = one | {"wide": np.array([1 << 60, -1])}
    rows = [{"image": [0, 1], "wide": 1 << 60}, {"image": [2, 3], "wide": -1}]
    assert json.loads(tensors.to_json(two, as_rows=True)) == {"predictions": rows}
    columns = {"image": [[0, 1], [2, 3]], "wide": [1 << 60, -1]}
    assert json.loads(tensors.to_json(two, as_rows=False)) == {"outputs": columns}


def test_bytes_go_out_as_base64_by_their_name_and_strings_as_text():
    value = np.array([b"\x89PNG", b"text"], object)
    rows = json.loads(tensors.to_json({"image_bytes": value, "text": value[::-1]}, as_rows=True))["predictions"]
    assert rows[0] == {"image_bytes": {"b64": "iVBORw=="}, "text": "text"}


def test_floats_are_read_back_exactly_and_infinities_stand_bare():
    values = np.array([0.1, 1 / 3, 3.0, 1e20, -2.5e-7, 1234567.0], np.float32)
    text = tensors.to_json({"y": values}, as_rows=True)
    np.testing.assert_array_equal(np.array(json.loads(text)["predictions"], np.float32), values)
    assert "0.1," in text
    assert "3.0," in text
    wide = np.array([1 / 3])
    assert json.loads(tensors.to_json({"y": wide}, as_rows=True))["predictions"] == wide.tolist()
    odd = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert tensors.to_json({"y": odd}, as_rows=False) == '{"outputs": [NaN, Infinity, -Infinity]}'


def test_an_output_without_a_json_form_is_an_error():
    with pytest.raises(ServingError, match="output y is float16, which has no form in JSON"):
        tensors.to_json({"y": np.zeros(2, np.float16)}, as_rows=True)


def test_empty_dimensions_survive_the_way_out_and_in():
    assert json.loads(tensors.to_json({"y": np.zeros([2, 0, 3])}, as_rows=False)) == {"outputs": [[], []]}
    assert read({"inputs": [[], []]}, y="FLOAT")["y"].shape == (2, 0)


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.array([[0.5, 2.0]], np.float32), "float_val"),
        (np.array([0.1]), "double_val"),
        (np.array([[1], [-2]], np.int32), "int_val"),
        (np.array([1 << 60, 0]), "int64_val"),
        (np.array([[[0, 255]]], np.uint8), "int_val"),
        (np.array([b"\xff", b"", b"a"], object), "string_val"),
        (np.array([0.5, 1.0], np.float16), None),
        (np.zeros([0, 2], np.float32), "float_val"),
    ],
)
def test_protos_hold_typed_fields_as_clients_read_them(array, field):
    proto = tensors.to_protos({"y": array})["y"]
    back = tensors.from_protos({"y": proto})["y"]
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    np.testing.assert_array_equal(back, array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    if field:
        assert list(getattr(proto, field)) == array.ravel().tolist()
        assert not proto.tensor_content


HUGE = tf.make_tensor_proto(np.array([1], np.int64))
HUGE.tensor_shape.dim[0].size = 1 << 40
NEGATIVE = tf.make_tensor_proto(np.array([1], np.int64))
NEGATIVE.tensor_shape.dim[0].size = -1
TORN = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"abc")
TORN.tensor_shape.dim.add(size=4)


@pytest.mark.parametrize("proto", [HUGE, NEGATIVE, TORN, tensor_pb2.TensorProto()])
def test_a_proto_that_contradicts_itself_or_claims_too_much_is_refused(proto):
    with pytest.raises(ServingError, match="input z cannot be read as a tensor") as raised:
        tensors.from_protos({"z": proto})
    assert raised.value.code == "INVALID_ARGUMENT"
