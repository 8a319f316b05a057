"""The columns that the model reads, grouped by their encoding. Shared by the transform and the network."""

# Skewed amounts: the logarithm, scaled to mean 0 and standard deviation 1.
AMOUNTS = ["fare", "trip_miles", "trip_seconds"]

# Strings: a vocabulary for each, with one out-of-vocabulary index for rare, new and missing values.
WORDS = ["payment_type", "company"]
RARE = 5  # values with fewer trips in the window (mostly owner-drivers) share that index

# Whole numbers from 0 to a known maximum, as they are. A missing value is 0, which no column with missing values uses.
NUMBERS = {
    "trip_start_hour": 23,
    "trip_start_day": 7,
    "trip_start_month": 12,
    "pickup_community_area": 77,
    "dropoff_community_area": 77,
}

# Coordinates: quantile buckets 1 to BUCKETS; a missing value is 0.
PLACES = ["pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude"]
BUCKETS = 10
