"""A study's verdicts and its report, from files that nobody trained for."""

import concurrent.futures
import json
import os
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from pretended_study import make_study, pretend, score, scores

from tfvae.config import Config
from tfvae.studies import chapters, claims, estimate, figures, report, results, runner, tables, tasks

MAIN = [
    f"main/{dataset}_{objective}_{architecture}: --dataset={dataset} --objective={objective} --architecture={architecture}"
    for dataset in ("cifar10", "lfw")
    for objective in ("gan", "vae")
    for architecture in ("biggan", "biggan_deep")
]
LATENT = [
    f"latent/lfw_vae_biggan{end}: --dataset=lfw --objective=vae --architecture=biggan{flag}"
    for end, flag in (("", ""), ("_latent_64", " --latent_dim=64"))
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A study in which the paper is right but for LFW's normal pair, one row failed and one was not run."""
    tmp_path = tmp_path_factory.mktemp("filled")
    published = ["cifar10_gan_biggan: batch=512; epochs=314; IS=5.9; FID=25; protocol=unknown"]
    made = make_study(tmp_path, [*MAIN, *LATENT], published)
    for one in made.experiments:
        settings = one.settings
        vae, deep = settings.objective == "vae", settings.architecture == "biggan_deep"
        values = dict(
            recall=0.1 if vae else 0.4, coverage=0.1 if vae else 0.5, frechet_classifier_distance=60.0 - 20 * deep
        )
        if settings.dataset == "lfw":
            values["frechet_classifier_distance"] -= 10 * vae
            if not deep:
                values["coverage"] = 0.3
        if one.name == "lfw_gan_biggan_deep":
            failed = {"step": "training", "line": "training diverged at 64 images."}
            runner.write_record(made.record_file(made.run_name(one)), {"failed": failed})
        elif one.name == "lfw_vae_biggan_latent_64":
            pass
        else:
            error = dict(
                squared_error=0.01,
                psnr=20.0,
                ssim=0.5,
                active_units=100,
                active_units_rank=70,
                frechet_classifier_distance=30.0,
                coverage=0.3,
            )
            parts = dict(
                reconstruction_from_samples=dict(squared_error=0.02, coverage=0.25),
                likelihood=dict(elbo_bits_per_dimension=6.5),
            )
            pretend(
                made, one, values=values, reconstruction=error if vae else None, exhibited=True, **parts if vae else {}
            )
    for dataset, split in (("cifar10", "test"), ("lfw", "train[50%:]")):
        checksum = made.extractor_checksum(dataset)
        found = scores(0, checksum, recall=0.76, coverage=0.95, precision=0.77, memorisation_ratio=score(0.0))
        found |= {"source": {"split": split}}
        made.calibration_file(dataset, tasks.HELD_OUT).write_text(json.dumps(found))
    return made


@pytest.fixture(scope="module")
def reported(filled):
    """Its report's Markdown file."""
    return report.write(
        filled, results.read(filled, sizes_of(filled)), "python -m tfvae.study", ["The pictures were made anew."]
    )


def sizes_of(made):
    sizes = dict(generator_parameters=7_108_227, discriminator_parameters=9, generator_blocks=3, flops=2e15)
    return {one.folder: sizes for one in made.experiments}


def test_the_report_shows_published_and_measured_apart_and_says_why_a_row_is_empty(filled, reported):
    text = reported.read_text()
    checksum = filled.extractor_checksum("cifar10")[:12]
    table = text.split("### CIFAR-10")[1].split("Fidelity and variety")[0]
    head = next(line for line in table.splitlines() if line.startswith("| model"))
    assert "*published:* IS" in head and "measured: Fréchet classifier distance" in head
    row = next(line for line in table.splitlines() if line.startswith("| GAN BigGAN |"))
    assert row.split(" | ")[1:6] == ["5.9", "25", "unknown", "2.00 ± 0.01", "60.00 ± 0.01"]
    assert "| VAE BigGAN, mixture prior | – | – | – | 2.00 ± 0.01 |" in table
    assert "| *real images, test* | – | – | – | 2.00 ± 0.01 |" in table
    assert (
        f"10,000 drawn images against 10,000 of cifar10 train, by classifier of cifar10 (SHA-256 {checksum}, 90.0% right"
        in table
    )
    lfw = text.split("### LFW")[1]
    failed = next(line for line in lfw.splitlines() if line.startswith("| GAN BigGAN-deep |"))
    assert failed == "| GAN BigGAN-deep | – | – | – | training failed: training diverged at 64 images. |"
    assert "| VAE BigGAN latent 64 | – | – | – | not run |" in text
    assert "| 7,108,227 | 9 | 2e+03 | 120 | 1h 02m | 1.50 |" in text
    # What was not trained has seen and cost nothing.
    assert re.search(r"\| GAN BigGAN-deep \| \d+ \| \d+ \| 3 \| \d+ \| – \| – \| – \|", lfw)
    assert "| GAN BigGAN-deep | 7,108,227 | 9 | – | – | – | – |" in lfw
    # The one model of it that was trained stands above.
    assert (
        "The tables above show the settings and costs of all of these that were trained." in text.split("## Latents")[1]
    )
    # Training images are no copies of themselves.
    assert re.search(r"\| \*real images, test\* \|.* 0.00 ± 0.01 \|\n", text)
    assert re.search(r"\| \*real images, train\[50%:\]\* \|.* – \|\n", text)
    assert (
        "Errors: of 10,000 images of test; active units and distance: of 9,000 training images that are not in" in text
    )
    assert "| 0.75 |" in text  # spread within a class
    assert (
        "coverage of samples and of training images decoded from samples of their posteriors: VAE BigGAN on CIFAR-10 "
        "0.10 ± 0.01 and 0.25;" in text
    )
    assert (
        "| active units | active units, rank | Fréchet distance of reconstructions | bits per dimension by the ELBO |"
        in text
    )
    assert "| VAE BigGAN | 0.01 | 20 | 0.5 | 100 | 70 | 30 | 6.5 |" in text
    assert "| VAE BigGAN, from samples | 0.02 | – | – | – | – | – | – |" in text
    assert "coverage of samples goes: VAE BigGAN on CIFAR-10 from 0.10 ± 0.01 to 0.10 ± 0.01;" in text
    assert "The pictures were made anew." in text
    for name in re.findall(r"\]\((\S+\.(?:png|jpg))\)", text):
        assert (reported.parent / name).stat().st_size < 300_000, name
    assert len(re.findall(r"\]\(\S+\.(?:png|jpg)\)", text)) >= 12


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ((0.12345, None), "0.1235"),
        ((10.0, 0.0), "10 ± 0"),
        ((0.18211, 0.0044), "0.182 ± 0.004"),
        ((133.37, 2.4), "133 ± 2"),
        ((133.37, 24.0), "133 ± 24"),
        ((-1.4e-5, 8e-5), "0.0000 ± 0.0001"),
        ((1.0000004, 4e-6), "1.0000 ± <0.0001"),
    ],
)
def test_numbers_have_the_decimals_of_their_spread(value, text):
    assert tables.number(value) == text


