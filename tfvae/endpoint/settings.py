"""What to serve and how: the flags, and TF Serving's two text files, models.config and the batching parameters."""

import dataclasses
import os
import pathlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from tfvae.config import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command's flags say, under their names."""

    models: dict  # {name: ModelConfig}
    model_config_file: str | None  # where they came from; read again every so many seconds, unless that is 0
    model_config_file_poll_wait_seconds: float
    batching: dict  # like DEFAULT_BATCHING
    host: str
    port: int  # gRPC's
    rest_api_port: int
    rest_api_enable_cors_support: bool
    max_body_bytes: int
    max_rows: int  # of a request
    max_concurrent_requests: int
    timeout_seconds: float  # of a request, and of those that run when the process is told to stop


def one_model(name, base_path):
    """{name: ModelConfig} of one model, its newest version. base_path: folder of its versions."""
    return {name: model_server_config_pb2.ModelConfig(name=name, base_path=str(base_path))}


def read_models(file):
    """{name: ModelConfig} of a models.config.

    Raises:
        UserError: the file is not one that TF Serving would take.
    """
    server = model_server_config_pb2.ModelServerConfig()
    _read(file, "--model_config_file", server)
    models = {}
    for config in server.model_config_list.config:
        where = f"--model_config_file={file}, model {config.name!r}"
        if not config.name or config.name in models:
            raise UserError(f"{where}: expected a name, and each name once.")
        old_form = config.model_type == model_server_config_pb2.TENSORFLOW and not config.model_platform
        if config.model_platform != "tensorflow" and not old_form:
            raise UserError(f"{where}: model_platform is {config.model_platform!r}, expected 'tensorflow'.")
        if not os.path.isabs(config.base_path):
            # TF Serving's rule, so that a file that works here works there.
            raise UserError(f"{where}: base_path {config.base_path!r} is not absolute: expected a path from the root.")
        models[config.name] = config
    if not models:
        raise UserError(f"--model_config_file={file} names no model: expected model_config_list {{ config {{ … }} }}.")
    return models


def wanted_versions(config, found):
    """Of the versions on disk, those that a ModelConfig asks for: newest first."""
    policy, newest_first = config.model_version_policy, sorted(found, reverse=True)
    if policy.HasField("all"):
        return newest_first
    if policy.HasField("specific"):
        return [version for version in newest_first if version in policy.specific.versions]
    return newest_first[: max(policy.latest.num_versions, 1)]


# How requests are merged: TF Serving's names, which are also the arguments of `tf.nondifferentiable_batch_function`. Rows of a
# batch and of one request; wait for more rows; waiting batches, beyond which requests are refused; batches that run at once;
# sizes to which batches are padded. These suit a CPU: a batch waits for nothing but a free thread, and while one runs, the next
# collects. On two cores one thread gave 1.4 times the pictures per second of two, because its batches were larger.
DEFAULT_BATCHING = {
    "max_batch_size": 32,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 128,
    "num_batch_threads": max(1, len(os.sched_getaffinity(0)) // 2),
    "allowed_batch_sizes": None,
}

# TF Serving's session_bundle_config.proto, in so far as the stand-in follows it; the tensorflow-serving-api package has no class
# for it.
_BATCHING_PROTO = """
name: "batching_parameters.proto"
syntax: "proto3"
message_type { name: "Integer" field { name: "value" number: 1 type: TYPE_INT64 } }
message_type {
  name: "BatchingParameters"
  field { name: "max_batch_size" number: 1 type: TYPE_MESSAGE type_name: ".Integer" }
  field { name: "batch_timeout_micros" number: 2 type: TYPE_MESSAGE type_name: ".Integer" }
  field { name: "max_enqueued_batches" number: 3 type: TYPE_MESSAGE type_name: ".Integer" }
  field { name: "num_batch_threads" number: 4 type: TYPE_MESSAGE type_name: ".Integer" }
  field { name: "allowed_batch_sizes" number: 6 type: TYPE_INT64 label: LABEL_REPEATED }
}
"""


def read_batching(file):
    """The batching parameters in a file, a dict like `DEFAULT_BATCHING`, from which it takes what the file leaves out.

    Raises:
        UserError: not such a file, or one with values that no server takes or fields that the stand-in does not follow.
    """
    pool, proto = (
        descriptor_pool.DescriptorPool(),
        text_format.Parse(_BATCHING_PROTO, descriptor_pb2.FileDescriptorProto()),
    )
    pool.AddSerializedFile(proto.SerializeToString())
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()
    _read(file, "--batching_parameters_file", message)
    sizes, where = list(message.allowed_batch_sizes), f"--batching_parameters_file={file}"
    integers = {field.name: value.value for field, value in message.ListFields() if field.message_type}
    for name, value in integers.items():
        least = 0 if name == "batch_timeout_micros" else 1
        if value < least:
            raise UserError(f"{where}: {name} is {value}, expected {least} or more.")
    batching = DEFAULT_BATCHING | integers | {"allowed_batch_sizes": sizes or None}
    most = batching["max_batch_size"]
    if sizes and (sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != most):
        raise UserError(f"{where}: allowed_batch_sizes are {sizes}, expected to increase up to max_batch_size, {most}.")
    return batching


def _read(file, flag, message):
    """Reads a text proto into a message. flag: that names the file. Raises: UserError."""
    try:
        text_format.Parse(pathlib.Path(file).read_text(), message)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        kind = message.DESCRIPTOR.name
        raise UserError(f"{flag}={file} cannot be read ({error}): expected a text {kind} as in serving/.") from error
