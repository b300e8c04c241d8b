"""Scoring: networks that see images, scores of what they see, and where the images come from."""
