"""The Soft-IntroVAE objective: a VAE whose encoder is the discriminator (Daniel and Tamar, arXiv 2012.13253)."""

import tensorflow as tf

from tfvae.objectives import losses
from tfvae.objectives.vae import VAE

# Streams of noise: of the real images' codes, of the prior, of its labels; of the codes of pictures that the networks made, in
# the encoder's step and in the decoder's.
FLIP, LATENT, PRIOR, LABEL, ENCODER_STEP, DECODER_STEP = 0, 1, 2, 3, 4, 6
EXPONENT = 2.0  # alpha of the paper


class SoftIntroVAE(VAE):
    """Decoder and encoder, the same two networks as the VAE's, the encoder trained against what the decoder draws.

    With L the squared error of pixels in [0, 1] summed over an image, s one over its number of values, sg the stopped gradient,
    x_r = D(z_q) of a code z_q of the image x, and x_f = D(z) of a latent z of the prior (the paper, equations 5 and 6):

    - encoder: s (L(x, x_r) + kl_weight KL(E(x))) + 1/4 sum over y in {sg x_f, sg x_r} of
      exp(-2 s (L(y, D(E(y))) + fake_kl_weight KL(E(y)))): the ELBO of real images is made large, that of drawn and
      reconstructed ones small;
    - decoder: s (L(x, D(sg z_q)) + 1/2 kl_weight (KL(E(D(z))) + KL(E(D(sg z_q)))) + 1/2 fake_reconstruction_weight times the sum
      over y of L(sg y, D(sg z_y))), z_y a code of y.

    The encoder's step is applied first; the decoder's takes z_q from before it, the same z and the updated encoder. With labels,
    x_r has its image's label and x_f a drawn one, and decoding again keeps each. The gradient does not flow into the target y of
    the exponential's reconstruction; in the authors' code it does.

    The decoder's batch norm sees codes of the prior and of the posterior in batches of their own, as in the authors' code.

    Args:
        kl_weight: of KL(E(x)), beside squared errors in [0, 1] (the source's beta_kl; beta_rec is 1).
        fake_kl_weight: the source's beta_neg, 256 on CIFAR-10.
        fake_reconstruction_weight: the source's gamma_r, 1e-8; 0 leaves the term and its cost out.
        The others: as `Objective`'s.
    """

    title = "Soft-IntroVAE"
    progress_logs = ("squared_error", "kl_real", "kl_fake")
    pictures_per_image = 3  # a real, a reconstructed and a drawn one

    def __init__(
        self,
        *args,
        kl_weight=1.0,
        fake_kl_weight=256.0,
        fake_reconstruction_weight=1e-8,
        encoder_head="flatten",
        **kwargs,
    ):
        super().__init__(*args, kl_weight=kl_weight, encoder_head=encoder_head, **kwargs)
        self.fake_kl_weight, self.fake_reconstruction_weight = fake_kl_weight, fake_reconstruction_weight

    @classmethod
    def step_flops(cls, config, generator, discriminator):
        # Encoder's step: forward through 4 decodings and 3 encodings, back through the encodings by weights and inputs, and
        # through the 3 decodings that it depends on by inputs. Decoder's: 2 decodings forward and back by weights, 2 encodings
        # forward and back by inputs; 2 more decodings where pictures are decoded again.
        again = 6 * generator if config.fake_reconstruction_weight else 0
        return (4 + 3) * generator + (3 + 6) * discriminator + 6 * generator + 4 * discriminator + again

    def code(self, image, stream):
        """A code drawn from the posterior of pictures, and its KL divergence: float32 [b, latent_dim], [b]."""
        mean, log_variance = self.encode(image, training=True)
        latent = mean + tf.exp(0.5 * log_variance) * self.normal(stream, self.generator.latent_dim)
        return latent, tf.reduce_sum(losses.kl_divergence(mean, log_variance), -1)

    def codes(self, pictures, stream):
        """`code` of several batches of pictures, in one pass: the encoder has no batch statistics."""
        number = len(pictures)
        mean, log_variance = self.encode(tf.concat(pictures, 0), training=True)
        noise = tf.concat([self.normal(stream + i, self.generator.latent_dim) for i in range(number)], 0)
        latent = mean + tf.exp(0.5 * log_variance) * noise
        kl = tf.reduce_sum(losses.kl_divergence(mean, log_variance), -1)
        return tf.split(latent, number), tf.split(kl, number)

    def decode(self, latent, label):
        return self.generator(latent, label, training=True)

    def train_step(self, batches):
        (batch,) = batches
        real = self.real_images(batch, FLIP)
        scale = 1.0 / float(real.shape[1] * real.shape[2] * real.shape[3])
        prior = self.normal(PRIOR, self.generator.latent_dim)
        # Labels of reconstructed and of drawn pictures.
        labels = [batch["label"] if self.generator.num_classes else None, self.labels(LABEL)]

        with tf.GradientTape() as tape:
            latent, kl_real = self.code(real, LATENT)
            reconstructed = self.decode(latent, labels[0])
            squared_error = error(real, reconstructed)
            drawn = self.decode(prior, labels[1])
            made = [tf.stop_gradient(reconstructed), tf.stop_gradient(drawn)]
            made_codes, made_kls = self.codes(made, ENCODER_STEP)
            exponentials = [
                tf.exp(-EXPONENT * scale * (error(y, self.decode(z, label)) + self.fake_kl_weight * kl))
                for y, z, kl, label in zip(made, made_codes, made_kls, labels)
            ]
            elbo_part = scale * (squared_error + self.kl_weight * kl_real)
            encoder_loss = elbo_part + 0.25 * tf.add_n(exponentials)
            loss = self.global_mean(encoder_loss)
        weights = self.discriminator_weights
        encoder_norm = self.update(self.discriminator_optimizer, tape.gradient(loss, weights), weights)

        latent = tf.stop_gradient(latent)
        with tf.GradientTape() as tape:
            made = [self.decode(latent, labels[0]), self.decode(prior, labels[1])]
            made_codes, decoder_kls = self.codes(made, DECODER_STEP)
            decoder_loss = scale * (error(real, made[0]) + 0.5 * self.kl_weight * tf.add_n(decoder_kls))
            if self.fake_reconstruction_weight:
                again = [
                    error(tf.stop_gradient(y), self.decode(tf.stop_gradient(z), label))
                    for y, z, label in zip(made, made_codes, labels)
                ]
                decoder_loss += scale * 0.5 * self.fake_reconstruction_weight * tf.add_n(again)
            loss = self.global_mean(decoder_loss) + self.regularization()
        weights = self.generator_weights
        decoder_norm = self.update(self.generator_optimizer, tape.gradient(loss, weights), weights)
        self.finish_step()
        logs = {
            "encoder_loss": encoder_loss,
            "decoder_loss": decoder_loss,
            "squared_error": squared_error,
            "kl_real": kl_real,
            "kl_reconstructed": made_kls[0],
            "kl_fake": made_kls[1],
            # Below 0 the encoder takes drawn pictures for the likelier ones: it has lost.
            "kl_fake_minus_kl_real": made_kls[1] - kl_real,
            "exponential_elbo_reconstructed": exponentials[0],
            "exponential_elbo_fake": exponentials[1],
        }
        return {name: tf.reduce_mean(value) for name, value in logs.items()} | {
            "generator_gradient_norm": decoder_norm,
            "discriminator_gradient_norm": encoder_norm,
        }

    def statistics_inputs(self, images, labels, index):
        # The decoder was trained on batches of codes and on batches of the prior; half of each is the compromise between them.
        posterior, posterior_labels = super().statistics_inputs(images, labels, index)
        half = tf.shape(images)[0] // 2
        # Negative and apart from the posterior's: no train step draws these.
        seed = tf.stack([tf.constant(self.seed, tf.int64), -(2**32) - index])
        prior = tf.random.stateless_normal(tf.shape(posterior), seed, alg="philox")
        latent = tf.concat([posterior[:half], prior[half:]], 0)
        if posterior_labels is None:
            return latent, None
        drawn = tf.random.stateless_uniform(
            tf.shape(posterior_labels), seed, 0, self.generator.num_classes, tf.int32, alg="philox"
        )
        return latent, tf.concat([posterior_labels[:half], drawn[half:]], 0)


def error(image, other):
    """Squared error of pixels in [0, 1], summed over the image: two float [B, H, W, C] in [-1, 1] -> [B]."""
    return 0.25 * losses.squared_error(image, other)
