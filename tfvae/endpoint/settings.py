"""TF Serving's two text files: which models to serve (models.config), and how to batch (the batching parameters)."""

import dataclasses
import os
import pathlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from tfvae.command import UserError


@dataclasses.dataclass(frozen=True)
class Model:
    """One model to serve.

    Args:
        base_path: folder of version folders. policy: "latest", "all" or "specific".
        num_versions: of `latest`. versions: of `specific`. labels: {label: version}.
    """

    name: str
    base_path: pathlib.Path
    policy: str = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()
    labels: dict[str, int] = dataclasses.field(default_factory=dict)

    def wanted(self, found):
        """Of the versions on disk, those to serve: sorted, newest first."""
        newest_first = sorted(found, reverse=True)
        if self.policy == "latest":
            return newest_first[: self.num_versions]
        return [version for version in newest_first if self.policy == "all" or version in self.versions]


def single_model(base_path, name=None):
    """{name: Model} of --model_base_path, whose last part is the model's name unless another is given.

    Raises:
        UserError: no folder of versions is there.
    """
    path = pathlib.Path(base_path).resolve()
    if not path.is_dir():
        raise UserError(
            f"--model_base_path={base_path} is not a folder: expected the one that holds a model's versions."
        )
    if (path / "saved_model.pb").exists():
        raise UserError(
            f"--model_base_path={base_path} is itself a version: expected the folder above, {path.parent}, which names the model."
        )
    name = name or path.name
    return {name: Model(name, path)}


def read_models(file):
    """{name: Model} of a models.config.

    Raises:
        UserError: the file is not one that TF Serving would take, or asks for what the stand-in lacks.
    """
    try:
        text = pathlib.Path(file).read_text()
        server = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UserError(
            f"--model_config_file={file} cannot be read ({error}): expected a text ModelServerConfig."
        ) from error
    models = {}
    for config in server.model_config_list.config:
        where = f"--model_config_file={file}, model {config.name!r}"
        if not config.name or config.name in models:
            raise UserError(f"{where}: expected a name, and each name once.")
        if config.model_platform != "tensorflow":
            raise UserError(f"{where}: model_platform is {config.model_platform!r}, expected 'tensorflow'.")
        if not os.path.isabs(config.base_path):
            # TF Serving's rule, so that a file that works here works there.
            raise UserError(f"{where}: base_path {config.base_path!r} is not absolute: expected a path from the root.")
        policy = config.model_version_policy
        kind = policy.WhichOneof("policy_choice") or "latest"
        models[config.name] = Model(
            name=config.name,
            base_path=pathlib.Path(config.base_path),
            policy=kind,
            num_versions=max(policy.latest.num_versions, 1),
            versions=tuple(policy.specific.versions),
            labels=dict(config.version_labels),
        )
    if not models:
        raise UserError(f"--model_config_file={file} names no model: expected model_config_list {{ config {{ … }} }}.")
    return models


@dataclasses.dataclass(frozen=True)
class Batching:
    """How requests are merged, in TF Serving's words; the defaults suit a CPU.

    A batch waits for nothing but a free thread: while one runs, the next collects. On two cores one thread gave 1.4 times the
    pictures a second of two, because its batches were larger.

    Args:
        max_batch_size: rows of a batch, and of one request. batch_timeout_micros: how long a batch waits for more rows.
        max_enqueued_batches: beyond which requests are refused. num_batch_threads: batches that run at once.
        allowed_batch_sizes: to which batches are padded, the last being `max_batch_size`; none: no padding.
    """

    max_batch_size: int = 32
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 128
    num_batch_threads: int = dataclasses.field(default_factory=lambda: max(1, len(os.sched_getaffinity(0)) // 2))
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self):
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: expected 1 or more.")
        if self.batch_timeout_micros < 0:
            raise UserError(f"batch_timeout_micros is {self.batch_timeout_micros}: expected 0 or more.")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.max_batch_size):
            raise UserError(
                f"allowed_batch_sizes are {', '.join(map(str, sizes))}: expected an increasing list whose last is "
                f"max_batch_size, {self.max_batch_size}."
            )


# The fields of tensorflow_serving/servables/tensorflow/session_bundle_config.proto that the stand-in follows; the proto
# itself is not in the tensorflow-serving-api package.
_WRAPPED = {"max_batch_size": 1, "batch_timeout_micros": 2, "max_enqueued_batches": 3, "num_batch_threads": 4}


def _batching_parameters():
    """An empty BatchingParameters message."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tfvae/batching_parameters.proto",
        package="tfvae",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    message = file.message_type.add(name="BatchingParameters")
    kind = descriptor_pb2.FieldDescriptorProto
    for name, number in _WRAPPED.items():
        message.field.add(
            name=name,
            number=number,
            type=kind.TYPE_MESSAGE,
            label=kind.LABEL_OPTIONAL,
            type_name=".google.protobuf.Int64Value",
        )
    message.field.add(name="allowed_batch_sizes", number=6, type=kind.TYPE_INT64, label=kind.LABEL_REPEATED)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tfvae.BatchingParameters"))()


def read_batching(file):
    """The `Batching` of a batching parameters file; what it leaves out keeps its default.

    Raises:
        UserError: not such a file, or one with fields that the stand-in does not follow.
    """
    try:
        message = text_format.Parse(pathlib.Path(file).read_text(), _batching_parameters())
        values = {name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)}
        return Batching(**values, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
    except (OSError, UnicodeDecodeError, text_format.ParseError, UserError) as error:
        known = ", ".join([*_WRAPPED, "allowed_batch_sizes"])
        raise UserError(
            f"--batching_parameters_file={file}: {error} Expected a text BatchingParameters with some of {known}."
        ) from error
