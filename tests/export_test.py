"""Published versions: what they answer in a session, as TF Serving runs them, and how they come and go."""

import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfvae.command import UserError, literal
from tfvae.drawing import prior
from tfvae.publishing import publish, session, signatures, verification, versions, writing
from tfvae.training import run

ROOT = Path(__file__).resolve().parent.parent


class Server:
    """A version in a session, as TF Serving's loader makes it."""

    def __init__(self, folder):
        graph = tf.Graph()
        with graph.as_default():
            self.session = tf.compat.v1.Session(graph=graph)
            self.meta_graph = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(folder))

    def call(self, signature, **inputs):
        definition = self.meta_graph.signature_def[signature]
        assert inputs.keys() == definition.inputs.keys()
        feed = {definition.inputs[name].name: value for name, value in inputs.items()}
        return self.session.run({name: tensor.name for name, tensor in definition.outputs.items()}, feed)

    def sample(self, seed, label=3, truncation=2.0):
        """PNGs of the GAN with labels."""
        inputs = {"seed": np.asarray(seed, np.int64)}
        inputs["label"] = np.broadcast_to(np.asarray(label, np.int32), len(seed))
        inputs["truncation"] = np.broadcast_to(np.asarray(truncation, np.float32), len(seed))
        return list(self.call("sample", **inputs)["image_bytes"])


@pytest.fixture(scope="session")
def gan_server(gan):
    return Server(gan[0])


@pytest.fixture(scope="session")
def vae_server(vae):
    return Server(vae[0])


def pixels(network, latent, label=None):
    """The network's own pictures, by NumPy's rounding: float [N, R, R, 3]."""
    drawn = network(tf.constant(latent, tf.float32), None if label is None else tf.constant(label)).numpy()
    return np.clip(np.round((drawn + 1.0) * 127.5), 0, 255)


def decoded(pngs):
    return np.stack([tf.io.decode_png(png).numpy() for png in pngs]).astype(float)


def interface(server):
    """{signature: ({input: (dtype, shape)}, {output: dtype})}, batch size -1."""
    definitions = {name: d for name, d in server.meta_graph.signature_def.items() if not name.startswith("__")}
    return {
        name: (
            {k: (tf.as_dtype(v.dtype).name, [s.size for s in v.tensor_shape.dim]) for k, v in d.inputs.items()},
            {k: tf.as_dtype(v.dtype).name for k, v in d.outputs.items()},
        )
        for name, d in definitions.items()
    }


