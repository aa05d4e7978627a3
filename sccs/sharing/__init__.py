"""Models that travel: exports, model cards, the encoder as ONNX, BioImage Model Zoo packages."""
