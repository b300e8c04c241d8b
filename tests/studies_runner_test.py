"""The study's processes, with small programs in the commands' place: skipped, resumed, killed, stopped, failing, shared."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Instead of training: counts to 10, one every 20 ms, from where it was; saves and stops on SIGTERM. FILE.slow: one every 100 ms.
# FILE.fails: it ends with what that says. FILE.hold: it is still saving.
COMMAND = textwrap.dedent(
    """
    import pathlib, signal, sys, time

    file, begun, fails, slow, hold = (pathlib.Path(sys.argv[1] + end) for end in ("", ".begun", ".fails", ".slow", ".hold"))
    told = []
    signal.signal(signal.SIGTERM, lambda *arguments: told.append(1))
    begun.open("a").write("x")
    if fails.exists():
        print("something")
        sys.exit(f"error: {fails.read_text()}")
    at = int(file.read_text()) if file.exists() else 0
    while at < 10 and not told:
        time.sleep(0.1 if slow.exists() else 0.02)
        at += 1
    while hold.exists():
        time.sleep(0.02)
    file.write_text(str(at))
    print(f"at {at}", flush=True)
    """
)
# Two tasks of two steps.
STUDY = textwrap.dedent(
    """
    import pathlib, sys
    from tfvae.studies import runner

    folder = pathlib.Path(sys.argv[1])

    class Places:
        output_dir = folder
        log_file = staticmethod(lambda name: folder / f"{name}.log")
        record_file = staticmethod(lambda name: folder / f"{name}.json")

    def step(name):
        file = folder / name
        done = lambda: file.exists() and file.read_text() == "10"
        return runner.Step(name, done, [sys.executable, str(folder / "command.py"), str(file)])

    def say(number, task, step, seconds, line):
        print(f"{task.name}: {line}", flush=True)

    def steps(name):
        if (folder / f"{name}.blocked").exists():
            raise runner.Blocked("it has nothing to count with")
        yield step(f"{name}-first")
        yield step(f"{name}-second")

    needs = {"two": ("one",)} if (folder / "needs").exists() else {}
    doer = runner.Runner(Places, say)
    with doer.listening():
        failed = doer.work_off([runner.Task(n, lambda n=n: steps(n), needs.get(n, ())) for n in ("one", "two")])
    print("FAILED", failed, "STOPPING", doer.stopping, flush=True)
    """
)


def start(folder):
    folder.mkdir(exist_ok=True)
    (folder / "command.py").write_text(COMMAND)
    return subprocess.Popen(
        [sys.executable, "-c", STUDY, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder):
    process = start(folder)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    return output


def wait_for(file):
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {file} within half a minute")


def counts(folder):
    names = [f"{task}-{step}" for task in ("one", "two") for step in ("first", "second")]
    return {name: int((folder / name).read_text()) if (folder / name).exists() else 0 for name in names}


ALL = {"one-first": 10, "one-second": 10, "two-first": 10, "two-second": 10}


def test_what_is_finished_is_skipped_and_what_it_cost_is_kept(tmp_path):
    output = finish(tmp_path / "study")
    assert counts(tmp_path / "study") == ALL and "FAILED {} STOPPING False" in output
    record = json.loads((tmp_path / "study" / "one.json").read_text())
    assert 0.2 < record["seconds"]["one-first"] < 60
    assert 3 < record["peak_memory_mb"]["one-first"] < 500
    again = finish(tmp_path / "study")
    assert "begins" not in again
    assert all((tmp_path / "study" / f"{name}.begun").read_text() == "x" for name in ALL)
    assert json.loads((tmp_path / "study" / "one.json").read_text()) == record


def kill_in_the_second_step(folder):
    """A study, killed while its first task's second step is at 1 to 9; the command that it leaves behind goes on saving."""
    folder.mkdir()
    (folder / "one-second.slow").touch()
    (folder / "one-second.hold").touch()
    process = start(folder)
    wait_for(folder / "one-second.begun")
    time.sleep(0.3)
    process.kill()
    process.communicate()
    (folder / "one-second.slow").unlink()


def test_a_killed_study_takes_its_command_along_which_saves_and_the_next_one_goes_on_there(tmp_path):
    folder = tmp_path / "study"
    kill_in_the_second_step(folder)
    # While the command of the killed study is still saving, its task is left alone.
    process = start(folder)
    line = ""
    while "one: another process is at it: later" not in line:
        line = process.stdout.readline()
        assert line, "it ended"
    wait_for(folder / "two-first")
    assert (folder / "one-second.begun").read_text() == "x"
    (folder / "one-second.hold").unlink()
    assert "FAILED {}" in process.communicate(timeout=120)[0]
    assert counts(folder) == ALL
    begun = {name: (folder / f"{name}.begun").read_text() for name in ALL}
    assert begun == {"one-first": "x", "one-second": "xx", "two-first": "x", "two-second": "x"}
    # It went on from where it was cut.
    assert (folder / "one.log").read_text().count("at 10") == 2
    assert 0 < int((folder / "one.log").read_text().split("at ")[2].split()[0]) < 10


