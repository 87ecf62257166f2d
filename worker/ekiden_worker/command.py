"""The `ekiden worker` command."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker(
        model: Annotated[str | None, typer.Option(help="Folder, GGUF file or hub id.")] = None,
        device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
        dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
        quantization: Annotated[str | None, typer.Option(help="Weights in eight bits: int8 or fp8.")] = None,
        kv_cache_dtype: Annotated[str | None, typer.Option(help="auto, or fp8: half the bytes or less.")] = None,
        eager: Annotated[bool, typer.Option("--eager", help="Capture no CUDA graphs at start.")] = False,
        speculate: Annotated[str | None, typer.Option(help="ngram: guess what answers repeat; or off.")] = None,
    ) -> None:
        """Run one worker; the store is at EKIDEN_REDIS_URL."""
        import os

        given = {"EKIDEN_MODEL": model, "EKIDEN_DEVICE": device, "EKIDEN_DTYPE": dtype, "EKIDEN_SPECULATE": speculate}
        given |= {"EKIDEN_QUANTIZATION": quantization, "EKIDEN_KV_CACHE_DTYPE": kv_cache_dtype}
        given["EKIDEN_EAGER"] = "true" if eager else None
        os.environ |= {name: value for name, value in given.items() if value is not None}
        from ekiden_worker.__main__ import main

        raise typer.Exit(main())
