"""Whether a version answers in another TensorFlow, such as an older server's, as it does in this one."""

import pathlib
import subprocess
import tempfile

import numpy as np
import tensorflow as tf

from tfvae.command import UserError, literal
from tfvae.publishing import session, verification
from tfvae.publishing.writing import WARMUP_FILE


def check(folder, python, precision):
    """Runs the warm-up requests, which call every signature, in a session of another Python's TensorFlow and in one of this.

    Args:
        folder: of the version. python: path of the interpreter. precision: the model's, by which answers may differ.

    Returns:
        (the other TensorFlow's version, {signature: how far its answers are from this one's, for people}).

    Raises:
        UserError: it cannot be run there, or its answers differ by more than the verification of an export allows.
    """
    requests = verification.read_warmup(folder / WARMUP_FILE)
    with tempfile.TemporaryDirectory() as scratch:
        files = [pathlib.Path(scratch) / name for name in ("requests.npz", "answers.npz")]
        np.savez(files[0], **session.packed(requests))
        # Read from stdin: as a file, its neighbours would be found before the other Python's own modules.
        source = pathlib.Path(session.__file__).read_text()
        try:
            done = subprocess.run(
                [python, "-", *map(str, files)], cwd=folder, input=source, capture_output=True, text=True
            )
        except OSError as error:
            raise UserError(f"--check_with={python} cannot be run ({error.strerror}): expected a Python.") from error
        if done.returncode or not files[1].exists():
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(
                f"--check_with={python}: the version was not run there ({said[-1].strip()[:400]}): expected a Python with a "
                "TensorFlow that loads and runs it."
            )
        with np.load(files[1]) as archive:
            version, found = str(archive["tensorflow"]), session.unpacked(archive)
    with literal(folder) as place:
        expected = session.answers(place, requests)
    differences = {}
    for (signature, answer), own in zip(found, expected):
        try:
            verification.check_answer(answer, pixels_in_place_of_files(own), *verification.TOLERANCES[precision])
        except (ValueError, KeyError) as error:
            raise UserError(
                f"TensorFlow {version} of --check_with={python} answers {signature} otherwise than {tf.__version__} ({error})."
            ) from error
        differences.setdefault(signature, []).append(largest_difference(answer, own))
    return version, {signature: in_words(*np.max(both, axis=0)) for signature, both in differences.items()}


def pixels_in_place_of_files(answer):
    """An answer with the pixels of its PNG files: dict of arrays."""
    return {n: verification.pixels_of(value) if n == "image_bytes" else value for n, value in answer.items()}


def largest_difference(answer, other):
    """How far one answer is from another one: (of pixels, of latents); dicts of arrays."""
    largest = [0.0, 0.0]
    answer, other = pixels_in_place_of_files(answer), pixels_in_place_of_files(other)
    for name, value in other.items():
        of_latents = value.dtype != np.uint8
        largest[of_latents] = max(largest[of_latents], np.max(np.abs(answer[name].astype(np.float64) - value)))
    return largest


def in_words(levels, latents):
    """The largest differences of a signature's answers, for people."""
    if levels:
        return f"within {levels:.0f} level{'s' if levels > 1 else ''} of 255"
    return f"within {latents:.1g}" if latents else "the same"
