"""The endpoint's process: one aiohttp application, which also runs the gRPC server and follows the models' folders."""

import asyncio
import functools
import threading
import time
import traceback

import tensorflow as tf
from aiohttp import web

from tfvae.command import UserError
from tfvae.endpoint import rest, rpc, settings
from tfvae.endpoint.requests import Requests
from tfvae.endpoint.servable import Servable
from tfvae.endpoint.versions import Versions

POLL_SECONDS = 1.0


def serve(options):
    """Serves until SIGTERM or SIGINT, then finishes the requests that run. options: a `settings.Options`."""
    say = functools.partial(print, flush=True)
    web.run_app(
        make_application(options, say),
        host=options.host,
        port=options.rest_api_port,
        shutdown_timeout=options.timeout_seconds,
        access_log=None,
        print=None,
    )
    say("Stopped.")


def make_application(options, say):
    """The whole endpoint: REST's application, whose start and end are also gRPC's and the models'.

    Args:
        options: a `settings.Options`. say: function that shows the operator a line.
    """
    tf.get_logger().setLevel("ERROR")
    address = f"[{options.host}]" if ":" in options.host else options.host
    versions = Versions(options.models, functools.partial(Servable, batching=options.batching), say)
    requests = Requests(versions, options)

    async def run_models(application):
        say(f"REST http://{address}:{options.rest_api_port}/v1/models/{next(iter(options.models))}")
        say(f"gRPC {address}:{options.port}")
        follower = threading.Thread(target=_follow, args=(options, versions, say), daemon=True)
        follower.start()
        yield
        versions.stopping.set()
        versions.models = {}  # so that the last round releases all
        for wait in (follower.join, requests.threads.shutdown, versions.poll):
            await asyncio.to_thread(wait)

    async def run_grpc(application):
        server = rpc.make_server(requests, options.max_body_bytes)
        server.add_insecure_port(f"{address}:{options.port}")
        await server.start()
        yield
        await server.stop(options.timeout_seconds)

    async def say_stopping(application):
        say(f"Stopping: {len(requests.running)} request(s) still run")

    application = rest.make_application(requests, options)
    application.cleanup_ctx.extend([run_models, run_grpc])
    application.on_shutdown.append(say_stopping)
    return application


def _follow(options, versions, say):
    """Loads and releases what models.config and the folders say, until told to stop."""
    read_at = time.monotonic()
    while not versions.stopping.is_set():
        try:
            versions.poll()
        except Exception:
            traceback.print_exc()  # the next round may go better; what is served stays
        versions.stopping.wait(POLL_SECONDS)
        if 0 < options.model_config_file_poll_wait_seconds <= time.monotonic() - read_at and options.model_config_file:
            read_at = time.monotonic()
            try:
                versions.models = settings.read_models(options.model_config_file)
            except UserError as error:
                say(f"{error} The models of before stay.")
