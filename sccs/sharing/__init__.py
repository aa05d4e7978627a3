"""Sharing models: exports, model cards, the encoder as ONNX, BioImage Model Zoo packages."""
