"""BigGAN and BigGAN-deep: the papers' sizes, their tables and chunks, and what labels, rows and precision do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae.networks import biggan, biggan_deep, layers, tables

ARCHITECTURES = pytest.mark.parametrize("architecture", [biggan, biggan_deep], ids=["biggan", "biggan_deep"])
RESOLUTIONS = (32, 45, 64, 128, 256, 512)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def count(network):
    return sum(int(np.prod(w.shape)) for w in network.trainable_weights)


def tiny_generator(architecture, resolution=32, latent_dim=16, **arguments):
    """Cheap to make; `initializer="zeros"` is cheaper still, where values do not matter."""
    return architecture.Generator(resolution, 4, latent_dim, shared_embedding_dim=8, **arguments)


# Sizes.


@pytest.mark.parametrize(
    "architecture, base_channels, latent_dim, generator, discriminator",
    [(biggan, 96, 120, 70_433_988, 87_982_370), (biggan_deep, 128, 128, 50_244_484, 34_590_210)],
    ids=["biggan", "biggan_deep"],
)
def test_imagenet_networks_have_the_papers_number_of_parameters(
    architecture, base_channels, latent_dim, generator, discriminator
):
    arguments = dict(resolution=128, base_channels=base_channels, num_classes=1000, initializer="zeros")
    network = architecture.Generator(latent_dim=latent_dim, **arguments)
    assert count(network) == generator
    assert layers.BatchNorm in map(type, network._flatten_layers())
    if architecture is biggan:
        assert network.chunks == (20,) * 6
    assert count(architecture.Discriminator(**arguments)) == discriminator


@ARCHITECTURES
def test_spectral_norm_adds_no_trainable_parameters(architecture):
    plain, normalized = (tiny_generator(architecture, num_classes=3, spectral_norm=flag) for flag in (False, True))
    assert count(plain) == count(normalized)
    assert len(normalized.non_trainable_weights) > len(plain.non_trainable_weights)


@pytest.mark.parametrize(
    "resolution, num_classes", [(r, c) for r in RESOLUTIONS for c in (0, 3) if r <= 64 or c == 0], ids=str
)
@ARCHITECTURES
def test_generator_draws_finite_float32_pictures_of_its_resolution(architecture, resolution, num_classes):
    generator = tiny_generator(architecture, resolution, num_classes=num_classes)
    batch = 2 if resolution <= 64 else 1
    label = tf.zeros([batch], tf.int32) if num_classes else None
    image = generator(normal(batch, 16), label, training=True)
    assert image.shape == (batch, resolution, resolution, 3) and image.dtype == tf.float32
    assert np.abs(image).max() <= 1.0 and np.ptp(image) > 0.0


@pytest.mark.parametrize(
    "resolution, num_classes", [(r, c) for r in RESOLUTIONS for c in (0, 3) if r <= 64 or c == 0], ids=str
)
@ARCHITECTURES
def test_discriminator_gives_one_finite_number_a_picture(architecture, resolution, num_classes):
    # 8: the non-local block of biggan's 128 px network has base_channels / 8 query channels.
    discriminator = architecture.Discriminator(resolution, 8, num_classes=num_classes)
    batch = 2 if resolution <= 64 else 1
    label = tf.zeros([batch], tf.int32) if num_classes else None
    logit = discriminator(normal(batch, resolution, resolution, 3), label, training=True)
    assert logit.shape == (batch, 1) and logit.dtype == tf.float32 and np.isfinite(logit).all()


@pytest.mark.parametrize("resolution", [32, 45])
@ARCHITECTURES
def test_encoder_gives_output_dim_numbers_a_picture(architecture, resolution):
    encoder = architecture.Discriminator(resolution, 4, latent_dim=16, output_dim=32)
    assert encoder(normal(3, resolution, resolution, 3)).shape == (3, 32)


@pytest.mark.parametrize("resolution, side", [(32, 4), (45, 5), (64, 4), (128, 4)])
@ARCHITECTURES
def test_discriminator_halves_down_to_the_side_of_the_tables(architecture, resolution, side):
    discriminator = architecture.Discriminator(resolution, 8, attention_resolution=0)
    x = normal(1, resolution, resolution, 3)
    if architecture is biggan_deep:
        x = discriminator.stem(x)
    for block in discriminator.blocks:
        x = block(x)
    assert x.shape[1:] == (side, side, 8 * tables.discriminator_multipliers(resolution)[-1])


# Tables.


@pytest.mark.parametrize(
    "resolution, chain",
    [
        (32, (8, 4, 2, 1)),
        (45, (16, 8, 4, 2, 1)),
        (64, (16, 16, 8, 4, 2)),
        (128, (16, 16, 8, 4, 2, 1)),
        (256, (16, 16, 8, 8, 4, 2, 1)),
        (512, (16, 16, 8, 8, 4, 2, 1, 1)),
    ],
)
def test_channel_tables_are_the_papers_and_mirrored(resolution, chain):
    assert tables.generator_multipliers(resolution) == chain
    # 45 px: three halvings, so the widest entry is left out.
    mirrored = (1, 2, 4, 8) if resolution == 45 else chain[::-1]
    assert tables.discriminator_multipliers(resolution) == mirrored


def test_generator_sizes_double_from_four_and_end_with_the_resolution():
    assert tables.generator_sizes(32) == (8, 16, 32)
    assert tables.generator_sizes(45) == (8, 16, 32, 45)
    assert tables.generator_sizes(512) == (8, 16, 32, 64, 128, 256, 512)


@ARCHITECTURES
def test_channel_multipliers_replace_the_chain(architecture):
    generator = tiny_generator(architecture, channel_multipliers=(4, 4, 4, 4))
    assert generator.bottom_channels == 16 and generator.output_conv.kernel.shape[2] == 16
    discriminator = architecture.Discriminator(32, 4, channel_multipliers=[4, 4, 4, 4])
    assert discriminator.linear.kernel.shape == (16, 1)
    assert generator(normal(2, 16)).shape == (2, 32, 32, 3)
    assert discriminator(normal(2, 32, 32, 3)).shape == (2, 1)


@pytest.mark.parametrize("chain", [(1, 8, 2, 4), (8, 1, 4, 2)])
@ARCHITECTURES
def test_chains_that_widen_and_narrow_fit_discriminators(architecture, chain):
    discriminator = architecture.Discriminator(32, 4, channel_multipliers=chain)
    assert discriminator(normal(1, 32, 32, 3)).shape == (1, 1)


def test_first_latent_chunk_takes_the_remainder():
    assert tables.latent_chunks(120, 5) == (20, 20, 20, 20, 20, 20)
    assert tables.latent_chunks(18, 3) == (6, 4, 4, 4)
    assert tables.latent_chunks(4, 3) == (1, 1, 1, 1)


def test_biggan_cuts_its_latent_with_labels_only():
    zeros = dict(latent_dim=18, initializer="zeros")
    assert tiny_generator(biggan, num_classes=2, **zeros).chunks == (6, 4, 4, 4)
    assert tiny_generator(biggan, num_classes=2, blocks_per_stage=2, **zeros).chunks == (6, 2, 2, 2, 2, 2, 2)
    assert tiny_generator(biggan, **zeros).linear.kernel.shape[0] == 18
    assert tiny_generator(biggan_deep, num_classes=2, **zeros).linear.kernel.shape[0] == 18 + 8


def test_each_latent_chunk_changes_the_picture():
    generator = tiny_generator(biggan, latent_dim=18, num_classes=2)
    latent, label = normal(1, 18), tf.zeros([1], tf.int32)
    before = generator(latent, label)
    for place in (0, 5, 6, 9, 10, 13, 14, 17):
        changed = latent.copy()
        changed[0, place] += 1.0
        assert np.abs(generator(changed, label) - before).max() > 1e-6, place


# Mistakes.


def assert_one_message(make, *parts):
    with pytest.raises(ValueError) as error:
        make()
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


@pytest.mark.parametrize("role", ["Generator", "Discriminator"])
@ARCHITECTURES
@pytest.mark.parametrize(
    "arguments, parts",
    [
        (dict(resolution=48), ["48 px", "32, 45, 64, 128, 256, 512", "--resolution"]),
        (dict(channel_multipliers=(4, 4)), ["--channel_multipliers=4,4", "32 px", "4 positive numbers", "8,4,2,1"]),
        (dict(channel_multipliers=(4, 4, 0, 4)), ["--channel_multipliers=4,4,0,4", "4 positive numbers"]),
        (dict(activation="gelu"), ["--activation=gelu", "relu or leaky_relu"]),
        (dict(base_channels=0), ["--base_channels=0", "positive"]),
        (dict(latent_dim=-1), ["--latent_dim=-1", "1 or more"]),
        (dict(blocks_per_stage=-1), ["--blocks_per_stage=-1", "1 or more"]),
        (dict(num_classes=-1), ["num_classes=-1", "0 (no labels) or more"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_sizes_that_do_not_fit_raise_one_line_that_names_the_flag(architecture, role, arguments, parts):
    arguments = dict(resolution=32, base_channels=4, latent_dim=16) | arguments
    assert_one_message(lambda: getattr(architecture, role)(**arguments), *parts)


def test_too_few_latent_dimensions_for_the_chunks_name_the_flag_and_the_least_number():
    assert_one_message(lambda: tiny_generator(biggan, latent_dim=3, num_classes=2), "--latent_dim=3", "4 or more")
    assert_one_message(lambda: tables.latent_chunks(5, 5), "--latent_dim=5", "6 or more")
    tiny_generator(biggan, latent_dim=3)  # without labels nothing is cut


@pytest.mark.parametrize("role", ["Generator", "Discriminator"])
def test_biggan_deep_needs_base_channels_in_fours(role):
    make = getattr(biggan_deep, role)
    assert_one_message(lambda: make(32, 6, 16), "--base_channels=6", "multiple of 4")


# Blocks and attention.


@ARCHITECTURES
def test_blocks_per_stage_adds_blocks_without_changing_sizes(architecture):
    default = 1 if architecture is biggan else 2
    for blocks in (None, 1, 3):
        generator = tiny_generator(architecture, blocks_per_stage=blocks, initializer="zeros")
        assert len(generator.blocks) == 3 * (blocks or default)
    assert generator(normal(1, 16)).shape == (1, 32, 32, 3)
    stages = 4 if architecture is biggan else 3
    for blocks in (None, 1, 3):
        discriminator = architecture.Discriminator(32, 4, blocks_per_stage=blocks, initializer="zeros")
        assert len(discriminator.blocks) == stages * (blocks or default)
    assert discriminator(normal(1, 32, 32, 3)).shape == (1, 1)


@pytest.mark.parametrize("resolution", [32, 45, 64, 128])
@ARCHITECTURES
def test_attention_stands_at_64_px_only(architecture, resolution):
    generator = tiny_generator(architecture, resolution, initializer="zeros")
    # A discriminator has its block after the stage that ends with 64 px, so not where the picture itself has 64.
    discriminator = architecture.Discriminator(resolution, 8, initializer="zeros")
    for network, attends in ((generator, resolution >= 64), (discriminator, resolution >= 128)):
        blocks = [layer for layer in network._flatten_layers() if isinstance(layer, layers.NonLocalBlock)]
        assert blocks == ([network.attention] if attends else [])
        if attends:
            assert side_of_attention(network) == (64, 64)


def side_of_attention(network):
    """Side of the picture that reaches a network's non-local block."""
    seen = []
    network.attention.call = lambda x, training=False: seen.append(tuple(x.shape[1:3])) or x
    side = network.resolution
    network(normal(1, network.latent_dim) if hasattr(network, "latent_dim") else normal(1, side, side, 3))
    (size,) = seen
    return size


