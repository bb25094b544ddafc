"""Sections of `muniment.toml` that have a file of their own. `config` reads the whole."""
