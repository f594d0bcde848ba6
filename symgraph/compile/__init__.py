"""From expressions to machine code: schedule, loop program, storage, emitted module, cache."""
