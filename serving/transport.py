"""The two ways to call a model server, REST and gRPC: each knows one model's `status`, `signatures` and `predict`."""

import asyncio
import base64
import concurrent.futures
import ipaddress
import json
import os
import re
import threading
import urllib.parse
import urllib.request

import numpy as np

try:
    import aiohttp
    import yarl  # aiohttp's URLs
except ImportError:  # gRPC needs neither
    aiohttp = None

NOT_REST = "expected the address of TF Serving's REST port, such as http://localhost:8501."


class EndpointError(Exception):
    """One line: what the endpoint or the caller did, what was expected and how to mend it."""


class Away(EndpointError):
    """Nothing answers at the address, or not in time."""


class Slow(Away):
    """No whole answer within the client's own limit."""


class Busy(EndpointError):
    """The endpoint has more to do than it takes on: worth another try."""


class NotFound(EndpointError):
    """No such model or version, or not yet."""


def connect(url, model, version, version_label):
    """`Rest` or `Grpc`, by the URL's scheme; arguments as theirs. Raises: EndpointError."""
    try:
        parts = urllib.parse.urlsplit(str(url))
        kind = {"http": Rest, "https": Rest, "grpc": Grpc, "grpcs": Grpc}.get(parts.scheme)
        # Reading the port raises a ValueError where it is no number.
        good = kind and parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
        good = good and not any(character.isspace() for character in parts.netloc)
        if kind is Grpc:
            good = good and "@" not in parts.netloc and parts.path in ("", "/")
    except ValueError:
        good = False
    if not good:
        raise EndpointError(f"--url={url}: expected http://HOST:PORT for REST or grpc://HOST:PORT.")
    return kind(parts, model, version, version_label)


