"""The two ways to call a model server, REST and gRPC: each knows one model's `status`, `signatures` and `predict`."""

import base64
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request

import numpy as np


class EndpointError(Exception):
    """One line: what the endpoint or the caller did, what was expected and how to mend it."""


class Away(EndpointError):
    """Nothing answers at the address, or not in time."""


class Busy(EndpointError):
    """The endpoint has more to do than it takes on: worth another try."""


class NotFound(EndpointError):
    """No such model or version, or not yet."""


def connect(url, *arguments):
    """`Rest` or `Grpc`, by the URL's scheme; arguments as theirs. Raises: EndpointError."""
    kind = {"http": Rest, "https": Rest, "grpc": Grpc, "grpcs": Grpc}.get(url.partition("://")[0])
    if kind is None:
        raise EndpointError(f"--url={url}: expected http://HOST:PORT for REST or grpc://HOST:PORT.")
    return kind(url.rstrip("/"), *arguments)


class Rest:
    """TF Serving's REST API, by the standard library.

    Args:
        url: http:// or https://, host and port.
        model: its name. version: a number or None. version_label: a string or None. timeout_seconds: of a request.
    """

    def __init__(self, url, model, version, version_label, timeout_seconds):
        self.url, self.timeout_seconds = url, timeout_seconds
        self.path = f"{url}/v1/models/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            self.path += f"/versions/{version}"
        if version_label is not None:
            self.path += f"/labels/{urllib.parse.quote(version_label, safe='')}"

    def status(self):
        """[(version, state, error message), …]."""
        rows = self._call("")["model_version_status"]
        return [(int(row["version"]), row["state"], row["status"]["error_message"]) for row in rows]

    def signatures(self):
        """{signature: ({input: shape}, [output, …])}; -1 in a shape is free."""
        definitions = self._call("/metadata")["metadata"]["signature_def"]["signature_def"]
        return {
            name: (
                {
                    key: tuple(int(size["size"]) for size in tensor["tensor_shape"].get("dim", []))
                    for key, tensor in definition["inputs"].items()
                },
                list(definition["outputs"]),
            )
            for name, definition in definitions.items()
            if not name.startswith("__")  # __saved_model_init_op
        }

    def predict(self, signature, inputs):
        """{output: list}, or the list alone where there is one output. `inputs`: {name: array [B, …]}."""
        columns = {name: np.asarray(value).tolist() for name, value in inputs.items()}
        return _plain(self._call(":predict", {"signature_name": signature, "inputs": columns})["outputs"])

    def _call(self, what, body=None):
        request = urllib.request.Request(self.path + what, headers={"Content-Type": "application/json"})
        if body is not None:
            request.data = json.dumps(body, allow_nan=False).encode()
        not_rest = "expected the address of TF Serving's REST port, such as http://localhost:8501."
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            try:
                message = json.loads(error.read())["error"]
            except (ValueError, KeyError, TypeError):
                if error.code in (429, 502, 503):  # a proxy's, in front of the server
                    message = error.reason
                else:
                    raise EndpointError(
                        f"{self.url} answered with HTTP {error.code} and no JSON: {not_rest}"
                    ) from error
            raise _refusal(error.code, message) from error
        except (OSError, http.client.HTTPException) as error:  # urllib's own error is an OSError
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise Away(
                    f"{self.url} gave no answer within {self.timeout_seconds:g} s: more with --timeout_seconds."
                ) from error
            raise _away(self.url, reason) from error
        except ValueError as error:
            raise EndpointError(f"{self.url} answered something else than JSON: {not_rest}") from error


class Grpc:
    """TF Serving's gRPC API; `grpcs://` for one behind TLS (own roots: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH).

    Args and methods as `Rest`'s.
    """

    def __init__(self, url, model, version, version_label, timeout_seconds):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            import grpc
            import tensorflow as tf  # the stubs' messages are made of TensorFlow's and import it in any case
            from tensorflow_serving.apis import (
                get_model_metadata_pb2,
                get_model_status_pb2,
                model_service_pb2_grpc,
                predict_pb2,
                prediction_service_pb2_grpc,
            )
        except ImportError as error:
            raise EndpointError(f"gRPC needs more packages ({error}): pip install tensorflow-serving-api.") from error
        self.url, self.timeout_seconds = url, timeout_seconds
        self.model, self.version, self.version_label = model, version, version_label
        self.grpc, self.tf = grpc, tf
        self.status_messages, self.metadata_messages = get_model_status_pb2, get_model_metadata_pb2
        self.predict_request = predict_pb2.PredictRequest
        address = url.partition("://")[2]
        # A client takes answers of 4 MiB unless told otherwise: 22 pictures of 128 px as floats.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if url.startswith("grpcs://"):
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            channel = grpc.insecure_channel(address, options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def status(self):
        answer = self._call(self.models.GetModelStatus, self.status_messages.GetModelStatusRequest())
        states = self.status_messages.ModelVersionStatus.State
        return [(row.version, states.Name(row.state), row.status.error_message) for row in answer.model_version_status]

    def signatures(self):
        request = self.metadata_messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        answer = self._call(self.prediction.GetModelMetadata, request)
        definitions = self.metadata_messages.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(definitions)
        return {
            name: (
                {
                    key: tuple(size.size for size in tensor.tensor_shape.dim)
                    for key, tensor in definition.inputs.items()
                },
                list(definition.outputs),
            )
            for name, definition in definitions.signature_def.items()
            if not name.startswith("__")
        }

    def predict(self, signature, inputs):
        request = self.predict_request()
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(self.tf.make_tensor_proto(value))
        outputs = self._call(self.prediction.Predict, request).outputs
        return {name: self.tf.make_ndarray(tensor) for name, tensor in outputs.items()}

    def _call(self, method, request):
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        if self.version_label is not None:
            request.model_spec.version_label = self.version_label
        try:
            return method(request, timeout=self.timeout_seconds)
        except self.grpc.RpcError as error:
            name, message = error.code().name, error.details() or ""
            if name == "UNAVAILABLE" and "connect" in message.lower():
                raise _away(self.url, message) from error
            if name == "DEADLINE_EXCEEDED":
                raise Away(
                    f"{self.url} gave no answer within {self.timeout_seconds:g} s: more with --timeout_seconds."
                ) from error
            # The codes by which the server itself answers the same over REST.
            raise _refusal(
                {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}.get(name, name), message
            ) from error


def _plain(value):
    """REST's values as Python's: bytes in place of {"b64": …}."""
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _away(url, reason):
    reason = " ".join(str(reason).split())[:120]
    return Away(f"nothing answers at {url} ({reason}): is the endpoint running, and is this its address?")


def _refusal(code, message):
    message = " ".join(str(message).split())[:300]
    if code in (429, 502, 503):
        return Busy(f"the endpoint is busy ({code}: {message})")
    if code == 404:
        return NotFound(
            f"the endpoint has no such model or version, or has not loaded it yet ({message}). See `status`."
        )
    return EndpointError(f"the endpoint refused the request ({code}: {message}).")
