"""A model's tokenizer, both ways: as its file says, and as transformers makes of it."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from tokenizers import AddedToken, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ChatTemplate = str | Mapping[str, str]
"""One Jinja template, or several by name."""

# Where no config of a model says otherwise, transformers takes the file of these as it is.
PLAIN_CLASSES = (None, "PreTrainedTokenizerFast", "TokenizersBackend")


class UnusableTokenizer(ValueError):
    """The tokenizer cannot be read; the message is one sentence that says why."""


class ModelTokenizer:
    """`raw` is the tokenizer that the model's file describes. `fast` is what transformers makes of it.

    They can differ: transformers rebuilds some kinds (Llama's among them) by rules of its own. A chat template is meant
    for what transformers makes; everything else follows the file. `fast` is loaded when it is first asked for.
    """

    def __init__(
        self, raw: Tokenizer, chat_template: ChatTemplate | None, load: Callable[[], "PreTrainedTokenizerFast"]
    ) -> None:
        self.raw = raw
        self.chat_template = chat_template
        self._load = load

    @cached_property
    def fast(self) -> "PreTrainedTokenizerFast":
        """The tokenizer of transformers. Raises UnusableTokenizer."""
        return self._load()

    @classmethod
    def of(cls, fast: "PreTrainedTokenizerFast", file: Path | None = None) -> "ModelTokenizer":
        """Of a loaded tokenizer and its tokenizer.json, where it has one. Raises UnusableTokenizer."""
        raw = _raw(file, fast.added_tokens_decoder) if file else fast.backend_tokenizer
        return cls(raw, fast.chat_template, lambda: fast)

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelTokenizer":
        """Of a folder with a tokenizer.json; what else a model's folder holds may lack. Raises UnusableTokenizer."""
        if not folder.is_dir():
            raise UnusableTokenizer(f"There is no folder {folder}.")
        if not (folder / "tokenizer.json").is_file():
            raise UnusableTokenizer(f"The folder {folder} has no tokenizer.json.")
        config = _config(folder)
        added = {token_id: token.as_added() for token_id, token in config.added_tokens_decoder.items()}
        raw = _raw(folder / "tokenizer.json", added)
        return cls(raw, _chat_template(folder, config), lambda: _fast(folder, config))


class _Token(msgspec.Struct):
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False

    def as_added(self) -> AddedToken:
        return AddedToken(**msgspec.structs.asdict(self))


class _NamedTemplate(msgspec.Struct):
    name: str
    template: str


class _Config(msgspec.Struct):
    """What we need of a tokenizer_config.json."""

    chat_template: str | list[_NamedTemplate] | None = None
    tokenizer_class: str | None = None
    added_tokens_decoder: dict[int, _Token] = {}


def _raw(file: Path, added: Mapping[int, AddedToken]) -> Tokenizer:
    """The file's tokenizer, and the tokens that only the config beside it adds."""
    try:
        raw = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 (the library raises this very type)
        raise UnusableTokenizer(f"The file {file} cannot be read: {error}") from None
    for token_id, token in sorted(added.items()):
        if raw.token_to_id(token.content) is None and raw.get_vocab_size() == token_id:
            raw.add_tokens([token])
    return raw


def _config(folder: Path) -> _Config:
    text = _text(folder / "tokenizer_config.json")
    try:
        return msgspec.json.decode(text, type=_Config) if text is not None else _Config()
    except msgspec.DecodeError as error:
        raise UnusableTokenizer(f"The file {folder / 'tokenizer_config.json'} cannot be read: {error}.") from None


def _chat_template(folder: Path, config: _Config) -> ChatTemplate | None:
    """Where transformers looks for it, in its order."""
    text = _text(folder / "chat_template.jinja")
    if text is not None:
        return text
    if isinstance(config.chat_template, list):
        return {named.name: named.template for named in config.chat_template}
    return config.chat_template


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableTokenizer(f"The file {file} cannot be read: {error}.") from None


def _fast(folder: Path, config: _Config) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    from ekiden_worker.model_logs import quiet_libraries

    quiet_libraries()
    loader: Any = PreTrainedTokenizerFast
    if config.tokenizer_class not in PLAIN_CLASSES or (folder / "config.json").exists():
        from transformers import AutoTokenizer  # with torch, which takes a second or two

        loader = AutoTokenizer
    try:
        fast = loader.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001 (libraries raise whatever a broken file leads them to)
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnusableTokenizer(f"The tokenizer in {folder} cannot be read: {reason}") from None
    if not isinstance(fast, PreTrainedTokenizerFast):
        raise UnusableTokenizer(f"The tokenizer in {folder} is not a fast one.")
    return fast
