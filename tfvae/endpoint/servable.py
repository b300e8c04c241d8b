"""One loaded version of a model: a TensorFlow session, as TF Serving holds it, with TensorFlow's batch scheduler before it.

A signature's part of the graph becomes the body of a `BatchFunction` node in the same graph. Each request is one run of
that node in the session; TensorFlow's C++ scheduler collects the runs that wait, concatenates their rows, runs the body
once and hands each run its own rows. Variables and tables stay where the loader put them: the body captures them.
"""

import contextlib
import re
import time

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from tfvae.endpoint import tensors
from tfvae.endpoint.statuses import CODES, ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"
_PREDICT_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")
_MOST_WARM_UP_RECORDS = 1000  # TF Serving's


@contextlib.contextmanager
def _errors_as_statuses():
    """Turns what TensorFlow raises into a `ServingError` with TensorFlow's code."""
    try:
        yield
    except tf.errors.OpError as error:
        # Python puts where the node was made before the runtime's message, and the stack of that after it.
        message = re.split(r"\nNode: '[^\n]*'\n", str(error.message))[-1].split("\n\nOriginal stack trace")[0]
        message = re.sub(r"\s*\[\[.*", "", message.removeprefix("Graph execution error:"), flags=re.DOTALL)
        raise ServingError(CODES[error.error_code], " ".join(message.split())) from error
    except (OSError, DecodeError) as error:
        raise ServingError("DATA_LOSS", " ".join(str(error).split())) from error


