"""`retail-stream rules`: the rule sets that were ever in force, their differences, and a trial of new ones."""
