"""Pictures of graphs."""

from symgraph.view.picture import Picture, graph

__all__ = ["Picture", "graph"]
