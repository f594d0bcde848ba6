"""``python -m symgraph.cli`` is the command ``symgraph``."""

from symgraph.cli.main import main

if __name__ == "__main__":
    main(prog_name="symgraph")
