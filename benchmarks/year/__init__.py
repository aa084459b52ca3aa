"""What a year of data costs beside a day of it."""
