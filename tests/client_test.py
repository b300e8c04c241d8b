"""The client: what it asks of an endpoint, what it makes of the answers, over REST and gRPC, and how it fails."""

import concurrent.futures
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, FakeModel, png
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "serving"))

import client
import pictures
import transport

MODELS = {"gan": FakeModel(), "vae": FakeModel(vae=True), "faces": FakeModel(vae=True, num_classes=0, resolution=45)}


@pytest.fixture
def endpoint():
    with FakeEndpoint(MODELS) as fake:
        yield fake


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.01)


def run(endpoint, *arguments):
    """The command in this process: its exit code."""
    return client.main([arguments[0], f"--url={endpoint.url}", *map(str, arguments[1:])])


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture))


def test_sample_asks_for_each_seed_class_and_truncation_and_gives_the_pictures_as_they_came(endpoint):
    model = client.Model(endpoint.url, "gan")
    pngs = model.sample([7, 2**40 + 9], [3, 4], truncation=0.5)
    assert [tuple(pixels(p)[0, 0]) for p in pngs] == [(7, 60, 50), (9, 80, 50)]
    assert endpoint.predictions() == [
        {"signature_name": "sample", "inputs": {"seed": [7, 2**40 + 9], "truncation": [0.5, 0.5], "label": [3, 4]}}
    ]


def test_a_model_without_labels_is_asked_without_them(endpoint):
    assert pixels(client.Model(endpoint.url, "faces").sample([7])[0]).shape == (45, 45, 3)
    assert set(endpoint.predictions()[0]["inputs"]) == {"seed", "truncation"}
    with pytest.raises(transport.EndpointError, match="knows no classes"):
        client.Model(endpoint.url, "faces").sample([7], [0])
    with pytest.raises(transport.EndpointError, match="expected a label for each"):
        client.Model(endpoint.url, "gan").sample([7])


def test_no_request_has_more_rows_than_a_batching_server_takes(endpoint):
    pngs = client.Model(endpoint.url, "gan").sample(range(70), [0] * 70)
    assert [pixels(p)[0, 0, 0] for p in pngs] == list(range(70))
    assert [len(body["inputs"]["seed"]) for body in endpoint.predictions()] == [32, 32, 6]


def test_decode_encode_and_reconstruct(endpoint):
    model = client.Model(endpoint.url, "vae")
    images = model.decode(np.array([[0.0, 1.0] + [0.0] * 14, [2.0, -1.0] + [0.0] * 14]), [0, 1])
    assert images.dtype == np.uint8 and images[:, 0, 0].tolist() == [[128, 158, 255], [188, 98, 255]]
    mean, log_variance = model.encode(np.full((3, 32, 32, 3), 51, np.uint8))
    np.testing.assert_allclose(mean[:, :3], [[0.2, 0.2, 0.5]] * 3, rtol=1e-6)
    assert mean.shape == (3, 16) and np.all(log_variance == -1)
    negative = model.reconstruct(np.full((1, 32, 32, 3), 51, np.uint8), [0])[0]
    assert np.all(pixels(negative) == 204)
    with pytest.raises(
        transport.EndpointError, match="gan has no 'encode', which needs a model with an encoder.*. It has decode"
    ):
        client.Model(endpoint.url, "gan").encode(images)


def test_a_version_and_a_label_are_named_in_the_address(endpoint):
    client.Model(endpoint.url, "gan", version=3).status()
    with pytest.raises(transport.NotFound):
        client.Model(endpoint.url, "gan", version=4).status()
    client.Model(endpoint.url, "gan", version_label="stable").status()
    assert [path for path, _ in endpoint.requests] == [
        "/v1/models/gan/versions/3",
        "/v1/models/gan/versions/4",
        "/v1/models/gan/labels/stable",
    ]


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_endpoint_is_asked_again_a_limited_number_of_times(endpoint, code):
    endpoint.failures = [(code, "queue full")] * 2
    assert client.Model(endpoint.url, "gan", retries=2).sample([1], [0])
    endpoint.failures = [(code, "queue full")] * 9
    with pytest.raises(transport.Busy, match=rf"busy \({code}: queue full\); gave up after 3 tries"):
        client.Model(endpoint.url, "gan", retries=2).sample([1], [0])
    assert len(endpoint.failures) == 6


