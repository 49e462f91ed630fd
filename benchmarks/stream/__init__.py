"""The stream benchmark: methods learn the same domains in turn, and are asked after each.

`python -m benchmarks stream` (see `benchmarks.stream.run`). Everything is done in pieces of at most
twenty minutes, each of which leaves its raw scores in docs/results/stream/.
"""
