"""Finding stop sequences in text that comes in pieces."""

from collections.abc import Sequence
from functools import lru_cache

from ekiden_worker.text.trie import Trie


class _Table:
    """The automaton of Aho and Corasick (1975): a node is the longest end of the text that begins a stop sequence."""

    __slots__ = ("depths", "edges", "fails", "met")

    def __init__(self, stops: Sequence[str]) -> None:
        trie = Trie(stops)
        self.edges = trie.edges
        self.fails = [0] * len(trie.edges)  # the longest shorter end of a node's text that is a node too
        self.depths = [0] * len(trie.edges)
        self.met = [0] * len(trie.edges)  # length of the longest stop sequence that a node's text ends with
        for node, edges in enumerate(self.edges):
            for character, child in edges.items():
                self.fails[child] = self.after(self.fails[node], character) if node else 0
                self.depths[child] = self.depths[node] + 1
                self.met[child] = self.depths[child] if child in trie.word_at else self.met[self.fails[child]]

    def after(self, node: int, character: str) -> int:
        while (following := self.edges[node].get(character)) is None and node:
            node = self.fails[node]
        return following or 0


_table = lru_cache(maxsize=32)(_Table)


class StopSearch:
    """Passes text on up to the first stop sequence, and holds back only an end that may begin one.

    The first to be complete is met, of several that end at the same character the longest: so the result does not
    depend on how the text is cut into tokens. A character costs the same however many sequences there are.
    """

    __slots__ = ("_held", "_node", "_table", "met")

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ValueError("a stop sequence is empty")
        self._table = _table(tuple(stops))
        self._node = 0
        self._held = ""
        self.met = False
        """A stop sequence is complete: no text may follow."""

    def push(self, text: str, *, last: bool = False) -> str:
        """The text that became certain; `last`: none follows, so nothing is held back."""
        table, node = self._table, self._node
        if not node and table.edges[0].keys().isdisjoint(text):
            return text
        whole = self._held + text
        for at, character in enumerate(text, len(self._held) + 1):
            node = table.after(node, character)
            if table.met[node]:
                self.met = True
                self._held, self._node = "", 0
                return whole[: at - table.met[node]]
        shown = len(whole) - (0 if last else table.depths[node])
        self._held, self._node = whole[shown:], node
        return whole[:shown]
