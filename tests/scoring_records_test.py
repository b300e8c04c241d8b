"""The tables of scores and extractors: one more record is one more score or extractor wherever scores are made or shown."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.command import UserError
from tfvae.scoring import extractors, kinds, protocol, scores
from tfvae.studies import claims, results, tables

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")

INCEPTION, CLASSIFIER = (extractors.EXTRACTORS[name] for name in ("inception", "classifier"))


def outputs(num_images, logits=True, labels=True, seed=0):
    draw = np.random.default_rng(seed)
    return protocol.Outputs(
        draw.normal(size=(num_images, 5)) if logits else None,
        draw.normal(size=(num_images, 4)),
        np.arange(num_images) % 3 if labels else None,
    )


def extractor_of(kind):
    return kinds.Extractor(kind, kind.title, "of a stand-in", None)


# Scores.


def test_every_score_is_told_apart_and_says_what_people_need():
    others = [INCEPTION, *(kind for kind in extractors.EXTRACTORS.values() if kind is not INCEPTION)]
    names = {key: {one.name_by(kind) for kind in others} for key, one in scores.SCORES.items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values()))
    groups = {
        scores.QUALITY,
        scores.FIDELITY,
        scores.VARIETY,
        scores.COPYING,
        scores.RECONSTRUCTION,
        scores.LIKELIHOOD,
        "",
    }
    for key, one in scores.SCORES.items():
        assert key == one.key and one.title and one.better in ("more", "less", "") and one.measures in groups
        assert len(one.names) in (0, 2) and len(one.titles) in (0, 2)
        assert {scores.find(name) for name in names[key]} == {one}
        assert [scores.value_of({name: 1.0}, key) for name in names[key]] == [1.0] * len(names[key])
    assert scores.find("unheard_of") is None and scores.value_of({"unheard_of": 1.0}, "unheard_of") == 1.0


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (INCEPTION, ("inception_score", "frechet_inception_distance", "kernel_inception_distance")),
        (CLASSIFIER, ("classifier_score", "frechet_classifier_distance", "kernel_classifier_distance")),
    ],
)
def test_the_names_in_files_and_their_order_are_these(kind, names):
    score, frechet, kernel = names
    reference = protocol.Reference(outputs(1030), 3, outputs(40), outputs(20, seed=2))
    found, _ = protocol.score(reference, outputs(30, seed=1), extractor_of(kind), codes=np.random.normal(size=(30, 2)))
    assert list(found) == [
        "active_units",
        "active_units_rank",
        score,
        f"{score}_std_over_splits",
        frechet,
        kernel,
        f"{kernel}_standard_error",
        "precision",
        "recall",
        "density",
        "coverage",
        "symmetric_precision",
        "symmetric_recall",
        "coverage_slope_over_rarity",
        *(f"coverage_of_rarity_tenth_{i}" for i in range(1, 11)),
        "vendi",
        *(["class_entropy", "class_divergence"] if kind is CLASSIFIER else []),
        "frechet_within_class",
        "frechet_within_worst_class",
        *(["modes_captured"] if kind is CLASSIFIER else []),
        "memorisation_ratio",
    ]
    assert all(type(value) is float for value in found.values())


def test_scores_by_any_other_extractor_name_it():
    kind = extractors.EXTRACTORS["efficientnet_lite0"]
    reference = protocol.Reference(outputs(1030), 3, outputs(40), outputs(20, seed=2), num_train=50)
    found, _ = protocol.score(reference, outputs(30, seed=1), extractor_of(kind))
    by = "_by_efficientnet_lite0"
    assert list(found) == [
        "efficientnet_lite0_score",
        "efficientnet_lite0_score_std_over_splits",
        "frechet_efficientnet_lite0_distance",
        "kernel_efficientnet_lite0_distance",
        "kernel_efficientnet_lite0_distance_standard_error",
        *(f"{name}{by}" for name in ("precision", "recall", "density", "coverage")),
        *(f"{name}{by}" for name in ("symmetric_precision", "symmetric_recall")),
        f"coverage_slope_over_rarity{by}",
        *(f"coverage_of_rarity_tenth_{i}{by}" for i in range(1, 11)),
        f"vendi{by}",
        f"frechet_within_class{by}",
        f"frechet_within_worst_class{by}",
        f"memorisation_ratio{by}_of_40_training_images",
    ]
    assert [scores.find(name).key for name in found][-1] == "memorisation_ratio"
    assert scores.SCORES["kernel"].title_by(kind) == "kernel EfficientNet-Lite0 distance"
    facts = protocol.declared(extractor_of(kind))["extractor"]
    assert (facts["kind"], facts["side"], facts["resizer"], facts["checksum"]) == (
        "efficientnet_lite0", 224, "bicubic", "of a stand-in",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("real", "fake", "num_classes", "gone"),
    [
        (dict(labels=False), {}, 3, {"frechet_within_class", "frechet_within_worst_class"}),
        ({}, dict(labels=False), 3, {"frechet_within_class", "frechet_within_worst_class"}),
        ({}, {}, 0, {"frechet_within_class", "frechet_within_worst_class"}),
        (
            dict(logits=False),
            dict(logits=False),
            3,
            {
                "classifier_score",
                "classifier_score_std_over_splits",
                "class_entropy",
                "class_divergence",
                "modes_captured",
            },
        ),
    ],
)
def test_a_score_is_left_out_where_something_that_it_needs_is_unknown(real, fake, num_classes, gone):
    def score(real, fake, num_classes):
        return set(protocol.score(protocol.Reference(real, num_classes), fake, extractor_of(CLASSIFIER))[0])

    every = score(outputs(40), outputs(30, seed=1), 3)
    assert every - score(outputs(40, **real), outputs(30, seed=1, **fake), num_classes) == gone


def test_titles_are_those_of_the_reports_tables(monkeypatch):
    by_inception, by_classifier = (
        tables.score_titles(type("Study", (), {"named_kind": kind})) for kind in (INCEPTION, CLASSIFIER)
    )
    assert by_inception == {
        "score": "Inception score",
        "frechet": "Fréchet Inception distance",
        "kernel": "kernel Inception distance",
    }
    assert by_classifier["frechet"] == "Fréchet classifier distance" and list(by_classifier) == list(by_inception)
    assert list(tables.variety_titles()) == [
        "unrecognised",
        "precision",
        "density",
        "symmetric_precision",
        "modes_found",
        "mode_divergence",
        "mode_slope",
        "recall",
        "coverage",
        "symmetric_recall",
        "coverage_slope_over_rarity",
        "vendi",
        "class_entropy",
        "class_divergence",
        "frechet_within_class",
        "spread_within_classes",
        "modes_captured",
        "pairs_of_one_person",
        "memorisation_ratio",
    ]
    assert list(tables.reconstruction_titles().values()) == [
        "squared error",
        "PSNR, dB",
        "SSIM",
        "active units",
        "active units, rank",
        "Fréchet distance of reconstructions",
    ]


# One record more.


@pytest.fixture
def toy_score(monkeypatch):
    """One more score: how many of the drawn images there are for each real one."""
    toy = scores.Score(
        "abundance", lambda given: len(given.fake) / len(given.real), "abundance", "less", scores.VARIETY
    )
    monkeypatch.setitem(scores.SCORES, toy.key, toy)
    return toy


@pytest.fixture
def toy_extractor(monkeypatch):
    """One more extractor, which needs no folder and has no logits: the channels' means of each quarter."""

    def load(kind, folder):
        @tf.function
        def run(images):
            return {"features": tf.reshape(kind.prepare(images), [-1, 12])}

        return kinds.Extractor(kind, kind.title, "means 1", run)

    toy = kinds.Kind("toy", "means", load, "none", value_range=(0.0, 1.0), side=2, resizer="area", replica_batch=16)
    monkeypatch.setitem(extractors.EXTRACTORS, toy.name, toy)
    return toy


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 24 pictures of 32 px in two classes."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / name).mkdir()
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture
def evaluated(pictures, toy_score, toy_extractor, run_command, tmp_path):
    """(what `tfvae.evaluate` printed, what it wrote) of noise against the pictures, by the toy extractor."""
    output = tmp_path / "scores.json"
    arguments = ["--split=noise", f"--dataset=folder:{pictures}", "--extractor=toy", "--num_images=20"]
    printed = run_command("evaluate", *arguments, f"--output={output}", f"--cache_dir={tmp_path / 'cache'}")
    return printed, json.loads(output.read_text())


