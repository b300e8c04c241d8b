"""What is read of a user's folder: which images, which classes, which pixels; and what is said of it."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfvae.command import UserError
from tfvae.data import pipeline
from tfvae.data.errors import DataError

CATS_AND_DOGS = ("cat/a.png", "cat/b.png", "dog/a.png")


def write(root, *names):
    """Images of 4 px, each of its own colour, except for names without an image's ending: text."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.lower().endswith((".png", ".jpg")):
            Image.fromarray(np.full([4, 4, 3], 10 * number % 256, np.uint8)).save(root / name)
        else:
            (root / name).write_text("text")
    return root


def load(root, **options):
    return pipeline.load(f"folder:{root}", **options)


def refused(root, **options):
    with pytest.raises(DataError) as error:
        load(root, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_cats_and_dogs(split):
    assert split.class_names == ("cat", "dog")
    np.testing.assert_array_equal(split.labels, [0, 0, 1])


# What is no image of the user's.


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints",
        ".Trash-1000",
        ".git",
        "@eaDir",
        "#recycle",
        "__MACOSX",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    ],
)
def test_hidden_and_system_folders_are_no_classes_and_are_named(name, tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    before = load(tmp_path)
    write(tmp_path, f"{name}/x.png", f"cat/{name}/y.png")
    after = load(tmp_path)
    assert_cats_and_dogs(after)
    assert before.fingerprints == after.fingerprints
    found = ", ".join(sorted([name, f"cat/{name}"]))  # in the order of their paths
    assert f"2 hidden or system folders ({found})" in after.summary


def test_hidden_files_are_no_images(tmp_path):
    write(tmp_path, *CATS_AND_DOGS, "cat/._a.png", ".DS_Store")
    split = load(tmp_path)
    assert_cats_and_dogs(split)
    assert "2 hidden files (.DS_Store, cat/._a.png)" in split.summary


def test_what_is_no_image_is_counted_by_ending(tmp_path):
    split = load(write(tmp_path, *CATS_AND_DOGS, "notes.txt", "cat/a.txt", "dog/x.HEIC", "README", "bird/a.heic"))
    assert "5 files of other kinds (2 .heic, 2 .txt, 1 without ending)" in split.summary
    assert "1 folder without images (bird)" in split.summary


# Links.


def test_links_to_folders_and_files_are_followed(tmp_path):
    write(tmp_path, "elsewhere/x/a.png", "elsewhere/x/b.png", "elsewhere/c.png")
    root = tmp_path / "root"
    write(root, "cat/only.txt")
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "x")
    (root / "cat" / "c.png").symlink_to("../../elsewhere/c.png")
    split = load(root)
    assert split.class_names == ("cat", "dog") and split.labels.tolist() == [0, 1, 1]
    assert split.images[:, 0, 0, 0].tolist() == [20, 0, 10]
    assert "links followed: 2 (cat/c.png, dog)" in split.summary


def test_links_in_a_circle_and_links_to_nothing_are_left_out_and_said(tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "dog" / "itself").symlink_to(".")
    (tmp_path / "dog" / "cats").symlink_to("../cat")
    (tmp_path / "gone").symlink_to("/nowhere")
    (tmp_path / "cat" / "gone.png").symlink_to("gone.png")
    split = load(tmp_path)
    # The circle through dog/cats/up is left where it closes; what is seen on the way there is read.
    assert [name for name in ("cat", "dog") if name in split.class_names] == list(split.class_names)
    assert split.num_images == 5
    assert "3 links to nothing (cat/gone.png, dog/cats/gone.png, gone)" in split.summary
    assert "3 links to a folder above them (cat/up, dog/cats/up, dog/itself)" in split.summary


def test_what_only_looks_like_a_file_is_left_out(tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "dog" / "folder.png").mkdir()
    split = load(tmp_path)
    assert_cats_and_dogs(split)
    assert "1 that is no regular file (cat/pipe.png)" in split.summary


# Where the classes are.


