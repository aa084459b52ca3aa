"""`make bench-cleaner`: the cleaner against other engines at the same job, its commit lag, latency and memory."""
