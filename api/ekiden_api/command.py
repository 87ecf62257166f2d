"""The `ekiden api` command."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def api(
        host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
        port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    ) -> None:
        """Run one API process; the store is at EKIDEN_REDIS_URL."""
        import os

        given = {"EKIDEN_HOST": host, "EKIDEN_PORT": None if port is None else str(port)}
        os.environ |= {name: value for name, value in given.items() if value is not None}
        from ekiden_api.__main__ import main

        raise typer.Exit(main())
