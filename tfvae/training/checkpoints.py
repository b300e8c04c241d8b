"""Checkpoints while training: when they are saved, how a save fails, and what is never saved."""

import math
import signal
import time

import keras

from tfvae.command import UserError
from tfvae.training import store
from tfvae.training import strategy as strategies


class NotFiniteError(UserError):
    """A loss, a gradient or a weight is no longer a number.

    Args:
        model: an `Objective`. bad: what is not finite, list of str. directory: the run's.
    """

    def __init__(self, model, bad, directory):
        good = store.newest_finite(directory.checkpoints)
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        super().__init__(
            f"training diverged at {model.images_seen:,} images: {', '.join(bad[:5])}{more}. Expected finite numbers. "
            + (f"The last good checkpoint is {good}" if good else "No checkpoint of a trained model was saved yet")
            + "; lower the learning rates, or set --gradient_clip_norm or --spectral_norm, in another --model_dir."
        )


class Finite(keras.callbacks.Callback):
    """Stops at the first loss or gradient norm that is not finite, before anything is saved; must be the first callback."""

    def __init__(self, directory):
        super().__init__()
        self.directory = directory

    def on_train_batch_end(self, batch, logs=None):
        bad = [f"{name}={value}" for name, value in logs.items() if not math.isfinite(value)]
        if bad:
            raise NotFiniteError(self.model, bad, self.directory)


def require_finite(model, directory):
    """Raises a NotFiniteError if a weight of the model or of its optimizers is not finite; losses show it a step later."""
    bad = store.not_finite(model)
    if bad:
        raise NotFiniteError(model, [f"{name} is not finite" for name in bad], directory)


class Checkpoints(keras.callbacks.Callback):
    """Saves everything before the first step, every `checkpoint_every_seconds` and at the end; SIGTERM and SIGINT: save and stop.

    As after a signal it ends where the scores set `without_gain`. So there is a checkpoint whenever anything was trained, and a
    run without one has lost it.

    Args:
        data: as `Sheets`'. chief: whether this process writes. others: number of other processes.
    """

    def __init__(self, config, directory, data, chief=True, others=0):
        super().__init__()
        self.config, self.directory, self.data, self.chief, self.others = config, directory, data, chief, others
        self.signal, self.without_gain = None, False

    def on_train_begin(self, logs=None):
        self.last_time, self.saved = time.monotonic(), self.model.images_seen
        if self.chief and not self.saved:
            # Its batch statistics need no measuring: nothing is drawn from it.
            store.write(self.directory.checkpoints, self.model, 0, self.config.keep_checkpoints)
        elif self.chief:
            store.prune(self.directory.checkpoints, self.saved, self.config.keep_checkpoints)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.request_stop)

    def request_stop(self, number, frame):
        if self.signal is not None:
            raise KeyboardInterrupt  # asked twice: do not wait for the step
        self.signal = number  # printing here could fail, and nothing would be saved

    def stop_requested(self):
        """Whether this process, or with several any of them, was told to stop: all must leave at the same step."""
        told = self.signal is not None or self.without_gain
        return strategies.sum_over_workers(self.model.distribute_strategy, told) > 0 if self.others else told

    def on_train_batch_end(self, batch, logs=None):
        self.directory.trained = True
        stop = self.stop_requested()
        if stop or time.monotonic() - self.last_time >= self.config.checkpoint_every_seconds:
            self.save()
        if stop:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.saved != self.model.images_seen:
            self.save()

    def save(self):
        seen = self.model.images_seen
        self.last_time = time.monotonic()
        self.model.measure_statistics(*self.data)
        require_finite(self.model, self.directory)
        if self.chief:
            store.write(self.directory.checkpoints, self.model, seen, self.config.keep_checkpoints)
        self.saved = seen
