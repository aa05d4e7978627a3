"""Role `graph`: image and features -> RegionGraph."""
