"""What processes tell Prometheus, the documents explain and the Grafana dashboard shows: the same metrics."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ekiden.settings import load_settings
from tests.support.metrics import Metrics, scrape
from tests.support.processes import processes
from tests.support.valkey import ValkeyServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs" / "grafana" / "ekiden.json").read_text())

NAME = re.compile(r"\b(?:ekiden|process)_[a-z_]+\b")
OF_HISTOGRAM = ("_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def told(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Metrics]]:
    """What an API process and a worker tell."""
    settings = load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}")
    with processes(settings, tmp_path_factory.mktemp("observability")) as fleet:
        worker, api = fleet.worker(EKIDEN_METRICS_PORT="0"), fleet.api()
        port = re.search(r"metrics_served\s.*port=(\d+)", worker.text())
        assert port
        yield [scrape(api.http), scrape(f"http://127.0.0.1:{port[1]}")]


def documented() -> dict[str, tuple[str, set[str]]]:
    """Kind and labels by name, from the tables."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| .+ \|$", PAGE, re.MULTILINE)
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def exposed(told: list[Metrics]) -> dict[str, tuple[str, set[str]]]:
    """The same, from the processes."""
    found = {}
    for family in (family for metrics in told for family in metrics.families.values()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
        assert family.documentation.endswith(".")
    return found


def test_every_metric_is_documented_and_every_documented_one_is_told(told: list[Metrics]) -> None:
    tables, processes = documented(), exposed(told)
    assert set(tables) == set(processes)
    for name, (kind, labels) in processes.items():
        unseen = {"code"} if name == "ekiden_frames_refused_total" else set()  # nothing was refused here
        assert tables[name] == (kind, labels | unseen), name


def test_names_carry_their_units(told: list[Metrics]) -> None:
    for name, (kind, _) in exposed(told).items():
        assert name.endswith("_seconds") or kind != "histogram"
        assert name.endswith("_total") == (kind == "counter")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARD["panels"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def test_the_grafana_dashboard_shows_what_is_told_and_all_of_it(told: list[Metrics]) -> None:
    shown = {name for expression in expressions() for name in NAME.findall(expression)}
    assert shown <= {name for metrics in told for name in metrics.names} | {"ekiden_frames_refused_total"}
    families = {name.removesuffix(suffix) for name in shown for suffix in ("", *OF_HISTOGRAM)}
    assert {name for name in exposed(told) if name.startswith("ekiden_")} <= families


def test_figures_of_the_fleet_are_not_summed_over_processes() -> None:
    fleet = ("ekiden_requests_waiting", "ekiden_jobs_total", "ekiden_jobs_moved_total", "ekiden_tokens_total")
    alerts = re.findall(r"^ +expr: (.*)$", PAGE, re.MULTILINE)
    assert len(alerts) == PAGE.count("- alert:")
    named = [expression for expression in (*expressions(), *alerts) if any(name in expression for name in fleet)]
    assert len(named) >= len(fleet)
    for expression in named:
        inner = r"(?:(?:rate|increase)\()?"
        for name in fleet:
            for found in re.finditer(rf"{name}\b", expression):
                assert re.search(rf"max(?: by \([\w, ]+\) )?\({inner}$", expression[: found.start()]), expression


def test_alerts_name_metrics_that_are_told(told: list[Metrics]) -> None:
    block = PAGE[PAGE.index("groups:") :]
    named = set(NAME.findall(block[: block.index("```")]))
    assert named
    assert named <= {name for metrics in told for name in metrics.names}


def test_panels_have_ids_of_their_own_places_of_their_own_and_a_chosen_source() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & own, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
