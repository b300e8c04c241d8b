"""The protocol: which images, which features, which scores; sources of images; reconstructions and the mixture prior."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfvae.command import UserError
from tfvae.data.split import CHUNK, batches_of, choose, without
from tfvae.drawing import prior
from tfvae.drawing.model import Model, codes, drawer
from tfvae.scoring import distances, extractors, kinds, neighbours, protocol, reconstruction, sources, vendi
from tfvae.training import run

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")


@tf.function
def means_of_quarters(images):
    """Features: the mean of each quarter and channel; logits: of the channels."""
    small = tf.image.resize(tf.cast(images, tf.float32), [2, 2], "area") / 255.0
    return {"features": tf.reshape(small, [-1, 12]), "logits": 20.0 * tf.reduce_mean(small, [1, 2])}


@pytest.fixture
def extractor():
    return kinds.Extractor(
        kind=extractors.EXTRACTORS["classifier"],
        name="stand-in",
        checksum="of a stand-in",
        resolution=32,
        class_names=("red", "green", "blue"),
        dataset="random",
        accuracy=1.0,
        run=means_of_quarters,
    )


def by_numpy(images):
    return images.reshape(-1, 2, 16, 2, 16, 3).mean(axis=(2, 4)).reshape(-1, 12) / 255.0


def test_a_splits_features_are_computed_once_and_kept_by_content(extractor, make_split, tmp_path):
    split = make_split(40, num_classes=3)
    first = protocol.outputs_of_split(split, extractor, tmp_path)
    np.testing.assert_allclose(first.features, by_numpy(split.images), atol=1e-5)
    np.testing.assert_array_equal(first.labels, split.labels)

    broken = dataclasses.replace(extractor, run=None)  # would fail if it were run
    again = protocol.outputs_of_split(make_split(40, num_classes=3), broken, tmp_path)
    np.testing.assert_array_equal(first.features, again.features)
    for other in (
        lambda: protocol.outputs_of_split(make_split(40, num_classes=3, seed=1), broken, tmp_path),
        lambda: protocol.outputs_of_split(split, dataclasses.replace(broken, checksum="of another"), tmp_path),
        lambda: protocol.outputs_of_split(split, broken, tmp_path, limit=10),
    ):
        with pytest.raises(TypeError):
            other()


def test_features_without_logits_are_kept_too(extractor, make_split, tmp_path):
    def features_alone(images):
        return {"features": means_of_quarters(images)["features"]}

    split = make_split(40, num_classes=3)
    first = protocol.outputs_of_split(split, dataclasses.replace(extractor, run=features_alone), tmp_path)
    again = protocol.outputs_of_split(split, dataclasses.replace(extractor, run=None), tmp_path)
    for outputs in (first, again, again.rows(np.arange(40))):
        assert outputs.logits is None
        np.testing.assert_allclose(outputs.features, by_numpy(split.images), atol=1e-5)
        np.testing.assert_array_equal(outputs.labels, split.labels)


@pytest.mark.parametrize("left", [0, 100])
def test_a_cache_file_that_was_cut_is_made_anew(extractor, make_split, tmp_path, left):
    first = protocol.outputs_of_split(make_split(20), extractor, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:left])
    np.testing.assert_array_equal(
        protocol.outputs_of_split(make_split(20), extractor, tmp_path).features, first.features
    )
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_a_limit_takes_a_subset_that_is_always_the_same(extractor, make_split, tmp_path):
    split = make_split(40, num_classes=3)
    rows = choose(40, 10)
    assert len(set(rows)) == 10 and list(rows) == sorted(rows)
    part = protocol.outputs_of_split(split, extractor, tmp_path, limit=10)
    np.testing.assert_allclose(part.features, by_numpy(split.images[rows]), atol=1e-5)
    np.testing.assert_array_equal(part.labels, split.labels[rows])


def test_a_streaming_splits_rows_are_those_of_the_one_in_memory(make_split):
    split = make_split(700, num_classes=3)
    rows = choose(700, 300)

    class Streaming:
        streaming, num_classes, in_order = True, 3, split.in_order

    one, other = (list(batches_of(s, rows)) for s in (split, Streaming()))
    for part in range(2):
        np.testing.assert_array_equal(*(np.concatenate([batch[part] for batch in batches]) for batches in (one, other)))


def outputs(images, labels=None):
    run = means_of_quarters(tf.constant(images))
    return protocol.Outputs(run["logits"].numpy(), run["features"].numpy(), labels)


def test_every_score_is_that_of_its_function(extractor, make_split):
    real, fake = make_split(200, num_classes=3), make_split(150, num_classes=3, seed=1)
    reference = protocol.Reference(outputs(real.images, real.labels), 3)
    drawn = outputs(fake.images, fake.labels)
    scores, undefined = protocol.score(reference, drawn, extractor)
    assert list(undefined) == ["kernel_classifier_distance_standard_error"]  # one block
    assert list(scores) == [
        "classifier_score",
        "classifier_score_std_over_splits",
        "frechet_classifier_distance",
        "kernel_classifier_distance",
        "precision",
        "recall",
        "density",
        "coverage",
        "symmetric_precision",
        "symmetric_recall",
        "coverage_slope_over_rarity",
        *(f"coverage_of_rarity_tenth_{i}" for i in range(1, 11)),
        "vendi",
        "class_entropy",
        "class_divergence",
        "frechet_within_class",
        "frechet_within_worst_class",
        "modes_captured",
    ]
    real_features, fake_features = reference.outputs.features, drawn.features
    assert scores["frechet_classifier_distance"] == distances.frechet_distance(real_features, fake_features)
    found = neighbours.Neighbourhoods(real_features, fake_features)
    assert (scores["precision"], scores["recall"]) == found.precision_recall()
    assert (scores["density"], scores["coverage"]) == found.density_coverage()
    assert (scores["symmetric_precision"], scores["symmetric_recall"]) == found.symmetric_precision_recall()
    assert scores["vendi"] == vendi.vendi_score(fake_features)
    by_class = distances.frechet_distance_per_class(real_features, real.labels, fake_features, fake.labels, 3)
    assert scores["frechet_within_class"] == pytest.approx(by_class.mean())
    assert scores["frechet_within_worst_class"] == by_class.max()


def test_the_papers_names_are_inceptions_alone(extractor, make_split):
    real = outputs(make_split(100).images)
    inception = dataclasses.replace(extractor, kind=extractors.EXTRACTORS["inception"])
    scores, _ = protocol.score(protocol.Reference(real, 0), real, inception)
    assert {"inception_score", "frechet_inception_distance", "kernel_inception_distance"} <= set(scores)
    assert "modes_captured" not in scores and not [name for name in scores if "classifier" in name]


def test_the_score_does_not_depend_on_images_being_sorted_by_class(extractor):
    # Three classes in turn, told with certainty: 3; in runs, each split would have one class alone: 1.
    labels = np.repeat(np.arange(3), 100)
    sorted_by_class = protocol.Outputs(
        60.0 * np.eye(3, dtype=np.float32)[labels], np.random.default_rng(0).normal(size=(300, 4)), None
    )
    scores, _ = protocol.score(protocol.Reference(sorted_by_class, 0), sorted_by_class, extractor)
    assert scores["classifier_score"] > 2.8


def test_a_mode_counts_from_a_tenth_of_its_share(extractor):
    labels = np.array([0] * 190 + [1] * 10 + [2] * 6)  # a third of 206 is 69, a tenth of that 7
    drawn = protocol.Outputs(np.eye(3)[labels] * 9.0, np.random.default_rng(0).normal(size=(206, 4)), None)
    assert protocol.score(protocol.Reference(drawn, 0), drawn, extractor)[0]["modes_captured"] == 2


def test_copies_of_training_images_have_a_memorisation_ratio_of_0(extractor, make_split):
    train, held_out = outputs(make_split(100).images), outputs(make_split(30, seed=1).images)
    reference = protocol.Reference(train, 0, train, held_out)
    assert protocol.score(reference, train.rows(np.arange(50)), extractor)[0]["memorisation_ratio"] == 0
    assert protocol.score(reference, held_out, extractor)[0]["memorisation_ratio"] == pytest.approx(1)


# Sources.


def fake_model(num_classes=0, encode=None):
    """Draws grey pictures whose level is the label's, moved by the latent."""

    def generate(latent, label=None):
        level = 100 + 20 * (0 if label is None else label) + 10 * latent[:, 0]
        return np.broadcast_to(level[:, None, None, None], [len(latent), 32, 32, 3]).astype(np.uint8)

    flags = {"resolution": 32, "latent_dim": 4}
    return Model(None, flags, num_classes, generate, encode, 64, {"weights": "none"})


