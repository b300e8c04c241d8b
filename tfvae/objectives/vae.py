"""The VAE objective: reconstruction through a Gaussian latent."""

import tensorflow as tf

from tfvae.config import DECODER_VARIANCES
from tfvae.data.images import to_model_range
from tfvae.objectives import losses
from tfvae.objectives.objective import Objective

FLIP, LATENT = 0, 1  # streams of noise


class VAE(Objective):
    """Decoder (the generator) and encoder (the discriminator with 2 latent_dim outputs) (the paper, section 3).

    The loss of one image is its squared error, summed over pixels in [-1, 1], plus `kl_weight` times the KL divergence
    of its latent to N(0, I) in closed form. In [0, 1], where the paper's code works, the squared error is four times
    smaller: its 0.1 is 0.4 here.

    Args:
        kl_weight: weight of the KL divergence (beta).
        kl_warmup_images: images seen over which the weight rises linearly from 0; 0: it is whole from the start.
        decoder_variance: `fixed` (as above), or the negative log likelihood of a Gaussian with one variance in the squared
            error's place (sigma-VAE, arXiv 2006.13202): `optimal`, the global batch's mean squared error, which is the
            likeliest (equation 9 there), or `learned` as a weight, which starts from the first batch's optimum and lags
            behind at usual learning rates.
        encoder_head: `flatten` or `pool`, of which `discriminator_head` makes the encoder's.
        The others: as `Objective`'s.

    Raises:
        ValueError: an unknown decoder variance.
    """

    title = "VAE"
    network_titles = ("decoder", "encoder")
    progress_logs = ("squared_error", "kl_divergence")

    def __init__(
        self, *args, kl_weight=1.0, kl_warmup_images=0, decoder_variance="fixed", encoder_head="flatten", **kwargs
    ):
        if decoder_variance not in DECODER_VARIANCES:
            raise ValueError(f"--decoder_variance={decoder_variance}: expected one of {', '.join(DECODER_VARIANCES)}.")
        super().__init__(*args, **kwargs)
        self.kl_weight, self.kl_warmup_images, self.decoder_variance = kl_weight, kl_warmup_images, decoder_variance
        self.log_sigma = None
        if decoder_variance == "learned":
            self.log_sigma = self.add_weight(
                name="log_sigma", shape=(), initializer="zeros", aggregation="only_first_replica", autocast=False
            )

    @classmethod
    def discriminator_head(cls, config, num_classes):
        # The encoder does not see the label.
        return dict(output_dim=2 * config.latent_dim, flatten=config.encoder_head == "flatten")

    @classmethod
    def step_flops(cls, config, generator, discriminator):
        return 3 * (generator + discriminator)

    @property
    def generator_weights(self):
        return super().generator_weights + ([] if self.log_sigma is None else [self.log_sigma.value])

    @property
    def decoder_sigma(self):
        return None if self.log_sigma is None else float(tf.exp(bounded(self.log_sigma.value)))

    def encode(self, image, training=False, encoder=None):
        return tf.split((encoder or self.discriminator)(image, training=training), 2, axis=-1)

    def train_step(self, batches):
        (batch,) = batches
        image = self.real_images(batch, FLIP)
        label = batch["label"] if self.generator.num_classes else None
        noise = self.normal(LATENT, self.generator.latent_dim)
        with tf.GradientTape() as tape:
            mean, log_variance = self.encode(image, training=True)
            latent = mean + tf.exp(0.5 * log_variance) * noise
            squared_error = losses.squared_error(image, self.generator(latent, label, training=True))
            reconstruction, logs = squared_error, {}
            if self.decoder_variance != "fixed":
                num_values = float(image.shape[1] * image.shape[2] * image.shape[3])
                optimum = 0.5 * tf.math.log(self.mean_over_replicas(squared_error) / num_values)
                log_sigma = optimum if self.log_sigma is None else self.learned_log_sigma(optimum)
                log_sigma = bounded(log_sigma)
                reconstruction = losses.gaussian_negative_log_likelihood(squared_error, num_values, log_sigma)
                logs["decoder_sigma"] = tf.exp(log_sigma)
            kl = tf.reduce_sum(losses.kl_divergence(mean, log_variance), -1)
            weight = self.kl_weight_now()
            per_example = reconstruction + weight * kl
            loss = self.global_mean(per_example) + self.regularization()
        decoder, encoder = self.generator_weights, self.discriminator_weights
        gradients = tape.gradient(loss, decoder + encoder)
        decoder_norm = self.update(self.generator_optimizer, gradients[: len(decoder)], decoder)
        encoder_norm = self.update(self.discriminator_optimizer, gradients[len(decoder) :], encoder)
        self.finish_step()
        return logs | {
            "loss": tf.reduce_mean(per_example),
            "squared_error": tf.reduce_mean(squared_error),
            "kl_divergence": tf.reduce_mean(kl),
            "kl_weight": weight,
            "generator_gradient_norm": decoder_norm,
            "discriminator_gradient_norm": encoder_norm,
        }

    def learned_log_sigma(self, optimum):
        """The weight; at the first step the optimum is written into it first. From 0, Adam would need thousands of steps."""
        weight = self.log_sigma.value
        weight.assign(tf.where(self.step.read_value() == 0, optimum, tf.convert_to_tensor(weight)))
        return weight

    def mean_over_replicas(self, per_example):
        """Mean over the global batch, without its gradient, float32 scalar: at the optimum sigma's gradient is 0 anyway."""
        total = tf.reduce_sum(tf.stop_gradient(per_example))
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, total)
        return total / self.global_batch_size

    def kl_weight_now(self):
        """The KL's weight at this step: float32 scalar."""
        if not self.kl_warmup_images:
            return tf.constant(self.kl_weight, tf.float32)
        images = tf.cast(self.images.read_value(), tf.float32)
        return self.kl_weight * tf.minimum(1.0, images / self.kl_warmup_images)

    def statistics_inputs(self, images, labels, index):
        # Posterior latents, as in training: the decoder's statistics are of what it was trained on. A training call, for the
        # average encoder's spectral norm is measured along with them.
        mean, log_variance = self.encode(to_model_range(images), training=True, encoder=self.ema_discriminator)
        seed = tf.stack([tf.constant(self.seed, tf.int64), -1 - index])
        latent = mean + tf.exp(0.5 * log_variance) * tf.random.stateless_normal(tf.shape(mean), seed, alg="philox")
        return latent, labels if self.generator.num_classes else None


def bounded(log_sigma):
    """Softly no smaller than -6: a perfect pixel would pull it to minus infinity."""
    return -6.0 + tf.nn.softplus(log_sigma + 6.0)
