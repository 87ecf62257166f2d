"""A socket that a browser opens by its cookie: for pages of the service alone, and for as long as the session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus

from ekiden.errors import EkidenError
from ekiden.net import listen
from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.api_keys import NewKey, revoke_key
from ekiden_api.app import create_app
from ekiden_api.refusals import error_response
from ekiden_api.websocket import Protocol
from tests.support.client import run
from tests.support.keys import bearer, kept_key
from tests.support.socket import closed, connected
from tests.support.waiting import until_async


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[str]:
    """The service in this process, with one more socket, at /admin/echo, for viewers; its address."""
    app = create_app(settings.model_copy(update={"port": 0}))

    @app.websocket("/admin/echo")
    async def echo(websocket: WebSocket) -> None:
        access = websocket.app.state.service.access
        try:
            identity = await access.require(websocket, Role.VIEWER, websocket.scope["subprotocols"])
        except EkidenError as error:
            await websocket.send_denial_response(error_response(error))
            return
        await websocket.accept()
        async with access.holding(websocket, identity):
            while True:
                await websocket.send_text(await websocket.receive_text())

    with listen(settings.model_copy(update={"port": 0})) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws=Protocol, timeout_graceful_shutdown=2))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await until_async(lambda: asyncio.sleep(0, server.started), what="a server")
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def post(address: str, path: str, body: dict[str, str], cookie: str = "") -> httpx.Response:
    """Ask as a page of the service does."""
    headers = {"Origin": f"http://{address}", "Cookie": cookie}
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=headers, trust_env=False) as http:
        return await http.post(path, json=body)


async def cookie_of(address: str, key: NewKey) -> str:
    response = await post(address, "/admin/api/login", {"key": key.text})
    assert response.status_code == 200
    return response.headers["set-cookie"].partition(";")[0]


def test_a_page_of_the_service_opens_it_and_no_other(settings: Settings, store: BlockingStore) -> None:
    key = kept_key(store, "ada", Role.VIEWER)

    async def body() -> None:
        async with service(settings) as address:
            cookie = {"Cookie": await cookie_of(address, key)}
            url = f"ws://{address}/admin/echo"
            async with connected(url, additional_headers=cookie, origin=f"http://{address}") as client:
                await client.send(type="ping")
                assert await client.receive() == {"type": "ping"}
            for origin in (None, "http://localhost:3000"):
                with pytest.raises(InvalidStatus, match="403"):
                    async with connected(url, additional_headers=cookie, origin=origin):
                        pass
            # A key in place of the cookie is no browser's doing.
            async with connected(url, additional_headers=bearer(key), origin="http://localhost:3000"):
                pass
            with pytest.raises(InvalidStatus, match="401"):
                async with connected(f"ws://{address}/v1/chat", additional_headers=cookie, origin=f"http://{address}"):
                    pass

    run(body)


@pytest.mark.parametrize("end", ["logout", "revoke"])
def test_it_is_closed_when_the_session_ends(settings: Settings, store: BlockingStore, end: str) -> None:
    key = kept_key(store, "ada", Role.VIEWER)

    async def logout(address: str, cookie: str) -> None:
        assert (await post(address, "/admin/api/logout", {}, cookie)).status_code == 204

    async def revoke(_address: str, _cookie: str) -> None:
        assert await asyncio.to_thread(store.run, revoke_key(key.id))

    async def body() -> None:
        async with service(settings) as address:
            ending, staying = await cookie_of(address, key), await cookie_of(address, key)
            url, origin = f"ws://{address}/admin/echo", f"http://{address}"
            async with (
                connected(url, additional_headers={"Cookie": ending}, origin=origin) as client,
                connected(url, additional_headers={"Cookie": staying}, origin=origin) as other,
            ):
                await (logout if end == "logout" else revoke)(address, ending)
                assert (await closed(client))[0] == 1008
                if end == "revoke":
                    assert (await closed(other))[0] == 1008
                else:
                    await other.send(type="ping")
                    await other.receive()

    run(body)
