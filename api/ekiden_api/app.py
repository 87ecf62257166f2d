"""Builds the FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import ekiden
from ekiden.collector import collect_seldom
from ekiden.errors import EkidenError, StoreUnavailable
from ekiden.settings import Settings
from ekiden.tracing import tracing
from ekiden_api import admin, admin_page, chat, conversations, http, login, metrics_page, pages
from ekiden_api.allow_lists import AllowLists
from ekiden_api.openapi import describe
from ekiden_api.refusals import error_response, refusal_of
from ekiden_api.service import open_service

log = structlog.get_logger()


def create_app(settings: Settings) -> FastAPI:
    """The service with these settings; it connects to the store when it starts, and may start before the store does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with tracing("ekiden-api"):
            async with open_service(settings) as service:
                app.state.service = service
                collect_seldom()
                yield

    # The interactive documentation pages load scripts from elsewhere; the description itself is at /openapi.json.
    app = FastAPI(
        title="Ekiden",
        version=ekiden.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for module in (chat, http, conversations, login, metrics_page, admin, admin_page, pages):
        app.include_router(module.router)
    describe(app, admin.SHAPES)
    app.add_middleware(AllowLists, settings=settings)
    app.add_exception_handler(EkidenError, _on_ekiden_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(redis.RedisError, _on_store_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    return app


async def _on_ekiden_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EkidenError)
    return error_response(error)


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(refusal_of(error.errors()))


async def _on_store_error(_request: Request, error: Exception) -> JSONResponse:
    log.warning("store_unavailable", error=type(error).__name__)
    return error_response(StoreUnavailable("The job store does not answer; try again."))


async def _on_http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    body = {"error": {"code": code, "message": f"{error.detail}.", "retryable": False}}
    return JSONResponse(body, error.status_code, error.headers)


async def _on_bug(_request: Request, _error: Exception) -> JSONResponse:
    """The server logs the error itself."""
    return error_response(EkidenError("The request could not be handled."))
