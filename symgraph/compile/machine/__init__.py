"""From a loop program straight to machine code: LLVM's module, with one function that Python calls."""
