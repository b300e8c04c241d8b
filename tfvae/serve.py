"""Serves published models on TF Serving's REST and gRPC API: by TF Serving where it is installed, else by a local stand-in.

python -m tfvae.serve --model_base_path=published/shapes_gan
python -m tfvae.serve --model_config_file=serving/models.config --batching_parameters_file=serving/batching.txt

Where tensorflow_model_server is on PATH, this process becomes it. The stand-in is for development and tests: one Python
process with the same API, batching and versions, on this machine's loopback address unless --host says otherwise.
"""

import os
import shutil
import socket

from absl import flags

from tfvae import command

MODEL_SERVER = "tensorflow_model_server"

MODEL_BASE_PATH = flags.DEFINE_string(
    "model_base_path",
    None,
    "Folder of a model's versions, as tfvae.export leaves it; its last part is the model's name.",
)
MODEL_NAME = flags.DEFINE_string("model_name", None, "Another name for that model.")
MODEL_CONFIG_FILE = flags.DEFINE_string(
    "model_config_file", None, "In place of --model_base_path: TF Serving's text ModelServerConfig, for several models."
)
MODEL_CONFIG_FILE_POLL_WAIT_SECONDS = flags.DEFINE_integer(
    "model_config_file_poll_wait_seconds", 0, "Read that file again after this time; 0: never.", lower_bound=0
)
BATCHING_PARAMETERS_FILE = flags.DEFINE_string(
    "batching_parameters_file", None, "TF Serving's text BatchingParameters. Default: the server's own."
)
SERVER = flags.DEFINE_enum(
    "server",
    "auto",
    ["auto", MODEL_SERVER, "stand_in"],
    f"{MODEL_SERVER}: TF Serving, from PATH; stand_in: the local one; auto: TF Serving if it is there.",
)
PORT = flags.DEFINE_integer("port", 8500, "Of the gRPC API.", lower_bound=1, upper_bound=65535)
REST_API_PORT = flags.DEFINE_integer(
    "rest_api_port", 8501, "Of the REST API and the metrics.", lower_bound=1, upper_bound=65535
)
CORS = flags.DEFINE_boolean(
    "rest_api_enable_cors_support", False, "Let web pages that are served from elsewhere use the REST API."
)
TIMEOUT_SECONDS = flags.DEFINE_float(
    "timeout_seconds", 30.0, "Longest time of a request; gRPC clients may set less.", lower_bound=0.001
)
HOST = flags.DEFINE_string("host", "127.0.0.1", "Stand-in: address to listen on; 0.0.0.0: all of this machine's.")
MAX_BODY_BYTES = flags.DEFINE_integer(
    "max_body_bytes", 32 << 20, "Stand-in: largest request, bytes, after unpacking.", lower_bound=1
)
MAX_ROWS = flags.DEFINE_integer(
    "max_rows", None, "Stand-in: most rows of a request. Default: max_batch_size of the batching.", lower_bound=1
)
MAX_CONCURRENT_REQUESTS = flags.DEFINE_integer(
    "max_concurrent_requests", 128, "Stand-in: requests that may run at once.", lower_bound=1
)

STAND_IN_ONLY = ("host", "max_body_bytes", "max_rows", "max_concurrent_requests")


def main(argv):
    if bool(MODEL_BASE_PATH.value) == bool(MODEL_CONFIG_FILE.value):
        raise command.UserError("expected one of --model_base_path=FOLDER and --model_config_file=FILE.")
    if MODEL_CONFIG_FILE.value and MODEL_NAME.value:
        raise command.UserError(
            "--model_name goes with --model_base_path: in --model_config_file each model has its name."
        )
    program = None if SERVER.value == "stand_in" else shutil.which(MODEL_SERVER)
    if SERVER.value == MODEL_SERVER and program is None:
        raise command.UserError(
            f"--server={MODEL_SERVER}: it is not on PATH. Install TF Serving, or give --server=stand_in."
        )
    if program:
        become_model_server(program)
    else:
        run_stand_in()


