"""Pixel range, crop, resize, sheets and PNG: everything that is done to the pixels of an image."""

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tfvae.command import write_whole
from tfvae.config import PAD, Config

WHITE = (255, 255, 255)
SHEET_GAP = 2
SHEET_GAP_COLOUR = 255
CAPTION_PIXELS = 11  # height of its letters
MOST_WEBP_PIXELS = 16_383  # a side


def to_model_range(image):
    """Maps uint8 pixels to the range that networks see; the inverse of `to_uint8`.

    Args:
        image: uint8 [..., 3] in 0..255.

    Returns:
        float32 [..., 3] in [-1, 1].
    """
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def to_uint8(image):
    """Maps what networks draw to pixels, rounded and clipped; the inverse of `to_model_range`.

    Args:
        image: float [..., 3], nominally in [-1, 1], of any float type.

    Returns:
        uint8 [..., 3] in 0..255.
    """
    # In float32 whatever came in: bfloat16 has 8 bits, so 127.5 * (x + 1) would be off by a level above 128.
    pixels = tf.round((tf.cast(image, tf.float32) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)


def center_crop_square(image):
    """Cuts the largest centred square; an odd pixel is left at the bottom or the right.

    Args:
        image: array [H, W, C].

    Returns:
        array [S, S, C] with S = min(H, W).
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def pad_square(image, background):
    """Puts an image in the middle of a square of its longer side; an odd pixel goes to the bottom or the right.

    Args:
        image: uint8 [H, W, 3]. background: (red, green, blue) of what is added, each 0 to 255.

    Returns:
        uint8 [S, S, 3] with S = max(H, W).
    """
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full([side, side, 3], background, np.uint8)
    square[top : top + height, left : left + width] = image
    return square


def resize(image, resolution):
    """Resizes by Pillow's bicubic filter, which is antialiased (its support grows with the reduction).

    Pillow and not `tf.image.resize`, because Pillow's is the one that published image scores are computed with
    (Parmar et al., arXiv 2104.11222).

    Args:
        image: uint8 [H, W, 3].
        resolution: side of the result in px.

    Returns:
        uint8 [resolution, resolution, 3].
    """
    if image.shape[:2] == (resolution, resolution):
        return image
    return np.asarray(Image.fromarray(image).resize((resolution, resolution), Image.Resampling.BICUBIC))


def on_background(image, background):
    """Composites what is transparent on a colour, so that what lies hidden under it has no influence.

    Args:
        image: uint8 [..., C], 1 or 3 channels and alpha, which they are not multiplied by.
        background: (red, green, blue), each 0 to 255.

    Returns:
        uint8 [..., 3].
    """
    colour, alpha = image[..., :-1], image[..., -1:].astype(np.uint16)
    mixed = colour * alpha + np.array(background, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def fit(image, resolution, background=WHITE, fit=Config.fit):
    """Makes any decoded image a square RGB one: on its background, grey repeated, cropped or padded, antialiased resize.

    Args:
        image: uint8 [H, W, C], 1 or 3 channels, or 2 or 4 with alpha.
        resolution: side of the result in px.
        background: (red, green, blue), each 0 to 255, behind transparent images, and what is padded with.
        fit: how it becomes square: crop (`center_crop_square`) or pad (`pad_square`).

    Returns:
        uint8 [resolution, resolution, 3].
    """
    if image.shape[-1] in (2, 4):
        image = on_background(image, background)
    elif image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    square = pad_square(image, background) if fit == PAD else center_crop_square(image)
    return resize(np.ascontiguousarray(square), resolution)


def pixels_of(image):
    """The pixels of an opened image file, upright.

    Args:
        image: Pillow's; of several pictures in a file, the one that it is at.

    Returns:
        uint8 [H, W, C], 1 or 3 channels, or 2 or 4 with alpha.

    Raises:
        ValueError: no known value is white. OSError, SyntaxError and others of Pillow's: the file is damaged.
    """
    # A PNG or PGM file of 16 bits was of mode I once, and in some files of theirs still is.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("F", "I") and not deep:
        raise ValueError("its pixels have 32 bits, and nothing says which value is white: expected 8 or 16 bits")
    image = ImageOps.exif_transpose(image)
    transparent = image.info.get("transparency")
    if deep:
        # The upper 8 bits, which Pillow and libpng take of 16 bits of red, green and blue too.
        values = np.asarray(image)
        grey = (values >> 8).astype(np.uint8)
        alpha = [] if transparent is None else [np.where(values == transparent, 0, 255).astype(np.uint8)]
        return np.stack([grey, *alpha], axis=-1)
    has_alpha = transparent is not None or image.mode in ("LA", "PA", "RGBA", "RGBa")
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def sheet(images, columns):
    """Lays images out row by row in one picture, `SHEET_GAP` px apart.

    Args:
        images: uint8 [N, H, W, 3].
        columns: images per row; the last row may be shorter.

    Returns:
        uint8 [rows * (H + gap) - gap, columns * (W + gap) - gap, 3].
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"a sheet is made of uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}")
    num_images, height, width, _ = images.shape
    columns = max(1, min(columns, num_images))
    rows = -(-num_images // columns)
    cell_height, cell_width = height + SHEET_GAP, width + SHEET_GAP
    picture = np.full([rows * cell_height, columns * cell_width, 3], SHEET_GAP_COLOUR, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * cell_height, place % columns * cell_width
        picture[top : top + height, left : left + width] = image
    return picture[: picture.shape[0] - SHEET_GAP, : picture.shape[1] - SHEET_GAP]


def captioned(picture, text):
    """A picture with lines of text below, as many as its width needs: uint8 [H, W, 3] -> [H + …, W, 3]."""
    font = ImageFont.load_default(CAPTION_PIXELS)
    lines, width = [""], picture.shape[1]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width or not lines[-1] else [*lines, word]
    step = CAPTION_PIXELS + 4
    strip = Image.new("RGB", (width, step * len(lines) + 4), (SHEET_GAP_COLOUR,) * 3)
    for place, line in enumerate(lines):
        ImageDraw.Draw(strip).text((1, place * step + 2), line, (0, 0, 0), font)
    return np.concatenate([picture, np.asarray(strip)])


def write_animation(path, frames, frame_milliseconds=50):
    """Writes pictures as an endless animation, without loss: WebP or, where the file's name ends in .png, animated PNG.

    Args:
        path: file, written whole. frames: uint8 [H, W, 3] each.

    Raises:
        ValueError: pictures that are too large for WebP.
    """
    first, *others = map(Image.fromarray, frames)
    kind = "PNG" if path.suffix.lower() == ".png" else "WEBP"
    if kind == "WEBP" and max(first.size) > MOST_WEBP_PIXELS:
        raise ValueError(
            f"frames are {first.width} x {first.height} px and WebP holds {MOST_WEBP_PIXELS} at most: expected fewer --rows and "
            "--columns, or a file that ends in .png."
        )
    options = dict(format=kind, save_all=True, append_images=others, duration=frame_milliseconds, loop=0)
    options |= dict(lossless=True) if kind == "WEBP" else {}
    write_whole(path, lambda stream: first.save(stream, **options))


def write_png(path, image):
    """Writes a PNG that is either whole or not there: beside its place first, then renamed.

    Args:
        path: file to write; its folder is made if absent.
        image: uint8 [H, W, 3].
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a PNG is written from uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    write_whole(path, lambda stream: Image.fromarray(image).save(stream, format="PNG"))
