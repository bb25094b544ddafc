"""Connectors: a file per kind of target system. `kinds` finds them; `muniment.conformance` tries them.

This folder holds ours. Those of other packages are registered and found in the same way.
"""
