"""The WebSocket endpoint `/v1/chat`."""

from fastapi import APIRouter
from starlette.websockets import WebSocket

from ekiden.errors import Unauthorized
from ekiden.protocol import SUBPROTOCOL
from ekiden_api.access import error_response
from ekiden_api.service import Service
from ekiden_api.session import Session

router = APIRouter()


@router.websocket("/v1/chat")
async def chat(websocket: WebSocket) -> None:
    """Speak the contract with one client; a connection without a valid key is refused with HTTP 401."""
    service: Service = websocket.app.state.service
    offered = websocket.scope.get("subprotocols", [])
    try:
        user = service.access.user(websocket, offered)
    except Unauthorized as error:
        await websocket.send_denial_response(error_response(error))
        return
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    await Session(websocket, service, user).run()
