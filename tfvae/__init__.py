"""What does the training objective, GAN or VAE, do to a generator's variety when all else is the same?"""

import os
import sys

__all__ = ["load"]

# TensorFlow prints a page about devices and rounding at every start. What matters comes as a Python exception.
if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TFVAE_SET_LOG_LEVEL"] = "1"  # in the environment, so that processes that a command starts know it too

# Keras reads its settings when it is imported, from the environment and from the user's keras.json. Another backend, channels
# first, another precision or a limit of steps would make other networks and other runs of the same flags.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull  # where no keras.json can be, nor be made
for _name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED"):
    os.environ.pop(_name, None)
if "keras" in sys.modules:  # by a program that uses this package
    _keras = sys.modules["keras"].config
    if _keras.backend() != "tensorflow":
        raise ImportError(
            f"Keras was imported with the backend {_keras.backend()} before tfvae: expected tensorflow. Import tfvae first, or "
            "set KERAS_BACKEND=tensorflow."
        )
    _keras.set_floatx("float32")
    _keras.set_epsilon(1e-7)
    _keras.set_image_data_format("channels_last")


def load(path, ema=True, best=False):
    """A trained model, to draw and encode with; TensorFlow is imported here, not with the package.

    Args:
        path: folder of a run of `tfvae.train`; or of a version that `tfvae.export` published, or of a model's versions: then the
            newest.
        ema: of a run: with the moving averages of the weights; else with the last weights.
        best: of a run: the checkpoint that scored best while training, not the newest.

    Returns:
        `tfvae.library.TrainedModel`.

    Raises:
        tfvae.command.UserError: nothing that can be loaded is there; in one line.
    """
    from tfvae import command

    with command.without_notes_of_libraries():
        from tfvae import library
    return library.load(path, ema, best)