def test_the_page_holds_its_pictures(reported):
    page = reported.with_suffix(".html").read_text()
    assert page.count('src="data:image/') == len(re.findall(r"\]\(\S+\.(?:png|jpg)\)", reported.read_text())) > 0
    assert not re.findall(r'src="(?!data:)', page)
    assert ">5.9</td>" in page and "<title>GAN or VAE" in page


@pytest.mark.parametrize(
    ("split", "words"),
    [({"real_split": np.array("test")}, "held-out images"), ({"real_split": np.array("train")}, "training images")]
    + [({}, "real images")],  # a file of an earlier version, which does not say
)
def test_only_held_out_images_are_called_so(split, words, monkeypatch, tmp_path):
    drawn = {}
    monkeypatch.setattr(figures, "strips", lambda file, lines: drawn.update({file.name: lines}))
    names = ("best", "best_neighbours", "interpolations", "real", "reconstructed")
    exhibits = {name: np.zeros([2, 4, 4, 3], np.uint8) for name in names} | split
    row = SimpleNamespace(label="VAE", prior="normal", facts={"drawn": 20}, exhibits=exhibits)
    text = chapters.pictures_of([row], "toy", tmp_path)[-1]
    assert f"Reconstructions: {words}, and what each VAE makes of them" in text
    assert [label for label, _ in drawn["reconstructions_toy.jpg"]] == [words, "VAE"]


