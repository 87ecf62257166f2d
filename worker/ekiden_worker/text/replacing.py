"""Replacing texts in text that comes in pieces."""

from collections.abc import Sequence
from functools import lru_cache

from ekiden_worker.text.trie import Trie

Pairs = Sequence[tuple[str, str]]


class _Table:
    """For each node of a trie, what its text becomes once it cannot go on there, and the node to go on from.

    So a character is looked at once, and never again from an earlier place.
    """

    __slots__ = ("edges", "fails", "resolved")

    def __init__(self, pairs: Pairs) -> None:
        trie = Trie([old for old, _ in pairs])
        new_of = dict(pairs)
        self.edges = trie.edges
        self.fails = [0] * len(trie.edges)
        self.resolved: list[tuple[str, ...]] = [()] * len(trie.edges)
        for node, edges in enumerate(self.edges):
            for character, child in edges.items():
                if child in trie.word_at:
                    self.resolved[child] = (new_of[trie.word_at[child]],)
                elif not node:
                    self.resolved[child] = (character,)
                else:
                    texts = list(self.resolved[node])
                    self.fails[child] = self.step(self.fails[node], character, texts)
                    self.resolved[child] = tuple(texts)

    def step(self, node: int, character: str, texts: list[str]) -> int:
        """The node after one more character; what became certain is added to `texts`."""
        while (following := self.edges[node].get(character)) is None:
            if not node:
                texts.append(character)
                return 0
            texts += self.resolved[node]
            node = self.fails[node]
        if self.edges[following]:
            return following
        texts += self.resolved[following]
        return self.fails[following]


_table = lru_cache(maxsize=32)(_Table)


class Replacer:
    """Replaces each `old` by its `new`: leftmost first, at one place the longest; what was put in is not read again.

    Holds back only an end that may still become a match, or a longer one. The joined results are those of `re.sub` on
    the whole text, with the longest alternatives first.
    """

    __slots__ = ("_node", "_table")

    def __init__(self, pairs: Pairs) -> None:
        if any(not old for old, _ in pairs):
            raise ValueError("a text to replace is empty")
        self._table = _table(tuple((old, new) for old, new in pairs))
        self._node = 0

    def push(self, text: str, *, last: bool = False) -> str:
        """The text that became certain; `last`: none follows, so nothing is held back."""
        table, node = self._table, self._node
        if not node and table.edges[0].keys().isdisjoint(text):
            return text
        texts: list[str] = []
        for character in text:
            node = table.step(node, character, texts)
        while last and node:
            texts += table.resolved[node]
            node = table.fails[node]
        self._node = node
        return "".join(texts)
