"""Where the service is: the URL a person writes, and the addresses it means."""

from urllib.parse import urlsplit

PATH = "/v1/chat"

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def endpoint(url: str) -> str:
    """The WebSocket address of a service at an http, https, ws or wss URL; a path before /v1/chat is kept.

    Without a scheme it is http. Raises ValueError, which never repeats a URL that may hold a secret.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("The service's URL may hold no user name, query or fragment; the key is given apart.")
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"{url!r} is not an http, https, ws or wss URL.")
    if parts.port == 0 or not _is_name(parts.hostname):
        raise ValueError(f"{url!r} has no valid host and port.")
    path = parts.path.rstrip("/")
    return f"{scheme}://{parts.netloc}{path if path.endswith(PATH) else path + PATH}"


def service(address: str) -> str:
    """The http or https URL of the service whose WebSocket address `endpoint` made."""
    return f"http{address.removeprefix('ws').removesuffix(PATH)}"


def _is_name(host: str) -> bool:
    """Whether a name could be looked up; the resolver's own refusal is no OSError."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True
