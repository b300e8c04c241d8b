"""What a client does without the model: latents and the way between them, picture files, sheets."""

import io
import os
import statistics
import sys
import tempfile

import numpy as np
from PIL import Image, ImageColor, ImageOps
from transport import EndpointError

# A normal number lies beyond +-8 once in 10**15 draws: nothing is cut.
NO_TRUNCATION = 8.0
SHEET_GAP = 2
WHITE = (255, 255, 255)


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


def read(path, resolution, background=WHITE):
    """A picture file as the model takes it, on its background, cropped to its middle and resized: uint8 [R, R, 3].

    The same as `tfvae.data.folder.read_image`, which this file must do without.
    """
    try:
        with Image.open(path) as file:
            pixels = pixels_of(file)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise a dozen kinds of them for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EndpointError(
            f"{path} cannot be read as a picture ({reason}): expected PNG, JPEG or the like."
        ) from error
    if pixels.shape[-1] == 4:
        pixels = on_background(pixels, background)
    height, width = pixels.shape[:2]
    if (width, height) != (resolution, resolution):
        print(
            f"{path}: {width} x {height} px, cropped to its middle and resized to {resolution} x {resolution}.",
            file=sys.stderr,
        )
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = Image.fromarray(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
        pixels = np.asarray(square.resize((resolution, resolution), Image.Resampling.BICUBIC))
    return pixels


def pixels_of(file):
    """The pixels of an opened picture file, upright: uint8 [H, W, 3], or 4 with alpha. Raises: those of Pillow, ValueError."""
    # A PNG or PGM file of 16 bits was of mode I once, and in some files of theirs still is.
    deep = file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))
    if file.mode in ("F", "I") and not deep:
        raise ValueError("its pixels have 32 bits, and nothing says which value is white: expected 8 or 16 bits")
    picture = ImageOps.exif_transpose(file)
    transparent = picture.info.get("transparency")
    if deep:
        values = np.asarray(picture)
        grey = (values >> 8).astype(np.uint8)
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)  # 255 everywhere where nothing is transparent
        return np.stack([grey, grey, grey, alpha], axis=-1)
    has_alpha = transparent is not None or picture.mode in ("LA", "PA", "RGBA", "RGBa")
    return np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))


def on_background(pixels, background):
    """uint8 [H, W, 4] composited on (red, green, blue): uint8 [H, W, 3]."""
    rgb, alpha = pixels[..., :3], pixels[..., 3:].astype(np.uint16)
    return ((rgb * alpha + np.array(background, np.uint16) * (255 - alpha) + 127) // 255).astype(np.uint8)


def colour(text):
    """(red, green, blue), each 0 to 255, of a colour by name or as #rrggbb. Raises: ValueError."""
    try:
        rgb = ImageColor.getrgb(text)
    except ValueError:
        rgb = ()
    if len(rgb) != 3 or max(rgb) > 255:
        raise ValueError(f"{text}: expected the name of a colour, or #rrggbb, such as white or #00ff00.")
    return rgb


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


def check_output(path, is_file, overwrite):
    """Refuses a file, or a folder of files, that cannot be written or is not to be replaced: before anything is drawn."""
    if is_file and path.is_dir():
        raise EndpointError(f"{path} is a folder: expected the name of a file.")
    if is_file and path.exists() and not overwrite:
        raise EndpointError(f"{path} exists: give another --output, or --overwrite to replace it.")
    folder = path.absolute().parent if is_file else path.absolute()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise EndpointError(f"{path}: nothing can be written in {there}: expected a place that can be written to.")


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
