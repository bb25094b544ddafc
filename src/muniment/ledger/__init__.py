"""The tamper-evident ledger: formats, proofs and verification. No clock, no randomness, no files, no network.

The protocol, in the order in which bytes are made and checked:

1. A fact becomes an entry (`entry`): RFC 8785 bytes (`canonical`) that name the log, the ticket, the place in the
   ticket (`seq`) and the ticket's previous entry (`prev`). The stored bytes are the entry; nothing re-serialises
   them to verify.
2. Entries are leaves of one RFC 6962 Merkle tree (`merkle`). Appending needs its right edge alone (`Frontier`).
3. The tree's size and root, under the log's name, are a checkpoint (`checkpoint`), a C2SP signed note (`note`) by
   the log's Ed25519 key (`keys`). It is signed after the tree it names is durable, never before.
4. Anybody checks: one entry by a proof file (`proof`), growth by a consistency proof (`merkle`), or everything by
   hashing the entries again (`verify`).
5. What does not check raises a `LedgerFault` with a stable code (`errors`). Foreign bytes raise nothing else.

A signature alone shows that whoever holds the log key said so. That the same history was shown to everybody takes
checkpoints kept by others: witnesses or the auditor.
"""
