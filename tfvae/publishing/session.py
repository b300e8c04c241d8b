"""A version in a session, as TF Serving loads and runs it.

Imports TensorFlow and NumPy alone, so that the Python of another TensorFlow can run this file too: as
`python session.py REQUESTS.npz ANSWERS.npz`, in the version's folder.
"""

import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2


def answers(folder, requests):
    """What TF Serving would answer: the version is loaded into a session, as its loader does, and run there.

    Args:
        folder: of the version, by a path that TensorFlow does not take for a pattern.
        requests: list of (signature, dict of arrays).

    Returns:
        list of dicts of arrays.

    Raises:
        ValueError: a function that no server runs. KeyError, OSError, tf.errors.OpError: the version is broken.
    """
    # Without the remapper, as in training: on some encoders it fails with an error line, and a server then goes on without it.
    options = tf.compat.v1.ConfigProto()
    options.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
    with tf.Graph().as_default(), tf.compat.v1.Session(config=options) as session:
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        library = meta_graph.graph_def.library.function
        nodes = [*meta_graph.graph_def.node, *(node for function in library for node in function.node_def)]
        if any(part.attr["_XlaMustCompile"].b for part in (*library, *nodes)):
            raise ValueError("it has functions that XLA must compile, which a server refuses")
        results = []
        for signature, inputs in requests:
            definition = meta_graph.signature_def[signature]
            outputs = {name: tensor.name for name, tensor in definition.outputs.items()}
            results.append(
                session.run(outputs, {definition.inputs[name].name: value for name, value in inputs.items()})
            )
        return results


def packed(rows):
    """What np.savez writes of a list of (signature, dict of arrays): {name: array}. Strings must not end in zero bytes."""
    return {
        f"{number}/{signature}/{name}": value.astype(bytes) if value.dtype == object else value
        for number, (signature, arrays) in enumerate(rows)
        for name, value in arrays.items()
    }


def unpacked(archive):
    """The list of (signature, dict of arrays) of an archive of np.load, written of `packed`."""
    rows = {}
    for key in archive.files:
        if "/" in key:
            number, signature, name = key.split("/")
            rows.setdefault(int(number), (signature, {}))[1][name] = archive[key]
    return [rows[number] for number in sorted(rows)]


if __name__ == "__main__":
    given = unpacked(np.load(sys.argv[1]))
    results = answers(".", given)
    named = [(signature, result) for (signature, _), result in zip(given, results)]
    np.savez(sys.argv[2], tensorflow=tf.__version__, **packed(named))