def test_a_report_of_nothing_is_a_report_and_replaces_the_one_before(tmp_path):
    made = make_study(tmp_path, MAIN)
    for note in ("first", "second"):
        text = report.write(made, results.read(made, {}), "python", [note]).read_text()
        assert "0 of 12 rows are filled" in text and "Nothing is scored yet." in text and f"\n{note}\n" in text
        assert "The paper's title: **not decided**, at this budget" in text
        assert [f.name for f in tmp_path.glob("*report*")] + [*tmp_path.glob(".*")] == ["report"]


def test_a_report_is_whole_whatever_a_killed_one_left(tmp_path):
    made = make_study(tmp_path, MAIN[:1])
    found = results.read(made, {})
    report.write(made, found, "python", ["first"])
    (tmp_path / "report").rename(tmp_path / f".report.{'0' * 32}.old")  # killed between its two renames
    (tmp_path / f".report.{'1' * 32}.tmp").mkdir()
    os.utime(tmp_path / f".report.{'1' * 32}.tmp", (time.time() - 2 * 86_400,) * 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.chapters, "write", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            report.write(made, found, "python", ["second"])
    assert "first" in (tmp_path / "report" / "report.md").read_text()
    report.write(made, found, "python", ["third"])
    assert "third" in (tmp_path / "report" / "report.md").read_text() and not [*tmp_path.glob(".*")]


def test_two_reports_of_one_machine_are_written_one_after_the_other(tmp_path, monkeypatch):
    made, busy, most = make_study(tmp_path, MAIN[:1]), [], []

    def write(*arguments):
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.2)
        busy.pop()
        return f"{report.chapters.TITLE}\n"

    monkeypatch.setattr(report.chapters, "write", write)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(report.write, made, None, "python", []) for _ in range(3)]:
            assert future.result().read_text() == f"{report.chapters.TITLE}\n"
    assert most == [1, 1, 1]


def test_the_four_claims_are_judged_by_the_numbers(filled, reported):
    found = results.read(filled, {})
    by_table = {name: found.of(some) for name, some in filled.tables.items()}
    varied, faces, deep, latent = claims.four_claims(by_table["main"], by_table["latent"])
    assert varied.verdict == claims.HOLDS
    # BigGAN's coverages are equal, and BigGAN-deep's GAN is not there.
    assert faces.verdict == claims.OPEN
    assert [c.agrees for c in faces.groups["LFW, BigGAN"]] == [True, True, None]
    assert faces.groups["LFW, BigGAN"][2].why_not == "within 3 standard deviations"
    assert faces.groups["LFW, BigGAN-deep"][0].why_not == "no number of the GAN"
    assert deep.verdict == claims.HOLDS and deep.groups["CIFAR-10, GAN"][0].agrees and deep.missing == ["LFW, GAN"]
    assert latent.verdict == claims.OPEN
    text = reported.read_text()
    assert "- CIFAR-10, BigGAN: recall: the GAN 0.40 ± 0.01, the VAE 0.10 ± 0.01 (agrees); coverage: " in text
    assert "**Holds, in the 3 of 4 pairs that have numbers.** Of 3 pairs of numbers: 3 agree." in text
    assert "**Not decided.** Of 3 pairs of numbers: 2 agree; 1 cannot be told apart." in text
    assert "The paper's title: **not decided**" in text and "Of its four claims: 2 holds, 2 not decided." in text


def test_gans_with_several_losses_are_each_compared_with_the_vae(tmp_path):
    lines = ["vae: --objective=vae", "hinge: --loss=hinge", "hinge_again: --loss=hinge --seed=1"]
    lines += ["paired: --loss=relativistic --r1_weight=1"]
    made = make_study(tmp_path, [f"modes/{line} --base_channels=8" for line in lines])
    rows = results.read(made, {}).rows
    verdict = claims.title([], [], rows)
    assert list(verdict.groups) == ["shapes, BigGAN, hinge loss", "shapes, BigGAN, relativistic loss"]
    pairs = claims._gan_and_vae(rows, "shapes").values()
    assert [tuple(row.experiment.name for row in pair) for pair in pairs] == [("hinge", "vae"), ("paired", "vae")]


