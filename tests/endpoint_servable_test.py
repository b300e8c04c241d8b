"""A version in a session of this process: batching's details, and models that TF Serving could not run."""

import concurrent.futures
import threading

import numpy as np
import pytest
import tensorflow as tf
from endpoint_toys import save

from tfvae.endpoint.metrics import Metrics
from tfvae.endpoint.servable import Servable
from tfvae.endpoint.settings import Batching
from tfvae.endpoint.statuses import ServingError


def test_batches_are_padded_to_an_allowed_size_and_the_padding_is_cut_off(tmp_path):
    save(tmp_path, 1)
    metrics = Metrics()
    batching = Batching(max_batch_size=8, batch_timeout_micros=100_000, num_batch_threads=1, allowed_batch_sizes=(4, 8))
    servable = Servable(tmp_path / "1", "toy", batching, metrics)
    barrier = threading.Barrier(3)

    def ask(label):
        barrier.wait()
        seed, label = np.array([7, 8], np.int64), np.array([label] * 2, np.int32)
        return servable.run("serving_default", {"seed": seed, "label": label}, 8)["image_bytes"].tolist()

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(ask, range(3)))
    assert answers == [[f"7:{label}:1".encode(), f"8:{label}:1".encode()] for label in range(3)]
    # Six rows, however they came together: one batch of eight, or one of eight for four rows and one of four.
    page = metrics.page().decode()
    rows = float(page.split('tfvae_batch_rows_total{model_name="toy",signature_name="serving_default"} ')[1].split()[0])
    assert rows in (8.0, 12.0)
    servable.close()


def test_a_function_for_xla_is_refused(tmp_path):
    module = tf.Module()
    module.kernel = tf.Variable([2.0])
    spec = tf.TensorSpec([None], tf.float32)
    compiled = tf.function(lambda x: x * module.kernel, [spec], jit_compile=True)
    module.call = tf.function(lambda x: {"y": compiled(x)}, [spec])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.call)
    with pytest.raises(ServingError, match="XLA compilation disabled") as raised:
        Servable(tmp_path / "1", "toy", Batching(), Metrics())
    assert raised.value.code == "FAILED_PRECONDITION"
