"""Turn delivered bodies into an immutable, content-addressed snapshot: the rows that a night trains on."""
