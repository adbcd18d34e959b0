"""Memory of tensors on a CPU: what was freed is kept for the next tensor."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt (malloc.h)."""


def keep_freed_memory(limit: int = 1 << 30) -> bool:
    """Let the process reuse the memory of freed tensors instead of returning it every time.

    Layers free and take the same megabytes again and again. By default glibc hands blocks of that
    size back to the kernel, which clears every page anew for the next tensor: a sixth of the CPU
    time of sampling. Holds for the whole process, so it is for commands, not for library calls.

    Args:
        limit: bytes of freed memory to keep at most.

    Returns:
        Whether the C library has the setting (glibc has).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, limit))
