"""What happens beside the training steps: progress, curves, sheets, checkpoints; all of them count in images seen."""

import contextlib
import dataclasses
import json
import math
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from tfvae.command import duration, write_whole
from tfvae.config import kind_of, shown
from tfvae.data import content, images
from tfvae.drawing import prior, sheets
from tfvae.drawing.model import of_objective
from tfvae.objectives import losses
from tfvae.scoring import protocol, scores, sources
from tfvae.training import checkpoints, store


class Clock:
    """When something is due, by images seen: at every multiple of `every`."""

    def __init__(self, every, images_seen):
        self.every, self.last = every, images_seen

    def due(self, images_seen):
        if not self.every or images_seen // self.every == self.last // self.every:
            return False
        self.last = images_seen
        return True


class Progress(keras.callbacks.Callback):
    """A line every ten seconds: images seen, speed, time left, losses."""

    def __init__(self, config, num_images, every_seconds=10.0):
        super().__init__()
        self.config, self.num_images, self.every_seconds = config, num_images, every_seconds

    def on_train_begin(self, logs=None):
        self.last_time, self.last_images = time.monotonic(), self.model.images_seen
        self.total = self.last_images + self.config.steps_left(self.last_images) * self.model.images_per_step

    def on_train_batch_end(self, batch, logs=None):
        now, seen = time.monotonic(), self.model.images_seen
        if now - self.last_time < self.every_seconds and seen < self.total:
            return
        speed = (seen - self.last_images) / max(now - self.last_time, 1e-9)
        shown = "  ".join(f"{k} {v:.4g}" for k, v in logs.items() if "loss" in k or k in self.model.progress_logs)
        print(
            f"{seen:>11,} / {self.total:,} images  epoch {seen / self.num_images:.2f}  {speed:,.0f} images/s  "
            f"{duration(max(0, self.total - seen) / speed)} left  {shown}",
            flush=True,
        )
        self.last_time, self.last_images = now, seen


class Metrics(keras.callbacks.Callback):
    """Curves: TensorBoard scalars and one JSON line in metrics.jsonl at every `log_every_images`; flags and HParams once."""

    def __init__(self, config, directory, writer):
        super().__init__()
        self.config, self.directory, self.writer = config, directory, writer

    def on_train_begin(self, logs=None):
        seen = self.model.images_seen
        self.clock, self.time, self.images = Clock(self.config.log_every_images, seen), time.monotonic(), seen
        # What a killed run logged after its last checkpoint happens again.
        if self.directory.metrics.exists():
            kept = [line for line, images in self.directory.points() if images <= seen]
            write_whole(self.directory.metrics, "".join(line + "\n" for line in kept))
        drop_later_events(self.writer, seen)
        flags = dataclasses.asdict(self.config)
        with self.writer.as_default(step=seen):
            table = "\n".join(f"| {name} | {value} |" for name, value in flags.items())
            tf.summary.text("flags", f"| flag | value |\n| --- | --- |\n{table}")
            hparams.hparams(comparable(self.config), trial_id=str(self.directory.path))

    def on_train_batch_end(self, batch, logs=None):
        seen = self.model.images_seen
        if not self.clock.due(seen):
            return
        now = time.monotonic()
        row = dict(logs)
        row["images_per_second"] = (seen - self.images) / max(now - self.time, 1e-9)
        row["generator_learning_rate"] = float(self.model.generator_optimizer.learning_rate.numpy())
        row["discriminator_learning_rate"] = float(self.model.discriminator_optimizer.learning_rate.numpy())
        self.time, self.images = now, seen
        with self.writer.as_default(step=seen):
            for name, value in row.items():
                tf.summary.scalar(GROUPS.get(name, "losses") + "/" + name, value)
        with self.directory.metrics.open("a") as file:
            file.write(json.dumps({"images": seen} | row) + "\n")


def drop_later_events(writer, images_seen):
    """Tells TensorBoard that a run goes on from `images_seen`, so that it forgets the points that were logged after it."""
    session = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    event = tf.compat.v1.Event(wall_time=time.time(), step=images_seen + 1, session_log=session).SerializeToString()
    for _ in range(2):  # it takes a run's first such event for its beginning, and forgets nothing
        tf.raw_ops.ImportEvent(writer=writer._resource, event=event)


def comparable(config):
    """The flags of a resolved configuration for HParams: a flag's value has one type, or TensorBoard leaves runs out."""
    values = {}
    for field in dataclasses.fields(config):
        kind, value = kind_of(field), getattr(config, field.name)
        values[field.name] = kind() if value is None else shown(value) if kind is str else kind(value)
    return values


