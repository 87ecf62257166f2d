"""The WebSocket endpoint `/v1/chat`."""

from fastapi import APIRouter
from starlette.websockets import WebSocket

from ekiden.errors import EkidenError
from ekiden.protocol import SUBPROTOCOL
from ekiden_api.refusals import error_response
from ekiden_api.service import Service
from ekiden_api.session import Session

router = APIRouter()


@router.websocket("/v1/chat")
async def chat(websocket: WebSocket) -> None:
    """Speak the contract with one client; one without a valid key is refused with HTTP 401."""
    service: Service = websocket.app.state.service
    offered = websocket.scope.get("subprotocols", [])
    try:
        identity = await service.access.identify(websocket, offered)
    except EkidenError as error:
        await websocket.send_denial_response(error_response(error))
        return
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    async with service.access.holding(websocket, identity):
        with service.presence.connected():
            await Session(websocket, service, identity.user).run()
