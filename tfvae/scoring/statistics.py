"""Reference statistics: mean and covariance of real images' features, for the Fréchet distance without the images.

A file is an .npz with `mu` [D] and `sigma` [D, D], as pytorch-fid and StyleGAN's tools write them, and beside them the
facts of what the two were computed from.
"""

import dataclasses
import warnings
import zipfile
import zlib

import numpy as np

from tfvae.command import write_whole
from tfvae.scoring import checks, distances

# Facts that a file of ours has beside `mu` and `sigma`, and how each is read.
FACTS = {
    "num_images": int,
    "extractor": str,
    "checksum": str,
    "preparation": str,
    "dataset": str,
    "split": str,
    "fingerprint": str,
    "resolution": int,
    "background": str,
}
_ROUNDING = 1e-5  # of the largest entry or eigenvalue: what float32 leaves of symmetry, and of eigenvalues that are 0


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Of the features of a set of images.

    Attributes:
        mean: float64 [D]. covariance: float64 [D, D], divided by n - 1.
        facts: {one of `FACTS`: its value}; {}: another tool's file, which does not have them.
        class_counts: int [K], images of each label; None: without labels.
    """

    mean: np.ndarray
    covariance: np.ndarray
    facts: dict
    class_counts: np.ndarray | None = None

    def frechet_distance(self, features):
        """As `distances.frechet_distance`, of the images and float [m, D]. Raises: ValueError."""
        found = checks.matrix("fake_features", features, 2)
        fewest = min(len(found), self.facts.get("num_images", len(found)))
        if fewest <= found.shape[1]:
            warnings.warn(
                f"Fréchet distance with {found.shape[1]} features: the covariance of {fewest} images is rank-deficient and the "
                f"distance too high, as it is up to {found.shape[1]} images.",
                stacklevel=2,
            )
        return distances.frechet_distance_of_moments(self.mean, self.covariance, *moments(found))


def moments(features):
    """(mean float64 [D], covariance float64 [D, D] divided by n - 1) of features, float [n, D], n 2 or more."""
    features = checks.matrix("features", features, 2)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def save(file, outputs, extractor, split):
    """Writes the statistics of a split's images.

    Args:
        file: .npz to write. outputs: `protocol.Outputs` of 2 images or more. extractor: that of them. split: `Split`.
    """
    mean, covariance = moments(outputs.features)
    facts = {name: getattr(split, name, None) for name in FACTS} | {
        "num_images": len(outputs),
        "extractor": extractor.kind.name,
        "checksum": extractor.checksum,
        "preparation": extractor.preparation,
    }
    if outputs.labels is not None:
        facts["class_counts"] = np.bincount(outputs.labels, minlength=split.num_classes)
    write_whole(file, lambda stream: np.savez(stream, mu=mean, sigma=covariance, **facts))


def load(file, extractor):
    """`Statistics` of a file, for that extractor.

    Raises:
        ValueError: it cannot be read, is of another extractor, of another width or of fewer than 2 images, or its covariance is
            none.
    """
    expected = "expected an .npz file that --save_reference wrote, or one with mu [D] and sigma [D, D]"
    try:
        with np.load(file) as arrays:
            found = dict(arrays)
        mean, covariance = (found.pop(name).astype(np.float64) for name in ("mu", "sigma"))
        class_counts = found.pop("class_counts", None)
        facts = {name: read(found[name].item()) for name, read in FACTS.items() if name in found}
    except KeyError as error:
        raise ValueError(f"{file} has no array {error}: {expected}.") from error
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())[:200]}): {expected}.") from error
    if "checksum" in facts:
        if missing := set(FACTS) - set(facts):
            raise ValueError(f"{file} lacks {', '.join(sorted(missing))}: {expected}.")
        ours = (extractor.kind.name, extractor.checksum, extractor.preparation)
        theirs = (facts["extractor"], facts["checksum"], facts["preparation"])
        if ours != theirs:
            shown = ["{} (SHA-256 {:.12}; images: {})".format(*one) for one in (theirs, ours)]
            raise ValueError(f"{file} is of {shown[0]}, and the extractor is {shown[1]}: expected the same one.")
        if facts["num_images"] < 2:
            raise ValueError(f"{file} is of {facts['num_images']} images: expected 2 or more.")
    else:
        facts = {}
        if not extractor.kind.has_papers_names:
            raise ValueError(
                f"{file} does not say which extractor it is of: such files are read with --inception_dir alone; expected one "
                "that --save_reference wrote."
            )
    _check(file, mean, covariance, extractor)
    return Statistics(mean, covariance, facts, class_counts)


def _check(file, mean, covariance, extractor):
    """Raises a ValueError unless the two are a mean and a covariance of so many features as the extractor makes."""
    width = mean.shape[0] if mean.ndim == 1 else None
    if not width or covariance.shape != (width, width):
        raise ValueError(
            f"{file}: mu has the shape {list(mean.shape)} and sigma {list(covariance.shape)}: expected [D] and [D, D]."
        )
    side = extractor.resolution or extractor.kind.side or 32
    made = extractor(np.zeros([1, side, side, 3], np.uint8))["features"].shape[1]
    if width != made:
        raise ValueError(f"{file} is of {width} features, and {extractor.name} makes {made}: expected as many.")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{file}: mu or sigma hold NaN or infinity: expected finite values.")
    if not np.allclose(covariance, covariance.T, rtol=0, atol=_ROUNDING * np.abs(covariance).max()):
        raise ValueError(f"{file}: sigma is not symmetric: expected a covariance.")
    eigenvalues = np.linalg.eigvalsh(covariance)
    if eigenvalues[0] < -_ROUNDING * np.abs(eigenvalues).max():
        raise ValueError(
            f"{file}: sigma has an eigenvalue of {eigenvalues[0]:.3g}: expected a covariance, which has none below 0."
        )
