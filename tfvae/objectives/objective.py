"""What the objectives share: a train function that works under every strategy, stateless noise, updates and averages."""

import keras
import tensorflow as tf

from tfvae.objectives import losses

STREAMS = 1024  # independent draws that one step may make


class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`rate` until `start_steps` optimizer steps, then linearly to 0 at `end_steps`."""

    def __init__(self, rate, start_steps, end_steps):
        self.rate, self.start_steps, self.end_steps = rate, start_steps, end_steps

    def __call__(self, step):
        left = (self.end_steps - tf.cast(step, tf.float32)) / (self.end_steps - self.start_steps)
        return self.rate * tf.clip_by_value(left, 0.0, 1.0)


def make_optimizer(name, learning_rate, beta_1, beta_2):
    """Adam or SGD. For SGD, `beta_1` is the momentum and `beta_2` is not used.

    Args:
        learning_rate: float or a Keras schedule over the optimizer's own steps.

    Raises:
        ValueError: another name.
    """
    if name == "adam":
        return keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2)
    if name == "sgd":
        return keras.optimizers.SGD(learning_rate, momentum=float(beta_1))
    raise ValueError(f"--optimizer={name}: expected adam or sgd.")


class Objective(keras.Model):
    """A generator and a discriminator (or decoder and encoder), their optimizers, the EMA generator and the step count.

    Everything random is drawn from (seed, step, place in the global batch): a run depends neither on how many replicas
    share it nor on where it was resumed. Create it, its networks and optimizers in the strategy's scope, and compile it there.

    Args:
        generator, discriminator: networks with the signatures of `tfvae.networks`.
        ema_generator: a second generator of the same shape; it holds the moving average of the first one's weights.
        to_model_range: uint8 pictures to float32 in [-1, 1].
        global_batch_size: images a discriminator step over all replicas.
        seed: of the noise, int.
        flip: mirror half of the real images left to right.
        ema_decay: of the moving average, a generator step; `ema_start_images`: before it, the average is a plain copy.
        gradient_clip_value: largest size of a gradient's entry; 0 for no limit.
        gradient_clip_norm: largest norm of a network's whole gradient; 0 for no limit.
        weight_decay: L2, added to the gradient as weight_decay x weight.
        orthogonal_regularization: weight of `losses.orthogonal_penalty` over the generator's kernels.
    """

    batches_per_step = 1  # real batches that one train step consumes

    def __init__(
        self,
        generator,
        discriminator,
        ema_generator,
        *,
        to_model_range,
        global_batch_size,
        seed=0,
        flip=False,
        ema_decay=0.999,
        ema_start_images=0,
        gradient_clip_value=0.0,
        gradient_clip_norm=0.0,
        weight_decay=0.0,
        orthogonal_regularization=0.0,
    ):
        super().__init__(autocast=False)
        self.generator, self.discriminator, self.ema_generator = generator, discriminator, ema_generator
        self.to_model_range = to_model_range
        self.global_batch_size, self.seed, self.flip = global_batch_size, seed, flip
        self.ema_decay, self.ema_start_images = ema_decay, ema_start_images
        self.gradient_clip_value, self.gradient_clip_norm = gradient_clip_value, gradient_clip_norm
        self.weight_decay, self.orthogonal_regularization = weight_decay, orthogonal_regularization
        self.step = tf.Variable(
            0, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        for average, weight in zip(ema_generator.weights, generator.weights):
            average.assign(weight)
        self.statistics_step = None  # the step at which the EMA generator's batch statistics were last measured
        self.built = True

    @property
    def generator_weights(self):
        return [w.value for w in self.generator.trainable_weights]

    @property
    def discriminator_weights(self):
        return [w.value for w in self.discriminator.trainable_weights]

    @property
    def images_per_step(self):
        """Real images that enter the discriminator or the encoder in one train step: the common currency."""
        return self.batches_per_step * self.global_batch_size

    def compile(self, generator_optimizer, discriminator_optimizer, steps_per_execution=1):
        """Takes Keras optimizers, without clipping or weight decay of their own, and makes their slots: inside a replica
        it would be too late. `steps_per_execution`: train steps a call of the train function.
        """
        super().compile(steps_per_execution=steps_per_execution, jit_compile=False)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        generator_optimizer.build(self.generator_weights)
        discriminator_optimizer.build(self.discriminator_weights)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras would average a batch's dicts over the workers to learn their shapes, which fails; all is built already."""

    def make_train_function(self, force=False):
        """A train function that takes `batches_per_step` batches a step, `steps_per_execution` steps a call.

        Keras' own one fails with several steps a call under MirroredStrategy, and with scalar logs under
        MultiWorkerMirroredStrategy. Logs are the last step's, averaged over the replicas.
        """
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy
        names = []

        def replica_step(batches):
            logs = self.train_step(batches)
            names[:] = sorted(logs)
            return tf.stack([tf.cast(logs[name], tf.float32) for name in names])

        def one_step(iterator):
            batches = tuple(next(iterator) for _ in range(self.batches_per_step))
            return strategy.reduce("MEAN", strategy.run(replica_step, args=(batches,)), axis=None)

        steps = self.steps_per_execution

        # Without autograph: nothing here needs it, and it doubles the time to the first step.
        @tf.function(autograph=False)
        def many_steps(iterator):
            if steps == 1:
                return one_step(iterator)
            _, values = tf.while_loop(
                lambda i, _: i < steps,
                lambda i, _: (i + 1, one_step(iterator)),
                [tf.constant(0), tf.zeros([0])],
                shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
            )
            return tf.ensure_shape(values, [len(names)])

        def train_function(iterator):
            values = many_steps(iterator)
            return dict(zip(names, tf.unstack(values)))

        self.train_function = train_function
        return train_function

    def train_step(self, batches):
        """One generator step (and its discriminator steps) on one replica.

        Args:
            batches: `batches_per_step` dicts of this replica's share: `image` uint8 [b, H, W, 3], `label` int32 [b].

        Returns:
            Dict of scalars, means over this replica's share.
        """
        raise NotImplementedError  # abstract: gan.py and vae.py

    # Noise. `stream` tells apart what is drawn in one step.

    def _place(self, stream):
        context = tf.distribute.get_replica_context()
        share = self.global_batch_size // context.num_replicas_in_sync
        seed = tf.stack([tf.constant(self.seed, tf.int64), self.step.read_value() * STREAMS + stream])
        return seed, context.replica_id_in_sync_group * share, share

    def normal(self, stream, dim):
        """This replica's rows of a standard normal [global batch, dim], float32."""
        seed, start, share = self._place(stream)
        return tf.random.stateless_normal([self.global_batch_size, dim], seed, alg="philox")[start : start + share]

    def uniform(self, stream, dim):
        """This replica's rows of a uniform [0, 1) [global batch, dim], float32."""
        seed, start, share = self._place(stream)
        return tf.random.stateless_uniform([self.global_batch_size, dim], seed, alg="philox")[start : start + share]

    def labels(self, stream):
        """This replica's rows of uniform labels, int32 [global batch]; None without classes."""
        if not self.generator.num_classes:
            return None
        seed, start, share = self._place(stream)
        labels = tf.random.stateless_uniform(
            [self.global_batch_size], seed, 0, self.generator.num_classes, tf.int32, alg="philox"
        )
        return labels[start : start + share]

    def real_images(self, batch, stream):
        """The batch's images in the model's range, float32 [b, H, W, 3], half of them mirrored with `flip`."""
        image = self.to_model_range(batch["image"])
        if self.flip:
            mirrored = self.uniform(stream, 1)[:, :, None, None] < 0.5
            image = tf.where(mirrored, image[:, :, ::-1], image)
        return image

    # Updates.

    def global_mean(self, per_example):
        """Sum over this replica's share by the *global* batch: Keras' optimizers sum gradients over the replicas."""
        return tf.reduce_sum(per_example) / self.global_batch_size

    def regularization(self):
        """The generator's orthogonal penalty, this replica's part of it (each replica holds the same weights)."""
        if not self.orthogonal_regularization:
            return 0.0
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        kernels = [w for w in self.generator_weights if len(w.shape) >= 2]
        return self.orthogonal_regularization / replicas * tf.add_n([losses.orthogonal_penalty(w) for w in kernels])

    def update(self, optimizer, gradients, weights):
        """One optimizer step on the global gradient, clipped and with weight decay.

        Args:
            optimizer: the network's.
            gradients, weights: lists of the same length; gradients are this replica's part.

        Returns:
            The global gradient's norm before clipping, float32 scalar.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        gradients = [tf.convert_to_tensor(g) for g in gradients]  # an embedding's gradient is sparse
        if replicas > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        if self.gradient_clip_value:
            gradients = [tf.clip_by_value(g, -self.gradient_clip_value, self.gradient_clip_value) for g in gradients]
        if self.gradient_clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.gradient_clip_norm)
        if self.weight_decay:
            # After clipping, as in PyTorch, where the optimizer adds it: it would be clipped away.
            gradients = [g + self.weight_decay * w for g, w in zip(gradients, weights)]
        if replicas > 1:
            # The optimizer sums once more over the replicas; clipping must come before it and needs the global gradient.
            gradients = [g / replicas for g in gradients]
        optimizer.apply_gradients(zip(gradients, weights))
        return norm

    def finish_step(self):
        """Moves the EMA generator and counts the step."""
        # Trainable weights alone: the others (batch statistics, u) are measured when the average is used.
        images = (self.step.read_value() + 1) * self.images_per_step
        decay = tf.where(images < self.ema_start_images, 0.0, self.ema_decay)
        for average, weight in zip(self.ema_generator.trainable_weights, self.generator.trainable_weights):
            average, weight = average.value, weight.value
            average.assign(weight + decay * (average - weight))
        self.step.assign_add(1)

    # Use.

    @property
    def images_seen(self):
        return int(self.step.numpy()) * self.images_per_step

    def statistics_inputs(self, images, labels, index):
        """The generator's inputs as in training, to re-estimate the EMA generator's batch-norm statistics.

        Args:
            images, labels: one batch of real images, uint8 [B, H, W, 3], int32 [B]. index: int64, which batch it is.

        Returns:
            (latent float32 [B, latent_dim], label int32 [B] or None).
        """
        raise NotImplementedError  # abstract: gan.py and vae.py
