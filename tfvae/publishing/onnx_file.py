"""A signature of a model as an ONNX file, for ONNX Runtime and what is built on it."""

import contextlib
import logging

import numpy as np
import tensorflow as tf

from tfvae import command
from tfvae.command import UserError
from tfvae.publishing.verification import TOLERANCES, check_answer
from tfvae.publishing.writing import example

SIGNATURES = ("decode", "encode")  # the others are loops around them, with PNG files that ONNX does not know
NHWC, NCHW = LAYOUTS = ("nhwc", "nchw")
OPSET = 17  # read by ONNX Runtime 1.12 and newer
ROWS = (1, 3)  # of the batches that a written file is tried with


def require_packages():
    """Raises: UserError: the packages that convert and run are not installed."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'--onnx needs more packages ({error}): pip install "tfvae[onnx]", or in the repository pip install -e ".[onnx]".'
        ) from error


def write(path, signature, functions, layout=NHWC):
    """Converts a signature, compares what ONNX Runtime makes of it with TensorFlow, and writes it whole.

    Args:
        path: of the file. signature: one of `SIGNATURES`. functions: `signatures.of_model`'s, in float32.
        layout: `NHWC`, inputs and outputs as served; or `NCHW`, as PyTorch's tools have them: images [B, 3, R, R], labels int64.

    Raises:
        UserError: the model has no such signature, it cannot be converted, or the file answers otherwise.
    """
    if signature not in functions:
        raise UserError(f"--onnx_signature={signature}: the model has no encoder. Expected decode.")
    function, inputs = functions[signature]
    if layout == NCHW:
        function, inputs = channels_first(function, inputs)
    try:
        content = converted(function, inputs)
        for rows in ROWS:
            check(content, function, inputs, rows)
    except command.UserError:
        raise
    except Exception as error:  # of whatever kind the converter and the runtime raise
        raise UserError(
            f"nothing was written, {signature} cannot be converted to ONNX ({' '.join(str(error).split())[:400]})."
        ) from error
    command.write_whole(path, content)


def channels_first(function, inputs):
    """A signature's (function, list of tf.TensorSpec) in the layout `NCHW`."""
    specs = []
    for spec in inputs:
        shape = spec.shape if spec.shape.rank < 4 else [spec.shape[i] for i in (0, 3, 1, 2)]
        specs.append(tf.TensorSpec(shape, tf.int64 if spec.name == "label" else spec.dtype, spec.name))

    def as_served(*values):
        values = [tf.transpose(x, [0, 2, 3, 1]) if x.shape.rank == 4 else x for x in values]
        results = function(*(tf.cast(x, spec.dtype) for x, spec in zip(values, inputs)))
        return {name: tf.transpose(x, [0, 3, 1, 2]) if x.shape.rank == 4 else x for name, x in results.items()}

    return as_served, specs


def converted(function, inputs):
    """The bytes of an ONNX model with the names of a signature's inputs and outputs, for any number of rows."""
    import tf2onnx

    with quiet():
        model, _ = tf2onnx.convert.from_function(
            tf.function(function, autograph=False), input_signature=inputs, opset=OPSET
        )
    return model.SerializeToString()


@contextlib.contextmanager
def quiet():
    """Without the converter's notes on the passes of its optimizer."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def check(content, function, inputs, rows):
    """Raises: ValueError: ONNX Runtime's answer for so many rows is not TensorFlow's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {spec.name: example(spec, rows, 1) for spec in inputs}
    expected = {name: value.numpy() for name, value in function(*map(tf.constant, given.values())).items()}
    names = [output.name for output in session.get_outputs()]
    if {one.name for one in session.get_inputs()} != given.keys() or set(names) != expected.keys():
        raise ValueError(f"its outputs are called {', '.join(names)}, expected {', '.join(expected)}")
    answer = dict(zip(names, session.run(names, given)))
    shapes = {name: np.shape(value) for name, value in answer.items()}
    if shapes != {name: np.shape(value) for name, value in expected.items()}:
        raise ValueError(f"its outputs have the shapes {shapes}")
    check_answer(answer, expected, *TOLERANCES["float32"])
