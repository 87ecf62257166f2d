"""The `ekiden up` command."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def up(
        model: Annotated[str | None, typer.Option(help="Folder, GGUF file or hub id.")] = None,
        workers: Annotated[int | None, typer.Option(help="How many workers.")] = None,
        device: Annotated[str | None, typer.Option(help="Where the model runs: cpu, cuda or cuda:N.")] = None,
        quantization: Annotated[str | None, typer.Option(help="Weights in eight bits: int8 or fp8.")] = None,
        kv_cache_dtype: Annotated[str | None, typer.Option(help="auto, or fp8: half the bytes or less.")] = None,
        eager: Annotated[bool, typer.Option("--eager", help="Capture no CUDA graphs at start.")] = False,
        speculate: Annotated[str | None, typer.Option(help="ngram: guess what answers repeat; or off.")] = None,
        host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
        port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
        data_dir: Annotated[Path | None, typer.Option(help="Where the job store is kept.")] = None,
    ) -> None:
        """Run everything on this machine: job store, API and workers."""
        import os

        from ekiden.exit_codes import CONFIG
        from ekiden.settings import SettingsError, given_store_url, load_settings
        from ekiden.supervisor.run import run

        for needed in ("fastapi", "torch"):
            if find_spec(needed) is None:
                raise ModuleNotFoundError(f"No module named {needed!r}", name=needed)
        given = {"MODEL": model, "WORKERS": workers, "DEVICE": device, "HOST": host, "PORT": port, "DATA_DIR": data_dir}
        given |= {"QUANTIZATION": quantization, "KV_CACHE_DTYPE": kv_cache_dtype, "SPECULATE": speculate}
        given["EAGER"] = "true" if eager else None
        os.environ |= {f"EKIDEN_{name}": str(value) for name, value in given.items() if value is not None}
        try:
            settings = load_settings()
        except SettingsError as error:
            typer.echo(error, err=True)
            raise typer.Exit(CONFIG) from None
        raise typer.Exit(run(settings, given_store_url()))
