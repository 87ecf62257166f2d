"""Which addresses a URL means."""

import pytest

from ekiden.client.address import endpoint, service


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/v1/chat"),
        ("127.0.0.1:8000", "ws://127.0.0.1:8000/v1/chat"),
        ("https://chat.example/", "wss://chat.example/v1/chat"),
        ("https://example.org/ekiden/", "wss://example.org/ekiden/v1/chat"),
        ("ws://[::1]:9/v1/chat", "ws://[::1]:9/v1/chat"),
        ("wss://chat.example/v1/chat/", "wss://chat.example/v1/chat"),
    ],
)
def test_a_url_becomes_the_address_of_the_chat_endpoint(url: str, address: str) -> None:
    assert endpoint(url) == address


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("ws://[::1]:9/v1/chat", "http://[::1]:9"),
        ("https://example.org/ekiden/", "https://example.org/ekiden"),
        ("wss://chat.example/v1/chat/", "https://chat.example"),
    ],
)
def test_a_service_is_found_over_http_too(url: str, base: str) -> None:
    assert service(endpoint(url)) == base


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://host:0", "http://host:99999", f"http://{'a' * 70}"]
)
def test_what_is_no_url_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|host|Port"):
        endpoint(url)


@pytest.mark.parametrize("url", ["http://ann:secret@host", "http://host?key=secret", "http://host#secret"])
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="key is given apart") as caught:
        endpoint(url)
    assert "secret" not in str(caught.value)
