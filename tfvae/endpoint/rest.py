"""TF Serving's REST API on aiohttp: paths, status codes and bodies."""

import functools
import traceback

import prometheus_client
from aiohttp import web
from google.protobuf import json_format

from tfvae.endpoint.requests import model_spec
from tfvae.endpoint.statuses import HTTP_STATUS, ServingError

_MODEL = "/v1/models/{name:[^/:]+}"
_CHOICES = ("", r"/versions/{version:\d{1,18}}", "/labels/{label:[^/:]+}")
# A proto as JSON's values, with all its fields.
_plain = functools.partial(
    json_format.MessageToDict, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


def make_application(requests, options):
    """The application that aiohttp runs. requests: a `requests.Requests`. options: the `settings.Options`."""

    async def predict(request):
        body = await request.read()
        return web.json_response(text=await requests.predict_json(model_spec(**request.match_info), body))

    async def metadata(request):
        parts = _plain(await requests.metadata(model_spec(**request.match_info)))
        del parts["metadata"]["signature_def"]["@type"]  # an Any's, which TF Serving leaves out
        return web.json_response(parts)

    async def status(request):
        return web.json_response(_plain(await requests.status(model_spec(**request.match_info))))

    async def metrics_page(request):
        return web.Response(body=prometheus_client.generate_latest(), content_type="text/plain", charset="utf-8")

    async def add_headers(request, response):
        response.headers["Server"] = "stand-in for TF Serving"
        if options.rest_api_enable_cors_support:
            response.headers.update(_CORS)

    application = web.Application(client_max_size=options.max_body_bytes, middlewares=[_errors_as_json])
    application.on_response_prepare.append(add_headers)
    application.router.add_get("/monitoring/prometheus/metrics", metrics_page)
    for choice in _CHOICES:
        application.router.add_post(f"{_MODEL}{choice}:predict", predict)
        application.router.add_get(f"{_MODEL}{choice}/metadata", metadata)
        application.router.add_get(f"{_MODEL}{choice}", status)
    return application


@web.middleware
async def _errors_as_json(request, handler):
    try:
        return await handler(request)
    except ServingError as error:
        code, message = HTTP_STATUS.get(error.code, 500), error.message
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        if request.method == "OPTIONS":  # a browser asks whether a page may: the headers answer
            return web.Response()
        code, message = 400, f"Malformed request: {request.method} {request.path}"  # TF Serving's code
    except web.HTTPException as error:
        code, message = error.status, error.text
    except (web.RequestPayloadError, ConnectionError) as error:
        code, message = 400, f"the body cannot be read: {error}"
    except Exception:
        traceback.print_exc()
        code, message = 500, "internal error: the stand-in's log has more"
    return web.json_response({"error": " ".join(message.split())}, status=code)
