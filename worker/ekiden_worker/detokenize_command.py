"""The `ekiden detokenize` command."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def detokenize(
        tokenizer: Annotated[Path, typer.Option(help="Folder with the model's tokenizer.json.")],
    ) -> None:
        """Read lines of {"ids": […]}; write {"deltas": […], "text": "…"} for each: one delta an id, and the flush."""
        from ekiden_worker.detokenize import run

        raise typer.Exit(run(tokenizer))
