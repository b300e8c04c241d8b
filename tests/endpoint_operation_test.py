"""The endpoint in a process of its own, as its operator sees it: batches, metrics, versions, limits, the end."""

import base64
import concurrent.futures
import itertools
import os
import shutil
import threading
import time

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from endpoint_toys import endpoint, publish, rows, sample, save, write_config
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder with versions 1 and 2 of the toy model."""
    folder = tmp_path_factory.mktemp("saved")
    for version in (1, 2):
        save(folder, version)
    return folder


@pytest.fixture(scope="module")
def models(saved, tmp_path_factory):
    """Folder of the models that the server follows: `toy`, `rolling`, `damaged` with version 1, `pinned` with 1 and 2."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("toy", "rolling", "damaged", "pinned"):
        shutil.copytree(saved / "1", folder / name / "1")
    shutil.copytree(saved / "2", folder / "pinned" / "2")
    return folder


@pytest.fixture(scope="module")
def server(models):
    """One endpoint for all but the last test."""
    config = write_config(models, ["toy", "rolling", "damaged", "pinned"])
    with endpoint(f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1") as running:
        running.wait_for_line("pinned version 1: AVAILABLE")
        yield running


def test_64_requests_at_once_run_in_far_fewer_batches_and_each_gets_its_own_answer(server):
    labels = dict(model_name="toy", signature_name="serving_default")
    before = [server.metric(name, **labels) for name in ("tfvae_batches_total", "tfvae_request_rows_total")]
    barrier = threading.Barrier(64)

    def ask(seed):
        with requests.Session() as session:
            session.get(f"{server.url}/v1/models/toy", timeout=60)  # opens the connection
            barrier.wait(60)
            return session.post(f"{server.url}/v1/models/toy:predict", json=rows(seed), timeout=60).json()

    with concurrent.futures.ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(ask, range(64)))
    got = [base64.b64decode(answer["predictions"][0]["b64"]) for answer in answers]
    assert got == [sample(seed, 3) for seed in range(64)]
    after = [server.metric(name, **labels) for name in ("tfvae_batches_total", "tfvae_request_rows_total")]
    assert after[1] - before[1] == 64
    assert after[0] - before[0] <= 32


def test_metrics_have_tf_servings_names(server):
    before = server.metric(":tensorflow:serving:request_count", model_name="toy", status="INVALID_ARGUMENT")
    server.post("toy:predict", data=b"{")
    server.post("toy:predict", json=rows(1))
    server.post("unknown:predict", json=rows(1))
    assert server.metric(":tensorflow:serving:request_count", model_name="toy", status="INVALID_ARGUMENT") == before + 1
    assert server.metric(":tensorflow:serving:request_latency_count", model_name="toy", entrypoint="REST") >= 1
    assert server.metric(":tensorflow:serving:runtime_latency_count", model_name="toy") >= 1
    assert server.metric(":tensorflow:serving:batching_session:wrapped_run_count") >= 1
    assert "unknown" not in server.get("/monitoring/prometheus/metrics").text


def test_a_new_version_takes_over_under_load_without_a_failed_request(server, saved, models):
    versions, failed, done = set(), [], threading.Event()

    def ask(start):
        with requests.Session() as session:
            for seed in itertools.count(start):
                answer = session.post(f"{server.url}/v1/models/rolling:predict", json=rows(seed), timeout=60)
                if answer.status_code != 200:
                    failed.append(answer.text)
                else:
                    text = base64.b64decode(answer.json()["predictions"][0]["b64"]).decode()
                    versions.add(text.split(":")[2])
                if done.is_set():
                    return

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, 1000 * i) for i in range(4)]
        try:
            server.wait_for(lambda: versions == {"1"})
            publish(saved / "2", models / "rolling" / "2")
            server.wait_for_line("rolling version 1: released")
            server.wait_for(lambda: "2" in versions)
        finally:
            done.set()
        for one in asking:
            one.result()
    assert failed == []
    assert server.states("rolling") == {2: "AVAILABLE", 1: "END"}
    answer = server.post("rolling/versions/1:predict", json=rows(1))
    assert (answer.status_code, answer.json()["error"]) == (404, "Servable not found for request: Specific(rolling, 1)")


def test_a_changed_config_is_followed_and_a_broken_one_ignored(server, models):
    names = ["toy", "rolling", "damaged", "pinned"]
    (models / "models.config").write_text("broken {")
    server.wait_for_line("The models of before stay.")
    assert server.post("pinned:predict", json=rows(1)).status_code == 200
    write_config(models, names, policy="specific { versions: 2 }", stable=2)
    server.wait_for_line("pinned version 1: released")
    label = server.get("/v1/models/pinned/labels/stable").json()["model_version_status"]
    assert [status["version"] for status in label] == ["2"]
    write_config(models, names[:-1])
    server.wait_for(lambda: server.states("pinned") == {1: "END", 2: "END"})


