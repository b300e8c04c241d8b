"""Where commands write: paths as people write them, places that cannot be written, folders that may be replaced and others."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tfvae import command
from tfvae.command import UserError
from tfvae.studies import chapters, report

ROOT = Path(__file__).resolve().parent.parent
EVALUATE = ("evaluate", ["--split=noise", "--dataset=shapes", "--extractor=classifier"])
EXHIBITS = ("studies.exhibits", ["--model_dir=run", "--output=exhibits.npz", "--extractor=classifier"])
FINGERPRINTS = ("studies.fingerprints", ["--dataset=folder:/nowhere"])
SAMPLE = ("sample", ["--model_dir=run"])
TRAIN_CLASSIFIER = ("train_classifier", ["--dataset=shapes", "--output_dir=classifier"])
SERVE = ("serve", ["--server=stand_in"])
STUDY = ("study", ["--experiment=a/b: --dataset=shapes", "--report_only", "--only=none"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(run_command, name, *arguments):
    """The one line with which a command refuses."""
    with pytest.raises(UserError) as error:
        run_command(name, *arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# Paths as people write them.


def test_a_path_may_begin_at_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.path("output", "~/a/b.json") == tmp_path / "a" / "b.json"
    assert command.path("output", "~") == tmp_path
    for plain in ("a/b.json", "/a/b", "a [2]/b", "a~/b", Path("a/b"), "file:x", "cifar10=a"):
        assert command.path("output", plain) == Path(plain)


@pytest.mark.parametrize("url", ["gs://bucket/m", "s3://bucket", "hdfs://host:1/m", "file:///m", "HTTPS://host/m"])
def test_a_url_is_refused(url):
    for given in (url, Path(url)):
        with pytest.raises(UserError, match=f"^--output={given}: .*expected a path on a disk of this machine.$"):
            command.path("output", given)


def test_a_home_folder_that_nobody_knows_is_one_line():
    with pytest.raises(UserError, match="^--output=~nobody_of_that_name/x: .*home folder.* expected the whole path.$"):
        command.path("output", "~nobody_of_that_name/x")


PATHS = [
    (EVALUATE, ["output", "cache_dir", "data_dir", "classifier_dir"]),
    (("evaluate", ["--dataset=shapes", "--extractor=classifier"]), ["model_dir", "saved_model", "images"]),
    (("evaluate", ["--dataset=shapes", "--extractor=inception", "--split=noise"]), ["inception_dir"]),
    (("evaluate", ["--dataset=shapes"]), ["save_reference"]),
    (("evaluate", ["--split=noise"]), ["reference"]),
    (EXHIBITS, ["output", "model_dir", "data_dir", "classifier_dir"]),
    (FINGERPRINTS, ["output"]),
    (("studies.fingerprints", ["--dataset=folder:/nowhere", "--output=x.json"]), ["data_dir"]),
    (SAMPLE, ["model_dir", "output_dir", "data_dir"]),
    (("sample", []), ["saved_model"]),
    (TRAIN_CLASSIFIER, ["output_dir", "data_dir"]),
    (STUDY, ["output_dir", "inception_dir", "classifier_dir", "data_dir"]),
    (("export", ["--export_dir=gan"]), ["model_dir"]),
    (("export", ["--model_dir=run"]), ["export_dir"]),
    (SERVE, ["model_base_path", "model_config_file"]),
    (("serve", ["--model_base_path=.", "--server=stand_in", "--host=none.invalid"]), ["batching_parameters_file"]),
]


@pytest.mark.parametrize(("name", "given", "flag"), [(*one, flag) for one, some in PATHS for flag in some])
def test_every_path_of_a_command_refuses_a_url_before_anything_is_written(name, given, flag, run_command, here):
    line = refused(run_command, name, *given, f"--{flag}=gs://bucket/m")
    assert line.startswith(f"--{flag}=gs://bucket/m: ")
    assert not list(here.iterdir())


@pytest.mark.parametrize(("name", "given", "flag"), [(*one, flag) for one, some in PATHS for flag in some])
def test_every_path_of_a_command_may_begin_at_the_home_folder(name, given, flag, run_command, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    seen = []
    true = command.path
    monkeypatch.setattr(command, "path", lambda flag, value: seen.append((flag, true(flag, value))) or seen[-1][1])
    (here / "home").mkdir()
    (here / "home" / "x").touch()  # neither a run nor a model, nor a folder in which anything can be written
    refused(run_command, name, *given, f"--{flag}=~/x")
    assert (flag, here / "home" / "x") in seen


# Places that cannot be written.

OUTPUTS = [(EVALUATE, "output"), (EXHIBITS, "output"), (FINGERPRINTS, "output")]
FOLDERS = [(SAMPLE, "output_dir"), (TRAIN_CLASSIFIER, "output_dir"), (STUDY, "output_dir")]


@pytest.mark.parametrize(("one", "flag"), OUTPUTS)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("folder", "is a folder: expected a file"),
        ("file/scores", "cannot be written (Not a directory)"),
        ("/proc/scores", "cannot be written (No such file or directory)"),
        ("/proc/new/scores", "cannot be written (No such file or directory)"),
        ("/dev/null", "is no regular file"),
        ("x" * 300, "cannot be written (File name too long)"),
        ("new/" + "x" * 300, "cannot be written (File name too long)"),
        ("circle/scores", "cannot be written (Too many levels of symbolic links)"),
    ],
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_that_cannot_be_written_is_known_before_the_work(one, flag, place, words, overwrite, run_command, here):
    (here / "folder").mkdir()
    (here / "file").write_text("mine")
    (here / "circle").symlink_to("circle")
    there = sorted(here.iterdir())
    name, given = one
    always = name == "studies.fingerprints"  # it has no such flag: its file is the study's own
    line = refused(run_command, name, *given, f"--{flag}={place}", *["--overwrite"] * (overwrite and not always))
    assert words in line and f"another --{flag}" in line and "to replace it" not in line
    assert sorted(here.iterdir()) == there and (here / "file").read_text() == "mine"


@pytest.mark.parametrize(("one", "flag"), FOLDERS)
@pytest.mark.parametrize("place", ["file", "file/x", "/proc/x", "x" * 300, "new/" + "x" * 300])
def test_a_folder_that_cannot_be_made_is_known_before_the_work(one, flag, place, run_command, here):
    (here / "file").write_text("mine")
    name, given = one
    line = refused(run_command, name, *given, f"--{flag}={place}")
    assert place in line and f"another --{flag}" in line
    assert [file.name for file in here.iterdir()] == ["file"] and (here / "file").read_text() == "mine"


def test_places_that_can_be_written_are_and_nothing_is_left_there(here):
    (here / "link").symlink_to("gone.json")
    (here / "old.json").touch()
    before = sorted(here.iterdir())
    for place in ("new.json", "a/b/c.json", "link", "old.json", "x" * 255, here / "a [2]*" / "é.json"):
        command.check_writable(place, "output")
    assert sorted(here.iterdir()) == before
    command.write_whole("x" * 255, "whatever the length of its name")
    assert (here / ("x" * 255)).read_text() == "whatever the length of its name"


def test_a_disk_that_is_read_only_is_known_before_the_work(monkeypatch, here):
    def make(*_, **__):
        raise OSError(30, os.strerror(30), "here")

    monkeypatch.setattr(command.tempfile, "TemporaryFile", make)
    with pytest.raises(
        UserError, match=r"^a/scores.json cannot be written \(Read-only file system\): give another --output.$"
    ):
        command.refuse_to_overwrite(["a/scores.json"], "output")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM])
def test_only_what_the_system_calls_so_is_told_as_a_lack_of_space(number):
    line = command.user_line(OSError(number, os.strerror(number), "x"))
    if number in (errno.ENOSPC, errno.EDQUOT):
        assert os.strerror(number) in line and "free some space and run the command again" in line
    else:
        assert line is None


# Folders that are replaced.


def of_ours(folder):
    """Names in a folder that are not of ours, which holds `marker` and perhaps `more`."""
    names = set(os.listdir(folder))
    return names - {"marker", "more"} if "marker" in names else names


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("old")
    return folder


def replace(folder):
    with command.replace_folder(folder, "output_dir", of_ours) as beside:
        fill(beside, "marker")
        (beside / "marker").write_text("new")


@pytest.mark.parametrize("there", [None, [], ["marker"], ["marker", "more"]])
@pytest.mark.parametrize("name", ["x", "a [2]", "y" * 255])
def test_a_folder_of_ours_is_replaced_whole(there, name, here):
    if there is not None:
        fill(here / name, *there)
    replace(here / name)
    assert os.listdir(here) == [name] and os.listdir(here / name) == ["marker"]
    assert (here / name / "marker").read_text() == "new"


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (["marker", "thesis.tex"], "holds thesis.tex, which"),
        (["a", "b", "c", "d", "e"], "holds a, b, c and 2 more, which"),
        (["more"], "holds more, which"),
        ([".git", "marker"], "holds .git, which"),
    ],
)
def test_a_folder_that_holds_anything_else_is_left_alone(there, words, here):
    fill(here / "x", *there)
    with pytest.raises(UserError) as error:
        replace(here / "x")
    assert words in str(error.value) and "another --output_dir" in str(error.value)
    assert os.listdir(here) == ["x"] and sorted(os.listdir(here / "x")) == sorted(there)
    assert all((here / "x" / name).read_text() == "old" for name in there)


def test_what_comes_to_lie_in_a_folder_during_the_work_is_left_alone(here):
    with pytest.raises(UserError, match="holds thesis.tex"):
        with command.replace_folder(here / "x", "output_dir", of_ours):
            fill(here / "x", "thesis.tex")
    assert os.listdir(here) == ["x"] and os.listdir(here / "x") == ["thesis.tex"]


def test_a_folder_stays_as_it_is_where_making_the_new_one_fails(here):
    fill(here / "x", "marker")
    with pytest.raises(KeyError):
        with command.replace_folder(here / "x", "output_dir", of_ours) as beside:
            fill(beside, "marker")
            raise KeyError
    assert os.listdir(here) == ["x"] and (here / "x" / "marker").read_text() == "old"


def test_a_folder_stays_as_it_is_where_the_new_one_cannot_be_put_there(here, monkeypatch):
    fill(here / "x", "marker")
    true = os.rename

    def rename(old, new):
        if str(old).endswith(".tmp"):
            raise OSError("the disk is gone")
        true(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="the disk is gone"):
        replace(here / "x")
    assert os.listdir(here) == ["x"] and (here / "x" / "marker").read_text() == "old"


def test_a_link_to_a_folder_stays_and_leads_to_the_new_one(here):
    fill(here / "disk" / "x", "marker")
    (here / "link").symlink_to("disk/x")
    replace(here / "link")
    assert (here / "link").is_symlink() and (here / "disk" / "x" / "marker").read_text() == "new"
    assert os.listdir(here / "disk") == ["x"]


@pytest.mark.parametrize("place", [".", "../here", "a/.."])
def test_a_folder_is_known_by_where_it_leads(place, here):
    (here / "a").mkdir()
    with pytest.raises(UserError, match="holds a, which"):
        replace(place)
    (here / "a").rmdir()
    if place != "a/..":
        replace(place)
        assert os.listdir(here.parent) == ["here"] and os.listdir(here.parent / "here") == ["marker"]
    with pytest.raises(UserError, match="^/ is where a disk is mounted"):
        replace("/")


def test_a_mount_point_and_a_file_cannot_be_replaced(here, monkeypatch):
    (here / "file").touch()
    with pytest.raises(UserError, match="file is no folder: give another --output_dir"):
        replace(here / "file")
    fill(here / "x")
    monkeypatch.setattr(os.path, "ismount", lambda folder: True)
    with pytest.raises(UserError, match="x is where a disk is mounted, .*: expected a folder in it"):
        replace(here / "x")


def test_what_is_being_written_stays_whatever_its_age(here):
    """As on a machine whose clock is days ahead."""
    old = (time.time() - 9 * 86_400,) * 2

    def write(stream):
        os.utime(stream.name, old)
        command.remove_left_overs(here, "x")
        assert os.path.exists(stream.name)
        stream.write(b"new")

    command.write_whole(here / "x", write)
    with command.folder_beside(here / "x") as beside:
        os.utime(beside, old)
        command.remove_left_overs(here, "x")
        assert os.listdir(here) == ["x", beside.name] or os.listdir(here) == [beside.name, "x"]
    assert os.listdir(here) == ["x"]


def test_two_processes_that_replace_one_folder_leave_it_whole(here, monkeypatch):
    """The second looks while the first one's old folder is aside and the new one not yet there."""
    fill(here / "x", "marker")
    true, seen = os.rename, []

    def rename(old, new):
        if str(old).endswith(".tmp") and not seen:
            seen.append(sorted(os.listdir(here)))
            monkeypatch.setattr(os, "rename", true)
            replace(here / "x")
            shutil.rmtree(here / "x")  # so that the first can go on
        true(old, new)

    monkeypatch.setattr(os, "rename", rename)
    replace(here / "x")
    assert len(seen[0]) == 2 and "x" not in seen[0]
    assert os.listdir(here) == ["x"] and (here / "x" / "marker").read_text() == "new"


