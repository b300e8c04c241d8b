"""The files for TF Serving: read as the server reads them, and of one mind with each other."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_endpoint import FakeEndpoint, FakeModel
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from tfvae.data import shapes
from tfvae.publishing import writing

ROOT = Path(__file__).resolve().parent.parent
SERVING = ROOT / "serving"

# The flags of tensorflow_model_server that the files use, as its --help spells them.
FLAGS = {
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "monitoring_config_file",
    "rest_api_enable_cors_support",
    "rest_api_timeout_in_ms",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
}


def message_class(name, fields, nested=None):
    """A message of TF Serving's that the tensorflow-serving-api package does not bring: {field: (number, type)}."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto",
        package="written_for_the_test",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for message_name, message_fields in ({name: fields} | (nested or {})).items():
        message = file.message_type.add(name=message_name)
        for field, (number, kind) in message_fields.items():
            plain = {"repeated int64": kinds.TYPE_INT64, "bool": kinds.TYPE_BOOL, "string": kinds.TYPE_STRING}
            message.field.add(
                name=field,
                number=number,
                label=kinds.LABEL_REPEATED if kind.startswith("repeated") else kinds.LABEL_OPTIONAL,
                type=plain.get(kind, kinds.TYPE_MESSAGE),
                type_name=None if kind in plain else kind,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"written_for_the_test.{name}"))


@pytest.fixture(scope="module")
def models():
    """{name: ModelConfig} of models.config, by the official proto."""
    model_server_config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = (SERVING / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {model.name: model for model in parsed.model_config_list.config}


@pytest.fixture(scope="module")
def yaml():
    return pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def compose(yaml):
    return yaml.safe_load((SERVING / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def kubernetes(yaml):
    """{kind: object}."""
    return {part["kind"]: part for part in yaml.safe_load_all((SERVING / "kubernetes.yaml").read_text())}


@pytest.fixture(scope="module")
def container(kubernetes):
    (only,) = kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


def test_models_are_a_gan_and_a_vae_with_named_versions_and_labels(models):
    assert set(models) == {"cifar10_gan", "cifar10_vae"}
    for name, model in models.items():
        assert model.base_path == f"/models/{name}"  # absolute, as the server demands, and the name that clients use
        assert model.model_platform == "tensorflow"
        versions = set(model.model_version_policy.specific.versions)
        assert versions and model.version_labels and set(model.version_labels.values()) <= versions


def test_batching_sizes_increase_to_the_largest_batch_and_are_those_that_a_version_warms_up_at():
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    integer = ".google.protobuf.Int64Value"
    parameters = message_class(
        "BatchingParameters",
        {
            "max_batch_size": (1, integer),
            "batch_timeout_micros": (2, integer),
            "max_enqueued_batches": (3, integer),
            "num_batch_threads": (4, integer),
            "allowed_batch_sizes": (6, "repeated int64"),
        },
    )
    parsed = text_format.Parse((SERVING / "batching.txt").read_text(), parameters())
    sizes = list(parsed.allowed_batch_sizes)
    assert sizes == sorted(set(sizes)) and sizes[-1] == parsed.max_batch_size.value
    assert parsed.num_batch_threads.value >= 1 and parsed.max_enqueued_batches.value >= 1

    assert tuple(sizes) == tuple(writing.WARMUP_ROWS)


def test_no_client_sends_more_rows_than_the_largest_batch():
    largest = int(re.search(r"max_batch_size \{ value: (\d+) \}", (SERVING / "batching.txt").read_text()).group(1))
    assert int(re.search(r"^MOST_ROWS = (\d+)", (SERVING / "client.py").read_text(), re.M).group(1)) == largest
    assert int(re.search(r"MOST_ROWS = (\d+);", (SERVING / "page/endpoint.js").read_text()).group(1)) == largest


def test_monitoring_is_read_as_the_server_reads_it_and_scraped_where_it_is(kubernetes):
    # tensorflow_serving/config/monitoring_config.proto
    monitoring = message_class(
        "MonitoringConfig",
        {"prometheus_config": (1, ".written_for_the_test.PrometheusConfig")},
        {"PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")}},
    )
    parsed = text_format.Parse((SERVING / "monitoring.txt").read_text(), monitoring())
    assert parsed.prometheus_config.enable
    notes = kubernetes["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/path"] == parsed.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_compose_and_kubernetes_start_the_server_with_files_that_are_mounted(compose, container):
    for arguments, mounted in (
        (compose["services"]["serving"]["command"], compose["services"]["serving"]["volumes"]),
        (container["args"], [mount["mountPath"] for mount in container["volumeMounts"]]),
    ):
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
        assert set(flags) <= FLAGS and all(argument.startswith("--") for argument in arguments)
        assert flags["enable_batching"] == "true"  # the server refuses a batching file without it
        for name in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
            folder, file = os.path.split(flags[name])
            assert folder == "/config" and (SERVING / file).is_file()
        assert any("/config" in mount for mount in mounted) and any("/models" in mount for mount in mounted)
    assert "rest_api_enable_cors_support=true" in " ".join(compose["services"]["serving"]["command"])


def test_both_start_one_pinned_image(compose, container):
    image = compose["services"]["serving"]["image"]
    assert re.fullmatch(r"tensorflow/serving:\$\{TF_SERVING_TAG:-(\d+\.\d+\.\d+)\}", image)
    assert container["image"] == image.replace("${TF_SERVING_TAG:-", "").rstrip("}")
    assert re.fullmatch(r"nginx:\d+\.\d+\.\d+-alpine", compose["services"]["page"]["image"])


def test_compose_listens_on_this_machine_alone_and_its_folders_are_there(compose):
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        folders = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith("$")]
        assert folders and all((SERVING / folder).is_dir() for folder in folders)


