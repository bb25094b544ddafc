"""What a target holds beside what it should hold: joins over all of it, in DuckDB."""
