"""TF Serving's gRPC services, on the official servicers."""

import functools
import traceback

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from tfvae.endpoint.statuses import ServingError


def _answer(method):
    """A method (self, request) that may raise `ServingError` as a method of a servicer."""

    @functools.wraps(method)
    async def answer(self, request, context):
        try:
            return await method(self, request)
        except ServingError as error:
            await context.abort(grpc.StatusCode[error.code], error.message)
        except Exception:
            traceback.print_exc()
            await context.abort(grpc.StatusCode.INTERNAL, "Internal error: the stand-in's log has more")

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the others stay unimplemented.

    Args:
        requests: a `requests.Requests`. gate: a `requests.Gate`.
    """

    def __init__(self, requests, gate):
        self._requests, self._gate = requests, gate

    @_answer
    async def Predict(self, request):
        return await self._gate.run(request.model_spec.name, "GRPC", self._requests.predict, request)

    @_answer
    async def GetModelMetadata(self, request):
        return self._requests.metadata(request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest stays unimplemented. requests: a `requests.Requests`."""

    def __init__(self, requests):
        self._requests = requests

    @_answer
    async def GetModelStatus(self, request):
        return self._requests.status(request)


def make_server(requests, gate, max_body_bytes):
    """A server with both services, not started. max_body_bytes: of a request; answers have no limit."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # or two servers would share a port without a word
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(requests, gate), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(requests), server)
    return server