def test_a_generators_images_depend_on_the_seed_and_come_in_parts():
    source = sources.Generator(fake_model(3), prior.Normal(4), np.array([0, 2], np.int32))

    def drawn(number, seed):
        parts = list(source.batches(number, seed))
        return tuple(np.concatenate([part[i] for part in parts]) for i in range(2))

    images, labels = drawn(1200, 0)
    assert len(images) == 1200 and max(len(part[0]) for part in source.batches(1200, 0)) == CHUNK
    assert set(labels) == {0, 2}
    np.testing.assert_array_equal(images, drawn(1200, 0)[0])
    assert (images != drawn(1200, 1)[0]).any()
    assert source.facts["prior"] == {"kind": "normal"} and source.facts["weights"] == "none"


def test_a_generator_that_draws_nan_is_stopped():
    network = lambda latent: tf.where(latent[:, :1, None, None] > 0, np.nan, 0.5) * tf.ones([1, 32, 32, 3])  # noqa: E731
    with pytest.raises(UserError, match="drew NaN or infinity in 1 of 2 images: expected finite pixels"):
        drawer(network, 4)(np.array([[1.0], [-1.0]], np.float32))


def test_drawing_is_shared_by_replicas(two_replicas):
    network = lambda latent: tf.tanh(latent[:, :, None, None] * tf.ones([1, 1, 2, 3]))  # noqa: E731
    latent = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
    alone = drawer(network, 4)(latent)
    with two_replicas.scope():
        np.testing.assert_array_equal(alone, drawer(network, 3)(latent))
    np.testing.assert_array_equal(alone[:, :, 0, 0], np.round((np.tanh(latent) + 1) * 127.5))