def comparison(agrees):
    if agrees == "no number":
        return claims.Comparison("recall", ("a", "b"), (1.0, 0.1), None, None, "no number of b")
    if agrees == "deceived":
        return claims.Comparison("recall", ("a", "b"), (1.0, 0.1), (2.0, 0.1), None, claims.DECEIVED)
    return claims.Comparison("recall", ("a", "b"), (1.0, 0.1), (2.0, 0.1), agrees, "")


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([[True, True], [True]], claims.HOLDS),
        ([[False, False], [False]], claims.FAILS),
        ([[True], [False]], claims.PARTLY),
        ([[True], [False], [None]], claims.PARTLY),
        ([[True], [None]], claims.OPEN),
        ([[True, False]], claims.PARTLY),
        ([[True, False], [None]], claims.PARTLY),
        ([[True, None]], claims.OPEN),
        ([["no number"], [True]], claims.HOLDS),
        ([["no number"]], claims.OPEN),
        ([["deceived", False]], claims.FAILS),
        ([["deceived"], [False]], claims.OPEN),
        ([], claims.OPEN),
    ],
)
def test_a_statement_holds_where_every_number_of_every_pair_agrees(pairs, verdict):
    groups = {str(i): [comparison(agrees) for agrees in pair] for i, pair in enumerate(pairs)}
    assert claims.judge("", groups).verdict == verdict


def test_differences_within_the_spread_are_not_told(tmp_path):
    made = make_study(tmp_path, ["a/one: --seed=1", "a/two: --seed=2"])
    for one, recall in zip(made.experiments, (0.50, 0.54)):
        pretend(made, one, values=dict(recall=score(recall, 0.01), coverage=score(recall, None)))
    rows = results.read(made, {}).rows
    names = ("one", "two")
    # 3 x sqrt(2) x 0.01 = 0.0424 is more than 0.04.
    assert claims.compare("recall", *rows, False, names).agrees is None
    # Without a spread: 2 % of 0.54 is less than 0.04.
    assert claims.compare("coverage", *rows, False, names).agrees is True
    assert claims.compare("coverage", *rows, True, names).agrees is False
    assert claims.compare("coverage", rows[0], None, True, names).why_not == "no number of two"


@pytest.mark.parametrize(
    ("ranks", "verdict", "why_not"),
    [
        ((60, 128), claims.HOLDS, ""),
        ((60, 60), claims.OPEN, "not counted: the posterior means' rank is 60, of latent 64 60"),
        ((60, None), claims.OPEN, "not counted: the posterior means' rank is unknown"),
    ],
)
def test_a_larger_latent_counts_where_more_of_it_is_in_use(ranks, verdict, why_not, tmp_path):
    made = make_study(tmp_path, [f"latent/{n}: --dataset=lfw --objective=vae --latent_dim={n}" for n in (64, 256)])
    for one, rank, error, score_of_samples in zip(made.experiments, ranks, (0.02, 0.01), (2.0, 3.0)):
        found = dict(squared_error=error, active_units=200) | ({} if rank is None else dict(active_units_rank=rank))
        pretend(made, one, values=dict(classifier_score=score_of_samples), reconstruction=found)
    *_, latent = claims.four_claims([], results.read(made, {}).rows)
    assert latent.verdict == verdict
    assert [made.why_not for made in latent.groups["LFW, VAE, latent 256 against 64"]] == [why_not] * 2


def test_recall_of_images_far_from_the_data_is_not_counted(tmp_path):
    made = make_study(tmp_path, ["a/one: --seed=1", "a/two: --seed=2"])
    for one, precision in zip(made.experiments, (0.09, 0.5)):
        pretend(made, one, values=dict(precision=precision, recall=precision, coverage=precision))
    rows = results.read(made, {}).rows
    made = [claims.compare(name, *rows, False, ("one", "two")) for name in ("recall", "coverage")]
    assert [c.agrees for c in made] == [None, True] and made[0].why_not == "not counted: precision below 0.1"
    assert claims.judge("", {"pair": made}).verdict == claims.HOLDS


