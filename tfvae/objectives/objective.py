"""What the objectives share: a train function that works under every strategy, stateless noise, updates and averages."""

import keras
import tensorflow as tf

from tfvae.data.images import to_model_range
from tfvae.networks import layers
from tfvae.objectives import losses

STREAMS = 1024  # independent draws that one step may make
# Real images by which the averaged networks' statistics are measured, and how many at a time: the same numbers on any machine, so
# that equal weights draw equal pictures.
STATISTICS_IMAGES, STATISTICS_BATCH = 1024, 64


class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`rate` until `start_images` images seen, then linearly to 0 at `end_images`.

    Args:
        images: int64 variable that holds the images seen at the start of a train step. All optimizer steps of one train step have
            the same rate.
    """

    def __init__(self, rate, start_images, end_images, images):
        self.rate, self.start_images, self.end_images, self.images = rate, start_images, end_images, images

    def __call__(self, step):
        # The difference first: float32 does not tell large numbers of images apart.
        left = tf.cast(self.end_images - self.images.read_value(), tf.float32) / (self.end_images - self.start_images)
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
    """A generator and a discriminator (or decoder and encoder), their optimizers, their averages, the steps and the images seen.

    Everything random is drawn from (seed, step, place in the global batch): a run depends neither on how many replicas
    share it nor on where it was resumed. Schedules and the place in the data count in images seen, so that they go on where a run
    gets another batch size. Create it, its networks and optimizers in the strategy's scope, and compile it there.

    A subclass says everything that others ask of an objective; nobody else compares its name:

    - `title`, `network_titles`: what people call it and its two networks.
    - `encode`: None, or the method that gives the posterior of an image's code: (image float32 [B, H, W, 3] in [-1, 1],
      training=False, encoder=None: a network in the second one's place, such as its average) -> mean and log variance, both
      float32 [B, latent_dim]. With it come the average of the second network, reconstructions, the mixture prior and the
      signatures `encode` and `reconstruct` of a published version.
    - `decoder_sigma`: None, or the trained standard deviation, a float, of pixels in [-1, 1] around the generator's.
    - `discriminator_head`: arguments that make the second network's head.
    - `step_flops`, `pictures_per_image`: what a train step costs.
    - `progress_logs`: which of its logs the progress line shows.
    - `train_step`, `statistics_inputs`: below.

    Args:
        generator, discriminator: networks with the signatures of `tfvae.networks`.
        ema_generator: a second generator of the same shape; it holds the moving average of the first one's weights.
        ema_discriminator: the same of the discriminator, where `encode` is not None; else None.
        global_batch_size: images in each discriminator step over all replicas.
        seed: of the noise, int.
        flip: mirror half of the real images left to right.
        ema_decay: of the moving averages, per generator step; `ema_start_images`: before it, an average is a plain copy.
        gradient_clip_value: largest size of a gradient's entry; 0 for no limit.
        gradient_clip_norm: largest norm of a network's whole gradient; 0 for no limit.
        weight_decay: L2, added to the gradient as weight_decay x weight.
        orthogonal_regularization: weight of `losses.orthogonal_penalty` over the generator's kernels.
    """

    title = None
    network_titles = ("generator", "discriminator")
    encode = None
    decoder_sigma = None
    progress_logs = ()
    pictures_per_image = 1  # pictures that the backward pass holds for each image of the batch
    batches_per_step = 1  # real batches that one train step consumes

    def __init__(
        self,
        generator,
        discriminator,
        ema_generator,
        ema_discriminator=None,
        *,
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
        self.generator, self.discriminator = generator, discriminator
        self.ema_generator, self.ema_discriminator = ema_generator, ema_discriminator
        self.global_batch_size, self.seed, self.flip = global_batch_size, seed, flip
        self.ema_decay, self.ema_start_images = ema_decay, ema_start_images
        self.gradient_clip_value, self.gradient_clip_norm = gradient_clip_value, gradient_clip_norm
        self.weight_decay, self.orthogonal_regularization = weight_decay, orthogonal_regularization
        counter = dict(dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        self.step, self.images = tf.Variable(0, **counter), tf.Variable(0, **counter)
        self.start_averages()
        self.encoder_average_restored = True  # False: the checkpoint that was restored had none
        self.last_step = None  # a step that the train function does not go beyond
        self.statistics_step = None  # the step at which the averages' batch statistics were last measured
        self.built = True

    @classmethod
    def discriminator_head(cls, config, num_classes):
        """Arguments of the second network that this objective decides: a dict. `config`: resolved; num_classes: 0 without."""
        raise NotImplementedError  # abstract: each objective has its own

    @classmethod
    def step_flops(cls, config, generator, discriminator):
        """FLOPs of a train step for each image of its batch, from those of the networks' forward passes of one image.

        A backward pass costs two forward passes through weights, one through inputs alone.
        """
        raise NotImplementedError  # abstract: each objective has its own

    @property
    def averages(self):
        """[(moving average, network)] of the networks that have one."""
        pairs = [(self.ema_generator, self.generator), (self.ema_discriminator, self.discriminator)]
        return [(average, network) for average, network in pairs if average is not None]

    def start_averages(self):
        """Makes the moving averages copies of the networks."""
        for average, network in self.averages:
            for average_weight, weight in zip(average.weights, network.weights):
                average_weight.assign(weight)

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
        it would be too late. `steps_per_execution`: train steps per call of the train function.
        """
        super().compile(steps_per_execution=steps_per_execution, jit_compile=False)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        generator_optimizer.build(self.generator_weights)
        discriminator_optimizer.build(self.discriminator_weights)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras would average a batch's dicts over the workers to learn their shapes, which fails; all is built already."""

    def make_train_function(self, force=False):
        """A train function that takes `batches_per_step` batches per step, `steps_per_execution` steps per call.

        Keras' own one fails with several steps per call under MirroredStrategy, and with scalar logs under
        MultiWorkerMirroredStrategy. Logs are the last step's, averaged over the replicas. The last call stops at `last_step`.
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
        def many_steps(iterator, number):
            if steps == 1:
                return one_step(iterator)
            _, values = tf.while_loop(
                lambda i, _: i < number,
                lambda i, _: (i + 1, one_step(iterator)),
                [tf.constant(0), tf.zeros([0])],
                shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
            )
            return tf.ensure_shape(values, [len(names)])

        def train_function(iterator):
            left = steps if self.last_step is None else self.last_step - int(self.step.numpy())
            values = many_steps(iterator, tf.constant(min(steps, left)))
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
        raise NotImplementedError  # abstract: each objective has its own

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
        image = to_model_range(batch["image"])
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
        """Moves the averages and counts the step and its images."""
        # Trainable weights alone: the others (batch statistics, u) are measured when the average is used.
        images = self.images.read_value() + self.images_per_step
        decay = tf.where(images < self.ema_start_images, 0.0, self.ema_decay)
        for average, network in self.averages:
            for average_weight, weight in zip(average.trainable_weights, network.trainable_weights):
                average_weight, weight = average_weight.value, weight.value
                average_weight.assign(weight + decay * (average_weight - weight))
        self.step.assign_add(1)
        self.images.assign_add(self.images_per_step)

    # Use.

    @property
    def images_seen(self):
        return int(self.images.numpy())

    def measure_statistics(self, images, labels):
        """Measures the averages' statistics (batch norm's, and spectral norm's u), so that they are ready for use without data.

        On batches and noise that no number of replicas changes; once for each step.

        Args:
            images, labels: uint8 [N, H, W, 3], int32 [N], drawn from the training split; used in whole batches of
                `STATISTICS_BATCH`.
        """
        step = int(self.step.numpy())
        if self.statistics_step == step:
            return
        # From the networks' own, so that the result does not depend on when this was last done.
        for average, network in self.averages:
            for average_weight, weight in zip(average.non_trainable_weights, network.non_trainable_weights):
                average_weight.assign(weight)
        batch = min(STATISTICS_BATCH, len(images))
        rows = [slice(i, i + batch) for i in range(0, len(images) - batch + 1, batch)]
        layers.reestimate_statistics(
            self.ema_generator,
            lambda i: self._draw_as_in_training(
                tf.constant(images[rows[i]]), tf.constant(labels[rows[i]]), tf.constant(i, tf.int64)
            ),
            list(range(len(rows))),
        )
        self.statistics_step = step

    @tf.function
    def _draw_as_in_training(self, images, labels, index):
        latent, label = self.statistics_inputs(images, labels, index)
        self.ema_generator(latent, label, training=True)

    def statistics_inputs(self, images, labels, index):
        """The average generator's inputs as in training, to measure its batch-norm statistics.

        Args:
            images, labels: one batch of real images, uint8 [B, H, W, 3], int32 [B]. index: int64, which batch it is.

        Returns:
            (latent float32 [B, latent_dim], label int32 [B] or None).
        """
        raise NotImplementedError  # abstract: each objective has its own
