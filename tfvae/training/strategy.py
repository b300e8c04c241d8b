"""The machine: the tf.distribute strategy of a configuration, its replicas and processes."""

import json
import os

import keras
import tensorflow as tf


def make_strategy(config):
    """The tf.distribute strategy; sets up devices, precision and seeds, so call it before anything else of TensorFlow.

    Raises:
        ValueError: a strategy that this machine cannot have.
    """
    if config.virtual_devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * config.virtual_devices
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            if len(tf.config.list_logical_devices("CPU")) != config.virtual_devices:
                raise
    # Grappler's remapper fails on BigGAN's discriminator (an error line for each function) and gains nothing in training.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    mirrored = config.strategy == "mirrored" or (
        config.strategy == "auto" and max(len(gpus), config.virtual_devices) > 1
    )
    if config.strategy == "multi_worker":
        check_cluster(os.environ.get("TF_CONFIG"))
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (RuntimeError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"--strategy=multi_worker: no cluster can be made of TF_CONFIG={os.environ['TF_CONFIG']} ({reason})."
            ) from error
    elif mirrored:
        os.environ.pop("TF_CONFIG", None)  # TensorFlow would read it and not use it
        devices = [f"CPU:{i}" for i in range(config.virtual_devices)] if config.virtual_devices else None
        strategy = tf.distribute.MirroredStrategy(devices)
    else:
        strategy = tf.distribute.get_strategy()
    return strategy


def check_cluster(text):
    """Raises a ValueError unless `text`, the value of TF_CONFIG, says which processes train and which of them this one is."""
    wrong = _wrong_in_cluster(text) if text else "not set"
    if wrong:
        said = f"TF_CONFIG={text[:200]}: {wrong}" if text else "TF_CONFIG is not set"
        raise ValueError(
            f"--strategy=multi_worker: the environment variable {said}. Expected JSON such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
        )


def _wrong_in_cluster(text):
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"it is no JSON ({error})"
    if not isinstance(value, dict):
        return "it is no JSON object"
    cluster, task = value.get("cluster"), value.get("task")
    if not isinstance(cluster, dict) or not cluster or not set(cluster) <= {"chief", "worker"}:
        return '"cluster" is not of "worker", or of "chief" and "worker"'
    if not all(isinstance(addresses, list) and addresses for addresses in cluster.values()):
        return '"cluster" holds no lists of addresses'
    addresses = [address for addresses in cluster.values() for address in addresses]
    for address in addresses:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            return f"{address!r} is no address with a port"
    if len(set(addresses)) < len(addresses):
        return "an address is there twice"
    if len(cluster.get("chief", [])) > 1:
        return "it has more than one chief"
    if not isinstance(task, dict) or not isinstance(task.get("type"), str) or task["type"] not in cluster:
        return f'the "type" of "task" is none of {", ".join(cluster)}'
    number = len(cluster[task["type"]])
    if not str(task.get("index")).isdecimal() or int(task["index"]) >= number:
        return f'the "index" of "task" is none of 0 to {number - 1}'
    return None


def check_batch_size(batch_size, strategy):
    """Raises a ValueError for a batch that the strategy's replicas cannot share."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        near = max(replicas, batch_size // replicas * replicas)
        raise ValueError(
            f"--batch_size={batch_size} does not divide over {replicas} replicas. Expected a multiple of {replicas}, such as "
            f"{near}."
        )


def worker_of(strategy):
    """(index of this process, number of processes)."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), chiefs + workers


def sum_over_workers(strategy, value):
    """Sum of a number over all replicas; also a barrier: it returns when every process has come here."""
    value = tf.constant(value, tf.float32)
    return float(strategy.reduce("SUM", strategy.run(lambda: tf.identity(value)), axis=None))
