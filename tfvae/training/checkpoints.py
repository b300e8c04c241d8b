"""Checkpoints while training: when they are saved, how a save fails, and what is never saved."""

import math
import os
import pathlib
import shutil
import signal
import time

import keras
import tensorflow as tf

from tfvae.command import UserError
from tfvae.training import strategy as strategies


class NotFiniteError(UserError):
    """A loss or a gradient is no longer a number."""


class Finite(keras.callbacks.Callback):
    """Stops at the first loss or gradient norm that is not finite, before anything is saved; stands first in the list."""

    def __init__(self, directory):
        super().__init__()
        self.directory = directory

    def on_train_batch_end(self, batch, logs=None):
        bad = [f"{name}={value}" for name, value in logs.items() if not math.isfinite(value)]
        if bad:
            kept = sorted(self.directory.checkpoints.glob("ckpt-*.index"), key=os.path.getmtime)
            raise NotFiniteError(
                f"training diverged at {self.model.images_seen:,} images: {', '.join(bad)}. Expected finite numbers. "
                + (f"The last good checkpoint is {kept[-1].with_suffix('')}" if kept else "No checkpoint was saved yet")
                + "; lower the learning rates, or set --gradient_clip_norm or --spectral_norm, in another --model_dir."
            )


def save(manager, seen):
    """Saves a checkpoint, or leaves nothing of it and says why. Raises: UserError."""
    try:
        manager.save(checkpoint_number=seen)
    except (tf.errors.OpError, OSError) as error:
        for part in pathlib.Path(manager.directory).glob(f"ckpt-{seen}[._]*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        raise UserError(
            f"checkpoint at {seen:,} images could not be written to {manager.directory} "
            f"({' '.join(str(error).split())[:150]}). The checkpoints before it are whole; free some space and run the same "
            "command again."
        ) from error


class Checkpoints(keras.callbacks.Callback):
    """Saves everything every `checkpoint_every_seconds` and at the end; SIGTERM and SIGINT: save and stop.

    Args:
        data: as `Sheets`'. chief: whether this process writes. others: number of other processes.
    """

    def __init__(self, config, directory, data, chief=True, others=0):
        super().__init__()
        self.config, self.directory, self.data, self.chief, self.others = config, directory, data, chief, others
        self.signal = None

    def on_train_begin(self, logs=None):
        self.last_time, self.saved = time.monotonic(), self.model.images_seen
        self.manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(objective=self.model), str(self.directory.checkpoints), self.config.keep_checkpoints
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.request_stop)

    def request_stop(self, number, frame):
        if self.signal is not None:
            raise KeyboardInterrupt  # asked twice: do not wait for the step
        self.signal = number  # printing here could fail, and nothing would be saved

    def stop_requested(self):
        """Whether this process, or with several any of them, was told to stop: all must leave at the same step."""
        if not self.others:
            return self.signal is not None
        return strategies.sum_over_workers(self.model.distribute_strategy, self.signal is not None) > 0

    def on_train_batch_end(self, batch, logs=None):
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
        if self.chief:
            save(self.manager, seen)
        self.saved = seen
