"""What the holder of a key may do; each role may all that those before it may."""

from enum import StrEnum


class Role(StrEnum):
    """In rising order: chat; see the dashboard and metrics; act on jobs and workers."""

    USER = "user"
    VIEWER = "viewer"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role may what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
