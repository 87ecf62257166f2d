"""The WebSocket endpoint `/admin/live`."""

import asyncio

import msgspec
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from ekiden.errors import EkidenError, InvalidFrame
from ekiden.protocol import SUBPROTOCOL
from ekiden.roles import Role
from ekiden_api.admin.live import Live, Onlooker
from ekiden_api.admin.readings import shows_text
from ekiden_api.admin.shown import decode_watch
from ekiden_api.refusals import error_response
from ekiden_api.service import Service

router = APIRouter()


@router.websocket("/admin/live")
async def live(websocket: WebSocket) -> None:
    """Push what a dashboard shows; a connection that no viewer opens is refused with an HTTP status."""
    service: Service = websocket.app.state.service
    offered = websocket.scope.get("subprotocols", [])
    try:
        identity = await service.access.require(websocket, Role.VIEWER, offered)
    except EkidenError as error:
        await websocket.send_denial_response(error_response(error))
        return
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    onlooker = Onlooker(with_text=shows_text(service, identity))
    async with service.access.holding(websocket, identity), service.live.joined(onlooker):
        await _serve(websocket, service.live, onlooker)


async def _serve(websocket: WebSocket, live: Live, onlooker: Onlooker) -> None:
    """Until the page is gone."""
    tasks = [asyncio.create_task(_read(websocket, live, onlooker)), asyncio.create_task(_send(websocket, onlooker))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            # A send on a connection that just closed raises one of these.
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | RuntimeError):
                raise outcome


async def _read(websocket: WebSocket, live: Live, onlooker: Onlooker) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            live.look(onlooker, decode_watch(message.get("text") or message.get("bytes") or b""))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            onlooker.refuse(InvalidFrame(f"A page says what it watches, and nothing else: {error}."))


async def _send(websocket: WebSocket, onlooker: Onlooker) -> None:
    while True:
        await onlooker.filled.wait()
        onlooker.filled.clear()
        while onlooker.unsent:
            name = next(iter(onlooker.unsent))
            await websocket.send_text(onlooker.unsent.pop(name).decode())
