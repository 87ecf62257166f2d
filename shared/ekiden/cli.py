"""The `ekiden` program: commands register through the entry-point group `ekiden.commands`; this imports none."""

import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

import ekiden
from ekiden.exit_codes import CONFIG

EXTRA_OF = {"api": "api", "worker": "worker", "up": "all", "detokenize": "worker", "prompt": "worker"}


def create_cli() -> typer.Typer:
    """The program with every installed command."""
    cli = typer.Typer(
        name="ekiden",
        help="Chat answers from a fleet of workers that survive the death of any process.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @cli.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass

    for entry in sorted(entry_points(group="ekiden.commands"), key=lambda entry: entry.name):
        entry.load()(cli)
    return cli


def main() -> None:
    """Run the program; a command whose packages are not installed says which extra brings them."""
    try:
        create_cli()()
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0].startswith("ekiden"):
            raise
        extra = EXTRA_OF.get(next((word for word in sys.argv[1:] if not word.startswith("-")), ""), "all")
        typer.echo(f"This needs the package {error.name}: pip install 'ekiden[{extra}]'.", err=True)
        sys.exit(CONFIG)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ekiden {ekiden.__version__}")
        raise typer.Exit
