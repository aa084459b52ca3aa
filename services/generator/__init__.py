"""The generator: four threads that play an apparel retailer and plant faults."""
