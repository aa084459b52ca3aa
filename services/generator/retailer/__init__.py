"""The simulated retailer: its customers, products, stores and sales."""