def test_other_refusals_are_not_tried_again_and_keep_the_server_s_words(endpoint):
    endpoint.failures = [(400, "JSON Parse error"), (400, "not reached")]
    with pytest.raises(transport.EndpointError, match=r"refused the request \(400: JSON Parse error\)"):
        client.Model(endpoint.url, "gan").sample([1], [0])
    assert len(endpoint.failures) == 1


def test_a_class_that_the_model_does_not_know_is_named(endpoint):
    for draw in (lambda m: m.sample([1, 2], [3, 12]), lambda m: m.decode(np.ones((2, 16)), [3, 12])):
        with pytest.raises(transport.EndpointError, match="gan refused picture 1 with class 12"):
            draw(client.Model(endpoint.url, "gan"))


@pytest.mark.parametrize("truncation", [0, -1, float("nan"), float("inf"), 1e-60])
def test_a_truncation_that_float32_cannot_draw_is_not_sent(endpoint, truncation):
    with pytest.raises(transport.EndpointError, match="expected a number above 0"):
        client.Model(endpoint.url, "gan").sample([1], [0], truncation)
    assert endpoint.predictions() == []


def test_wait_returns_when_a_version_is_available(endpoint):
    endpoint.versions = {2: "LOADING"}
    model = client.Model(endpoint.url, "gan")
    with pytest.raises(transport.EndpointError, match="not available after 0.1 s: version 2 is LOADING"):
        model.wait(0.1)
    threading.Timer(0.3, endpoint.versions.update, [{2: "AVAILABLE"}]).start()
    assert model.wait(30) == 2


# The command.


def test_sample_writes_a_sheet_or_a_folder_and_replaces_nothing_unasked(endpoint, tmp_path, capsys):
    arguments = ["sample", "--model=gan", "--seed=5", "--count=3", "--label=1,2", "--truncation=1"]
    assert run(endpoint, *arguments, f"--output={tmp_path}/sheet.png") == 0
    sheet = pixels(tmp_path / "sheet.png")
    assert sheet.shape == (2 * 34 - 2, 3 * 34 - 2, 3)  # one class a row, two white pixels between
    assert sheet[0, ::34].tolist() == [[5, 20, 100], [6, 20, 100], [7, 20, 100]]
    assert sheet[34, ::34].tolist() == [[5, 40, 100], [6, 40, 100], [7, 40, 100]]
    assert np.all(sheet[32:34] == 255)

    assert run(endpoint, *arguments, f"--output={tmp_path}/folder") == 0
    files = sorted(file.name for file in (tmp_path / "folder").iterdir())
    assert files == sorted(f"seed{s}_label{y}_truncation1.png" for s in (5, 6, 7) for y in (1, 2))
    expected = FakeModel().run("sample", {"seed": [6], "label": [2], "truncation": [1.0]})["image_bytes"][0]
    assert (tmp_path / "folder" / "seed6_label2_truncation1.png").read_bytes() == expected

    (tmp_path / "sheet.png").write_bytes(b"mine")
    capsys.readouterr()
    assert run(endpoint, *arguments, f"--output={tmp_path}/sheet.png") == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/sheet.png exists: give another --output, or --overwrite to replace it.\n"
    )
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"
    assert run(endpoint, *arguments, f"--output={tmp_path}/sheet.png", "--overwrite") == 0
    assert pixels(tmp_path / "sheet.png").shape == sheet.shape
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "sheet.png"]


def test_interpolate_draws_rows_that_go_on_where_the_one_above_ends(endpoint, tmp_path):
    assert run(endpoint, "interpolate", "--model=gan", "--rows=2", "--steps=3", f"--output={tmp_path}/a.png") == 0
    latents = np.array(endpoint.predictions()[0]["inputs"]["z"])
    np.testing.assert_allclose(latents[2], latents[3])
    for row, seed in ((0, 0), (2, 1), (5, 2)):
        np.testing.assert_allclose(latents[row], np.random.default_rng(seed).standard_normal(16), atol=1e-5)
    assert pixels(tmp_path / "a.png").shape == (66, 100, 3)


def test_interpolation_turns_at_even_angles_and_keeps_equal_ends():
    path = pictures.interpolate(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 4)
    np.testing.assert_allclose(path, [[np.cos(a), np.sin(a)] for a in np.radians([0, 30, 60, 90])], atol=1e-6)
    latent = np.array([0.3, -2.0])
    np.testing.assert_allclose(pictures.interpolate(latent, latent, 3), [latent] * 3, atol=1e-6)


