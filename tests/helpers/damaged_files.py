"""Damage to the bytes of a file, for the tests of everything that reads one."""

import random
from collections.abc import Iterator


def damaged(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield damaged copies: cut off, a bit flipped, bytes replaced, or words, which may be addresses, put elsewhere."""
    choose = random.Random(seed)
    words = len(whole) // 8
    for trial in range(count):
        found = bytearray(whole)
        if trial % 4 == 0:
            del found[choose.randrange(len(found)) :]
        elif trial % 4 == 1:
            found[choose.randrange(len(found))] ^= 1 << choose.randrange(8)
        elif trial % 4 == 2:
            for _ in range(choose.randrange(1, 40)):
                found[choose.randrange(len(found))] = choose.randrange(256)
        else:
            for _ in range(choose.randrange(1, 4)):
                source, target = (8 * choose.randrange(words) for _ in range(2))
                found[target : target + 8] = found[source : source + 8]
        yield bytes(found)