def test_the_signatures_are_the_agreed_ones(gan_server, vae_server):
    rows = {"seed": ("int64", [-1]), "truncation": ("float32", [-1])}
    label, z, image = ("int32", [-1]), ("float32", [-1, 16]), ("uint8", [-1, 32, 32, 3])
    sample = (rows | {"label": label}, {"image_bytes": "string"})
    assert interface(gan_server) == {
        "sample": sample,
        "serving_default": sample,
        "decode": ({"z": z, "label": label}, {"image": "uint8"}),
    }
    assert interface(vae_server) == {
        "sample": (rows, {"image_bytes": "string"}),
        "serving_default": (rows, {"image_bytes": "string"}),
        "decode": ({"z": z}, {"image": "uint8"}),
        "encode": ({"image": image}, {"mean": "float32", "log_variance": "float32"}),
        "reconstruct": ({"image": image}, {"image_bytes": "string"}),
    }


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_a_version_of_an_older_tfvae_is_served_with_the_same_signatures(name, format_0, gan_server, vae_server):
    server = Server(format_0 / "published" / name / "1")
    new = interface({"gan": gan_server, "vae": vae_server}[name])
    # But for the label, which depends on the data.
    names = {s: (set(inputs) - {"label"}, outputs) for s, (inputs, outputs) in interface(server).items()}
    assert names == {s: (set(inputs) - {"label"}, outputs) for s, (inputs, outputs) in new.items()}
    inputs = {"seed": np.int64([1, 2]), "truncation": np.float32([1, 1])}
    if "label" in interface(server)["sample"][0]:
        inputs["label"] = np.int32([0, 1])
    assert decoded(server.call("sample", **inputs)["image_bytes"]).shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("name", "signature"),
    [("gan", "serving_default"), ("gan", "sample"), ("gan", "decode"), ("vae", "encode"), ("vae", "reconstruct")],
)
def test_every_signature_is_an_endpoint_of_one_dict_that_keras_calls(name, signature, gan, vae, gan_server, vae_server):
    folder, server = {"gan": (gan[0], gan_server), "vae": (vae[0], vae_server)}[name]
    specs = [
        tf.TensorSpec([None, *shape[1:]], dtype, name)
        for name, (dtype, shape) in interface(server)[signature][0].items()
    ]
    inputs = {spec.name: writing.example(spec, 3, 10) for spec in specs}
    answer = keras.layers.TFSMLayer(str(folder), call_endpoint=signature)(inputs)
    expected = server.call(signature, **inputs)
    assert answer.keys() == expected.keys()
    for key, value in expected.items():
        if value.dtype == object:
            assert list(answer[key].numpy()) == list(value)
        else:
            np.testing.assert_allclose(
                answer[key].numpy().astype(float), value, atol=1e-5 if value.dtype == "f4" else 1
            )


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_decode_and_encode_run_the_batch_as_it_is_without_a_loop(name, gan_server, vae_server):
    graph = {"gan": gan_server, "vae": vae_server}[name].meta_graph.graph_def
    functions = {function.signature.name: function for function in graph.library.function}

    def operations(nodes):
        for node in nodes:
            yield node.op
            for value in node.attr.values():
                for called in (value.func.name, *(function.name for function in value.list.func)):
                    yield from operations(functions[called].node_def) if called in functions else ()

    definitions = {"gan": gan_server, "vae": vae_server}[name].meta_graph.signature_def
    nodes = {node.name: node for node in graph.node}
    for signature in {"sample", "decode", "encode", "reconstruct"} & set(definitions):
        called = {tensor.name.split(":")[0] for tensor in definitions[signature].outputs.values()}
        found = set(operations([nodes[name] for name in called]))
        # LiteRT has neither a padding of uint8 nor TensorFlow's lists.
        loops = {"While", "StatelessWhile", "TensorListReserve", "Pad", "PadV2"} & found
        assert "Conv2D" in found and bool(loops) == (signature in ("sample", "reconstruct")), (signature, loops)


def test_what_the_size_of_a_batch_changes_is_what_a_version_says(vae, vae_server):
    draw = np.random.default_rng(5)
    latent = draw.standard_normal((33, 16)).astype(np.float32)
    image = draw.integers(0, 256, (33, 32, 32, 3)).astype(np.uint8)
    drawn = vae_server.call("decode", z=latent)["image"].astype(int)
    encoded = vae_server.call("encode", image=image)
    rebuilt = list(vae_server.call("reconstruct", image=image)["image_bytes"])
    for size in (1, 3, 8):
        for start in range(0, 33 - size + 1, size):
            rows = slice(start, start + size)
            assert np.abs(vae_server.call("decode", z=latent[rows])["image"] - drawn[rows]).max() <= 1
            for name, value in vae_server.call("encode", image=image[rows]).items():
                np.testing.assert_allclose(value, encoded[name][rows], rtol=1e-5, atol=1e-5)
            assert list(vae_server.call("reconstruct", image=image[rows])["image_bytes"]) == rebuilt[rows]
    facts = json.loads((vae[0] / "assets.extra" / "tfvae.json").read_text())
    assert facts["batch_size_changes"] == {
        "sample": "nothing",
        "decode": "a grey level, more in bfloat16",
        "encode": "1e-5, more in bfloat16",
        "reconstruct": "nothing",
    }


def test_decode_and_encode_convert_to_litert_and_run_there(vae, vae_server):
    draw = np.random.default_rng(6)
    inputs = {
        "decode": {"z": draw.standard_normal((3, 16)).astype(np.float32)},
        "encode": {"image": draw.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)},
    }
    converter = tf.lite.TFLiteConverter.from_saved_model(str(vae[0]), signature_keys=list(inputs))
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    for signature, given in inputs.items():
        answer, expected = interpreter.get_signature_runner(signature)(**given), vae_server.call(signature, **given)
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            atol = 1 if value.dtype == np.uint8 else 1e-4
            np.testing.assert_allclose(answer[name].astype(float), value, rtol=1e-4, atol=atol)


