"""A study, from its list to its report, with quick stand-ins for the commands that it runs; scripts/check_study.sh runs the real
ones, killed in the middle.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import study_stand_in
from PIL import Image

from tfvae.command import UserError
from tfvae.data import datasets, pipeline
from tfvae.studies import fingerprints, identity, plan, report, results, runner, sizes, tasks, work

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def images(tmp_path):
    """A function that makes a folder of files in the place of images."""

    def make(name, content="a cat"):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1.png").write_text(content)
        identity._look.cache_clear()  # as in a new process
        return folder

    return make


@pytest.fixture
def make_study(tmp_path, monkeypatch):
    """A function that makes a study of stand-in commands: of --experiment's lines and fields of `plan.Study`."""
    monkeypatch.setattr(runner.Runner, "run", study_stand_in.run)
    monkeypatch.setattr(plan, "_identified", study_stand_in.identified)

    def make(*lines, **changes):
        found = plan.read_experiments(lines, "full", {})
        fields = dict(
            experiments=found, published={}, scale="full", output_dir=tmp_path / "study", data_dirs={}, folders={},
            extractor_name="classifier", num_images=20, num_seeds=1, mixture_tables=("main",), eval_points=0,
        )  # fmt: skip
        return plan.Study(**fields | changes)

    return make


def do(study, *names):
    """Does a study, or the tasks of some names: {name: line} of those that failed."""
    everything = tasks.of_study(study, study.experiments)
    return work.do(study, [task for task in everything if task.name in names] if names else everything)


def begun(capsys):
    """Which steps have begun since the last look, in order: ["classifier-cats: data", …]."""
    lines = capsys.readouterr().out.splitlines()
    return [line.split("] ")[1].removesuffix(": begins") for line in lines if line.endswith(": begins")]


def states(study):
    listed = work.listing(tasks.of_study(study, study.experiments))
    return dict(line.split("\t")[:2] for line in listed.splitlines())


def scored(study):
    return [bool(row.scores) for row in results.read(study, {}).rows]


EXPERIMENTS = ("main/gan: --dataset={} --train_images=640", "main/vae: --dataset={} --objective=vae --train_images=640")
TRAINED = ["training", "scores", "pictures"]


def lines_of(dataset):
    return [line.format(dataset) for line in EXPERIMENTS]


def all_steps(name):
    steps = [f"classifier-{name}: data", f"classifier-{name}: classifier", f"calibration-{name}: noise"]
    steps.append(f"calibration-{name}: spoilt")
    steps += [f"gan: {step}" for step in TRAINED]
    return steps + [f"vae: {step}" for step in [*TRAINED, "scores with the mixture prior"]]


def test_a_study_does_everything_once_and_reports_it(make_study, images, capsys):
    study = make_study(*lines_of(f"folder:{images('cats')}"))
    slug = datasets.record(study.datasets[0]).slug
    assert set(states(study).values()) == {"missing"} and scored(study) == [False] * 3
    assert do(study) == {}
    assert begun(capsys) == all_steps(slug)
    assert set(states(study).values()) == {"done"} and scored(study) == [True] * 3
    assert do(study) == {} and begun(capsys) == []
    text = report.write(study, results.read(study, {}), "python", []).read_text()
    assert "3 of 3 rows are filled" in text and "| *noise* |" in text and "unselected_main" in text


def test_other_images_in_the_same_folder_are_done_anew_beside_and_the_first_ones_are_found_again(
    make_study, images, capsys
):
    study = make_study(*lines_of(f"folder:{images('cats')}"))
    slug = datasets.record(study.datasets[0]).slug
    do(study)
    first = {
        f: f.read_bytes() for f in study.output_dir.rglob("*") if f.is_file() and f.parent.name in ("scores", "runs")
    }
    begun(capsys)
    images("cats", "another cat")
    assert set(states(study).values()) == {"missing"} and scored(study) == [False] * 3
    assert do(study) == {} and begun(capsys) == all_steps(slug) and scored(study) == [True] * 3
    assert all(file.read_bytes() == content for file, content in first.items())
    assert len(list((study.output_dir / "runs").iterdir())) == 4
    assert len(list((study.output_dir / "classifiers").iterdir())) == 2
    images("cats")
    assert do(study) == {} and begun(capsys) == [f"classifier-{slug}: data"] and scored(study) == [True] * 3


