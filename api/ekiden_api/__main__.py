"""`python -m ekiden_api`: one API process."""

import socket
import sys

import structlog
import uvicorn

from ekiden.exit_codes import CONFIG
from ekiden.logs import configure_logging
from ekiden.settings import Settings, SettingsError, load_settings
from ekiden_api.access import is_loopback
from ekiden_api.app import create_app

log = structlog.get_logger()

# A frame over this is closed with 1009; one over the contract's soft limit is answered with an error.
HARD_FRAME_LIMIT_BYTES = 4 << 20


def main() -> int:
    """Serve until told to stop. Returns the exit status."""
    try:
        settings = load_settings()
        configure_logging(settings)
        check_exposure(settings)
        listener = listen(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return CONFIG
    serve(settings, listener)
    return 0


def check_exposure(settings: Settings) -> None:
    """Raise SettingsError rather than open the service to a network without keys."""
    if not is_loopback(settings.host) and not settings.api_keys:
        raise SettingsError(
            f"EKIDEN_HOST={settings.host} is not loopback: set EKIDEN_API_KEYS=user:key,… before others can connect."
        )


def listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises SettingsError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.") from None
    return listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Run the server on a bound socket."""
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=HARD_FRAME_LIMIT_BYTES,
        ws_ping_interval=10.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    host, port = listener.getsockname()[:2]
    log.info("api_listening", host=host, port=port)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
