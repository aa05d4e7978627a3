"""The masked autoencoder (MAE): its network, files of its weights, and windows over an image.

Parts of the role `features` and pre-training share it; `weights` holds the encoder that comes with the package.
"""
