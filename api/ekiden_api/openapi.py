"""Describes what routes take and answer by the types they use, so that the description cannot differ from them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

_REFERENCE = "#/components/schemas/{name}"


def answer(shape: msgspec.Struct) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(shape), media_type="application/json")


def answers(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """Arguments of a route that answers with this type."""
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(name=shape.__name__)}}}
    responses = {200: {"description": (shape.__doc__ or "").partition("\n")[0], "content": content}}
    return {"responses": responses, "response_class": Response}


def takes(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is of this type."""
    schema = {"$ref": _REFERENCE.format(name=shape.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(app: FastAPI, shapes: Sequence[type[msgspec.Struct]]) -> None:
    """Add the types that routes refer to to the application's description."""
    _, components = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
