"""A version in a session: batches, other people's models, and models that TF Serving could not run."""

import concurrent.futures
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from endpoint_toys import saved
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfvae.endpoint.servable import Servable
from tfvae.endpoint.settings import DEFAULT_BATCHING
from tfvae.endpoint.statuses import ServingError


def test_batches_are_padded_to_an_allowed_size_and_each_request_gets_its_own_rows():
    sizes = {
        "max_batch_size": 8,
        "batch_timeout_micros": 200_000,
        "num_batch_threads": 1,
        "allowed_batch_sizes": [4, 8],
    }
    servable = Servable(saved(1), DEFAULT_BATCHING | sizes)
    barrier = threading.Barrier(3)

    def ask(start):
        barrier.wait(60)
        return servable.run("pick", {"index": np.array([start, start + 1], np.int32)}, 8)

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(ask, range(3)))
    servable.close()
    assert [answer["value"].tolist() for answer in answers] == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    # Six rows, however they came together: one batch of eight, or one of eight for four rows and one of four.
    ran = {size for answer in answers for size in answer["rows"].tolist()}
    assert ran <= {4, 8} and 8 in ran


def half_plus_two(folder, use_resource):
    """TF Serving's example, written by TensorFlow 1's means as its own script does: y = x / 2 + 2, with a classification."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("a", initializer=0.5, use_resource=use_resource)
        two = v1.get_variable("b", initializer=2.0, use_resource=use_resource)
        example = v1.placeholder(tf.string, [None], "tf_example")
        x = tf.identity(v1.io.parse_example(example, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"], "x")
        y = tf.identity(half * x + two, "y")
        session.run(v1.global_variables_initializer())
        builder, signature = v1.saved_model.Builder(str(folder)), v1.saved_model.signature_def_utils
        predict = signature.predict_signature_def({"x": x}, {"y": y})
        regress = signature.regression_signature_def(example, y)
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": predict, "regress_x_to_y": regress}
        )
        builder.save()
    return folder


@pytest.mark.parametrize("use_resource", [False, True])
def test_half_plus_two_is_served(tmp_path, use_resource):
    servable = Servable(half_plus_two(tmp_path / "1", use_resource), DEFAULT_BATCHING)
    answer = servable.run("serving_default", {"x": np.array([[1.0], [2.0], [5.0]], np.float32)}, 32)
    np.testing.assert_array_equal(answer["y"], [[2.5], [3.0], [4.5]])
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(4.0)
    serialized = {"inputs": np.array([example.SerializeToString()], object)}
    np.testing.assert_array_equal(servable.run("regress_x_to_y", serialized, 32)["outputs"], [[4.0]])
    with pytest.raises(ServingError, match="Could not parse example input") as raised:
        servable.run("regress_x_to_y", {"inputs": np.array([b"?"], object)}, 32)
    assert raised.value.code == "INVALID_ARGUMENT" and "Node:" not in raised.value.message
    servable.close()


def test_a_function_for_xla_is_refused(tmp_path):
    module = tf.Module()
    module.kernel = tf.Variable([2.0])
    spec = tf.TensorSpec([None], tf.float32)
    compiled = tf.function(lambda x: x * module.kernel, [spec], jit_compile=True)
    module.call = tf.function(lambda x: {"y": compiled(x)}, [spec])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.call)
    with pytest.raises(ServingError, match="asks for XLA: export it without jit_compile") as raised:
        Servable(tmp_path / "1", DEFAULT_BATCHING)
    assert raised.value.code == "FAILED_PRECONDITION"


def without(version, name):
    (version / name).unlink()


def cut(version, pattern, size):
    (file,) = version.glob(pattern)
    file.write_bytes(file.read_bytes()[:size])


def warm_up(version, **model_spec):
    """Writes a warm-up request of two rows for `decode`, or as given."""
    request = predict_pb2.PredictRequest(model_spec={"signature_name": "decode"} | model_spec)
    request.inputs["z"].CopyFrom(tf.make_tensor_proto(np.zeros([2, 4], np.float32)))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda version: without(version, "saved_model.pb"), "SavedModel file does not exist"),
        (lambda version: without(version, "variables/variables.index"), "not a valid checkpoint"),
        (lambda version: cut(version, "saved_model.pb", 5000), "saved_model.pb"),
        (lambda version: cut(version, "variables/variables.data*", 20), "Read less bytes"),
        (lambda version: warm_up(version, signature_name="none"), "no signature 'none'"),
    ],
    ids=["no graph", "no variables", "half a graph", "half of the variables", "a warm-up request that fails"],
)
def test_a_damaged_or_half_written_version_does_not_load(tmp_path, damage, text):
    shutil.copytree(saved(1), tmp_path / "1")
    damage(tmp_path / "1")
    with pytest.raises(ServingError, match=text) as raised:
        Servable(tmp_path / "1", DEFAULT_BATCHING)
    assert raised.value.code in ("DATA_LOSS", "FAILED_PRECONDITION", "OUT_OF_RANGE")


@pytest.mark.parametrize("name", ["a [2]", "[a-z]*", "what?", "back\\slash", "[", "{b,c}", "%20 é"])
def test_a_version_is_served_whatever_its_path_is_called(name, tmp_path, monkeypatch):
    version = tmp_path / name / "1"
    shutil.copytree(saved(1), version)
    warm_up(version)
    monkeypatch.chdir(tmp_path / name)
    for path in (version, version.relative_to(tmp_path / name)):
        servable = Servable(path, DEFAULT_BATCHING)
        assert servable.run("pick", {"index": np.array([3], np.int32)}, 8)["value"].tolist() == [3.0]
        servable.close()


def test_warm_up_requests_run_before_the_first_request(tmp_path):
    from tfvae.endpoint import metrics

    shutil.copytree(saved(1), tmp_path / "1")
    warm_up(tmp_path / "1")
    before = metrics.BATCHES._value.get()
    Servable(tmp_path / "1", DEFAULT_BATCHING).close()
    assert metrics.BATCHES._value.get() == before + 1
