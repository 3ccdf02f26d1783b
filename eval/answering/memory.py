"""When there was too little memory, and how to have it again."""

SIGNS = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory",
    "alloc_failed",
)  # fmt: skip


class TooLargeError(ValueError):
    """One question that does not fit in memory, even by itself."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch or one of its libraries says so."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in SIGNS)


def release() -> None:
    """Give back what nobody holds any more; call it where no traceback holds tensors."""
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
