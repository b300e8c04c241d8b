"""TF Serving's gRPC services, on the official servicers."""

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from tfvae.endpoint.statuses import ServingError


class Services(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Predict, GetModelMetadata and GetModelStatus; the others stay unimplemented. requests: a `requests.Requests`."""

    def __init__(self, requests):
        self._requests = requests

    async def Predict(self, request, context):
        return await _answer(context, self._requests.predict(request))

    async def GetModelMetadata(self, request, context):
        return await _answer(context, self._requests.metadata(request.model_spec, request.metadata_field))

    async def GetModelStatus(self, request, context):
        return await _answer(context, self._requests.status(request.model_spec))


async def _answer(context, response):
    try:
        return await response
    except ServingError as error:
        await context.abort(grpc.StatusCode[error.code], error.message)


def make_server(requests, max_body_bytes):
    """A server with both services, not started. max_body_bytes: of a request; answers have no limit."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise two servers would share a port unnoticed
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Services(requests), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Services(requests), server)
    return server
