"""A local stand-in for TF Serving, for development and tests: its REST and gRPC API, batching, versions and metrics.

It is not TF Serving: one Python process, TensorFlow models alone, Predict alone (no Classify, Regress, MultiInference, session
or reload calls). What it shares with TF Serving is TensorFlow's session and batch scheduler, the official protocol, and status
codes and messages as TF Serving's source has them. Where it differs on purpose, it is stricter: a version without its
variables or with functions for XLA does not load, and an input of another shape than the signature's is refused before it joins
a batch. Imports go down: server; rest, rpc; requests; versions; servable; json_tensors, tensors, metrics, settings; statuses.
"""
