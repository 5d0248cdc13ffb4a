"""Files and folders in memory, each in two versions: as it is, and as it was when it was flushed.

A power failure leaves the flushed version, and of what came after it nothing, everything, or any
part, sector by sector and name by name. What may be left is what docs/reference/crash-testing.md
says of files and names.
"""

import random
import stat
import time

SECTOR_BYTES = 512
ROOT = 1


class Node:
    """A file or a folder."""

    def __init__(self, number, mode):
        self.number = number
        self.mode = mode
        self.path = b""
        self.links = 0
        self.changed_ns = time.time_ns()
        self.data = bytearray()
        self.entries = {}
        self._flushed = bytearray()
        self._flushed_entries = {}
        self._pending = []

    @property
    def is_folder(self):
        return stat.S_ISDIR(self.mode)

    def write(self, offset, data):
        if len(self.data) < offset:
            self.resize(offset)
        self.data[offset : offset + len(data)] = data
        self._pending.append((offset, offset + len(data)))
        self.touch()

    def resize(self, size):
        before = len(self.data)
        if size < before:
            del self.data[size:]
        else:
            self.data.extend(bytes(size - before))
        self._pending.append((min(size, before), max(size, before)))
        self.touch()

    def touch(self):
        self.changed_ns = time.time_ns()

    def flush(self):
        """What was written is durable now."""
        _resize(self._flushed, len(self.data))
        for start, end in self._pending:
            self._flushed[start : min(end, len(self.data))] = self.data[start:end]
        self._pending.clear()

    def flush_names(self):
        """The names in the folder are durable now."""
        self._flushed_entries = dict(self.entries)

    def lose_pending(self):
        """A flush failed: what is in memory is there, and no later flush brings it to the disk."""
        self._pending.clear()

    def cut(self, source, kept):
        """Leave what was flushed, and of each later change what chance lets reach the disk."""
        changed = sorted(
            name
            for name in self.entries.keys() | self._flushed_entries.keys()
            if self.entries.get(name) is not self._flushed_entries.get(name)
        )
        for name in changed:
            if source.random() < kept:
                _settle(self._flushed_entries, name, self.entries.get(name))
        self.entries = dict(self._flushed_entries)
        if source.random() < kept:
            _resize(self._flushed, len(self.data))
        for start, end in self._pending:
            for sector in range(start - start % SECTOR_BYTES, end, SECTOR_BYTES):
                if source.random() < kept:
                    first, last = max(sector, start), min(sector + SECTOR_BYTES, end)
                    last = min(last, len(self._flushed), len(self.data))
                    if first < last:
                        self._flushed[first:last] = self.data[first:last]
        self._pending.clear()
        self.data = bytearray(self._flushed)


class Tree:
    """Every node that has a name, or is still open."""

    def __init__(self):
        self._made = ROOT
        self.root = Node(ROOT, stat.S_IFDIR | 0o700)
        self.nodes = {ROOT: self.root}

    def make(self, folder, name, mode):
        """A new file or folder under a name that is free."""
        self._made += 1
        node = self.nodes[self._made] = Node(self._made, mode)
        self.name(folder, name, node)
        return node

    def name(self, folder, name, node):
        """Give a node a name, in the place of what had it."""
        self.forget(folder, name)
        folder.entries[name] = node
        node.path = folder.path + b"/" + name
        node.links += 1
        node.touch()
        folder.touch()

    def forget(self, folder, name):
        """Take a name away, if it is there."""
        node = folder.entries.pop(name, None)
        if node is not None:
            node.links -= 1
            node.touch()
            folder.touch()

    def cut(self, source: random.Random, kept: float):
        """Lose power: of what was not flushed, each part is left with a chance of `kept`."""
        self.nodes = {}
        self.root.links = 1
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            self.nodes[node.number] = node
            node.cut(source, kept)
            for each in node.entries.values():
                if each.number not in self.nodes and each not in waiting:
                    each.links = 0
                    waiting.append(each)
                each.links += 1


def _settle(entries, name, node):
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _resize(data, size):
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))
