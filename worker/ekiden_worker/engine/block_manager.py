"""Pages of the KV cache: who holds them, and which full ones can be used again for an equal prefix."""

import hashlib
from array import array
from collections import OrderedDict

from ekiden_worker.engine.sequence import Sequence

TRASH_BLOCK = 0  # padding rows of a batch point here; never handed out


class BlockManager:
    """Hands out blocks with reference counts. Engine thread only.

    A free block keeps its content and hash until it is needed again, oldest first: that is the prefix cache.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._references = [0] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    @property
    def free_blocks(self) -> int:
        """Blocks nobody holds, cached ones included."""
        return len(self._free)

    def reuse_prefix(self, sequence: Sequence) -> None:
        """Give a sequence without blocks the cached blocks of its prefix; at least its last id stays to be computed."""
        for number in range((len(sequence.ids) - 1) // self.block_size):
            digest = self._hash(sequence, number)
            block = self._block_of.get(digest)
            if block is None:
                break
            self._free.pop(block, None)
            self._references[block] += 1
            sequence.block_table.append(block)
            sequence.hashes.append(digest)
            sequence.computed += self.block_size

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        """Extend the block table to hold `tokens` ids. False, and nothing changed, when too few blocks are free."""
        missing = -(-tokens // self.block_size) - len(sequence.block_table)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block, _ = self._free.popitem(last=False)
            digest = self._hash_of.pop(block, None)
            if digest is not None:
                del self._block_of[digest]
            self._references[block] = 1
            sequence.block_table.append(block)
        return True

    def seal(self, sequence: Sequence) -> None:
        """Make the sequence's newly full blocks known as prefixes."""
        known = min(sequence.computed, len(sequence.ids))  # proposed ids, computed behind them, may be wrong
        for number in range(len(sequence.hashes), known // self.block_size):
            digest = self._hash(sequence, number)
            sequence.hashes.append(digest)
            block = sequence.block_table[number]
            if digest not in self._block_of:
                self._block_of[digest] = block
                self._hash_of[block] = digest

    def release(self, sequence: Sequence) -> None:
        """Take all blocks from a sequence; the end of a prefix is given up before its beginning."""
        for block in reversed(sequence.block_table):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
        sequence.block_table.clear()
        sequence.hashes.clear()
        sequence.computed = 0

    def check_integrity(self, holders: list[Sequence]) -> None:
        """Raise RuntimeError unless free + held blocks are all blocks and every count and hash is right."""
        held = [0] * self.num_blocks
        for sequence in holders:
            for block in sequence.block_table:
                held[block] += 1
        if held != self._references:
            raise RuntimeError("block references do not match the block tables")
        free = {block for block, count in enumerate(held) if count == 0 and block != TRASH_BLOCK}
        if free != set(self._free):
            raise RuntimeError("free and held blocks are not all blocks")
        if {block: digest for digest, block in self._block_of.items()} != self._hash_of:
            raise RuntimeError("prefix hashes do not match their blocks")

    def _hash(self, sequence: Sequence, number: int) -> bytes:
        before = sequence.hashes[number - 1] if number else b""
        ids = array("q", sequence.ids[number * self.block_size : (number + 1) * self.block_size])
        return hashlib.blake2b(before + ids.tobytes(), digest_size=16).digest()
