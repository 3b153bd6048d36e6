"""Which Brownian path: counter-based streams and the bridge on a process's clock."""
