"""From the bodies that came to an immutable, content-addressed snapshot: the rows that a night is about."""
