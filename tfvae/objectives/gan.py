"""The GAN objective: discriminator steps, each on a real batch of its own, then one generator step."""

import tensorflow as tf

from tfvae.objectives import losses
from tfvae.objectives.augment import POLICIES
from tfvae.objectives.objective import Objective

# Streams of noise: each discriminator step takes ten, the generator step the ten after them. The augmentations take one
# for each policy.
FLIP, LATENT, LABEL, MIX, REAL_AUGMENT, FAKE_AUGMENT = 0, 1, 2, 3, 4, 7
STREAMS_A_STEP = 10


class GAN(Objective):
    """Generator against discriminator (the paper, section 3; BigGAN, section 3).

    Args:
        loss: a key of `losses.ADVERSARIAL`.
        discriminator_steps: per generator step.
        gradient_penalty: weight of the gradient penalty, WGAN-GP's 10 with the Wasserstein loss; 0 for none.
        r1_weight, r2_weight: half of it times the squared gradient of the logit by the picture is added for real (R1) and for
            drawn images (R2); 0 for none.
        penalty_every_steps: K. R1 and R2 are computed at every K-th discriminator step, with K times their weight (lazy
            regularisation: StyleGAN2, arXiv 1912.04958, section 3.1).
        augment: keys of `augment.POLICIES`, each once, applied in their order to real and generated pictures alike.
        The others: as `Objective`'s.

    Raises:
        ValueError: an unknown loss or policy, a policy named twice, or no discriminator step.
    """

    title = "GAN"
    pictures_per_image = 2  # a real and a drawn one

    def __init__(
        self,
        *args,
        loss="vanilla",
        discriminator_steps=1,
        gradient_penalty=0.0,
        r1_weight=0.0,
        r2_weight=0.0,
        penalty_every_steps=1,
        augment=(),
        **kwargs,
    ):
        if loss not in losses.ADVERSARIAL:
            raise ValueError(f"--loss={loss}: expected one of {', '.join(losses.ADVERSARIAL)}.")
        unknown = [name for name in augment if name not in POLICIES]
        if unknown:
            raise ValueError(f"--augment={','.join(unknown)}: expected some of {', '.join(POLICIES)}.")
        if len(set(augment)) < len(augment):
            # Each policy has one stream of noise; and twice the same is none of DiffAugment's.
            raise ValueError(f"--augment={','.join(augment)}: a policy is named twice. Expected each once at most.")
        if not 1 <= discriminator_steps <= 100:
            raise ValueError(f"--discriminator_steps={discriminator_steps}: expected 1 to 100.")
        super().__init__(*args, **kwargs)
        self.discriminator_loss, self.generator_loss = losses.ADVERSARIAL[loss]
        self.paired = loss in losses.PAIRED
        # A logit above it is judged real. A Wasserstein critic judges nothing, a relativistic one pairs alone.
        self.threshold = {"wasserstein": None, "least_squares": 0.5, "relativistic": None}.get(loss, 0.0)
        self.batches_per_step = discriminator_steps
        self.gradient_penalty = gradient_penalty
        self.r1_weight, self.r2_weight, self.penalty_every_steps = r1_weight, r2_weight, penalty_every_steps
        self.augment = tuple(augment)
        self.newest_penalties = None
        if r1_weight or r2_weight:
            # Of the last step that computed them, so that every point of the curves has a value.
            self.newest_penalties = self.add_weight(
                name="newest_penalties",
                shape=(2,),
                initializer="zeros",
                trainable=False,
                aggregation="mean",
                autocast=False,
            )

    @classmethod
    def discriminator_head(cls, config, num_classes):
        return dict(num_classes=num_classes)

    @classmethod
    def step_flops(cls, config, generator, discriminator):
        # A discriminator step draws, then goes forward and back on real and drawn images. A generator step goes forward and back
        # through both networks, without a gradient for the discriminator's weights.
        flops = config.discriminator_steps * (generator + 6 * discriminator) + 3 * generator + 2 * discriminator
        if config.loss in losses.PAIRED:
            flops += discriminator  # the generator step judges the real images too
        # A penalty goes forward, back to the picture, and back through both to the weights.
        penalties = (config.r1_weight > 0) + (config.r2_weight > 0)
        return flops + config.discriminator_steps * penalties * 6 * discriminator / config.penalty_every_steps

    def train_step(self, batches):
        logs = {}
        for i, batch in enumerate(batches):
            logs.update(self.discriminator_step(batch, i))
        logs.update(self.generator_step(batches[-1], len(batches) - 1))
        self.finish_step()
        return logs

    def augmented(self, image, stream):
        for i, name in enumerate(self.augment):
            image = POLICIES[name](image, self.uniform(stream + i, 3))
        return image

    def judged(self, image, label, stream, training=False):
        """Logits [b] of pictures, augmented first, in the discriminator's range."""
        label = label if self.discriminator.num_classes else None
        return self.discriminator(self.augmented(image, stream), label, training=training)[:, 0]

    def discriminator_step(self, batch, i):
        """The i-th one of a train step. Returns loss, accuracies, penalties, gradient norm: scalars over this replica's share."""
        stream = i * STREAMS_A_STEP
        real = self.real_images(batch, stream + FLIP)
        real_label = batch["label"] if self.discriminator.num_classes else None
        fake_label = real_label if self.paired else self.labels(stream + LABEL)
        fake = self.generator(self.normal(stream + LATENT, self.generator.latent_dim), fake_label, training=True)
        # One pass over both: half the calls, and one power iteration a step.
        images = tf.concat(
            [self.augmented(real, stream + REAL_AUGMENT), self.augmented(fake, stream + FAKE_AUGMENT)], 0
        )
        label = None if real_label is None else tf.concat([real_label, fake_label], 0)
        logs = {}
        with tf.GradientTape() as tape:
            logits = self.discriminator(images, label, training=True)[:, 0]
            real_logits, fake_logits = tf.split(logits, 2)
            per_example = self.discriminator_loss(real_logits, fake_logits)
            loss = self.global_mean(per_example)
            if self.gradient_penalty:
                penalty = losses.gradient_penalty(self.picture_gradient(real, fake, real_label, stream))
                loss += self.gradient_penalty * self.global_mean(penalty)
                logs["gradient_penalty"] = tf.reduce_mean(penalty)
        weights = self.discriminator_weights
        gradients = tape.gradient(loss, weights)
        if self.newest_penalties is not None:
            more = self.penalty_gradients([(real, real_label), (fake, fake_label)], i)
            gradients = [a + b for a, b in zip(gradients, more)]
            logs |= {"r1": self.newest_penalties[0], "r2": self.newest_penalties[1]}
        norm = self.update(self.discriminator_optimizer, gradients, weights)
        if self.threshold is not None:
            logs["accuracy_real"] = tf.reduce_mean(tf.cast(real_logits > self.threshold, tf.float32))
            logs["accuracy_fake"] = tf.reduce_mean(tf.cast(fake_logits < self.threshold, tf.float32))
        return logs | {
            "discriminator_loss": tf.reduce_mean(per_example),
            "discriminator_gradient_norm": norm,
        }

    def penalty_gradients(self, pictures, i):
        """Gradients of R1 and R2 by the discriminator's weights; zeros at steps that leave them out.

        Apart from the loss' own, so that a step without them does not pay for them.

        Args:
            pictures: [(real images, labels), (drawn images, labels)]. i: which discriminator step of the train step it is.
        """
        weights = self.discriminator_weights

        def compute():
            values, total = [], 0.0
            with tf.GradientTape() as tape:
                for (image, label), weight, stream in zip(
                    pictures, (self.r1_weight, self.r2_weight), (REAL_AUGMENT, FAKE_AUGMENT)
                ):
                    if not weight:
                        values.append(tf.constant(0.0))
                        continue
                    with tf.GradientTape() as inner:
                        inner.watch(image)
                        # By the picture before its augmentation, and through it. Not a training call: the power iteration is
                        # the loss'.
                        logits = self.judged(image, label, i * STREAMS_A_STEP + stream)
                    penalty = losses.squared_gradient(inner.gradient(logits, image))
                    total += 0.5 * weight * self.penalty_every_steps * self.global_mean(penalty)
                    values.append(tf.reduce_mean(penalty))
            gradients = tape.gradient(total, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [tf.convert_to_tensor(g) for g in gradients] + [tf.stack(values)]

        if self.penalty_every_steps == 1:
            *gradients, values = compute()
        else:
            number = self.step.read_value() * self.batches_per_step + i
            zeros = lambda: [tf.zeros_like(w) for w in weights] + [tf.convert_to_tensor(self.newest_penalties.value)]  # noqa: E731
            *gradients, values = tf.cond(number % self.penalty_every_steps == 0, compute, zeros)
        self.newest_penalties.assign(values)
        return gradients

    def picture_gradient(self, real, fake, label, stream):
        """Gradient of the logit by pictures at random places between real and generated ones: [b, H, W, 3]."""
        mix = real + self.uniform(stream + MIX, 1)[:, :, None, None] * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(mix)
            logits = self.discriminator(mix, label)
        return tape.gradient(logits, mix)

    def generator_step(self, batch, i):
        """After the i-th discriminator step, whose real batch a paired loss uses again. Returns loss and gradient norm."""
        stream = (i + 1) * STREAMS_A_STEP
        latent = self.normal(stream + LATENT, self.generator.latent_dim)
        real_logits, label = None, self.labels(stream + LABEL)
        if self.paired:
            label = batch["label"] if self.generator.num_classes else None
            real = self.real_images(batch, i * STREAMS_A_STEP + FLIP)
            real_logits = tf.stop_gradient(self.judged(real, label, stream + REAL_AUGMENT))
        with tf.GradientTape() as tape:
            fake = self.generator(latent, label, training=True)
            # Not a training call: the power iteration is the discriminator step's.
            per_example = self.generator_loss(real_logits, self.judged(fake, label, stream + FAKE_AUGMENT))
            loss = self.global_mean(per_example) + self.regularization()
        weights = self.generator_weights
        norm = self.update(self.generator_optimizer, tape.gradient(loss, weights), weights)
        return {"generator_loss": tf.reduce_mean(per_example), "generator_gradient_norm": norm}

    def statistics_inputs(self, images, labels, index):
        # Negative: no train step draws these.
        seed = tf.stack([tf.constant(self.seed, tf.int64), -1 - index])
        number, num_classes = tf.shape(images)[0], self.generator.num_classes
        latent = tf.random.stateless_normal([number, self.generator.latent_dim], seed, alg="philox")
        if not num_classes:
            return latent, None
        return latent, tf.random.stateless_uniform([number], seed, 0, num_classes, tf.int32, alg="philox")
