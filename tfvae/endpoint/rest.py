"""TF Serving's REST API on aiohttp: paths, status codes and bodies."""

import json
import re
import traceback
from urllib.parse import unquote

from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tfvae.endpoint import metrics
from tfvae.endpoint.requests import model_spec
from tfvae.endpoint.statuses import HTTP_STATUS, ServingError, invalid

# TF Serving's http_rest_api_util.h.
_PREDICT = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE
)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


class Rest:
    """The handler of every path.

    Args:
        requests: a `requests.Requests`. gate: a `requests.Gate`. page: a function: the metrics, bytes.
        max_body_bytes: of a request, unpacked. cors: whether pages from elsewhere may read the answers.
    """

    def __init__(self, requests, gate, page, max_body_bytes, cors):
        self._requests, self._gate, self._page, self._cors = requests, gate, page, cors
        self._max_body_bytes = max_body_bytes

    def application(self):
        """What aiohttp runs."""
        application = web.Application(client_max_size=self._max_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request):
        path = request.rel_url.raw_path
        if path == metrics.PATH and request.method == "GET":
            return web.Response(body=self._page(), content_type="text/plain", charset="utf-8")
        status, text = 200, ""
        try:
            if not path.lower().startswith("/v1/"):
                raise ServingError("NOT_FOUND", f"Not found: {path}")
            if not (self._cors and request.method == "OPTIONS"):
                text = await self._answer(request, path)
        except ServingError as error:
            status, text = HTTP_STATUS[error.code], json.dumps({"error": error.message}, ensure_ascii=False)
        except web.HTTPRequestEntityTooLarge:
            message = f"Request body is larger than {self._max_body_bytes} bytes, which is the most (--max_body_bytes)"
            status, text = 413, json.dumps({"error": message})
        except web.RequestPayloadError as error:
            message = f"The body cannot be read: {' '.join(str(error).split())}"
            status, text = 400, json.dumps({"error": message})
        except ConnectionResetError:
            status, text = 499, ""  # the client has left
        except web.HTTPException as error:
            status, text = error.status, json.dumps({"error": error.reason})
        except Exception:
            traceback.print_exc()
            status, text = 500, json.dumps({"error": "Internal error: the stand-in's log has more"})
        headers = {"Server": "stand-in for TF Serving"} | (_CORS if self._cors else {})
        return web.Response(status=status, body=text.encode(), content_type="application/json", headers=headers)

    async def _answer(self, request, path):
        """The JSON text of an answer. Raises: ServingError."""
        if request.method == "POST" and (match := _PREDICT.fullmatch(path)):
            name, version, label, method = match.groups()
            if method.lower() != "predict":
                raise ServingError("UNIMPLEMENTED", f"The stand-in for TF Serving does not {method}, it predicts alone")
            spec = _spec(name, version, label)
            length = request.content_length or 0
            if length > self._max_body_bytes:
                raise web.HTTPRequestEntityTooLarge(self._max_body_bytes, length)  # before the body has come
            body = await request.read()
            return await self._gate.run(spec.name, "REST", self._requests.predict_json, spec, body)
        if request.method == "GET" and (match := _STATUS.fullmatch(path)):
            name, version, label, metadata = match.groups()
            if not name:
                raise invalid("Missing model name in request.")
            spec = _spec(name, version, label)
            return self._metadata(spec) if metadata else self._status(spec)
        raise invalid(f"Malformed request: {request.method} {path}")

    def _status(self, spec):
        return _json(self._requests.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))

    def _metadata(self, spec):
        fields = ["signature_def"]
        response = self._requests.metadata(
            get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=fields)
        )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        # The proto's own JSON would wrap the map in an Any; TF Serving puts the parts together like this.
        return f'{{"model_spec": {_json(response.model_spec)}, "metadata": {{"signature_def": {_json(signatures)}}}}}'


def _spec(name, version, label):
    """The ModelSpec of a path's parts. Raises: ServingError."""
    if version and int(version) >= 1 << 63:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    return model_spec(unquote(name), int(version) if version else None, unquote(label) if label else None)


def _json(message):
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
