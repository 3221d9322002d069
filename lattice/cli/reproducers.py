"""Programs that known-bad versions of JAX get wrong on CPU; each runs in a process of its own.

``python -m lattice.cli.reproducers NAME`` prints "right" or what is wrong, or dies.
"""

import sys


def matvec_sum() -> str:
    """A vmapped matrix-vector product and a sum, wrong in 0.10.2 (jax-ml/jax#39103)."""
    import jax
    import jax.numpy as jnp

    for n in (2**14 + 1, 2**15 + 1):
        rows = jnp.arange(n, dtype=jnp.float32)[:, None] * jnp.array([1.0, 0.0, 0.0])
        squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(rows)
        if float(squares[-1]) != (n - 1) ** 2:
            return f"{float(squares[-1]):.0f} instead of {(n - 1) ** 2}"
    return "right"


def broadcast_sum() -> str:
    """A sum over a product of rank 8, a crash or a hang in 0.10.2 and 0.11.0 (jax-ml/jax#39257)."""
    import jax
    import jax.numpy as jnp

    weights = jnp.ones((10, 4, 6, 9, 9, 9, 9, 9))
    vector = jnp.ones((10, 4, 6))
    sums = jax.jit(lambda v, w: jnp.log(jnp.sum(v.reshape(10, 4, 6, 1, 1, 1, 1, 1) * w, axis=2)))
    worst = float(abs(jnp.exp(sums(vector, weights)) - 6).max())
    return "right" if worst < 1e-4 else f"off by {worst:g}"


REPRODUCERS = {"matvec_sum": matvec_sum, "broadcast_sum": broadcast_sum}

if __name__ == "__main__":
    print(REPRODUCERS[sys.argv[1]]())
