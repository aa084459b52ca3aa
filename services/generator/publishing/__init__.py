"""Events as records, with planted faults and their ledger, in transactions."""
