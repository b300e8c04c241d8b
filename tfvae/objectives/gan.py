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
        augment: keys of `augment.POLICIES`, each once, applied in their order to real and generated pictures alike.
        The others: as `Objective`'s.

    Raises:
        ValueError: an unknown loss or policy, a policy named twice, or no discriminator step.
    """

    title = "GAN"
    pictures_per_image = 2  # a real and a drawn one

    def __init__(self, *args, loss="vanilla", discriminator_steps=1, gradient_penalty=0.0, augment=(), **kwargs):
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
        # A logit above it is judged real. A Wasserstein critic judges nothing.
        self.threshold = {"wasserstein": None, "least_squares": 0.5}.get(loss, 0.0)
        self.batches_per_step = discriminator_steps
        self.gradient_penalty = gradient_penalty
        self.augment = tuple(augment)

    @classmethod
    def discriminator_head(cls, config, num_classes):
        return dict(num_classes=num_classes)

    @classmethod
    def step_flops(cls, config, generator, discriminator):
        # A discriminator step draws, then goes forward and back on real and drawn images. A generator step goes forward and back
        # through both networks, without a gradient for the discriminator's weights.
        return config.discriminator_steps * (generator + 6 * discriminator) + 3 * generator + 2 * discriminator

    def train_step(self, batches):
        logs = {}
        for i, batch in enumerate(batches):
            logs.update(self.discriminator_step(batch, i * STREAMS_A_STEP))
        logs.update(self.generator_step(len(batches) * STREAMS_A_STEP))
        self.finish_step()
        return logs

    def augmented(self, image, stream):
        for i, name in enumerate(self.augment):
            image = POLICIES[name](image, self.uniform(stream + i, 3))
        return image

    def discriminator_step(self, batch, stream):
        """Returns loss, accuracy on real and on fake, gradient norm; scalars over this replica's share."""
        real = self.real_images(batch, stream + FLIP)
        real_label = batch["label"] if self.discriminator.num_classes else None
        fake_label = self.labels(stream + LABEL)
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
        norm = self.update(self.discriminator_optimizer, tape.gradient(loss, weights), weights)
        if self.threshold is not None:
            logs["accuracy_real"] = tf.reduce_mean(tf.cast(real_logits > self.threshold, tf.float32))
            logs["accuracy_fake"] = tf.reduce_mean(tf.cast(fake_logits < self.threshold, tf.float32))
        return logs | {
            "discriminator_loss": tf.reduce_mean(per_example),
            "discriminator_gradient_norm": norm,
        }

    def picture_gradient(self, real, fake, label, stream):
        """Gradient of the logit by pictures at random places between real and generated ones: [b, H, W, 3]."""
        mix = real + self.uniform(stream + MIX, 1)[:, :, None, None] * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(mix)
            logits = self.discriminator(mix, label)
        return tape.gradient(logits, mix)

    def generator_step(self, stream):
        """Returns loss and gradient norm; scalars over this replica's share."""
        latent, label = self.normal(stream + LATENT, self.generator.latent_dim), self.labels(stream + LABEL)
        with tf.GradientTape() as tape:
            fake = self.augmented(self.generator(latent, label, training=True), stream + FAKE_AUGMENT)
            # Not a training call: the power iteration is the discriminator step's.
            logits = self.discriminator(fake, label if self.discriminator.num_classes else None)[:, 0]
            per_example = self.generator_loss(logits)
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
