"""The rules of `schemas/rules`: read, checked, evaluated over columns, and published by version.

``patterns`` and ``syntax`` say which SQL a condition may use, ``compiling`` makes a column of it, ``rule_set`` is a
file of them with its version, ``published`` the topic `cleaner.rules`. `verify` evaluates the same text in DuckDB.
"""
