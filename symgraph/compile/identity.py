"""The names of compiled programs: hashes of everything that their machine code depends on."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache as remember
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding


def program_name(*facts: Any) -> str:
    """Return the name of a program of which these facts are known, for this processor and these libraries."""
    return "symgraph_" + hashlib.sha256(repr((facts, processor(), _toolchain())).encode()).hexdigest()[:32]


@remember
def processor() -> tuple[str, str, str]:
    """Return the system and processor that code is made for, and what this one can do, as LLVM says it."""
    return binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


@remember
def _toolchain() -> tuple[str, ...]:
    """Return what else decides the machine code: the versions, and the text of what writes it."""
    texts = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"\0".join(text.read_bytes() for text in texts)).hexdigest()
    library = "".join(platform.libc_ver())
    return sys.version, platform.python_implementation(), library, np.__version__, llvmlite.__version__, digest
