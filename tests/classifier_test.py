"""What a classifier learns: which labels of which images, the network's shape, the cycle of the learning rate."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tfvae.data import datasets, pipeline, shapes
from tfvae.scoring import classifier, extractors


def labelled(monkeypatch, dataset, splits, **arguments):
    """`labelled_splits` of a dataset whose splits are given by name."""

    def load(name, split, **_):
        if split not in splits:
            raise pipeline.DataError(f"{name} has no split '{split}'")
        return splits[split]

    held_out = [name for name in datasets.record(dataset).held_out_splits if name in splits]
    monkeypatch.setattr(pipeline, "load", load)
    monkeypatch.setattr(pipeline, "held_out_split", lambda *_, **__: next(iter(held_out), None))
    return classifier.labelled_splits(dataset, **arguments)


def test_modes_of_shapes_are_shape_by_hue(monkeypatch, make_split):
    hue = np.array([0, 7, 3], np.int8)
    split = dataclasses.replace(
        make_split(3, num_classes=10), dataset="shapes", labels=np.array([0, 9, 4], np.int32), factors={"hue": hue}
    )
    train, held_out = labelled(monkeypatch, "shapes", {"train": split, "test": split})
    assert train.num_classes == 80 and len(set(train.class_names)) == 80
    assert [train.class_names[label] for label in held_out.labels] == ["red circle", "pink diamond", "green star"]
    assert shapes.SHAPE_NAMES[4] == "star" and shapes.HUE_NAMES[3] == "green"


def test_identities_with_few_images_are_left_out_and_a_tenth_of_each_is_held_out(monkeypatch, make_split):
    names = np.array(["Ann"] * 30 + ["Bob"] * 3 + ["Cid"] * 20)
    order = np.random.default_rng(0).permutation(53)
    split = dataclasses.replace(make_split(53), dataset="lfw", factors={"identity": names[order]})
    # The held-out split has too few people of whom there are many images, so it cannot test who is told right.
    few = dataclasses.replace(make_split(25, seed=1), factors={"identity": np.array(["Ann"] * 20 + ["Bob"] * 5)})
    train, held_out = labelled(monkeypatch, "lfw", {"train": split, "validation": few}, min_images=20)
    assert train.class_names == held_out.class_names == ("Ann", "Cid")
    assert np.bincount(train.labels).tolist() == [27, 18] and np.bincount(held_out.labels).tolist() == [3, 2]
    pixels = {image.tobytes(): name for image, name in zip(split.images, names[order])}
    for part in (train, held_out):
        assert [pixels.pop(image.tobytes()) for image in part.images] == [part.class_names[i] for i in part.labels]
        assert part.num_images == len(part.images) == len(part.labels)


def test_the_test_split_is_held_out_where_there_is_one(monkeypatch, make_split):
    train, test = make_split(40, num_classes=3), make_split(10, num_classes=3, seed=1)
    assert labelled(monkeypatch, "cifar10", {"train": train, "test": test}) == (train, test)


def test_transparent_images_are_learned_on_the_background_that_is_asked_for(tmp_path, capsys):
    for i in range(20):
        file = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(file)
    train, held_out = classifier.labelled_splits(f"folder:{tmp_path / 'images'}", background="#102030")
    for split, number in ((train, 18), (held_out, 2)):
        np.testing.assert_array_equal(split.images, np.broadcast_to([0x10, 0x20, 0x30], [number, 32, 32, 3]))
    assert "20 images of 32 px in 2 classes: a 10, b 10" in capsys.readouterr().out


def test_data_without_labels_is_refused(monkeypatch, make_split):
    with pytest.raises(ValueError, match="random has no labels: expected a dataset with classes"):
        labelled(monkeypatch, "random", {"train": make_split(20)})
    faces = dataclasses.replace(make_split(20), factors={"identity": np.array(["Ann"] * 20)})
    with pytest.raises(ValueError, match="lfw has no class of 21 images or more: expected"):
        labelled(monkeypatch, "lfw", {"train": faces}, min_images=21)
    with pytest.raises(ValueError, match="fewer than 10 images in every class"):
        labelled(monkeypatch, "random", {"train": make_split(9, num_classes=2)})


def test_images_are_mirrored_moved_and_lose_a_square(make_split):
    split = make_split(64, num_classes=3)
    # A ramp that shows where a picture went: value = 8 x column, and never 128.
    ramp = np.broadcast_to((np.arange(32, dtype=np.uint8) * 8 - 1)[None, None, :, None], [64, 32, 32, 3])
    image, label = classifier.augment({"image": tf.constant(ramp), "label": tf.constant(split.labels)})
    np.testing.assert_array_equal(label, split.labels)
    hidden = (image.numpy() == 128).all(-1)
    sides = hidden.any(2).sum(1), hidden.any(1).sum(1)
    assert (
        all(hidden.sum((1, 2)) == sides[0] * sides[1]) and max(map(np.max, sides)) == 8 and min(map(np.min, sides)) >= 4
    )
    mirrored = 0
    for picture, square in zip(image.numpy(), hidden):
        row = picture[~square.any(1)][0, :, 0].astype(int)
        steps = np.diff(row)[5:-5]
        # Away from the reflected edge, of at most 4 px, it is the ramp or the ramp backwards.
        assert set(steps) in ({8}, {-8})
        mirrored += steps[0] < 0
    assert 16 < mirrored < 48


def test_the_rate_rises_in_a_quarter_and_falls_to_nothing():
    cycle = classifier.OneCycle(0.4, 100)
    np.testing.assert_allclose(
        [float(cycle(step)) for step in (0, 12.5, 25, 62.5, 100)], [0, 0.2, 0.4, 0.2, 0], atol=1e-6
    )


def test_a_saved_classifier_gives_logits_that_are_linear_in_its_features(tmp_path):
    network = classifier.make_network(32, 5, 2)
    facts = {"dataset": "random", "resolution": 32, "class_names": list("abcde"), "accuracy": 0.25}
    classifier.save(classifier.make_extractor(network), facts, tmp_path / "classifier")
    assert json.loads((tmp_path / "classifier" / "classifier.json").read_text()) == facts
    extractor = extractors.load(classifier_dir=tmp_path / "classifier")
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    outputs = extractor(images)
    assert outputs["features"].shape == (7, 16) and extractor.accuracy == 0.25
    kernel, bias = network.get_layer("logits").get_weights()
    np.testing.assert_allclose(outputs["logits"], outputs["features"] @ kernel + bias, rtol=1e-4, atol=1e-5)
    both = (network.predict(images, verbose=0) + network.predict(images[:, :, ::-1], verbose=0)) / 2
    np.testing.assert_allclose(outputs["logits"], both, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="images are 16 x 16 px and the extractor takes 32 x 32"):
        extractor(images[:, :16, :16])
