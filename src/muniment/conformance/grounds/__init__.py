"""Real targets that our own connectors are tried on: a file for each kind, which starts the server and asks it past us."""
