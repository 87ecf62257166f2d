"""Ids to text, exactly and as they come; knows no prompts, no engine and no store."""

from ekiden_worker.text.answer import AnswerText
from ekiden_worker.text.detokenizer import Detokenizer
from ekiden_worker.text.vocabulary import UnknownTokenizer, Vocabulary

__all__ = ["AnswerText", "Detokenizer", "UnknownTokenizer", "Vocabulary"]