def test_what_a_killed_process_left_beside_goes_after_a_day(here):
    unique = "0" * 32
    names = {
        f".x.{unique}.tmp": 2,
        f".x.{unique}.old": 2,
        f".x.{'1' * 32}.tmp": 0.5,
        f".y.{unique}.tmp": 2,
        ".x.tmp": 2,
    }
    for name, days in names.items():
        fill(here / name, "marker")
        os.utime(here / name, (time.time() - days * 86_400,) * 2)
    replace(here / "x")
    assert set(os.listdir(here)) == {"x", f".x.{'1' * 32}.tmp", f".y.{unique}.tmp", ".x.tmp"}


def test_a_folder_that_stepped_aside_before_its_process_was_killed_comes_back(here):
    for number in range(2):
        old = fill(here / f".x.{str(number) * 32}.old", "marker")
        (old / "marker").write_text(f"of {number}")
        os.utime(old, (time.time() - 60 + number,) * 2)
    with pytest.raises(KeyError):
        with command.replace_folder(here / "x", "output_dir", of_ours):
            raise KeyError
    assert (here / "x" / "marker").read_text() == "of 1"
    replace(here / "x")
    assert (here / "x" / "marker").read_text() == "new"


# A classifier's folder.


@pytest.mark.parametrize("there", [["thesis.tex"], ["saved_model.pb"], ["classifier.json", "thesis.tex"]])
def test_train_classifier_replaces_no_folder_but_a_classifiers(there, run_command, here):
    fill(here / "X", *there)
    line = refused(run_command, "train_classifier", "--dataset=shapes", "--overwrite", "--output_dir=X")
    assert line.startswith(f"X holds {[name for name in there if name != 'classifier.json'][0]}, which")
    assert sorted(os.listdir(here / "X")) == sorted(there)
    line = refused(run_command, "train_classifier", "--dataset=shapes", "--output_dir=X")
    assert "--overwrite" not in line  # it would be of no use


