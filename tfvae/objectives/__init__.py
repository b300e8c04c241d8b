"""Training objectives: keras.Model subclasses with their own train step; the networks are injected."""