def test_files_are_read_from_folders_and_arrays(tmp_path):
    from PIL import Image

    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    (tmp_path / "folder").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "folder" / f"{i}.png")
    np.savez(tmp_path / "array.npz", images=pictures, labels=np.arange(5))
    for name in ("folder", "array.npz"):
        source = sources.load_files(tmp_path / name, 32)
        ((images, _),) = source.batches(5, 0)
        np.testing.assert_array_equal(images, pictures)
    assert source.num_images == 5
    np.testing.assert_array_equal(next(iter(source.batches(5, 0)))[1], np.arange(5))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (dict(images=np.zeros([2, 16, 16, 3], np.uint8)), "images are 16 x 16 px and the reference's 32 x 32"),
        (dict(images=np.zeros([2, 32, 32, 3], np.float32)), "images are float32"),
        (dict(images=np.zeros([2, 32, 32, 3], np.uint8), labels=np.zeros(3)), "labels have the shape [3]"),
        (b"not an archive", "cannot be read"),
        (None, "cannot be read"),
        ("folder", "no images found"),
    ],
)
def test_wrong_files_are_one_line(content, line, tmp_path):
    path = tmp_path / "images.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    with pytest.raises(UserError) as error:
        sources.load_files(path, 32)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


# The VAE's own.


def test_reconstruction_errors_are_those_by_hand():
    images = np.full([3, 16, 16, 3], 100, np.uint8)
    moved = images + np.uint8(51)
    np.testing.assert_allclose(reconstruction.squared_error(images, moved), [0.04] * 3)
    np.testing.assert_allclose(reconstruction.psnr(images, moved), [-10 * np.log10(0.04)] * 3)
    # Flat images have no variance: only SSIM's first factor is left.
    one, other, c = 100 / 255, 151 / 255, 0.01**2
    expected = (2 * one * other + c) / (one**2 + other**2 + c)
    np.testing.assert_allclose(reconstruction.ssim(images, moved), [expected] * 3, rtol=1e-12)
    assert not reconstruction.squared_error(images, images).any()
    assert (reconstruction.psnr(images, images) == np.inf).all()
    assert (reconstruction.ssim(images, images) == 1).all()


