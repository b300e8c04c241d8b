"""The endpoint as clients see it: REST, and gRPC by the official stubs. Status codes are TF Serving's."""

import base64
import gzip
import json
import shutil

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from endpoint_toys import endpoint, rows, sample, saved, write_config
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One endpoint for all: `toy` has version 1, `pinned` has 1, labelled stable, and 2."""
    folder = tmp_path_factory.mktemp("models")
    for name, version in (("toy", 1), ("pinned", 1), ("pinned", 2)):
        shutil.copytree(saved(version), folder / name / str(version))
    config = write_config(folder, ["toy", "pinned"])
    flags = [f"--max_body_bytes={MOST_BYTES}", "--rest_api_enable_cors_support", f"--model_config_file={config}"]
    (folder / "batching.txt").write_text("max_batch_size { value: 64 }")
    with endpoint(*flags, f"--batching_parameters_file={folder / 'batching.txt'}") as running:
        running.wait_for_line("pinned version 1: AVAILABLE")
        yield running


@pytest.fixture
def predict(server):
    """A function: the official stub's Predict, from a PredictRequest built by hand."""
    with grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call(model="toy", signature="", version=None, version_label=None, output_filter=(), **arrays):
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = model, signature
            if version is not None:
                request.model_spec.version.value = version
            if version_label is not None:
                request.model_spec.version_label = version_label
            request.output_filter.extend(output_filter)
            for name, array in arrays.items():
                request.inputs[name].CopyFrom(
                    array if isinstance(array, tensor_pb2.TensorProto) else tf.make_tensor_proto(array)
                )
            return stub.Predict(request, timeout=60)

        yield call


def test_it_prints_addresses_and_versions_and_names_itself_a_stand_in(server):
    assert server.lines[:2] == [
        f"REST http://127.0.0.1:{server.rest_port}/v1/models/toy",
        f"gRPC 127.0.0.1:{server.port}",
    ]
    loaded = ["pinned version 1: AVAILABLE", "pinned version 2: AVAILABLE", "toy version 1: AVAILABLE"]
    assert sorted(server.lines[2:]) == loaded
    assert server.get("/v1/models/toy").headers["Server"] == "stand-in for TF Serving"


def test_rows_and_columns_give_the_same_bytes_as_base64(server):
    by_rows = server.post("toy:predict", json=rows(7, 8))
    assert by_rows.status_code == 200
    assert by_rows.headers["Content-Type"].split(";")[0] == "application/json"
    columns = server.post("toy:predict", json={"inputs": {"seed": [7, 8], "label": [3, 3]}}).json()
    expected = [{"b64": base64.b64encode(sample(seed, 3)).decode()} for seed in (7, 8)]
    assert by_rows.json() == {"predictions": expected}
    assert columns == {"outputs": expected}
    assert server.post("toy:predict", json=rows(7, 8) | {"signature_name": ""}).json() == by_rows.json()


def test_other_signatures_several_outputs_and_plain_values(server):
    z = [[1, 0, 0, 0], [0, 2, 0, 0]]
    image = server.post("toy:predict", json={"signature_name": "decode", "instances": z}).json()["predictions"]
    assert image[0] == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert image[1][0][0] == [24, 26, 28]
    moments = server.post("toy:predict", json={"signature_name": "moments", "instances": image}).json()["predictions"]
    assert moments[0] == {"mean": [4.5, 5.5, 6.5], "largest": 11}
    word = {"b64": base64.b64encode(b"abc").decode()}
    upper = server.post("toy:predict", json={"signature_name": "upper", "inputs": [word, "d"]}).json()
    assert upper == {"outputs": ["ABC", "D"]}


def test_a_gzip_body_is_unpacked(server):
    body = gzip.compress(json.dumps(rows(1)).encode())
    answer = server.post("toy:predict", data=body, headers={"Content-Encoding": "gzip"})
    assert answer.json() == server.post("toy:predict", json=rows(1)).json()


def test_versions_and_labels_are_chosen_in_the_path(server):
    for path, version in (
        ("pinned", 2),
        ("pinned/versions/1", 1),
        ("pinned/labels/stable", 1),
        ("pinned/versions/2", 2),
    ):
        answer = server.post(f"{path}:predict", json=rows(5)).json()
        assert base64.b64decode(answer["predictions"][0]["b64"]) == sample(5, 3, version)
        assert server.get(f"/v1/models/{path}/metadata").json()["model_spec"]["version"] == str(version)
    assert server.states("pinned") == {1: "AVAILABLE", 2: "AVAILABLE"}
    one = server.get("/v1/models/pinned/versions/1").json()["model_version_status"]
    assert one == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]


def test_metadata_tells_the_signatures(server):
    signatures = server.get("/v1/models/toy/metadata").json()["metadata"]["signature_def"]["signature_def"]
    seed = signatures["serving_default"]["inputs"]["seed"]
    assert (seed["dtype"], [dim["size"] for dim in seed["tensor_shape"]["dim"]]) == ("DT_INT64", ["-1"])
    assert signatures["moments"]["method_name"] == "tensorflow/serving/predict"


