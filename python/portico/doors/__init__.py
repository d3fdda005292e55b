"""Vocabularies: each door turns the words of one seed into routes. They never import each other, a pump or the core."""