@pytest.mark.parametrize("wrap", ["pets", "pets/v2", "a/b/c"])
def test_one_wrapping_folder_is_gone_into(wrap, tmp_path):
    write(tmp_path, *(f"{wrap}/{name}" for name in CATS_AND_DOGS), "__MACOSX/pets/cat/._a.png", "licence.txt")
    split = load(tmp_path)
    assert_cats_and_dogs(split)
    assert f"the classes are the folders of {wrap}" in split.summary
    assert split.fingerprints == load(tmp_path / wrap).fingerprints


@pytest.mark.parametrize("stray", ["preview.jpg", "AAA.png", "zzz.png"])
@pytest.mark.parametrize("wrap", ["", "pets/"])
def test_an_image_beside_class_folders_is_left_out_and_said(stray, wrap, tmp_path):
    split = load(write(tmp_path, *(f"{wrap}{name}" for name in CATS_AND_DOGS), f"{wrap}{stray}"))
    assert_cats_and_dogs(split)
    assert f"1 image beside the class folders ({wrap}{stray})" in split.summary


@pytest.mark.parametrize(
    "names",
    [
        ("b.png", "a.png"),
        ("only/b.png", "only/a.png"),
        ("1.png", "2.png", "3.png", "old/4.png", "worse/5.png"),  # more images than a class has are no stray ones
        ("1.png", "2.png", "more/3.png", "more/4.png"),
    ],
)
def test_other_layouts_are_taken_whole_without_classes(names, tmp_path):
    split = load(write(tmp_path, *names))
    assert (split.num_images, split.num_classes) == (len(names), 0)
    assert split.images[:, 0, 0, 0].tolist() == [10 * names.index(name) for name in sorted(names)]
    assert split.summary.splitlines()[0].endswith(f"{len(names)} images of 4 px without classes")


@pytest.mark.parametrize(
    "splits",
    [
        ("train", "val"),
        ("train", "test"),
        ("Training", "Validation", "Test"),
        ("train", "val", "extra"),
        ("train2017", "val2017"),
        ("training_set", "test_set"),
        ("train", "valid"),
    ],
)
@pytest.mark.parametrize("wrap", ["", "data/"])
def test_a_training_folder_beside_a_test_folder_is_refused_by_a_line_that_names_it(splits, wrap, tmp_path):
    write(tmp_path, *(f"{wrap}{split}/{name}" for split in splits for name in CATS_AND_DOGS))
    for streaming in (False, True):
        assert f"give folder:{tmp_path}/{wrap}{splits[0]}" in refused(tmp_path, streaming=streaming)
    assert_cats_and_dogs(load(tmp_path / wrap / splits[0]))


@pytest.mark.parametrize("names", [("train", "bus", "car"), ("test", "control"), ("trainer", "sneaker")])
def test_classes_may_have_a_splits_name(names, tmp_path):
    assert load(write(tmp_path, *(f"{name}/a.png" for name in names))).class_names == tuple(sorted(names))


# Formats.