def test_a_toy_extractor_and_a_toy_score_go_through_evaluate(evaluated):
    printed, found = evaluated
    assert found["protocol"]["extractor"] == {
        "kind": "toy",
        "name": "means",
        "checksum": "means 1",
        "preparation": "to [0, 1], then area to 2 px, not antialiased",
        "resolution": None,
        "dataset": None,
        "accuracy": None,
        "side": 2,
        "resizer": "area",
        "antialias": False,
        "licence": "",
    }
    assert found["scores"]["abundance"] == {"mean": 1.0, "std": None, "values": [1.0]}
    assert found["scores"]["frechet_toy_distance"]["mean"] > 0 and found["real"] == {}
    assert not {"toy_score", "class_entropy", "modes_captured"} & set(found["scores"])
    (line,) = (line for line in printed.splitlines() if "abundance" in line)
    assert line.split() == ["abundance", "1", "less", "is", "better"]


def test_a_toy_score_is_in_a_studys_tables_and_comparisons(evaluated):
    _, found = evaluated
    table = tables.variety([], {"noise": found})
    head, _, line = ([cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines())
    assert dict(zip(head, line))["abundance"] == "1"
    assert results.score_of(found, "abundance") == (1.0, None)
    row = type("Row", (), {"value": lambda self, name: results.score_of(found, name), "limits": {}})()
    made = claims.compare("abundance", row, row, True, ("a", "b"))
    assert made.measure == "abundance" and made.why_not == "within 2%, without a spread"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--extractor=tyo"],
            "--extractor=tyo: expected one of efficientnet_lite0, inception, classifier, dlib_face, random, saved_model, toy.",
        ),
        (["--extractor=toy", "--classifier_dir=x"], "both of --extractor=toy and --classifier_dir given: expected one"),
        (["--extractor=inception"], "--inception_dir is missing: expected the place of --extractor=inception; unpack"),
    ],
)
@pytest.mark.parametrize(
    ("command", "given"),
    [("evaluate", ["--split=noise", "--dataset=shapes"]), ("studies.exhibits", ["--model_dir=/nowhere"])],
)
def test_a_wrong_choice_of_an_extractor_is_one_line(
    command, given, arguments, line, toy_extractor, run_command, tmp_path
):
    with pytest.raises(UserError) as error:
        run_command(command, *given, *arguments, f"--output={tmp_path / 'output'}")
    assert str(error.value).startswith(line)


def test_help_shows_the_extractors_flags_and_where_their_weights_come_from():
    arguments = [sys.executable, "-m", "tfvae.evaluate", "--help"]
    text = " ".join(subprocess.run(arguments, capture_output=True, text=True).stdout.split())
    assert (
        "--extractor: Network whose features are compared, one of efficientnet_lite0, inception, classifier, " in text
    )
    assert "Default: the one whose folder is given, else efficientnet_lite0." in text
    assert (
        "--num_images: Images on each side, if there are so many. Default: by extractor, efficientnet_lite0 3,000"
        in text
    )
    assert (
        "--inception_dir: Folder of the extractor TF-GAN Inception (Apache-2.0): unpack https://www.kaggle.com" in text
    )
    assert (
        "--classifier_dir: Folder of the extractor classifier: make one with python -m tfvae.train_classifier" in text
    )


def test_a_kind_is_only_data():
    """So that one that is read from a file can be another's with other facts."""
    other = dataclasses.replace(INCEPTION, name="other", side=32, has_papers_names=False)
    assert other.preparation == "to [-1, 1], then bilinear to 32 px, not antialiased"
    assert scores.SCORES["frechet"].name_by(other) == "frechet_other_distance"
