"""What became of the faults that the generator planted: `retail-stream score`.

The generator's ledger (`generator.faults`) says which record has which fault and what should happen to it. Here that is
looked up in what a pipeline made of the raw topics: its clean, dead letter and late topics and its warehouse, by the
contract's headers and tables alone, so any pipeline that keeps to them can be scored.
"""
