"""Tests of tfvae.data.lfw."""

import io
import os
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from tfvae.data import lfw, pipeline
from tfvae.data.errors import DataError

NAMES = [f"Person_{p}/Person_{p}_{n:04d}.jpg" for p in "ABCD" for n in (1, 2, 3)]


def face(seed, size=250):
    noise = np.random.default_rng(seed).integers(0, 256, [size // 10, size // 10, 3], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((size, size)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def pack(path, files, folder="lfw-deepfunneled"):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder with a small archive of the right layout."""
    monkeypatch.setattr(lfw, "NUM_IMAGES", 12)
    monkeypatch.setattr(lfw, "NUM_IDENTITIES", 4)
    monkeypatch.setattr(lfw, "NUM_VALIDATION", 3)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    (tmp_path / "data").mkdir()
    pack(tmp_path / "data" / lfw.ARCHIVE, {name: face(number) for number, name in enumerate(NAMES)} | {"README": b"."})
    return tmp_path / "data"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_faces_are_cropped_by_80_px_and_resized_to_45(home):
    split = pipeline.load("lfw", data_dir=home)
    assert split.images.shape == (9, 45, 45, 3) and split.resolution == 45
    for image, name in zip(split.images, split.factors["file"], strict=True):
        source = Image.open(io.BytesIO(face(NAMES.index(name)))).crop((80, 80, 170, 170))
        np.testing.assert_array_equal(image, np.asarray(source.resize((45, 45))))
    assert pipeline.load("lfw", data_dir=home, resolution=32).images.shape == (9, 32, 32, 3)


def test_faces_have_no_labels_but_keep_identity_and_file(home):
    split = pipeline.load("lfw", data_dir=home)
    assert split.num_classes == 0 and split.class_names == () and not split.labels.any()
    assert [name.split("/")[0] for name in split.factors["file"]] == list(split.factors["identity"])


def test_validation_is_fixed_and_apart_from_training(home):
    train, validation = (set(pipeline.load("lfw", s, data_dir=home).factors["file"]) for s in ("train", "validation"))
    assert len(validation) == 3 and train | validation == set(NAMES) and not train & validation
    assert validation == lfw.validation_names(reversed(NAMES))


def test_the_archive_may_lie_in_the_manual_folder(home):
    (home / "downloads" / "manual").mkdir(parents=True)
    (home / lfw.ARCHIVE).rename(home / "downloads" / "manual" / lfw.ARCHIVE)
    assert pipeline.load("lfw", data_dir=home).num_images == 9


def test_a_read_only_folder_stays_as_it_is_and_the_own_folder_takes_the_prepared_form(home):
    home.chmod(0o555)
    try:
        assert pipeline.load("lfw", data_dir=home).num_images == 9
        assert [file.name for file in home.iterdir()] == [lfw.ARCHIVE]
        assert (home.parent / "own" / "lfw_deepfunneled").is_dir()
    finally:
        home.chmod(0o755)


def test_a_missing_archive_names_the_place_and_the_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    with pytest.raises(DataError, match="lfw-deepfunneled.tgz is not in .*Kaggle") as error:
        pipeline.load("lfw", data_dir=tmp_path)
    message = one_line(error)
    assert str(tmp_path) in message and "figshare" in message and "--data_dir" in message


def test_a_truncated_archive_is_refused_and_nothing_is_left_behind(home):
    whole = (home / lfw.ARCHIVE).read_bytes()
    for length in (len(whole) * 2 // 3, len(whole) - 4, 0):
        (home / lfw.ARCHIVE).write_bytes(whole[:length])
        with pytest.raises(DataError, match="cut short or damaged|not the whole") as error:
            pipeline.load("lfw", data_dir=home)
        assert "SHA-256" in one_line(error)
    assert not list((home / "lfw_deepfunneled").glob("*"))
    (home / lfw.ARCHIVE).write_bytes(whole)
    assert pipeline.load("lfw", data_dir=home).num_images == 9


def test_another_archive_is_refused_by_what_it_holds(home):
    files = {name: face(number) for number, name in enumerate(NAMES)}
    pack(home / lfw.ARCHIVE, files, folder="lfw_funneled")
    with pytest.raises(DataError, match="expected 12 images of 4 people.*found 0 .*12 files in lfw_funneled/") as error:
        pipeline.load("lfw", data_dir=home)
    one_line(error)
    pack(home / lfw.ARCHIVE, dict(list(files.items())[:-1]))
    with pytest.raises(DataError, match="found 11 of 4"):
        pipeline.load("lfw", data_dir=home)


def test_images_of_another_size_are_refused_by_name(home):
    pack(home / lfw.ARCHIVE, {name: face(0, size=100) for name in NAMES})
    with pytest.raises(DataError, match=r"Person_._000.\.jpg in .* 100 x 100 px, expected 250 x 250") as error:
        pipeline.load("lfw", data_dir=home)
    one_line(error)
    assert not list((home / "lfw_deepfunneled").glob("*"))


def test_an_image_cut_short_inside_a_whole_archive_is_kept_and_many_are_refused(home, monkeypatch):
    files = {name: face(number) for number, name in enumerate(NAMES)}
    name = next(n for n in NAMES if n not in lfw.validation_names(NAMES))
    pack(home / lfw.ARCHIVE, files | {name: files[name][: len(files[name]) * 9 // 10]})
    split = pipeline.load("lfw", data_dir=home)
    assert split.num_images == 9 and name in split.factors["file"]
    monkeypatch.setattr(lfw, "MAX_DAMAGED", 0)
    (home / "again").mkdir()
    (home / lfw.ARCHIVE).rename(home / "again" / lfw.ARCHIVE)
    with pytest.raises(DataError, match="more than 0 images"):
        pipeline.load("lfw", data_dir=home / "again")


@pytest.mark.skipif("TFVAE_TEST_DATA" not in os.environ, reason="TFVAE_TEST_DATA names no folder of real data")
def test_the_real_archive_holds_13233_images_of_5749_people():
    archive = pathlib.Path(os.environ["TFVAE_TEST_DATA"]) / lfw.ARCHIVE
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    names = lfw.read_archive(archive)
    assert len(names) == 13_233 and len({name.split("/")[0] for name in names}) == 5_749
    assert len(lfw.validation_names(names)) == 200