def test_train_classifier_does_not_replace_a_classifier_unasked(run_command, here):
    fill(here / "X", "classifier.json", "saved_model.pb")
    line = refused(run_command, "train_classifier", "--dataset=shapes", "--output_dir=X")
    assert line == "X exists: give another --output_dir, or --overwrite to replace it."


def test_a_classifier_that_was_written_can_be_replaced(here):
    from tfvae.scoring import classifier, saved_models

    extractor = classifier.make_extractor(classifier.make_network(32, 2, 2))
    for accuracy in (0.25, 0.5):
        classifier.save(extractor, {"accuracy": accuracy}, here / "a [2]" / "X")
        assert saved_models.foreign_to_classifier(here / "a [2]" / "X") == set()
        assert json.loads((here / "a [2]" / "X" / "classifier.json").read_text()) == {"accuracy": accuracy}
        assert os.listdir(here / "a [2]") == ["X"]


# A study's report.


@pytest.fixture
def written(here, monkeypatch):
    """A function: writes the report of a study in `study`, with a picture."""

    def text(study, found, made_by, notes, folder):
        (folder / "curves_main_toy.png").write_bytes(b"")
        return f"{chapters.TITLE}\n\n![Learning curves](curves_main_toy.png)\n\n{notes[0]}\n"

    monkeypatch.setattr(chapters, "write", text)
    return lambda note: report.write(
        SimpleNamespace(output_dir=here / "study", report_dir=here / "study" / "report"), None, "", [note]
    )