def become_model_server(program):
    """Replaces this process by TF Serving."""
    given = [name for name in STAND_IN_ONLY if flags.FLAGS[name].present]
    if given:
        raise command.UserError(
            f"--{given[0]} is the stand-in's, TF Serving has no such flag: leave it out, or give --server=stand_in."
        )
    arguments = [
        program,
        f"--port={PORT.value}",
        f"--rest_api_port={REST_API_PORT.value}",
        f"--rest_api_timeout_in_ms={round(TIMEOUT_SECONDS.value * 1000)}",
        "--enable_batching=true",
    ]
    if MODEL_CONFIG_FILE.value:
        arguments += [
            f"--model_config_file={existing_file(MODEL_CONFIG_FILE)}",
            f"--model_config_file_poll_wait_seconds={MODEL_CONFIG_FILE_POLL_WAIT_SECONDS.value}",
            # Without it, a file with labels cannot be started from: no version is there when it is read.
            "--allow_version_labels_for_unavailable_models=true",
        ]
    else:
        name, base_path = single_model()
        if command.is_pattern(base_path):
            raise command.UserError(
                f"--model_base_path={base_path}: TF Serving takes brackets, *, ? and backslashes for patterns, and finds no "
                "weights: expected a path without them, or --server=stand_in."
            )
        arguments += [f"--model_name={name}", f"--model_base_path={base_path}"]
    if BATCHING_PARAMETERS_FILE.value:
        arguments.append(f"--batching_parameters_file={existing_file(BATCHING_PARAMETERS_FILE)}")
    if CORS.value:
        arguments.append("--rest_api_enable_cors_support=true")
    print(f"TF Serving: {' '.join(arguments)}")
    print("It listens on every address of this machine, and has no flag for one.", flush=True)
    os.execv(program, arguments)


def single_model():
    """(name, folder) of --model_base_path, whose last part is the name unless another is given. Raises: UserError."""
    path = command.path(MODEL_BASE_PATH.name, MODEL_BASE_PATH.value).resolve()
    if not path.is_dir():
        raise command.UserError(
            f"--model_base_path={path} is not a folder: expected the one that holds a model's versions."
        )
    if (path / "saved_model.pb").exists():
        raise command.UserError(
            f"--model_base_path={path} is itself a version: expected the folder above, {path.parent}, which names the model."
        )
    return MODEL_NAME.value or path.name, path


def existing_file(flag):
    """The absolute path that a flag names. Raises: UserError."""
    path = command.path(flag.name, flag.value).resolve()
    if not path.is_file():
        raise command.UserError(f"--{flag.name}={flag.value} is not a file: expected one.")
    return path


def run_stand_in():
    """Serves in this process until it is told to stop."""
    why = "" if SERVER.value == "stand_in" else f" ({MODEL_SERVER} is not on PATH)"
    print(f"stand-in for TF Serving{why}: for development and tests", flush=True)
    try:
        options = stand_in_options()
        for flag in (REST_API_PORT, PORT):
            check_port(flag)
        with command.without_notes_of_libraries():
            from tfvae.endpoint import server  # and TensorFlow with it
    except ImportError as error:
        raise command.UserError(
            f"{error}: serving needs more packages. Install them: pip install 'tfvae[serving]'."
        ) from error
    server.serve(options)


def check_port(flag):
    """Raises: UserError: the port that a flag names cannot be opened. The servers' own message would be less clear."""
    try:
        address = socket.getaddrinfo(HOST.value, flag.value, type=socket.SOCK_STREAM)[0]
        with socket.socket(*address[:3]) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address[4])
    except OSError as error:
        raise command.UserError(
            f"--{flag.name}={flag.value} on {HOST.value} cannot be opened ({error.strerror or error}): give another "
            f"--{flag.name} or --host, or stop the process that has it."
        ) from error


def stand_in_options():
    """The stand-in's `settings.Options` of the flags. Raises: UserError."""
    from tfvae.endpoint import settings

    config_file = existing_file(MODEL_CONFIG_FILE) if MODEL_CONFIG_FILE.value else None
    models = settings.read_models(config_file) if config_file else settings.one_model(*single_model())
    batching = settings.DEFAULT_BATCHING
    if BATCHING_PARAMETERS_FILE.value:
        batching = settings.read_batching(existing_file(BATCHING_PARAMETERS_FILE))
    largest = batching["max_batch_size"]
    if MAX_ROWS.value is not None and MAX_ROWS.value > largest:
        raise command.UserError(
            f"--max_rows={MAX_ROWS.value}: expected at most max_batch_size of the batching, {largest}."
        )
    return settings.Options(
        models=models,
        model_config_file=config_file,
        model_config_file_poll_wait_seconds=MODEL_CONFIG_FILE_POLL_WAIT_SECONDS.value,
        batching=batching,
        host=HOST.value,
        port=PORT.value,
        rest_api_port=REST_API_PORT.value,
        rest_api_enable_cors_support=CORS.value,
        max_body_bytes=MAX_BODY_BYTES.value,
        max_rows=MAX_ROWS.value or largest,
        max_concurrent_requests=MAX_CONCURRENT_REQUESTS.value,
        timeout_seconds=TIMEOUT_SECONDS.value,
    )


if __name__ == "__main__":
    command.run_command(main)
