"""Channels and sizes of every network, by resolution.

Source: BigGAN (arXiv 1809.11096), tables 4 to 9, for 128, 256 and 512 px; the paper's section 3 and its code for 32 and
45 px; 64 px continues the same rule.
"""

GENERATOR_MULTIPLIERS = {
    32: (8, 4, 2, 1),
    45: (16, 8, 4, 2, 1),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}


def generator_multipliers(resolution, channel_multipliers=None):
    """Channel multipliers before, between and after the generator's stages.

    Args:
        resolution: pixels a side, a key of `GENERATOR_MULTIPLIERS`.
        channel_multipliers: another chain of the same length (BigGAN's own CIFAR networks use 4, 4, 4, 4), or None.

    Returns:
        Tuple of `stages + 1` ints.

    Raises:
        ValueError: no table has the resolution, or the chain has another length.
    """
    if resolution not in GENERATOR_MULTIPLIERS:
        raise ValueError(
            f"No network for {resolution} px. The tables have {', '.join(map(str, GENERATOR_MULTIPLIERS))} px: "
            "set --resolution to one of them (images are resized)."
        )
    default = GENERATOR_MULTIPLIERS[resolution]
    if not channel_multipliers:
        return default
    if len(channel_multipliers) != len(default) or min(channel_multipliers) < 1:
        raise ValueError(
            f"--channel_multipliers={','.join(map(str, channel_multipliers))} does not fit {resolution} px: expected "
            f"{len(default)} positive numbers such as {','.join(map(str, default))}."
        )
    return tuple(channel_multipliers)


def generator_sizes(resolution):
    """Pixels a side after each stage of the generator; it starts from 4. The last stage of 45 px resizes 32 to 45."""
    stages = len(GENERATOR_MULTIPLIERS[resolution]) - 1
    return tuple(4 * 2 ** (i + 1) for i in range(stages - 1)) + (resolution,)


def discriminator_multipliers(resolution, channel_multipliers=None, discriminator_channel_multipliers=None):
    """The generator's chain mirrored, or one of its own: one entry for the first stage's output and one for each later one.

    32 and 45 px have three halvings (32 to 4 and 45 to 5), so at 45 px the widest entry of the generator is left out.

    Args:
        resolution, channel_multipliers: as `generator_multipliers`'.
        discriminator_channel_multipliers: a chain in the mirrored one's place, from the picture on, of the same length; or None.

    Returns:
        Tuple of `halvings + 1` ints.

    Raises:
        ValueError: no table has the resolution, or a chain has another length.
    """
    mirrored = generator_multipliers(resolution, channel_multipliers)[::-1]
    mirrored = mirrored[:4] if resolution == 45 else mirrored
    own = discriminator_channel_multipliers
    if not own:
        return mirrored
    if len(own) != len(mirrored) or min(own) < 1:
        raise ValueError(
            f"--discriminator_channel_multipliers={','.join(map(str, own))} does not fit {resolution} px: expected "
            f"{len(mirrored)} positive numbers such as {','.join(map(str, mirrored))}."
        )
    return tuple(own)


def attention_sides(resolution):
    """Sides after whose stages a network may have its non-local block: (the generator's, the discriminator's), two tuples."""
    halvings = len(discriminator_multipliers(resolution)) - 1
    return generator_sizes(resolution), tuple(resolution // 2 ** (i + 1) for i in range(halvings))


def default_attention_resolution(resolution):
    """64, BigGAN's, where both networks have that side; else 0: no non-local block."""
    return 64 if all(64 in sides for sides in attention_sides(resolution)) else 0


def check_attention(resolution, attention_resolution):
    """Raises a ValueError for a side that only one of the two networks has: it alone would get the non-local block."""
    generator, discriminator = attention_sides(resolution)
    if (attention_resolution in generator) != (attention_resolution in discriminator):
        shared = [str(side) for side in generator if side in discriminator]
        only = "generator" if attention_resolution in generator else "discriminator"
        raise ValueError(
            f"--attention_resolution={attention_resolution}: at {resolution} px only the {only} has a stage of that side. "
            f"Expected {' or '.join(shared) + ', which both have, or ' if shared else ''}0: no non-local block."
        )


def latent_chunks(latent_dim, num_blocks):
    """Sizes of the hierarchical latent's chunks: the linear layer's, which takes the remainder, then one per block.

    Raises:
        ValueError: fewer latent dimensions than chunks.
    """
    chunk, remainder = divmod(latent_dim, num_blocks + 1)
    if chunk == 0:
        raise ValueError(
            f"--latent_dim={latent_dim} is too small: with labels, biggan feeds a chunk of the latent to its linear layer "
            f"and to each of its {num_blocks} blocks. Expected {num_blocks + 1} or more."
        )
    return (chunk + remainder,) + (chunk,) * num_blocks


def check_sizes(base_channels, latent_dim, blocks_per_stage, num_classes, divisor=1):
    """Raises ValueError for sizes that no network can have.

    Args:
        divisor: what `base_channels` must be a multiple of (the bottleneck's ratio in BigGAN-deep).
    """
    if base_channels < 1 or base_channels % divisor:
        raise ValueError(
            f"--base_channels={base_channels}: expected a positive multiple of {divisor} for this architecture."
        )
    if latent_dim < 1:
        raise ValueError(f"--latent_dim={latent_dim}: expected 1 or more.")
    if blocks_per_stage < 1:
        raise ValueError(f"--blocks_per_stage={blocks_per_stage}: expected 1 or more residual blocks per stage.")
    if num_classes < 0:
        raise ValueError(f"num_classes={num_classes}: expected 0 (no labels) or more.")
