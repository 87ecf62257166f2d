"""Words as a tree that text walks down character by character."""

from collections.abc import Collection


class Trie:
    """`edges[node][character]` is the node one character further; node 0 is the root.

    Nodes are numbered breadth first: each comes after all that are nearer to the root. `word_at` names the word that
    ends at a node.
    """

    __slots__ = ("edges", "word_at")

    def __init__(self, words: Collection[str]) -> None:
        self.edges: list[dict[str, int]] = [{}]
        at = dict.fromkeys(words, 0)
        for depth in range(max(map(len, at), default=0)):
            for word, node in at.items():
                if depth < len(word):
                    at[word] = self._child(node, word[depth])
        self.word_at = {node: word for word, node in at.items()}

    def _child(self, node: int, character: str) -> int:
        child = self.edges[node].setdefault(character, len(self.edges))
        if child == len(self.edges):
            self.edges.append({})
        return child