def test_a_report_is_written_anew(written):
    for note in ("first", "second"):
        file = written(note)
        assert note in file.read_text() and not report.foreign(file.parent)
        assert sorted(os.listdir(file.parent)) == ["curves_main_toy.png", "report.html", "report.md"]
        assert os.listdir(file.parent.parent) == ["report"]


@pytest.mark.parametrize(
    "there",
    [
        {"notes.md": "mine"},
        {"report.md": "# My own report\n"},
        {"report.md": chapters.TITLE + "\n", "photo.png": ""},
        {".git": "mine"},
    ],
)
def test_a_report_never_replaces_what_is_not_of_a_report(there, written, run_command, here):
    folder = fill(here / "study" / "report", *there)
    for name, content in there.items():
        (folder / name).write_text(content)
    with pytest.raises(UserError, match="study/report holds .*, which .*, or give another --output_dir"):
        written("first")
    line = refused(run_command, *(STUDY[0], *STUDY[1]), "--output_dir=study")
    assert line.startswith("study/report holds ")
    assert {file.name: file.read_text() for file in folder.iterdir()} == there
    assert os.listdir(here / "study") == ["report"]  # not even the sizes of the networks


# Quick and quiet.

# Runs a module as `python -m` does; its last line on stderr says whether TensorFlow was loaded.
LOADED = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", "tensorflow.python" in sys.modules, file=sys.stderr))
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def run_module(module, *arguments, folder):
    return subprocess.run(
        [sys.executable, "-c", LOADED, f"tfvae.{module}", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("evaluate", ["--output=gs://x", "--split=noise", "--dataset=shapes"], "error: --output=gs://x: "),
        ("train_classifier", [], "error: --output_dir is missing"),
        ("train_classifier", ["--output_dir=/proc/x"], "error: /proc/x cannot be written"),
        ("train_classifier", ["--epochs=0"], "flag --epochs=0"),
        ("studies.exhibits", ["--model_dir=x"], "error: --output is missing"),
        ("studies.exhibits", ["--model_dir=x", "--output=/dev/null"], "error: /dev/null is no regular file"),
        ("sample", ["--sheets=everything", "--model_dir=x"], "error: --sheets=everything: expected some of grid"),
        ("sample", ["--output_dir=~nobody_of_that_name", "--model_dir=x"], "error: --output_dir=~nobody_of_that_name"),
        ("project", ["--model_dir=x", "--split=test", "--output_dir=/proc/x"], "cannot be written"),
    ],
)
def test_a_wrong_flag_is_answered_before_tensorflow_is_loaded(module, arguments, words, tmp_path):
    result = run_module(module, *arguments, folder=tmp_path)
    assert result.returncode == 1 and words in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert result.stderr.endswith("loaded: False\n") and not os.listdir(tmp_path)


@pytest.mark.parametrize("module", ["train_classifier", "studies.exhibits", "sample", "project"])
def test_help_is_shown_before_tensorflow_is_loaded(module, tmp_path):
    result = run_module(module, "--help", folder=tmp_path)
    assert "--seed: Of " in result.stdout and result.stderr == "loaded: False\n"
