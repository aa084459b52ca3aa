"""When events happen and when they are published."""
