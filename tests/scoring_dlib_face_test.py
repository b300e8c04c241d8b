"""dlib's face descriptor: its archive, and its network against a forward pass in NumPy, with weights drawn for the test."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

from tfvae.scoring import dlib_face, extractors, kinds, neighbours, protocol

# (name, channels in, channels out, halves the sides), as the package's network has them.
LAYERS = [(f"conv32_{i}", 32, 32, False) for i in (1, 2, 3)]
LAYERS += [("conv64_down", 32, 64, True), *((f"conv64_{i}", 64, 64, False) for i in (1, 2, 3))]
LAYERS += [("conv128_down", 64, 128, True), *((f"conv128_{i}", 128, 128, False) for i in (1, 2))]
LAYERS += [("conv256_down", 128, 256, True), *((f"conv256_{i}", 256, 256, False) for i in (1, 2))]
LAYERS += [("conv256_down_out", 256, 256, True)]


def tensors():
    """[(name, shape)] of the network, in the archive's order."""
    convolutions = [("conv32_down", 7, 3, 32)]
    for name, width, channels, _ in LAYERS:
        convolutions += [(f"{name}/conv1", 3, width, channels), (f"{name}/conv2", 3, channels, channels)]
    for name, side, width, channels in convolutions:
        yield f"{name}/conv/filters", [side, side, width, channels]
        yield from ((f"{name}/{part}", [channels]) for part in ("conv/bias", "scale/weights", "scale/biases"))
    yield "fc", [256, 128]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """(an archive like the package's, its weights): levels of 8 bits; the scales' weights in 32, as some there are."""
    draw = np.random.default_rng(0)
    weights, facts, content = {}, [], b""
    for name, shape in tensors():
        if name.endswith("scale/weights"):
            weights[name] = draw.uniform(0.5, 1.5, shape).astype(np.float32)
            facts.append({"name": name, "shape": shape, "dtype": "float32"})
            content += weights[name].tobytes()
            continue
        levels = draw.integers(0, 256, shape).astype(np.uint8)
        scale = 2.0 / 255 * np.sqrt(3.0 / max(1, np.prod(shape[:-1]))) if len(shape) > 1 else 0.001
        packed = {"dtype": "uint8", "scale": scale, "min": -127.5 * scale}
        weights[name] = levels * scale - 127.5 * scale
        facts.append({"name": name, "shape": shape, "dtype": "float32", "quantization": packed})
        content += levels.tobytes()
    path = tmp_path_factory.mktemp("face") / "package.tgz"
    with tarfile.open(path, "w:gz", compresslevel=1) as file:
        parts = {"-weights_manifest.json": json.dumps([{"weights": facts}]).encode(), ".bin": content}
        for end, data in parts.items():
            member = tarfile.TarInfo(f"package/model/face_recognition_model{end}")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path, weights


def convolved(x, kernel, stride, same):
    k = len(kernel)
    x = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)]) if same else x
    height, width = ((n - k) // stride + 1 for n in x.shape[1:3])
    parts = (
        x[:, i : i + stride * height : stride, j : j + stride * width : stride] @ kernel[i, j]
        for i in range(k)
        for j in range(k)
    )
    return sum(part[:, :height, :width] for part in parts)


def by_numpy(images, weights):
    """uint8 [N, 150, 150, 3] -> [N, 128]."""

    def layer(x, name, stride, same):
        x = convolved(x, weights[f"{name}/conv/filters"], stride, same) + weights[f"{name}/conv/bias"]
        return x * weights[f"{name}/scale/weights"] + weights[f"{name}/scale/biases"]

    x = (images.astype(np.float64) - [122.782, 117.001, 104.298]) / 256
    x = np.maximum(layer(x, "conv32_down", 2, False), 0)
    x = np.max([x[:, i : i + 69 : 2, j : j + 69 : 2] for i in range(3) for j in range(3)], axis=0)
    for name, width, channels, down in LAYERS:
        inner = np.maximum(layer(x, f"{name}/conv1", 2 if down else 1, not down), 0)
        inner = layer(inner, f"{name}/conv2", 1, True)
        if down:
            side = x.shape[1] // 2
            x = x[:, : 2 * side, : 2 * side].reshape(len(x), side, 2, side, 2, width).mean(axis=(2, 4))
            x = np.concatenate([x, np.zeros_like(x)], axis=3) if channels > width else x
            inner = np.pad(inner, [(0, 0), *[(0, side - inner.shape[1])] * 2, (0, 0)])
        x = np.maximum(x + inner, 0)
    return x.mean(axis=(1, 2)) @ weights["fc"]


def test_the_descriptor_is_what_a_forward_pass_in_numpy_gives(archive, monkeypatch):
    path, weights = archive
    monkeypatch.setattr(dlib_face, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    extractor = extractors.load("dlib_face", extractor_archive=path)
    images = np.random.default_rng(1).integers(0, 256, (2, 150, 150, 3)).astype(np.uint8)
    images[1] //= 4
    expected = by_numpy(images, weights)
    assert expected.shape == (2, 128) and np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(extractor(images)["features"], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:.*rank-deficient")
def test_pairs_of_one_person_are_counted_by_the_face_descriptor_alone():
    # Three pictures of one person, two of another, one of a third: 3 + 1 of 15 pairs. dlib's own limit is 0.6.
    features = np.zeros([6, 128])
    features[:, 0] = [0.0, 0.3, 0.59, 5.0, 5.599, 9.0]
    outputs = protocol.Outputs(None, features, None)
    found = {}
    for name in ("dlib_face", "random"):
        extractor = kinds.Extractor(extractors.EXTRACTORS[name], name, "of a stand-in", None)
        found[name], _ = protocol.score(protocol.Reference(outputs, 0), outputs, extractor)
    assert found["dlib_face"]["pairs_of_one_person_by_dlib_face"] == pytest.approx(4 / 15)
    assert not [name for name in found["random"] if name.startswith("pairs")]
    with pytest.raises(ValueError, match="features are of 1 images: expected 2 or more"):
        neighbours.share_of_near_pairs(features[:1], 0.6)


def test_faces_are_resized_and_scaled_as_for_the_training():
    kind = extractors.EXTRACTORS["dlib_face"]
    prepared = kind.prepare(np.full([1, 45, 45, 3], 200, np.uint8))
    assert prepared.shape == (1, 150, 150, 3)
    np.testing.assert_allclose(prepared[0, 0, 0], (200 - np.array(dlib_face.MEAN)) / 256, atol=1e-6)


def test_a_missing_or_other_archive_is_one_line_that_says_how_to_get_it(archive, tmp_path):
    get_it = "get it with: npm pack @vladmandic/face-api@1.7.15"
    for given, line in (
        (tmp_path / "none.tgz", f"cannot be read .No such file or directory.: {get_it}"),
        (archive[0], f"bytes and SHA-256 .*: expected the archive of .*12,677,476 bytes.*{get_it}"),
    ):
        with pytest.raises(ValueError, match=f"^--extractor_archive={given} .*{line}"):
            extractors.load(extractor_archive=given)
    with pytest.raises(ValueError, match=f"--extractor_archive is missing: .*{get_it}"):
        extractors.load("dlib_face")
