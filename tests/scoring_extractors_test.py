"""Extractors against values by hand, on stand-ins of the modules' signatures; wrong modules end in one line."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfvae.scoring import extractors, kinds, random_network, saved_models


class StandIn(tf.Module):
    """Inception's signature: logits and pool_3 are fixed multiples of the mean of what comes in."""

    def __init__(self, outputs=("logits", "pool_3"), spatial=False):
        super().__init__()
        self.weight = tf.Variable(np.linspace(-1, 1, 2048, dtype=np.float32))
        self.outputs, self.spatial = outputs, spatial

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def __call__(self, images):
        mean = tf.reduce_mean(images, axis=[1, 2, 3])[:, None]
        pool = mean * self.weight
        widths = {"logits": mean * self.weight[:1008], "pool_3": pool[:, None, None] if self.spatial else pool}
        return {name: widths.get(name, mean) for name in self.outputs}


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception")
    tf.saved_model.save(StandIn(), str(path))
    return path


def grey(*levels):
    return np.stack([np.full([32, 32, 3], level, np.uint8) for level in levels])


def test_inception_sees_images_scaled_to_plus_minus_one(inception):
    outputs = extractors.load(inception_dir=inception)(grey(0, 255, 51))
    weight = np.linspace(-1, 1, 2048, dtype=np.float32)
    np.testing.assert_allclose(outputs["features"], np.outer([-1, 1, -0.6], weight), atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], np.outer([-1, 1, -0.6], weight[:1008]), atol=1e-5)


def test_inception_is_resized_to_299_px_bilinear(tmp_path):
    class Probe(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 299, 299, 3])])
        def __call__(self, images):
            row = images[:, 150, :, 0]  # 299 values; a ramp shows the resizer
            return {"logits": tf.tile(row, [1, 4])[:, :1008], "pool_3": tf.tile(row, [1, 7])[:, :2048]}

    tf.saved_model.save(Probe(), str(tmp_path / "probe"))
    ramp = np.broadcast_to((np.arange(32) * 8).astype(np.uint8)[None, None, :, None], [1, 32, 32, 3])
    row = extractors.load(inception_dir=tmp_path / "probe")(ramp)["features"][0, :299]
    # Half-pixel centres: place i of 299 lies at (i + 0.5) * 32 / 299 - 0.5 of 32, held at the edges.
    place = np.clip((np.arange(299) + 0.5) * 32 / 299 - 0.5, 0, 31)
    np.testing.assert_allclose(row, place * 8 / 127.5 - 1, atol=1e-5)


def test_a_module_with_only_a_signature_and_spatial_features_gives_the_same(inception, tmp_path):
    module = StandIn(spatial=True)

    class Bare(tf.Module):
        def __init__(self):
            super().__init__()
            self.inner = module.weight

    tf.saved_model.save(Bare(), str(tmp_path / "bare"), signatures={"default": module.__call__})
    images = grey(3, 200)
    one, other = (extractors.load(inception_dir=path)(images) for path in (inception, tmp_path / "bare"))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_values_do_not_depend_on_how_many_images_come_at_once_nor_on_replicas(inception, two_replicas):
    images = np.random.default_rng(0).integers(0, 256, (53, 32, 32, 3)).astype(np.uint8)
    extractor = extractors.load(inception_dir=inception)
    whole = extractor(images)
    parts = [extractor(images[:7]), extractor(images[7:])]
    with two_replicas.scope():
        spread = extractors.load(inception_dir=inception)(images)
    for name in whole:
        assert len(whole[name]) == 53
        np.testing.assert_allclose(whole[name], np.concatenate([part[name] for part in parts]), atol=1e-6)
        np.testing.assert_allclose(whole[name], spread[name], atol=1e-6)


def test_the_checksum_is_of_the_weights(inception, tmp_path):
    other = StandIn()
    other.weight.assign_add(tf.ones([2048]))
    tf.saved_model.save(other, str(tmp_path / "other"))
    assert saved_models.checksum(inception) == saved_models.checksum(inception)
    assert saved_models.checksum(inception) != saved_models.checksum(tmp_path / "other")
    assert extractors.load(inception_dir=inception).checksum == saved_models.checksum(inception)


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (np.zeros([2, 32, 32, 3], np.float32), "images are float32"),
        (np.zeros([2, 32, 32], np.uint8), "expected uint8 [N, H, W, 3]"),
        (np.zeros([0, 32, 32, 3], np.uint8), "N 1 or more"),
    ],
)
def test_images_of_another_type_are_refused(inception, images, line):
    with pytest.raises(ValueError) as error:
        extractors.load(inception_dir=inception)(images)
    assert line in str(error.value)


