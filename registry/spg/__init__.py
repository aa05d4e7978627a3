"""The superpixel graph (spG), shared by graph, embedder and clusterer parts."""
