"""Benchmarks: every figure that the documentation shows, one command each.

They stand beside the product, which imports none of them: what is measured reads no questions.
"""
