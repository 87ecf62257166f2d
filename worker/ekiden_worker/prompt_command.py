"""The `ekiden prompt` command."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def prompt(
        tokenizer: Annotated[Path, typer.Option(help="Folder with the model's tokenizer.json.")],
        format: Annotated[  # noqa: A002 (the option's name)
            str | None, typer.Option(help="llama2, template, plain, dialogue or auto; otherwise EKIDEN_PROMPT_FORMAT.")
        ] = None,
        show: Annotated[bool, typer.Option("--show", help="Show the prompt's segments to a person instead.")] = False,
    ) -> None:
        """Read lines of {"messages": […]}; write {"ids": […], "text": "…"} for each: the prompt a worker builds."""
        from ekiden_worker.prompt_lines import run

        raise typer.Exit(run(tokenizer, format, show=show))
