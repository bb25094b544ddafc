"""Pages for people: where they ask, decide and look. Server-rendered; every page works without its script."""
