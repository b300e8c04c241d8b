"""One loaded version of a model: a TensorFlow session, as TF Serving holds it, with TensorFlow's batch scheduler before it.

A signature's part of the graph becomes the body of a `BatchFunction` node in the same graph. Each request is one run of
that node in the session; TensorFlow's C++ scheduler collects the runs that wait, concatenates their rows, runs the body
once and hands each run its own rows. Variables and tables stay where the loader put them: the body captures them.
"""

import contextlib
import re

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfvae.command import literal
from tfvae.endpoint import metrics, tensors
from tfvae.endpoint.statuses import CODE_NAMES, ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"


class Servable:
    """A version in memory, warmed up, ready for requests from any number of threads.

    Args:
        path: the version's folder. batching: like `settings.DEFAULT_BATCHING`.

    Raises:
        ServingError: the folder holds no whole SavedModel that a session can run, or a warm-up request fails.
    """

    def __init__(self, path, batching):
        self._batching = batching
        graph, options = tf.Graph(), tf.compat.v1.ConfigProto()
        options.gpu_options.allow_growth = True  # two versions share the memory while one takes over from the other
        # The remapper fails on BigGAN's discriminator, prints so, and leaves the graph as it was.
        options.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
        self._session = tf.compat.v1.Session(graph=graph, config=options)
        self.close = self._session.close  # frees variables and batch threads; no request may run
        with contextlib.ExitStack() as on_error, _errors_as_statuses():
            on_error.callback(self.close)
            with literal(path) as folder:
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
            if any(function.attr["_XlaMustCompile"].b for function in meta_graph.graph_def.library.function):
                # TF Serving would load it, and fail at every request.
                raise ServingError("FAILED_PRECONDITION", "it asks for XLA: export it without jit_compile")
            self.signatures = dict(meta_graph.signature_def)
            graph_def = graph.as_graph_def()
            asked = [name for name, signature in self.signatures.items() if signature.inputs]
            self._calls = {name: self._batched(graph, graph_def, self.signatures[name]) for name in asked}
            graph.finalize()
            self._warm_up(path / "assets.extra" / "tf_serving_warmup_requests")
            on_error.pop_all()

    def _batched(self, graph, graph_def, signature):
        """A signature as a function of its inputs' arrays to its outputs' arrays, both in the order of their sorted names."""
        inputs = [info for _, info in sorted(signature.inputs.items())]
        outputs = [info.name for _, info in sorted(signature.outputs.items())]
        part = tf.compat.v1.graph_util.extract_sub_graph(graph_def, [output.split(":")[0] for output in outputs])
        operations = [graph.get_operation_by_name(node.name) for node in part.node]
        resources = [tensor for operation in operations for tensor in operation.outputs if tensor.dtype == tf.resource]

        def count():
            metrics.BATCHES.inc()
            return np.int32(0)

        def body(*merged):
            with tf.control_dependencies([tf.numpy_function(count, [], tf.int32)]):
                feeds = {info.name: tf.identity(rows) for info, rows in zip(inputs, merged)}
            # `identity` captures the session's variables and tables; without it the body would make its own.
            feeds |= {tensor.name: tf.identity(tensor) for tensor in resources}
            return tf.import_graph_def(part, input_map=feeds, return_elements=outputs, name="")

        with graph.as_default():
            placeholders = [
                tf.compat.v1.placeholder(tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)) for info in inputs
            ]
            batched = tf.nondifferentiable_batch_function(
                **self._batching, autograph=False, enable_large_batch_splitting=False
            )
            results = batched(body)(*placeholders)
        return self._session.make_callable(list(results), feed_list=placeholders)

    def inputs(self, name):
        """{input: TensorInfo} of a signature. Raises: ServingError: there is none of that name that takes inputs."""
        if name not in self._calls:
            names = ", ".join(sorted(self._calls))
            raise ServingError("FAILED_PRECONDITION", f"no signature {name!r}: expected one of {names}")
        return self.signatures[name].inputs

    def run(self, name, arrays, most_rows):
        """One request, from any thread: {output: array}. Raises: ServingError.

        Args:
            name: of a signature. arrays: {input: array}. most_rows: of a request.
        """
        inputs = self.inputs(name)
        # One request that does not fit would fail all those that share its batch.
        if set(arrays) != set(inputs):
            expected, found = (", ".join(sorted(names)) for names in (inputs, arrays))
            raise invalid(f"expected exactly the inputs {expected}, found {found or 'none'}")
        for alias, array in arrays.items():
            info, found = inputs[alias], tf.as_dtype(array.dtype)
            dtype, shape = tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
            if found != dtype or not shape.is_compatible_with(array.shape):
                raise invalid(f"input {alias}: expected {dtype.name} {shape}, found {found.name} {array.shape}")
            if array.ndim and len(array) > most_rows:
                raise invalid(f"input {alias}: expected at most {most_rows} rows per request, found {len(array)}")
        with _errors_as_statuses():
            results = self._calls[name](*(array for _, array in sorted(arrays.items())))
        return dict(zip(sorted(self.signatures[name].outputs), results))

    def _warm_up(self, file):
        """Runs the requests in a file, if it is there; one that fails fails the version, as in TF Serving."""
        if file.exists():
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
                name = request.model_spec.signature_name or DEFAULT_SIGNATURE
                self.run(name, tensors.from_protos(request.inputs), self._batching["max_batch_size"])


@contextlib.contextmanager
def _errors_as_statuses():
    """Turns what TensorFlow raises into a `ServingError`."""
    try:
        yield
    except tf.errors.OpError as error:
        # TensorFlow puts where the node was made before the message, and the nodes that passed the error on after it.
        message = re.split(r"Graph execution error:|Node: '.*'\n", error.message)[-1].split("[[")[0]
        raise ServingError(CODE_NAMES[error.error_code], message) from error
    except (OSError, ValueError, DecodeError) as error:  # files that are missing, or damaged
        raise ServingError("DATA_LOSS", str(error)) from error
