"""Parts of the role `features`: image (H, W) -> FeatureMap (h, w, q)."""
