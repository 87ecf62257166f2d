"""What a browser asks for before the dashboard has drawn itself."""

import re

import httpx


def paths_in(page: str) -> set[str]:
    """The page itself, and every path that it names."""
    return {"/admin", *re.findall(r'(?:src|href)="(/[^"]+)"', page), *re.findall(r'"(/admin/static/[^"]+)"', page)}


def transferred_bytes(url: str) -> int:
    """The bodies of a first load, as they come from a real process."""
    total = 0
    with httpx.Client(base_url=url, headers={"Accept-Encoding": "gzip"}, verify=False) as client:
        for path in sorted(paths_in(client.get("/admin").text)):
            with client.stream("GET", path) as answer:
                answer.raise_for_status()
                total += len(b"".join(answer.iter_raw()))
    return total
