"""Images to be scored, from folders, zip files and arrays: which are read, which labels they have, and what is refused."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tfvae.command import UserError
from tfvae.scoring import sources

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
LABELS = np.array([3, 0, 1, 1, 2])


def png(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def stylegan(labels=None, pictures=PICTURES):
    """The files of a zip as StyleGAN's dataset tool writes it."""
    files = {f"{i:05d}/img{i:08d}.png": png(picture) for i, picture in enumerate(pictures)}
    named = None if labels is None else [[name, label] for name, label in zip(files, labels)]
    return files | {"dataset.json": json.dumps({"labels": named})}


def read(path, resolution=8, **options):
    """(images, labels or None) of a source, and the source."""
    source = sources.load_files(path, resolution, **options)
    parts = list(source.batches(source.num_images, 0))
    labels = None if parts[0][1] is None else np.concatenate([part[1] for part in parts])
    return np.concatenate([part[0] for part in parts]), labels, source


def line_of(path, resolution=8):
    with pytest.raises(UserError) as error:
        sources.load_files(path, resolution)
    assert str(error.value).startswith(f"--images={path}: ") and "\n" not in str(error.value)
    return str(error.value)


# Zip files.


@pytest.mark.parametrize("labels", [None, LABELS.tolist()])
def test_a_zip_of_stylegan_is_read_with_its_labels(labels, tmp_path):
    images, found, source = read(write_zip(tmp_path / "data.zip", stylegan(labels)))
    np.testing.assert_array_equal(images, PICTURES)
    assert found is None if labels is None else found.tolist() == labels
    assert source.split.num_classes == (0 if labels is None else 4)


def test_any_zip_of_images_is_read_without_what_systems_put_there(tmp_path):
    files = {"b.PNG": png(PICTURES[1]), "a/a.png": png(PICTURES[0]), "notes.txt": "x", "__MACOSX/a/._a.png": "x"}
    images, labels, source = read(write_zip(tmp_path / "data.zip", files))
    np.testing.assert_array_equal(images, PICTURES[:2])
    assert (
        labels is None
        and "1 hidden or system folder (__MACOSX); 1 file of another kind (1 .txt)" in source.split.summary
    )


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"notes.txt": "x"}, "no images found"),
        (stylegan(pictures=np.zeros([2, 4, 4, 3], np.uint8)), "images are 4 x 4 px and the reference's 8 x 8"),
        ({"a.png": b"x"}, "data.zip/a.png cannot be read as an image"),
        (stylegan([0, 1, 2]), "2 images (00003/img00000003.png, 00004/img00000004.png) that it does not name"),
        (stylegan([0, 1, 2, 3, -1]), 'img00000004.png", -1]: expected'),
        (stylegan([0, 1, 2, 3, 0.5]), "with whole numbers from 0 on"),
        (stylegan([[0.0, 1.0]] * 5), "[0.0, 1.0]]: expected"),
        (stylegan(["cat"] * 5), "with whole numbers from 0 on"),
        (stylegan() | {"dataset.json": "{"}, "data.zip/dataset.json cannot be read"),
        (stylegan() | {"dataset.json": "[]"}, "data.zip/dataset.json cannot be read"),
        (stylegan() | {"dataset.json": "{}"}, "data.zip/dataset.json cannot be read"),
        (stylegan() | {"dataset.json": b"\xff\xfe"}, "data.zip/dataset.json cannot be read"),
    ],
)
def test_a_wrong_zip_is_one_line(files, line, tmp_path):
    assert line in line_of(write_zip(tmp_path / "data.zip", files))


def test_a_damaged_zip_is_one_line(tmp_path):
    path = write_zip(tmp_path / "data.zip", stylegan())
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    assert "cannot be read" in line_of(path)
    path.write_bytes(data[:500])
    assert "cannot be read" in line_of(path)


# Arrays.


