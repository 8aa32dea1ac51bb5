"""The primary claims of the ledger, one module each."""
