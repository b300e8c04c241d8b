"""A model in other tools: ONNX files, another TensorFlow's session, the model card."""

import builtins
import json
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from tfvae.command import UserError
from tfvae.publishing import card, elsewhere, onnx_file, publish, published, session, signatures, verification, writing


def pixels(network, latent, label=None):
    """The network's own pictures, by NumPy's rounding: float [N, R, R, 3]."""
    drawn = network(tf.constant(latent), None if label is None else tf.constant(label)).numpy()
    return np.clip(np.round((drawn + 1.0) * 127.5), 0, 255)


@pytest.fixture(scope="module")
def runtime():
    """A function: makes of a file a function of named arrays, its outputs by ONNX Runtime, by name."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")

    def load(file):
        loaded = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [output.name for output in loaded.get_outputs()]

        def call(**inputs):
            assert list(inputs) == [one.name for one in loaded.get_inputs()]
            return dict(zip(names, loaded.run(names, inputs)))

        return call

    return load


# ONNX


@pytest.mark.parametrize("layout", onnx_file.LAYOUTS)
def test_decode_of_onnx_runtime_is_that_of_the_model_in_memory_for_any_number_of_rows(layout, gan, runtime, tmp_path):
    _, settings, model = gan
    onnx_file.write(tmp_path / "gan.onnx", "decode", signatures.of_model(settings, model), layout)
    call, draw = runtime(tmp_path / "gan.onnx"), np.random.default_rng(0)
    for rows in (1, 2, 7):
        latent, label = draw.standard_normal((rows, 16)).astype(np.float32), (np.arange(rows) * 3 % 10).astype(np.int32)
        # PyTorch's labels are int64.
        drawn = call(z=latent, label=label if layout == "nhwc" else label.astype(np.int64))["image"]
        assert drawn.dtype == np.uint8 and drawn.shape == ((rows, 32, 32, 3) if layout == "nhwc" else (rows, 3, 32, 32))
        drawn = drawn if layout == "nhwc" else drawn.transpose(0, 2, 3, 1)
        assert np.abs(drawn - pixels(model.ema_generator, latent, label)).max() <= 1

    def darker(z, label):
        return {"image": tf.zeros([1, *drawn.shape[1:]], tf.uint8)}

    function, inputs = signatures.of_model(settings, model)["decode"]
    if layout == "nhwc":
        with pytest.raises(ValueError, match="image differs by .*, expected 1 or less"):
            onnx_file.check((tmp_path / "gan.onnx").read_bytes(), darker, inputs, 1)


def test_encode_of_onnx_runtime_is_that_of_the_model_in_memory(vae, runtime, tmp_path):
    _, settings, model = vae
    onnx_file.write(tmp_path / "encoder.onnx", "encode", signatures.of_model(settings, model))
    image = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    encoded = runtime(tmp_path / "encoder.onnx")(image=image)
    output = model.ema_discriminator(image / np.float32(127.5) - 1).numpy()
    np.testing.assert_allclose(encoded["mean"], output[:, :16], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(encoded["log_variance"], output[:, 16:], rtol=1e-4, atol=1e-4)


def test_a_run_in_bfloat16_becomes_an_onnx_file_in_float32_and_none_is_overwritten(
    make_model, vae, runtime, save_run, run_command, tmp_path
):
    folder = save_run(tmp_path / "run", *make_model("vae", precision="mixed_bfloat16"))
    file = tmp_path / "new" / "vae.onnx"
    arguments = [f"--model_dir={folder}", f"--onnx={file}"]
    assert run_command("export", *arguments).startswith(f"{file}  (decode, nhwc; ")
    latent = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    # The same weights in float32.
    assert np.abs(runtime(file)(z=latent)["image"] - pixels(vae[2].ema_generator, latent)).max() <= 1
    assert [path.name for path in file.parent.iterdir()] == ["vae.onnx"]
    with pytest.raises(UserError, match="vae.onnx exists: give another --onnx, or --overwrite to replace it"):
        run_command("export", *arguments)


def test_what_cannot_be_converted_is_one_line_and_nothing_is_written(tmp_path, monkeypatch):
    def fails(function, inputs):
        raise RuntimeError("unknown operation\nNoSuch")

    monkeypatch.setattr(onnx_file, "converted", fails)
    functions = {"decode": (None, [])}
    with pytest.raises(
        UserError, match="^nothing was written, decode cannot be converted to ONNX .unknown operation NoSuch"
    ):
        onnx_file.write(tmp_path / "gan.onnx", "decode", functions)
    with pytest.raises(UserError, match="^--onnx_signature=encode: the model has no encoder. Expected decode"):
        onnx_file.write(tmp_path / "gan.onnx", "encode", functions)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    plain = builtins.__import__

    def without(name, *arguments, **named):
        if name == "tf2onnx":
            raise ImportError(f"No module named '{name}'")
        return plain(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'--onnx needs more packages .*tf2onnx.*pip install "tfvae\[onnx\]"'):
        onnx_file.require_packages()


# Another TensorFlow


def test_a_version_run_by_another_python_answers_as_here(gan, run_command):
    output = run_command("export", f"--saved_model={gan[0].parent}", f"--check_with={sys.executable}")
    names = ("serving_default", "sample", "decode")
    lines = [f"  {name:<16} the same" for name in names]
    assert output.splitlines() == [f"TensorFlow {tf.__version__} answers as {tf.__version__} does:", *lines]


def test_other_answers_of_another_tensorflow_are_measured_or_an_error(tmp_path, monkeypatch):
    mean, image = np.float32([[0.5, 1]]), np.full([1, 2, 2, 3], 7, np.uint8)
    png = np.array([tf.io.encode_png(image[0]).numpy()], object)
    answers = [("sample", {"image_bytes": png}), ("encode", {"mean": mean}), ("decode", {"image": image})]
    monkeypatch.setattr(verification, "read_warmup", lambda file: [(name, {}) for name, _ in answers])
    monkeypatch.setattr(session, "answers", lambda folder, requests: [answer for _, answer in answers])
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\ncat >/dev/null\ncp "{tmp_path / "answers.npz"}" "$3"\n')
    program.chmod(0o755)

    def answers_there(levels):
        there = [
            *answers[:1],
            ("encode", {"mean": mean + np.float32(5e-4)}),
            ("decode", {"image": image + np.uint8(levels)}),
        ]
        np.savez(tmp_path / "answers.npz", tensorflow="9.9.0", **session.packed(there))
        return elsewhere.check(tmp_path, str(program), "float32")

    expected = {"sample": "the same", "encode": "within 0.0005", "decode": "within 1 level of 255"}
    assert answers_there(1) == ("9.9.0", expected)
    with pytest.raises(
        UserError, match="TensorFlow 9.9.0 of --check_with=.*/python answers decode otherwise than .*image differs"
    ):
        answers_there(2)


def test_a_version_that_another_check_refuses_is_not_published(gan, tmp_path, monkeypatch):
    def refuse(folder):
        assert (folder / "saved_model.pb").exists()
        raise UserError("it answers otherwise")

    monkeypatch.setattr(writing, "write", lambda folder, *_: (folder / "saved_model.pb").touch())
    monkeypatch.setattr(verification, "verify", lambda *_: None)
    with pytest.raises(UserError, match="^it answers otherwise"):
        publish.publish(tmp_path / "gan" / "1", gan[1], {"class_names": []}, gan[2], check=refuse)
    assert not list((tmp_path / "gan").iterdir())


def test_a_python_that_does_not_run_a_version_is_named_with_what_it_said(gan, tmp_path):
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\necho Traceback >&2\necho \"ModuleNotFoundError: No module named 'tensorflow'\" >&2\nexit 1\n"
    )
    program.chmod(0o755)
    with pytest.raises(
        UserError, match="was not run there .ModuleNotFoundError: No module named 'tensorflow'.: expected"
    ):
        elsewhere.check(gan[0], str(program), "float32")


# The model card


def test_a_version_has_a_card_with_its_facts_and_its_samples(gan, vae):
    text = (gan[0] / "README.md").read_text()
    front, body = text.removeprefix("---\n").split("\n---\n")
    assert yaml.safe_load(front) == {
        "license": "unknown",
        "library_name": "tfvae",
        "tags": ["image-generation", "tensorflow", "saved-model", "gan"],
    }
    assert "# gan\n" in body and "56 real images entered the discriminator" in body and "9 class 9" in body
    assert "| `decode` | `z` float32 [B, 16], `label` int32 [B] | `image` uint8 [B, 32, 32, 3] |" in body
    assert "was not scored" in body and "which nobody has set yet" in body
    request = json.loads(re.search(r"curl .*gan:predict -d '(.*)'", body)[1])
    assert request == {"instances": [{"seed": 7, "truncation": 1.0, "label": 3}]}
    assert len([line for line in body.splitlines() if line.startswith("| `")]) == 2
    # Row 1 begins with seed 8, of class 8.
    sheet = np.asarray(Image.open(gan[0] / "samples.png")).astype(int)
    served = published.load(gan[0]).sample(np.int64([8]), np.float32([np.inf]), np.int32([8]))
    assert np.abs(sheet[34:66, :32] - tf.io.decode_png(served[0]).numpy()).max() <= 1

    front = yaml.safe_load((vae[0] / "README.md").read_text().removeprefix("---\n").split("\n---\n")[0])
    assert front["pipeline_tag"] == "unconditional-image-generation" and front["tags"][-1] == "vae"


def test_the_python_line_of_a_card_runs(gan, monkeypatch):
    line = re.search("```python\n(.*)\n```", (gan[0] / "README.md").read_text())[1]
    names = {}
    exec(line.replace("THIS_FOLDER", str(gan[0])), names)
    assert names["pictures"].shape == (1, 32, 32, 3)


def test_a_card_shows_scores_with_their_protocol_and_a_licence_that_was_given(gan):
    about = json.loads((gan[0] / published.FACTS).read_text())
    functions = signatures.of_model(*gan[1:])
    scores = {
        "num_images": 5000,
        "seeds": [0, 1],
        "scores": {"precision": {"mean": 0.5, "std": 0.01}},
        "undefined": {},
        "reference": {"images": 5000, "dataset": "shapes", "split": "train"},
        "protocol": {"extractor": {"name": "classifier", "checksum": "0123456789abcdef", "preparation": "as they are"}},
    }
    text = card.text(about | {"scores": scores, "license": "cc0-1.0"}, functions)
    assert (
        "5,000 images against 5,000 of shapes train, by classifier (SHA-256 0123456789ab; images: as they are)" in text
    )
    assert re.search(r"  precision +0.5 ± 0.01 ", text)
    assert text.startswith("---\nlicense: cc0-1.0\n") and "`license` at the top of this file, cc0-1.0." in text
    assert "They are in `assets.extra/tfvae.json`." in card.text(about | {"scores": {"scores": {}}}, functions)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model_dir=X"], "--export_dir is missing: expected a folder, such as published/cifar10_vae"),
        (
            ["--model_dir=X", "--onnx=F", "--onnx_signature=sample"],
            "expected decode or encode. sample and reconstruct write",
        ),
        (["--model_dir=X", "--onnx=F", "--onnx_signature=all"], "--onnx_signature=all: expected decode or encode"),
        (["--model_dir=X", "--onnx=F", "--check_with=sh"], "--check_with: expected with --export_dir alone"),
        (["--model_dir=X", "--export_dir=D", "--onnx_layout=nchw"], "--onnx_layout: expected with --onnx alone"),
        (["--model_dir=X", "--export_dir=D", "--license=my own"], "--license=my own: expected one of Hugging Face's"),
        (
            ["--model_dir=X", "--export_dir=D", "--check_with=/no/python"],
            "--check_with=/no/python cannot be run: expected",
        ),
        (["--saved_model=V", "--onnx=F"], "--onnx: expected without --saved_model"),
        (["--saved_model=V"], "--check_with is missing: expected the Python that --saved_model is to be run in"),
        (["--saved_model=/nowhere", "--check_with=sh"], "/nowhere is not a folder: expected a published version"),
    ],
)
def test_what_export_cannot_do_is_one_line(arguments, line, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        run_command("export", *arguments)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
