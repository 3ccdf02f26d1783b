"""What torch.compile needs on this machine: a compiler that works, with Python's headers."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils._triton import has_triton


def check_compile(device: torch.device) -> None:
    """Refuse to compile for a device where that will fail; builds an empty library, in no time.

    Raises:
        ValueError: says what is missing.
    """
    if device.type == "cuda":  # triton builds in C what starts its kernels
        if not has_triton():
            raise _refused("a GPU that triton knows, and the package triton")
        language, wanted = "c", [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    elif device.type == "cpu":
        usual = "clang++" if sys.platform == "darwin" else "g++"
        language, wanted = "c++", [os.environ.get("CXX", usual)]
    else:
        return
    compiler = next(filter(None, map(shutil.which, wanted)), None)
    if compiler is None:
        raise _refused(f"a compiler, and there is no {' or '.join(wanted)}: install it")
    with TemporaryDirectory() as scratch:
        library = Path(scratch) / "library.so"
        include = f"-I{sysconfig.get_path('include')}"
        done = subprocess.run(
            [compiler, "-x", language, "-shared", "-fPIC", include, "-o", str(library), "-"],
            input="#include <Python.h>\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not library.is_file():
            reason = " ".join(done.stderr.split())[:200]
            raise _refused(
                "a compiler that works and Python's headers (such as those of g++ and "
                f"python3-dev); {compiler} fails: {reason or done.returncode}"
            )


def _refused(needed: str) -> ValueError:
    return ValueError(f"compile: torch.compile needs {needed}; or leave compile out")
