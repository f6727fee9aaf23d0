"""One file a provider. Each holds `PROVIDER`: how to build it, and what its service answers."""
