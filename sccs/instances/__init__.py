"""From class maps to objects: 3-D instances, their measurements and meshes, and the agreement of two label images."""
