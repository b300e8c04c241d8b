"""TF-GAN's scores as functions of arrays, and the one place that knows how to import it; TensorFlow with it, at the first call.

`import tensorflow_gan` (2.1.0, the newest) fails: its packages import `tf.estimator`, which TensorFlow has dropped, on the way to
anything else. The module with the scores needs none of that. So bare modules stand in for its parent packages while it is
imported, their `__path__` the real folders; `eval` among them, whose other modules would need tensorflow-hub.

All runs on the CPU: one value on every machine, and no GPU memory beside the networks'.
"""

import functools
import importlib
import importlib.util
import logging
import os
import sys
import types
import warnings

import numpy as np

_PARENTS = ("tensorflow_gan", "tensorflow_gan.python", "tensorflow_gan.python.eval")


def score(logits):
    """TF-GAN's `classifier_score_from_logits` of logits, float64 [n, K]: a float."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        return float(classifier_metrics().classifier_score_from_logits(tf.constant(logits)))


def frechet_distance(real, fake):
    """TF-GAN's `frechet_classifier_distance_from_activations` of features, float64 [n, D] and [m, D]: a float."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        distance = classifier_metrics().frechet_classifier_distance_from_activations
        return float(distance(tf.constant(real), tf.constant(fake)))


def kernel_distance(real, fake, block_size):
    """TF-GAN's `kernel_classifier_distance_and_std_from_activations` of features, float64 [n, D] and [m, D].

    Args:
        block_size: the largest block, in images.

    Returns:
        (mean over blocks, its standard error): two floats; the error of one block is NaN.
    """
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # TensorFlow warns of an argument that TF-GAN gives its map_fn
        with tf.device("CPU:0"):
            distance = classifier_metrics().kernel_classifier_distance_and_std_from_activations
            mean, error = distance(tf.constant(real), tf.constant(fake), max_block_size=block_size)
    finally:
        logger.setLevel(level)
    return float(mean), float(error)


@functools.cache
def classifier_metrics():
    """`tensorflow_gan.python.eval.classifier_metrics`: imported at the first call (seconds), then kept.

    Its `trace_sqrt_product`, which only the Fréchet distance uses, is replaced by `_trace_of_root`.

    Raises:
        ImportError: TF-GAN, or something that it needs, is not installed.
    """
    try:
        spec = importlib.util.find_spec("tensorflow_gan")
    except ValueError:  # its __spec__ is None: somebody else's bare module
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("The scores need TF-GAN, which is not installed: pip install tensorflow-gan==2.1.0.")
    root = os.path.dirname(next(iter(spec.submodule_search_locations)))
    # Whatever is there already, such as a patched TF-GAN that does import, is used and left.
    stand_ins = [name for name in _PARENTS if name not in sys.modules]
    for name in stand_ins:
        module = types.ModuleType(name)
        module.__path__ = [os.path.join(root, *name.split("."))]
        sys.modules[name] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TensorFlow Probability's use of distutils
            metrics = importlib.import_module("tensorflow_gan.python.eval.classifier_metrics")
    except ImportError as error:
        # `error` names the module; pip's names differ: tensorflow-probability, tf-keras, and setuptools for distutils.
        raise ImportError(
            f"TF-GAN's scores cannot be imported ({error}): "
            "pip install tensorflow-gan==2.1.0 tensorflow-probability==0.25.* tf-keras==2.21.* setuptools."
        ) from error
    finally:
        # An empty `tensorflow_gan` left behind would turn others' clear import error into a puzzle.
        for name in stand_ins:
            sys.modules.pop(name, None)
    metrics.trace_sqrt_product = _trace_of_root
    return metrics


def _trace_of_root(first, second):
    """Tr (C D)^(1/2) of two covariances, float64 [n, n]: the sum of the roots of the eigenvalues of A^T D A, where C = A A^T.

    TF-GAN's own takes both roots by SVD, which is several times as slow, and takes no root of eigenvalues below 1e-10, whatever
    the features' unit: its distance is off by parts of a percent where features vary little.
    """
    import tensorflow as tf

    # NumPy's: TensorFlow's own eigenvalues take one core and several times as long.
    return tf.numpy_function(trace_of_root, [first, second], tf.float64)


def trace_of_root(first, second):
    """The same of arrays."""
    values, vectors = np.linalg.eigh(first)
    factor = vectors * _roots(values)
    return _roots(np.linalg.eigvalsh(factor.T @ second @ factor)).sum()


def _roots(eigenvalues):
    """Roots, 0 of what is rounding: eigenvalues that should be 0 are that, of either sign, and their roots would add up."""
    rounding = np.finfo(np.float64).eps * len(eigenvalues) * np.abs(eigenvalues).max()
    return np.sqrt(np.where(eigenvalues > rounding, eigenvalues, 0.0))
