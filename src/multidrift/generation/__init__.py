"""Many samples: cut into shards that any number of processes share, written whole, with hashes."""