def test_latents_are_those_of_a_truncated_normal():
    drawn = pictures.latents(range(40), 500, truncation=1.0)
    assert np.abs(drawn).max() <= 1.0
    # The variance of a standard normal cut at +-1: 1 - 2 phi(1) / (2 Phi(1) - 1).
    assert abs(drawn.var() - (1 - 2 * np.exp(-0.5) / np.sqrt(2 * np.pi) / 0.6826894921370859)) < 6e-3


def test_interpolate_between_two_pictures_starts_and_ends_at_their_encodings(endpoint, tmp_path):
    for name, value in (("a", 0), ("b", 255)):
        Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    between = ["--between", tmp_path / "a.png", tmp_path / "b.png"]
    assert run(endpoint, "interpolate", "--model=vae", "--steps=4", *between, f"--output={tmp_path}/way.png") == 0
    latents = endpoint.predictions()[-1]["inputs"]["z"]
    assert latents[0][0] == pytest.approx(0.0, abs=1e-6) and latents[3][0] == pytest.approx(1.0)


def test_interpolate_draws_the_same_way_for_every_class_that_is_given(endpoint, tmp_path):
    arguments = ["interpolate", "--model=gan", "--rows=2", "--steps=3", "--label=4,0,7"]
    assert run(endpoint, *arguments, f"--output={tmp_path}/a.png") == 0
    asked = endpoint.predictions()[0]["inputs"]
    assert asked["label"] == [4] * 6 + [0] * 6 + [7] * 6
    np.testing.assert_array_equal(asked["z"], asked["z"][:6] * 3)
    assert pixels(tmp_path / "a.png").shape == (6 * 34 - 2, 3 * 34 - 2, 3)
    assert run(endpoint, *arguments, f"--output={tmp_path}/files") == 0
    names = {f"row{row}_step{step}_label{label}.png" for row in (0, 1) for step in (0, 1, 2) for label in (4, 0, 7)}
    assert {file.name for file in (tmp_path / "files").iterdir()} == names

    (tmp_path / "b.png").write_bytes(png(np.full((32, 32, 3), 51, np.uint8)))
    between = ["--between", tmp_path / "b.png", tmp_path / "b.png", "--label=1,2", "--steps=2"]
    assert run(endpoint, "interpolate", "--model=vae", *between, f"--output={tmp_path}/way.png") == 0
    assert endpoint.predictions()[-1]["inputs"]["label"] == [1, 1, 2, 2]


def test_reconstruct_draws_a_row_for_every_class_that_is_given(endpoint, tmp_path):
    for name, value in (("a", 51), ("b", 102)):
        (tmp_path / f"{name}.png").write_bytes(png(np.full((32, 32, 3), value, np.uint8)))
    arguments = ["reconstruct", "--model=vae", tmp_path / "a.png", tmp_path / "b.png", "--label=3,5"]
    assert run(endpoint, *arguments, f"--output={tmp_path}/sheet.png") == 0
    asked = endpoint.predictions()[0]["inputs"]
    assert asked["label"] == [3, 3, 5, 5]
    assert [np.unique(image).tolist() for image in asked["image"]] == [[51], [102], [51], [102]]
    sheet = pixels(tmp_path / "sheet.png")  # the pictures, then a row of each class
    assert sheet[::34, ::34, 0].tolist() == [[51, 102], [204, 153], [204, 153]]
    assert run(endpoint, *arguments, f"--output={tmp_path}/files") == 0
    names = {f"{name}_label{label}_reconstruction.png" for name in ("0_a", "1_b") for label in (3, 5)}
    assert {file.name for file in (tmp_path / "files").iterdir()} == names


def test_a_picture_of_another_size_is_cropped_to_its_middle_and_resized_and_that_is_said(endpoint, tmp_path, capsys):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = 255  # the middle square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert run(endpoint, "reconstruct", "--model=vae", tmp_path / "wide.png", f"--output={tmp_path}/out.png") == 0
    assert "wide.png: 128 x 64 px, cropped to its middle and resized to 32 x 32." in capsys.readouterr().err
    assert np.all(np.array(endpoint.predictions()[0]["inputs"]["image"]) == 255)
    sheet = pixels(tmp_path / "out.png")
    assert sheet.shape == (66, 32, 3) and np.all(sheet[:32] == 255) and np.all(sheet[34:] == 0)


def test_encode_prints_the_latents_as_json(endpoint, tmp_path, capsys):
    (tmp_path / "grey.png").write_bytes(png(np.full((45, 45, 3), 51, np.uint8)))
    assert run(endpoint, "encode", "--model=faces", tmp_path / "grey.png") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["mean"][:3] == pytest.approx([0.2, 0.2, 0.5]) and row["log_variance"] == [-1.0] * 16