SUFFIXES = (
    ".tif .tiff .gif .jpe .jfif .jp2 .j2k .ppm .pgm .pnm .pbm .tga .bmp .dib .webp .png .apng .ico .pcx .sgi .qoi .mpo .PNG .Tiff"
).split()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_class_of_any_format_that_pillow_reads_is_read(suffix, tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    (tmp_path / "bird").mkdir()
    form = {".mpo": "JPEG", ".pbm": "PPM", ".j2k": "JPEG2000", ".apng": "PNG"}.get(suffix.lower())
    Image.new("RGB", (4, 4), "white").save(tmp_path / "bird" / f"x{suffix}", format=form)
    split = load(tmp_path, resolution=4)
    assert split.class_names == ("bird", "cat", "dog")
    assert split.images[0].min() >= 250


@pytest.mark.parametrize("suffix", [".h5", ".hdf", ".grib", ".mpg", ".eps", ".ps", ".wmf", ".pdf", ".heic", ".npz"])
def test_what_pillow_only_knows_by_name_is_left_out_and_said(suffix, tmp_path):
    split = load(write(tmp_path, *CATS_AND_DOGS, f"cat/x{suffix}"))
    assert_cats_and_dogs(split)
    assert f"1 file of another kind (1 {suffix})" in split.summary


def test_an_empty_folder_says_what_was_left_out(tmp_path):
    line = refused(write(tmp_path, "a/x.heic", "a/y.txt", "a/@eaDir/z.png"))
    assert "no images found" in line and "1 .heic, 1 .txt" in line and "@eaDir" in line


@pytest.mark.parametrize(("folder", "line"), [("", "PATH is missing"), ("images.zip", "is a file")])
def test_no_folder_is_one_line(folder, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "images.zip", "a.png")
    assert line in refused(folder)


@pytest.mark.parametrize("path", ["gs://bucket/pets", "s3://bucket/x", "http://host/x", "HTTPS://host/x", "file:///x"])
def test_a_url_is_refused_as_a_folder_and_as_data_dir(path):
    for function in (lambda: pipeline.load(f"folder:{path}"), lambda: pipeline.load("shapes", data_dir=path)):
        with pytest.raises((UserError, DataError)) as error:
            function()
        assert path in str(error.value) and "expected a path" in str(error.value)


def test_a_url_as_the_environments_data_folder_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/x")
    with pytest.raises((UserError, DataError), match="^TFDS_DATA_DIR=gs://bucket/x: "):
        pipeline.load("shapes")


def test_the_home_folder_is_expanded(tmp_path, monkeypatch, shapes_home):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "pets", *CATS_AND_DOGS)
    assert_cats_and_dogs(load("~/pets"))
    (tmp_path / "data").symlink_to(shapes_home)
    assert pipeline.load("shapes", data_dir="~/data").num_images == 100


def test_names_that_are_no_utf_8_are_read_in_memory_and_streamed(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    write(tmp_path, *CATS_AND_DOGS)
    with open(folder + b"/\xff.png", "wb") as file:
        Image.new("RGB", (4, 4)).save(file, format="PNG")
    for streaming in (False, True):
        split = load(tmp_path, streaming=streaming)
        split.summary.encode()  # can be printed
        assert len(split.fingerprint) == 64 and split.num_classes == 3
        assert len(next(split.batches(4, 0).as_numpy_iterator())["image"]) == 4


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n" + 40 * b"x", b"II*\0" + 40 * b"\xff"])
def test_an_unreadable_image_is_known_before_anything_is_written(content, tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    (tmp_path / "dog" / "z.png").write_bytes(content)
    for options in ({}, {"resolution": 4}, {"streaming": True}, {"streaming": True, "resolution": 4}):
        assert "dog/z.png cannot be read as an image" in refused(tmp_path, **options)


def test_a_failing_disk_is_not_called_a_broken_image(tmp_path, monkeypatch):
    write(tmp_path, *CATS_AND_DOGS)

    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", fail)
    line = refused(tmp_path, resolution=4)
    assert "Permission denied" in line and "repair" not in line


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write(tmp_path, *CATS_AND_DOGS)
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    line = refused(tmp_path)
    assert str(tmp_path / "dog") in line and "Permission denied" in line


# Pixels.


def four_ways(tmp_path, hidden=((0, 0, 0), (0, 255, 0), (255, 0, 255), (255, 255, 255))):
    """The same picture, a blue half on nothing, saved with different colours where it is transparent."""
    for number, colour in enumerate(hidden):
        pixels = np.zeros([4, 4, 4], np.uint8)
        pixels[:, :2] = (0, 0, 255, 255)
        pixels[:, 2:] = (*colour, 0)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    # By a palette, whose entry 0 is the transparent one; by one of the colours; the file formats' own ways.
    flat = Image.new("P", (4, 4), 0)
    flat.putpalette([255, 0, 255, 0, 0, 255])
    flat.paste(1, (0, 0, 2, 4))
    flat.save(tmp_path / "4.png", transparency=0)
    flat.save(tmp_path / "5.gif", transparency=0)
    flat.convert("RGB").save(tmp_path / "6.png", transparency=(255, 0, 255))
    for number, suffix in enumerate((".webp", ".tif", ".tga"), 7):
        Image.open(tmp_path / "1.png").save(
            tmp_path / f"{number}{suffix}", **({"lossless": True} if suffix == ".webp" else {})
        )


@pytest.mark.parametrize(
    ("background", "rgb"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48)), ("lime", (0, 255, 0))]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_transparent_picture_is_the_same_however_it_was_saved(background, rgb, streaming, tmp_path):
    four_ways(tmp_path)
    (batch,) = load(tmp_path, background=background, streaming=streaming).in_order(20).as_numpy_iterator()
    expected = np.zeros([4, 4, 3], np.uint8)
    expected[:, :2], expected[:, 2:] = (0, 0, 255), rgb
    assert len(batch["image"]) == 10
    for image in batch["image"]:
        np.testing.assert_array_equal(image, expected)


def test_white_is_the_background_that_nobody_chose(tmp_path):
    four_ways(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).images, load(tmp_path, background="#fff").images)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_half_transparent_pixels_are_mixed_with_the_background(mode, tmp_path):
    half = Image.fromarray(np.full([4, 4, 4], (100, 100, 100, 128), np.uint8))
    half.convert(mode).save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    # 100 * 128 / 255 + 255 * 127 / 255 = 177.2
    np.testing.assert_array_equal(load(tmp_path).images, np.full([1, 4, 4, 3], 177))


