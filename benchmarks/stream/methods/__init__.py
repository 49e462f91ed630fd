"""The ways of learning that the stream benchmark compares, behind one interface."""
