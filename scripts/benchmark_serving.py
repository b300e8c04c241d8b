"""Measures the local endpoint: batching, speed over REST and gRPC, size of the answers, a change of version under load.

python scripts/benchmark_serving.py --model_base_path=published/shapes_gan --output=benchmark_serving.json

The endpoint runs in a process of its own, on a copy of the model's newest version; the clients are threads of this one,
each asking for one picture after the other. Clients and endpoint share the machine. "Direct" calls the loaded SavedModel
in this process, one call with as many rows as there are clients, between the measurements of the endpoint.
"""

import base64
import concurrent.futures
import http.client
import io
import itertools
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import grpc
import numpy as np
import tensorflow as tf
from absl import flags
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfvae import command
from tfvae.endpoint import tensors

MODEL_BASE_PATH = flags.DEFINE_string("model_base_path", None, "Folder of a model's versions; the newest is measured.")
CLIENTS = flags.DEFINE_list("clients", ["1", "8", "32"], "Clients that ask at once.")
SECONDS = flags.DEFINE_float("seconds", 5.0, "Length of each measurement of speed.", lower_bound=0.1)
BURST = flags.DEFINE_integer("burst", 64, "Requests at once for the count of batches.", lower_bound=1)
BATCHING_PARAMETERS_FILE = flags.DEFINE_string(
    "batching_parameters_file", None, "Handed to the endpoint. Default: the endpoint's own."
)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the numbers. Default: none.")


class Endpoint:
    """`python -m tfvae.serve` on one model, in a process of its own."""

    def __init__(self, base_path):
        self.model, self.base_path = base_path.name, base_path
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            self.rest_port, self.port = first.getsockname()[1], second.getsockname()[1]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tfvae.serve",
                "--server=stand_in",
                f"--model_base_path={base_path}",
                f"--rest_api_port={self.rest_port}",
                f"--port={self.port}",
                *(
                    [f"--batching_parameters_file={BATCHING_PARAMETERS_FILE.value}"]
                    if BATCHING_PARAMETERS_FILE.value
                    else []
                ),
            ],
            cwd=pathlib.Path(__file__).resolve().parent.parent,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.DEVNULL,
        )

    def get(self, path):
        """The body of a GET, or None while nobody listens."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except ConnectionError:
            if self.process.poll() is not None:
                raise command.UserError("the endpoint ended: its message is above.") from None
            return None

    def states(self):
        """{version: state}."""
        statuses = json.loads(self.get(f"/v1/models/{self.model}") or "{}").get("model_version_status", [])
        return {int(status["version"]): status["state"] for status in statuses}

    def wait_for(self, version, state):
        """Returns when a version is in a state."""
        while (found := self.states().get(version)) != state:
            if found == "END":
                raise command.UserError(
                    f"version {version} of {self.model} does not load: see /v1/models/{self.model}."
                )
            time.sleep(0.05)

    def batches(self):
        """Batches that were run until now."""
        name = ":tensorflow:serving:batching_session:wrapped_run_count "
        lines = self.get("/monitoring/prometheus/metrics").splitlines()
        return int(float(next(line for line in lines if line.startswith(name)).split()[1]))

    def stop(self):
        """Ends the process as an operator does."""
        self.process.terminate()
        self.process.wait(60)


class RestClient:
    """One connection that asks for one picture at a time."""

    def __init__(self, endpoint, facts):
        self.path, self.facts = f"/v1/models/{endpoint.model}:predict", facts
        self.connection = http.client.HTTPConnection("127.0.0.1", endpoint.rest_port, timeout=60)
        self.connection.connect()

    def ask(self, seed):
        """The answer's body; raises for another status than 200."""
        row = {name: rows[0] for name, rows in arguments([seed], self.facts).items()}
        row = {name: value.item() for name, value in row.items()}
        self.connection.request("POST", self.path, json.dumps({"instances": [row]}))
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body[:200]}")
        return body


