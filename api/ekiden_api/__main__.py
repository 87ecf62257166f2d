"""`python -m ekiden_api`: one API process."""

import asyncio
import logging
import resource
import socket
import sys

import structlog
import uvicorn

from ekiden.exit_codes import CONFIG, INTERRUPTED
from ekiden.exposure import check_exposure
from ekiden.logs import configure_logging
from ekiden.net import listen
from ekiden.settings import Settings, SettingsError, load_settings
from ekiden.tracing import check_tracing
from ekiden_api.app import create_app
from ekiden_api.websocket import Protocol, RefusalsAreNoErrors

log = structlog.get_logger()

# A frame over this is closed with 1009; one over the contract's soft limit is answered with an error.
HARD_FRAME_LIMIT_BYTES = 4 << 20


def main() -> int:
    """Serve until told to stop. Returns the exit status."""
    try:
        settings = load_settings()
        configure_logging(settings)
        check_tracing()
        asyncio.run(check_exposure(settings, _on_wait))
        listener = listen(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return CONFIG
    except KeyboardInterrupt:  # while it waited for the store
        return INTERRUPTED
    serve(settings, listener)
    return 0


def _on_wait(reason: str) -> None:
    log.warning("waiting_for_the_store", why="whether it has API keys", error=reason)


def allow_many_connections() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:  # macOS has a limit below its own hard one
        log.warning("open_files_limited", error=str(error))


def serve(settings: Settings, listener: socket.socket) -> None:
    """Run the server on a bound socket."""
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        ws=Protocol,
        ws_max_size=HARD_FRAME_LIMIT_BYTES,
        ws_ping_interval=10.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    logging.getLogger("uvicorn.error").addFilter(RefusalsAreNoErrors())
    allow_many_connections()
    host, port = listener.getsockname()[:2]
    log.info("api_listening", host=host, port=port)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