def test_another_data_dir_under_the_same_flags_is_done_anew(make_study, images, capsys):
    there, elsewhere, copy = images("tfds"), images("other_tfds", "other faces"), images("copied_tfds")
    study, other, moved = (make_study(*lines_of("lfw"), data_dirs={"lfw": str(f)}) for f in (there, elsewhere, copy))
    do(study)
    begun(capsys)
    assert scored(other) == [False] * 3 and do(other) == {} and scored(other) == [True] * 3
    assert len(begun(capsys)) == len(all_steps("lfw")) + 1  # one more: of held-out images
    assert set(states(study).values()) == {"done"}
    # The same images in another place are the same images.
    assert do(moved) == {} and begun(capsys) == ["classifier-lfw: data"] and scored(moved) == [True] * 3


def test_two_folders_of_one_name_share_no_classifier_and_no_result(make_study, images):
    study = make_study(
        f"main/one: --dataset=folder:{images('x/cats')} --train_images=640",
        f"main/two: --dataset=folder:{images('y/cats', 'another cat')} --train_images=640",
    )
    for dataset in study.datasets:
        some = tuple(e for e in study.experiments if e.dataset == dataset)
        assert do(dataclasses.replace(study, experiments=some)) == {}
    extractors = [study.extractor(dataset)[1] for dataset in study.datasets]
    assert extractors[0] != extractors[1] and len({study.extractor_checksum(d) for d in study.datasets}) == 2
    assert len({study.scores_dir(dataset) for dataset in study.datasets}) == 2


def test_a_classifier_of_other_images_is_not_taken_for_the_datasets_own(make_study, images, tmp_path, capsys):
    study = make_study(*lines_of(f"folder:{images('cats')}"), folders={"classifier_dir": str(tmp_path / "given")})
    assert do(study) == {}
    images("cats", "another cat")
    failed = do(study)
    assert len(failed) == 4 and scored(study) == [False] * 3
    assert any("given was trained on other images than folder:" in line for line in failed.values())
    assert "expected another --classifier_dir" in " ".join(failed.values()) and "overwrite" not in str(failed)
    # One that does not say what it was trained on is the user's choice.
    (tmp_path / "given" / "classifier.json").write_text("{}")
    assert do(study) == {} and scored(study) == [True] * 3


def test_scores_of_other_data_or_of_another_extractor_in_a_files_place_are_made_anew(make_study, images, capsys):
    study = make_study(*lines_of(f"folder:{images('cats')}"))
    do(study)
    begun(capsys)
    file = study.score_file(study.experiments[0])
    for change in ({"reference": {"fingerprint": "f" * 64}}, {"protocol": {"extractor": {"checksum": "c" * 64}}}):
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        assert scored(study) == [False, True, True]
        assert do(study) == {} and begun(capsys) == ["gan: scores"] and scored(study) == [True] * 3


def test_images_that_change_while_a_study_runs_stop_what_comes_after(make_study, images, capsys, monkeypatch):
    monkeypatch.setattr(identity, "LOOK_AGAIN_SECONDS", 1e-9)
    folder = images("cats")
    study = make_study(*lines_of(f"folder:{folder}"))
    everything = tasks.of_study(study, study.experiments)
    work.do(study, everything[:3])
    (folder / "1.png").write_text("another cat")
    (line,) = work.do(study, everything[3:]).values()
    assert "have changed since: expected classifier-" in line and begun(capsys)[-1] == "gan: pictures"


def test_what_fails_is_reported_and_leaves_the_rest_to_be_done(make_study, images, tmp_path):
    study = make_study(*lines_of(f"folder:{images('cats')}"))
    (tmp_path / "fails-tfvae.studies.exhibits").write_text("model_dir: no space left")
    assert do(study) == {"gan": "no space left", "vae": "no space left"}
    assert [row.reason for row in results.read(study, {}).rows][0] == "pictures failed: no space left"
    (tmp_path / "fails-tfvae.studies.exhibits").unlink()
    assert do(study) == {}


def test_tasks_are_done_one_by_one_in_the_order_of_the_list_and_no_two_write_the_same_file(make_study, images, capsys):
    study = make_study(*lines_of("lfw"), data_dirs={"": str(images("tfds"))})
    written = {}

    def files():
        return {f: f.stat().st_mtime_ns for f in study.output_dir.rglob("*") if f.is_file()}

    assert list(do(study, "gan").values()) == [
        "the images of lfw were not read yet, or have changed since: expected classifier-lfw first."
    ]
    assert not files()
    for task in tasks.of_study(study, study.experiments):
        before = files()
        assert work.do(study, [task]) == {} and states(study)[task.name] == "done"
        written[task.name] = {file for file, time in files().items() if before.get(file) != time}
    assert list(written) == ["classifier-lfw", "calibration-lfw", "gan", "vae"]
    assert sum(map(len, written.values())) == len(set.union(*written.values())) == len(files())
    assert scored(study) == [True] * 3 and not (study.output_dir / "report").exists()


