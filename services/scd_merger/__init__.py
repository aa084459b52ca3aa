"""Merges clean change events of the dimensions into slowly changing dimensions of type 2."""
