"""The `ekiden keys` commands."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ekiden.roles import Role

if TYPE_CHECKING:
    from ekiden.store import BlockingStore
    from ekiden.store.api_keys import KeyRecord, NewKey

T = TypeVar("T")

MAX_NOTE_LENGTH = 200

User = Annotated[str, typer.Option(help="Whose jobs and conversations the key opens.")]
AskedRole = Annotated[Role, typer.Option(help="user chats, viewer sees the dashboard too, admin acts on it.")]
Note = Annotated[str, typer.Option(help="What the key is for.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON array.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `ekiden keys list` shows it.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where `ekiden up` keeps its job store; not used with EKIDEN_REDIS_URL.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(name="keys", help="API keys: create, list, revoke.", no_args_is_help=True)
    app.add_typer(keys)

    @keys.command()
    def create(user: User, role: AskedRole = Role.USER, note: Note = "", data_dir: DataDir = None) -> None:
        """Make a key and print it; it is never shown again."""
        from ekiden.store.api_keys import is_user_name

        if not is_user_name(user):
            raise typer.BadParameter("--user has 1 to 64 characters, and no blanks, `:` or `,`")
        if len(note) > MAX_NOTE_LENGTH or not note.isprintable():
            raise typer.BadParameter(f"--note is one line of at most {MAX_NOTE_LENGTH} characters")
        key = _on_store(data_dir, lambda store: _create(store, user, role, note))
        typer.echo(f"A key of {user}, role {role}, id {key.id}. Keep it: it is not shown again.", err=True)
        typer.echo(key.text)

    @keys.command("list")
    def list_all(as_json: AsJson = False, data_dir: DataDir = None) -> None:
        """Show every key without its secret, the oldest first."""
        from ekiden.store.api_keys import list_keys

        found = _on_store(data_dir, list_keys)
        if as_json:
            rows = [_row(key_id, record) for key_id, record in found.items()]
            typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        elif found:
            typer.echo(_table(found))
        else:
            typer.echo("There are no keys.", err=True)

    @keys.command()
    def revoke(key_id: KeyId, data_dir: DataDir = None) -> None:
        """Forget a key; what it opened is closed within seconds, its jobs go on."""
        from ekiden.exit_codes import FAILED
        from ekiden.store.api_keys import revoke_key

        if not _on_store(data_dir, lambda store: store.run(revoke_key(key_id))):
            typer.echo(f"There is no key with the id {key_id}.", err=True)
            raise typer.Exit(FAILED)
        typer.echo(f"Revoked {key_id}.", err=True)


def _create(store: "BlockingStore", user: str, role: Role, note: str) -> "NewKey":
    from ekiden.store.api_keys import create_key, make_key

    while True:
        key = make_key()
        if store.run(create_key(key, user, role, note)):
            return key


def _on_store(data_dir: Path | None, work: "Callable[[BlockingStore], T]") -> T:
    """Do `work` on the store; what fails is said in one sentence."""
    import asyncio

    import redis

    from ekiden.exit_codes import CONFIG, FAILED
    from ekiden.settings import SettingsError, load_settings
    from ekiden.store import reason_of
    from ekiden.supervisor.nearest_store import on_nearest_store
    from ekiden.supervisor.readiness import StoreSilent

    try:
        settings = load_settings(**({"data_dir": data_dir} if data_dir else {}))
        return asyncio.run(on_nearest_store(settings, work))
    except SettingsError as error:
        typer.echo(error, err=True)
        sys.exit(CONFIG)
    except StoreSilent as error:
        typer.echo(error, err=True)
    except (redis.RedisError, OSError) as error:
        typer.echo(f"The job store does not answer: {reason_of(error)}", err=True)
    sys.exit(FAILED)


def _row(key_id: str, record: "KeyRecord") -> dict[str, str | int]:
    return {
        "id": key_id,
        "user": record.user,
        "role": record.role.value,
        "note": record.note,
        "created_ms": record.created_ms,
    }


def _table(keys: "dict[str, KeyRecord]") -> str:
    rows = [("ID", "USER", "ROLE", "CREATED", "NOTE")]
    for key_id, record in keys.items():
        created = datetime.fromtimestamp(record.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        rows.append((key_id, record.user, record.role.value, created, record.note))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
