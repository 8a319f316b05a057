"""The columns that the model reads, grouped by their encoding. Shared by the transform and the network.

All are known when a passenger gets in and names a destination, which is when the question is asked.
"""

# Whole numbers from 0 to a known maximum, as they are. A missing value is 0, which no column with missing values uses.
NUMBERS = {
    "trip_start_hour": 23,
    "trip_start_day": 7,
    "trip_start_month": 12,
    "pickup_community_area": 77,
    "dropoff_community_area": 77,
}

# A string: a vocabulary, with one out-of-vocabulary index for rare, new and missing values.
COMPANY = "company"
RARE = 5  # companies with fewer trips in the window (mostly owner-drivers) share that index

# Computed from the coordinates of both ends.
DISTANCES = ["miles_east", "miles_north", "log_miles"]
MILES_A_DEGREE = {"latitude": 69.0, "longitude": 51.4}  # at 41.9° north, where Chicago is
