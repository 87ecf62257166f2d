"""Keys of the store at a real process: let in at once, gone within seconds, and kept while the store is away."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.api_keys import NewKey, revoke_key
from tests.support import http
from tests.support.fake_engine import expected
from tests.support.keys import bearer, kept_key
from tests.support.processes import Api, Processes
from tests.support.socket import Socket, closed, connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until


def status(
    api: Api, path: str = "/v1/models", key: NewKey | str | None = None, method: str = "GET", **headers: str
) -> int:
    given = headers | (bearer(key) if key else {})
    return http.request(method, f"{api.http}{path}", headers=given, timeout=20).status_code


def test_a_new_key_counts_at_once_and_a_revoked_one_within_seconds(fleet: Processes, store: BlockingStore) -> None:
    other = kept_key(store)
    api = fleet.api()
    key = kept_key(store)
    assert status(api, key=key) == 200  # no wait: `ekiden keys create` may be followed by its use
    store.run(revoke_key(key.id))
    until(lambda: status(api, key=key) == 401, timeout_s=5, what="the end of a revoked key")
    assert status(api, key=other) == 200
    for forged in (
        f"ek_{other.id}_{'a' * 43}",
        other.text[:-1],
        other.text.upper(),
        f"ek_00000000_{'a' * 43}",
        other.id,
    ):
        assert status(api, key=forged) == 401


def test_a_revoked_keys_sockets_are_closed_and_its_jobs_go_on(fleet: Processes, store: BlockingStore) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    ada, again, bob = kept_key(store, "ada"), kept_key(store, "ada"), kept_key(store, "bob")
    api = fleet.api()

    async def run() -> None:
        async with (
            connected(api.socket, additional_headers=bearer(ada)) as talking,
            connected(api.socket, subprotocols=["ekiden.v1", f"ekiden.bearer.{ada.text}"]) as idle,
            connected(api.socket, additional_headers=bearer(bob)) as others,
        ):
            job = await talking.chat(params={"max_tokens": 400, "seed": 1})
            await talking.until("delta", job)
            await asyncio.to_thread(store.run, revoke_key(ada.id))
            for client in (talking, idle):
                code, reason = await closed(client)
                assert (code, reason) == (1008, "The key is not valid any more.")
            await others.send(type="ping")
            await others.until("pong")
        with pytest.raises(InvalidStatus, match="401"):
            async with connected(api.socket, additional_headers=bearer(ada)):
                pass
        async with connected(api.socket, additional_headers=bearer(again)) as back:
            await back.send(type="attach", job=job, cursor=0)
            assert await back.answer(job) == expected(400)

    asyncio.run(run())
    assert "Traceback" not in api.text()


def test_an_open_service_is_closed_by_its_first_key(fleet: Processes, store: BlockingStore) -> None:
    api = fleet.api()
    assert status(api) == 200
    me = http.get(f"{api.http}/admin/api/me").json()
    assert (me["user"], me["role"], me["key"], me["open"]) == ("", "admin", None, True)

    async def run() -> NewKey:
        async with connected(api.socket) as anonymous:
            key = await asyncio.to_thread(kept_key, store, "ada", Role.ADMIN)
            assert (await closed(anonymous))[0] == 1008
            return key

    key = asyncio.run(run())
    assert status(api) == status(api, "/admin/api/me") == 401
    assert status(api, "/admin/api/me", key) == 200
    # Its last key is gone: it is open to this machine again.
    store.run(revoke_key(key.id))
    until(lambda: status(api) == 200, timeout_s=5, what="an open service")


@pytest.mark.parametrize(
    "headers", [{"X-Forwarded-For": "203.0.113.5"}, {"Host": "chat.example.com"}, {"Origin": "http://localhost:1"}]
)
def test_an_open_service_takes_this_machine_alone_for_an_admin(fleet: Processes, headers: dict[str, str]) -> None:
    api = fleet.api(EKIDEN_ALLOWED_HOSTS="chat.example.com")
    assert status(api, "/v1/models", **headers) == 200
    acting = {**headers, "Content-Type": "application/json"}
    assert status(api, "/admin/api/logout", method="POST", **acting) == 403
    if "Origin" not in headers:
        assert status(api, "/admin/api/me", **headers) == 403
        assert status(api, "/admin/api/workers", **headers) == 403


def test_off_loopback_a_key_is_needed_also_when_all_were_revoked(fleet: Processes, store: BlockingStore) -> None:
    key = kept_key(store)
    api = fleet.api(EKIDEN_HOST="0.0.0.0")
    assert (status(api), status(api, key=key)) == (401, 200)
    store.run(revoke_key(key.id))
    until(lambda: status(api, key=key) == 401, timeout_s=5, what="the end of a revoked key")
    assert status(api) == status(api, "/admin/api/me") == 401


def test_known_keys_are_let_in_while_the_store_is_away(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: Callable[[Settings], Processes]
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    store = BlockingStore(settings)
    key, revoked = kept_key(store), kept_key(store)
    fleet = fleet_of(settings)
    api = fleet.api(EKIDEN_API_KEYS="env:of-the-environment")
    store.run(revoke_key(revoked.id))
    until(lambda: status(api, key=revoked) == 401, timeout_s=5, what="the end of a revoked key")

    async def run() -> None:
        async with connected(api.socket, additional_headers=bearer(key)) as client:
            await asyncio.to_thread(own_valkey.stop)
            # The frame is answered: the connection was let in, and goes on.
            async with connected(api.socket, additional_headers=bearer(key)) as late:
                for open_one in (client, late):
                    await open_one.send(type="ping")
                    await open_one.until("pong")

    asyncio.run(run())
    for known in (key, "of-the-environment"):
        assert status(api, "/v1/jobs/x", known) == 503  # and not 401: it is the job that cannot be read
    assert status(api, key="no-key-at-all") == 401
    assert status(api, key=revoked) == 503  # nobody can tell whether it was made again
    own_valkey.start()
    until(lambda: status(api, "/v1/jobs/x", key) == 404, what="the store")
    store.close()


def test_another_users_job_is_not_found_whatever_the_role(fleet: Processes, store: BlockingStore) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    ada = kept_key(store, "ada")
    others = [kept_key(store, "bob", role) for role in Role]
    api = fleet.api()

    async def run() -> None:
        async with connected(api.socket, additional_headers=bearer(ada)) as client:
            job = await client.chat(params={"max_tokens": 300, "seed": 1}, conversation="new")
            conversation = client.frames[-1]["conversation"]
            for other in others:
                paths = [f"/v1/jobs/{job}", f"/v1/conversations/{conversation}"]
                for method, path in [(method, path) for method in ("GET", "DELETE") for path in paths]:
                    assert await asyncio.to_thread(status, api, path, other, method) == 404
                async with connected(api.socket, additional_headers=bearer(other)) as socket:
                    assert await refusal(socket, type="cancel", job=job) == "job_not_found"
                    assert await refusal(socket, type="attach", job=job) == "job_lost"
            assert await client.answer(job) == expected(300)

    async def refusal(socket: Socket, **frame: Any) -> str:
        await socket.send(**frame)
        return str((await socket.until("error"))["code"])

    asyncio.run(run())
