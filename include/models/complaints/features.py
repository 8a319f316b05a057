"""The columns the model reads, by the way they are read. Used by the transform and by the network."""

# Short strings: a vocabulary each, and one place for everything that is new or missing.
CATEGORIES = ["product", "company", "state", "submitted_via", "timely_response"]
RARE = 3  # values with fewer complaints in the window share that place

# What the complaint is about, in words.
TEXT = "issue"
TOKENS = 64  # words that are read; the longest issue of 2013 to 2016 has 7
VOCABULARY = 10_000  # the most frequent words are kept
PADDING = 0  # the token after the text's end; words begin at 1
