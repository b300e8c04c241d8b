"""Small SavedModels with known answers, and the endpoint in a process of its own, for the endpoint's tests."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import requests
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).resolve().parent.parent


class Toy(tf.Module):
    """Signatures of the kinds that matter; `version` is a variable, so answers tell which version gave them."""

    def __init__(self, version):
        super().__init__()
        self.version = tf.Variable(version, dtype=tf.int64)
        self.kernel = tf.Variable(tf.reshape(tf.range(48, dtype=tf.float32), [4, 12]))
        spec = tf.TensorSpec
        seed, label = spec([None], tf.int64), spec([None], tf.int32)
        z, word = spec([None, 4], tf.float32), spec([None], tf.string)
        self.functions = {
            "serving_default": tf.function(self.sample, [seed, label]),
            "decode": tf.function(self.decode, [z]),
            "moments": tf.function(self.moments, [spec([None, 2, 2, 3], tf.uint8)]),
            "upper": tf.function(self.upper, [word]),
            "half": tf.function(lambda z: {"half": tf.cast(z, tf.float16)}, [z]),
            "scalar": tf.function(lambda z: {"sum": tf.reduce_sum(z)}, [z]),
            "pick": tf.function(self.pick, [label]),
            "wait": tf.function(self.wait, [word]),
        }

    def sample(self, seed, label):
        texts = [tf.strings.as_string(value) for value in (seed, label, tf.fill(tf.shape(seed), self.version))]
        return {"image_bytes": tf.strings.join(texts, ":")}

    def decode(self, z):
        return {"image": tf.cast(tf.reshape(z @ self.kernel, [-1, 2, 2, 3]), tf.uint8)}

    def moments(self, image):
        mean = tf.reduce_mean(tf.cast(image, tf.float32), [1, 2])
        return {"mean": mean, "largest": tf.reduce_max(image, [1, 2, 3])}

    def upper(self, word):
        return {"text": tf.strings.upper(word)}

    def pick(self, index):
        return {"value": tf.gather(self.kernel[0], index)}

    def wait(self, path):
        # Until there is such a file, so that a test says when a request ends. Each look depends on the turn, in nothing, or
        # TensorFlow would look once and for all.
        def absent(turn):
            return tf.size(tf.io.matching_files(path[0] + tf.strings.substr(tf.strings.as_string(turn), 0, 0))) == 0

        turns = tf.while_loop(absent, lambda turn: [turn + 1], [0])[0]
        return {"turns": tf.fill(tf.shape(path), turns)}


def save(folder, version):
    """A `Toy` as folder/version."""
    toy = Toy(version)
    tf.saved_model.save(toy, str(folder / str(version)), signatures=toy.functions)


def publish(source, target):
    """Copies a version beside its place, then renames it: as a publisher must."""
    beside = target.parent / f".tmp-{target.name}"
    shutil.copytree(source, beside)
    os.rename(beside, target)


def sample(seed, label, version=1):
    """What the toy's default signature gives."""
    return f"{seed}:{label}:{version}".encode()


def rows(*seeds):
    """A request of rows for that signature."""
    return {"instances": [{"seed": seed, "label": 3} for seed in seeds]}


def write_config(folder, names, policy="all {}", stable=1):
    """models.config for models in a folder, written in one step; policy and label are those of `pinned`, if it is there."""
    config = model_server_config_pb2.ModelServerConfig()
    for name in names:
        model = config.model_config_list.config.add(
            name=name, base_path=str(folder / name), model_platform="tensorflow"
        )
        if name == "pinned":
            text_format.Parse(policy, model.model_version_policy)
            model.version_labels["stable"] = stable
    file = folder / "models.config"
    (folder / "new.config").write_text(text_format.MessageToString(config))
    os.rename(folder / "new.config", file)
    return file


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Endpoint:
    """`python -m tfvae.serve` in a process of its own, on free ports. flags: its other flags."""

    def __init__(self, *flags, environment=()):
        self.port, self.rest_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://127.0.0.1:{self.rest_port}"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tfvae.serve",
                f"--port={self.port}",
                f"--rest_api_port={self.rest_port}",
                *map(str, flags),
            ],
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
            | dict(environment),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for_line(self, text, seconds=300):
        """The first line that holds a text."""

        def found():
            return next((line for line in self.lines if text in line), None)

        return self.wait_for(found, seconds)

    def wait_for(self, condition, seconds=300):
        """What a condition gives, once it gives something."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if result := condition():
                return result
            assert self.process.poll() is None, self.output()
            time.sleep(0.05)
        raise AssertionError(f"nothing within {seconds} s: {self.output()}")

    def output(self):
        """All lines so far."""
        return "\n".join(self.lines)

    def post(self, path, **arguments):
        """A POST to a path under /v1/models/."""
        return requests.post(f"{self.url}/v1/models/{path}", timeout=60, **arguments)

    def get(self, path):
        """A GET of a path."""
        return requests.get(f"{self.url}{path}", timeout=60)

    def states(self, model):
        """{version: state} of a model; empty if it has none."""
        statuses = self.get(f"/v1/models/{model}").json().get("model_version_status", [])
        return {int(status["version"]): status["state"] for status in statuses}

    def metric(self, name, **labels):
        """The value of a metric; 0 where it has not been counted yet."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.get("/monitoring/prometheus/metrics").text.splitlines():
            match = re.fullmatch(r"([^{ ]+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name and wanted <= set((match[2] or "").split(",")):
                return float(match[3])
        return 0.0

    def stop(self):
        """Exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def close(self):
        """Ends the process, however it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def endpoint(*flags):
    """An `Endpoint` that is gone afterwards."""
    running = Endpoint(*flags)
    try:
        yield running
    finally:
        running.close()


def flags_of_models(folders, file):
    """Flags by which the endpoint serves several models, {name: folder of versions}, batched as in `serving/`; writes `file`."""
    models = "\n".join(
        f"config {{ name: '{name}' base_path: '{folder}' model_platform: 'tensorflow' }}"
        for name, folder in folders.items()
    )
    file.write_text(f"model_config_list {{ {models} }}")
    return [f"--model_config_file={file}", f"--batching_parameters_file={ROOT}/serving/batching.txt"]
