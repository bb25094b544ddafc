"""Readers of targets' own logs, one file a format, and what becomes of their lines. All foreign text is data."""