@pytest.mark.parametrize(
    ("arrays", "labelled"),
    [
        (dict(images=PICTURES), False),
        (dict(arr_0=PICTURES), False),
        (dict(x=PICTURES), False),
        (dict(mu=np.zeros(3), sigma=np.zeros([3, 3]), arr_0=PICTURES), False),
        (dict(arr_0=PICTURES, arr_1=LABELS), True),
        (dict(x=PICTURES, y=LABELS), True),
        (dict(y=LABELS.astype(np.uint8), x=PICTURES), True),
        (
            dict(x=1 - PICTURES, arr_0=1 - PICTURES, images=PICTURES, y=0 * LABELS, arr_1=0 * LABELS, labels=LABELS),
            True,
        ),
        (dict(images=PICTURES, labels=LABELS.astype(np.float64)), True),
    ],
)
def test_arrays_are_found_by_their_names_in_a_fixed_order(arrays, labelled, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    images, labels, source = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(images, PICTURES)
    assert labels.tolist() == LABELS.tolist() if labelled else labels is None
    others = set(arrays) - {"images", "arr_0", "x", "labels", "arr_1", "y"}
    assert all(name in source.split.summary for name in others)


def test_four_channels_are_put_on_the_background(tmp_path):
    alpha = np.zeros([5, 8, 8, 1], np.uint8)
    alpha[:, :4] = 255
    np.savez(tmp_path / "a.npz", images=np.concatenate([PICTURES, alpha], axis=-1))
    write_zip(tmp_path / "a.zip", stylegan(pictures=np.concatenate([PICTURES, alpha], axis=-1)))
    expected = np.where(alpha > 0, PICTURES, np.array([0, 255, 0], np.uint8))
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "folder")
    for name in ("a.npz", "a.zip", "folder"):
        np.testing.assert_array_equal(read(tmp_path / name, background="lime")[0], expected)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        (
            dict(fakes=PICTURES, labels=LABELS),
            "its arrays are called fakes, labels: expected one called images or arr_0 or x",
        ),
        ({}, "its arrays are called none"),
        (dict(images=PICTURES[:0]), "images are uint8 [0, 8, 8, 3]"),
        (dict(images=PICTURES[..., :1]), "images are uint8 [5, 8, 8, 1]"),
        (dict(images=PICTURES / 255), "images are float64"),
        (dict(images=np.array([None])), "cannot be read"),
        (dict(images=PICTURES, labels=LABELS - 1), "labels go from -1 to 2: expected whole numbers from 0"),
        (dict(images=PICTURES, labels=LABELS + 2**31), "expected whole numbers from 0 to 2147483647"),
        (dict(images=PICTURES, labels=LABELS / 2), "labels are float64 and not all whole numbers"),
        (dict(images=PICTURES, labels=LABELS * np.nan), "not all whole numbers"),
        (dict(images=PICTURES, labels=LABELS.astype(str)), "not all whole numbers"),
        (dict(images=PICTURES, labels=LABELS > 1), "not all whole numbers"),
        (dict(images=PICTURES, labels=LABELS[:4]), "labels have the shape [4]: expected one per image, 5"),
        (dict(images=PICTURES, labels=np.eye(5)), "labels have the shape [5, 5]"),
        (dict(images=PICTURES, labels=np.int64(1)), "labels have the shape []"),
    ],
)
def test_a_wrong_array_is_one_line(arrays, line, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    assert line in line_of(tmp_path / "a.npz")


def test_what_is_no_archive_is_one_line(tmp_path):
    np.save(tmp_path / "a.npy", PICTURES)
    (tmp_path / "a.png").write_bytes(png(PICTURES[0]))
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "cut.npz", images=PICTURES)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-30])
    for name in ("a.npy", "a.png", "empty.npz", "cut.npz", "none.npz"):
        assert "cannot be read" in line_of(tmp_path / name)


def test_a_url_is_refused_and_the_home_folder_expanded(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="^--images=gs://bucket/a.npz: URLs are neither read nor written"):
        sources.load_files("gs://bucket/a.npz", 8)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "a.npz", images=PICTURES)
    np.testing.assert_array_equal(read("~/a.npz")[0], PICTURES)


def test_a_folder_with_classes_says_that_their_names_are_not_used(tmp_path):
    for i, name in enumerate(("cat/a.png", "dog/a.png")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png(PICTURES[i]))
    images, labels, source = read(tmp_path)
    assert labels is None and "names of its classes are not compared" in source.split.summary


@pytest.mark.parametrize("sizes", [[4, 4], [8, 4], [4, 8]])
def test_a_folder_of_another_size_or_of_several_is_told_what_can_be_done(sizes, tmp_path):
    for i, side in enumerate(sizes):
        Image.new("RGB", (side, side)).save(tmp_path / f"{i}.png")
    assert "images are 4 x 4 px and the reference's 8 x 8: expected one size; resize the images" in line_of(tmp_path)
