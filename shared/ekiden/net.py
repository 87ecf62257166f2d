"""Addresses: what counts as this machine alone, and where a service may listen."""

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ekiden.settings import Settings, SettingsError

BACKLOG = 2048
SEND_BUFFER_BYTES = 128 << 10


def is_loopback(name: str) -> bool:
    """Whether an address or name means this machine alone."""
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # On a socket for both families an IPv4 peer shows as an IPv6 address.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def listen(settings: Settings) -> socket.socket:
    """The socket the API listens on. Raises SettingsError when the address cannot be had."""
    listener = bind(settings)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings, error) from None
    return listener


def bind(settings: Settings) -> socket.socket:
    """The same, before anybody can connect. Raises SettingsError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Its connections inherit it. Behind megabytes in the kernel a slow client would hear of a ping too late.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise _cannot_listen(settings, error) from None
    return bound


def _cannot_listen(settings: Settings, error: OSError) -> SettingsError:
    return SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.")


@contextmanager
def reserved_port() -> Iterator[int]:
    """A free TCP port of loopback for a server that is to be told where to listen, now and after each of its deaths.

    For the length of the `with` block the kernel gives it to nobody who takes any port: it is bound, though nobody
    listens, and SO_REUSEADDR lets the server bind it too. Only Linux lets it; elsewhere the port is merely free now.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port
