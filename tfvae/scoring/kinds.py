"""What an extractor is: a network that makes features, and mostly logits, of uint8 images, and the record of its kind."""

import collections.abc
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of extractor.

    Attributes:
        name: as --extractor has it and `scores.json` holds it. title: for people.
        load: (its `Kind`, folder or None) -> `Extractor`; raises a ValueError of one line.
        identify: the same -> (`Kind` as the folder has it, the checksum that the `Extractor` has), without TensorFlow; None: by
            `load`.
        weights: how to get its weights, for people. licence: of weights that are others', an SPDX name; "": of our own.
        flag: the one that names its folder or file, without dashes; None: it needs none.
        value_range: what 0 and 255 are scaled to, each a number or one for each channel; None: pixels stay uint8, and the
            network scales them itself.
        side: px to which images are then resized; None: they keep their size.
        resizer: method of `tf.image.resize`. antialias: whether it smoothes first where images become smaller.
        has_papers_names: its scores have the names of the papers: Inception score, FID, KID. TF-GAN's Inception alone.
        has_short_names: scores that people know by one word, such as precision, do not name it.
        knows_classes: its logits are of the dataset's own classes, so that modes can be counted.
        same_person: distance of features below which two pictures are of one person; None: it does not tell people apart.
        replica_batch: images per call and replica, always as many: a network's last bits depend on the batch.
        num_images: on each side of a score by `tfvae.evaluate` unless somebody says otherwise.
    """

    name: str
    title: str
    load: collections.abc.Callable
    weights: str
    licence: str = ""
    identify: collections.abc.Callable | None = None
    flag: str | None = None
    value_range: tuple | None = None
    side: int | None = None
    resizer: str = "bilinear"
    antialias: bool = False
    has_papers_names: bool = False
    has_short_names: bool = False
    knows_classes: bool = False
    same_person: float | None = None
    replica_batch: int = 100
    num_images: int = 10_000

    def identified(self, folder):
        """(`Kind` as the folder has it, checksum, hex). Raises: ValueError: it is not there."""
        if self.identify:
            return self.identify(self, folder)
        extractor = self.load(self, folder)
        return extractor.kind, extractor.checksum

    @property
    def preparation(self):
        """What is done to images first, for people: another preparation gives other scores."""
        parts = []
        if self.value_range:
            ends = (" ".join(f"{v:g}" for v in np.ravel(end)) for end in self.value_range)
            parts.append(f"to [{', '.join(ends)}]")
        if self.side:
            parts.append(f"{self.resizer} to {self.side} px, {'' if self.antialias else 'not '}antialiased")
        return ", then ".join(parts) or "none: the images' own size, scaled inside"

    def prepare(self, images):
        """The same, of a tensor: uint8 [N, H, W, 3] -> what the network takes."""
        import tensorflow as tf

        if self.value_range:
            low, high = (np.asarray(end, np.float32) for end in self.value_range)
            images = tf.cast(images, tf.float32) / (255.0 / (high - low)) + low
        if self.side:
            images = tf.image.resize(images, [self.side] * 2, self.resizer, antialias=self.antialias)
        return images


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A network that makes features and logits of images; call it.

    Attributes:
        kind: `Kind`.
        name: for people: the kind and what it was trained on.
        checksum: of everything that its outputs depend on beside the images and their preparation, hex.
        run: function of a tensor, uint8 [N, H, W, 3] -> {"features": float32 [N, D]} and, where it has some, {"logits": [N, K]};
            a classifier of single channels gives {"kinds": [N, 3]} in their place, the number of its answer for each.
        resolution: side in px of the images that it takes; None: any.
        class_names: of its logits; empty where unknown.
        dataset: whose labels it tells apart; None: of no dataset of ours.
        accuracy: on that dataset's held-out images, or None.
    """

    kind: Kind
    name: str
    checksum: str
    run: collections.abc.Callable = dataclasses.field(repr=False)
    resolution: int | None = None
    class_names: tuple[str, ...] = ()
    dataset: str | None = None
    accuracy: float | None = None

    @property
    def preparation(self):
        return self.kind.preparation

    def __call__(self, images):
        """Logits and features, over the replicas of the strategy in whose scope it was loaded.

        Args:
            images: uint8 [N, H, W, 3], array or tensor; H = W = `resolution` unless that is None.

        Returns:
            {"features": float32 [N, D]} and, where it has some, {"logits": float32 [N, K]}, NumPy arrays.

        Raises:
            ValueError: images of another size or type.
        """
        from tfvae.data.replicas import over_replicas

        images = np.asarray(images)
        check_images(images, self.resolution)
        return over_replicas(self.run, self.kind.replica_batch, images)


def check_images(images, resolution=None):
    """Raises a ValueError of one line unless `images` are uint8 [N, H, W, 3], N > 0, of `resolution` px a side."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: expected uint8 [N, H, W, 3], N 1 or more.")
    if resolution and images.shape[1:3] != (resolution, resolution):
        raise ValueError(
            f"images are {images.shape[1]} x {images.shape[2]} px and the extractor takes {resolution} x {resolution}: "
            "expected one size; a classifier is trained for one dataset at one resolution."
        )