def test_ssim_is_tensorflows():
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 17, 3)).astype(np.uint8)
    other = (images // 2 + np.arange(5)[:, None, None, None] * 20).astype(np.uint8)
    expected = tf.image.ssim(tf.constant(images), tf.constant(other), 255)
    np.testing.assert_allclose(reconstruction.ssim(images, other), expected, atol=1e-5)


def test_ssim_of_flat_pictures_never_exceeds_1():
    levels = np.arange(256, dtype=np.uint8)[:, None, None, None]
    flat = np.broadcast_to(levels, [256, 16, 16, 3])
    for other in (flat, np.roll(flat, 1, axis=0)):
        assert reconstruction.ssim(flat, other).max() <= 1


def test_pictures_that_do_not_fit_are_one_line():
    images = np.zeros([2, 16, 16, 3], np.uint8)
    for wrong in (images[:1], images.astype(np.float32)):
        with pytest.raises(ValueError, match="expected uint8 .N, H, W, 3., both of one shape"):
            reconstruction.squared_error(images, wrong)
    with pytest.raises(ValueError, match="SSIM of images of 16 x 10 px: expected 11 px or more a side"):
        reconstruction.ssim(images[:, :10], images[:, :10])


def test_units_are_active_whose_mean_varies():
    means = np.random.default_rng(0).normal(size=(1000, 3)) * [1.0, 0.11, 0.09] + 5
    assert reconstruction.active_units(means) == 2


def test_the_rank_of_active_units_counts_independent_directions():
    """Eight units of which every four say the same are two directions."""
    draw = np.random.default_rng(0)
    means = np.repeat(draw.normal(size=(1000, 2)), 4, axis=1) + 0.01 * draw.normal(size=(1000, 8)) + 5
    assert reconstruction.active_units(means) == 8 and reconstruction.active_units_rank(means) == 2
    # Alone each of these varies too little, together they do.
    means = np.repeat(0.06 * draw.normal(size=(1000, 1)), 4, axis=1)
    assert reconstruction.active_units(means) == 0 and reconstruction.active_units_rank(means) == 1
    assert reconstruction.active_units_rank(means[:, :1] * 10) == 1
    with pytest.raises(ValueError, match="means are of 1 images: expected 2 or more"):
        reconstruction.active_units_rank(means[:1])


def test_a_mixture_has_the_moments_of_the_codes_of_each_label():
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000).astype(np.int32)
    codes = draw.normal(size=(4000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + np.where(labels, 5, -5)[:, None]
    mixture = prior.Mixture(codes, labels)
    assert mixture.facts["components_per_label"] == 5 and mixture.facts["images"] == 4000
    drawn = mixture.draw(labels, 0)
    assert drawn.dtype == np.float32
    for label in (0, 1):
        np.testing.assert_allclose(drawn[labels == label].mean(0), codes[labels == label].mean(0), atol=0.1)
        np.testing.assert_allclose(np.cov(drawn[labels == label].T), np.cov(codes[labels == label].T), atol=0.1)
    np.testing.assert_array_equal(drawn, mixture.draw(labels, 0))
    assert (drawn != mixture.draw(labels, 1)).all()


def test_a_mixture_finds_two_clusters_that_one_normal_would_bridge():
    draw = np.random.default_rng(0)
    codes = draw.normal(size=(2000, 2)) * 0.1 + np.where(draw.random(2000) < 0.5, 3, -3)[:, None]
    drawn = prior.Mixture(codes, np.zeros(2000, np.int32)).draw(np.zeros(500, np.int32), 0)
    assert np.abs(np.abs(drawn) - 3).max() < 1


def test_too_few_codes_for_a_mixture_are_refused():
    with pytest.raises(ValueError, match="--prior=gmm: 1 training images of class 1: expected more than"):
        prior.Mixture(np.random.default_rng(0).normal(size=(10, 2)), np.array([0] * 9 + [1], np.int32))
    with pytest.raises(ValueError, match="no training image has the label 2"):
        prior.Mixture(np.random.default_rng(0).normal(size=(40, 2)), np.arange(40, dtype=np.int32) % 2).draw(
            np.array([2]), 0
        )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "moving average"),
        ({"ema_decay": 0.0}, "of the last step"),
        ({"ema_start_images": 10_000}, "of the last step"),
    ],
)
def test_an_average_that_never_began_is_not_called_one(flags, words, make_model, monkeypatch, tmp_path):
    settings, model = make_model("gan", **flags)
    monkeypatch.setattr(run, "load", lambda *_, **__: (settings, None, model))
    assert run.load_run(tmp_path).facts["weights"] == f"{words}, batch-norm statistics measured anew"
    assert run.load_run(tmp_path, ema=False).facts["weights"] == "of the last step"


