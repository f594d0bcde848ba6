"""From a loop program straight to machine code: LLVM, written inside one Numba intrinsic."""
