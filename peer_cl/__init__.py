"""A frozen language model with removable expert pools (PEER, He 2024, arXiv 2407.04153)."""
