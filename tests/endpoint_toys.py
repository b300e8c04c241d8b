"""Small SavedModels with known answers, and the endpoint in this process, for the endpoint's tests."""

import asyncio
import contextlib
import functools
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import requests
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from aiohttp import web
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).resolve().parent.parent
_SAVED = tempfile.TemporaryDirectory()


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
        # Also how many rows ran together, padding included.
        return {"value": tf.gather(self.kernel[0], index), "rows": tf.fill(tf.shape(index), tf.size(index))}

    def wait(self, path):
        # Until there is such a file, so that a test says when a request ends. Each look depends on the turn, in nothing, or
        # TensorFlow would look once and for all.
        def absent(turn):
            return tf.size(tf.io.matching_files(path[0] + tf.strings.substr(tf.strings.as_string(turn), 0, 0))) == 0

        turns = tf.while_loop(absent, lambda turn: [turn + 1], [0])[0]
        return {"turns": tf.fill(tf.shape(path), turns)}


@functools.cache
def saved(version):
    """The folder of a saved `Toy`, not to be changed."""
    folder, toy = Path(_SAVED.name) / str(version), Toy(version)
    tf.saved_model.save(toy, str(folder), signatures=toy.functions)
    return folder


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


def wait_for(condition, seconds=60):
    """What a condition gives, once it gives something."""
    until = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < until, f"nothing within {seconds} s"
        time.sleep(0.01)
    return result


@functools.cache
def _loop():
    """The event loop of all endpoints in this process, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


class Endpoint:
    """The stand-in in this process, as `python -m tfvae.serve` runs it, on free ports. given: the command's other flags."""

    def __init__(self, *given):
        from tfvae import serve
        from tfvae.endpoint import server

        server.POLL_SECONDS = 0.05
        with flagsaver.flagsaver():
            ports = f"--port={free_port()}", f"--rest_api_port={free_port()}"
            flags.FLAGS(["serve", *ports, *map(str, given)])
            options = serve.stand_in_options()
        self.port, self.rest_port, self.lines = options.port, options.rest_api_port, []
        self.address, self.url = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.rest_port}"
        application = server.make_application(options, self.lines.append)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=options.timeout_seconds)
        self._run(self._runner.setup())
        self._run(web.TCPSite(self._runner, options.host, self.rest_port).start())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result(60)

    def wait_for_line(self, text):
        """The first line that holds a text."""
        return self.wait_for(lambda: next((line for line in self.lines if text in line), None))

    def wait_for(self, condition):
        """What a condition gives, once it gives something."""
        return wait_for(condition)

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

    def close(self):
        """Ends it as SIGTERM does."""
        self._run(self._runner.cleanup())


@contextlib.contextmanager
def endpoint(*given):
    """An `Endpoint` that is gone afterwards."""
    running = Endpoint(*given)
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
