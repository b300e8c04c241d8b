"""A split of a dataset and the batches drawn from it: by index from memory or files, or streamed from TFRecord."""

import dataclasses
import functools
import hashlib
import os
from typing import Any

import numpy as np
import tensorflow as tf

from tfvae import config
from tfvae.data import folder
from tfvae.data.errors import DataError

SHUFFLE_BUFFER = 10_000
# The op's default of 4 leaves neighbours together: the means of batches of 64 spread 0.6 times as far as at random.
SHUFFLE_ROUNDS = 16
CHUNK = 500  # images held at once where a split is gone through
SHOWN_CLASSES = 12


@dataclasses.dataclass(frozen=True)
class Records:
    """Where a split that is too large for memory is streamed from.

    Attributes:
        examples: yields {"image": encoded bytes, "label": int, if there are labels} in a fixed order.
        decode: function of one example -> {"image": uint8 [resolution, resolution, 3], "label": int32}.
        identity: text of which a run of format 0 has kept the SHA-256.
    """

    examples: tf.data.Dataset
    decode: Any
    identity: str


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split, cropped and resized.

    Attributes:
        dataset: name as the user gave it.
        split: name of the split.
        resolution: side in px.
        num_images: N.
        num_classes: number of labels; 0 for data without labels.
        class_names: their names; empty without labels.
        images: uint8 [N, resolution, resolution, 3]; None where the split streams.
        labels: int32 [N], zeros without labels; None where the split streams from TFRecord.
        factors: further arrays [N, ...] by name, what else is known about each image; empty where the split streams.
        files: list of paths, where the split streams from image files; else None.
        records: `Records`, where the split streams from TFRecord; else None.
        background: colour behind transparent images. fit: how images became square.
        encoded: function without arguments -> SHA-256 (hex) of the names and bytes of the files that the images come from, which
            it reads; None where they come from none.
        notes: lines for people on how the images were found and what was left out.
    """

    dataset: str
    split: str
    resolution: int
    num_images: int
    num_classes: int
    class_names: tuple[str, ...]
    images: np.ndarray | None
    labels: np.ndarray | None
    factors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    files: list | None = None
    records: Records | None = None
    background: str = config.Config.background
    fit: str = config.Config.fit
    encoded: Any = None
    notes: tuple[str, ...] = ()

    @property
    def streaming(self):
        """Whether images are read while training instead of held in memory."""
        return self.images is None

    @property
    def summary(self):
        """Lines for people: how many images there are, of what classes, how they were found and what was left out."""
        number = f"{self.num_images:,} image{'' if self.num_images == 1 else 's'}" if self.num_images else "images"
        line = f"{self.dataset}, {self.split}: {number} of {self.resolution} px"
        line += "" if self.num_images else ", not prepared yet,"
        line += f" in {self.num_classes:,} classes" if self.num_classes else " without classes"
        if self.class_names:
            shown = list(self.class_names[:SHOWN_CLASSES])
            if self.labels is not None:
                counts = np.bincount(self.labels, minlength=self.num_classes)
                shown = [f"{name} {number:,}" for name, number in zip(shown, counts)]
            more = self.num_classes - len(shown)
            line += f": {', '.join(shown)}" + (f" and {more:,} more" if more else "")
        return "\n  ".join([line, *self.notes])

    @property
    def fingerprints(self):
        """What identifies the data, of each kind that is known: {"pixels": …, "encoded": …}, each SHA-256 (hex).

        "pixels" is of pixels and labels, in memory. "encoded" is of the names and bytes of the files that they come from, and of
        how they are decoded. Neither depends on where the files lie. Data that agree in one of the two are the same.
        """
        kinds = {"pixels": self._pixels_fingerprint, "encoded": self._encoded_fingerprint}
        return {kind: value for kind, value in kinds.items() if value is not None}

    @property
    def fingerprint(self):
        """Of `fingerprints` that of the pixels; where the split streams, that of the encoded images."""
        return self._encoded_fingerprint if self.streaming else self._pixels_fingerprint

    @property
    def _size(self):
        return f"{self.num_images} {self.resolution} {self.num_classes}"

    @functools.cached_property
    def _pixels_fingerprint(self):
        if self.streaming:
            return None
        digest = hashlib.sha256(self._size.encode())
        digest.update(np.ascontiguousarray(self.images))
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()

    @functools.cached_property
    def _encoded_fingerprint(self):
        if self.encoded is None:
            return None
        # Cropped, as all images once were, it is left out.
        fit = "" if self.fit == config.Config.fit else f" {self.fit}"
        decoded = f"{self._size} {config.colour(self.background)}{fit}"
        return hashlib.sha256(f"{decoded} {self.encoded()}".encode()).hexdigest()

    @property
    def fingerprint_of_format_0(self):
        """The one that runs of format 0 have kept: of the pixels; where the split streams, of names, sizes and times instead."""
        if not self.streaming:
            return self.fingerprint
        digest = hashlib.sha256(self._size.encode())
        if self.files is None:
            digest.update(self.records.identity.encode())
        else:
            for file in self.files:
                digest.update(
                    f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}".encode(errors="surrogateescape")
                )
            digest.update(np.ascontiguousarray(self.labels))
        return digest.hexdigest()

    def part(self, kept):
        """The same with some of its images only, of a split in memory.

        Args:
            kept: bool [num_images], or sorted int [n].

        Returns:
            `Split`.
        """
        images = self.images[kept]
        factors = {name: values[kept] for name, values in self.factors.items()}
        return dataclasses.replace(
            self, num_images=len(images), images=images, labels=self.labels[kept], factors=factors, encoded=None
        )

    def batches(self, global_batch_size, seed, first_image=0, worker=0, num_workers=1, local_replicas=1):
        """Endless training batches of one worker, made for `strategy.distribute_datasets_from_function`.

        Element k is for step `k // local_replicas`, local replica `k % local_replicas`, and holds its share of the
        global batch, whose images are the next ones of an endless stream that depends on (data, seed) alone. So neither
        resuming nor another number of workers or replicas changes what is seen, and another batch size goes on at the
        same place. Every epoch visits each image once; batches run on across its end.

        Images in memory or in files are taken by a random index shuffle: any place is reached at once. TFRecord is read
        in file order through a seeded buffer of `SHUFFLE_BUFFER` images, and `first_image` skips, undecoded, what lies
        before it in its epoch: the same stream again, but a start that takes time.

        Args:
            global_batch_size: images per step over all replicas of all workers.
            seed: whole number; another seed, another order.
            first_image: place in the stream to begin at: the images that were seen before.
            worker: number of this worker, below `num_workers`.
            num_workers: processes that share each step.
            local_replicas: replicas per worker.

        Returns:
            tf.data.Dataset of {"image": uint8 [b, resolution, resolution, 3], "label": int32 [b]} with
            b = global_batch_size / (num_workers * local_replicas).

        Raises:
            DataError: the batch does not divide over the replicas.
        """
        replicas = num_workers * local_replicas
        if global_batch_size < 1 or global_batch_size % replicas:
            raise DataError(
                f"batch size {global_batch_size} does not divide over {replicas} replicas ({num_workers} workers x "
                f"{local_replicas}): give a multiple of {replicas}"
            )
        if not 0 <= worker < num_workers:
            raise DataError(f"worker {worker} of {num_workers}: expected 0 to {num_workers - 1}")
        batch_size = global_batch_size // replicas
        if self.records is not None:
            share = local_replicas * batch_size
            examples = self._shuffled_records(seed, first_image)
            if num_workers > 1:
                examples = examples.enumerate().filter(lambda place, _: place // share % num_workers == worker)
                examples = examples.map(lambda _, example: example)
            dataset = self._decoded(examples).batch(batch_size, drop_remainder=True)
        else:

            def batch(element):
                replica = worker * local_replicas + element % local_replicas
                start = first_image + element // local_replicas * global_batch_size + replica * batch_size
                position = start + tf.range(batch_size, dtype=tf.int64)
                return self._take(self._shuffled_indices(position, seed), batch_size)

            dataset = tf.data.Dataset.counter(dtype=tf.int64)
            dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def in_order(self, batch_size):
        """Every image once, in the split's own order.

        Args:
            batch_size: images per batch; the last one may be smaller.

        Returns:
            finite tf.data.Dataset of {"image": uint8 [b, resolution, resolution, 3], "label": int32 [b]}.
        """
        if batch_size < 1:
            raise DataError(f"batch size {batch_size}: expected 1 or more")
        if self.records is not None:
            dataset = self._decoded(self.records.examples).batch(batch_size)
        else:

            def batch(start):
                return self._take(tf.range(start, tf.minimum(start + batch_size, self.num_images)), None)

            dataset = tf.data.Dataset.range(0, self.num_images, batch_size)
            dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _shuffled_indices(self, position, seed):
        """Image at each place of the endless stream: epoch e is a permutation of its own, seeded by (seed, e).

        Args:
            position: int64 [b], >= 0.
            seed: whole number.

        Returns:
            int64 [b] in [0, num_images).
        """
        epoch, index = position // self.num_images, position % self.num_images
        # The op takes vectors only: broadcasting fails.
        last = tf.fill(tf.shape(epoch), tf.constant(self.num_images - 1, tf.int64))
        return tf.raw_ops.RandomIndexShuffle(
            index=index, seed=_epoch_words(seed, epoch), max_index=last, rounds=SHUFFLE_ROUNDS
        )

    @functools.cached_property
    def _resident(self):
        # Eager tensors are captured by a dataset's functions as inputs. A NumPy array would be copied into the graph,
        # which is slow and may not exceed 2 GB. `init_scope`: the caller may be tracing a function.
        with tf.init_scope(), tf.device("CPU:0"):
            # Names as bytes: on a disk they need not be UTF-8.
            source = [os.fsencode(file) for file in self.files] if self.streaming else self.images
            return tf.constant(source), tf.constant(self.labels)

    def _take(self, index, batch_size):
        source, labels = self._resident
        image = tf.gather(source, index)
        if self.streaming:
            background = config.colour(self.background)
            read = functools.partial(_read_files, resolution=self.resolution, background=background, fit=self.fit)
            image = tf.numpy_function(read, [image], tf.uint8)
            image = tf.ensure_shape(image, [batch_size, self.resolution, self.resolution, 3])
        return {"image": image, "label": tf.gather(labels, index)}

    def _shuffled_records(self, seed, position):
        """Encoded examples from a place of the endless stream on."""
        first_epoch, skipped = divmod(position, self.num_images)

        def shuffled(epoch):
            # The order comes of two seeds, this one and the graph's, which would be the global one. Beside a graph's seed of 0
            # TensorFlow fails to compare the other, a tensor, with 0: its default for graphs is used in that place.
            tf.compat.v1.set_random_seed(seed % (2**31 - 1) or 87654321)
            order = _epoch_words(seed, epoch[None])[0, 0]
            return self.records.examples.shuffle(SHUFFLE_BUFFER, seed=order, reshuffle_each_iteration=False)

        return tf.data.Dataset.counter(first_epoch, dtype=tf.int64).flat_map(shuffled).skip(skipped)

    def _decoded(self, examples):
        return examples.map(self.records.decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _mix(word):
    """SplitMix64's output function (Steele et al., OOPSLA 2014): every bit of the result depends on every bit given."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ tf.bitwise.right_shift(word, tf.constant(shift, tf.uint64))) * tf.constant(factor, tf.uint64)
    return word ^ tf.bitwise.right_shift(word, tf.constant(31, tf.uint64))


