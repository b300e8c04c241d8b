"""What to serve and how: the flags, and TF Serving's two text files, models.config and the batching parameters."""

import dataclasses
import os
import pathlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from tfvae import command
from tfvae.command import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command's flags say, under their names."""

    models: dict  # {name: ModelConfig}
    model_config_file: pathlib.Path | None  # where they came from; read again after each interval, unless that is 0
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
    """{name: ModelConfig} of a models.config. Raises: UserError: TF Serving would not take it."""
    server = model_server_config_pb2.ModelServerConfig()
    _read(file, "--model_config_file", server)
    models = {}
    for config in server.model_config_list.config:
        old_form = config.model_type == model_server_config_pb2.TENSORFLOW and not config.model_platform
        known = config.model_platform == "tensorflow" or old_form
        config.base_path = str(command.path(f"model_config_file={file}: base_path", config.base_path))
        if not config.name or config.name in models or not known or not os.path.isabs(config.base_path):
            raise UserError(
                f"--model_config_file={file}, model {config.name!r}: expected a name that no other model has, model_platform: "
                "'tensorflow', and a base_path that begins with / or ~."
            )
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


# How requests are merged: TF Serving's names, which are also the arguments of `tf.nondifferentiable_batch_function`. For a CPU:
# a batch waits for nothing but a free thread, and while one runs, the next collects. On two cores one thread gave 1.4 times
# the pictures per second of two, because its batches were larger.
DEFAULT_BATCHING = {
    "max_batch_size": 32,  # rows of a batch, and of one request
    "batch_timeout_micros": 0,  # how long a batch waits for more rows
    "max_enqueued_batches": 128,  # beyond which requests are refused
    "num_batch_threads": max(1, len(os.sched_getaffinity(0)) // 2),  # batches that run at once
    "allowed_batch_sizes": None,  # to which batches are padded, the last being max_batch_size; None: no padding
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
    """`DEFAULT_BATCHING` with the parameters of a file in their places. Raises: UserError: bad values or unknown fields."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(text_format.Parse(_BATCHING_PROTO, descriptor_pb2.FileDescriptorProto()).SerializeToString())
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()
    _read(file, "--batching_parameters_file", message)
    integers = {field.name: value.value for field, value in message.ListFields() if field.message_type}
    batching, sizes = DEFAULT_BATCHING | integers, list(message.allowed_batch_sizes)
    wrong = [name for name, value in integers.items() if value < (0 if name == "batch_timeout_micros" else 1)]
    if sizes:
        batching["allowed_batch_sizes"] = sizes
        if sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != batching["max_batch_size"]:
            wrong.append("allowed_batch_sizes")
    if wrong:
        raise UserError(
            f"--batching_parameters_file={file}: {', '.join(wrong)}: expected 1 or more, 0 or more for batch_timeout_micros, "
            "and allowed_batch_sizes that rise to max_batch_size."
        )
    return batching


def _read(file, flag, message):
    """Reads a text proto into a message. flag: that names the file. Raises: UserError."""
    try:
        text_format.Parse(pathlib.Path(file).read_text(), message)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        kind = message.DESCRIPTOR.name
        raise UserError(f"{flag}={file} cannot be read ({error}): expected a text {kind} as in serving/.") from error
