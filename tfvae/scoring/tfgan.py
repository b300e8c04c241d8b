"""The one place that knows how to import TF-GAN.

`import tensorflow_gan` (2.1.0, the newest) fails: its packages import `tf.estimator`, which TensorFlow has dropped, on the way to
anything else. The module with the scores needs none of that. So bare modules stand in for its parent packages while it is
imported, their `__path__` the real folders; `eval` among them, whose other modules would need tensorflow-hub.
"""

import functools
import importlib
import importlib.util
import os
import sys
import types
import warnings

_PARENTS = ("tensorflow_gan", "tensorflow_gan.python", "tensorflow_gan.python.eval")


@functools.cache
def classifier_metrics():
    """`tensorflow_gan.python.eval.classifier_metrics`: imported at the first call (seconds), then kept.

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
            return importlib.import_module("tensorflow_gan.python.eval.classifier_metrics")
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
