"""Which kind of device programs are compiled for, where the best form of one differs."""

import jax

__all__ = ["on_cpu"]


def on_cpu() -> bool:
    """Whether it is the CPU. A GPU starts many small programs slowly and waits for the host
    wherever what is done next depends on data; a CPU suffers most from what is done in vain."""
    return jax.default_backend() == "cpu"
