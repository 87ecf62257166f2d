"""Conversations to prompt ids. Every format is one small file and one line in `formats`."""

from ekiden_worker.prompts.fit import Fitted, fit, split_turns
from ekiden_worker.prompts.formats import choose_format
from ekiden_worker.prompts.parts import Entry, KeptAnswer, Part, PromptFormat, UnusableFormat
from ekiden_worker.prompts.room import Room
from ekiden_worker.prompts.rules import PromptRules
from ekiden_worker.prompts.tokenizer import ModelTokenizer, UnusableTokenizer

__all__ = [
    "Entry",
    "Fitted",
    "KeptAnswer",
    "ModelTokenizer",
    "Part",
    "PromptFormat",
    "PromptRules",
    "Room",
    "UnusableFormat",
    "UnusableTokenizer",
    "choose_format",
    "fit",
    "split_turns",
]
