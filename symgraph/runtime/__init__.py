"""Running graphs: the checks at the door, compiled functions, and sessions that hold variables."""
