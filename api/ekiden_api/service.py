"""What all connections of this process share."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from ekiden.errors import ModelNotFound, OutOfRange
from ekiden.settings import Settings
from ekiden.store import Store
from ekiden_api.access import Access, watched_access
from ekiden_api.admin.desk import Desk
from ekiden_api.admin.drills import Drills, conducting
from ekiden_api.admin.live import Live, watching
from ekiden_api.hub import Hub
from ekiden_api.link import Link, linked
from ekiden_api.metrics import Metrics
from ekiden_api.outbox import Rounds
from ekiden_api.presence import Presence
from ekiden_api.wakeups import WakeUps, waking

MODELS_FRESH_S = 1.0


@dataclass
class Service:
    """The parts of one API process."""

    settings: Settings
    store: Store
    hub: Hub
    link: Link
    wake_ups: WakeUps
    access: Access
    desk: Desk
    live: Live
    drills: Drills
    presence: Presence
    rounds: Rounds = field(default_factory=Rounds)
    metrics: Metrics = field(default_factory=Metrics)
    _models: dict[str, int] = field(default_factory=dict)
    _models_read: float = float("-inf")

    async def models(self) -> dict[str, int]:
        """Every model workers ever served here, with its context in tokens; read at most once a second."""
        if time.monotonic() - self._models_read > MODELS_FRESH_S:
            found = await self.store.redis.hgetall(self.store.keys.models)
            self._models = {name.decode(): int(context) for name, context in found.items()}
            self._models_read = time.monotonic()
        return self._models

    async def check_model(self, model: str, max_tokens: int | None) -> None:
        """Raise ModelNotFound or OutOfRange for what no worker could answer."""
        models = await self.models()
        if model not in models:
            if model != self.settings.model_name:
                others = "".join(f", {name}" for name in sorted(models) if name != self.settings.model_name)
                raise ModelNotFound(
                    f"No worker ever served this model here; there is {self.settings.model_name}{others}."
                )
        elif max_tokens is not None and max_tokens > models[model]:
            raise OutOfRange(
                f"params.max_tokens {max_tokens} is more than the model's context of {models[model]} tokens."
            )


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """The parts, started in the order they need each other."""
    store = Store(settings)
    hub, desk = Hub(), Desk(store)
    try:
        async with AsyncExitStack() as stack:
            wake_ups = stack.enter_context(waking(settings))
            access = await stack.enter_async_context(watched_access(settings, store))
            live = await stack.enter_async_context(watching(desk))
            presence = Presence(hub, live)
            drills = await stack.enter_async_context(conducting(store))
            link = await stack.enter_async_context(linked(store, hub, presence.describe))
            yield Service(settings, store, hub, link, wake_ups, access, desk, live, drills, presence)
    finally:
        await store.close()
