"""From class maps to objects: 3-D instances, what they measure, their meshes, and how well two label images agree."""