def test_a_folder_without_a_module_says_where_to_get_it(tmp_path):
    with pytest.raises(
        ValueError, match="--inception_dir=.*: there is no saved_model.pb; unpack https://www.kaggle.com"
    ):
        extractors.load(inception_dir=tmp_path)
    with pytest.raises(ValueError, match="--classifier_dir=.*: there is no saved_model.pb; make one with python -m"):
        extractors.load(classifier_dir=tmp_path)


@pytest.mark.parametrize("outputs", [("logits",), ("pool_3",), ("logits", "features")])
def test_a_module_without_the_two_outputs_is_refused(outputs, tmp_path):
    tf.saved_model.save(StandIn(outputs), str(tmp_path / "module"))
    with pytest.raises(ValueError) as error:
        extractors.load(inception_dir=tmp_path / "module")
    assert "is no extractor: expected an output" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_classifier_with_other_outputs_or_sizes_is_refused(tmp_path):
    tf.saved_model.save(StandIn(), str(tmp_path / "module"))
    facts = {"dataset": "cifar10", "resolution": 32, "class_names": ["one", "two"], "accuracy": 0.5}
    (tmp_path / "module" / saved_models.CLASSIFIER_FACTS).write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is no extractor: expected a"):
        extractors.load(classifier_dir=tmp_path / "module")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            dict(inception_dir="a", classifier_dir="b"),
            "both of --inception_dir and --classifier_dir given: expected one",
        ),
        (dict(name="inception", classifier_dir="b"), "both of --extractor=inception and --classifier_dir given"),
        (
            dict(name="inception"),
            "--inception_dir is missing: expected the place of --extractor=inception; unpack https",
        ),
        (dict(name="inceptoin"), "--extractor=inceptoin: expected one of efficientnet_lite0, inception, classifier"),
    ],
)
def test_two_extractors_one_without_its_folder_and_an_unknown_one_are_one_line(arguments, line):
    with pytest.raises(ValueError) as error:
        extractors.load(**arguments)
    assert str(error.value).startswith(line)


@pytest.mark.parametrize("folders", [{}, dict(inception_dir=None, classifier_dir="")])
def test_without_a_name_and_a_folder_it_is_the_default(folders):
    kind, folder = extractors.choose(None, **folders)
    assert (kind.name, folder) == (extractors.DEFAULT, None)


def test_an_extractor_may_be_named_beside_its_folder(inception):
    assert extractors.load("inception", inception_dir=inception, classifier_dir=None).kind.name == "inception"


def test_the_preparation_is_told_as_it_is_done():
    known = extractors.EXTRACTORS
    assert known["inception"].preparation == "to [-1, 1], then bilinear to 299 px, not antialiased"
    assert known["classifier"].preparation == "none: the images' own size, scaled inside"
    kind = kinds.Kind("other", "other", None, "", value_range=(0.0, 1.0), side=2, resizer="area", antialias=True)
    assert kind.preparation == "to [0, 1], then area to 2 px, antialiased"
    levels = np.array([[0, 51, 102, 153], [51, 102, 153, 204]] * 2, np.uint8)
    prepared = kind.prepare(tf.constant(np.repeat(levels[None, ..., None], 3, axis=3)))
    np.testing.assert_allclose(prepared[0, :, :, 0], [[0.2, 0.6], [0.2, 0.6]], atol=1e-6)
    np.testing.assert_array_equal(known["classifier"].prepare(levels), levels)


def test_a_damaged_module_is_one_line(inception, tmp_path):
    import shutil

    shutil.copytree(inception, tmp_path / "cut")
    file = tmp_path / "cut" / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be loaded"):
        extractors.load(inception_dir=tmp_path / "cut")


# Any SavedModel.

