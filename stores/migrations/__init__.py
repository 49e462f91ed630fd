"""Numbered migrations of the registry, run by stores.upgrades. A published one never changes."""
