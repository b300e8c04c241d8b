"""JSON to arrays and back: TF Serving's rules, one by one. Its texts are those of its json_tensor.cc."""

import json

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfvae.endpoint import json_tensors
from tfvae.endpoint.statuses import ServingError


def inputs(**types):
    """{name: TensorInfo}."""
    return {
        name: meta_graph_pb2.TensorInfo(dtype=types_pb2.DataType.Value(f"DT_{kind}")) for name, kind in types.items()
    }


def read(body, most_rows=64, **types):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json_tensors.to_arrays(json_tensors.parse(body), inputs(**types), most_rows)


def test_rows_of_one_input_may_be_plain_values_and_of_several_are_objects():
    arrays, as_rows = read({"instances": [[1, 2], [3, 4]]}, x="FLOAT")
    assert as_rows
    assert arrays["x"].dtype == np.float32
    np.testing.assert_array_equal(arrays["x"], [[1, 2], [3, 4]])
    arrays, _ = read({"instances": [{"x": 1, "y": [1.5]}, {"y": [2], "x": -7}]}, x="INT64", y="DOUBLE")
    np.testing.assert_array_equal(arrays["x"], np.array([1, -7], np.int64))
    np.testing.assert_array_equal(arrays["y"], np.array([[1.5], [2.0]]))


def test_columns_of_one_input_may_be_a_plain_list_and_of_several_are_an_object():
    arrays, as_rows = read({"inputs": [[[1, 2, 300]]]}, x="UINT8")
    assert not as_rows
    assert arrays["x"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["x"], [[[1, 2, 44]]])  # 300 wraps: the server casts from int32
    arrays, _ = read({"inputs": {"x": [True], "y": ["ü"], "other": 1}}, x="BOOL", y="STRING")
    assert arrays["x"].dtype == bool
    assert arrays["y"].tolist() == ["ü".encode()]


def test_bytes_come_as_base64_with_or_without_padding():
    arrays, _ = read({"instances": [{"b64": "AP8="}, {"b64": "AP8"}]}, image_bytes="STRING")
    assert arrays["image_bytes"].tolist() == [b"\x00\xff"] * 2


TYPE = "Type: Number is not of expected type: int64"


@pytest.mark.parametrize(
    ("body", "types", "text"),
    [
        (b"", {"x": "INT64"}, "JSON Parse error: The document is empty"),
        (b'{"instances": [1', {"x": "INT64"}, "JSON Parse error: "),
        (b"\xff\xfe{}", {"x": "INT64"}, "JSON Parse error: "),
        (b"[" * 100_000, {"x": "INT64"}, "JSON Parse error: "),
        (b'{"instances": [' + b"9" * 5000 + b"]}", {"x": "INT64"}, "JSON Parse error: "),
        ([1], {"x": "INT64"}, "Is not object"),
        ({}, {"x": "INT64"}, "Missing 'inputs' or 'instances' key"),
        (
            {"instances": [1], "inputs": [1]},
            {"x": "INT64"},
            "expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        ({"instances": 1}, {"x": "INT64"}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, {"x": "INT64"}, "No values in 'instances' array"),
        ({"instances": [1.0]}, {"x": "INT64"}, f"JSON Value: 1.0 {TYPE}"),
        (b'{"instances": [NaN]}', {"x": "INT64"}, f"JSON Value: NaN {TYPE}"),
        ({"instances": [1 << 63]}, {"x": "INT64"}, f"JSON Value: {1 << 63} {TYPE}"),
        ({"instances": [1 << 31]}, {"x": "INT32"}, "is not of expected type: int32"),
        ({"instances": [True]}, {"x": "INT32"}, "Type: True is not of expected type: int32"),
        ({"instances": ["7"]}, {"x": "FLOAT"}, 'JSON Value: "7" Type: String is not of expected type: float'),
        ({"instances": [None]}, {"x": "FLOAT"}, "JSON Value: null Type: Null is not of expected type: float"),
        (
            {"instances": [(1 << 24)]},
            {"x": "FLOAT"},
            "Cannot convert JSON value: 16777216 to float without loss of precision.",
        ),
        ({"instances": [1e39]}, {"x": "FLOAT"}, "to float without loss of precision."),
        ({"instances": [7]}, {"x": "STRING"}, "JSON Value: 7 Type: Number is not of expected type: string"),
        ({"instances": [{"b64": "*"}]}, {"x": "STRING"}, "Unable to base64 decode"),
        ({"inputs": [{"b65": "AA=="}]}, {"x": "STRING"}, "not formatted correctly for base64 data"),
        ({"instances": [0.5]}, {"x": "HALF"}, "Conversion of JSON Value: 0.5 to type: half"),
        (
            {"instances": [[1, 2], [3]]},
            {"x": "INT64"},
            "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
        ),
        ({"instances": [[[1], [2]], [[3, 4]]]}, {"x": "INT64"}, "Expecting shape [2,1] but got: [1,2]"),
        (
            {"instances": [[[1, 2], [3]]]},
            {"x": "INT64"},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ({"instances": [[1, [2]]]}, {"x": "INT64"}, "Encountered list at unexpected level: 1 expected < 1"),
        (
            {"instances": [[[1], 2]]},
            {"x": "INT64"},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ({"instances": [1]}, {"x": "INT64", "y": "INT64"}, "instances is a plain list, but expecting list of objects"),
        ({"instances": [{"x": 1}]}, {"x": "INT64", "y": "INT64"}, "keys must be equal to: x,y"),
        (
            {"instances": [{"x": 1, "z": 1}]},
            {"x": "INT64", "y": "INT64"},
            "element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named",
        ),
        ({"instances": [{"x": 1}, 1]}, {"x": "INT64"}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [1, {"x": 1}]}, {"x": "INT64"}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [1] * 65}, {"x": "INT64"}, "Task size 65 is larger than maximum input batch size 64"),
        ({"inputs": [1]}, {"x": "INT64", "y": "INT64"}, "inputs is a plain value/list, but expecting an object"),
        ({"inputs": {"x": [1]}}, {"x": "INT64", "y": "INT64"}, "Missing named input: y in 'inputs' object."),
        ({"inputs": json.loads("[" * 40 + "1" + "]" * 40)}, {"x": "INT64"}, "Encountered list at unexpected level"),
    ],
)
def test_a_bad_body_is_refused_with_tf_servings_text(body, types, text):
    with pytest.raises(ServingError) as raised:
        read(body, **types)
    assert raised.value.code == "INVALID_ARGUMENT"
    assert text in raised.value.message


def test_a_signature_name_must_be_a_string():
    assert json_tensors.signature_name({"signature_name": "decode"}) == "decode"
    assert json_tensors.signature_name({}) == ""
    with pytest.raises(ServingError, match="'signature_name' key must be a string value."):
        json_tensors.signature_name({"signature_name": 7})


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ServingError) as raised:
        read({"inputs": {"x": "a" * 100_000}}, x="INT64")
    assert len(raised.value.message) < 1500


