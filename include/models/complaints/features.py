"""The columns that the model reads, grouped by their encoding. Shared by the transform and the network."""

# Short strings: a vocabulary for each, with one out-of-vocabulary index for new and missing values.
CATEGORIES = ["product", "company", "state", "submitted_via", "timely_response"]
RARE = 3  # values with fewer complaints in the window share that index

# Free text: the subject of the complaint.
TEXT = "issue"
TOKENS = 64  # words read; the longest issue of 2013 to 2016 has 7
VOCABULARY = 10_000  # the most frequent words are kept
PADDING = 0  # the token after the end of the text; words start at 1