@ARCHITECTURES
def test_attention_resolution_moves_the_block_and_zero_leaves_it_out(architecture):
    for role in ("Generator", "Discriminator"):
        make = getattr(architecture, role)
        assert make(128, 8, 16, attention_resolution=0, initializer="zeros").attention is None
        network = make(32, 8, 16, attention_resolution=16, initializer="zeros")
        assert side_of_attention(network) == (16, 16)


# Behaviour.


@ARCHITECTURES
def test_label_changes_the_output_of_conditional_networks(architecture):
    generator = tiny_generator(architecture, num_classes=3)
    latent = np.repeat(normal(1, 16), 3, 0)
    pictures = generator(latent, tf.constant([0, 1, 0])).numpy()
    assert np.abs(pictures[0] - pictures[1]).max() > 1e-3
    np.testing.assert_allclose(pictures[0], pictures[2], atol=1e-6)
    discriminator = architecture.Discriminator(32, 4, num_classes=3)
    logits = discriminator(np.repeat(normal(1, 32, 32, 3), 3, 0), tf.constant([0, 1, 0])).numpy()
    assert np.abs(logits[0] - logits[1]) > 1e-3
    np.testing.assert_allclose(logits[0], logits[2], rtol=1e-5, atol=1e-5)


@ARCHITECTURES
def test_projection_head_adds_embedding_times_features(architecture):
    discriminator = architecture.Discriminator(32, 4, num_classes=3)
    image, label = normal(3, 32, 32, 3), tf.constant([2, 0, 1])
    with_label = discriminator(image, label).numpy()
    features = []
    linear = discriminator.linear.call
    discriminator.linear.call = lambda h, training=False: features.append(h) or linear(h, training=training)
    kernel, bias = discriminator.linear.kernel.numpy(), discriminator.linear.bias.numpy()
    discriminator(image, label)
    h = features[0].numpy()
    expected = h @ kernel + bias + np.sum(discriminator.embedding.kernel.numpy()[[2, 0, 1]] * h, -1, keepdims=True)
    np.testing.assert_allclose(with_label, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_classes", [0, 3])
@ARCHITECTURES
def test_in_evaluation_a_row_does_not_depend_on_the_other_rows(architecture, num_classes):
    generator = tiny_generator(architecture, num_classes=num_classes, attention_resolution=16)
    latent = normal(4, 16)
    labels = tf.constant([0, 1, 2, 0]) if num_classes else None
    generator(latent, labels, training=True)  # moves the statistics
    together = generator(latent, labels).numpy()
    alone = generator(latent[1:2], labels[1:2] if num_classes else None).numpy()
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    latent[[0, 2, 3]] = 5.0
    np.testing.assert_allclose(generator(latent, labels).numpy()[1], together[1], atol=1e-6)
    assert np.abs(generator(latent, labels, training=True).numpy()[1] - together[1]).max() > 1e-3


# Cost.


def test_flops_of_biggans_generator_equal_the_sum_by_hand():
    generator = biggan.Generator(32, 1, 10)
    generator(normal(1, 10))
    expected = 2 * 10 * 16 * 8  # linear: 10 to 4 x 4 x 8
    for side, wide, narrow in ((8, 8, 4), (16, 4, 2), (32, 2, 1)):
        # Two 3 x 3 convolutions and a 1 x 1 skip, all after the upsampling.
        expected += 2 * side * side * (9 * wide * narrow + 9 * narrow * narrow + wide * narrow)
    expected += 2 * 32 * 32 * 9 * 1 * 3
    assert layers.flops_per_image(generator) == expected


def test_flops_of_biggans_discriminator_equal_the_sum_by_hand():
    discriminator = biggan.Discriminator(32, 1)
    discriminator(normal(1, 32, 32, 3))
    expected = 2 * 8  # linear
    for side, narrow, wide in ((32, 3, 1), (16, 1, 2), (8, 2, 4), (4, 4, 8)):
        # Two 3 x 3 convolutions and a 1 x 1 skip, all before the pooling.
        expected += 2 * side * side * (9 * narrow * wide + 9 * wide * wide + narrow * wide)
    assert layers.flops_per_image(discriminator) == expected


def test_flops_count_the_conditional_norms_linear_layers():
    generator = biggan.Generator(32, 1, 12, num_classes=2, shared_embedding_dim=5)
    generator(normal(1, 12), tf.constant([0]))
    plain = biggan.Generator(32, 1, 3)
    plain(normal(1, 3))
    # Chunks of 3: each norm has two matrices of (5 + 3) x channels, and each block two norms.
    expected = 2 * 2 * 8 * sum((8 + 4, 4 + 2, 2 + 1))
    assert layers.flops_per_image(generator) - layers.flops_per_image(plain) == expected


# Precision.


@ARCHITECTURES
def test_mixed_bfloat16_keeps_weights_and_outputs_in_float32(architecture):
    keras.config.set_dtype_policy("mixed_bfloat16")
    arguments = dict(num_classes=3, attention_resolution=16, spectral_norm=True)
    label = tf.constant([0, 2])
    networks = (
        (architecture.Generator(32, 8, 16, shared_embedding_dim=8, **arguments), normal(2, 16)),
        (architecture.Discriminator(32, 8, **arguments), normal(2, 32, 32, 3)),
    )
    for network, x in networks:
        for training in (True, False):
            y = network(x, label, training=training)
            assert y.dtype == tf.float32 and np.isfinite(y).all()
        assert {w.dtype for w in network.weights} == {"float32"}
        inner = network.blocks[1].conv2
        assert inner(tf.zeros([1, 4, 4, inner.kernel.shape[2]])).dtype == tf.bfloat16
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(x, label, training=True))
        gradients = tape.gradient(loss, [w.value for w in network.trainable_weights])
        assert all(g is not None for g in gradients)
        dense = [tf.convert_to_tensor(g) for g in gradients]
        assert all(g.dtype == tf.float32 and np.isfinite(g.numpy()).all() for g in dense)


@ARCHITECTURES
def test_mixed_bfloat16_draws_nearly_the_float32_picture(architecture):
    pictures, weights = {}, None
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(1)
        generator = tiny_generator(architecture)
        weights = weights or generator.get_weights()
        generator.set_weights(weights)
        pictures[policy] = generator(normal(8, 16), training=True).numpy()
    difference = pictures["float32"] - pictures["mixed_bfloat16"]
    # bfloat16 rounds to 1 in 256, and some ten to thirty layers follow each other.
    assert 0.0 < difference.std() < 0.1 * pictures["float32"].std()