def test_the_record_of_images_holds_the_fingerprints_that_scores_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "LOOK_AGAIN_SECONDS", 1e-9)
    draw = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(tmp_path / f"{i}.png")
    dataset, file = f"folder:{tmp_path}", tmp_path.parent / "record.json"
    data = fingerprints.fingerprints(dataset, None, 32, [])
    assert data.fingerprints == {"train": pipeline.load(dataset, resolution=32).fingerprint}
    identity.write(file, data)
    assert identity.read(file) == data and identity.is_current(file)
    (tmp_path / "notes.txt").write_text("no image")
    assert identity.is_current(file)
    Image.new("RGB", (32, 32)).save(tmp_path / "2.png")
    assert not identity.is_current(file) and fingerprints.fingerprints(dataset, None, 32, []).key != data.key


def test_a_record_counts_without_its_images_where_nothing_is_run(tmp_path):
    data = identity.Data(str(tmp_path / "gone"), "0", {"train": "f" * 64})
    identity.write(tmp_path / "record.json", data)
    assert identity.read(tmp_path / "record.json") == data and not identity.is_current(tmp_path / "record.json")
    (tmp_path / "record.json").write_text("{")
    assert identity.read(tmp_path / "record.json") is None


# The command.


@pytest.fixture
def run_study(make_study, images, run_command, capsys, monkeypatch, tmp_path):
    """A function that runs tfvae.study with stand-ins for its commands: returns what it printed, raises `UserError`."""
    monkeypatch.setattr(sizes, "of_experiments", lambda *arguments: {})
    flags = [f"--experiment={line}" for line in lines_of(f"folder:{images('cats')}")]
    flags += ["--published=gan: FID=25", f"--output_dir={tmp_path / 'study'}", "--num_images=20", "--num_seeds=1"]
    flags += ["--extractor=classifier"]

    def run(*more):
        capsys.readouterr()  # what a command that failed has printed
        return run_command("study", *flags, *more)

    return run


def test_the_command_reports_what_failed_and_goes_on_with_it(run_study, tmp_path):
    (tmp_path / "fails-tfvae.train").write_text("objective=vae: training diverged at 64 images.")
    with pytest.raises(
        UserError, match="2 of 3 rows are empty and 1 tasks failed: expected all; the report gives the reasons"
    ):
        run_study("--note=Drawn by hand.")
    text = (tmp_path / "study" / "report" / "report.md").read_text()
    assert "| GAN | 25 | 0.50 ± 0.01 |" in text and "Drawn by hand." in text and "| *noise* |" in text
    assert "| VAE | – | – | training failed: training diverged at 64 images. |" in text
    said = run_study("--only=gan")
    assert "begins" not in said and "1 experiments, 1 trainings, about 0.0 hours left" in said and "Report: " in said
    (tmp_path / "fails-tfvae.train").unlink()
    # It is not tried again before somebody asks for it.
    with pytest.raises(UserError, match="2 of 3 rows are empty"):
        run_study()
    (record,) = (tmp_path / "study" / "records").glob("vae-*")
    record.unlink()
    assert "vae: training: begins" in run_study()


def test_the_command_does_one_task_by_its_name_and_reports_when_asked_to(run_study, tmp_path):
    names = [line.split("\t")[0] for line in run_study("--list").splitlines()]
    assert names[2:] == ["gan", "vae"] and not (tmp_path / "study").exists()
    for wrong, message in (
        ("--work=", "--work=: expected a name that --list prints: classifier-"),
        ("--list", "--list and --work"),
    ):
        with pytest.raises(UserError, match=message):
            run_study("--work=gan", wrong)
    for name in names:
        said = run_study(f"--work={name}")
        assert said.splitlines()[-1] == f"[1/1] {name}: done"
    assert not (tmp_path / "study" / "report").exists() and not (tmp_path / "study" / "sizes.json").exists()
    assert "begins" not in run_study("--report_only")
    assert "3 of 3 rows are filled" in (tmp_path / "study" / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        (
            "--work=b",
            "b: the images of shapes were not read yet, or have changed since: expected classifier-shapes first.",
        ),
        ("--only=c", "--only=c names no experiment: expected tables (a) or names (b)."),
    ],
)
def test_the_command_refuses_in_one_line(flag, line, tmp_path):
    output = tmp_path / "study"
    command = [
        sys.executable,
        "-m",
        "tfvae.study",
        "--experiment=a/b: --dataset=shapes",
        f"--output_dir={output}",
        flag,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user has it: the terminal stays quiet
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout, result.stderr.splitlines()) == (1, "", [f"error: {line}"])
    assert not [*output.rglob("*.json")]
