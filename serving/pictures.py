"""What a client does beside the model: latents and the way between them, picture files, sheets."""

import io
import os
import statistics
import sys
import tempfile

import numpy as np
from PIL import Image, ImageOps
from transport import EndpointError

# A normal number lies beyond +-8 once in 10**15 draws: nothing is cut.
NO_TRUNCATION = 8.0
SHEET_GAP = 2


def latents(seeds, latent_dim, truncation=NO_TRUNCATION):
    """Standard normal numbers drawn here, one latent per seed, truncated as the model truncates: float32 [N, latent_dim].

    They are not the latents that `sample` draws from the same seeds inside the model.
    """
    normal = statistics.NormalDist()
    low = normal.cdf(-truncation)
    drawn = np.stack([np.random.default_rng(seed).standard_normal(latent_dim) for seed in seeds])
    return np.vectorize(lambda z: normal.inv_cdf(low + normal.cdf(z) * (1 - 2 * low)))(drawn).astype(np.float32)


def interpolate(start, end, steps):
    """Spherical interpolation between two latents [Z], both ends included: float32 [steps, Z].

    Straight lines would pass through lengths that a normal of many dimensions hardly ever has (White, arXiv 1609.04468).
    """
    share = np.linspace(0.0, 1.0, steps)[:, None]
    cosine = np.dot(start, end) / max(np.linalg.norm(start) * np.linalg.norm(end), 1e-12)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(angle) < 1e-6:
        return ((1 - share) * start + share * end).astype(np.float32)
    return ((np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)).astype(np.float32)


def read(path, resolution):
    """A picture file as the model takes it, cropped to its middle and resized where it must be: uint8 [R, R, 3]."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's ways to say so
        raise EndpointError(f"{path} cannot be read as a picture ({error}): expected PNG, JPEG or the like.") from error
    width, height = picture.size
    if (width, height) != (resolution, resolution):
        print(
            f"{path}: {width} x {height} px, cropped to its middle and resized to {resolution} x {resolution}.",
            file=sys.stderr,
        )
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def sheet(drawn, columns):
    """PNG files or uint8 [H, W, 3] arrays of one size, row by row in one Pillow picture on white."""
    images = [Image.open(io.BytesIO(p)) if isinstance(p, bytes) else Image.fromarray(p) for p in drawn]
    columns = max(1, min(columns, len(images)))
    width, height = (size + SHEET_GAP for size in images[0].size)
    rows = -(-len(images) // columns)
    whole = Image.new("RGB", (columns * width - SHEET_GAP, rows * height - SHEET_GAP), "white")
    for place, image in enumerate(images):
        whole.paste(image, (place % columns * width, place // columns * height))
    return whole


def png_of(picture):
    """A Pillow picture as a PNG file's bytes."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def write(files, overwrite):
    """Writes {path: bytes}, each file whole or not at all; none where one is there and not to be replaced."""
    there = [path for path in files if path.exists()]
    if there and not overwrite:
        raise EndpointError(f"{there[0]} exists: give another --output, or --overwrite to replace it.")
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(beside, 0o644)  # mkstemp's is private
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
        print(path)
