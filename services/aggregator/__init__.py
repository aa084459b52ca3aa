"""Event-time windows over clean sales: watermarks, firing, revising, finality, and every sale as a fact."""