def bad(path="toy:predict", method="POST", status=400, text="", **arguments):
    return method, path, status, text, arguments


def columns(signature, value):
    return {"signature_name": signature, "inputs": value}


@pytest.mark.parametrize(
    ("method", "path", "status", "text", "arguments"),
    [
        bad("none:predict", status=404, text="model none has no such version", json=rows(1)),
        bad("toy/versions/9:predict", status=404, text="model toy has no such version", json=rows(1)),
        bad("toy/versions/99999999999999999999:predict", text="Malformed request", json=rows(1)),
        bad("pinned/labels/new:predict", text="model pinned has no version label 'new'", json=rows(1)),
        bad(text="no signature 'x': expected one of decode, half, moments", json=rows(1) | {"signature_name": "x"}),
        bad(text="no signature '[7]'", json=rows(1) | {"signature_name": [7]}),
        bad(text="exactly the inputs label, seed", json={"instances": [{"seed": 1}]}),
        bad(text="exactly the inputs label, seed", json={"instances": [{"seed": 1, "label": 1, "colour": 1}]}),
        bad(text="an object with the inputs label, seed", json={"inputs": {"seed": [1]}}),
        bad(text="input seed: expected values of int64, found 1.5", json=rows(1.5)),
        bad(text="the body is no JSON object: ", data=b'{"instances": [{'),
        bad(text="the body is no JSON object: ", data=b""),
        bad(text="the body is no JSON object: ", data=b"[1]"),
        bad(text="the body is no JSON object: ", data=b"\xff\xfe{}"),
        bad(text="the body is no JSON object: ", data=b"[" * 100_000),
        bad(text="the body is no JSON object: ", data=b'{"instances": [' + b"9" * 5000 + b"]}"),
        bad(text="the body cannot be read", data=b"not gzip", headers={"Content-Encoding": "gzip"}),
        bad(text="input word: a value is no string", json=columns("upper", [{"b64": "?"}])),
        bad(
            text="at most 64 rows per request, found 10000",
            json={"inputs": {"seed": [0] * 10_000, "label": [0] * 10_000}},
        ),
        bad(text="equal 0th-dimension size", json={"inputs": {"seed": [1, 2], "label": [1]}}),
        bad(text="input label: expected int32 (None,), found int32 ()", json={"inputs": {"seed": 1, "label": 1}}),
        bad(
            text="input z: expected float32 (None, 4), found float32 (1, 5)", json=columns("decode", [[1, 2, 3, 4, 5]])
        ),
        bad(text="indices[0] = 99 is not in [0, 12)", json=columns("pick", [99])),
        bad(text="output half is float16, which has no form in JSON", json=columns("half", [[1, 2, 3, 4]])),
        bad(text="Batched output tensor has 0 dimensions", json=columns("scalar", [[1, 2, 3, 4]])),
        bad(status=413, text=f"{MOST_BYTES} exceeded", data=b" " * (MOST_BYTES + 1)),
        bad(
            status=413,
            text=f"{MOST_BYTES} exceeded",
            data=gzip.compress(b" " * 100 * MOST_BYTES),
            headers={"Content-Encoding": "gzip"},
        ),
        bad("toy:classify", text="Malformed request: POST /v1/models/toy:classify", json={}),
        bad("toy", "PUT", text="Malformed request: PUT /v1/models/toy"),
        bad("toy/", "GET", text="Malformed request: GET /v1/models/toy/"),
        bad("none", "GET", status=404, text="model none has no such version"),
        bad("toy/versions/9", "GET", status=404, text="model toy has no such version"),
        bad("none/metadata", "GET", status=404, text="model none has no such version"),
    ],
)
def test_a_bad_rest_request_gets_tf_servings_status_and_a_short_reason(server, method, path, status, text, arguments):
    prepared = requests.Request(method, "http://host/", **arguments).prepare()
    prepared.url = f"{server.url}/v1/models/{path}"
    answer = requests.Session().send(prepared, timeout=60)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert text in answer.json()["error"]
    assert len(answer.json()["error"]) < 300 and "\n" not in answer.json()["error"]
    assert server.post("toy:predict", json=rows(1)).status_code == 200


def test_paths_without_a_model_are_told_so(server):
    for path in ("/v1/models", "/v1/nothing", "/elsewhere"):
        answer = server.get(path)
        assert (answer.status_code, answer.json()) == (400, {"error": f"Malformed request: GET {path}"})


