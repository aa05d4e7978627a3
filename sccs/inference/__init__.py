"""Apply a trained model to images of any size: fields of view, blocks, stitching, edges along z."""
