"""The superpixel graph (spG): what graph, embedder and clusterer parts share."""
