"""Fuzz the parsers for as long as you like.

    python -m tests.fuzz.run --seconds 60                 # every target, seeds mutated
    python -m tests.fuzz.run --only image --seed 7
    python -m tests.fuzz.run --atheris image -- -max_total_time=600    # by coverage; pip install atheris

What makes a target raise is written to build/fuzz and the command ends with status 1.
"""

import argparse
import hashlib
import logging
import random
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

KEPT = Path("build") / "fuzz"
LONGEST = 1 << 16
INTERESTING = (
    *b"\x00 \xff \xff\xff\xff\xff \x80 \r\n = ; , : \" ' -1 1e999 nan \xc2\xb2 \xd9\xa3".split(b" "),
    b"9" * 5000,
    b"[" * 2000,
    b'{"a":' * 2000,
)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A neighbour of `data`: some bytes flipped, cut out, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        length = chance.choice((1, 1, 2, 4, 16, 64))
        match chance.randrange(5):
            case 0 if found:
                found[at % len(found)] = chance.randrange(256)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[at : at + length]
            case 3:
                found[at:at] = chance.choice(INTERESTING)
            case _:
                found[at : at + length] = chance.randbytes(length)
    return bytes(found[:LONGEST])


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Without end: the seeds themselves, then neighbours of them and of their neighbours."""
    chance = random.Random(seed)
    yield from (b"", *target.seeds)
    pool = list(target.seeds)
    while True:
        made = mutate(chance.choice(pool), chance)
        yield made
        if chance.random() < 0.1:
            if len(pool) < 200:
                pool.append(made)
            else:
                pool[chance.randrange(len(target.seeds), len(pool))] = made


def fuzz(name: str, seconds: float, seed: int) -> int:
    """Feed one target for a while; the number of inputs it saw. Raises what it raises, the input kept in a file."""
    end = time.monotonic() + seconds
    for count, data in enumerate(inputs(TARGETS[name], seed)):
        if time.monotonic() > end:
            return count
        try:
            TARGETS[name].run(data)
        except Exception:
            KEPT.mkdir(parents=True, exist_ok=True)
            kept = KEPT / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            kept.write_bytes(data)
            print(f"{name}: input {count} of seed {seed} raises; it is in {kept}", file=sys.stderr)
            raise
    return 0


def main() -> int:
    """Run the targets; 1 if an input made one raise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="for each target [30]")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same inputs [0]")
    parser.add_argument("--only", choices=TARGETS, help="one target alone")
    parser.add_argument("--atheris", choices=TARGETS, metavar="NAME", help="one target, driven by atheris")
    parser.add_argument("rest", nargs="*", help="arguments of atheris")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # parsers warn of what they refuse, here at every input
    if options.atheris:
        import atheris

        atheris.instrument_all()
        atheris.Setup([sys.argv[0], *options.rest], TARGETS[options.atheris].run)
        atheris.Fuzz()
        return 0
    failed = 0
    for name in [options.only] if options.only else TARGETS:
        try:
            count = fuzz(name, options.seconds, options.seed)
        except Exception:
            traceback.print_exc()
            failed = 1
        else:
            print(f"{name:16} {count:8} inputs")
    return failed


if __name__ == "__main__":
    sys.exit(main())
