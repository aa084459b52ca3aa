"""Dead letters: what a cleaner writes into their headers, and what people do with them: list, show, replay."""
