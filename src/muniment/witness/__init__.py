"""A small witness: it cosigns checkpoints of ledgers that only grew. For somebody who does not run the ledger.

- `record`: what it has seen of each ledger, in one SQLite file, moved on by compare-and-set.
- `deciding`: one submitted checkpoint, from bytes to answer.
- `serving`: both over HTTP, within bounds.

It needs nothing else of Muniment, and speaks to any log of C2SP tlog-witness.
"""
