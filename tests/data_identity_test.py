"""Data are the same if their content is: wherever they lie, however spelled, in memory or streamed. Runs go on with them."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tfvae.command import UserError
from tfvae.config import Config
from tfvae.data import content, pipeline
from tfvae.training import build, run


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Each test's own cache, which takes files that were written a moment ago."""
    monkeypatch.setattr(content, "SETTLED_SECONDS", -60)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tfvae"


@pytest.fixture
def pets(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("cat/a.png", "cat/b.png", "dog/a.png"):
        file = tmp_path / "pets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(file)
        os.utime(file, (1e9, 1e9))
    return tmp_path / "pets"


def same(first, second):
    """Whether one of two splits' fingerprints is the other's too."""
    return bool(first.fingerprints.items() & second.fingerprints.items())


def load(path, streaming=False, **options):
    return pipeline.load(f"folder:{path}", streaming=streaming, **options)


def test_a_folder_is_the_same_however_it_is_spelled_and_wherever_it_lies(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(pets, tmp_path / "moved")  # with other times
    (tmp_path / "link").symlink_to(pets)
    places = ("pets", "pets/", "./pets", "../" + tmp_path.name + "/pets", "~/pets", pets, "moved", "link")
    for streaming in (False, True):
        assert len({json.dumps(load(place, streaming).fingerprints) for place in places}) == 1


def test_memory_and_streaming_are_the_same_data(pets):
    memory, stream = load(pets), load(pets, streaming=True)
    assert memory.fingerprints.keys() == {"pixels", "encoded"} and stream.fingerprints.keys() == {"encoded"}
    assert same(memory, stream) and memory.fingerprint == memory.fingerprints["pixels"]
    assert stream.fingerprint == stream.fingerprints["encoded"]


def change_a_byte(pets):
    data = bytearray((pets / "cat/b.png").read_bytes())
    data[-20] ^= 1  # of its checksum
    (pets / "cat/b.png").write_bytes(data)
    os.utime(pets / "cat/b.png", (1e9 + 1, 1e9 + 1))


def change_the_label(pets):
    (pets / "cat/b.png").rename(pets / "dog/b.png")


def take_one_out(pets):
    (pets / "cat/b.png").unlink()


def exchange_two(pets):
    (pets / "cat/a.png").rename(pets / "x")
    (pets / "cat/b.png").rename(pets / "cat/a.png")
    (pets / "x").rename(pets / "cat/b.png")


@pytest.mark.parametrize("change", [change_the_label, take_one_out, exchange_two])
def test_other_data_are_other_data(change, pets):
    before = [load(pets).fingerprints, load(pets, streaming=True).fingerprints]
    change(pets)
    for split in (load(pets), load(pets, streaming=True)):
        assert not any(found.items() & split.fingerprints.items() for found in before)


def test_one_byte_is_other_data_where_they_stream(pets):
    before = load(pets, streaming=True).fingerprint
    change_a_byte(pets)
    assert load(pets, streaming=True).fingerprint != before


def test_the_size_and_the_background_belong_to_what_is_streamed(pets):
    splits = [load(pets, True, **options) for options in ({}, {"resolution": 16}, {"background": "black"})]
    assert len({split.fingerprint for split in splits}) == 3


def test_images_packed_anew_without_loss_are_the_same_in_memory(pets):
    before = load(pets).fingerprints
    for file in pets.rglob("*.png"):
        with Image.open(file) as image:
            image.save(file, compress_level=1)
    after = load(pets).fingerprints
    assert before["encoded"] != after["encoded"] and before["pixels"] == after["pixels"]


def test_tfds_data_are_the_same_in_memory_streamed_and_moved(shapes_home, tmp_path):
    shutil.copytree(shapes_home, tmp_path / "moved")
    splits = [
        pipeline.load("shapes", data_dir=home, streaming=streaming)
        for home in (shapes_home, tmp_path / "moved")
        for streaming in (False, True)
    ]
    assert len({split.fingerprints["encoded"] for split in splits}) == 1
    assert splits[0].fingerprints["pixels"] == splits[2].fingerprints["pixels"]
    parts = [
        pipeline.load("shapes", name, data_dir=shapes_home, streaming=True).fingerprint
        for name in ("train", "test", "train[:50%]", "train[50%:]", "train[:10]", "train+test")
    ]
    assert len(set(parts)) == 6


def test_a_part_of_a_split_and_other_labels_are_other_data(shapes_home):
    whole = pipeline.load("shapes", data_dir=shapes_home)
    part = whole.part(np.arange(50))
    assert not same(whole, part) and part.fingerprints.keys() == {"pixels"}
    other = dataclasses.replace(whole, labels=whole.labels[::-1].copy(), num_classes=11)
    assert not same(whole, other)


# Each file is read once.


@pytest.fixture
def read(monkeypatch):
    """The files that are read for their checksums, in the order in which they are."""
    found = []
    checksum = content.checksum_of

    def noted(path):
        found.append(os.path.basename(path))
        return checksum(path)

    monkeypatch.setattr(content, "checksum_of", noted)
    return found


def test_checksums_are_kept_by_path_size_and_time(pets, read, cache):
    first = load(pets, True).fingerprint
    assert sorted(read) == ["a.png", "a.png", "b.png"] and len(list(cache.iterdir())) == 1
    read.clear()
    assert load(pets, True).fingerprint == first and not read
    change_a_byte(pets)
    assert load(pets, True).fingerprint != first and read == ["b.png"]


def test_files_that_were_written_a_moment_ago_are_not_kept(pets, read, monkeypatch):
    monkeypatch.setattr(content, "SETTLED_SECONDS", 60)
    for _ in range(2):
        load(pets, True).fingerprint  # noqa: B018
    assert len(read) == 6


@pytest.mark.parametrize("damage", [lambda text: text[:-10], lambda text: text.replace("a", "b", 5), lambda text: ""])
def test_a_damaged_cache_is_made_anew(damage, pets, read, cache):
    first = load(pets, True).fingerprint
    (file,) = cache.iterdir()
    whole = file.read_text()
    file.write_text(damage(whole))
    read.clear()
    assert load(pets, True).fingerprint == first and len(read) == 3
    assert file.read_text() == whole


def test_a_cache_that_cannot_be_written_is_a_warning(pets, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    first = load(pets, True).fingerprint
    for environment in ({"XDG_CACHE_HOME": str(tmp_path / "file")}, {"XDG_CACHE_HOME": "", "HOME": "/proc/nowhere"}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        content.warn_once.cache_clear()
        assert load(pets, True).fingerprint == first
        assert "warning: checksums of the images are not kept" in capsys.readouterr().out


# Runs go on.


def begun(place, split, **options):
    """A run's directory and its configuration, begun with a split."""
    settings = build.resolve(Config(dataset=split.dataset, base_channels=4, latent_dim=8, **options), split)
    directory = run.RunDirectory(place)
    directory.begin(settings, split, overwrite=False)
    return directory, settings


def test_a_run_goes_on_with_the_same_images_in_memory_streamed_and_moved(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "moved")
    for first in (False, True):
        for place, streaming in ((f"{pets}/", True), (tmp_path / "moved", False), (pets, True), (pets, False)):
            begun(tmp_path / f"run{first}", load(pets, first))
            directory, _ = begun(tmp_path / f"run{first}", load(place, streaming))
            config, data = directory.read_config()
            assert config.dataset == f"folder:{place}"
            # What was known stays known.
            assert data["fingerprints"].keys() >= {"encoded"}
    assert data["fingerprints"].keys() == {"pixels", "encoded"}


def test_a_tfds_run_goes_on_in_memory_and_streamed(shapes_home, tmp_path):
    for streaming in (True, False, True):
        begun(tmp_path / "run", pipeline.load("shapes", data_dir=shapes_home, streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_does_not_go_on_with_other_images(streaming, pets, tmp_path):
    begun(tmp_path / "run", load(pets))
    exchange_two(pets)
    with pytest.raises(UserError, match="the data's fingerprint changed"):
        begun(tmp_path / "run", load(pets, streaming))


def test_a_background_is_the_same_however_it_is_spelled(pets, tmp_path):
    begun(tmp_path / "run", load(pets), background="white")
    for spelling in ("#ffffff", "WHITE", "#FFF", "rgb(255,255,255)"):
        begun(tmp_path / "run", load(pets, background=spelling), background=spelling)
    with pytest.raises(UserError, match="--background was .*, is 'black'"):
        begun(tmp_path / "run", load(pets, background="black"), background="black")


def as_format_0(directory, fingerprint):
    record = json.loads(directory.config_file.read_text())
    del record["format"], record["flags"]["background"], record["data"]["fingerprints"]
    record["data"]["fingerprint"] = fingerprint
    record["flags"]["encoder_head"] = "pool"
    directory.config_file.write_text(json.dumps(record))


def rule_of_format_0(path, streaming):
    """The fingerprint as it was computed then."""
    import hashlib

    split = load(path, streaming)
    digest = hashlib.sha256(f"{split.num_images} {split.resolution} {split.num_classes}".encode())
    if streaming:
        for name in ("cat/a.png", "cat/b.png", "dog/a.png"):
            file = path / name
            digest.update(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    else:
        digest.update(split.images.tobytes())
    digest.update(np.array([0, 0, 1], np.int32).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_of_format_0_goes_on_with_the_same_images_and_then_has_a_fingerprint_of_today(streaming, pets, tmp_path):
    directory, settings = begun(tmp_path / "run", load(pets, streaming), encoder_head="pool", objective="vae")
    as_format_0(directory, rule_of_format_0(pets, streaming))
    directory.begin(settings, load(pets, streaming), overwrite=False)
    assert "encoded" in directory.read_config()[1]["fingerprints"]
    as_format_0(directory, "0" * 64)
    with pytest.raises(UserError, match="the data's fingerprint changed"):
        directory.begin(settings, load(pets, streaming), overwrite=False)