class Servable:
    """A version in memory, ready for requests from any number of threads.

    Args:
        path: the version's folder. model: the model's name, for metrics. batching: a `settings.Batching`. metrics: a
            `metrics.Metrics`.

    Raises:
        ServingError: the folder holds no whole SavedModel that a session can run.
    """

    def __init__(self, path, model, batching, metrics):
        self.path, self.model, self.batching, self.metrics = path, model, batching, metrics
        graph = tf.Graph()
        options = tf.compat.v1.ConfigProto()
        options.gpu_options.allow_growth = True  # two versions share the memory while one takes over from the other
        self._session = tf.compat.v1.Session(graph=graph, config=options)
        try:
            with _errors_as_statuses():
                self.signatures = dict(self._load().signature_def)
                graph_def = graph.as_graph_def()
                self._calls = {
                    name: self._batched(graph, graph_def, name)
                    for name, signature in self.signatures.items()
                    if signature.inputs and signature.method_name in _PREDICT_METHODS
                }
                graph.finalize()
        except BaseException:
            self.close()
            raise

    def _load(self):
        """The MetaGraphDef, once its graph and variables are in the session."""
        if not (self.path / "saved_model.pb").is_file():
            raise ServingError(
                "NOT_FOUND",
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {self.path}. Check that the "
                "directory exists and that you have the right permissions for accessing it.",
            )
        try:
            meta_graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(self.path))
        except ValueError as error:
            if (self.path / "variables" / "variables.index").exists():
                raise
            # TF Serving's own loader would take it for a model without variables, and fail at every request.
            raise ServingError(
                "DATA_LOSS", f"{self.path} has no variables/variables.index, and its graph has variables: half-written?"
            ) from error
        for function in meta_graph.graph_def.library.function:
            if function.attr["_XlaMustCompile"].b:
                # TF Serving would load this too, and fail at every request.
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f"XLA compilation disabled: function {function.signature.name} asks for it, which TF Serving does not do. "
                    "Export without jit_compile.",
                )
        return meta_graph

    def _batched(self, graph, graph_def, name):
        """A signature as a function of its inputs' arrays to its outputs' arrays, both in the order of their sorted names."""
        signature, batching = self.signatures[name], self.batching
        inputs = [signature.inputs[alias] for alias in sorted(signature.inputs)]
        outputs = [signature.outputs[alias].name for alias in sorted(signature.outputs)]
        part = tf.compat.v1.graph_util.extract_sub_graph(graph_def, [output.split(":")[0] for output in outputs])
        operations = [graph.get_operation_by_name(node.name) for node in part.node]
        resources = [tensor for operation in operations for tensor in operation.outputs if tensor.dtype == tf.resource]

        def count(rows):
            self.metrics.count_batch(self.model, name, int(rows))
            return np.int32(0)

        def body(*merged):
            with tf.control_dependencies([tf.numpy_function(count, [tf.shape(merged[0])[0]], tf.int32)]):
                feeds = {info.name: tf.identity(rows) for info, rows in zip(inputs, merged)}
            # `identity` captures the session's variables and tables; without it the body would make its own.
            feeds |= {tensor.name: tf.identity(tensor) for tensor in resources}
            return tf.import_graph_def(part, input_map=feeds, return_elements=outputs, name="")

        with graph.as_default():
            placeholders = [
                tf.compat.v1.placeholder(tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)) for info in inputs
            ]
            results = tf.nondifferentiable_batch_function(
                batching.num_batch_threads,
                batching.max_batch_size,
                batching.batch_timeout_micros,
                list(batching.allowed_batch_sizes) or None,
                batching.max_enqueued_batches,
                autograph=False,
                enable_large_batch_splitting=False,
            )(body)(*placeholders)
        return self._session.make_callable(list(results), feed_list=placeholders)

    def run(self, name, arrays, most_rows, only=()):
        """One request, from any thread.

        Args:
            name: of one of `signatures`. arrays: {input: array}, all inputs. most_rows: of a request. only: outputs to
                compute; none: all.

        Returns:
            {output: array}.

        Raises:
            ServingError: what is wrong with the request, or went wrong in the model.
        """
        signature = self.signatures[name]
        if signature.method_name not in _PREDICT_METHODS:
            raise ServingError(
                "INTERNAL",
                f"Expected prediction signature method_name to be one of {{{', '.join(_PREDICT_METHODS)}}}. Was: "
                f"{signature.method_name}",
            )
        if not signature.inputs:
            raise invalid("Batching Run() must have at least one input tensor")
        rows = tensors.check_inputs(signature, arrays, most_rows)
        inputs, outputs = sorted(signature.inputs), sorted(only or signature.outputs)
        started = time.perf_counter()
        with _errors_as_statuses():
            if only:
                # As in TF Serving, a run for other outputs than the signature's own does not join its batches.
                feeds = {signature.inputs[alias].name: arrays[alias] for alias in inputs}
                results = self._session.run([signature.outputs[alias].name for alias in outputs], feeds)
            else:
                results = self._calls[name](*(arrays[alias] for alias in inputs))
        self.metrics.count_run(self.model, name, rows, time.perf_counter() - started)
        return dict(zip(outputs, results))

    def predict(self, request, most_rows):
        """A PredictRequest, whatever model it names: (the signature's name, {output: array}). most_rows: as for `run`.

        Raises:
            ServingError.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature, only = self.signatures[name], list(request.output_filter)
        tensors.check_names(signature, request)
        arrays = {alias: tensors.from_proto(alias, proto) for alias, proto in sorted(request.inputs.items())}
        for place, alias in enumerate(only):
            if alias not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                    f"{{{','.join(sorted(signature.outputs))}}}."
                )
            if alias in only[:place]:
                raise invalid(f"duplicate output tensor alias: {alias}")
        return name, self.run(name, arrays, most_rows, only)

    def warm_up(self):
        """Runs the records of assets.extra/tf_serving_warmup_requests; any that fails fails the version, as in TF Serving.

        Raises:
            ServingError.
        """
        file = self.path / "assets.extra" / "tf_serving_warmup_requests"
        if not file.exists():
            return
        records = tf.data.TFRecordDataset(str(file))
        with _errors_as_statuses():
            for number, record in enumerate(records.as_numpy_iterator(), start=1):
                if number > _MOST_WARM_UP_RECORDS:
                    raise invalid(f"Number of warmup records exceeds the maximum ({_MOST_WARM_UP_RECORDS}) at {file}")
                log = prediction_log_pb2.PredictionLog.FromString(record)
                if log.WhichOneof("log_type") != "predict_log":
                    raise ServingError(
                        "UNIMPLEMENTED", f"Unsupported log_type for warmup: {log.WhichOneof('log_type')}"
                    )
                self.predict(log.predict_log.request, self.batching.max_batch_size)

    def close(self):
        """Frees the session, with its variables and batch threads; no request may run."""
        self._session.close()
