"""A local stand-in for TF Serving, for development and tests: its REST and gRPC API, batching, versions and metrics.

It is not TF Serving: one Python process, TensorFlow models alone, Predict alone (no Classify, Regress, MultiInference, session
or reload calls, no output filters). What it shares with TF Serving is TensorFlow's session and batch scheduler, the official
protocol and the status codes; its messages are its own. Where it differs on purpose, it is stricter: a version without its
variables or with functions for XLA does not load, and a value or a shape that does not fit the signature is refused before it
joins a batch. Imports go down: server; rest, rpc; requests; versions; servable; tensors, metrics, settings; statuses.
"""
