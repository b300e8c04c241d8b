"""Scores: what is measured of generated images, from a classifier's logits and features."""
