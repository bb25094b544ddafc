"""Use cases: the only place where the core meets the store, the targets, policy and the directory."""