class GrpcClient:
    """One channel that asks for one picture at a time."""

    def __init__(self, endpoint, facts):
        self.model, self.facts = endpoint.model, facts
        # Each client with a connection of its own; channels to one address would share it otherwise.
        channel = grpc.insecure_channel(f"127.0.0.1:{endpoint.port}", [("grpc.use_local_subchannel_pool", 1)])
        grpc.channel_ready_future(channel).result(60)
        self.predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

    def ask(self, seed):
        """The PredictResponse; raises for an error."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        for name, rows in arguments([seed], self.facts).items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(rows))
        return self.predict(request, timeout=60)


PROTOCOLS = {"REST": RestClient, "gRPC": GrpcClient}


def arguments(seeds, facts):
    """The inputs of `sample` for these seeds: {name: array}."""
    inputs = {"seed": np.array(seeds, np.int64), "truncation": np.ones(len(seeds), np.float32)}
    if facts["num_classes"]:
        inputs["label"] = np.array(seeds, np.int32) % facts["num_classes"]
    return inputs


def count_batches(endpoint, facts):
    """Batches that `burst` requests at once take, the median of five times."""
    clients = [RestClient(endpoint, facts) for _ in range(BURST.value)]
    counts = []
    with concurrent.futures.ThreadPoolExecutor(BURST.value) as threads:
        for _ in range(5):
            barrier, before = threading.Barrier(BURST.value), endpoint.batches()

            def ask(client, seed, barrier=barrier):
                barrier.wait()
                client.ask(seed)

            list(threads.map(ask, clients, range(BURST.value)))
            counts.append(endpoint.batches() - before)
    return {"requests": BURST.value, "batches": int(statistics.median(counts)), "batches_each_time": counts}


def summary(times, seconds):
    """Rates and percentiles of the durations of requests, seconds."""
    p50, p95, p99 = np.percentile(np.array(times) * 1e3, [50, 95, 99])
    return {"per_second": len(times) / seconds, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def run_clients(clients, until):
    """Durations of requests, seconds, and errors of clients that ask until a function says so."""
    times, errors = [], []

    def ask(client, number):
        for turn in itertools.count():
            if until():
                return
            started = time.perf_counter()
            try:
                client.ask(1_000_000 * number + turn)
                times.append(time.perf_counter() - started)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")

    with concurrent.futures.ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(ask, clients, range(len(clients))))
    return times, errors


def measure_speed(endpoint, facts, model, number):
    """Rows of the table of speed for so many clients."""
    rows = []
    inputs = {name: tf.constant(rows) for name, rows in arguments(range(number), facts).items()}
    model(**inputs)
    started, times = time.perf_counter(), []
    while time.perf_counter() - started < SECONDS.value:
        begun = time.perf_counter()
        model(**inputs)["image_bytes"].numpy()
        times.append(time.perf_counter() - begun)
    direct = summary(times, time.perf_counter() - started)
    rows.append({"way": "direct", "clients": number, **direct, "per_second": direct["per_second"] * number})
    for name, kind in PROTOCOLS.items():
        clients = [kind(endpoint, facts) for _ in range(number)]
        for client in clients:
            client.ask(0)
        before, started = endpoint.batches(), time.perf_counter()
        times, errors = run_clients(clients, lambda started=started: time.perf_counter() - started > SECONDS.value)
        speed = summary(times, time.perf_counter() - started)
        rows_a_batch = (len(times) + len(errors)) / max(1, endpoint.batches() - before)
        rows.append({"way": name, "clients": number, **speed, "rows_a_batch": rows_a_batch, "errors": len(errors)})
    return rows


def measure_sizes(endpoint, facts, number=64):
    """Bytes of an answer of one picture: PNG as it came, and the same pixels as JSON numbers; means over many."""
    client, sizes = RestClient(endpoint, facts), {"png": [], "uint8": [], "float32": []}
    for seed in range(number):
        body = client.ask(seed)
        picture = Image.open(io.BytesIO(base64.b64decode(json.loads(body)["predictions"][0]["b64"])))
        pixels = np.asarray(picture)[None]
        sizes["png"].append(len(body))
        sizes["uint8"].append(len(tensors.to_json({"image": pixels}, as_rows=True)))
        as_floats = (pixels / 127.5 - 1.0).astype(np.float32)
        sizes["float32"].append(len(tensors.to_json({"image": as_floats}, as_rows=True)))
    return {"resolution": pixels.shape[1]} | {name: statistics.mean(values) for name, values in sizes.items()}


def measure_roll_forward(endpoint, facts, version):
    """Publishes the next version while eight clients ask; what became of their requests."""
    clients = [kind(endpoint, facts) for kind in PROTOCOLS.values() for _ in range(4)]
    done = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        load = thread.submit(run_clients, clients, done.is_set)
        time.sleep(1)
        beside = endpoint.base_path / ".tmp-next"
        shutil.copytree(endpoint.base_path / str(version), beside)
        os.rename(beside, endpoint.base_path / str(version + 1))
        started = time.perf_counter()
        endpoint.wait_for(version + 1, "AVAILABLE")
        available = time.perf_counter() - started
        while endpoint.states()[version] != "END":
            time.sleep(0.05)
        time.sleep(1)
        done.set()
        times, errors = load.result()
    return {
        "requests": len(times) + len(errors),
        "failed": len(errors),
        "errors": errors[:5],
        "seconds_until_available": available,
        "longest_request_ms": max(times) * 1e3,
    }


def report(result):
    """The numbers as Markdown."""
    burst, sizes, roll = result["burst"], result["sizes"], result["roll_forward"]
    lines = [
        f"{burst['requests']} requests of one picture at once: {burst['batches']} batches "
        f"({', '.join(map(str, burst['batches_each_time']))} in five tries).",
        "",
        "| way | clients or rows | pictures/s | p50 ms | p95 ms | p99 ms | rows per batch |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["speed"]:
        rows_a_batch = f"{row['rows_a_batch']:.1f}" if "rows_a_batch" in row else row["clients"]
        lines.append(
            f"| {row['way']} | {row['clients']} | {row['per_second']:.0f} | {row['p50_ms']:.1f} | {row['p95_ms']:.1f} | "
            f"{row['p99_ms']:.1f} | {rows_a_batch} |"
        )
    failed = sum(row.get("errors", 0) for row in result["speed"])
    lines += [
        "",
        f"Failed requests: {failed}. Bytes of a REST answer of one picture of {sizes['resolution']} px: PNG {sizes['png']:,.0f}, "
        f"uint8 JSON {sizes['uint8']:,.0f}, float JSON {sizes['float32']:,.0f}.",
        "",
        f"New version under load: {roll['requests']} requests, {roll['failed']} failed; available "
        f"{roll['seconds_until_available']:.1f} s after the rename; longest request {roll['longest_request_ms']:.0f} ms.",
    ]
    return "\n".join(lines)


def main(argv):
    if not MODEL_BASE_PATH.value:
        raise command.UserError("--model_base_path is missing: expected the folder of a model's versions.")
    source = command.path("model_base_path", MODEL_BASE_PATH.value).resolve()
    output = command.path("output", OUTPUT.value) if OUTPUT.value else None
    with command.user_errors():
        found = command.numbered_folders(source)
        if output:
            command.check_writable(output, "output")
    if not found:
        raise command.UserError(f"--model_base_path={source} holds no version: expected a folder named by a number.")
    version = max(found)
    facts = json.loads((found[version] / "assets.extra" / "tfvae.json").read_text())
    with command.literal(found[version]) as folder:
        loaded = tf.saved_model.load(str(folder))
    model = loaded.signatures["sample"]
    with tempfile.TemporaryDirectory() as folder:
        base_path = pathlib.Path(folder) / source.name
        shutil.copytree(found[version], base_path / str(version))
        endpoint = Endpoint(base_path)
        try:
            endpoint.wait_for(version, "AVAILABLE")
            result = {"model": source.name, "cores": len(os.sched_getaffinity(0))}
            result["burst"] = count_batches(endpoint, facts)
            result["speed"] = []
            for number in map(int, CLIENTS.value):
                result["speed"] += measure_speed(endpoint, facts, model, number)
            result["sizes"] = measure_sizes(endpoint, facts)
            result["roll_forward"] = measure_roll_forward(endpoint, facts, version)
        finally:
            endpoint.stop()
    print(report(result))
    if output:
        command.write_whole(output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    command.run_command(main)