FACTS = {
    "name": "mean_colour",
    "side": 4,
    "resizer": "area",
    "antialias": False,
    "scaling": [[-1, 0, 0], [1, 1, 2]],
    "signature": "embed",
    "licence": "MIT",
}


class Colours(tf.Module):
    """The mean of each channel; `rows`: as [N, 1, 3]; `divide`: by the red one, which is 0 for a black image scaled to [0, 1]."""

    def __init__(self, rows=False, divide=False):
        super().__init__()
        self.rows, self.divide = rows, divide

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def embed(self, images):
        mean = tf.reduce_mean(images, axis=[1, 2])
        mean = mean / mean[:, :1] if self.divide else mean
        return {"features": mean[:, None] if self.rows else mean}


def described(folder, module=None, **changes):
    """Saves a module with its extractor.json: `changes` of FACTS, None of a field's value in `gone`."""
    module = module or Colours()
    tf.saved_model.save(module, str(folder), signatures={"embed": module.embed})
    facts = {name: value for name, value in (FACTS | changes).items() if value != "gone"}
    (folder / "extractor.json").write_text(json.dumps(facts))
    return folder


def test_any_saved_model_is_an_extractor_as_its_file_describes_it(tmp_path):
    extractor = extractors.load(extractor_dir=described(tmp_path / "model"))
    np.testing.assert_allclose(
        extractor(grey(0, 255, 51))["features"], [[-1, 0, 0], [1, 1, 2], [-0.6, 0.2, 0.4]], atol=1e-6
    )
    assert extractor.kind.name == "mean_colour" and extractor.kind.licence == "MIT"
    assert extractor.preparation == "to [-1 0 0, 1 1 2], then area to 4 px, not antialiased"
    kind, checksum = extractors.EXTRACTORS["saved_model"].identified(tmp_path / "model")
    assert (kind, checksum) == (extractor.kind, extractor.checksum)
    raw = extractors.load(extractor_dir=described(tmp_path / "raw", scaling=[0, 255], side=None))
    np.testing.assert_allclose(raw(grey(7))["features"], [[7, 7, 7]], atol=1e-5)
    assert raw.preparation == "to [0, 255]"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (dict(licence="gone"), "extractor.json lacks licence: expected a text."),
        (dict(side="gone"), "extractor.json lacks side: expected a number of px, or null"),
        (dict(side="224"), 'extractor.json: side is "224": expected a number of px, or null'),
        (dict(name="My net"), 'name is "My net": expected a text of a to z, 0 to 9 and _.'),
        (dict(resizer="cubic"), 'resizer is "cubic": expected one of bilinear, bicubic'),
        (dict(scaling=[0]), "scaling is [0]: expected [what 0 becomes, what 255 becomes]"),
        (dict(signature="sample"), "expected a signature sample with one input, the images; its signatures: embed."),
        (dict(module=Colours(rows=True)), "is no extractor: expected features [N, D], found [25, 1, 3]."),
        (dict(module=Colours(divide=True), scaling=[0, 1]), "expected finite features, found NaN or infinity"),
    ],
)
def test_a_described_saved_model_that_is_wrong_is_one_line(changes, line, tmp_path):
    with pytest.raises(ValueError) as error:
        extractors.load(extractor_dir=described(tmp_path / "model", **changes))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_saved_model_without_its_facts_says_where_they_are_described(inception):
    with pytest.raises(ValueError, match="extractor.json cannot be read .*docs/scoring.md"):
        extractors.load(extractor_dir=inception)


# The random network.


def test_the_random_network_is_the_same_everywhere_and_tells_pictures_apart():
    extractor = extractors.load("random")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    images[1] = images[0] // 2
    features = extractor(images)["features"]
    assert features.shape == (3, 64) and np.linalg.norm(features[0] - features[2]) > 0.01 * np.linalg.norm(features[0])
    assert extractor.name == "random network, seed 0" and extractor.checksum.startswith("158ea042876905bb")
    assert extractors.EXTRACTORS["random"].identified(None) == (extractor.kind, extractor.checksum)


def test_other_random_weights_are_refused(monkeypatch):
    monkeypatch.setattr(random_network, "SEED", 1)
    with pytest.raises(ValueError, match="of seed 1 have SHA-256 .* and not 158ea0428769…: expected NumPy"):
        random_network.make_weights()
