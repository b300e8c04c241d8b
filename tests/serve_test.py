"""`python -m tfvae.serve`: which server it becomes, with which flags, and what it says of mistakes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from absl import flags
from absl.testing import flagsaver
from endpoint_toys import free_port, saved, wait_for

from tfvae.command import UserError

ROOT = Path(__file__).resolve().parent.parent
# Writes its arguments, as TF Serving would get them.
RECORDER = (
    f"#!{sys.executable}\nimport json, os, sys\njson.dump(sys.argv[1:], open(os.environ['RECORD'], 'w'))\nsys.exit(7)\n"
)


def start(*given, **environment):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tfvae.serve", *map(str, given)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def main():
    """A function: the command's main in this process, from its flags."""

    def run(*given):
        from tfvae import serve as command

        with flagsaver.flagsaver():
            flags.FLAGS(["serve", *map(str, given)])
            command.main(["serve"])

    return run


@pytest.fixture
def exported(tmp_path):
    """A model's folder, with nothing in it."""
    (tmp_path / "published" / "gan").mkdir(parents=True)
    return tmp_path / "published" / "gan"


@pytest.fixture
def model_server(tmp_path, monkeypatch):
    """A tensorflow_model_server on PATH that records its arguments."""
    program = tmp_path / "bin" / "tensorflow_model_server"
    program.parent.mkdir()
    program.write_text(RECORDER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return str(program)


def test_it_becomes_tf_serving_where_that_is_on_path(exported, model_server, tmp_path):
    given = [f"--model_base_path={exported}", "--port=9000", "--rest_api_port=9001", "--timeout_seconds=1.5"]
    process = start(*given, RECORD=str(tmp_path / "record.json"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 7, err  # the program's own
    assert json.loads((tmp_path / "record.json").read_text()) == [
        "--port=9000",
        "--rest_api_port=9001",
        "--rest_api_timeout_in_ms=1500",
        "--enable_batching=true",
        "--model_name=gan",
        f"--model_base_path={exported}",
    ]
    assert out.startswith("TF Serving: ")
    assert "every address" in out


def test_a_config_of_several_models_and_batching_go_to_tf_serving_by_their_full_paths(
    main, model_server, tmp_path, monkeypatch
):
    for name in ("models.config", "batching.txt"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    executed = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: executed.append((program, arguments)))
    main(
        "--model_config_file=models.config",
        "--batching_parameters_file=batching.txt",
        "--model_config_file_poll_wait_seconds=5",
        "--rest_api_enable_cors_support",
        "--server=tensorflow_model_server",
    )
    arguments = [
        model_server,
        "--port=8500",
        "--rest_api_port=8501",
        "--rest_api_timeout_in_ms=30000",
        "--enable_batching=true",
        f"--model_config_file={tmp_path / 'models.config'}",
        "--model_config_file_poll_wait_seconds=5",
        "--allow_version_labels_for_unavailable_models=true",
        f"--batching_parameters_file={tmp_path / 'batching.txt'}",
        "--rest_api_enable_cors_support=true",
    ]
    assert executed == [(model_server, arguments)]


def test_a_flag_that_tf_serving_lacks_is_not_dropped_in_silence(main, exported, model_server):
    with pytest.raises(UserError, match="--host is the stand-in's, TF Serving has no such flag"):
        main(f"--model_base_path={exported}", "--host=127.0.0.1")


@pytest.mark.parametrize("name", ["a [2]", "a*", "what?", "back\\slash"])
def test_a_path_that_tf_serving_takes_for_a_pattern_is_refused_for_it_alone(name, main, model_server, tmp_path):
    (tmp_path / name / "gan").mkdir(parents=True)
    given = f"--model_base_path={tmp_path / name / 'gan'}"
    with pytest.raises(
        UserError, match="TF Serving takes brackets, .* expected a path without them, or --server=stand_in"
    ):
        main(given)
    with pytest.raises(UserError, match="--host=no.such.host.invalid|on no.such.host.invalid cannot be opened"):
        main(given, "--server=stand_in", "--host=no.such.host.invalid")


def test_the_models_config_is_read_again_from_where_it_was_found(tmp_path, monkeypatch):
    from tfvae import serve as command

    monkeypatch.setenv("HOME", str(tmp_path))
    model = f"config {{ name: 'gan' base_path: '{tmp_path}' model_platform: 'tensorflow' }}"
    (tmp_path / "models.config").write_text(f"model_config_list {{ {model} }}")
    with flagsaver.flagsaver():
        flags.FLAGS(["serve", "--model_config_file=~/models.config"])
        assert command.stand_in_options().model_config_file == tmp_path / "models.config"


@pytest.mark.parametrize("server", ["tensorflow_model_server", "stand_in"])
def test_a_version_is_not_taken_for_the_folder_of_a_model(main, exported, model_server, server):
    (exported / "1").mkdir()
    (exported / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(
        UserError, match="is itself a version: expected the folder above, .*/published/gan, which names"
    ):
        main(f"--model_base_path={exported / '1'}", f"--server={server}")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([], "expected one of --model_base_path=FOLDER and --model_config_file=FILE"),
        (["--model_base_path=X", "--model_config_file=Y"], "expected one of --model_base_path"),
        (["--model_config_file=Y", "--model_name=gan"], "--model_name goes with --model_base_path"),
        (["--model_base_path=/nowhere"], "--model_base_path=/nowhere is not a folder"),
        (["--model_config_file=/nowhere"], "--model_config_file=/nowhere is not a file"),
        (
            ["--model_base_path=X", "--batching_parameters_file=/nowhere"],
            "--batching_parameters_file=/nowhere is not a",
        ),
        (
            ["--model_base_path=X", "--max_rows=33"],
            "--max_rows=33: expected at most max_batch_size of the batching, 32",
        ),
        (["--model_base_path=X", "--server=tensorflow_model_server"], "it is not on PATH"),
        (["--model_base_path=X", "--host=no.such.host.invalid"], "on no.such.host.invalid cannot be opened"),
    ],
)
def test_a_mistake_is_said_in_one_sentence(main, given, line, exported):
    with pytest.raises(UserError) as raised:
        main(*[flag.replace("=X", f"={exported}") for flag in given])
    assert line in str(raised.value)


def test_a_port_out_of_range_is_refused(main, exported):
    with pytest.raises(flags.IllegalFlagValueError, match="--port=0"):
        main(f"--model_base_path={exported}", "--port=0")


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_port_in_use_is_said_in_one_sentence(main, flag, exported):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ports = {"port": free_port(), "rest_api_port": free_port()} | {flag: listener.getsockname()[1]}
        with pytest.raises(UserError) as raised:
            main(f"--model_base_path={exported}", *[f"--{name}={port}" for name, port in ports.items()])
    assert f"--{flag}={ports[flag]} on 127.0.0.1 cannot be opened (Address already in use)" in str(raised.value)


def test_a_model_is_named_after_its_folder_or_by_its_flag(exported):
    from tfvae import serve as command

    for given, name in (([], "gan"), (["--model_name=other"], "other")):
        with flagsaver.flagsaver():
            flags.FLAGS(["serve", f"--model_base_path={exported}", *given])
            options = command.stand_in_options()
        assert {name: config.base_path for name, config in options.models.items()} == {name: str(exported)}
        assert (options.max_rows, options.batching["max_batch_size"]) == (32, 32)


def test_the_stand_in_serves_until_it_is_told_to_stop_and_finishes_what_runs(tmp_path):
    shutil.copytree(saved(1), tmp_path / "toy" / "1")
    port, rest_port = free_port(), free_port()
    given = [f"--model_base_path={tmp_path / 'toy'}", f"--port={port}", f"--rest_api_port={rest_port}"]
    address = f"http://127.0.0.1:{rest_port}/v1/models/toy"
    process = start(*given)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(line.rstrip() for line in process.stdout))
    reader.start()
    try:
        wait_for(lambda: "toy version 1: AVAILABLE" in lines)
        answers = []
        body = {"signature_name": "wait", "inputs": [str(tmp_path / "file")]}
        slow = threading.Thread(
            target=lambda: answers.append(requests.post(f"{address}:predict", json=body, timeout=60))
        )
        slow.start()
        metrics = f"http://127.0.0.1:{rest_port}/monitoring/prometheus/metrics"
        wait_for(lambda: "tfvae_running_requests 1.0" in requests.get(metrics, timeout=60).text)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Stopping: 1 request(s) still run" in lines)
        (tmp_path / "file").touch()
        assert process.wait(60) == 0
        slow.join(60)
        reader.join(60)
    finally:
        process.kill()
    assert len(answers[0].json()["outputs"]) == 1
    assert lines == [
        "stand-in for TF Serving (tensorflow_model_server is not on PATH): for development and tests",
        f"REST {address}",
        f"gRPC 127.0.0.1:{port}",
        "toy version 1: AVAILABLE",
        "Stopping: 1 request(s) still run",
        "toy version 1: released",
        "Stopped.",
    ]
    assert "Traceback" not in process.stderr.read()


def test_the_process_ends_with_one_line_and_no_traceback(exported):
    process = start(f"--model_base_path={exported / '1'}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.startswith("stand-in for TF Serving")
    assert f"error: --model_base_path={exported / '1'} is not a folder" in err
    assert "Traceback" not in err
