"""The columns the model reads, by the way they are read. Used by the transform and by the network."""

# Skewed amounts: their logarithm, scaled to mean 0 and deviation 1.
AMOUNTS = ["fare", "trip_miles", "trip_seconds"]

# Strings: a vocabulary, and one place for everything that is rare, new or missing.
WORDS = ["payment_type", "company"]
RARE = 5  # values with fewer trips in the window (owner-drivers, mostly) share that place

# Whole numbers from 0 to a known end: themselves. Missing is 0, which none of those that can be missing uses.
NUMBERS = {
    "trip_start_hour": 23,
    "trip_start_day": 7,
    "trip_start_month": 12,
    "pickup_community_area": 77,
    "dropoff_community_area": 77,
}

# Coordinates: equally filled ranges, 1 to BUCKETS; missing is 0.
PLACES = ["pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude"]
BUCKETS = 10