def test_the_names_are_the_same_everywhere(models, compose, container):
    assert set(compose["services"]["serving"]["healthcheck"]["test"][3:]) == set(models)
    for probe in ("startupProbe", "readinessProbe"):
        command = container[probe]["exec"]["command"]
        assert command[:2] == ["bash", "/config/ready.sh"] and set(command[2:]) == set(models)
    listed = json.loads((SERVING / "page/models.json").read_text())
    assert set(models) <= set(listed) and list(listed)[:2] == list(models)  # the page opens with these two
    assert all(set(entry) == {"title", "class_names"} and entry["title"] for entry in listed.values())
    names = [listed[name]["class_names"] for name in models]
    assert names[0] == names[1] and len(names[0]) == 10
    assert all(listed[f"shapes_{kind}"]["class_names"] == list(shapes.SHAPE_NAMES) for kind in ("gan", "vae"))


def test_the_kubernetes_objects_belong_together(kubernetes, container, yaml):
    kustomization = yaml.safe_load((SERVING / "kustomization.yaml").read_text())
    deployment = kubernetes["Deployment"]["spec"]["template"]
    volumes = {volume["name"]: volume for volume in deployment["spec"]["volumes"]}
    (generated,) = kustomization["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    assert all((SERVING / file).is_file() for file in generated["files"])
    assert {"models.config", "batching.txt", "monitoring.txt", "ready.sh"} == set(generated["files"])
    assert kustomization["resources"] == ["kubernetes.yaml"]
    claim = kubernetes["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)

    labels = deployment["metadata"]["labels"]
    assert kubernetes["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert kubernetes["Service"]["spec"]["selector"] == labels
    assert kubernetes["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = kubernetes["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", kubernetes["Deployment"]["metadata"]["name"])
    assert "replicas" not in kubernetes["Deployment"]["spec"]  # the autoscaler's
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in kubernetes["Service"]["spec"]["ports"]} <= ports
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports
    assert set(container["resources"]) == {"requests", "limits"}


def test_kserve_serves_the_same_models_from_the_same_volume_by_the_same_image(models, kubernetes, container, yaml):
    services = list(yaml.safe_load_all((SERVING / "kserve.yaml").read_text()))
    assert [service["kind"] for service in services] == ["InferenceService"] * len(models)
    claim = kubernetes["PersistentVolumeClaim"]["metadata"]["name"]
    for service, name in zip(services, models):
        predictor = service["spec"]["predictor"]["model"]
        assert service["metadata"]["name"] == name.replace("_", "-")  # Kubernetes refuses underscores
        assert predictor["modelFormat"] == {"name": "tensorflow"}
        assert f"tensorflow/serving:{predictor['runtimeVersion']}" == container["image"]
        assert predictor["storageUri"] == f"pvc://{claim}/{name}"
        assert {argument.removeprefix("--").split("=")[0] for argument in predictor["args"]} <= FLAGS
        assert predictor["resources"] == container["resources"]


def test_kustomize_builds_it(yaml):
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    built = subprocess.run(["kubectl", "kustomize", SERVING], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    parts = {part["kind"]: part for part in yaml.safe_load_all(built.stdout)}
    assert parts["ConfigMap"]["data"]["models.config"] == (SERVING / "models.config").read_text()


def ready(port, *models):
    return subprocess.run(
        ["bash", SERVING / "ready.sh", *models],
        env=os.environ | {"REST_API_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_ready_means_that_every_model_has_an_available_version():
    with FakeEndpoint({"one": FakeModel(), "two": FakeModel()}) as endpoint:
        port = endpoint.server.server_port
        assert ready(port, "one", "two").returncode == 0
        half = ready(port, "one", "half")
        assert half.returncode == 1 and "half is not available: " in half.stdout and "Could not find" in half.stdout
        endpoint.versions = {1: "LOADING"}
        assert ready(port, "one").returncode == 1  # though the answer is a 200
        endpoint.versions = {1: "UNLOADING", 2: "AVAILABLE"}
        assert ready(port, "one").returncode == 0
    assert ready(port, "one").returncode == 1