def test_one_output_loses_its_name_and_several_keep_theirs():
    pixels = np.arange(4, dtype=np.uint8).reshape(2, 2)
    one = {"image": pixels}
    assert json.loads(json_tensors.from_arrays(one, as_rows=True)) == {"predictions": [[0, 1], [2, 3]]}
    assert json.loads(json_tensors.from_arrays(one, as_rows=False)) == {"outputs": [[0, 1], [2, 3]]}
    two = one | {"wide": np.array([1 << 60, -1])}
    rows = [{"image": [0, 1], "wide": 1 << 60}, {"image": [2, 3], "wide": -1}]
    assert json.loads(json_tensors.from_arrays(two, as_rows=True)) == {"predictions": rows}
    columns = {"image": [[0, 1], [2, 3]], "wide": [1 << 60, -1]}
    assert json.loads(json_tensors.from_arrays(two, as_rows=False)) == {"outputs": columns}


def test_bytes_go_out_as_base64_by_their_name_and_strings_as_text():
    value = np.array([b"\x89PNG", b"text"], object)
    rows = json.loads(json_tensors.from_arrays({"image_bytes": value, "text": value[::-1]}, as_rows=True))[
        "predictions"
    ]
    assert rows[0] == {"image_bytes": {"b64": "iVBORw=="}, "text": "text"}


def test_floats_are_read_back_exactly_and_infinities_stand_bare():
    values = np.array([0.1, 1 / 3, 3.0, 1e20, -2.5e-7, 1234567.0], np.float32)
    text = json_tensors.from_arrays({"y": values}, as_rows=True)
    np.testing.assert_array_equal(np.array(json.loads(text)["predictions"], np.float32), values)
    assert "0.1," in text
    assert "3.0," in text
    odd = np.array([np.nan, np.inf, -np.inf])
    assert json_tensors.from_arrays({"y": odd}, as_rows=False) == '{"outputs": [NaN, Infinity, -Infinity]}'
    assert json_tensors.from_arrays({"y": np.array([True, False])}, as_rows=False) == '{"outputs": [true, false]}'


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        ({"y": np.zeros(2), "z": np.zeros(3)}, "Tensor name: z has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(2, np.float16)}, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_an_output_without_a_json_form_is_an_error(outputs, text):
    with pytest.raises(ServingError) as raised:
        json_tensors.from_arrays({name: np.asarray(value) for name, value in outputs.items()}, as_rows=True)
    assert raised.value.message == text


def test_empty_dimensions_survive_the_way_out_and_in():
    text = json_tensors.from_arrays({"y": np.zeros([2, 0, 3])}, as_rows=False)
    assert json.loads(text) == {"outputs": [[], []]}
    arrays, _ = read({"inputs": [[], []]}, y="FLOAT")
    assert arrays["y"].shape == (2, 0)
