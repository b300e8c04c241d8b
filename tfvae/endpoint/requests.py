"""What the REST and the gRPC side share: a request's way through a version, and the limits on how many run and how long."""

import asyncio
import concurrent.futures
import json
import time

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from tfvae.endpoint import metrics, tensors
from tfvae.endpoint.servable import DEFAULT_SIGNATURE
from tfvae.endpoint.statuses import CODE_NUMBERS, ServingError, invalid


class Requests:
    """Answers requests from `Versions`. Its methods raise `ServingError`.

    Predictions run in threads. REST and gRPC share one limit on their number, and a place is free when TensorFlow is done, not
    when the caller has left: TensorFlow does not stop in the middle of a run. (grpc's own limit, `maximum_concurrent_rpcs`,
    can do neither, and aiohttp has none.)

    Args:
        versions: a `versions.Versions`. options: the `settings.Options`.
    """

    def __init__(self, versions, options):
        self._versions, self._options, self.running = versions, options, set()
        self.threads = concurrent.futures.ThreadPoolExecutor(options.max_concurrent_requests)
        metrics.RUNNING.set_function(lambda: len(self.running))

    async def predict_json(self, spec, body):
        """REST's predict: the answer's JSON text. spec: ModelSpec. body: bytes."""

        def answer(_, servable):
            try:
                document = json.loads(body)
                name = str(document.get("signature_name") or DEFAULT_SIGNATURE)
            except (ValueError, RecursionError, AttributeError) as error:
                raise invalid(f"the body is no JSON object: {error}") from error
            arrays = tensors.from_json(document, servable.inputs(name))
            return tensors.to_json(servable.run(name, arrays, self._options.max_rows), "instances" in document)

        return await self._run("REST", spec, answer)

    async def predict(self, request):
        """gRPC's Predict: a PredictResponse. request: a PredictRequest."""

        def answer(number, servable):
            if request.output_filter:
                raise ServingError("UNIMPLEMENTED", "the stand-in for TF Serving has no output_filter: leave it out")
            spec = model_spec(request.model_spec.name, number)
            spec.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            arrays = tensors.from_protos(request.inputs)
            outputs = servable.run(spec.signature_name, arrays, self._options.max_rows)
            return predict_pb2.PredictResponse(model_spec=spec, outputs=tensors.to_protos(outputs))

        return await self._run("GRPC", request.model_spec, answer)

    async def _run(self, entrypoint, spec, answer):
        """answer(number of the version, `Servable`) in a thread, within the limits, counted in the metrics."""

        def work():
            with self._versions.borrow(spec) as (number, servable):
                return answer(number, servable)

        started, code = time.perf_counter(), "UNKNOWN"
        model = (
            spec.name if spec.name in self._versions.models else ""
        )  # otherwise any caller could fill the metrics with names
        try:
            if len(self.running) >= self._options.max_concurrent_requests:
                raise ServingError("RESOURCE_EXHAUSTED", "too many requests run (--max_concurrent_requests): try again")
            running = asyncio.get_running_loop().run_in_executor(self.threads, work)
            self.running.add(running)
            running.add_done_callback(self.running.discard)
            result = await asyncio.wait_for(asyncio.shield(running), self._options.timeout_seconds)
            code = "OK"
            metrics.LATENCY.labels(model, "predict", entrypoint).observe((time.perf_counter() - started) * 1e6)
            return result
        except asyncio.TimeoutError as error:
            code = "DEADLINE_EXCEEDED"
            raise ServingError(code, f"no answer within --timeout_seconds={self._options.timeout_seconds:g}") from error
        except ServingError as error:
            code = error.code
            raise
        finally:
            metrics.REQUESTS.labels(model, code).inc()

    async def metadata(self, spec, fields=("signature_def",)):
        """A GetModelMetadataResponse. spec: ModelSpec."""
        if list(fields) != ["signature_def"]:
            raise invalid(f"metadata_field is {list(fields)}: expected signature_def")
        with self._versions.borrow(spec) as (number, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=model_spec(spec.name, number))
        response.metadata["signature_def"].Pack(signatures)
        return response

    async def status(self, spec):
        """A GetModelStatusResponse. spec: ModelSpec."""
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, version in self._versions.find(spec).items():
            status = response.model_version_status.add(version=number, state=version.state).status
            error = version.error or ServingError("OK", "")
            status.error_code, status.error_message = CODE_NUMBERS[error.code], error.message
        return response


def model_spec(name, version=None, label=None):
    """A ModelSpec. version: number, or its digits. label: of a version."""
    version = None if version is None else {"value": int(version)}
    return model_pb2.ModelSpec(name=name, version=version, version_label=label)