def test_transparency_is_composited_before_the_image_is_resized(tmp_path):
    pixels = np.zeros([8, 8, 4], np.uint8)
    pixels[:4] = (0, 0, 0, 255)
    pixels[4:] = (0, 255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load(tmp_path, resolution=4).images[0]
    assert (image == image[..., :1]).all()  # grey: nothing of the hidden green


@pytest.mark.parametrize("wrong", ["whiteish", "", "#12", "#00000080", "rgb(300,0,0)"])
def test_a_background_that_is_no_colour_is_one_line(wrong, tmp_path):
    four_ways(tmp_path)
    with pytest.raises(ValueError, match="--background=.*: expected the name of a colour, or #rrggbb"):
        load(tmp_path, background=wrong)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "a.jp2"])
def test_16_bit_greys_are_scaled(name, tmp_path):
    values = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    Image.fromarray(values).save(tmp_path / name)
    image = load(tmp_path).images[0]
    np.testing.assert_allclose(image, np.repeat((values / 257)[..., None], 3, -1), atol=1)
    # As 8 bits of red, green and blue are taken of a PNG that has 16 bits of each.
    np.testing.assert_array_equal(image[..., 0], values >> 8)


def test_16_bit_greys_may_have_a_transparent_value(tmp_path):
    values = np.array([[0, 1000], [40000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=1000)
    image = load(tmp_path, background="lime").images[0]
    assert image.tolist() == [[[0, 0, 0], [0, 255, 0]], [[156, 156, 156], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_whose_range_is_not_known_are_refused(mode, tmp_path):
    Image.new(mode, (4, 4), 3).save(tmp_path / "a.tif")
    assert "a.tif" in refused(tmp_path) and "expected 8 or 16 bits" in refused(tmp_path)


def test_one_bit_and_other_colour_spaces_are_read_as_before(tmp_path):
    Image.new("1", (4, 4), 1).save(tmp_path / "a.png")
    Image.new("CMYK", (4, 4)).save(tmp_path / "b.tif")
    assert load(tmp_path).images.min() == 255


def test_the_first_lines_say_what_was_taken_and_what_was_left_out(tmp_path):
    write(tmp_path, "pets/cat/a.png", "pets/cat/b.png", "pets/dog/a.png", "pets/preview.jpg")
    write(tmp_path, "pets/@eaDir/a.png", ".Trash-1000/b.png", "pets/cat/.ipynb_checkpoints/a.png", "pets/notes.txt")
    (tmp_path / "pets" / "loop").symlink_to(".")
    (tmp_path / "pets" / "puppy").symlink_to("dog")
    assert load(tmp_path).summary == pipeline.describe(f"folder:{tmp_path}").summary
    assert load(tmp_path).summary.splitlines() == [
        f"folder:{tmp_path}, train: 4 images of 4 px in 3 classes: cat 2, dog 1, puppy 1",
        "  the classes are the folders of pets",
        "  links followed: 1 (pets/puppy)",
        "  left out: 3 hidden or system folders (.Trash-1000, pets/@eaDir, pets/cat/.ipynb_checkpoints); 1 link to a folder "
        "above it (pets/loop); 1 image beside the class folders (pets/preview.jpg); 1 file of another kind (1 .txt)",
    ]


def test_a_summary_of_many_classes_stays_short(tmp_path):
    write(tmp_path, *(f"class{number:03d}/a.png" for number in range(100)), *(f"notes.{i:03d}" for i in range(100)))
    summary = load(tmp_path).summary
    assert "100 classes: class000 1, class001 1, " in summary and " and 88 more" in summary
    assert len(summary) < 800


def test_a_file_in_memory_is_read_like_one_on_the_disk():
    from tfvae.data import folder

    stream = io.BytesIO()
    Image.new("RGBA", (4, 4)).save(stream, format="PNG")
    np.testing.assert_array_equal(folder.read_image(stream, 4), np.full([4, 4, 3], 255))


# Classes that a file names, and zip files.

NAMES = ("a/x.png", "a/y.png", "b/z.png")


def labelled(root, rows=(("a/x.png", "dog"), ("a/y.png", "cat"), ("b/z.png", "dog")), header="file,label"):
    (root / "labels.csv").write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return root


def stylegan(root, labels, names=NAMES):
    rows = labels if labels is None else [list(row) for row in zip(names, labels)]
    (root / "dataset.json").write_text(json.dumps({"labels": rows}))
    return root


def test_a_table_beside_the_images_says_their_classes_whatever_the_folders_are(tmp_path):
    split = load(labelled(write(tmp_path, *NAMES)))
    assert split.class_names == ("cat", "dog") and split.labels.tolist() == [1, 0, 1]
    assert "the classes are those of labels.csv" in split.summary and "left out" not in split.summary
    split = load(labelled(tmp_path, [("./a/x.png", "10"), ("b/z.png", "2"), ("a/y.png", "10")]))
    assert split.class_names == ("2", "10") and split.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
def test_stylegan_s_folder_and_its_zip_are_the_same_images_and_classes(packed, streaming, tmp_path):
    root = stylegan(write(tmp_path / "data", *NAMES), [7, 0, 7])
    if packed:
        root = shutil.make_archive(tmp_path / "packed", "zip", root)
    split = load(root, resolution=4, streaming=streaming)
    (batch,) = split.in_order(5).as_numpy_iterator()
    assert split.class_names == ("0", "7") and batch["label"].tolist() == [1, 0, 1]
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 10, 20]
    assert pipeline.describe(f"folder:{root}").class_names == ("0", "7")


def test_a_zip_may_be_moved_and_is_the_data_of_its_folder_in_memory(tmp_path):
    stylegan(write(tmp_path / "data", *NAMES), [1, 0, 1])
    root = shutil.make_archive(tmp_path / "packed", "zip", tmp_path / "data")
    splits = [load(tmp_path / "data"), load(root), load(shutil.copy(root, tmp_path / "other.zip"))]
    assert len({split.fingerprints["pixels"] for split in splits}) == 1
    assert splits[1].fingerprints == splits[2].fingerprints
    before = splits[1].fingerprints["encoded"]
    stylegan(tmp_path / "data", [0, 0, 1])
    assert load(shutil.make_archive(tmp_path / "packed", "zip", tmp_path / "data")).fingerprints["encoded"] != before


def test_other_labels_in_the_file_are_other_data_where_they_stream(tmp_path):
    before = load(labelled(write(tmp_path, *NAMES)), streaming=True).fingerprint
    labelled(tmp_path, [("a/x.png", "cat"), ("a/y.png", "cat"), ("b/z.png", "dog")])
    assert load(tmp_path, streaming=True).fingerprint != before


def test_a_zip_without_labels_has_the_classes_of_its_folders(tmp_path):
    write(tmp_path / "data", *CATS_AND_DOGS, "__MACOSX/x.png", "__MACOSX/y.png", "cat/.hidden.png", "notes.txt")
    split = load(shutil.make_archive(tmp_path / "packed", "zip", tmp_path / "data"))
    assert_cats_and_dogs(split)
    for words in ("1 hidden or system folder (__MACOSX)", "1 hidden file (cat/.hidden.png)", "1 .txt"):
        assert words in split.summary


@pytest.mark.parametrize(("labels", "why"), [(None, "gives no labels"), ([3, 3, 3], "names one class alone")])
def test_a_file_that_gives_no_classes_leaves_all_images_without(labels, why, tmp_path):
    split = load(stylegan(write(tmp_path, *NAMES), labels))
    assert split.num_images == 3 and not split.num_classes
    assert f"without classes: dataset.json {why}" in split.summary


def test_a_table_may_lie_in_the_one_folder_that_holds_all_images(tmp_path):
    split = load(labelled(write(tmp_path / "pets", *NAMES)).parent)
    assert split.class_names == ("cat", "dog")
    write(tmp_path, "preview.png")
    split = load(tmp_path)
    assert split.num_images == 3 and "1 image beside the folder of the labels (preview.png)" in split.summary


X, Y, Z = ("a/x.png", "cat"), ("a/y.png", "cat"), ("b/z.png", "dog")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([X, Y], "labels.csv: 1 image (b/z.png) that it does not name: expected one row for each image"),
        ([X, Y, Z, X], "labels.csv: 1 image (a/x.png) that it names twice"),
        ([X, Y, Z, ("c.png", "cat")], "labels.csv: 1 image (c.png) that it names, and no such images lie below"),
        ([X, Y, Z, ("c.png",)], "line 5 is 'c.png': expected a file and its label"),
        ([X, ("a/y.png", ""), Z], "line 3 is 'a/y.png,': expected a file and its label"),
        ([], "it has no rows"),
    ],
)
def test_a_table_that_is_not_of_these_images_is_one_line(rows, line, tmp_path):
    assert line in refused(labelled(write(tmp_path, *NAMES), rows))


def test_a_file_of_labels_that_cannot_be_read_is_one_line(tmp_path):
    labelled(write(tmp_path, *NAMES), header="name,class")
    assert "labels.csv cannot be read: its first line is 'name,class': expected 'file,label'" in refused(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"file,label\na/x.png,\xff\n")
    assert "labels.csv cannot be read" in refused(tmp_path)
    labelled(tmp_path)
    stylegan(tmp_path, [0, 1, 0])
    assert "holds both labels.csv and dataset.json" in refused(tmp_path)
    (tmp_path / "labels.csv").unlink()
    stylegan(tmp_path, [0, 1.5, True])
    assert 'it has the row ["a/y.png", 1.5]: expected {"labels"' in refused(tmp_path)


def test_a_file_that_is_no_zip_is_refused_and_a_damaged_one_too(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "a.zip: is a file; expected folder:PATH with images in PATH, or a zip file" in refused(tmp_path / "a.zip")
    path = shutil.make_archive(tmp_path / "b", "zip", write(tmp_path / "data", *NAMES))
    data = bytearray(Path(path).read_bytes())
    data[data.index(b"z.png")] ^= 255  # of its name before its bytes
    Path(path).write_bytes(data)
    assert "cannot be read" in refused(path)


# Images that are not square.


@pytest.mark.parametrize("streaming", [False, True])
def test_an_image_is_cropped_or_padded_with_the_background(streaming, tmp_path):
    picture = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 10 + 100, 4, 0).repeat(3, -1)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    options = dict(resolution=8, streaming=streaming, background="#102030")
    cropped, padded = (
        next(load(tmp_path, fit=fit, **options).in_order(1).as_numpy_iterator())["image"][0] for fit in ("crop", "pad")
    )
    np.testing.assert_array_equal(cropped, np.asarray(Image.fromarray(picture[:, 2:6]).resize((8, 8))))
    np.testing.assert_array_equal(padded[2:6], picture)
    assert (padded[[0, 1, 6, 7]] == [16, 32, 48]).all()


def test_padded_images_are_other_data_and_cropped_ones_those_that_they_were(tmp_path):
    write(tmp_path, *CATS_AND_DOGS)
    prints = [
        load(tmp_path, resolution=4, streaming=True, **fit).fingerprint for fit in ({}, {"fit": "crop"}, {"fit": "pad"})
    ]
    assert prints[0] == prints[1] != prints[2]