def test_status_and_wait_say_which_versions_there_are(endpoint, capsys):
    endpoint.versions = {2: "AVAILABLE", 10: "LOADING"}
    assert run(endpoint, "status", "--model=gan") == 0
    assert capsys.readouterr().out == "version 10: LOADING\nversion 2: AVAILABLE\n"
    assert run(endpoint, "wait", "--model=gan", "--version=10", "--wait_seconds=0.1") == 1
    assert run(endpoint, "wait", "--model=gan") == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["sample", "--model=half", "--output=X.png"], "no such model or version, or has not loaded it yet"),
        (["sample", "--model=gan", "--label=12", "--output=X.png"], "gan refused picture 0 with class 12"),
        (["sample", "--model=faces", "--label=1", "--output=X.png"], "faces knows no classes: leave --label out"),
        (["interpolate", "--model=faces", "--label=1,2", "--output=X.png"], "faces knows no classes: leave --label"),
        (["interpolate", "--model=gan", "--label=1,12", "--output=X.png"], "gan refused picture 32 with class 12"),
        (["reconstruct", "--model=vae", "/nowhere.png", "--output=X.png"], "/nowhere.png cannot be read as a picture"),
        (
            ["reconstruct", "--model=gan", "/nowhere.png", "--output=X.png"],
            "gan has no 'reconstruct', which needs a model with an",
        ),
        (["sample", "--model=gan", "--output=/proc/nowhere/a.png"], "expected a place that can be written to"),
        (["status", "--model=gan", "--version=1", "--version_label=a"], "expected one of them"),
        (["status", "--model=gan", "--url=localhost:8501"], "expected http://HOST:PORT for REST or grpc://HOST:PORT"),
    ],
)
def test_bad_input_ends_with_one_clear_line(endpoint, tmp_path, capsys, arguments, line):
    assert run(endpoint, *[argument.replace("=X", f"={tmp_path}/X") for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and line in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--truncation=0", "expected a number above 0"),
        ("--truncation=nan", "expected a number above 0"),
        ("--seed=-1", "expected a whole number, 0 or more"),
        ("--count=0", "expected a whole number, 1 or more"),
        ("--label=cat", "cat: expected a whole number"),
        ("--label=2147483648", "2147483648: expected a whole number, 2147483647 at most"),
        ("--seed=9223372036854775808", "9223372036854775808: expected a whole number, 9223372036854775807 at most"),
        ("--seed=9223372036854775800", "--count=16: the largest seed is 9223372036854775807"),
        ("--seed=1.7", "1.7: expected a whole number, 0 or more"),
        ("--output=gs://bucket/m", "gs://bucket/m: URLs are neither read nor written"),
        ("--output=~nobody-of-this-name/m", "that home folder is not known: expected the whole path"),
        ("--lable=1", "unrecognized arguments: --lable=1"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_anything_is_asked(endpoint, capsys, flag, line):
    with pytest.raises(SystemExit) as end:
        run(endpoint, "sample", "--model=gan", "--output=a.png", flag)
    assert end.value.code == 2 and line in capsys.readouterr().err
    assert endpoint.requests == []


def test_the_command_runs_by_itself_and_touches_neither_tfvae_nor_tensorflow(endpoint, tmp_path):
    code = (
        "import sys, client; code = client.main(sys.argv[1:]); bad = {'tfvae', 'tensorflow', 'grpc'} & set(sys.modules)"
    )
    arguments = ["sample", f"--url={endpoint.url}", "--model=gan", f"--output={tmp_path}/a.png"]
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit(str(bad) if bad else code)", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "serving")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    text = subprocess.run(
        [sys.executable, ROOT / "serving/client.py", "interpolate", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert all(flag in text for flag in ("--url", "--timeout_seconds", "in seconds", "--truncation", "--between"))


# gRPC, on the official stubs.


@pytest.fixture
def grpc_url():
    """The same fake models behind the official servicers."""
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name not in MODELS:
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
            if request.model_spec.version_label == "full":
                context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")
            inputs = {name: tf.make_ndarray(value).tolist() for name, value in request.inputs.items()}
            dtypes = {name: value.dtype for name, value in request.inputs.items()}
            assert all(dtypes[n] == t for n, t in {"seed": tf.int64, "truncation": tf.float32}.items() if n in dtypes)
            outputs = MODELS[request.model_spec.name].run(request.model_spec.signature_name, inputs)
            answer = predict_pb2.PredictResponse()
            for name, rows in outputs.items():
                rows = rows if name == "image_bytes" else np.asarray(rows, np.uint8 if name == "image" else np.float32)
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(rows))
            return answer

        def GetModelMetadata(self, request, context):
            definitions = get_model_metadata_pb2.SignatureDefMap()
            for name, (inputs, outputs) in MODELS[request.model_spec.name].signatures.items():
                for shapes, part in (
                    (inputs, definitions.signature_def[name].inputs),
                    (outputs, definitions.signature_def[name].outputs),
                ):
                    for key, shape in shapes.items():
                        for size in shape:
                            part[key].tensor_shape.dim.add(size=size)
            answer = get_model_metadata_pb2.GetModelMetadataResponse()
            answer.metadata["signature_def"].Pack(definitions)
            return answer

    class Models(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):
            answer = get_model_status_pb2.GetModelStatusResponse()
            answer.model_version_status.add(version=7, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
            return answer

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None)


def test_grpc_gives_what_rest_gives(endpoint, grpc_url):
    rest, grpc = client.Model(endpoint.url, "vae"), client.Model(grpc_url, "vae")
    assert grpc.status() == [(7, "AVAILABLE", "")]
    assert grpc.sample([1, 2], [3, 4], 0.5) == rest.sample([1, 2], [3, 4], 0.5)
    latents = pictures.latents(range(40), 16)
    np.testing.assert_array_equal(grpc.decode(latents, [0] * 40), rest.decode(latents, [0] * 40))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(grpc.encode(images), rest.encode(images), rtol=1e-6)
    assert grpc.reconstruct(images, [0, 1]) == rest.reconstruct(images, [0, 1])


def test_grpc_tells_busy_from_unknown(grpc_url):
    with pytest.raises(transport.Busy, match="busy .503: the queue is full.; gave up after 2 tries"):
        client.Model(grpc_url, "gan", version_label="full", retries=1).sample([1], [0])
    with pytest.raises(transport.EndpointError, match="gan refused picture 0 with class 12"):
        client.Model(grpc_url, "gan").sample([1], [12])


# The endpoint of the project itself, with real models.


def test_a_seed_gives_the_same_png_over_rest_and_grpc_alone_and_in_a_batch(gan, vae, tmp_path):
    from endpoint_toys import endpoint as stand_in
    from endpoint_toys import flags_of_models

    folders = {"gan": gan[0].parent, "vae": vae[0].parent}
    flags = flags_of_models(folders, tmp_path / "models.config")
    with stand_in(*flags) as running:
        running.wait_for_line("REST http")
        rest, grpc = client.Model(running.url, "gan"), client.Model(f"grpc://{running.address}", "gan")
        assert rest.wait() == grpc.wait() == 1
        seeds, labels = list(range(40)), [seed % 10 for seed in range(40)]
        pngs = rest.sample(seeds, labels, truncation=1.0)
        assert len(set(pngs)) == 40 and all(pixels(png).shape == (32, 32, 3) for png in pngs)
        assert pngs == grpc.sample(seeds, labels, truncation=1.0)
        assert [pngs[5], pngs[6], pngs[7]] == rest.sample([5, 6, 7], [5, 6, 7], truncation=1.0)
        assert pngs[39] == grpc.sample([39], [9], truncation=1.0)[0]
        latents = pictures.latents(range(5), rest.latent_dim)
        np.testing.assert_array_equal(rest.decode(latents, [0] * 5), grpc.decode(latents, [0] * 5))
        for model in (rest, grpc):
            with pytest.raises(transport.EndpointError, match="gan refused picture 1 with class 10"):
                model.sample([1, 2], [9, 10])
            with pytest.raises(transport.EndpointError, match="gan refused picture 0 with class 10"):
                model.decode(latents, [10] * 5)

        rest, grpc = client.Model(running.url, "vae"), client.Model(f"grpc://{running.address}", "vae")
        rest.wait()
        images = np.stack([pixels(png) for png in rest.sample([1, 2, 3])])
        np.testing.assert_array_equal(rest.encode(images), grpc.encode(images))
        assert rest.reconstruct(images) == grpc.reconstruct(images)
        drawn = rest.decode(rest.encode(images)[0])
        np.testing.assert_array_equal(drawn, [pixels(png) for png in rest.reconstruct(images)])
        with pytest.raises(transport.NotFound):
            client.Model(running.url, "half").sample([1])
