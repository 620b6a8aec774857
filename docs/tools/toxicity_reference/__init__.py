"""Renders the reference pages of the documentation from the code, so that page and code cannot differ."""
