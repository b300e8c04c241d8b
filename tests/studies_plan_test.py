"""A study's plan and its tasks: what is read from flags, what is to be done, in which order and by which commands."""

import json
import pathlib
import re

import pytest
from pretended_study import experiments, make_study, pretend, pretend_data, scores

from tfvae.scoring import extractors
from tfvae.studies import chapters, plan, results, runner, tables, tasks, work

ROOT = pathlib.Path(__file__).resolve().parent.parent


# The plan.


@pytest.fixture
def at_root(monkeypatch):
    """Flagfiles name others by their path from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", sorted(file.name for file in (ROOT / "configs" / "study").glob("*.cfg")))
@pytest.mark.parametrize("scale", plan.SCALES)
def test_every_study_in_configs_can_be_read(file, scale, at_root):
    lines = re.findall(r"^--(\w+)=(.*)$", (ROOT / "configs" / "study" / file).read_text(), re.MULTILINE)
    for nested in [value for name, value in lines if name == "flagfile"]:
        lines += re.findall(r"^--(\w+)=(.*)$", (ROOT / nested).read_text(), re.MULTILINE)
    found = plan.read_experiments([value for name, value in lines if name == "experiment"], scale, {})
    published = plan.read_published([value for name, value in lines if name == "published"], found)
    if scale == "cpu":
        seen = {(e.dataset, e.total_images) for e in found}
        # Equal images, to the step.
        assert seen <= {("cifar10", 160_000), ("lfw", 80_000), ("shapes", 80_000)}
        assert {e.settings.batch_size for e in found} == {32}
    if file == "all.cfg":
        studied = {table for e in found for table in e.tables}
        assert studied == {file.stem for file in (ROOT / "configs" / "study").glob("*.cfg")} - {"all", "paper"} | {
            "main",
            "best",
        }
        assert len([e for e in found if "main" in e.tables]) == 8
        assert published["cifar10_vae_biggan"]["FID"] == "39"


def test_the_cut_is_one_rule(at_root):
    (gan, vae, best) = experiments(
        "main/gan: configs/paper/cifar10_gan_biggan_deep.cfg",
        "main/vae: configs/paper/cifar10_vae_biggan.cfg --learning_rate_decay_images=550000",
        "main/best: configs/best/lfw_gan.cfg",
        scale="cpu",
        images={"cifar10": 56_000},
    )
    assert (gan.settings.base_channels, gan.settings.batch_size, gan.settings.train_images) == (32, 32, 56_000)
    assert (vae.settings.base_channels, vae.settings.batch_size, vae.settings.train_images) == (24, 32, 56_000)
    assert vae.settings.learning_rate_decay_images == 5_600  # a tenth of the run, as before
    assert (best.settings.base_channels, best.settings.batch_size, best.settings.train_images) == (16, 32, 80_000)
    assert (gan.settings.generator_learning_rate, best.settings.discriminator_steps) == (5e-5, 5)


def test_images_that_are_no_whole_steps_of_a_recipe_are_refused(at_root):
    with pytest.raises(ValueError, match="--images=lfw=1000: best takes 160 images at once: expected a multiple"):
        experiments("main/best: configs/best/lfw_gan.cfg", scale="cpu", images={"lfw": 1_000})


def test_an_experiment_that_may_end_early_is_refused(at_root):
    line = "main/one: configs/quick/shapes_gan.cfg --eval_every_images=9 --stop_after_images_without_gain=9"
    with pytest.raises(
        ValueError, match="--experiment=main/one: --stop_after_images_without_gain ends a training early"
    ):
        experiments(line)


def test_experiments_of_the_same_settings_share_a_run_and_a_change_makes_another():
    line = "--dataset=shapes --base_channels=8"
    one, other, third, longer = experiments(
        f"a/one: {line}",
        f"b/other: {line} --log_every_images=7",
        f"a/third: {line} --seed=1",
        f"a/longer: {line} --train_images=9",
    )
    assert one.folder == other.folder
    assert len({one.folder, third.folder, longer.folder}) == 3
    # More images go on with the same run.
    assert plan.digest(one.settings) == plan.digest(longer.settings) != plan.digest(third.settings)


def test_a_name_may_stand_in_several_tables():
    (one,) = experiments("a/one: --dataset=shapes", "b/one: --dataset=shapes")
    assert one.tables == ("a", "b")
    with pytest.raises(ValueError, match="one has other flags in a"):
        experiments("a/one: --dataset=shapes", "b/one: --dataset=lfw")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no --experiment given"),
        (["one: configs/x.cfg"], "expected TABLE/NAME: FLAGFILE"),
        (["a/one: configs/nowhere.cfg"], "configs/nowhere.cfg"),
        (["a/one: --lerning_rate=1"], "--experiment=a/one: Unknown command line flag 'lerning_rate'"),
        (["a/one: --base_channels=0"], "--base_channels=0: expected 1 or more"),
        (["a/one: --dataset=shapes more.cfg"], "unexpected 'more.cfg'"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_of(lines, message, at_root):
    with pytest.raises(ValueError) as error:
        experiments(*lines)
    assert message in str(error.value)


def test_labels_are_for_people():
    (one,) = experiments("a/cifar10_vae_biggan_deep_leaky_0.1: --dataset=cifar10")
    assert one.label == "VAE BigGAN-deep leaky 0.1"


def test_only_chooses_by_name_table_or_both(tmp_path):
    made = make_study(tmp_path, ["a/one: --seed=1", "a/two: --seed=2", "b/one: --seed=1", "b/three: --seed=3"])
    names = lambda *patterns: [e.name for e in made.selected(patterns)]  # noqa: E731
    assert names() == ["one", "two", "three"]
    assert names("b") == names("b/*") == ["one", "three"]
    assert names("t*") == ["two", "three"] and names("a/two") == ["two"]
    with pytest.raises(ValueError, match=r"--only=four names no experiment: expected tables \(a, b\)"):
        names("four")


def test_two_folders_of_one_name_have_a_classifier_and_a_title_each(tmp_path):
    made = make_study(tmp_path, [f"main/{name}: --dataset=folder:/{name}/cats" for name in "xy"])
    assert len({made.extractor(dataset)[1] for dataset in made.datasets}) == 2
    assert len({plan.shown(dataset) for dataset in made.datasets}) == 2


def test_the_commands_of_a_run_hold_its_protocol(tmp_path):
    made = make_study(tmp_path, ["main/lfw_vae: --dataset=lfw --objective=vae --train_images=640 --eval_images=20"])
    pretend(made, made.experiments[0], trained=False)
    classifier, calibration, run = tasks.of_study(made, made.experiments)
    data, network = classifier.steps()
    assert "--splits=train[:50%],train[50%:]" in data.arguments and "--data_dir=there" in data.arguments
    assert data.done() and network.done()
    held_out, noise, spoilt = calibration.steps()
    assert "--split=train[50%:]" in held_out.arguments and "--split=noise" in noise.arguments
    assert {"--calibrate", "--dataset=lfw", "--num_images=1000", "--data_dir=there"} <= set(spoilt.arguments)
    train, normal, pictures, gmm = run.steps()
    assert train.arguments[1:3] == ["-m", "tfvae.train"] and "--data_dir=there" in train.arguments
    assert train.arguments.index("--eval_every_images=64") < train.arguments.index("--eval_images=20")
    for step in (normal, gmm, held_out):
        expected = {"--num_images=6500", "--reference_split=train[:50%]", "--num_seeds=3", "--memorisation=all"}
        assert expected <= set(step.arguments)
    assert "--prior=gmm" in gmm.arguments and "--num_images=2000" in pictures.arguments
    assert not any(step.done() for step in (train, normal, gmm, pictures, held_out, noise, spoilt))


def test_a_study_scores_by_the_default_and_trains_a_classifier_only_where_modes_are_counted(tmp_path):
    made = make_study(tmp_path, ["a/one: --dataset=cifar10", "a/two: --base_channels=8"], extractor_name=None)
    default, classifier = (extractors.EXTRACTORS[name] for name in (extractors.DEFAULT, plan.TRAINED))
    assert made.kinds("cifar10") == (default,) and made.kinds("shapes") == (default, classifier)
    assert made.named_kind is default and made.extractor("cifar10") == (default, None)
    names = [task.name for task in tasks.of_study(made, made.experiments)]
    assert names[:2] == ["data-cifar10", "classifier-shapes"]
    for dataset in made.datasets:
        pretend_data(made, dataset)
    (data,) = tasks.preparation(made, "cifar10")
    data, network = tasks.preparation(made, "shapes")
    folder = made.extractor("shapes", classifier)[1]
    assert f"--output_dir={folder}" in network.arguments and not network.done()
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("a network")
    assert network.done()
    train, scored, pictures = tasks.of_run(made, [made.experiments[0]])
    for step in (train, scored, pictures):
        assert f"--extractor={extractors.DEFAULT}" in step.arguments
    train, scored, of_modes, pictures = tasks.of_run(made, [made.experiments[1]])
    assert (scored.name, of_modes.name) == ("scores", "scores by the classifier")
    assert {"--extractor=classifier", f"--classifier_dir={folder}"} <= set(of_modes.arguments)
    assert (
        f"--extractor={extractors.DEFAULT}" in scored.arguments
        and f"--extractor={extractors.DEFAULT}" in train.arguments
    )
    files = [made.score_file(made.experiments[1], kind=kind) for kind in (default, classifier)]
    assert (
        all(f"--output={file}" in step.arguments for file, step in zip(files, (scored, of_modes)))
        and len(set(files)) == 2
    )


def test_modes_are_read_from_the_classifiers_scores_and_all_else_from_the_default_ones(tmp_path):
    made = make_study(tmp_path, ["a/one: --base_channels=8"], extractor_name=None)
    (one,) = made.experiments
    pretend_data(made, "shapes")
    folder = made.extractor("shapes", extractors.EXTRACTORS[plan.TRAINED])[1]
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("a network")
    by_default = {"coverage_by_efficientnet_lite0": 0.7, "frechet_efficientnet_lite0_distance": 30.0}
    for kind, values in zip(made.kinds("shapes"), (by_default, {"modes_captured": 55.0, "coverage": 0.1})):
        found = scores(one.total_images, made.extractor_checksum("shapes", kind), **values)
        if kind is made.kind:
            found["scores"] = {name: found["scores"][name] for name in values}
        file = made.score_file(one, kind=kind)
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(found))
    (row,) = results.read(made, {}).rows
    assert row.value("modes_captured")[0] == 55 and row.value("coverage")[0] == 0.7 and row.value("frechet")[0] == 30
    assert row.value("precision") is None and row.scores["classes_by"]["name"] == "classifier of cifar10"
    assert "Of classes and modes: by classifier of cifar10 (SHA-256 " in chapters.caption(made, [row], {})
    assert tables.score_titles(made)["frechet"] == "Fréchet EfficientNet-Lite0 distance"


def test_all_steps_of_a_dataset_have_the_resolution_that_its_experiments_ask_for(tmp_path):
    made = make_study(tmp_path, ["a/one: --resolution=64 --base_channels=8", "a/two: --base_channels=8"])
    classifier = tasks.of_study(made, made.experiments)[0]
    first, second, network = classifier.steps()
    assert "--resolution=64" in first.arguments and not [a for a in second.arguments if "--resolution" in a]
    assert "--resolution=64" in network.arguments  # the first experiment's
    assert made.data_file("shapes", 64) != made.data_file("shapes", None)


def why_blocked(task):
    with pytest.raises(runner.Blocked) as error:
        list(task.steps())
    return str(error.value)


def test_nothing_of_a_dataset_is_done_before_its_images_were_read_and_its_extractor_made(tmp_path):
    made = make_study(tmp_path, ["main/vae: --objective=vae"])
    classifier, calibration, run = tasks.of_study(made, made.experiments)
    assert "the images of shapes were not read yet" in why_blocked(run) and "classifier-shapes first" in why_blocked(
        run
    )
    pretend_data(made, "shapes")
    assert "holds no extractor: expected classifier-shapes first" in why_blocked(run)
    assert "--classifier_dir" in why_blocked(calibration) and not run.is_done()
    failed = {"step": "classifier", "line": "the disk is full"}
    runner.write_record(made.record_file("classifier-shapes"), {"failed": failed})
    assert "holds no extractor (classifier failed: the disk is full): expected" in why_blocked(run)
    assert results.read(made, {}).rows[0].reason == "classifier failed: the disk is full"


def test_tasks_have_the_names_of_the_first_experiments_that_share_a_run(tmp_path):
    lines = ["a/one: --seed=1", "b/also_one: --seed=1", "b/two: --seed=2", "b/faces: --dataset=lfw"]
    made = make_study(tmp_path, lines)
    listed = work.listing(tasks.of_study(made, made.experiments)).splitlines()
    assert listed == [
        "classifier-shapes\tmissing\twaits for: nothing",
        "classifier-lfw\tmissing\twaits for: nothing",
        "calibration-shapes\tmissing\twaits for: classifier-shapes",
        "one\tmissing\twaits for: classifier-shapes",
        "two\tmissing\twaits for: classifier-shapes",
        "calibration-lfw\tmissing\twaits for: classifier-lfw",
        "faces\tmissing\twaits for: classifier-lfw",
    ]
    some = tasks.of_study(made, made.selected(["b"]))
    assert work.task_named(made, some, "one").name == "one"
    with pytest.raises(
        ValueError, match="--work=also_one: it has the settings, and so the run, of one: expected --work=one"
    ):
        work.task_named(made, some, "also_one")
    with pytest.raises(
        ValueError, match="--work=three: expected a name that --list prints: classifier-shapes, classifier-lfw"
    ):
        work.task_named(made, some, "three")


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (["a/classifier-shapes: --seed=1"], {}, "2 tasks of the study have the name classifier-shapes"),
        (
            ["a/one: --seed=1", "a/two: --dataset=lfw"],
            {"folders": {"classifier_dir": "here"}},
            "one folder for 2 datasets .shapes, lfw.",
        ),
    ],
)
def test_tasks_that_would_write_the_same_files_are_refused(lines, changes, message, tmp_path):
    made = make_study(tmp_path, lines, **changes)
    with pytest.raises(ValueError, match=message):
        tasks.of_study(made, made.experiments)
