"""The aggregator beside other engines at event-time windows."""
