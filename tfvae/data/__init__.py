"""Images in: datasets, their cropping and resizing, and the batches that training and scoring read."""
