"""What does the training objective, GAN or VAE, do to a generator's variety when all else is the same?"""

import os

# TensorFlow prints a page about devices and rounding at every start; errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
