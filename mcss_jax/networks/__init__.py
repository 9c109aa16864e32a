"""The networks: pictures to features, embeddings and poses."""
