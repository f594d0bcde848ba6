"""The command line: ``symgraph demo``, ``derive``, ``compare`` and ``cache``."""
