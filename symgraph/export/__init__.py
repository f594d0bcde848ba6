"""Formulas in other languages: text, LaTeX, SymPy, and source code that needs no symgraph."""