def test_pages_from_elsewhere_may_ask(server):
    before = requests.options(f"{server.url}/v1/models/toy:predict", timeout=60)
    assert (before.status_code, before.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert before.headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert "POST" in before.headers["Access-Control-Allow-Methods"]
    for answer in (server.post("toy:predict", json=rows(1)), server.post("toy:predict", data=b"{")):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_the_official_stubs_predict(predict):
    seeds, labels = np.array([4, 5, 6], np.int64), np.array([1, 2, 3], np.int32)
    response = predict(seed=seeds, label=labels)
    assert list(response.outputs["image_bytes"].string_val) == [sample(4, 1), sample(5, 2), sample(6, 3)]
    assert (response.model_spec.name, response.model_spec.version.value) == ("toy", 1)
    assert response.model_spec.signature_name == "serving_default"
    for chosen, version in (({"version": 2}, 2), ({"version_label": "stable"}, 1), ({}, 2)):
        response = predict("pinned", **chosen, seed=seeds, label=labels)
        assert response.outputs["image_bytes"].string_val[0] == sample(4, 1, version)
        assert response.model_spec.version.value == version


def test_grpc_answers_hold_typed_fields_as_clients_read_them(predict):
    z = np.eye(4, dtype=np.float32)[:1]
    image = predict(signature="decode", z=z).outputs["image"]
    assert list(image.int_val) == list(range(12))
    assert [dim.size for dim in image.tensor_shape.dim] == [1, 2, 2, 3]
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert list(predict(signature="moments", image=image).outputs["mean"].float_val) == [4.5, 5.5, 6.5]
    half = predict(signature="half", z=z).outputs["half"]
    np.testing.assert_array_equal(tf.make_ndarray(half), z.astype(np.float16))


def test_a_grpc_message_beyond_the_limit_is_refused(predict):
    with pytest.raises(grpc.RpcError) as raised:
        predict(signature="upper", word=np.array([b"a" * (MOST_BYTES + 1)], object))
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


ONE = np.array([1], np.int64)
Z = np.zeros([1, 4], np.float32)
HUGE = tf.make_tensor_proto(ONE)
HUGE.tensor_shape.dim[0].size = 1 << 40


@pytest.mark.parametrize(
    ("code", "text", "arguments"),
    [
        ("NOT_FOUND", "model none has no such version", dict(model="none", seed=ONE)),
        ("NOT_FOUND", "model toy has no such version", dict(version=9, seed=ONE)),
        ("INVALID_ARGUMENT", "the model's name is missing", dict(model="", seed=ONE)),
        ("INVALID_ARGUMENT", "model toy has no version label 'new'", dict(version_label="new", seed=ONE)),
        ("FAILED_PRECONDITION", "no signature 'x'", dict(signature="x", seed=ONE)),
        ("INVALID_ARGUMENT", "expected exactly the inputs label, seed, found seed", dict(seed=ONE)),
        ("INVALID_ARGUMENT", "expected exactly the inputs label, seed, found none", dict()),
        ("INVALID_ARGUMENT", "inputs z, found colour, z", dict(signature="decode", z=Z, colour=ONE)),
        ("INVALID_ARGUMENT", "inputs z, found w", dict(signature="decode", w=Z)),
        (
            "INVALID_ARGUMENT",
            "input z: expected float32 (None, 4), found float64 (1, 4)",
            dict(signature="decode", z=np.zeros([1, 4])),
        ),
        ("INVALID_ARGUMENT", "input word cannot be read as a tensor", dict(signature="upper", word=HUGE)),
        (
            "INVALID_ARGUMENT",
            "at most 64 rows per request, found 65",
            dict(signature="decode", z=np.zeros([65, 4], np.float32)),
        ),
        ("UNIMPLEMENTED", "has no output_filter", dict(signature="decode", z=Z, output_filter=["image"])),
        (
            "INVALID_ARGUMENT",
            "indices[0] = 99 is not in [0, 12)",
            dict(signature="pick", index=np.array([99], np.int32)),
        ),
    ],
)
def test_a_bad_grpc_request_gets_tf_servings_code_and_a_short_reason(predict, code, text, arguments):
    with pytest.raises(grpc.RpcError) as raised:
        predict(**arguments)
    assert raised.value.code().name == code
    assert text in raised.value.details()
    assert predict(signature="decode", z=Z).outputs


def test_the_official_stubs_read_status_and_metadata(server):
    with grpc.insecure_channel(server.address) as channel:
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "pinned"
        versions = {version.version: version for version in status(request, timeout=60).model_version_status}
        assert set(versions) == {1, 2}
        assert versions[1].state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
        for spec, code in (({}, "INVALID_ARGUMENT"), ({"name": "none"}, "NOT_FOUND")):
            with pytest.raises(grpc.RpcError) as raised:
                status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec), timeout=60)
            assert raised.value.code().name == code

        metadata = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "toy"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        metadata(request, timeout=60).metadata["signature_def"].Unpack(signatures)
        assert set(signatures.signature_def["serving_default"].inputs) == {"seed", "label"}
        for fields in (["other"], []):
            request.metadata_field[:] = fields
            with pytest.raises(grpc.RpcError) as raised:
                metadata(request, timeout=60)
            assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
