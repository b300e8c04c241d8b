"""Runs a function over the rows of arrays on all replicas of the current strategy."""

import numpy as np
import tensorflow as tf


def over_replicas(function, replica_batch, *arrays):
    """Runs `function` on the rows of arrays, in batches that the replicas of the current strategy share.

    All batches have one shape, so that the function is traced once: the last one is padded with its last row, and what
    comes of the padding is dropped.

    Args:
        function: tf.function of one tensor [replica_batch, ...] per array -> {name: tensor [replica_batch, ...]}.
        replica_batch: rows per replica and call.
        arrays: [N, ...] each, N > 0.

    Returns:
        {name: array [N, ...]}, in the order of the rows.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    parts = []
    batch = replica_batch * replicas
    for start in range(0, len(arrays[0]), batch):
        rows = [array[start : start + batch] for array in arrays]
        missing = batch - len(rows[0])
        shares = [np.split(np.concatenate([row, np.repeat(row[-1:], missing, axis=0)]), replicas) for row in rows]
        values = [
            strategy.experimental_distribute_values_from_function(
                lambda context, share=share: tf.constant(share[context.replica_id_in_sync_group])
            )
            for share in shares
        ]
        results = strategy.run(function, values)
        local = {name: strategy.experimental_local_results(value) for name, value in results.items()}
        parts.append(
            {name: np.concatenate([share.numpy() for share in some])[: len(rows[0])] for name, some in local.items()}
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
