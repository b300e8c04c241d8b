"""The endpoint as its operator sees it: batches, metrics, versions, limits, the end."""

import base64
import concurrent.futures
import itertools
import os
import shutil
import threading
import time

import grpc
import pytest
import requests
import tensorflow as tf
from endpoint_toys import endpoint, publish, rows, sample, saved, write_config
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

BATCHES = ":tensorflow:serving:batching_session:wrapped_run_count"
REQUESTS = ":tensorflow:serving:request_count"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of the models that the server follows: `toy`, `rolling`, `damaged` with version 1, `pinned` with 1 and 2."""
    folder = tmp_path_factory.mktemp("models")
    for name, version in (("toy", 1), ("rolling", 1), ("damaged", 1), ("pinned", 1), ("pinned", 2)):
        shutil.copytree(saved(version), folder / name / str(version))
    return folder


@pytest.fixture(scope="module")
def server(models):
    """One endpoint for all but the last test. While a batch waits for 20 ms, others join it."""
    config = write_config(models, ["toy", "rolling", "damaged", "pinned"])
    (models / "batching.txt").write_text("batch_timeout_micros { value: 20000 }")
    flags = [f"--batching_parameters_file={models / 'batching.txt'}", "--model_config_file_poll_wait_seconds=1"]
    with endpoint(f"--model_config_file={config}", *flags) as running:
        running.wait_for_line("pinned version 1: AVAILABLE")
        yield running


def test_64_requests_at_once_run_in_far_fewer_batches_and_each_gets_its_own_answer(server):
    before, barrier = server.metric(BATCHES), threading.Barrier(64)

    def ask(seed):
        with requests.Session() as session:
            session.get(f"{server.url}/v1/models/toy", timeout=60)  # opens the connection
            barrier.wait(60)
            return session.post(f"{server.url}/v1/models/toy:predict", json=rows(seed), timeout=60).json()

    with concurrent.futures.ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(ask, range(64)))
    got = [base64.b64decode(answer["predictions"][0]["b64"]) for answer in answers]
    assert got == [sample(seed, 3) for seed in range(64)]
    assert 2 <= server.metric(BATCHES) - before <= 32


def test_metrics_have_tf_servings_names(server):
    before = server.metric(REQUESTS, model_name="toy", status="INVALID_ARGUMENT")
    server.post("toy:predict", data=b"{")
    server.post("toy:predict", json=rows(1))
    server.post("unknown:predict", json=rows(1))
    assert server.metric(REQUESTS, model_name="toy", status="INVALID_ARGUMENT") == before + 1
    assert server.metric(REQUESTS, model_name="", status="NOT_FOUND") >= 1
    assert server.metric(":tensorflow:serving:request_latency_count", model_name="toy", entrypoint="REST") >= 1
    assert "unknown" not in server.get("/monitoring/prometheus/metrics").text


def test_a_new_version_takes_over_under_load_without_a_failed_request(server, models):
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
            publish(saved(2), models / "rolling" / "2")
            server.wait_for_line("rolling version 1: released")
            server.wait_for(lambda: "2" in versions)
        finally:
            done.set()
        for one in asking:
            one.result()
    assert failed == []
    assert server.states("rolling") == {2: "AVAILABLE", 1: "END"}
    assert server.post("rolling/versions/1:predict", json=rows(1)).status_code == 404


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


def test_a_half_written_version_does_not_serve_until_it_is_whole_and_the_good_one_stays(server, models, monkeypatch):
    def served():
        answer = server.post("damaged:predict", json=rows(1)).json()
        return base64.b64decode(answer["predictions"][0]["b64"])

    half = models / "half"
    shutil.copytree(saved(2), half)
    os.rename(half / "variables", models / "variables")
    os.rename(half, models / "damaged" / "2")
    server.wait_for(lambda: server.states("damaged").get(2) == "END")
    status = server.get("/v1/models/damaged/versions/2").json()["model_version_status"][0]["status"]
    assert status["error_code"] == "DATA_LOSS" and "variables" in status["error_message"]
    assert served() == sample(1, 3, version=1)
    os.rename(models / "variables", models / "damaged" / "2" / "variables")
    monkeypatch.setattr("tfvae.endpoint.versions.RETRY_SECONDS", 0.0)
    server.wait_for(lambda: server.states("damaged") == {2: "AVAILABLE", 1: "END"})
    assert served() == sample(1, 3, version=2)


def test_limits_of_number_and_time_and_an_end_that_drops_nothing(tmp_path):
    shutil.copytree(saved(1), tmp_path / "toy" / "1")
    first, second = tmp_path / "first", tmp_path / "second"

    def wait_for(file):
        return {"signature_name": "wait", "inputs": [str(file)]}

    flags = ["--max_concurrent_requests=2", "--max_rows=2", "--timeout_seconds=2"]
    with (
        endpoint(f"--model_base_path={tmp_path / 'toy'}", *flags) as running,
        concurrent.futures.ThreadPoolExecutor() as threads,
        grpc.insecure_channel(running.address, [("grpc.max_receive_message_length", -1)]) as channel,
    ):
        running.wait_for_line("toy version 1: AVAILABLE")
        assert "Access-Control-Allow-Origin" not in running.get("/v1/models/toy").headers
        assert (
            requests.options(f"{running.url}/v1/models/toy", timeout=60).headers.get("Access-Control-Allow-Origin")
            is None
        )
        assert "at most 2 rows" in running.post("toy:predict", json=rows(1, 2, 3)).json()["error"]
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
        assert (late.status_code, "--timeout_seconds=2" in late.json()["error"]) == (504, True)
        assert slow[1].result()[0] == "DEADLINE_EXCEEDED"
        # TensorFlow is still at them, so their places are not free.
        assert running.post("toy:predict", json=rows(1)).status_code == 429
        assert running.get("/v1/models/toy").status_code == 200
        first.touch()
        running.wait_for(lambda: running.metric("tfvae_running_requests") == 0)
        assert running.post("toy:predict", json=rows(1)).status_code == 200

        slow = threads.submit(running.post, "toy:predict", json=wait_for(second))
        running.wait_for(lambda: running.metric("tfvae_running_requests") == 1)
        ended = threads.submit(running.close)
        running.wait_for_line("Stopping: 1 request(s) still run")
        time.sleep(0.1)
        with pytest.raises(requests.ConnectionError):
            running.get("/v1/models/toy")
        second.touch()
        assert len(slow.result().json()["outputs"]) == 1
        ended.result()
        assert running.lines[-1] == "toy version 1: released"
