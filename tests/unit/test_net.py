"""Where a service may listen."""

import socket
import sys

import pytest

from ekiden.net import listen, reserved_port
from ekiden.settings import load_settings


def test_a_reserved_port_is_the_servers_again_and_again() -> None:
    with reserved_port() as port:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            with listen(load_settings(port=port)), socket.create_connection(("127.0.0.1", port)):
                pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server bind a port that is held")
def test_a_reserved_port_is_nobody_elses() -> None:
    with reserved_port() as port, socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", port))
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
