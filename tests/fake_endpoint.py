"""A small endpoint with TF Serving's REST answers and no model behind them: every picture is one plain colour."""

import base64
import contextlib
import http.server
import io
import json
import re
import threading

import numpy as np
from PIL import Image

PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(:predict|/metadata)?")
DTYPES = {"seed": "DT_INT64", "label": "DT_INT32", "image": "DT_UINT8", "image_bytes": "DT_STRING"}


class FakeModel:
    """A GAN or a VAE: what its signatures take and draw."""

    def __init__(self, vae=False, num_classes=10, resolution=32, latent_dim=16):
        self.num_classes, self.resolution, self.latent_dim = num_classes, resolution, latent_dim
        side, label = [-1, resolution, resolution, 3], {"label": [-1]} if num_classes else {}
        self.signatures = {
            "sample": ({"seed": [-1], "truncation": [-1]} | label, {"image_bytes": [-1]}),
            "decode": ({"z": [-1, latent_dim]} | label, {"image": side}),
        }
        if vae:
            latent = [-1, latent_dim]
            self.signatures["encode"] = ({"image": side}, {"mean": latent, "log_variance": latent})
            self.signatures["reconstruct"] = ({"image": side} | label, {"image_bytes": [-1]})
        self.signatures["serving_default"] = self.signatures["sample"]

    def colour(self, red, green, blue):
        return (
            np.full((self.resolution, self.resolution, 3), [red, green, blue], np.float64).clip(0, 255).astype(np.uint8)
        )

    def run(self, signature, inputs):
        """{output: list of rows}, bytes as bytes."""
        rows = [dict(zip(inputs, row)) for row in zip(*inputs.values())]
        known = [0 <= row.get("label", 0) < max(self.num_classes, 1) for row in rows]
        if signature == "sample":  # red tells the seed, green the class, blue the truncation
            drawn = [self.colour(row["seed"] % 256, 20 * row.get("label", 0), 100 * row["truncation"]) for row in rows]
        elif signature == "decode":  # red and green tell the latent's first two numbers
            drawn = [self.colour(128 + 30 * row["z"][0], 128 + 30 * row["z"][1], 255) for row in rows]
            return {"image": [d if good else d * 0 for d, good in zip(drawn, known)]}
        elif signature == "encode":  # the mean of red and green
            means = [np.mean(row["image"], (0, 1)) / 255 for row in rows]
            return {
                "mean": [[m[0], m[1]] + [0.5] * (self.latent_dim - 2) for m in means],
                "log_variance": [[-1.0] * self.latent_dim] * len(rows),
            }
        else:  # the negative
            drawn = [255 - np.asarray(row["image"], np.uint8) for row in rows]
        return {"image_bytes": [png(d) if good else b"" for d, good in zip(drawn, known)]}


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


class FakeEndpoint:
    """Serves `models` over REST on a free port of 127.0.0.1.

    Attributes:
        requests: [(path, body or None), …] of all that came in. sizes: bytes of the predictions' bodies.
        failures: (HTTP code, message) of the next predictions.
        versions: {version: state}, the same for every model. hold: predictions wait for it.
    """

    def __init__(self, models, cors=True, port=0):
        self.models, self.cors = models, cors
        self.requests, self.sizes, self.failures, self.versions = [], [], [], {3: "AVAILABLE"}
        self.hold = threading.Event()
        self.hold.set()
        handler = type("Handler", (Handler,), {"endpoint": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def predictions(self, model=None):
        """Bodies of the predictions asked for, in order."""
        return [body for path, body in self.requests if body and (model is None or f"/{model}:" in path)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_OPTIONS(self):
        self.answer(200, {})

    def do_GET(self):
        self.endpoint.requests.append((self.path, None))
        name, version, _, what = PATH.fullmatch(self.path).groups()
        model = self.endpoint.models.get(name)
        if model is None or (version and int(version) not in self.endpoint.versions):
            return self.answer(404, {"error": f"Could not find any versions of model {name}"})
        if what == "/metadata":
            tensors = lambda shapes: {key: tensor(key, shape) for key, shape in shapes.items()}  # noqa: E731
            definitions = {
                key: {
                    "inputs": tensors(inputs),
                    "outputs": tensors(outputs),
                    "method_name": "tensorflow/serving/predict",
                }
                for key, (inputs, outputs) in model.signatures.items()
            }
            definitions["__saved_model_init_op"] = {
                "inputs": {},
                "outputs": {"__saved_model_init_op": tensor("", None)},
            }
            return self.answer(200, {"model_spec": {}, "metadata": {"signature_def": {"signature_def": definitions}}})
        states = [
            {"version": str(number), "state": state, "status": {"error_code": "OK", "error_message": ""}}
            for number, state in self.endpoint.versions.items()
            if not version or number == int(version)
        ]
        return self.answer(200, {"model_version_status": states})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.endpoint.requests.append((self.path, body))
        self.endpoint.sizes.append(int(self.headers["Content-Length"]))
        name = PATH.fullmatch(self.path).group(1)
        self.endpoint.hold.wait()
        if self.endpoint.failures:
            code, message = self.endpoint.failures.pop(0)
            return self.answer(code, {"error": message})
        if name not in self.endpoint.models:
            return self.answer(404, {"error": f"Servable not found for request: Latest({name})"})
        model = self.endpoint.models[name]
        inputs, signature = body["inputs"], body["signature_name"]
        if set(inputs) != set(model.signatures[signature][0]):
            return self.answer(400, {"error": f"input keys {sorted(inputs)}"})
        if len({len(column) for column in inputs.values()}) != 1:
            return self.answer(400, {"error": "inconsistent batch size"})
        outputs = {
            key: [
                {"b64": base64.b64encode(row).decode()} if isinstance(row, bytes) else np.asarray(row).tolist()
                for row in rows
            ]
            for key, rows in model.run(signature, inputs).items()
        }
        return self.answer(200, {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))})

    def answer(self, code, content):
        text = json.dumps(content, indent=1).encode()
        # The page leaves a request behind when a newer one replaces it.
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            if self.endpoint.cors:
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Access-Control-Allow-Methods", "POST, GET")
                self.send_header("Access-Control-Allow-Headers", "Content-Type")
            self.end_headers()
            self.wfile.write(text)


def tensor(name, shape):
    dims = {"unknown_rank": True} if shape is None else {"dim": [{"size": str(size), "name": ""} for size in shape]}
    return {
        "dtype": DTYPES.get(name, "DT_FLOAT"),
        "tensor_shape": dims | {"unknown_rank": shape is None},
        "name": f"{name}:0",
    }
