"""Running a function over rows of arrays, shared by the replicas of the current strategy."""

import numpy as np
import tensorflow as tf


def over_replicas(function, replica_batch, *arrays):
    """Runs `function` on rows of arrays in batches of one shape, the last one padded, shared by the strategy's replicas.

    Args:
        function: tf.function of as many tensors [replica_batch, ...] -> {name: tensor [replica_batch, ...]}.
        replica_batch: rows a replica and a call. arrays: [N, ...] each, N > 0.

    Returns:
        {name: array [N, ...]}, in the order of the rows.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    parts = []
    for start in range(0, len(arrays[0]), replica_batch * replicas):
        rows = [array[start : start + replica_batch * replicas] for array in arrays]
        missing = replica_batch * replicas - len(rows[0])
        shares = [np.split(np.concatenate([row, np.repeat(row[-1:], missing, axis=0)]), replicas) for row in rows]
        values = [
            strategy.experimental_distribute_values_from_function(
                lambda context, share=share: tf.constant(share[context.replica_id_in_sync_group])
            )
            for share in shares
        ]
        results = strategy.run(function, values)
        parts.append(
            {
                name: np.concatenate([part.numpy() for part in strategy.experimental_local_results(value)])[
                    : len(rows[0])
                ]
                for name, value in results.items()
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
