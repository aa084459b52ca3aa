"""What people run: the program `retail-stream` and everything behind its commands."""