GROUPS = {
    "generator_learning_rate": "learning_rates",
    "discriminator_learning_rate": "learning_rates",
    "generator_gradient_norm": "gradient_norms",
    "discriminator_gradient_norm": "gradient_norms",
    "images_per_second": "speed",
    "accuracy_real": "discriminator",
    "accuracy_fake": "discriminator",
}


class Sheets(keras.callbacks.Callback):
    """Sheets from fixed latents, raw and EMA; interpolations; with an encoder reconstructions and the KL of each dimension.

    Args:
        data: (images uint8 [N, R, R, 3], labels int32 [N]), the same ones at every sheet.
    """

    def __init__(self, config, directory, writer, data):
        super().__init__()
        self.config, self.directory, self.writer, self.data = config, directory, writer, data

    def on_train_begin(self, logs=None):
        self.clock = Clock(self.config.sample_every_images, self.model.images_seen)
        flags = dataclasses.asdict(self.config)
        self.raw, self.ema = (of_objective(self.model, self.directory.path, flags, {}, ema) for ema in (False, True))
        self.written = None  # images seen at the newest sheets

    def on_train_batch_end(self, batch, logs=None):
        if self.clock.due(self.model.images_seen):
            self.write()

    def on_train_end(self, logs=None):
        # Told to stop: whoever waits for the process may not wait long.
        if not self.model.stop_training and self.written != self.model.images_seen:
            self.write()

    def write(self):
        seen = self.written = self.model.images_seen
        self.model.measure_statistics(*self.data)
        samples = sheets.class_rows if self.ema.num_classes else sheets.grid
        pictures = {
            "samples_ema": samples(self.ema, self.config.seed),
            "samples_raw": samples(self.raw, self.config.seed),
            "interpolations": sheets.interpolations(self.ema, self.config.seed),
        }
        if self.ema.encode:
            real, label = self.data[0][:32], self.data[1][:32] if self.ema.num_classes else None
            pictures["reconstructions"] = sheets.reconstructions(self.ema, real, label)
        with self.writer.as_default(step=seen):
            for name, picture in pictures.items():
                images.write_png(self.directory.samples / f"{seen:09d}_{name}.png", picture)
                tf.summary.image(name, picture[None])
            if self.ema.encode:
                mean, log_variance = self.ema.encode(self.data[0])
                kl = np.mean(losses.kl_divergence(mean, log_variance), 0)
                tf.summary.histogram("latent/kl_divergence_of_a_dimension", kl)
                tf.summary.scalar("latent/largest_kl_divergence_of_a_dimension", np.max(kl))
                # Burda et al., arXiv 1509.00519, section 5: a unit is active where the mean's variance is above 0.01.
                tf.summary.scalar("latent/active_units", np.sum(np.var(mean, 0) > 0.01))
        self.writer.flush()


