"""When events happen and when their records are published."""
