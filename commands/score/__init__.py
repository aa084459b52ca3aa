"""`retail-stream score`: what became of the faults that the generator planted.

The generator's ledger (`generator.faults`) names each record with a fault, and what should happen to it. The score
looks that up in the pipeline's clean, dead letter and late topics and in its warehouse. It relies on the headers and
tables of the contract alone, so it can score any pipeline that keeps the contract.
"""
