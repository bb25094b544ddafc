"""Privileged access by ticket, with evidence anyone can verify."""
