"""What the REST and the gRPC side share: a request's way through a version, and the limits on how many run and how long."""

import asyncio
import concurrent.futures
import time

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from tfvae.endpoint import json_tensors, tensors
from tfvae.endpoint.servable import DEFAULT_SIGNATURE
from tfvae.endpoint.statuses import CODES, ServingError, invalid


class Requests:
    """Answers requests from `Versions`.

    Args:
        versions: a `versions.Versions`. most_rows: of one request.
    """

    def __init__(self, versions, most_rows):
        self._versions, self._most_rows = versions, most_rows

    def predict_json(self, spec, body):
        """REST's predict: a JSON text. spec: ModelSpec. body: bytes. Raises: ServingError."""
        document = json_tensors.parse(body)
        name = json_tensors.signature_name(document) or DEFAULT_SIGNATURE
        with self._versions.borrow(spec) as (_, servable):
            signature = servable.signatures.get(name)
            if signature is None:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            if not signature.inputs:
                raise invalid(f"Failed to get input map for signature: {name}")
            arrays, as_rows = json_tensors.to_arrays(document, signature.inputs, self._most_rows)
            return json_tensors.from_arrays(servable.run(name, arrays, self._most_rows), as_rows)

    def predict(self, request):
        """gRPC's Predict: a PredictResponse. Raises: ServingError."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        with self._versions.borrow(request.model_spec) as (number, servable):
            name, arrays = servable.predict(request, self._most_rows)
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = request.model_spec.name, name
        response.model_spec.version.value = number
        for alias, array in arrays.items():
            response.outputs[alias].CopyFrom(tensors.to_proto(array))
        return response

    def metadata(self, request):
        """A GetModelMetadataResponse. Raises: ServingError."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._versions.borrow(request.model_spec) as (number, servable):
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.model_spec.name, response.model_spec.version.value = request.model_spec.name, number
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request):
        """A GetModelStatusResponse. Raises: ServingError."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, error in self._versions.states(request.model_spec):
            status = response.model_version_status.add(version=number, state=state)
            status.status.error_code = CODES.index(error.code if error else "OK")
            status.status.error_message = error.message if error else ""
        return response


def model_spec(name, version=None, label=None):
    """A ModelSpec. version: number. label: of a version."""
    spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


class Gate:
    """Runs requests in threads, so many at once and so long each, and counts them.

    Args:
        most_requests: that run at once; one more is refused. timeout_seconds: of a request. metrics: a `metrics.Metrics`.
        knows: a function: whether a model's name may stand in the metrics.
    """

    def __init__(self, most_requests, timeout_seconds, metrics, knows):
        self._most, self._timeout, self._metrics, self._knows = most_requests, timeout_seconds, metrics, knows
        self._threads = concurrent.futures.ThreadPoolExecutor(most_requests, thread_name_prefix="request")
        self.running = 0

    async def run(self, model, entrypoint, function, *arguments):
        """function(*arguments), from the event loop. model: name. entrypoint: REST or GRPC.

        Raises:
            ServingError: the function's own; RESOURCE_EXHAUSTED if too many run; DEADLINE_EXCEEDED if it takes too long.
        """
        started, code = time.perf_counter(), "UNKNOWN"
        try:
            result = await self._run(function, *arguments)
            code = "OK"
            return result
        except ServingError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        finally:
            self._metrics.count_request(
                model if self._knows(model) else "", entrypoint, code, time.perf_counter() - started
            )

    async def _run(self, function, *arguments):
        if self.running >= self._most:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"{self._most} requests are running, which is the most (--max_concurrent_requests): try again",
            )
        self._change(1)
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        # When the work is done, not when the caller has left: TensorFlow does not stop in the middle of a run.
        work.add_done_callback(lambda done: (self._change(-1), done.cancelled() or done.exception()))
        try:
            return await asyncio.wait_for(asyncio.shield(work), self._timeout)
        except asyncio.TimeoutError as error:
            raise ServingError(
                "DEADLINE_EXCEEDED",
                f"Timed out waiting for notification: {self._timeout:g} s (--timeout_seconds) are over",
            ) from error

    def _change(self, by):
        self.running += by
        self._metrics.running.set(self.running)

    def close(self):
        """Waits for what runs."""
        self._threads.shutdown()
