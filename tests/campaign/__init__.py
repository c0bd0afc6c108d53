"""Hostile afternoons, repeated: python -m tests.campaign. One module a kind of attack."""