class Rest:
    """TF Serving's REST API, by aiohttp, whose limit on time is of the whole request.

    Proxies are taken from the environment, as are names and passwords for hosts from ~/.netrc; neither for this machine itself.

    Args:
        parts: the URL, split: http:// or https://, host and port.
        model: its name. version: a number or None. version_label: a string or None.
    """

    def __init__(self, parts, model, version, version_label):
        if aiohttp is None:
            raise EndpointError("REST needs one more package: pip install aiohttp.")
        self.local, self.where = _is_local(parts.hostname), _shown(parts.geturl())
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not self.local and not urllib.request.proxy_bypass(parts.hostname):
            name = f"{parts.scheme}_proxy"
            proxy_said = f"{name if os.environ.get(name) else name.upper()}={_shown(proxy)}"
            # aiohttp reads the variable by itself, and only proxies of this kind.
            if not re.fullmatch(r"http://([^@/]*@)?([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?/?", proxy, re.IGNORECASE):
                raise EndpointError(f"{proxy_said}: expected http://HOST:PORT, or nothing.")
            self.where += f" through the proxy of {proxy_said}"
        try:
            self.base = str(yarl.URL(parts.geturl())).rstrip("/")
        except ValueError as error:
            raise EndpointError(f"--url={_shown(parts.geturl())}: {error}: expected http://HOST:PORT.") from error
        self.model = f"/v1/models/{urllib.parse.quote(model, safe='')}"
        if version is not None:
            self.model += f"/versions/{version}"
        if version_label is not None:
            self.model += f"/labels/{urllib.parse.quote(version_label, safe='')}"

    def status(self, timeout_seconds):
        """[(version, state, error message), …]."""

        def read(answer):
            rows = answer["model_version_status"]
            return [(int(row["version"]), row["state"], row["status"]["error_message"]) for row in rows]

        return self._call("", read, timeout_seconds)

    def signatures(self, timeout_seconds):
        """{signature: ({input: shape}, [output, …])}; -1 in a shape is free."""

        def read(answer):
            return {
                name: (
                    {
                        key: tuple(int(size["size"]) for size in tensor["tensor_shape"].get("dim", []))
                        for key, tensor in definition["inputs"].items()
                    },
                    list(definition["outputs"]),
                )
                for name, definition in answer["metadata"]["signature_def"]["signature_def"].items()
                if not name.startswith("__")  # __saved_model_init_op
            }

        return self._call("/metadata", read, timeout_seconds)

    def predict(self, signature, inputs, timeout_seconds):
        """{output: list}, or the list alone where there is one output. `inputs`: {name: array [B, …]}."""
        body = _json({"signature_name": signature, "inputs": {name: value.tolist() for name, value in inputs.items()}})
        return self._call(":predict", lambda answer: _plain(answer["outputs"]), timeout_seconds, body.encode())

    def row_bytes(self, inputs):
        """The most that one row of the inputs takes in a request, in bytes."""
        longest = {"u": 255, "i": np.iinfo(np.int64).min, "f": -np.finfo(np.float32).tiny}  # as text
        return sum(
            len(_json(np.full(value.shape[1:], longest[value.dtype.kind]).tolist())) + 1 for value in inputs.values()
        )

    def _call(self, what, read, timeout_seconds, body=None):
        """read(the answer's JSON)."""
        try:
            status, reason, location, content = _finished(self._fetch(self.model + what, body, timeout_seconds))
        except asyncio.TimeoutError as error:
            raise _slow(self.where, timeout_seconds) from error
        except aiohttp.InvalidURL as error:
            raise EndpointError(f"--url={_shown(self.base)}: expected http://HOST:PORT.") from error
        except aiohttp.ClientProxyConnectionError as error:
            raise _no_way(self.where, error) from error
        except aiohttp.ClientHttpProxyError as error:
            raise EndpointError(f"{self.where}: the proxy refused ({error.status}: {_line(error.message)}).") from error
        except aiohttp.ClientSSLError as error:
            raise EndpointError(
                f"{self.where} and this client do not agree on TLS ({_line(error)}): expected https:// only where the server has "
                "a certificate that is trusted here (own roots: SSL_CERT_FILE)."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise _away(self.where, error) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Away(
                f"{self.where} broke off, or does not speak HTTP/1.1 ({_line(error) or type(error).__name__}): {NOT_REST}"
            ) from error
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status == 200:
            try:
                return read(answer)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                kind = "something else than JSON" if answer is None else "other JSON than TF Serving's"
                raise EndpointError(f"{self.where} answered {kind}: {NOT_REST}") from error
        message = answer.get("error") if isinstance(answer, dict) else None
        raise self._refusal(status, message, reason or "no reason given", location, what, len(body or b""))

    async def _fetch(self, path, body, timeout_seconds):
        """(status, reason, Location, content); a redirect is not followed: GET would take the place of POST."""
        asyncio.get_running_loop().set_default_executor(_Daemons())
        limit = aiohttp.ClientTimeout(total=timeout_seconds)
        async with aiohttp.ClientSession(timeout=limit, trust_env=not self.local) as session:
            async with session.request(
                "GET" if body is None else "POST",
                yarl.URL(self.base + path, encoded=True),
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:
                return answer.status, answer.reason, answer.headers.get("Location"), await answer.read()

    def _refusal(self, status, message, reason, location, what, size):
        """The error of a status other than 200, which may be of something between here and the endpoint."""
        said = f"{status}: {_line(message or reason)}"
        if 300 <= status < 400:
            return EndpointError(f"{self.where} leads elsewhere ({said}): {self._target(location, what)}")
        if status == 401:
            return EndpointError(
                f"{self.where} asks for a name and password ({said}): expected those that it takes, as in "
                "--url=https://NAME:PASSWORD@HOST."
            )
        if status == 403:
            return EndpointError(f"{self.where} forbids this request ({said}): ask whoever runs it for access.")
        if status == 407:
            return EndpointError(f"{self.where}: the proxy asks for a name and password ({said}).")
        if status == 504:
            return Away(
                f"{self.where} gave up waiting for the model ({said}): ask for fewer pictures at once, or have the limit raised."
            )
        if message is None and status not in (413, 429, 502, 503):
            page = f"has no page {self.model}{what}, HTTP 404" if status == 404 else f"answered with HTTP {said}"
            return EndpointError(f"{self.where} {page} and no JSON: {NOT_REST}")
        return _refusal(status, message or reason, f"{self.where} takes no request of {size:,} bytes")

    def _target(self, location, what):
        """Where a redirect leads, as the end of its error."""
        if not location:
            return "it does not say where."
        try:
            target = _shown(urllib.parse.urljoin(self.base + self.model + what, location))
        except ValueError:
            target = _shown(location)
        base = target.removesuffix(self.model + what)
        advice = "the address of the endpoint itself" if base == target else f"--url={base}"
        return f"to {target[:200]} . Redirects are not followed: expected {advice}."


class Grpc:
    """TF Serving's gRPC API; `grpcs://` for one behind TLS (own roots: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH).

    Args and methods as `Rest`'s.
    """

    def __init__(self, parts, model, version, version_label):
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
        self.url, self.model, self.version, self.version_label = parts.geturl(), model, version, version_label
        self.grpc, self.tf = grpc, tf
        self.status_messages, self.metadata_messages = get_model_status_pb2, get_model_metadata_pb2
        self.predict_request = predict_pb2.PredictRequest
        # gRPC takes proxies from these variables, in this order, and for this machine too.
        proxy = next((name for name in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(name)), None)
        # A client takes answers of 4 MiB unless told otherwise: 22 pictures of 128 px as floats.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if _is_local(parts.hostname):
            proxy, options = None, [*options, ("grpc.enable_http_proxy", 0)]
        self.through = None
        if proxy is not None and not urllib.request.proxy_bypass(parts.hostname):
            self.through = f"{self.url} through the proxy of {proxy}={_shown(os.environ[proxy])}"
        if parts.scheme == "grpcs":
            channel = grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options)
        else:
            channel = grpc.insecure_channel(parts.netloc, options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def status(self, timeout_seconds):
        answer = self._call(self.models.GetModelStatus, self.status_messages.GetModelStatusRequest(), timeout_seconds)
        states = self.status_messages.ModelVersionStatus.State
        return [(row.version, states.Name(row.state), row.status.error_message) for row in answer.model_version_status]

    def signatures(self, timeout_seconds):
        request = self.metadata_messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        answer = self._call(self.prediction.GetModelMetadata, request, timeout_seconds)
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

    def predict(self, signature, inputs, timeout_seconds):
        request = self.predict_request()
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(self.tf.make_tensor_proto(value))
        outputs = self._call(self.prediction.Predict, request, timeout_seconds).outputs
        return {name: self.tf.make_ndarray(tensor) for name, tensor in outputs.items()}

    def row_bytes(self, inputs):
        return sum(value[0].nbytes for value in inputs.values())

    def _call(self, method, request, timeout_seconds):
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        if self.version_label is not None:
            request.model_spec.version_label = self.version_label
        try:
            return method(request, timeout=min(timeout_seconds, 1e9))  # more is counted as less than nothing
        except self.grpc.RpcError as error:
            name, message = error.code().name, error.details() or ""
            if name == "UNAVAILABLE" and any(part in message.lower() for part in ("connect", "resol")):
                raise (_no_way(self.through, message) if self.through else _away(self.url, message)) from error
            if name == "DEADLINE_EXCEEDED":
                raise _slow(self.url, timeout_seconds) from error
            # The codes by which the server itself answers the same over REST.
            code = {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}.get(name, name)
            if code == 429 and "larger than max" in message:
                code = 413
            size = f"{self.url} takes no request of {request.ByteSize():,} bytes"
            raise _refusal(code, message, size) from error


def _finished(coroutine):
    """What a coroutine returns, from code that is none itself; also in a notebook, whose own loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class _Daemons(concurrent.futures.ThreadPoolExecutor):
    """Runs what asyncio leaves to threads, which is looking names up, in such that nothing waits for when the time is over."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def run():
            try:
                future.set_result(function(*arguments))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future


def _is_local(host):
    """Whether a host is this machine, to which no proxy leads."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".") == "localhost"
    return address.is_loopback or address.is_unspecified


def _shown(url):
    """A URL without name and password."""
    before, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{before}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _json(value):
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _plain(value):
    """REST's values as Python's: bytes in place of {"b64": …}."""
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _line(message):
    return " ".join(str(message).split())[:300]


def _away(url, reason):
    return Away(f"nothing answers at {url} ({_line(reason)[:120]}): is the endpoint running, and is this its address?")


def _no_way(where, reason):
    return Away(
        f"no way to {where} ({_line(reason)[:120]}): correct or unset that variable, or add the host to no_proxy."
    )


def _slow(url, seconds):
    return Slow(f"{url} gave no answer within {seconds:g} s: more with --timeout_seconds.")


def _refusal(code, message, too_large):
    message = _line(message)
    if code == 502:
        return Busy(f"a server before the endpoint got no answer from it (502: {message})")
    if code in (429, 503):
        return Busy(f"the endpoint is busy ({code}: {message})")
    if code == 404:
        return NotFound(
            f"the endpoint has no such model or version, or has not loaded it yet ({message}). See `status`."
        )
    if code == 413:
        return EndpointError(f"{too_large} (413: {message}): ask for fewer pictures at once, or have the limit raised.")
    return EndpointError(f"the endpoint refused the request ({code}: {message}).")
