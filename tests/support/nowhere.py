"""Addresses of this machine where nobody listens. A port that is free may be the next of a test that runs beside."""

NOWHERE = ("127.0.0.1:1", "127.0.0.1:2")
"""Only root may listen there, and nobody does."""
