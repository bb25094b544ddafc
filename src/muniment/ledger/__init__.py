"""The tamper-evident ledger: formats, proofs and verification. No clock, no files, no network.

The protocol, in the order in which bytes are made and checked:

1. A fact becomes an entry (`entry`): RFC 8785 bytes (`canonical`) that name the log, the ticket, the place in the
   ticket (`seq`) and the ticket's previous entry (`prev`). The stored bytes are the entry; nothing re-serialises
   them to verify.
2. Entries are leaves of one RFC 6962 Merkle tree (`merkle`). Appending needs its right edge alone (`Frontier`).
3. The tree's size and root, under the log's name, are its head (`head`). Signed by the log's keys (`keys`) as a C2SP
   note (`note`, `signatures`) it is a checkpoint (`checkpoint`): Ed25519, and below that ML-DSA-44 if the log has
   such a key. It is signed after the tree it names is durable, never before.
4. Witnesses add lines of their own (`cosignature`): each says that it saw the log only grow until this head, and
   when. They sign nothing else.
5. Tree and entries are published as tiles and bundles (`tiles`), files that never change, from which anybody makes
   proofs without the rest of the log.
6. Anybody checks. Who is believed stands in the checker's own trust file (`trust`): which logs, which witnesses, how
   many of them. Then one entry by a proof file (`proof`), growth by a consistency proof (`merkle`, `tiles`), or
   everything by hashing the entries again (`verify`).
7. What does not check raises a `LedgerFault` with a stable code (`errors`). Foreign bytes raise nothing else.

A log's signature alone shows that whoever holds the log key said so. That the same history was shown to everybody
takes cosignatures by witnesses whom the operator does not control, or checkpoints kept by the auditor.

The one source of randomness is inside an ML-DSA-44 signature: the library draws it, so that two lines over one text
differ. All else follows from what is passed in.
"""
