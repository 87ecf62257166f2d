"""Ids to text, exactly and as they come; knows no prompts, no engine and no store."""

from ekiden_worker.text.answer import AnswerText
from ekiden_worker.text.detokenizer import Detokenizer
from ekiden_worker.text.kept import Kept, kept_part
from ekiden_worker.text.vocabulary import UnknownTokenizer, Vocabulary

__all__ = ["AnswerText", "Detokenizer", "Kept", "UnknownTokenizer", "Vocabulary", "kept_part"]