def write_warm_up(version, *requests_to_run):
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for request in requests_to_run:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def test_damaged_and_half_written_versions_never_serve_and_the_good_one_stays(server, saved, models):
    folder = models / "damaged"

    def fails(number, code, text):
        server.wait_for(lambda: server.states("damaged").get(number) == "END")
        status = server.get(f"/v1/models/damaged/versions/{number}").json()["model_version_status"][0]["status"]
        assert status["error_code"] == code
        assert text in status["error_message"]
        answer = server.post("damaged:predict", json=rows(1)).json()
        assert base64.b64decode(answer["predictions"][0]["b64"]) == sample(1, 3, version=1)

    (folder / "2").mkdir()
    fails(2, "NOT_FOUND", "Could not find SavedModel .pb or .pbtxt at supplied export directory path")

    half = folder.parent / "half"
    shutil.copytree(saved / "2", half)
    (half / "variables" / "variables.index").unlink()
    os.rename(half, folder / "3")
    fails(3, "DATA_LOSS", "has no variables/variables.index")

    shutil.copytree(saved / "2", half)
    graph = half / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:5000])
    os.rename(half, folder / "4")
    fails(4, "DATA_LOSS", "saved_model.pb")

    shutil.copytree(saved / "2", half)
    (data,) = (half / "variables").glob("variables.data*")
    data.write_bytes(data.read_bytes()[:20])
    os.rename(half, folder / "5")
    server.wait_for(lambda: server.states("damaged").get(5) == "END")

    shutil.copytree(saved / "2", half)
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "none"
    write_warm_up(half, request)
    os.rename(half, folder / "6")
    fails(6, "FAILED_PRECONDITION", 'Serving signature key "none" not found.')

    # What was half-written is loaded once it is whole.
    shutil.copytree(saved / "2", folder / "7", ignore=shutil.ignore_patterns("variables.index"))
    fails(7, "DATA_LOSS", "has no variables/variables.index")
    shutil.copy(saved / "2" / "variables" / "variables.index", folder / "7" / "variables")
    server.wait_for(lambda: server.states("damaged").get(7) == "AVAILABLE")
    server.wait_for(lambda: server.states("damaged").get(1) == "END")


def test_limits_of_number_and_time_and_a_stop_that_drops_nothing(saved, tmp_path):
    shutil.copytree(saved / "1", tmp_path / "toy" / "1")
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "decode"
    request.inputs["z"].CopyFrom(tf.make_tensor_proto(np.zeros([2, 4], np.float32)))
    write_warm_up(tmp_path / "toy" / "1", request)
    first, second = tmp_path / "first", tmp_path / "second"

    def wait_for(file):
        return {"signature_name": "wait", "inputs": [str(file)]}

    flags = [
        f"--model_base_path={tmp_path / 'toy'}",
        "--max_concurrent_requests=2",
        "--max_rows=2",
        "--timeout_seconds=2",
    ]
    with endpoint(*flags) as running, concurrent.futures.ThreadPoolExecutor() as threads:
        running.wait_for_line("toy version 1: AVAILABLE")
        assert running.metric("tfvae_batch_rows_total", signature_name="decode") == 2  # the warm-up ran
        assert "Access-Control-Allow-Origin" not in running.get("/v1/models/toy").headers
        assert "input batch size 2" in running.post("toy:predict", json=rows(1, 2, 3)).json()["error"]

        channel = grpc.insecure_channel(running.address, [("grpc.max_receive_message_length", -1)])
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def grpc_error(request):
            with pytest.raises(grpc.RpcError) as raised:
                stub.Predict(request, timeout=60)
            return raised.value.code().name, raised.value.details()

        # Both ways beyond gRPC's usual 4 MiB, which TF Serving lifts too.
        large = predict_pb2.PredictRequest()
        large.model_spec.name, large.model_spec.signature_name = "toy", "upper"
        large.inputs["word"].CopyFrom(tf.make_tensor_proto([b"a" * (5 << 20)]))
        assert stub.Predict(large, timeout=60).outputs["text"].string_val[0] == b"A" * (5 << 20)

        waiting = predict_pb2.PredictRequest()
        waiting.model_spec.name, waiting.model_spec.signature_name = "toy", "wait"
        waiting.inputs["path"].CopyFrom(tf.make_tensor_proto([str(first)]))
        slow = threads.submit(running.post, "toy:predict", json=wait_for(first)), threads.submit(grpc_error, waiting)
        running.wait_for(lambda: running.metric("tfvae_running_requests") == 2)
        refused = running.post("toy:predict", json=rows(1))
        assert (refused.status_code, "--max_concurrent_requests" in refused.json()["error"]) == (429, True)
        assert grpc_error(waiting)[0] == "RESOURCE_EXHAUSTED"
        late = slow[0].result()
        assert (late.status_code, "Timed out waiting for notification" in late.json()["error"]) == (504, True)
        assert slow[1].result()[0] == "DEADLINE_EXCEEDED"
        assert "Timed out waiting for notification" in slow[1].result()[1]
        # TensorFlow is still at them, so their places are not free.
        assert running.post("toy:predict", json=rows(1)).status_code == 429
        assert running.get("/v1/models/toy").status_code == 200
        first.touch()
        running.wait_for(lambda: running.metric("tfvae_running_requests") == 0)
        assert running.post("toy:predict", json=rows(1)).status_code == 200

        slow = threads.submit(running.post, "toy:predict", json=wait_for(second))
        running.wait_for(lambda: running.metric("tfvae_running_requests") == 1)
        stopped = threads.submit(running.stop)
        running.wait_for_line("Stopping: 1 request(s) still run")
        time.sleep(0.3)
        with pytest.raises(requests.ConnectionError):
            running.get("/v1/models/toy")
        second.touch()
        assert slow.result().json()["outputs"][0] > 0
        assert stopped.result() == 0
        assert running.lines[-1] == "Stopped."
        assert "Traceback" not in running.output()
        channel.close()
