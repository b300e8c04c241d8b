"""What callers give to the client: what no model can take is one line and not sent; pictures are read as in training."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, FakeModel
from PIL import Image

from tfvae import command
from tfvae.data import folder, images

sys.path.append(str(Path(__file__).resolve().parent.parent / "serving"))

import client
import pictures
import transport

MODELS = {"gan": FakeModel(), "vae": FakeModel(vae=True)}


@pytest.fixture
def endpoint():
    with FakeEndpoint(MODELS) as fake:
        yield fake


def run(endpoint, *arguments):
    return client.main([arguments[0], f"--url={endpoint.url}", *map(str, arguments[1:])])


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**70, -1, 1.7, float("nan"), float("inf"), "1", None, 1j, True])
def test_a_seed_that_int64_does_not_hold_is_one_line_and_not_sent(endpoint, seed):
    with pytest.raises(
        transport.EndpointError, match="^seeds: .*expected .*whole numbers from 0 to 9223372036854775807"
    ):
        client.Model(endpoint.url, "gan").sample([seed], [0])
    assert endpoint.predictions() == []


@pytest.mark.parametrize("label", [2**31, 2**63, -1, 0.5, "cat", None])
def test_a_label_that_int32_does_not_hold_is_one_line_and_not_sent(endpoint, label):
    model = client.Model(endpoint.url, "vae")
    for call in (
        lambda: model.sample([1, 2], [0, label]),
        lambda: model.decode(np.ones((2, 16)), [0, label]),
        lambda: model.reconstruct(np.zeros((2, 32, 32, 3), np.uint8), [0, label]),
    ):
        with pytest.raises(transport.EndpointError, match="^labels: .*expected .*whole numbers from 0 to 2147483647"):
            call()
    assert endpoint.predictions() == []


@pytest.mark.parametrize("pixel", [256, -1, 0.5, float("nan"), 1e30])
def test_a_pixel_that_is_none_is_one_line_and_not_sent(endpoint, pixel):
    model = client.Model(endpoint.url, "vae")
    given = np.zeros((2, 32, 32, 3), type(pixel))
    given[1, 3, 4, 2] = pixel
    for call in (lambda: model.encode(given), lambda: model.reconstruct(given, [0, 0])):
        with pytest.raises(
            transport.EndpointError, match="^pixels: .* was given: expected whole numbers from 0 to 255"
        ):
            call()
    assert endpoint.requests == []


@pytest.mark.parametrize("latent", [float("nan"), float("inf"), -float("inf"), 1e60, 10**400, "1", 1j])
def test_latents_that_are_not_finite_are_one_line_and_not_sent(endpoint, latent, recwarn):
    with pytest.raises(transport.EndpointError, match="^latents: expected .*finite numbers that float32 holds"):
        client.Model(endpoint.url, "gan").decode([[0.0] * 15 + [latent]], [0])
    assert endpoint.requests == [] and not recwarn


@pytest.mark.parametrize("truncation", ["much", None, [1, 2], 1e60, 10**400])
def test_a_truncation_that_is_no_number_is_one_line(endpoint, truncation, recwarn):
    with pytest.raises(transport.EndpointError, match="expected a number above 0, such as 0.5"):
        client.Model(endpoint.url, "gan").sample([1], [0], truncation)
    assert endpoint.requests == [] and not recwarn


def test_generators_arrays_and_whole_floats_are_taken_as_lists_are(endpoint):
    gan, vae = client.Model(endpoint.url, "gan"), client.Model(endpoint.url, "vae")
    expected = gan.sample([0, 1, 2**63 - 1], [3, 3, 3])
    assert gan.sample((seed for seed in (0, 1, 2**63 - 1)), (3 for _ in range(3))) == expected
    assert gan.sample(np.array([0, 1, 2**63 - 1], np.uint64), np.full(3, 3.0)) == expected
    pixels = np.full((2, 32, 32, 3), 51, np.uint8)
    for given in (
        pixels.astype(float),
        (image for image in pixels),
        pixels.tolist(),
        [Image.fromarray(p) for p in pixels],
    ):
        np.testing.assert_array_equal(vae.encode(given), vae.encode(pixels))
    latents = np.ones((2, 16), np.float32)
    np.testing.assert_array_equal(gan.decode((z for z in latents), iter([1, 2])), gan.decode(latents, [1, 2]))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda model: model.sample([], []), "seeds: expected a list of .*, got none"),
        (lambda model: model.sample(5, [1]), "seeds: expected a list of"),
        (lambda model: model.sample([1, 2], [3]), r"label has shape \[1\]: vae takes \[2\]"),
        (lambda model: model.sample([[1, 2]], [3]), r"seed has shape \[1, 2\]: vae takes \[1\]"),
        (lambda model: model.decode([], []), "latents: expected a list of .*, got none"),
        (lambda model: model.decode([[1, 2]], [3]), r"z has shape \[1, 2\]: vae takes \[1, 16\]"),
        (lambda model: model.decode([[1, 2], [3]], [3]), "latents: expected a list of"),
        (lambda model: model.encode([]), "pixels: expected a list of .*, got none"),
        (
            lambda model: model.encode(np.zeros((32, 32, 3))),
            r"image has shape \[32, 32, 3\]: vae takes \[32, 32, 32, 3\]",
        ),
        (lambda model: model.encode(np.zeros((1, 16, 16, 3))), r"image has shape .*: vae takes \[1, 32, 32, 3\]"),
        (lambda model: model.encode([np.zeros((2, 2, 3)), np.zeros((3, 3, 3))]), "pixels: expected a list of"),
        (lambda model: model.wait(float("nan")), "wait_seconds nan: expected a number above 0"),
    ],
)
def test_shapes_that_do_not_fit_are_one_line_and_not_sent(endpoint, call, line):
    with pytest.raises(transport.EndpointError, match=line) as error:
        call(client.Model(endpoint.url, "vae"))
    assert "\n" not in str(error.value) and endpoint.predictions() == []


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_seconds": 0},
        {"timeout_seconds": float("inf")},
        {"timeout_seconds": "long"},
        {"retries": -1},
        {"retries": 1.5},
        {"version": 1.5},
        {"version": "newest"},
        {"version": 2**63},
        {"version_label": ""},
        {"version_label": 5},
        {"version_label": "\udcff"},
    ],
)
def test_options_of_a_model_that_cannot_be_are_one_line(endpoint, options):
    (name,) = options
    with pytest.raises(transport.EndpointError, match=f"^{name}.*expected "):
        client.Model(endpoint.url, "gan", **options)


@pytest.mark.parametrize("name", ["", None, 5, "\udcff"])
@pytest.mark.parametrize("url", ["http://localhost:8501", "grpc://localhost:8500"])
def test_a_name_that_is_none_is_one_line(url, name):
    with pytest.raises(transport.EndpointError, match="^model .*: expected the name that it has at the endpoint"):
        client.Model(url, name)


# Pictures from files.


def files_of_all_kinds(place):
    """Pictures that are transparent, deep, grey, turned and of other sizes."""
    draw = np.random.default_rng(0)
    four = draw.integers(0, 256, (40, 52, 4), np.uint8)
    Image.fromarray(four).save(place / "rgba.png")
    Image.fromarray(four).save(place / "rgba.webp", lossless=True)
    Image.fromarray(four[:32, :32]).convert("LA").save(place / "grey_alpha.png")
    Image.fromarray(four[..., :3]).save(place / "colour_key.png", transparency=tuple(map(int, four[0, 0, :3])))
    palette = Image.fromarray(four[..., :3]).quantize(16)
    palette.save(place / "palette.png", transparency=3)
    palette.save(place / "palette.gif", transparency=3)
    palette.save(place / "palette_alphas.png", transparency=bytes(range(0, 160, 10)))
    deep = draw.integers(0, 65536, (32, 32), np.uint16)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(deep).save(place / f"deep.{suffix}")
    Image.fromarray(deep).save(place / "deep_key.png", transparency=int(deep[5, 6]))
    Image.fromarray(four[..., 0]).save(place / "grey.png")
    Image.fromarray(four[..., 0]).convert("1").save(place / "bits.png")
    Image.fromarray(four).convert("CMYK").save(place / "cmyk.tif")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(four[..., :3]).save(place / "turned.jpg", exif=turned)
    return sorted(place.iterdir())


@pytest.mark.parametrize("background", ["white", "#102030", "lime"])
def test_pictures_are_read_as_those_that_a_model_is_trained_on(background, tmp_path):
    colour = pictures.colour(background)
    files = files_of_all_kinds(tmp_path)
    assert len(files) == 15
    for file in files:
        np.testing.assert_array_equal(pictures.read(file, 32, colour), folder.read_image(file, 32, colour), str(file))
    assert pictures.WHITE == images.WHITE


@pytest.mark.parametrize(("flag", "colour"), [((), 255), (("--background=#333",), 51)])
def test_transparent_pictures_are_sent_on_the_background(endpoint, tmp_path, flag, colour):
    hidden = np.zeros((32, 32, 4), np.uint8)
    hidden[..., 1] = 200  # green, under an alpha of 0
    Image.fromarray(hidden).save(tmp_path / "a.png")
    between = ["interpolate", "--model=vae", "--between", tmp_path / "a.png", tmp_path / "a.png"]
    for arguments in (
        ["encode", "--model=vae", tmp_path / "a.png", f"--output={tmp_path}/a.json"],
        ["reconstruct", "--model=vae", tmp_path / "a.png", f"--output={tmp_path}/b.png"],
        [*between, f"--output={tmp_path}/c.png"],
    ):
        assert run(endpoint, *arguments, *flag) == 0
    sent = [body["inputs"]["image"] for body in endpoint.predictions() if "image" in body["inputs"]]
    assert len(sent) == 3 and all(np.unique(image).tolist() == [colour] for image in sent)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_whose_range_is_not_known_are_one_line(endpoint, tmp_path, capsys, mode):
    Image.new(mode, (32, 32), 3).save(tmp_path / "a.tif")
    assert run(endpoint, "encode", "--model=vae", tmp_path / "a.tif") == 1
    error = capsys.readouterr().err
    assert "a.tif cannot be read as a picture" in error and "expected 8 or 16 bits" in error and error.count("\n") == 1
    assert endpoint.predictions() == []


# Flags.


PATH_FLAGS = (
    ["sample", "--model=gan", "--output=URL"],
    ["interpolate", "--model=gan", "--output=URL"],
    ["interpolate", "--model=vae", "--output=a.png", "--between", "URL", "a.png"],
    ["interpolate", "--model=vae", "--output=a.png", "--between", "a.png", "URL"],
    ["encode", "--model=vae", "URL"],
    ["encode", "--model=vae", "a.png", "--output=URL"],
    ["reconstruct", "--model=vae", "--output=a.png", "a.png", "URL"],
    ["reconstruct", "--model=vae", "--output=URL", "a.png"],
)


@pytest.mark.parametrize("arguments", PATH_FLAGS)
@pytest.mark.parametrize("url", ["gs://bucket/m", "s3://bucket/m", "file:///tmp/a.png", "gs:/bucket/m"])
def test_a_url_is_refused_for_every_path_in_the_words_of_the_other_commands(endpoint, capsys, arguments, url):
    with pytest.raises(SystemExit) as end:
        run(endpoint, *[argument.replace("URL", url) for argument in arguments])
    with pytest.raises(command.UserError) as words:
        command.path("output", url)
    said = capsys.readouterr().err
    assert end.value.code == 2 and str(words.value).removeprefix("--output=") in said
    assert endpoint.requests == []


def test_the_home_folder_is_found_by_its_sign(endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert run(endpoint, "reconstruct", "--model=vae", "~/a.png", "--output=~/out/b.png") == 0
    assert run(endpoint, "encode", "--model=vae", "~/a.png", "--output=~/out/c.json") == 0
    between = ["interpolate", "--model=vae", "--between", "~/a.png", "~/a.png"]
    assert run(endpoint, *between, "--output=~/out/d.png") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["b.png", "c.json", "d.png"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["interpolate", "--between", "a", "b", "--seed=3"], "--seed has no use with --between"),
        (["interpolate", "--between", "a", "b", "--rows=4"], "--rows has no use with --between"),
        (["interpolate", "--between", "a", "b", "--truncation=1"], "--truncation has no use with --between"),
        (["interpolate", "--background=red"], "--background goes with --between alone"),
        (["encode", "a", "--overwrite"], "--overwrite goes with --output"),
        (["wait", "--retries=3"], "unrecognized arguments: --retries=3"),
        (["encode", "a", "--background=whiteish"], "whiteish: expected the name of a colour, or #rrggbb"),
        (["encode", "a", "--background=#00000080"], "#00000080: expected the name of a colour, or #rrggbb"),
    ],
)
def test_a_flag_that_would_be_ignored_or_cannot_be_is_refused(endpoint, capsys, arguments, line):
    output = ["--output=a.png"] if arguments[0] == "interpolate" else []
    with pytest.raises(SystemExit) as end:
        run(endpoint, *arguments, "--model=vae", *output)
    assert end.value.code == 2 and line in capsys.readouterr().err
    assert endpoint.requests == []


def test_interpolate_without_between_keeps_its_defaults(endpoint, tmp_path):
    assert run(endpoint, "interpolate", "--model=gan", f"--output={tmp_path}/a.png") == 0
    latents = np.array(endpoint.predictions()[0]["inputs"]["z"])
    assert len(latents) == 4 * 8
    np.testing.assert_allclose(latents[0], np.random.default_rng(0).standard_normal(16), atol=1e-5)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("there.png", "there.png exists: give another --output"),
        ("folder.png", "folder.png is a folder: expected the name of a file"),
        ("there.png/sheets", "there.png: expected a place that can be written to"),
        ("/proc/nowhere/sheet.png", "/proc: expected a place that can be written to"),
    ],
)
@pytest.mark.parametrize(
    "command", [["sample"], ["interpolate"], ["reconstruct", "there.png"], ["encode", "there.png"]]
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_asked(
    command, output, said, endpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("there.png")
    (tmp_path / "folder.png").mkdir()
    if output.startswith("/proc") and os.geteuid() == 0:
        monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc")
    before = len(endpoint.requests)
    assert run(endpoint, *command, "--model=vae", f"--output={output}") == 1
    assert said in capsys.readouterr().err and len(endpoint.requests) == before
