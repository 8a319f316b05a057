"""The reference pages, docs/reference/*.md, from the code that they describe."""
