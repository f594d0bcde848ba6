"""Laws that rewrite a graph into an equal, simpler or more stable one.

A law is data (``laws``); the tables are ``stability``, ``structure`` and ``algebra``; ``rewriting`` applies
them, and ``simplify`` chooses which.
"""

from symgraph.rewrite.laws import Law
from symgraph.rewrite.rewriting import Step
from symgraph.rewrite.simplify import DEFAULT, LAWS, applications, choose_laws, rewrite, simplify

__all__ = ["DEFAULT", "LAWS", "Law", "Step", "applications", "choose_laws", "rewrite", "simplify"]
