"""What is kept, and for how long: topics by time, facts by month, windows by age."""