@pytest.mark.parametrize(("arguments", "which"), [({}, "newest"), ({"best": True}, "best"), ({"ema": False}, "newest")])
def test_scores_say_which_weights_of_which_checkpoint_they_are_of(arguments, which, make_model, monkeypatch, tmp_path):
    settings, model = make_model("gan")
    monkeypatch.setattr(run, "load", lambda *_, **__: (settings, None, model))
    facts = sources.Generator(run.load_run(tmp_path, **arguments), prior.Normal(16), None).facts
    assert {name: facts[name] for name in ("images_seen", "checkpoint", "checkpoint_name", "ema")} == {
        "images_seen": 56,
        "checkpoint": which,
        "checkpoint_name": "ckpt-56",
        "ema": arguments.get("ema", True),
    }


def test_images_are_told_from_those_of_a_part_of_their_split(make_split):
    whole = make_split(20)
    half = dataclasses.replace(
        whole, split="train[:50%]", num_images=10, images=whole.images[10:], labels=whole.labels[10:]
    )
    assert list(without(whole, whole, np.array([3, 19]))) == [*range(3), *range(4, 19)]
    assert list(without(whole, half, np.array([0, 9]))) == [*range(10), *range(11, 19)]


def test_reconstructions_are_scored_beside_their_errors(extractor, make_split):
    def encode(image):
        return np.repeat((image.mean((1, 2, 3))[:, None] - 100) / 10, 4, 1), np.zeros([len(image), 4])

    split = make_split(300)
    model = fake_model(encode=encode)
    reference = protocol.Reference(outputs(split.images[:100]), 0)
    whole, rest = (split, np.arange(300)), (split, np.arange(100, 300))
    scores, _ = protocol.reconstruction_scores(model, whole, rest, reference, extractor)
    drawn = model.generate(encode(split.images)[0])
    names = ["squared_error", "psnr", "ssim", "active_units", "active_units_rank", "classifier_score"]
    assert list(scores)[:6] == names
    for name in ("squared_error", "psnr", "ssim"):
        assert scores[name] == pytest.approx(np.mean(getattr(reconstruction, name)(split.images, drawn)))
    assert scores["active_units"] == reconstruction.active_units(encode(split.images[100:])[0])
    distance = distances.frechet_distance(reference.outputs.features, outputs(drawn[100:]).features)
    assert scores["frechet_classifier_distance"] == pytest.approx(distance, rel=1e-3)
    # Of posterior samples: the same scores, but for those of the means themselves.
    sampled, _ = protocol.reconstruction_scores(model, whole, rest, reference, extractor, sampled=True)
    assert list(sampled) == [name for name in scores if not name.startswith("active_units")]
    drawn = model.generate(encode(split.images)[0] + np.random.default_rng(0).standard_normal([300, 4], np.float32))
    for name in ("squared_error", "psnr", "ssim"):
        assert sampled[name] == pytest.approx(np.mean(getattr(reconstruction, name)(split.images, drawn)))
        assert sampled[name] != scores[name]
    latents, labels = codes(model, split)
    assert latents.shape == (300, 4) and not labels.any()
    np.testing.assert_allclose((latents - encode(split.images)[0]).std(), 1, atol=0.1)
