"""The endpoint's process: opens the ports, follows the folders, and stops without dropping a request."""

import asyncio
import dataclasses
import signal
import socket
import traceback

import tensorflow as tf
from aiohttp import web

from tfvae.command import UserError
from tfvae.endpoint import settings
from tfvae.endpoint.metrics import Metrics
from tfvae.endpoint.requests import Gate, Requests
from tfvae.endpoint.rest import Rest
from tfvae.endpoint.rpc import make_server
from tfvae.endpoint.versions import Versions, loader

POLL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command's flags say.

    Args:
        models: {name: settings.Model}. model_config_file: where they came from, read again every
            `model_config_file_poll_wait_seconds` if that is not 0. batching: a `settings.Batching`. host: to listen on.
            port: gRPC's. rest_api_port: REST's. cors: whether pages from elsewhere may use the REST API.
            max_body_bytes, max_rows: of a request. max_concurrent_requests: one more is refused. timeout_seconds: of a
            request, and of the requests that run when the process is told to stop.
    """

    models: dict
    model_config_file: str | None
    model_config_file_poll_wait_seconds: float
    batching: settings.Batching
    host: str
    port: int
    rest_api_port: int
    cors: bool
    max_body_bytes: int
    max_rows: int
    max_concurrent_requests: int
    timeout_seconds: float


def say(line):
    """One line for the operator."""
    print(line, flush=True)


async def serve(options):
    """Serves until SIGTERM or SIGINT.

    Raises:
        UserError: a port cannot be had.
    """
    tf.get_logger().setLevel("ERROR")
    metrics = Metrics()
    versions = Versions(options.models, loader(options.batching, metrics), say)
    gate = Gate(options.max_concurrent_requests, options.timeout_seconds, metrics, versions.knows)
    requests = Requests(versions, options.max_rows)

    rest_socket = listen(options.host, options.rest_api_port, "rest_api_port")
    listen(options.host, options.port, "port").close()  # gRPC opens its own; this one only asks whether it can
    rpc = make_server(requests, gate, options.max_body_bytes)
    address = f"[{options.host}]" if ":" in options.host else options.host
    try:
        rpc.add_insecure_port(f"{address}:{options.port}")
    except RuntimeError as error:
        raise UserError(f"--port={options.port} on {options.host}: {error}") from error
    rest = Rest(requests, gate, metrics.page, options.max_body_bytes, options.cors)
    runner = web.AppRunner(
        rest.application(), handle_signals=False, access_log=None, shutdown_timeout=options.timeout_seconds
    )
    await runner.setup()
    await web.SockSite(runner, rest_socket).start()
    await rpc.start()
    say(f"REST http://{address}:{options.rest_api_port}/v1/models/{next(iter(options.models))}")
    say(f"gRPC {address}:{options.port}")

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    followers = [asyncio.create_task(_follow_folders(versions, stopping))]
    if options.model_config_file and options.model_config_file_poll_wait_seconds:
        followers.append(asyncio.create_task(_follow_config(options, versions, stopping)))
    await stopping.wait()

    say(f"Stopping: {gate.running} request(s) still run")
    versions.stop()
    await asyncio.gather(runner.cleanup(), rpc.stop(options.timeout_seconds))
    await asyncio.gather(*followers)
    await asyncio.to_thread(gate.close)
    await asyncio.to_thread(versions.close)
    say("Stopped.")


def listen(host, port, flag):
    """A listening socket. flag: for the message. Raises: UserError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        return listener
    except OSError as error:
        raise UserError(
            f"--{flag}={port} on {host} cannot be opened ({error.strerror or error}): give another --{flag} or --host, or stop "
            "the process that has it."
        ) from error


async def _wait(event, seconds):
    """Whether an event happened within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
        return True
    except asyncio.TimeoutError:
        return False


async def _follow_folders(versions, stopping):
    while True:
        try:
            await asyncio.to_thread(versions.poll)
        except Exception:
            traceback.print_exc()  # the next round may go better; what is served stays
        if await _wait(stopping, POLL_SECONDS):
            return


async def _follow_config(options, versions, stopping):
    known = options.models
    while not await _wait(stopping, options.model_config_file_poll_wait_seconds):
        try:
            models = settings.read_models(options.model_config_file)
        except UserError as error:
            say(f"{error} The models of before stay.")
            continue
        if models != known:
            known = models
            versions.replace_models(models)
            say(f"--model_config_file={options.model_config_file} changed: {', '.join(models)}")
