"""Counts and times for Prometheus, under TF Serving's names where it has them."""

from prometheus_client import Gauge, Histogram, disable_created_metrics

disable_created_metrics()

# Gauges, because the library appends _total to a counter's name, which TF Serving's names lack.
REQUESTS = Gauge(":tensorflow:serving:request_count", "Requests answered.", ["model_name", "status"])
BATCHES = Gauge(":tensorflow:serving:batching_session:wrapped_run_count", "Batches that were run, warm-up included.")
RUNNING = Gauge("tfvae_running_requests", "Requests that are being worked on.")
LATENCY = Histogram(
    ":tensorflow:serving:request_latency",
    "Microseconds from a request's arrival to its answer.",
    ["model_name", "API", "entrypoint"],
    buckets=[10 * 1.8**power for power in range(33)],  # TF Serving's
)
