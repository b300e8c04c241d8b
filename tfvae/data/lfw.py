"""`lfw`: Labeled Faces in the Wild (Huang et al., 2007), deepfunneled, from an archive that the user brings.

The TFDS dataset of the same name reads another archive (the faces as found, not aligned), and the host of this one is
gone. So the user puts the archive into the data folder. It is recognised by its layout and number of images: a checksum
would refuse an archive that was packed anew.
"""

import collections
import concurrent.futures
import dataclasses
import gzip
import hashlib
import io
import re
import tarfile
import zlib

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from tfvae.data.errors import DataError

ARCHIVE = "lfw-deepfunneled.tgz"
ARCHIVE_MD5 = "68331da3eb755a505a502b5aacb3c201"
WHERE_TO_FIND = (
    f"its host (vis-www.cs.umass.edu) is gone; copies: Kaggle jessicali9530/lfw-dataset (pack its folder again as "
    f"{ARCHIVE}) and web.archive.org; the published file has MD5 {ARCHIVE_MD5}; not lfw.tgz or lfw-funneled.tgz, which "
    f"are figshare 5976018 and 5976015, the mirrors of scikit-learn: those faces are aligned otherwise"
)
NUM_IMAGES, NUM_IDENTITIES, NUM_VALIDATION = 13_233, 5_749, 200
SOURCE_SIZE, CROP, RESOLUTION = 250, 80, 45
MAX_DAMAGED = 10

_MEMBER = re.compile(r"(?:.*/)?lfw-deepfunneled/([^/]+)/(\1_\d{4}\.jpg)$")


def read_archive(path):
    """Reads all images of the archive, after making sure that it is the whole of the right one.

    Args:
        path: the `.tgz`.

    Returns:
        dict from "<Name>/<Name>_0001.jpg" to JPEG bytes, sorted by name.

    Raises:
        DataError: the file cannot be read to its end, or holds another layout or another number of images.
    """
    images, folders = {}, collections.Counter()
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folders[member.name.removeprefix("./").split("/")[0]] += 1
                if match := _MEMBER.match(member.name):
                    images["/".join(match.groups())] = archive.extractfile(member).read()
            # What follows the last member holds the checksum, which only a reader that gets there verifies.
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{path} is cut short or damaged ({error}; {len(images):,} images read, {_checksum(path)}): copy it anew; "
            f"{WHERE_TO_FIND}"
        ) from error
    identities = {name.split("/")[0] for name in images}
    if len(images) != NUM_IMAGES or len(identities) != NUM_IDENTITIES:
        holds = ", ".join(f"{number:,} files in {folder}/" for folder, number in folders.most_common(3)) or "no files"
        raise DataError(
            f"{path} is not the whole deepfunneled LFW: expected {NUM_IMAGES:,} images of {NUM_IDENTITIES:,} people as "
            f"lfw-deepfunneled/<Name>/<Name>_0001.jpg, found {len(images):,} of {len(identities):,} ({holds}; "
            f"{_checksum(path)}); {WHERE_TO_FIND}"
        )
    return dict(sorted(images.items()))


def _checksum(path):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return f"its SHA-256 is {digest.hexdigest()}"
    except OSError as error:
        return f"its SHA-256 is unknown: {error}"


def validation_names(names):
    """The fixed validation set: the 200 names with the smallest SHA-256, a choice that depends on no library's random numbers.

    Args:
        names: all "<Name>/<Name>_0001.jpg".

    Returns:
        set of str.
    """
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:NUM_VALIDATION])


def _crop(name, encoded):
    """Cuts 80 px off every side, as the paper's code does; what is left is 90 x 90.

    Returns:
        (name, uint8 [90, 90, 3], whether the JPEG is cut short and its missing rows are grey).
    """
    try:
        image = Image.open(io.BytesIO(encoded))
        if image.size != (SOURCE_SIZE, SOURCE_SIZE):
            raise OSError(f"it is {image.size[0]} x {image.size[1]} px, expected {SOURCE_SIZE} x {SOURCE_SIZE}")
        try:
            pixels, damaged = np.asarray(image.convert("RGB")), False
        except OSError:
            pixels, damaged = _decode_cut_short(encoded), True
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} in {ARCHIVE} is not usable ({reason}): copy the archive anew; {WHERE_TO_FIND}"
        ) from error
    return name, pixels[CROP:-CROP, CROP:-CROP], damaged


def _decode_cut_short(encoded):
    """Decodes a JPEG whose end is missing. By TensorFlow: Pillow's leniency is one switch for all threads."""
    import tensorflow as tf  # here, because `datasets` must not load it

    try:
        return tf.io.decode_jpeg(encoded, channels=3, try_recover_truncated=True).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise OSError(error.message) from error


def identities(split, min_images):
    """The images of the people of whom there are `min_images` or more, labelled by name.

    Args:
        split: `Split` of this dataset, in memory.
        min_images: whole number.

    Returns:
        `Split`; without classes and images where there is no such person.
    """
    names, labels, counts = np.unique(split.factors["identity"], return_inverse=True, return_counts=True)
    known = np.flatnonzero(counts >= min_images)
    kept = np.isin(labels, known)
    labels = np.searchsorted(known, labels[kept]).astype(np.int32)
    class_names = tuple(names[known].tolist())
    return dataclasses.replace(split.part(kept), labels=labels, class_names=class_names, num_classes=len(known))


class LfwDeepfunneled(tfds.core.GeneratorBasedBuilder):
    """Face crops, 90 px, lossless. Whoever reads them resizes them, so one preparation serves every resolution."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {ARCHIVE} there; {WHERE_TO_FIND}."

    def _info(self):
        side = SOURCE_SIZE - 2 * CROP
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "identity": tfds.features.Text(),
                    "file": tfds.features.Text(),
                }
            ),
            homepage="http://vis-www.cs.umass.edu/lfw/",
        )

    def _split_generators(self, dl_manager):
        images = read_archive(dl_manager.manual_dir / ARCHIVE)
        validation = validation_names(images)
        return {
            "train": self._generate_examples({n: i for n, i in images.items() if n not in validation}),
            "validation": self._generate_examples({n: i for n, i in images.items() if n in validation}),
        }

    def _generate_examples(self, images):
        damaged_names = []
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for name, image, damaged in pool.map(_crop, images.keys(), images.values()):
                if damaged:
                    # A copy of the archive that is in use has one such image. It is kept, so that every copy gives as
                    # many images; an archive with many of them is damaged.
                    damaged_names.append(name)
                    logging.warning("%s in %s is cut short: its missing rows are grey", name, ARCHIVE)
                if len(damaged_names) > MAX_DAMAGED:
                    raise DataError(
                        f"more than {MAX_DAMAGED} images in {ARCHIVE} are cut short ({damaged_names[0]} and others): "
                        f"copy the archive anew; {WHERE_TO_FIND}"
                    )
                yield name, {"image": image, "identity": name.split("/")[0], "file": name}
