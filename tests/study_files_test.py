"""The files that hand a study to Slurm and to Kubernetes, with stand-ins for `sbatch` and for the study's command."""

import copy
import os
import pathlib
import re
import subprocess

import pytest

from tfvae.studies import plan, tasks, work

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"

# Instead of `python -m tfvae.study`: notes its arguments, one a line and a line "." after them; --list prints the list.
PYTHON = """#!/usr/bin/env bash
if [[ "$*" == *--list ]]; then cat "$LIST"; else printf '%s\\n' "$@" . >>"$CALLS"; fi
"""
# Instead of sbatch: notes its options in one line, runs the script for each task, and answers as one of several clusters does.
SBATCH = """#!/usr/bin/env bash
script=$(cat)
echo "sbatch $*" >>"$CALLS"
array=$(grep -oP '(?<=--array=0-)\\d+' <<<"$*" || true)
for i in $(seq 0 "${array:-0}"); do SLURM_ARRAY_TASK_ID=${array:+$i} bash -c "$script" >&2; done
echo "$(grep -c '^sbatch' "$CALLS");cluster"
"""
STUDY = """\
classifier-cifar10\tmissing\twaits for: nothing
classifier-lfw\tdone\twaits for: nothing
calibration-cifar10\tmissing\twaits for: classifier-cifar10
gan\tdone\twaits for: classifier-cifar10
vae\tmissing\twaits for: classifier-lfw
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs a command with the stand-ins on PATH: (its result, the lines that they noted)."""
    for name, text in (("python", PYTHON), ("sbatch", SBATCH)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(*command, listed=STUDY, **environment):
        (tmp_path / "list").write_text(listed)
        (tmp_path / "calls").write_text("")
        places = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LIST": str(tmp_path / "list")}
        places["CALLS"] = str(tmp_path / "calls")
        result = subprocess.run(
            command, env=os.environ | places | environment, capture_output=True, text=True, timeout=60
        )
        return result, (tmp_path / "calls").read_text().splitlines()

    return run


# Slurm.


def test_slurm_gets_classifiers_then_experiments_then_the_report_each_after_the_one_before(run):
    result, calls = run("bash", SCRIPTS / "study_slurm.sh", "--output_dir=/shared/a study", "--note=it's one")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "classifiers: job 1, 1 tasks: classifier-cifar10",
        "experiments: job 2, 2 tasks: calibration-cifar10 vae",
        "report: job 3",
    ]
    jobs = [line.split() for line in calls if line.startswith("sbatch")]
    assert [[o for o in job if o.startswith(("--array", "--dependency"))] for job in jobs] == [
        ["--array=0-0"],
        ["--array=0-1", "--dependency=afterany:1"],
        ["--dependency=afterany:2"],
    ]
    assert all({"--parsable", f"--chdir={ROOT}", "--signal=B:TERM@180"} <= set(job) for job in jobs)
    flags = ["-m", "tfvae.study", "--output_dir=/shared/a study", "--note=it's one"]
    done = "\n".join(line for line in calls if not line.startswith("sbatch")).removesuffix("\n.").split("\n.\n")
    assert [one.splitlines() for one in done] == [
        [*flags, "--work=classifier-cifar10"],
        [*flags, "--work=calibration-cifar10"],
        [*flags, "--work=vae"],
        [*flags, "--report_only"],
    ]


def test_slurm_gets_what_is_missing_alone(run):
    listed = STUDY.replace("missing", "done")
    result, calls = run("bash", SCRIPTS / "study_slurm.sh", "--flagfile=study.cfg", listed=listed)
    assert result.stdout.splitlines() == ["report: job 1"] and "--dependency" not in calls[0]
    listed = listed.replace("vae\tdone", "vae\tmissing")
    result, calls = run("bash", SCRIPTS / "study_slurm.sh", "--flagfile=study.cfg", listed=listed)
    assert result.stdout.splitlines() == ["experiments: job 1, 1 tasks: vae", "report: job 2"]


def test_where_the_study_or_slurm_refuses_nothing_more_is_submitted(run, tmp_path):
    result, calls = run("bash", SCRIPTS / "study_slurm.sh", PYTHON="no_such_python")
    assert result.returncode == 1 and "expected PYTHON=/path/to/python" in result.stderr and not calls
    (tmp_path / "python").write_text("#!/usr/bin/env bash\necho 'error: no --experiment given' >&2\nexit 1\n")
    result, calls = run("bash", SCRIPTS / "study_slurm.sh")
    assert result.returncode == 1 and "no --experiment given" in result.stderr and not calls
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "sbatch").write_text("#!/usr/bin/env bash\necho x >>$CALLS\necho 'no such partition' >&2\nexit 1\n")
    result, calls = run("bash", SCRIPTS / "study_slurm.sh", "--flagfile=study.cfg")
    assert result.returncode == 1 and "no such partition" in result.stderr and calls == ["x"]


