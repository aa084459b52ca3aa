"""What a restart reads back from the topics, and the lease that ends an older generator."""
