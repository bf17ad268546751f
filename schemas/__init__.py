"""What writer and reader must agree on: music in memory, features, records, manifests. No framework is imported."""