def test_recall_and_coverage_that_blur_alone_could_have_taken_are_not_counted(tmp_path):
    made = make_study(tmp_path, ["a/one: --seed=1", "a/two: --seed=2"])
    for one, distance, variety in zip(made.experiments, (2.0, 5.0), (0.8, 0.2)):
        values = dict(kernel_classifier_distance=distance, precision=0.05, recall=variety, coverage=variety)
        pretend(made, one, values=values)
    blurred = [(0.0, 0.8, 0.9), (1.0, 0.7, 0.8), (3.0, 0.3, 0.7), (4.0, 0.1, 0.5), (6.0, 0.0, 0.4), (8.0, 0.0, 0.0)]
    names = ["1,000 held-out images", *(f"blurred by {sigma:g} px" for sigma in (0.5, 0.7, 1, 1.5, 2, 3)), "noise"]
    keys = ("kernel_classifier_distance", "recall", "coverage")
    rows = [dict(zip(keys, values)) for values in [*blurred, (9.0, 0.0, 0.0), (20.0, 0.0, 0.0)]]
    found = scores(0, made.extractor_checksum("shapes"))
    found["rows"] = [{"name": name, "scores": values} for name, values in zip(names, rows)]
    made.calibration_file("shapes", tasks.SPOILT).write_text(json.dumps(found))
    one, two = results.read(made, {}).rows
    assert one.limits == {"recall": pytest.approx(2.5), "coverage": pytest.approx(5.0)}
    recall, coverage = (claims.compare(name, one, two, True, ("one", "two")) for name in ("recall", "coverage"))
    assert recall.agrees is None and recall.why_not == claims.BLURRED and coverage.agrees is True
    assert claims.judge("", {"pair": [recall, coverage]}).verdict == claims.HOLDS
    text = report.write(made, results.read(made, {}), "python", []).read_text()
    said = "on shapes recall from 2.5 on, coverage from 5 on. Beyond, they do not tell variety from sharpness and are not counted"
    assert f"{said} above: recall of {two.label} on shapes." in text


def test_variations_are_judged_against_the_first_row_of_their_kind(tmp_path):
    lines = ["", "_leaky: --activation=leaky_relu", "_other: --activation=leaky_relu --leaky_relu_slope=0.1"]
    lines = [f"activation/gan{line if ':' in line else line + ':'} --base_channels=8" for line in lines]
    made = make_study(tmp_path, lines)
    for one, distance in zip(made.experiments, (50.0, 60.0, 40.0)):
        pretend(made, one, values=dict(frechet_classifier_distance=distance))
    found = results.read(made, {})
    (verdict,) = claims.further({"activation": found.rows})
    assert verdict.verdict == claims.PARTLY
    assert [c.agrees for pair in verdict.groups.values() for c in pair] == [True, False]
    text = report.write(made, found, "python", []).read_text()
    assert "| GAN leaky | 2.00 ± 0.01 | 60.00 ± 0.01 | 1.00 ± 0.01 | +20.0%, worse |" in text


def test_the_hours_follow_the_measured_speed(tmp_path):
    made = make_study(tmp_path, ["a/one: --seed=1", "a/two: --seed=2 --architecture=biggan_deep"])
    sizes = {one.folder: {"flops": 3.6e15} for one in made.experiments}
    assert estimate.training_seconds(made, sizes, 1e12) == {one.folder: 3600.0 for one in made.experiments}
    one, two = made.experiments
    pretend(made, one, values={})
    assert estimate.training_seconds(made, sizes, 1e12)[two.folder] == pytest.approx(3725.0)
    # One trained and not scored, one neither.
    left = estimate.seconds_left(made, made.experiments, sizes, 1e12)
    assert left == pytest.approx(3725.0 + 2 * estimate.SCORING_SECONDS)


def test_sizes_are_those_that_the_field_knows():
    from tfvae.studies import sizes

    known = Config(dataset="imagenet2012", resolution=128, base_channels=96, latent_dim=120, train_images=64)
    (found, wrong) = sizes.measure([(known, None), (Config(architecture="biggan_deep", base_channels=6), None)])
    assert (found["generator_parameters"], found["discriminator_parameters"]) == (70_433_988, 87_982_370)
    assert wrong is None
    generator, discriminator = found["forward_flops"]
    assert found["flops"] == 64 * (4 * generator + 8 * discriminator)
