"""A trained model on images of any size: fields of view, blocks, stitching, edges along z."""
