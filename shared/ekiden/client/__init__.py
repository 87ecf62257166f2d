"""The asyncio client: answers as iterators that survive lost connections. Knows the contract, not the server."""

from ekiden.client.answer import Answer, Event
from ekiden.client.client import Client
from ekiden.client.errors import ClientClosed, Superseded, Unreachable
from ekiden.client.retry import Retry
from ekiden.conversations import Conversation, Turn, WholeConversation

__all__ = [
    "Answer",
    "Client",
    "ClientClosed",
    "Conversation",
    "Event",
    "Retry",
    "Superseded",
    "Turn",
    "Unreachable",
    "WholeConversation",
]