# Kubernetes.


@pytest.fixture(scope="module")
def kubernetes():
    """{(kind, stage): object}."""
    yaml = pytest.importorskip("yaml")
    parts = yaml.safe_load_all((SCRIPTS / "study_kubernetes.yaml").read_text())
    return {(part["kind"], part["metadata"]["labels"]["stage"]): part for part in parts}


def flags_of(text):
    """(name, value) of a flagfile's lines and of those that it names."""
    lines = re.findall(r"^--(\w+)=(.*)$", text, re.MULTILINE)
    for name, value in list(lines):
        if name == "flagfile":
            lines += flags_of((ROOT / value).read_text())
    return lines


@pytest.fixture(scope="module")
def listed(kubernetes, tmp_path_factory):
    """What --list prints of the study in the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # flagfiles name others by their path from there
        lines = flags_of(kubernetes["ConfigMap", "setup"]["data"]["study.cfg"])
        experiments = plan.read_experiments([value for name, value in lines if name == "experiment"], "full", {})
    output = tmp_path_factory.mktemp("study")
    study = plan.Study(experiments, {}, "full", output, {"": "x"}, "classifier", {}, 10_000, 3, ("main",), 10)
    return work.listing(tasks.of_study(study, study.experiments))


def test_the_kubernetes_objects_are_what_their_stages_and_names_say(kubernetes):
    stages = ["classifiers", "experiments", "report"]
    assert set(kubernetes) == {
        ("PersistentVolumeClaim", "setup"),
        ("ConfigMap", "setup"),
        *(("Job", s) for s in stages),
    }
    pods = []
    for stage in stages:
        job = copy.deepcopy(kubernetes["Job", stage])
        assert job["apiVersion"] == "batch/v1" and job["metadata"]["name"] == f"tfvae-study-{stage}"
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"].pop() == stage
        assert container["resources"]["limits"].pop("nvidia.com/gpu", None) == (None if stage == "report" else 1)
        assert pod["restartPolicy"] == "Never"  # an indexed Job's failures are counted by pods
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        pods.append(pod)
    assert pods[0] == pods[1] == pods[2]
    volumes = {volume.pop("name"): volume for volume in pods[0]["volumes"]}
    config, claim = (kubernetes[kind, "setup"] for kind in ("ConfigMap", "PersistentVolumeClaim"))
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
    assert volumes["study"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    folder, file = os.path.split(container["command"][1])
    assert folder == container["volumeMounts"][0]["mountPath"] and file in config["data"]


def test_the_flags_in_the_kubernetes_file_are_the_studys_and_its_folders_on_the_shared_volume(kubernetes):
    text = kubernetes["ConfigMap", "setup"]["data"]["study.cfg"]
    known = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "tfvae" / "study.py").read_text())) | {"flagfile"}
    assert {name for name, _ in flags_of(text)} <= known
    assert all("/study/" in value for name, value in flags_of(text) if name.endswith("_dir"))
    assert all(line.startswith("--") for line in text.splitlines())


def test_the_indexed_jobs_do_every_task_of_the_list_once(kubernetes, listed, run, tmp_path):
    names, script = [], tmp_path / "task.sh"
    script.write_text(kubernetes["ConfigMap", "setup"]["data"]["task.sh"])
    for stage in ("classifiers", "experiments"):
        spec = kubernetes["Job", stage]["spec"]
        assert spec["completionMode"] == "Indexed" and spec["maxFailedIndexes"] == spec["completions"]
        for index in range(spec["completions"]):
            result, calls = run("bash", script, stage, listed=listed + "\n", JOB_COMPLETION_INDEX=str(index))
            assert result.returncode == 0, result.stderr
            assert calls[:3] == ["-m", "tfvae.study", "--flagfile=/config/study.cfg"] and calls[4:] == ["."]
            names.append(calls[3].removeprefix("--work="))
    assert names == [line.split("\t")[0] for line in listed.splitlines()]
    assert run("bash", script, "report")[1][3:] == ["--report_only", "."]