def _epoch_words(seed, epoch):
    """Three words of 32 bits for the order of an epoch.

    Hashed, because RandomIndexShuffle takes them unchanged as its cipher's first round keys: with (seed, epoch, 0) there
    were 256 different orders of 50,000 images at most, and the places of an image in two epochs correlated by 0.7.

    Args:
        seed: whole number of up to 64 bits.
        epoch: int64 [n].

    Returns:
        int64 [n, 3] in [0, 2**32).
    """
    step = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    first = _mix(_mix(tf.constant(seed & 0xFFFFFFFFFFFFFFFF, tf.uint64) + step) + tf.cast(epoch, tf.uint64) * step)
    second = _mix(first + step)
    half = tf.constant(32, tf.uint64)
    words = [tf.bitwise.right_shift(word, half) for word in (first, second, tf.bitwise.left_shift(first, half))]
    return tf.cast(tf.stack(words, axis=1), tf.int64)


def _read_files(files, resolution, background, fit):
    return np.stack([folder.read_image(file, resolution, background, fit) for file in files])


def choose(num_images, limit=None, seed=0):
    """A random subset of `num_images` rows that `seed` fixes; all without a limit: sorted int64 [min(limit, num_images)]."""
    if limit is None or limit >= num_images:
        return np.arange(num_images)
    return np.sort(np.random.default_rng(seed).permutation(num_images)[:limit])


def batches_of(split, rows):
    """Yields (images uint8 [b, R, R, 3], labels int32 [b] or None without classes) of a split's `rows`, sorted int64 [n]."""
    if not split.streaming:
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            yield split.images[some], split.labels[some] if split.num_classes else None
        return
    start = 0
    for batch in split.in_order(CHUNK).as_numpy_iterator():
        some = rows[(rows >= start) & (rows < start + len(batch["image"]))] - start
        start += len(batch["image"])
        if len(some):
            yield batch["image"][some], batch["label"][some] if split.num_classes else None


def without(split, other, rows):
    """The rows of a split whose images are not among another split's `rows`, by their pixels where the splits differ.

    Args:
        split, other: `Split`; one may be a part of the other.
        rows: sorted int64 [n], of `other`.

    Returns:
        sorted int64 [m], of `split`.
    """
    every = np.arange(split.num_images)
    if other.fingerprint == split.fingerprint:
        return np.setdiff1d(every, rows)
    known = {image.tobytes() for images, _ in batches_of(other, rows) for image in images}
    return every[[image.tobytes() not in known for images, _ in batches_of(split, every) for image in images]]
