"""People who chat, for pictures of a fleet at work: a wave of them; some lose patience, some ask for too much."""

import asyncio
import math
import random
import time
from contextlib import AsyncExitStack

from ekiden import Client
from ekiden.errors import EkidenError

USERS = ("alice", "bob", "carol", "dave", "erin")
WAVE_S = 150.0
MOST_AT_ONCE = 17

SENTENCES = (
    "Start slower than you think you should, and finish faster than you thought you could.",
    "A relay is not won by the fastest runner but by the sash that never touches the ground.",
    "The first Ekiden went from Kyoto to Tokyo in 1917, over 508 kilometres and three days.",
    "Drink before you are thirsty, and eat before you are hungry.",
    "The last leg belongs to the one who still smiles at the top of the hill.",
    "Hand over early rather than late: the next runner is already moving.",
    "Rest is the part of training that nobody posts about.",
)
TOO_LONG = "Tell me everything. " * 400


def words(chance: random.Random) -> str:
    """Something to say, of 100 to 700 characters."""
    return " ".join(chance.sample(SENTENCES, chance.randint(2, len(SENTENCES))))


async def chat_for(url: str, keys: dict[str, str], seconds: float) -> None:
    """Keep the service busy for a while."""
    chance = random.Random(1917)
    end = time.monotonic() + seconds
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url, api_key=keys[user])) for user in USERS]
        async with asyncio.TaskGroup() as group:
            for place in range(MOST_AT_ONCE):
                group.create_task(_visitor(clients[place % len(clients)], place, random.Random(chance.random()), end))


async def _visitor(client: Client, place: int, chance: random.Random, end: float) -> None:
    """One who asks again and again while the wave is high enough for so many."""
    while time.monotonic() < end:
        height = (1 - math.cos(2 * math.pi * time.monotonic() / WAVE_S)) / 2
        if place < 5 + height * (MOST_AT_ONCE - 5):
            await _ask(client, chance)
        await asyncio.sleep(chance.uniform(0.2, 3))


async def _ask(client: Client, chance: random.Random) -> None:
    text = TOO_LONG if chance.random() < 0.015 else words(chance)
    answer = client.chat(text, priority=chance.choice((0, 0, 0, 0, 2, -1)))
    patience_s = chance.uniform(0.5, 4) if chance.random() < 0.08 else 120
    try:
        await asyncio.wait_for(answer.text(), patience_s)
    except TimeoutError:
        await answer.cancel()
    except EkidenError:
        pass  # it is in the picture
