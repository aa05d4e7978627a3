"""The masked autoencoder (MAE): its network, weight files, and windows over an image.

Shared by parts of the role `features` and by pre-training; `weights` contains the bundled encoder.
"""
