"""What clients, API and workers share: the protocol, settings, the job store and the client."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ekiden.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`ekiden.Client`, loaded when it is first asked for: servers import this package too."""
    if name == "Client":
        from ekiden.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
