"""The simulated retailer: customers, products, stores and sales."""