def test_a_seed_gives_the_same_bytes_alone_in_any_batch_and_at_any_place_of_it(gan_server):
    seeds = np.arange(33) * 1_000_003
    labels, truncations = seeds % 10, 0.5 + seeds % 3
    alone = [gan_server.sample([s], y, t)[0] for s, y, t in zip(seeds, labels, truncations)]
    assert len(set(alone)) == len(alone)
    for size in (3, 5, 8, 33):
        for start in range(0, 33 - size + 1, size):
            rows = slice(start, start + size)
            assert gan_server.sample(seeds[rows], labels[rows], truncations[rows]) == alone[rows]
    assert gan_server.sample(seeds[::-1], labels[::-1], truncations[::-1]) == alone[::-1]
    assert gan_server.sample([]) == []


def test_pictures_are_those_of_the_averaged_weights_in_memory(gan, gan_server, vae, vae_server):
    draw = np.random.default_rng(3)
    latent, label = draw.standard_normal((6, 16)).astype(np.float32), np.array([0, 9, 4, 4, 1, 7], np.int32)
    network = gan[2].ema_generator
    served = gan_server.call("decode", z=latent, label=label)["image"]
    assert np.abs(served - pixels(network, latent, label)).max() <= 1
    assert np.abs(served - pixels(gan[2].generator, latent, label)).mean() > 5

    seeds, truncation = np.arange(3), np.float32([0.5, 1.0, 30.0])
    latent = prior.latents_of_seeds(tf.constant(seeds), tf.constant(truncation), 16)
    difference = decoded(gan_server.sample(seeds, 2, truncation)) - pixels(network, latent, np.int32([2, 2, 2]))
    assert np.abs(difference).max() <= 1

    image = draw.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    output = vae[2].ema_discriminator(image / np.float32(127.5) - 1).numpy()
    encoded = vae_server.call("encode", image=image)
    np.testing.assert_allclose(encoded["mean"], output[:, :16], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(encoded["log_variance"], output[:, 16:], rtol=1e-4, atol=1e-4)
    rebuilt = decoded(vae_server.call("reconstruct", image=image)["image_bytes"])
    assert np.abs(rebuilt - pixels(vae[2].ema_generator, output[:, :16])).max() <= 1


def test_a_row_that_cannot_be_drawn_is_empty_and_leaves_the_others_as_they_are(gan_server):
    good = gan_server.sample(range(9))
    label = [3, 10, -1, 3, 3, 3, 3, 2**31 - 1, 3]
    truncation = [2, 2, 2, np.nan, 0, -1, 2, 2, 2]
    mixed = gan_server.sample(range(9), label, truncation)
    assert mixed[1:6] == [b""] * 5 and mixed[7] == b""
    assert [mixed[i] for i in (0, 6, 8)] == [good[i] for i in (0, 6, 8)]

    latent = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    right = gan_server.call("decode", z=latent, label=np.full(6, 3, np.int32))["image"]
    latent[1, 4], latent[3, 0], latent[4] = np.nan, np.inf, 3e38
    drawn = gan_server.call("decode", z=latent, label=np.int32([3, 3, -5, 3, 3, 3]))["image"]
    assert not drawn[1:4].any()
    np.testing.assert_array_equal(drawn[[0, 5]], right[[0, 5]])


def test_latents_are_those_of_a_truncated_normal(tmp_path):
    seeds = tf.range(100, dtype=tf.int64)
    plain = prior.latents_of_seeds(seeds, tf.fill([100], np.float32(np.inf)), 128).numpy()
    assert stats.kstest(plain.ravel(), "norm").pvalue > 0.01
    np.testing.assert_array_equal(plain, prior.latents_of_seeds(seeds, tf.fill([100], np.float32(1e30)), 128))
    for limit in (1e-6, 0.5, 2.0, 7.0):
        latent = prior.latents_of_seeds(seeds, tf.fill([100], np.float32(limit)), 128).numpy()
        expected = stats.truncnorm(-limit, limit).ppf(stats.norm.cdf(plain.astype(np.float64)))
        np.testing.assert_allclose(latent, expected, rtol=1e-4, atol=1e-6 * limit)
        assert np.abs(latent).max() <= np.float32(limit)


def test_a_seed_means_the_same_latent_in_every_version_of_tensorflow():
    latent = prior.latents_of_seeds(tf.constant([0, 1, -1, 2**62]), tf.constant([1e9, 1e9, 2.0, 0.5]), 4)
    expected = [
        [0.49054062, -0.2520334, -1.2334193, -0.08658583],
        [-1.9125003, 0.8499764, -1.9506893, 0.6535763],
        [0.3472886, -0.10741679, -1.3916439, -0.50071466],
        [0.29464266, -0.10758875, 0.27248704, -0.00520543],
    ]
    np.testing.assert_allclose(latent, expected, rtol=1e-6)


def test_a_version_says_what_it_is_and_warms_a_server_up_at_every_batch_size(vae):
    facts = json.loads((vae[0] / "assets.extra" / "tfvae.json").read_text())
    assert {name: facts[name] for name in ("name", "objective", "architecture", "resolution", "latent_dim")} == {
        "name": "vae",
        "objective": "vae",
        "architecture": "biggan",
        "resolution": 32,
        "latent_dim": 16,
    }
    assert facts["title"] == "VAE" and facts["network_titles"] == ["decoder", "encoder"]
    assert facts["images_seen"] == 56 and facts["checkpoint"] == "ckpt-56" and facts["num_classes"] == 0
    assert facts["weights"] == "moving average, batch-norm statistics measured anew" and facts["ema"] is True
    assert facts["encoder_weights"] == "moving average"
    assert facts["signatures"] == ["sample", "decode", "encode", "reconstruct"] and facts["scores"] is None
    assert facts["flags"]["base_channels"] == 4 and facts["versions"]["tensorflow"] == tf.__version__

    from tensorflow_serving.apis import prediction_log_pb2

    file = vae[0] / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert {request.model_spec.name for request in requests} == {"vae"}
    sizes = [
        (request.model_spec.signature_name, {value.tensor_shape.dim[0].size for value in request.inputs.values()})
        for request in requests
    ]
    names = ("serving_default", "sample", "decode", "encode", "reconstruct")
    assert sizes == [(name, {rows}) for name in names for rows in (1, 4, 8, 16, 32)]


def test_a_version_says_that_its_encoder_is_the_last_one_where_the_checkpoint_has_no_average_of_it(vae, monkeypatch):
    _, config, model = vae
    monkeypatch.setattr(model, "encoder_average_restored", False)
    facts = writing.facts("vae", config, {"class_names": []}, model, [])
    assert facts["weights"].startswith("moving average") and facts["encoder_weights"] == "of the last step"


def test_a_version_names_the_commit_that_wrote_it():
    git = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    expected = git.stdout.strip() if git.returncode == 0 else None  # an unpacked archive has none
    assert str(writing.commit()).removesuffix("-dirty") == str(expected)


def test_a_network_in_bfloat16_answers_in_the_same_types_and_bytes_in_any_batch(make_model, publish_model):
    made = make_model("gan", 3, precision="mixed_bfloat16", architecture="biggan_deep", blocks_per_stage=1)
    server = Server(publish_model("deep", *made))
    alone = [server.sample([seed], 1)[0] for seed in range(5)]
    assert server.sample(range(5), 1) == alone
    assert interface(server)["decode"][1] == {"image": "uint8"}


# What is refused.


@pytest.fixture
def damaged(vae, tmp_path):
    """A copy of the published VAE to damage."""
    return Path(shutil.copytree(vae[0], tmp_path / "vae" / "1"))


def verify(folder, settings, model):
    verification.verify(folder, settings, model, signatures.of_model(settings, model))


@pytest.mark.parametrize("file", ["variables.index", "variables.data-00000-of-00001"])
def test_a_version_without_its_variables_is_refused(vae, damaged, file):
    (damaged / "variables" / file).unlink()
    with pytest.raises(UserError, match="nothing was published, .*variables are missing"):
        verify(damaged, *vae[1:])


def test_a_version_with_other_weights_is_refused(damaged, make_model):
    (damaged / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"")  # they are not what is tested
    with pytest.raises(UserError, match="nothing was published, .* differs by .*, expected 1 or less"):
        verify(damaged, *make_model("vae", seed=1))


def test_a_version_whose_warm_up_request_fails_is_refused(vae, damaged):
    from tensorflow_serving.apis import prediction_log_pb2

    record = prediction_log_pb2.PredictionLog()
    record.predict_log.request.model_spec.signature_name = "sample"
    record.predict_log.request.inputs["seed"].CopyFrom(tf.make_tensor_proto([1], tf.int64))
    with tf.io.TFRecordWriter(str(damaged / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(record.SerializeToString())
    with pytest.raises(UserError, match="nothing was published, .*truncation"):
        verification.verify(damaged, *vae[1:], {})


def test_a_model_whose_weights_are_no_numbers_is_refused_and_leaves_nothing(make_model, tmp_path):
    settings, model = make_model("gan")
    model.ema_generator.weights[0].assign(np.nan * model.ema_generator.weights[0].numpy())
    place, _ = publish.find_place(tmp_path / "gan")
    with pytest.raises(UserError, match="weights hold NaN or infinity"):
        publish.publish(place, settings, {"class_names": []}, model)
    assert not place.parent.exists()


def test_functions_that_xla_must_compile_are_refused(tmp_path):
    class Compiled(tf.Module):
        @tf.function(jit_compile=True, input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x):
            return {"y": 2 * x}

    tf.saved_model.save(Compiled(), str(tmp_path / "1"))
    with pytest.raises(ValueError, match="XLA must compile"):
        session.answers(tmp_path / "1", [])


def test_a_disk_that_does_not_take_a_version_publishes_nothing_and_is_not_called_full(gan, tmp_path):
    place, _ = publish.find_place(tmp_path / "gan")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # writes beyond it fail
    try:
        with pytest.raises(
            UserError, match=r"published, /\S+ cannot be written \(/.* too large.*: give another"
        ) as error:
            publish.publish(place, gan[1], {"class_names": []}, gan[2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "space" not in str(error.value) and list(place.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (tf.errors.ResourceExhaustedError(None, None, "/x/variables; No space left on device"), True),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x"), False),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), False),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False),
        (tf.errors.ResourceExhaustedError(None, None, "/x/variables; File too large"), False),
    ],
)
def test_a_full_disk_is_what_the_system_calls_so(error, full, gan, tmp_path, monkeypatch):
    class Archive:
        def write_out(self, *_, **__):
            raise error

    monkeypatch.setattr(keras.export, "ExportArchive", Archive)
    monkeypatch.setattr(signatures, "of_model", lambda *_: {})
    place, _ = publish.find_place(tmp_path / "gan")
    with pytest.raises(UserError, match="nothing was published, .* cannot be written") as raised:
        publish.publish(place, gan[1], {"class_names": []}, gan[2])
    assert ("free some space" in str(raised.value)) == full
    assert getattr(error, "strerror", None) is None or error.strerror in str(raised.value)
    assert list(place.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["7", "a model", "gan:1", "-gan", ".gan", "modèle"])
def test_a_folder_that_is_no_models_name_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="its last part is the model's name .* Expected a letter"):
        publish.find_place(tmp_path / name)


def test_a_missing_protocol_package_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(UserError, match=r'tensorflow-serving-api: pip install "tfvae\[serving\]"'):
        publish.find_place(tmp_path / "gan")


# How versions come and go.


def make_version(folder, number):
    (folder / str(number)).mkdir(parents=True)
    (folder / str(number) / "saved_model.pb").write_text(f"version {number}")


def test_the_next_version_is_one_more_than_the_newest_and_none_is_replaced(tmp_path):
    assert publish.find_place(tmp_path / "m") == (tmp_path / "m" / "1", 1)
    for number in (2, 10, "007"):
        make_version(tmp_path / "m", number)
    (tmp_path / "m" / "99x").mkdir()
    assert publish.find_place(tmp_path / "m") == (tmp_path / "m" / "11", 11)
    assert publish.find_place(tmp_path / "m", 3) == (tmp_path / "m" / "3", 3)
    for number in (10, 7):  # a server reads 007 as 7
        with pytest.raises(UserError, match="exists, and a version is never replaced: give another --version"):
            publish.find_place(tmp_path / "m", number)


def test_only_folders_called_by_a_number_that_a_server_reads_are_versions(tmp_path):
    make_version(tmp_path / "other", 4)
    make_version(tmp_path / "m", 1)
    (tmp_path / "m" / "2").symlink_to(tmp_path / "other" / "4")
    for file in ("3", "5", "99"):
        (tmp_path / "m" / file).write_text("a note")
    (tmp_path / "m" / "4").symlink_to("gone")
    for folder in ("-8", "+8", "8.0", "٨", "1_0", " 8", str(2**63), "9" * 200):
        (tmp_path / "m" / folder).mkdir()
    assert list(versions.numbered(tmp_path / "m")) == [1, 2]
    # Not where anything lies, though it is no version.
    assert publish.find_place(tmp_path / "m") == (tmp_path / "m" / "6", 6)
    for number in (2, 3, 4):
        with pytest.raises(
            UserError, match=f"/{number} exists, and a version is never replaced: give another --version"
        ):
            publish.find_place(tmp_path / "m", number)
    assert sorted(path.name for path in versions.no_folders(tmp_path / "m")) == ["3", "4", "5", "99"]


def test_the_version_after_the_largest_that_a_server_reads_is_refused(tmp_path):
    make_version(tmp_path / "m", 2**63 - 2)
    assert publish.find_place(tmp_path / "m")[1] == 2**63 - 1
    make_version(tmp_path / "m", 2**63 - 1)
    with pytest.raises(UserError, match="holds version 9223372036854775807, and a server reads no larger number"):
        publish.find_place(tmp_path / "m")
    assert publish.find_place(tmp_path / "m", 5)[1] == 5


@pytest.mark.parametrize("place", ["file", "file/gan", "/proc/gan", "x" * 300])
def test_a_folder_of_versions_that_cannot_be_written_is_known_before_the_work(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written .*: give another --export_dir"):
        publish.find_place(place)


def test_of_two_exports_of_one_version_the_second_ends_with_one_line(tmp_path):
    make_version(tmp_path, 1)
    make_version(tmp_path / "unfinished", 1)
    with pytest.raises(UserError, match="published by another export meanwhile.*run the command again"):
        versions.put_in_place(tmp_path / "unfinished", tmp_path / "1")
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "version 1"
    (tmp_path / "2").write_text("mine")
    with pytest.raises(UserError, match="/2 is a file, which is never replaced: run the command again"):
        versions.put_in_place(tmp_path / "unfinished", tmp_path / "2")
    assert (tmp_path / "2").read_text() == "mine"


def test_only_the_newest_versions_and_this_one_are_kept(tmp_path):
    for number in (1, 2, 3, 10):
        make_version(tmp_path, number)
    assert versions.delete_old(tmp_path, 2, version=1) == {2: None}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "10", "3"]


def test_old_versions_that_cannot_be_deleted_are_named_and_files_and_what_links_lead_to_stay(tmp_path, monkeypatch):
    make_version(tmp_path / "elsewhere", 1)
    for number in (2, 3, 4):
        make_version(tmp_path / "gan", number)
    (tmp_path / "gan" / "1").symlink_to(tmp_path / "elsewhere" / "1")
    (tmp_path / "gan" / "5").write_text("mine")
    true = os.rename

    def rename(old, new):
        if Path(old).name == "2":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(old))
        true(old, new)

    monkeypatch.setattr(os, "rename", rename)
    assert versions.delete_old(tmp_path / "gan", 1, version=4) == {1: None, 2: "Permission denied", 3: None}
    assert sorted(path.name for path in (tmp_path / "gan").iterdir()) == ["2", "4", "5"]
    assert (tmp_path / "elsewhere" / "1" / "saved_model.pb").exists()


def test_a_version_being_deleted_is_never_seen_in_part(tmp_path, monkeypatch):
    make_version(tmp_path, 1)
    seen = []
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **_: seen.append((path.name, sorted(versions.numbered(tmp_path))))
    )
    versions.delete(tmp_path / "1")
    ((name, there),) = seen
    assert re.fullmatch(r"\.1\.[0-9a-f]{32}\.old", name) and there == []


def test_what_exports_left_goes_by_its_age_and_whatever_the_number_of_a_process(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    unique, other = "0" * 32, "1" * 32
    days = {
        f".5.{unique}.tmp": 2,
        f".5.{unique}.old": 2,
        f".5.{other}.tmp": 0.9,
        f".x.{unique}.tmp": 2,
        # Of earlier releases, perhaps in another container, where other processes have these numbers.
        f".tmp-1-{dead.pid}": 0.9,
        ".tmp-2-1": 0.9,
        f".tmp-3-{os.getpid()}": 0.9,
        f".tmp-4-{os.getpid()}": 2,
        ".tmp-x": 2,
        "notes": 2,
    }
    for name, age in days.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name, (time.time() - age * 86_400,) * 2)
    versions.remove_unfinished(tmp_path)
    gone = {f".5.{unique}.tmp", f".5.{unique}.old", f".tmp-4-{os.getpid()}"}
    assert set(os.listdir(tmp_path)) == set(days) - gone


def test_two_exports_write_beside_each_other_however_long_it_takes_and_the_first_stays(gan, tmp_path, monkeypatch):
    """As from two containers, whose processes have one number."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(signatures, "of_model", lambda *_: {})
    monkeypatch.setattr(verification, "verify", lambda *_: None)
    place = publish.find_place(tmp_path / "gan")[0]
    names = []

    def write(folder, about, functions):
        (folder / "saved_model.pb").write_text(f"export {len(names)}")
        os.utime(folder, (0, 0))  # for days
        names.append(folder.name)
        if len(names) == 1:
            publish.publish(place, gan[1], {"class_names": []}, gan[2])
            assert (folder / "saved_model.pb").read_text() == "export 0"

    monkeypatch.setattr(writing, "write", write)
    with pytest.raises(UserError, match="published by another export meanwhile"):
        publish.publish(place, gan[1], {"class_names": []}, gan[2])
    assert len(set(names)) == 2 and os.listdir(tmp_path / "gan") == ["1"]
    assert (place / "saved_model.pb").read_text() == "export 1"


class Killed(BaseException):
    pass


def test_an_export_killed_at_any_step_leaves_no_version_that_is_not_whole(gan, tmp_path, monkeypatch):
    place, _, model = gan
    steps = 0

    def step():
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise Killed

    def write(folder, about, functions):
        for path in sorted(place.rglob("*")):
            step()
            copy = folder / path.relative_to(place)
            copy.mkdir() if path.is_dir() else copy.write_bytes(path.read_bytes())

    synchronize = versions.synchronize
    monkeypatch.setattr(writing, "write", write)
    monkeypatch.setattr(verification, "verify", lambda *_: step())
    monkeypatch.setattr(versions, "synchronize", lambda path: (step(), synchronize(path)))
    monkeypatch.setattr(signatures, "of_model", lambda *_: {})
    monkeypatch.setattr(writing, "facts", lambda *_: {})
    monkeypatch.setattr(publish, "check_weights", lambda _: None)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # whoever is killed removes nothing
    content = {path.relative_to(place): path.is_dir() or path.read_bytes() for path in place.rglob("*")}
    for number in range(100):
        target, steps = tmp_path / str(number) / "gan" / "1", number
        try:
            publish.publish(target, None, None, model)
            ended = True
        except Killed:
            ended = False
        for version in versions.numbered(target.parent).values():
            assert {
                path.relative_to(version): path.is_dir() or path.read_bytes() for path in version.rglob("*")
            } == content
        if ended:
            break
    # A step for each file and folder written, the verification, each synchronised file and folder, and the model's folder.
    assert ended and number == 2 * len(content) + 3 and list(versions.numbered(target.parent)) == [1]


# The command.


@pytest.fixture
def run_folder(gan, tmp_path):
    """A run's folder with the published GAN's weights."""
    _, settings, model = gan
    directory = run.RunDirectory(tmp_path / "a [2]" / "run")
    names = [f"class {i}" for i in range(10)]
    split = types.SimpleNamespace(num_classes=10, class_names=names, num_images=1, fingerprints={})
    directory.begin(settings, split, overwrite=False)
    tf.train.CheckpointManager(tf.train.Checkpoint(objective=model), str(directory.checkpoints), 1).save(56)
    return directory.path


SOURCE = {
    "images_seen": 56,
    "checkpoint": "newest",
    "weights": "moving average, batch-norm statistics measured anew",
}


def test_a_killed_export_leaves_no_version_and_the_next_one_publishes_the_same_bytes(
    run_folder, gan_server, run_command, tmp_path
):
    folder = tmp_path / "killed [a-z]*" / "gan"
    arguments = [f"--model_dir={run_folder}", f"--export_dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfvae.export", *arguments, "--version=1"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not list(folder.glob(".1.*")):
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 3))  # seconds; it takes about three more
    process.kill()
    output, _ = process.communicate()
    assert process.returncode in (0, -9), output
    expected = gan_server.sample(range(5))
    for version in versions.numbered(folder).values():
        with literal(version) as place:
            assert Server(place).sample(range(5)) == expected

    (run_folder / "scores.json").write_text(json.dumps({"source": SOURCE, "scores": {"precision": {"mean": 0.5}}}))
    for left in folder.glob(".1.*"):
        os.utime(left, (time.time() - 2 * 86_400,) * 2)
    (folder / "5").write_text("mine")
    output = run_command("export", *arguments, "--version=4", "--keep_versions=1")
    assert f"{folder}/4  (sample, decode; 56 images seen)" in output and "Without scores" not in output
    assert f"python -m tfvae.serve --model_base_path='{folder}'" in output
    assert sorted(os.listdir(folder)) == ["4", "5"] and (folder / "5").read_text() == "mine"
    assert f"warning: {folder}/5 is no folder, and TF Serving takes it for a version: move it elsewhere." in output
    with literal(folder / "4") as place:
        assert Server(place).sample(range(5)) == expected
    facts = json.loads((folder / "4" / "assets.extra" / "tfvae.json").read_text())
    assert facts["class_names"] == [f"class {i}" for i in range(10)]
    assert facts["scores"]["scores"] == {"precision": {"mean": 0.5}}


def test_scores_of_another_model_are_not_published_and_that_is_said(run_folder, run_command, monkeypatch, tmp_path):
    monkeypatch.setattr(verification, "verify", lambda *_: None)
    (run_folder / "scores.json").write_text(json.dumps({"source": SOURCE | {"images_seen": 40}, "scores": {}}))
    output = run_command("export", f"--model_dir={run_folder}", f"--export_dir={tmp_path / 'gan'}")
    assert (
        f"Without scores: {run_folder}/scores.json does not say that it is of this model (images_seen: 40, expected 56). "
        "python -m tfvae.evaluate scores it.\n"
    ) in output
    assert json.loads((tmp_path / "gan" / "1" / "assets.extra" / "tfvae.json").read_text())["scores"] is None


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (SOURCE, None),
        (SOURCE | {"images_seen": 48}, "images_seen: 48, expected 56"),
        (SOURCE | {"prior": {"kind": "normal"}}, None),
        (SOURCE | {"prior": {"kind": "gmm", "seed": 0}}, "prior: gmm, expected normal"),
        (SOURCE | {"prior": "gmm"}, "it cannot be read as the scores of a model"),
        (SOURCE | {"checkpoint": "best"}, "checkpoint: best, expected newest"),
        (SOURCE | {"weights": "of the last step"}, "weights: of the last step, expected moving average"),
        ({"images_seen": 56}, "checkpoint: not said, expected newest; weights: not said, expected"),
        ({"images": "pictures/"}, "images_seen: not said, expected 56"),
        ("pictures", "it cannot be read as the scores of a model"),
        (None, "it cannot be read as the scores of a model"),
    ],
)
def test_scores_are_published_only_where_they_say_that_they_are_of_this_checkpoint(source, line, gan, tmp_path):
    config, model = dataclasses.replace(gan[1], model_dir=str(tmp_path)), gan[2]
    (tmp_path / "scores.json").write_text("{" if source is None else json.dumps({"source": source}))
    scores, why = writing.scores_of(config, model)
    if line is None:
        assert scores == {"source": source} and why is None
    else:
        assert scores is None and line in why and "\n" not in why


def test_scores_that_do_not_say_which_encoder_they_are_of_are_not_published(vae, tmp_path):
    config, model = dataclasses.replace(vae[1], model_dir=str(tmp_path)), vae[2]
    assert writing.scores_of(config, model) == (None, None)
    for encoder, right in ((None, False), ("of the last step", False), ("moving average", True)):
        source = SOURCE | ({} if encoder is None else {"encoder_weights": encoder})
        (tmp_path / "scores.json").write_text(json.dumps({"source": source}))
        assert (writing.scores_of(config, model)[1] is None) == right


def test_bad_input_is_named_and_leaves_nothing(run_command, tmp_path):
    with pytest.raises(UserError, match="^/nowhere holds no model"):
        run_command("export", "--model_dir=/nowhere", f"--export_dir={tmp_path / 'gan'}")
    with pytest.raises(UserError, match="^--export_dir is missing: expected a folder, such as published/cifar10_vae"):
        run_command("export", "--model_dir=/nowhere")
    assert not (tmp_path / "gan").exists()


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        ("export", ["--help"], "--keep_versions"),
        ("export", ["--model_dir=X"], "error: --export_dir is missing"),
        ("sample", ["--help"], "--saved_model"),
        ("sample", ["--model_dir=X", "--sheets=all"], "error: --sheets=all: expected some of grid, classes"),
    ],
)
def test_help_and_wrong_flags_are_answered_before_tensorflow_loads(module, arguments, line):
    command = [sys.executable, "-X", "importtime", "-m", f"tfvae.{module}", *arguments]
    result = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert line in result.stdout + result.stderr and "Traceback" not in result.stderr
    assert "tfvae.command" in result.stderr and "tensorflow" not in result.stderr
