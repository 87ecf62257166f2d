"""The admin API of real processes: what operators read of a fleet, and what they do to it."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ekiden.settings import Settings, load_settings
from ekiden.store import BlockingStore
from tests.support import http
from tests.support.fake_engine import expected
from tests.support.operators import ENDED, KEYS, Desk, headers, submit
from tests.support.processes import Api, Process, Processes, processes
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

LONG = 3000

ACTIONS = "cancel, park, resume, priority, retry or requeue"
STATES = "queued, running, parked, done, cancelled or error"
FILTERS = "limit, cursor, state, user, model, worker, code, id, from_ms, to_ms"


@pytest.fixture(scope="module")
def settings(valkey: ValkeyServer) -> Settings:
    return load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def fleet(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(settings, tmp_path_factory.mktemp("admin")) as group:
        yield group


@pytest.fixture(scope="module")
def worker(fleet: Processes) -> Process:
    return fleet.worker(EKIDEN_TEST_STEP_S="0.01", EKIDEN_MAX_RUNNING="4")


@pytest.fixture(scope="module")
def api(fleet: Processes, worker: Process) -> Api:
    return fleet.api(**KEYS)


@pytest.fixture
def desk(api: Api) -> Iterator[Desk]:
    """An admin; nothing runs before and after."""
    desk = Desk(api)
    yield desk
    rest = {"action": "cancel", "filter": {}}
    desk.post("bulk", **rest, confirm=desk.post("bulk", **rest)["confirm"])
    until(lambda: not any(desk.get("overview")["states"][s] for s in ("queued", "running", "parked")), what="quiet")


def running(desk: Desk, **fields: object) -> str:
    """A job that has some tokens and many to go."""
    [job] = submit(desk.api, max_tokens=LONG, **fields)
    until(lambda: desk.job(job)["cursor"] > 3, what="a running job")
    return job


def test_the_overview_tells_of_jobs_workers_processes_and_store(desk: Desk, worker: Process) -> None:
    job = running(desk)

    def told() -> dict[str, Any] | None:
        shown = desk.get("overview")
        fresh = shown["rates"]["tokens_per_s"] > 0 and shown["workers"][0]["running"] == 1
        return shown if fresh and shown["workers"][0]["tokens_per_s"] > 10 else None

    shown = until(told, what="a full step of tokens, and a beat that tells of the job")
    assert shown
    assert shown["states"]["running"] == 1
    [its] = shown["workers"]
    assert (its["pid"], its["state"], its["running"], its["max_running"]) == (worker.pid, "ready", 1, 4)
    assert set(its["libraries"]) >= {"python", "torch", "transformers"}
    [replica] = shown["replicas"]
    assert (replica["pid"], replica["dashboards"]) == (desk.api.pid, 0)
    assert (shown["store"]["policy"], shown["store"]["aof"]) == ("noeviction", False)
    assert any("append-only" in warning for warning in shown["store"]["warnings"])
    assert [(model["workers"], model["paused"]) for model in shown["models"]] == [(1, False)]
    assert shown["latency"]["ttft_ms"]["p50"] > 0
    assert 8 <= shown["latency"]["itl_ms"]["p50"] <= 30
    assert desk.get(f"jobs/{job}")["worker"] == its["incarnation"]


@pytest.mark.parametrize("name", ["15m", "1h", "24h"])
def test_the_history_has_every_step_of_its_range(desk: Desk, name: str) -> None:
    [job] = submit(desk.api, max_tokens=5)
    until(lambda: desk.in_state(job, *ENDED), what="an ended job")
    series = desk.get("series", range=name)
    points = {"15m": 180, "1h": 360, "24h": 360}[name]
    assert len(series["times"]) == points
    assert all(len(column) == points for column in series["columns"].values())
    assert series["times"] == list(range(series["times"][0], series["times"][-1] + 1, series["step_s"]))
    assert sum(series["columns"]["done"]) >= 1
    assert [point for point in series["columns"]["ttft_p50"] if point is not None]
    assert [name for name in series["workers"] if name.endswith(f":{desk.get('workers')['workers'][0]['pid']}")]


def test_a_job_is_told_in_full_but_without_its_text(desk: Desk) -> None:
    [job] = submit(desk.api, text="a private question", max_tokens=7, temperature=0.5, seed=3, stop=["###"])
    until(lambda: desk.in_state(job, "done"), what="the answer")
    told = desk.job(job)
    assert (told["user"], told["cursor"], told["finish_reason"], told["asked"]) == ("ada", 7, "length", None)
    assert told["params"] == {
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": "3",
        "stop": ["###"],
    }
    [attempt] = told["attempts"]
    assert told["worker"] == attempt["worker"]
    assert (attempt["attempt"], attempt["from"], attempt["to"], attempt["name"].count(":")) == (1, 0, 7, 1)
    assert told["usage"]["completion_tokens"] == 7
    assert told["timings"]["ttft_ms"] <= told["timings"]["total_ms"]
    assert told["text"] == {"shown": False, "messages": None, "answer": None}
    assert "private" not in desk.ask("GET", f"jobs/{job}").text


def test_text_is_shown_to_an_admin_where_the_setting_allows_it(desk: Desk, fleet: Processes) -> None:
    [job] = submit(desk.api, text="Hello", max_tokens=7, seed=1)
    until(lambda: desk.in_state(job, "done"), what="the answer")
    open_api = fleet.api(**KEYS, EKIDEN_ADMIN_SHOW_TEXT="true")
    text = Desk(open_api).job(job)["text"]
    assert text == {"shown": True, "messages": [{"role": "user", "content": "Hello"}], "answer": expected(7)}
    replay = Desk(open_api).get(f"jobs/{job}/replay")
    assert "".join(replay["texts"]) == expected(7)
    assert Desk(open_api, "vera").job(job)["text"]["shown"] is False
    assert Desk(open_api, "vera").get(f"jobs/{job}/replay")["texts"] is None
    open_api.end()


def test_a_replay_has_the_cadence_of_the_answer(desk: Desk) -> None:
    [job] = submit(desk.api, max_tokens=30)
    until(lambda: desk.in_state(job, "done"), what="the answer")
    replay = desk.get(f"jobs/{job}/replay")
    assert replay["cursors"][-1] == 30
    assert replay["cursors"] == sorted(set(replay["cursors"]))
    assert replay["times_ms"] == sorted(replay["times_ms"])
    assert replay["times_ms"][0] == desk.job(job)["timings"]["ttft_ms"]
    assert desk.refused("GET", "jobs/nobody/replay") == (404, "job_not_found")


def test_jobs_are_filtered_and_paged(desk: Desk) -> None:
    mine = submit(desk.api, user="bob", count=5, max_tokens=1)
    until(lambda: all(desk.in_state(job, "done") for job in mine), what="the answers")
    first = desk.get("jobs", user="bob", limit=3)
    second = desk.get("jobs", user="bob", limit=3, cursor=first["next"])
    assert [row["id"] for row in [*first["jobs"], *second["jobs"]]] == mine[::-1]
    assert second["next"] is None
    assert [row["id"] for row in desk.get("jobs", id=mine[0][:12])["jobs"]] == [mine[0]]
    assert desk.get("jobs", user="bob", state="running")["jobs"] == []
    worker = desk.get("workers")["workers"][0]["incarnation"]
    assert [row["id"] for row in desk.get("jobs", user="bob", worker=worker)["jobs"]] == mine[::-1]
    moment = desk.job(mine[0])["created_ms"]
    assert desk.get("jobs", user="bob", to_ms=moment - 1)["jobs"] == []


@pytest.mark.parametrize(
    ("method", "path", "given", "code", "message"),
    [
        ("POST", "jobs/x/explode", {}, "invalid_request", f"action must be {ACTIONS}."),
        ("POST", "bulk", {"action": "explode", "filter": {}}, "invalid_request", f"action must be {ACTIONS}."),
        ("POST", "models/explode", {"model": "m"}, "invalid_request", "order must be pause or resume."),
        ("POST", "workers/x/explode", {}, "invalid_request", "order must be drain or undrain."),
        ("GET", "jobs", {"state": "asleep"}, "invalid_request", f"state must be {STATES}."),
        (
            "GET",
            "jobs",
            {"stat": "queued"},
            "invalid_request",
            f"There is no parameter 'stat' here; it takes {FILTERS}.",
        ),
        (
            "GET",
            "overview",
            {"state": "queued"},
            "invalid_request",
            "There is no parameter 'state' here; it takes none.",
        ),
        (
            "GET",
            "audit",
            {"user": "ada"},
            "invalid_request",
            "There is no parameter 'user' here; it takes limit, cursor.",
        ),
        ("GET", "jobs", {"limit": "many"}, "invalid_request", "limit must be a whole number."),
        ("GET", "jobs", {"limit": 0}, "out_of_range", "limit must be at least 1."),
        ("GET", "jobs", {"limit": 201}, "out_of_range", "limit must be at most 200."),
    ],
)
def test_what_is_unknown_is_refused_in_one_plain_sentence(
    desk: Desk, method: str, path: str, given: dict[str, Any], code: str, message: str
) -> None:
    where = {"json": given} if method == "POST" else {"params": given}
    response = desk.ask(method, path, **where)
    error = {"code": code, "message": message, "retryable": False}
    assert (response.status_code, response.json()) == (400, {"error": error})


def test_a_cancel_is_requested_and_acknowledged(desk: Desk) -> None:
    job = running(desk)
    assert desk.post(f"jobs/{job}/cancel") == {"id": job, "state": "running", "job": None}
    until(lambda: desk.in_state(job, "cancelled"), what="the acknowledged cancel")
    assert desk.refused("POST", f"jobs/{job}/cancel") == (409, "not_applicable")
    assert desk.refused("POST", "jobs/nobody/cancel") == (404, "job_not_found")


def test_a_cancelled_job_is_retried(desk: Desk) -> None:
    job = running(desk)
    desk.post(f"jobs/{job}/cancel")
    until(lambda: desk.in_state(job, "cancelled"), what="the cancel")
    again = desk.post(f"jobs/{job}/retry")["job"]
    until(lambda: desk.job(again)["cursor"] > 3, what="the second try")
    assert (desk.job(again)["retry_of"], desk.job(again)["user"]) == (job, "ada")
    mine = http.get(f"{desk.api.http}/v1/jobs/{again}", headers=headers("ada"))
    assert mine.status_code == 200
    assert desk.refused("POST", f"jobs/{again}/retry") == (409, "not_applicable")
    assert desk.refused("POST", f"jobs/{job}/requeue") == (409, "not_applicable")


def test_a_job_is_parked_and_resumed(desk: Desk) -> None:
    job = running(desk)
    desk.post(f"jobs/{job}/park")
    until(lambda: desk.in_state(job, "parked"), what="a parked job")
    before = desk.job(job)["cursor"]
    desk.post(f"jobs/{job}/resume")
    until(lambda: desk.job(job)["cursor"] > before, what="a job that goes on")
    assert len(desk.job(job)["attempts"]) == 2


def test_a_held_queue_and_a_priority_decide_who_is_next(desk: Desk) -> None:
    [model] = desk.get("overview")["models"]
    assert desk.post("models/pause", model=model["model"]) == {"model": model["model"], "paused": True}
    low, high = submit(desk.api, count=2, max_tokens=1)
    assert desk.post(f"jobs/{high}/priority", priority=7)["state"] == "queued"
    assert desk.job(high)["position"] == 0
    assert desk.job(low)["position"] == 1
    assert desk.refused("POST", f"jobs/{low}/priority", priority=11) == (400, "out_of_range")
    assert desk.refused("POST", f"jobs/{low}/priority") == (400, "invalid_request")
    assert desk.refused("POST", "models/pause", model="nobody's") == (404, "model_not_found")
    assert desk.post("models/resume", model=model["model"])["paused"] is False
    until(lambda: desk.in_state(low, "done") and desk.in_state(high, "done"), what="both answers")
    assert desk.job(high)["claimed_ms"] <= desk.job(low)["claimed_ms"]


def test_a_bulk_action_is_counted_first_and_touches_nothing_newer(desk: Desk) -> None:
    desk.post("models/pause", model=desk.get("overview")["models"][0]["model"])
    old = submit(desk.api, user="bob", count=120, max_tokens=1)
    asked = {"action": "cancel", "filter": {"state": "queued", "user": "bob"}}
    counted = desk.post("bulk", **asked)
    assert counted["count"] == 120
    [newer] = submit(desk.api, user="bob", max_tokens=1)
    assert desk.post("bulk", **asked, confirm=counted["confirm"]) == {"count": 120, "acted": 120, "skipped": 0}
    assert all(desk.in_state(job, "cancelled") for job in (old[0], old[-1]))
    assert desk.in_state(newer, "queued")
    again = {"action": "retry", "filter": {"state": "cancelled", "user": "bob"}}
    done = desk.post("bulk", **again, confirm=desk.post("bulk", **again)["confirm"])
    assert done == {"count": 120, "acted": 120, "skipped": 0}
    until(lambda: desk.get("overview")["states"]["queued"] == 121, what="an overview that is read anew")
    noted = [entry for entry in desk.get("audit")["entries"] if entry["action"].startswith("bulk_")]
    assert (noted[0]["action"], noted[0]["detail"], noted[0]["user"]) == ("bulk_retry", "120 of 120 jobs", "olga")
    desk.post("models/resume", model=desk.get("overview")["models"][0]["model"])


def test_a_count_tells_how_many_jobs_an_action_fits(desk: Desk, settings: Settings) -> None:
    model = desk.get("overview")["models"][0]["model"]
    [done] = submit(desk.api, text="Fits", user="bob", max_tokens=1)
    failed = submit(desk.api, text="[FORGED]", user="bob", count=3, max_tokens=1)
    until(lambda: all(desk.in_state(job, *ENDED) for job in (done, *failed)), what="the ends")
    since = desk.job(done)["created_ms"]
    store = BlockingStore(settings)
    store.redis.hset(store.keys.job(failed[0]), "code", "poison")  # which takes three dead workers otherwise
    store.close()
    desk.post("models/pause", model=model)
    queued = submit(desk.api, user="bob", count=5, max_tokens=1)
    for job in queued[:2]:
        desk.post(f"jobs/{job}/cancel")
    desk.post(f"jobs/{queued[2]}/park")

    def counted(action: str, **fields: Any) -> tuple[int, int]:
        order = {"action": action, "filter": {"user": "bob", "from_ms": since, **fields}, "priority": 0}
        found = desk.post("bulk", **order)
        return found["count"], found["fits"]

    fits = {"cancel": 3, "park": 2, "resume": 1, "priority": 3, "retry": 4, "requeue": 1}
    assert {action: counted(action) for action in fits} == {action: (9, number) for action, number in fits.items()}
    assert counted("cancel", state="queued") == (2, 2)
    assert counted("cancel", state="done") == (1, 0)
    assert counted("retry", state="error") == (3, 2)
    assert counted("retry", code="poison") == (1, 0)
    assert counted("requeue", code="poison") == (1, 1)
    assert counted("requeue", state="queued") == (2, 0)
    desk.post("models/resume", model=model)


def test_a_job_names_its_worker_also_when_that_is_gone(desk: Desk, fleet: Processes, worker: Process) -> None:
    desk.post(f"workers/{desk.get('workers')['workers'][0]['incarnation']}/drain")
    other = fleet.worker()
    [job] = submit(desk.api, max_tokens=1)
    until(lambda: desk.in_state(job, "done"), what="the answer")
    other.end()
    until(lambda: len(desk.get("workers")["workers"]) == 1, what="the end of its lease")
    [row] = desk.get("jobs", limit=1)["jobs"]
    [attempt] = desk.job(job)["attempts"]
    assert (row["worker"], row["worker_name"]) == (attempt["worker"], attempt["name"])
    assert row["worker_name"].endswith(f":{other.pid}")
    desk.post(f"workers/{desk.get('workers')['workers'][0]['incarnation']}/undrain")
    desk.post("models/pause", model=row["model"])
    [waiting] = submit(desk.api, max_tokens=1)
    assert [desk.job(waiting)[name] for name in ("worker", "worker_name")] == [None, None]
    desk.post("models/resume", model=row["model"])


def test_a_drained_worker_takes_nothing_until_it_is_taken_back(desk: Desk) -> None:
    job = running(desk)
    [worker] = desk.get("workers")["workers"]
    name = worker["incarnation"]
    assert desk.post(f"workers/{name}/drain") == {"worker": name, "draining": True, "moved": 0}
    [waiting] = submit(desk.api, max_tokens=1)
    assert desk.get("workers")["workers"][0]["state"] == "draining"
    before = desk.job(job)["cursor"]
    until(lambda: desk.job(job)["cursor"] > before + 10, what="tokens of the job that it has")
    assert desk.in_state(waiting, "queued")
    desk.post(f"workers/{name}/undrain")
    until(lambda: desk.in_state(waiting, "done"), what="the job that waited")
    assert desk.refused("POST", "workers/nobody/drain") == (404, "worker_not_found")


def test_everything_that_is_done_is_noted(desk: Desk) -> None:
    job = running(desk)
    desk.post(f"jobs/{job}/cancel")
    [entry] = desk.get("audit", limit=1)["entries"]
    assert (entry["user"], entry["key"], entry["action"], entry["target"]) == ("olga", "env-4", "cancel", job)
    page = desk.get("audit", limit=1)
    older = desk.get("audit", limit=1, cursor=page["next"])["entries"]
    assert older[0]["id"] != entry["id"]
    assert desk.refused("GET", "audit", cursor="x") == (400, "invalid_request")


@pytest.mark.parametrize("path", ["jobs/x/cancel", "bulk", "models/pause", "workers/x/drain", "drills"])
def test_a_viewer_sees_and_does_not_act(api: Api, path: str) -> None:
    assert Desk(api, "vera").get("overview")
    assert Desk(api, "vera").refused("POST", path) == (403, "forbidden")
    assert Desk(api, "ada").refused("GET", "overview") == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("bulk", b"{"),
        ("bulk", b'{"action": "cancel"}'),
        ("bulk", b'{"action": "explode", "filter": {}}'),
        ("bulk", b'{"action": "cancel", "filter": {"colour": "red"}}'),
        ("models/pause", b"\xff"),
        ("drills", b'{"worker": 3}'),
    ],
)
def test_a_wrong_body_is_refused_in_words(desk: Desk, path: str, body: bytes) -> None:
    response = desk.ask("POST", path, content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


def test_the_description_names_what_every_route_takes_and_answers(api: Api) -> None:
    described = http.get(f"{api.http}/openapi.json").json()
    shapes = described["components"]["schemas"]
    for path, routes in described["paths"].items():
        if path.startswith("/admin/api/") and path.rpartition("/")[2] not in ("me", "login", "logout"):
            for route in routes.values():
                content = route["responses"]["200"]["content"]["application/json"]["schema"]
                assert content["$ref"].rpartition("/")[2] in shapes
    assert shapes["JobRow"]["properties"]["state"]