class Scores(keras.callbacks.Callback):
    """Scores the EMA generator on a small sample every `eval_every_images` and at the end, and keeps the best checkpoint.

    The best: of least Fréchet distance. It lies in the run's `best/`, with its scores in a JSON file of the same name. Values of
    a small sample compare along one run, not with those of `tfvae.evaluate`.

    Args:
        split: the training split, whose subset is the reference. extractor: an `Extractor`, loaded outside of any scope.
        data: as `Sheets`'. saver: the `Checkpoints` that end the training where `stop_after_images_without_gain` says so.
    """

    def __init__(self, config, directory, writer, split, extractor, data, saver):
        super().__init__()
        self.config, self.directory, self.writer = config, directory, writer
        self.split, self.extractor, self.data, self.saver = split, extractor, data, saver

    def on_train_begin(self, logs=None):
        self.clock = Clock(self.config.eval_every_images, self.model.images_seen)
        self.scored, self.told = None, set()  # images seen at the newest scores; warnings that were printed
        outputs = protocol.outputs_of_split(self.split, self.extractor, content.cache_dir(), self.config.eval_images)
        frequencies = protocol.mode_frequencies(self.split.dataset, self.extractor)
        self.reference = protocol.Reference(outputs, self.split.num_classes, mode_frequencies=frequencies)
        flags = dataclasses.asdict(self.config)
        drawn = of_objective(self.model, self.directory.path, flags, {}, replica_batch=self.model.global_batch_size)
        labels = outputs.labels if drawn.num_classes else None
        self.source = sources.Generator(drawn, prior.Normal(drawn.latent_dim), labels)
        self.read_best(self.model.images_seen)

    def read_best(self, images_seen):
        """Reads the least distance so far and the images at which it was found; without one they count from `images_seen`."""
        self.least, self.best_at = math.inf, images_seen
        for number, kept in list(store.stored(self.directory.best).items())[-1:]:
            # Unreadable: any score is better.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                row = json.loads(kept.with_suffix(".json").read_text())
                # Files of earlier versions tell the extractor by the score's name alone.
                if row.get("extractor", {}).get("checksum", self.extractor.checksum) != self.extractor.checksum or (
                    self.name not in row and scores.value_of(row, "frechet") is not None
                ):
                    self.set_aside(row)
                else:
                    self.least, self.best_at = float(row[self.name]), number

    def has_ended(self, images_seen):
        """Whether the best score of the run that is in the folder is so old that the run ends."""
        self.read_best(images_seen)
        return self.is_without_gain(images_seen)

    def is_without_gain(self, images_seen):
        limit = self.config.stop_after_images_without_gain
        return limit > 0 and images_seen - self.best_at >= limit

    @property
    def name(self):
        """Of the score that tells the best."""
        return scores.SCORES["frechet"].name_by(self.extractor.kind)

    def set_aside(self, row):
        """Renames the folder of the best checkpoint, which another extractor scored. row: its scores."""
        by = row.get("extractor", {"name": "another extractor", "kind": "another_extractor", "checksum": ""})
        place = "_".join(filter(None, ("best_by", by["kind"], by["checksum"][:8])))
        place, number = self.directory.path / place, 2
        while place.exists():
            place, number = place.with_name(f"{place.name.split('.')[0]}.{number}"), number + 1
        self.directory.best.rename(place)
        print(
            f"The best checkpoint so far was scored by {by['name']} and is kept in {place}; the comparison starts anew by "
            f"{self.extractor.name}.",
            flush=True,
        )

    def on_train_batch_end(self, batch, logs=None):
        if self.clock.due(self.model.images_seen):
            self.score()

    def on_train_end(self, logs=None):
        if not self.model.stop_training and self.scored != self.model.images_seen:
            self.score()

    def score(self):
        seen = self.scored = self.model.images_seen
        self.model.measure_statistics(*self.data)
        number = self.config.eval_images
        batches = self.source.batches(number, self.config.seed)
        outputs = protocol.outputs_of(batches, self.extractor, number, "scores", progress=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, undefined = protocol.score(self.reference, outputs, self.extractor, self.config.seed)
        lines = [f"{name} is left out: {reason}" for name, reason in undefined.items() if scores.find(name).measures]
        for line in [*lines, *(str(one.message) for one in caught)]:
            if line not in self.told:
                print(f"warning: {line}", flush=True)
                self.told.add(line)
        with self.writer.as_default(step=seen):
            for name, value in found.items():
                tf.summary.scalar(f"scores_of_small_sample/{name}", value)
        self.writer.flush()
        row = {"images": seen} | found
        with self.directory.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        best = found.get(self.name, math.inf) < self.least
        names = [scores.SCORES[key].name_by(self.extractor.kind) for key in ("frechet", "precision", "recall")]
        shown = ", ".join(f"{name} {found[name]:.4g}" for name in names if name in found)
        print(
            f"{seen:>11,} images: {shown or 'no score'} of {number:,} images" + (", the best so far" if best else ""),
            flush=True,
        )
        if best:
            self.least, self.best_at = found[self.name], seen
            self.keep(seen, row | {"extractor": protocol.declared(self.extractor)["extractor"]})

        self.saver.without_gain = self.is_without_gain(seen)

    def keep(self, seen, row):
        # The scores first: a checkpoint without them would pass for one that was never scored, and any other would replace it.
        file = self.directory.best / f"ckpt-{seen}.json"
        write_whole(file, json.dumps(row, indent=2) + "\n")
        checkpoints.require_finite(self.model, self.directory)
        store.write(self.directory.best, self.model, seen, keep=1)


def without_gain(config, directory):
    """What a user is told where a run has ended for want of a better score."""
    best = ", ".join(f"{prefix}" for prefix in store.stored(directory.best).values())
    return (
        f"No score was the best one for {config.stop_after_images_without_gain:,} images (--stop_after_images_without_gain). "
        + (f"The best checkpoint is {best} (--best of tfvae.evaluate). " if best else "")
        + "A larger value goes on from the newest checkpoint, 0 as far as --train_images."
    )
