"""Where features of real images are kept: what fails there costs a warning, what is damaged there is made anew."""

import os
import shutil
import time

import numpy as np
import pytest
import scoring_toys
from scoring_toys import counted, forget_user, unknown_home

from tfvae.data import content, pipeline
from tfvae.scoring import protocol


@pytest.fixture
def extractor():
    return scoring_toys.make_counting()


# A cache that fails.


def block_by_a_file(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("no folder")


def block_above(folder):
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.write_text("no folder")


def no_space(monkeypatch):
    def fail(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(protocol, "write_whole", fail)


@pytest.mark.parametrize(
    "how", ["a file is there", "a file above", "no space", "read only", "a folder has the file's name"]
)
def test_features_are_computed_where_they_cannot_be_kept(how, extractor, make_split, tmp_path, monkeypatch, capsys):
    cache = tmp_path / "home" / "cache"
    split = make_split(20)
    if how == "a file is there":
        block_by_a_file(cache)
    elif how == "a file above":
        block_above(cache)
    elif how == "no space":
        no_space(monkeypatch)
    elif how == "read only":
        cache = "/proc/cache"
    else:
        protocol.outputs_of_split(split, extractor, cache)
        (file,) = cache.iterdir()
        file.unlink()
        (file / "full").mkdir(parents=True)
    for _ in range(2):
        outputs = protocol.outputs_of_split(split, extractor, cache)
        np.testing.assert_allclose(outputs.features[:, 0], split.images[:, :16, :16, 0].mean((1, 2)) / 255, atol=1e-5)
    (line,) = capsys.readouterr().out.splitlines()  # one, however often
    assert line.startswith(f"warning: features of real images are not kept in {cache} (") and line.endswith(
        "): each command computes them anew."
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache/tfvae"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/cache"}, "/cache/tfvae"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": ""}, "/home/me/.cache/tfvae"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "here"}, "/home/me/.cache/tfvae"),  # the specification: to be ignored
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/tfvae"),
        ({}, None),
    ],
)
def test_the_cache_is_where_the_environment_says(environment, expected, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "HOME" not in environment:
        forget_user(monkeypatch)
    found = content.cache_dir()
    assert (found and str(found)) == expected


def test_without_a_home_folder_features_are_computed(extractor, make_split, monkeypatch, capsys):
    unknown_home(monkeypatch)
    assert len(protocol.outputs_of_split(make_split(20), extractor, content.cache_dir())) == 20
    assert capsys.readouterr().out == (
        "warning: features of real images are not kept (no home folder is known; XDG_CACHE_HOME names another place): each "
        "command computes them anew.\n"
    )


def test_without_a_home_folder_prepared_data_are_found_and_others_need_data_dir(shapes_home, monkeypatch):
    unknown_home(monkeypatch)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(pipeline.tfds.core.constants, "DATA_DIR", "~/tensorflow_datasets")
    assert pipeline.load("shapes", data_dir=shapes_home).num_images == 100
    with pytest.raises(pipeline.DataError, match="^no home folder is known: give --data_dir, a folder for the data"):
        pipeline.load("shapes")


# A cache whose content is wrong.


def places(size):
    """Places in a file: all that is near its ends and around the arrays' heads, and some of the numbers."""
    return [*range(0, min(size, 200), 3), *range(200, size, 97), *range(max(0, size - 300), size, 5)]


def test_a_flip_anywhere_in_a_kept_file_is_noticed_and_the_file_made_anew(extractor, make_split, tmp_path):
    split = make_split(20, num_classes=3)
    first = protocol.outputs_of_split(split, extractor, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    counted.clear()
    wrong = 0
    for place in places(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        again = protocol.outputs_of_split(split, extractor, tmp_path)
        for name, array in vars(first).items():
            np.testing.assert_array_equal(array, getattr(again, name), err_msg=f"byte {place}")
        wrong += bool(counted)
        counted.clear()
    assert wrong > 0.5 * len(places(len(whole)))  # the others are of what nobody reads, such as times
    protocol.outputs_of_split(split, extractor, tmp_path)
    assert not counted and [f.name for f in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("kind", ["another's", "no checksum", "an array alone", "text", "a pickle"])
def test_a_kept_file_of_another_content_is_made_anew(kind, extractor, make_split, tmp_path):
    split, other = make_split(20), make_split(20, seed=1)
    first = protocol.outputs_of_split(split, extractor, tmp_path)
    (file,) = tmp_path.iterdir()
    if kind == "another's":
        (tmp_path / "other").mkdir()
        protocol.outputs_of_split(other, extractor, tmp_path / "other")
        (theirs,) = (tmp_path / "other").iterdir()
        shutil.copy(theirs, file)
    elif kind == "text":
        file.write_text("features")
    else:
        with file.open("wb") as stream:
            if kind == "no checksum":  # as earlier versions wrote it
                np.savez(stream, features=np.zeros([20, 12], np.float32))
            elif kind == "an array alone":
                np.save(stream, np.zeros([20, 12], np.float32))
            else:
                np.savez(stream, checksum="x", features=np.array([{}], object))
    counted.clear()
    np.testing.assert_array_equal(protocol.outputs_of_split(split, extractor, tmp_path).features, first.features)
    assert counted == [20]
    protocol.outputs_of_split(split, extractor, tmp_path)
    assert counted == [20]


def test_what_killed_processes_left_in_the_cache_goes_after_a_day_and_nothing_else(extractor, make_split, tmp_path):
    ours, unique = "0123456789abcdef" * 2, "f" * 32
    files = {
        f".{ours}.npz.{unique}.tmp": (2, False),
        f".{ours}.npz.{'e' * 32}.tmp": (0.5, True),  # somebody may be writing it
        f"{ours}.npz": (400, True),
        ".thesis.tex.tmp": (400, True),
        f".thesis.{unique}.tmp": (400, True),
        "a.tmp": (400, True),
    }
    for name, (days, _) in files.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - days * 86_400,) * 2)
    split = make_split(20)
    for _ in range(2):
        protocol.outputs_of_split(split, extractor, tmp_path)
        left = {file.name for file in tmp_path.iterdir()}
        assert {name for name in files if name in left} == {name for name, (_, stays) in files.items() if stays}
