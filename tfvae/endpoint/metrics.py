"""Counts and times for Prometheus, under TF Serving's names where it has them."""

import prometheus_client

PATH = "/monitoring/prometheus/metrics"
# TF Serving's buckets of latencies, microseconds.
MICROSECONDS = [10 * 1.8**power for power in range(33)]


class Metrics:
    """All metrics of one endpoint."""

    def __init__(self):
        prometheus_client.disable_created_metrics()
        self.registry = prometheus_client.CollectorRegistry()
        # Gauges, because the library appends _total to a counter's name, which TF Serving's names lack.
        self._requests = self._gauge(
            ":tensorflow:serving:request_count", "Requests answered.", ["model_name", "status"]
        )
        self._request_latency = self._histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds from a request's arrival to its answer.",
            ["model_name", "API", "entrypoint"],
        )
        self._runtime_latency = self._histogram(
            ":tensorflow:serving:runtime_latency",
            "Microseconds in TensorFlow, waiting for a batch included.",
            ["model_name", "API", "runtime"],
        )
        self._runs = self._gauge(
            ":tensorflow:serving:batching_session:wrapped_run_count", "Batches that were run, warm-up included.", []
        )
        labels = ["model_name", "signature_name"]
        self._batches = self._counter("tfvae_batches", "Batches that were run, warm-up included.", labels)
        self._batch_rows = self._counter("tfvae_batch_rows", "Rows of those batches, padding included.", labels)
        self._request_rows = self._counter("tfvae_request_rows", "Rows of requests, warm-up included.", labels)
        self.running = self._gauge("tfvae_running_requests", "Requests that are being worked on.", [])

    def _gauge(self, name, text, labels):
        return prometheus_client.Gauge(name, text, labels, registry=self.registry)

    def _counter(self, name, text, labels):
        return prometheus_client.Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name, text, labels):
        return prometheus_client.Histogram(name, text, labels, buckets=MICROSECONDS, registry=self.registry)

    def count_request(self, model, entrypoint, code, seconds):
        """One request is answered. entrypoint: REST or GRPC. code: its status."""
        self._requests.labels(model, code).inc()
        if code == "OK":
            self._request_latency.labels(model, "predict", entrypoint).observe(seconds * 1e6)

    def count_run(self, model, signature, rows, seconds):
        """One request's part in TensorFlow is done."""
        self._request_rows.labels(model, signature).inc(rows)
        self._runtime_latency.labels(model, "Predict", "TF1").observe(seconds * 1e6)

    def count_batch(self, model, signature, rows):
        """One batch begins to run."""
        self._runs.inc()
        self._batches.labels(model, signature).inc()
        self._batch_rows.labels(model, signature).inc(rows)

    def page(self):
        """What Prometheus reads, bytes."""
        return prometheus_client.generate_latest(self.registry)