def test_a_task_comes_after_those_that_it_needs_also_where_another_process_is_at_them(tmp_path):
    folder = tmp_path / "study"
    kill_in_the_second_step(folder)
    (folder / "needs").touch()
    process = start(folder)
    while "one: another process is at it: later" not in process.stdout.readline():
        pass
    time.sleep(0.5)
    assert not (folder / "two-first.begun").exists()
    (folder / "one-second.hold").unlink()
    assert "FAILED {}" in process.communicate(timeout=120)[0] and counts(folder) == ALL


def test_a_task_that_cannot_be_done_yet_says_why_and_leaves_no_record(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "one.blocked").touch()
    assert "FAILED {'one': 'it has nothing to count with'}" in finish(folder)
    assert counts(folder)["two-second"] == 10 and not (folder / "one.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_told_to_stop_lets_its_command_save_and_ends(number, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "one-first.slow").touch()
    process = start(folder)
    wait_for(folder / "one-first.begun")
    time.sleep(0.3)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "STOPPING True" in output
    assert 0 < counts(folder)["one-first"] < 10 and counts(folder)["two-first"] == 0
    assert "failed" not in json.loads((folder / "one.json").read_text())
    (folder / "one-first.slow").unlink()
    finish(folder)
    assert counts(folder) == ALL


def test_a_failing_step_stops_its_task_alone_and_is_told_with_its_last_line(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "one-first.fails").write_text("no such file")
    output = finish(folder)
    assert "FAILED {'one': 'no such file'}" in output
    assert counts(folder) == {"one-first": 0, "one-second": 0, "two-first": 10, "two-second": 10}
    assert json.loads((folder / "one.json").read_text())["failed"] == {"step": "one-first", "line": "no such file"}
    (folder / "one-first.fails").unlink()
    finish(folder)
    assert counts(folder) == ALL and "failed" not in json.loads((folder / "one.json").read_text())


def test_a_training_that_diverged_is_not_tried_again(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "one-first.fails").write_text("training diverged at 64 images: loss=nan.")
    finish(folder)
    (folder / "one-first.fails").unlink()
    output = finish(folder)
    assert "training diverged at 64 images: loss=nan. (as before; to try again, delete" in output
    assert counts(folder)["one-first"] == 0
    (folder / "one.json").unlink()
    finish(folder)
    assert counts(folder) == ALL


def test_two_studies_of_one_machine_in_one_folder_share_the_work(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "one-first.slow").touch()
    one = start(folder)
    wait_for(folder / "one-first.begun")
    other = start(folder)
    for process in (one, other):
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0 and "FAILED {}" in output, output
    assert counts(folder) == ALL
    assert all((folder / f"{name}.begun").read_text() == "x" for name in ALL)


def test_a_lock_is_held_by_name_and_folder_until_its_last_holder_has_ended_and_leaves_no_file(tmp_path):
    from tfvae.studies import runner

    one, other = tmp_path / "one", tmp_path / "other"
    with runner.lock(one, "a") as held:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[held])
        with runner.lock(one, "a") as again, runner.lock(one, "b") as second, runner.lock(other, "a") as third:
            assert again is None and second is not None and third is not None
    with runner.lock(one, "a") as again:
        assert again is None
    child.kill()
    child.wait()
    with runner.lock(one, "a") as again:
        assert again is not None
    assert not list(one.iterdir())


@pytest.mark.parametrize(
    ("output", "code", "line"),
    [
        ("a\nerror: the disk is full.\nb\n", 1, "the disk is full."),
        ("Traceback:\n  x\nValueError: bad\n", 1, "ValueError: bad"),
        ("10 / 20 images\r20 / 20 images\n", 2, "20 / 20 images"),
        ("30 images\nE0000 00:00:17.5 26 cuda.cc:52] failed call to cuInit\n", 2, "30 images"),
        ("", 3, "it said nothing"),
        ("30 images\n", -9, "ended by SIGKILL, perhaps for want of memory; its last line: 30 images"),
    ],
)
def test_the_line_of_a_failure_is_the_one_that_says_why(output, code, line):
    from tfvae.studies import runner

    assert runner.error_line(output, code) == line


def test_the_newest_line_is_never_the_rest_of_tensorflows_notes(tmp_path):
    from tfvae.studies import runner

    log, note = tmp_path / "a.log", "I0000 00:00:1.1 1 port.cc:153] " + "oneDNN " * 100 + "\n"
    log.write_text("before\n" + 10 * note)
    assert runner._last_line(log, 0) == ""
    log.write_text("before\n20 images\n" + note)
    assert runner._last_line(log, 0) == "20 images" and runner._last_line(log, 17) == ""
