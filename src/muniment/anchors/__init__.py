"""What ties the ledger to something that its operator does not hold: signers, witnesses, clocks.

- `http`: the small bounded client that all of them speak through.
- `signers`: the log's key by reference: in a file, in OpenBao (`transit`), in a PKCS#11 token (`pkcs11`).
- `timestamps`: RFC 3161 time-stamps of checkpoints.
- `witnesses`: cosignatures of checkpoints.

What comes back from outside is verified here, before anybody uses it.
"""
