"""Parts of the role `clusterer`: RegionGraph and Z -> P (n, k)."""
