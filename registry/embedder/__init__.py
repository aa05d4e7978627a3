"""Parts of the role `embedder`: RegionGraph -> Z (n, u)."""
