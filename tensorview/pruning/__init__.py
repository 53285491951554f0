"""Removing filters that do the same work: evidence, structure, merging, surgery."""
