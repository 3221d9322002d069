"""Stream the simulator's random numbers into the Dieharder battery (Brown, Eddelbuettel, Bauer).

    python benchmarks/random_battery.py --quick           every order, the quicker tests
    python benchmarks/random_battery.py --order voxel     one order, all tests (about half an hour)
    python benchmarks/random_battery.py --order step --raw | RNG_test stdin32       (PractRand)

Needs `dieharder` (Debian and Ubuntu: apt-get install dieharder). Each order is one way in which
successive numbers of the simulator differ: by voxel, step, sub-step, stream (the name of a
rule), seed (replicates of a trial), or the two words of one call. The other coordinates vary
slowly, and steps go on for as long as the battery reads. A good generator gives about 1 % "WEAK"
and no "FAILED"; a weak test counts when it is weak again under another --seed. Every test takes
Dieharder's usual 100 p-values: with 10, its final statistic is WEAK for one AES stream in seven.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import IO

import jax
import jax.numpy as jnp
import numpy as np

from lattice.kernels.random_bits import stream_key, voxel_bits

AXES = ("step", "substep", "stream", "seed", "voxel", "word")
LENGTHS = {  # of one block, about two million words; the order's own axis is the long one
    "voxel": (1, 4, 2, 2, 1 << 16, 2),
    "step": (1 << 16, 2, 2, 2, 2, 2),
    "substep": (2, 1 << 16, 2, 2, 2, 2),
    "stream": (4, 4, 128, 2, 256, 2),
    "seed": (2, 2, 2, 1 << 16, 2, 2),
    "word": (1, 4, 2, 2, 1 << 16, 2),
}
TESTS = {  # number in Dieharder: sizes of tuples; without those that it calls suspect (5-7, 14)
    **dict.fromkeys((0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 17, 100, 101, 102), (0,)),
    200: range(1, 13),
    201: range(2, 6),
    202: range(2, 6),
    203: (0, 1, 2, 4, 8, 16, 32),
    **dict.fromkeys((204, 205, 206, 207, 208, 209), (0,)),
}
QUICK = (0, 3, 8, 12, 13, 15, 16, 100, 101, 102, 207, 209)


@partial(jax.jit, static_argnames="order")
def block(high: jax.Array, start: jax.Array, order: str) -> jax.Array:
    """The words of the steps from `start` on, the axis `order` fastest.

    Seeds are high * 2**32 + 0, 1, ..., so that two values of `high` have none in common.
    """
    steps, substeps, streams, seeds, voxels, _ = LENGTHS[order]
    voxel = jnp.arange(voxels, dtype=jnp.uint32)
    replicate = jnp.arange(seeds, dtype=jnp.uint32)
    seed = jnp.stack([replicate, jnp.full_like(replicate, high)], axis=1)
    named = [jax.vmap(partial(stream_key, name=f"rule.{i}"))(seed) for i in range(streams)]
    keys = jax.tree.map(lambda *words: jnp.stack(words), *named)

    def draw(step, substep, key):
        return jnp.stack(voxel_bits(key, voxel, step, substep), axis=-1)

    draw = jax.vmap(jax.vmap(draw, (None, None, 0)), (None, None, 0))
    draw = jax.vmap(jax.vmap(draw, (None, 0, None)), (0, None, None))
    words = draw(start + jnp.arange(steps, dtype=jnp.uint32), jnp.arange(substeps), keys)
    return jnp.moveaxis(words, AXES.index(order), -1)


def write_raw(seed: int, order: str) -> None:
    """Write words to standard output until its reader has enough."""
    start = 0
    try:
        while True:
            words = block(jnp.uint32(seed), jnp.uint32(start), order)
            sys.stdout.buffer.write(np.asarray(words).tobytes())
            start += LENGTHS[order][0]
    except BrokenPipeError:
        os._exit(0)  # Python would complain once more when it flushes


def result(stream: IO[bytes] | None, test: int, size: int) -> list[str]:
    """The lines of one test, which reads on in the stream from where the last one stopped."""
    command = ["dieharder", "-g", "200", "-d", str(test), "-n", str(size)]
    done = subprocess.run(command, stdin=stream, stdout=subprocess.PIPE, text=True, check=True)
    rows = (row.strip() for row in done.stdout.splitlines())
    return [row for row in rows if row.endswith(("PASSED", "WEAK", "FAILED"))]


def verdicts(seed: int, order: str, quick: bool) -> Counter[str]:
    """Run all tests of Dieharder on one order and count its verdicts."""
    options = ["--raw", "--seed", str(seed), "--order", order]
    count: Counter[str] = Counter()
    command = [sys.executable, __file__, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as source:
        for test in QUICK if quick else TESTS:
            for size in TESTS[test]:
                rows = result(source.stdout, test, size)
                count.update(row.rpartition("|")[2].strip() for row in rows)
                print(*(f"{order:8s} {row}" for row in rows), sep="\n", flush=True)
        source.terminate()
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="random numbers into Dieharder")
    parser.add_argument("--order", choices=sorted(LENGTHS), help="default: each in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only the quicker tests")
    parser.add_argument("--raw", action="store_true", help="write raw words to standard output")
    options = parser.parse_args()
    if options.raw:
        write_raw(options.seed, options.order or "voxel")
        return 0
    if shutil.which("dieharder") is None:
        print("dieharder is not installed: apt-get install dieharder", file=sys.stderr)
        return 2
    total: Counter[str] = Counter()
    for order in [options.order] if options.order else sorted(LENGTHS):
        total += verdicts(options.seed, order, options.quick)
    print(", ".join(f"{total[v]} {v.lower()}" for v in ("PASSED", "WEAK", "FAILED")))
    return int(total["FAILED"] > 0)


if __name__ == "__main__":
    sys.exit(main())
