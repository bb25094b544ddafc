"""Evidence: what an auditor checks by himself, from entry bytes and a trust file alone.

- `rules` (V4): every ticket's entries, judged again by the rules of the domain; `judging` holds one rule an event.
- `times` (V5): claimed times against independent ones, from cosignatures and RFC 3161 stamps.
- `bundle` writes one file for one ticket; `reading` verifies such a file, from foreign bytes.

Nothing here sees the store, the network or a clock.
"""
