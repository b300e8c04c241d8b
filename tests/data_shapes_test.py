"""Tests of tfvae.data.shapes."""

import hashlib

import numpy as np
import pytest

from tfvae.data import pipeline, shapes


def at(shape, rotations, size=12.0, x=16.0, y=16.0):
    """One red shape on dark grey at each rotation."""
    number = len(rotations)
    label, place = np.full(number, shapes.SHAPE_NAMES.index(shape)), np.full([3, number], [[size], [x], [y]])
    return shapes.draw(label, np.zeros(number, int), *place, rotations, np.full([number, 3], 20, np.uint8))


def one(shape, rotation=0, **where):
    return at(shape, [rotation], **where)[0]


def weight(image):
    """How much of each pixel the shape covers, from the red channel."""
    return (image[..., 0].astype(float) - 20) / (shapes.HUES["red"][0] - 20)


@pytest.fixture(scope="module")
def drawn():
    rows = shapes.factors("train", 0, 1600)
    return shapes.draw(**rows), rows


def test_the_bytes_are_the_same_on_every_machine(drawn):
    test_rows = shapes.factors("test", 0, 400)
    digests = [hashlib.sha256(images.tobytes()).hexdigest() for images in (drawn[0], shapes.draw(**test_rows))]
    assert digests == [
        "b7b25fa8a9efb741948670977b8ba74be4ae77b04195ee823352b7d1e9e5047b",
        "3ecb29e1fb16ed94f756cb769c3053fcb0528d71cd9e0cef06964e85b7852c28",
    ]


def test_an_image_depends_on_its_index_alone(drawn):
    part = shapes.factors("train", 700, 710)
    np.testing.assert_array_equal(shapes.draw(**part), drawn[0][700:710])


def test_all_modes_are_equally_frequent():
    for split, number in shapes.NUM_IMAGES.items():
        rows = shapes.factors(split, 0, number)
        modes = np.bincount(rows["label"] * len(shapes.HUE_NAMES) + rows["hue"], minlength=80)
        assert modes.min() == modes.max() == number // 80


def test_the_splits_share_no_image(drawn):
    train = {image.tobytes() for image in drawn[0]}
    test = {image.tobytes() for image in shapes.draw(**shapes.factors("test", 0, 400))}
    assert len(train) == 1600 and not train & test


def test_every_shape_lies_wholly_inside_its_image(drawn):
    images, rows = drawn
    background = rows["background"][:, None, :]
    for edge in (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]):
        np.testing.assert_array_equal(edge, np.broadcast_to(background, edge.shape))


def test_factors_vary_over_their_whole_range(drawn):
    rows = drawn[1]
    assert 7 <= rows["size"].min() < 7.1 and 11.9 < rows["size"].max() <= 12
    assert rows["rotation"].min() < 3 and rows["rotation"].max() > 356
    assert rows["x"].min() < 10 and rows["x"].max() > 22
    assert set(np.unique(rows["background"] // 128)) == {0, 1}


def test_a_shape_covers_the_area_of_its_formula():
    # In units of the size squared, by the school formulas; the cross is two bars less their middle.
    areas = {
        "circle": np.pi * 0.92**2,
        "ring": np.pi * (0.96**2 - 0.52**2),
        "square": 1.5**2,
        "triangle": 3 * np.sqrt(3) / 4 * 1.05**2,
        "pentagon": 5 / 2 * np.sin(2 * np.pi / 5) * 0.98**2,
        "star": 5 * 1.08 * 0.43 * np.sin(np.pi / 5),
        "cross": 2 * (0.64 * 1.92) - 0.64**2,
        "diamond": 2 * 0.52 * 1.05,
    }
    for shape, area in areas.items():
        for rotation in (0, 17):
            assert weight(one(shape, rotation)).sum() / 12**2 == pytest.approx(area, rel=0.015), shape


def test_edges_are_antialiased():
    covered = weight(one("circle"))
    assert 40 < np.sum((covered > 0.02) & (covered < 0.98)) < 120


def test_rotation_by_a_right_angle_turns_the_image_counterclockwise():
    for shape in shapes.SHAPE_NAMES:
        np.testing.assert_allclose(one(shape, 90).astype(int), np.rot90(one(shape, 0)).astype(int), atol=1)


def test_the_triangle_points_up_and_the_crescent_opens_to_the_right():
    rows = weight(one("triangle")).sum(1)
    assert rows[:16].sum() < rows[16:].sum() and rows[5] < rows[20]
    columns = weight(one("crescent")).sum(0)
    assert columns[:16].sum() > 2 * columns[16:].sum()


def test_size_and_place_move_the_shape():
    covered = weight(one("square", size=8.0, x=12.0, y=20.0))
    rows, columns = np.nonzero(covered > 0.5)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 25, 6, 17)


def test_no_rotation_makes_two_classes_look_alike():
    # Same size and centre. The classes' closest pair over rotations must differ in far more than the edge's pixels.
    turns = np.arange(0, 360, 6)
    turned = {s: weight(at(s, turns)) for s in shapes.SHAPE_NAMES}
    for index, first in enumerate(shapes.SHAPE_NAMES):
        for second in shapes.SHAPE_NAMES[index + 1 :]:
            apart = np.abs(turned[first][:1, None] - turned[second][None]).sum((-1, -2)).min()
            assert apart > 20, (first, second, apart)


def test_the_prepared_dataset_holds_the_drawn_images_and_every_factor(shapes_home):
    split = pipeline.load("shapes", data_dir=shapes_home)
    rows = shapes.factors("train", 0, 100)
    np.testing.assert_array_equal(split.images, shapes.draw(**rows))
    np.testing.assert_array_equal(split.labels, rows.pop("label"))
    assert split.class_names == shapes.SHAPE_NAMES and split.num_classes == 10
    assert split.factors.keys() == rows.keys()
    for name, values in rows.items():
        np.testing.assert_array_equal(split.factors[name], values)
    test = pipeline.load("shapes", "test", data_dir=shapes_home)
    np.testing.assert_array_equal(test.images, shapes.draw(**shapes.factors("test", 0, 40)))
