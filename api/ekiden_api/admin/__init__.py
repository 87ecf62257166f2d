"""The operators' side: what they see of a fleet, and what they do to it (docs/admin.md)."""

from fastapi import APIRouter

from ekiden_api.admin import actions, readings, socket

router = APIRouter()
for _module in (readings, actions, socket):
    router.include_router(_module.router)

SHAPES = (*readings.SHAPES, *actions.SHAPES)
"""Every type that the routes take or answer."""
