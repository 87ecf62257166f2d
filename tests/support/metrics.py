"""Reads what processes tell Prometheus."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.support import http


class Metrics:
    """One scrape. Samples are asked for by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self._samples, f"{key} is told twice"
                self._samples[key] = sample.value

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return {name for name, _ in self._samples}

    def __call__(self, name: str, **labels: str) -> float:
        return self._samples[name, frozenset(labels.items())]


def scrape(url: str, headers: Mapping[str, str] | None = None) -> Metrics:
    """Ask a process."""
    response = http.get(f"{url}/metrics", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return Metrics(response.text)
