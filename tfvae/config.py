"""The configuration of an experiment: one frozen dataclass with one field for each flag. It imports no TensorFlow."""

import dataclasses
import typing

from absl import flags
from PIL import ImageColor

from tfvae import command

ARCHITECTURES = ("biggan", "biggan_deep")
RESOLUTIONS = (32, 45, 64, 128, 256, 512)  # for which `networks.tables` has widths
# Of the GAN objective and the VAE objective; `objectives` holds what each name stands for.
ADVERSARIAL_LOSSES = ("vanilla", "hinge", "least_squares", "wasserstein", "relativistic")
AUGMENT_POLICIES = ("color", "translation", "cutout")
DECODER_VARIANCES = ("fixed", "learned", "optimal")
FITS = CROP, PAD = ("crop", "pad")  # ways in which images become square
# Flags that say where things lie on one machine, and nothing of the experiment.
PLACES = ("model_dir", "data_dir", "inception_dir", "classifier_dir", "extractor_dir", "extractor_archive")


def _flag(default, help_text, choices=None, minimum=None, free=False, fixed=False, objectives=()):
    """A field of `Config`.

    Args:
        choices: the values that it may have. minimum: the least one.
        free: whether it may differ when a run is resumed. fixed: whether it never may, because the data, the weights or their
            moments depend on it. Others may where --allow_changed_flags names them.
        objectives: names of the objectives that use it; empty: all.
    """
    metadata = dict(help=help_text, choices=choices, minimum=minimum, free=free, fixed=fixed, objectives=objectives)
    return dataclasses.field(default=default, metadata=metadata)


def _of_gan(default, help_text, **options):
    return _flag(default, f"GAN: {help_text}", objectives=("gan",), **options)


def _of_vae(default, help_text, **options):
    return _flag(default, f"VAE: {help_text}", objectives=("vae",), **options)


def _of_encoders(default, help_text, **options):
    return _flag(default, f"VAE, Soft-IntroVAE: {help_text}", objectives=("vae", "soft_intro_vae"), **options)


def _of_soft_intro_vae(default, help_text, **options):
    return _flag(default, f"Soft-IntroVAE: {help_text}", objectives=("soft_intro_vae",), **options)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every flag of `tfvae.train`, and what a model's `config.json` holds.

    Raises:
        ValueError: a value that no experiment can have.
    """

    model_dir: str = _flag("", "Folder of the run: config.json, checkpoints, logs, samples, metrics.jsonl.", free=True)

    dataset: str = _flag(
        "shapes",
        "cifar10, lfw, shapes, stacked_shapes, stacked_mnist, folder:PATH, or the name of another TFDS image dataset.",
        fixed=True,
    )
    data_dir: str | None = _flag(
        None,
        "Folder of prepared TFDS data, or the one that holds lfw-deepfunneled.tgz. Default: TFDS's own.",
        free=True,
    )
    resolution: int | None = _flag(
        None, f"Pixels a side: {', '.join(map(str, RESOLUTIONS))}. Default: the dataset's own.", RESOLUTIONS, fixed=True
    )
    conditional: bool | None = _flag(
        None,
        "Give the labels to the generator and the discriminator (not to the encoder). Default: where there are labels.",
        fixed=True,
    )
    background: str = _flag("white", "Colour behind transparent images: a name or #rrggbb.", fixed=True)
    fit: str = _flag(
        CROP,
        "How images that are not square become so: crop, to the centred square, or pad, with --background.",
        FITS,
        fixed=True,
    )
    flip: bool = _flag(False, "Mirror half of the real images left to right.")
    streaming: bool | None = _flag(
        None, "Read images from disk while training, not from memory. Default: by their size.", free=True
    )

    objective: str = _flag("gan", "Training objective: gan, vae or soft_intro_vae.", fixed=True)
    architecture: str = _flag("biggan", "Networks.", ARCHITECTURES, fixed=True)
    base_channels: int = _flag(64, "Width: the paper's ch.", minimum=1, fixed=True)
    latent_dim: int = _flag(128, "Length of the latent.", minimum=1, fixed=True)
    blocks_per_stage: int | None = _flag(
        None,
        "Residual blocks in each stage. Default: the architecture's own (3 and 6 blocks in all at 32 px).",
        minimum=1,
        fixed=True,
    )
    channel_multipliers: tuple[int, ...] = _flag(
        (), "Widths of the generator's stages in units of ch. Default: the table's.", fixed=True
    )
    discriminator_channel_multipliers: tuple[int, ...] = _flag(
        (),
        "Widths of the discriminator's or encoder's stages in units of ch, from the picture on. Default: the generator's, "
        "mirrored.",
        fixed=True,
    )
    attention_resolution: int | None = _flag(
        None,
        "Pixels a side of the stage that the non-local block follows, in both networks; 0: no such block. Default: 64 where "
        "both networks have that side (from 128 px on), else 0.",
        minimum=0,
        fixed=True,
    )
    shared_embedding_dim: int = _flag(
        128, "Length of the class embedding that the generator's norms share.", minimum=1, fixed=True
    )
    spectral_norm: bool = _flag(False, "Divide every kernel by its largest singular value.", fixed=True)
    activation: str = _flag("relu", "Non-linearity.", ("relu", "leaky_relu"), fixed=True)
    leaky_relu_slope: float = _flag(0.2, "Slope of leaky_relu for negative inputs.", minimum=0, fixed=True)
    initializer: str = _flag(
        "orthogonal", "First values of the kernels, any of Keras' by name: orthogonal, glorot_uniform, …", fixed=True
    )

    loss: str = _of_gan("vanilla", "adversarial loss.", choices=ADVERSARIAL_LOSSES)
    discriminator_steps: int = _of_gan(
        1, "discriminator steps for each generator step, each on its own real batch.", minimum=1
    )
    gradient_penalty: float = _of_gan(0.0, "weight of the gradient penalty; 10 is usual with wasserstein.", minimum=0)
    augment: tuple[str, ...] = _of_gan((), f"DiffAugment policies, some of {','.join(AUGMENT_POLICIES)}.")
    r1_weight: float = _of_gan(
        0.0, "half of it times the squared gradient of the logit by the picture is added for real images.", minimum=0
    )
    r2_weight: float = _of_gan(0.0, "the same for drawn images.", minimum=0)
    penalty_every_steps: int = _of_gan(
        1,
        "discriminator steps from one in which R1 and R2 are computed to the next; their weight grows as much.",
        minimum=1,
    )
    encoder_head: str = _of_encoders(
        "flatten",
        "flatten: the encoder's last map goes to its linear layer with its positions; pool: its sum over positions does, "
        "which leaves a posterior mean 8 ch independent dimensions at most.",
        choices=("flatten", "pool"),
        fixed=True,
    )
    kl_weight: float = _of_encoders(
        1.0,
        "weight of the KL divergence beside the squared error, of pixels in [-1, 1] for the VAE and in [0, 1] for Soft-IntroVAE.",
        minimum=0,
    )
    fake_kl_weight: float = _of_soft_intro_vae(
        256.0, "weight of the KL divergence of drawn and reconstructed images in the encoder's step.", minimum=0
    )
    fake_reconstruction_weight: float = _of_soft_intro_vae(
        1e-8,
        "weight of the squared error of their own reconstructions in the decoder's step; 0 leaves them out.",
        minimum=0,
    )
    kl_warmup_images: int = _of_vae(0, "images over which the KL's weight rises from 0.", minimum=0)
    decoder_variance: str = _of_vae(
        "fixed",
        "fixed, or sigma-VAE's: learned as a weight, optimal (the batch's mean squared error).",
        choices=DECODER_VARIANCES,
        fixed=True,
    )

    optimizer: str = _flag("adam", "Optimizer of both networks.", ("adam", "sgd"), fixed=True)
    generator_learning_rate: float = _flag(2e-4, "Learning rate of the generator or decoder.", minimum=0)
    discriminator_learning_rate: float = _flag(2e-4, "Learning rate of the discriminator or encoder.", minimum=0)
    beta_1: float = _flag(0.5, "Adam's first moment decay, or SGD's momentum.", minimum=0)
    beta_2: float = _flag(0.999, "Adam's second moment decay.", minimum=0)
    discriminator_beta_1: float | None = _flag(None, "beta_1 of the discriminator or encoder. Default: beta_1.")
    discriminator_beta_2: float | None = _flag(None, "beta_2 of the discriminator or encoder. Default: beta_2.")
    learning_rate_decay_images: int = _flag(0, "Learning rates fall to 0 over the last so many images.", minimum=0)
    weight_decay: float = _flag(0.0, "L2 penalty, added to the gradients.", minimum=0)
    orthogonal_regularization: float = _flag(0.0, "Weight of BigGAN's orthogonal regulariser (1e-4 there).", minimum=0)
    gradient_clip_value: float = _flag(0.0, "Largest size of a gradient's entry; 0: no limit.", minimum=0)
    gradient_clip_norm: float = _flag(0.0, "Largest norm of a network's gradient; 0: no limit.", minimum=0)
    ema_decay: float = _flag(
        0.999,
        "Decay per generator step of the moving average of the weights (generator; decoder and encoder).",
        minimum=0,
    )
    ema_start_images: int = _flag(0, "Images before which the moving average is a plain copy.", minimum=0)

    batch_size: int = _flag(64, "Images in each discriminator or encoder step, over all replicas.", minimum=1)
    train_images: int = _flag(
        200_000, "Length: real images that enter the discriminator or the encoder.", minimum=1, free=True
    )
    seed: int = _flag(0, "Of first values, noise and order of the data.", minimum=0)
    precision: str = _flag("float32", "Arithmetic of the networks.", ("float32", "mixed_bfloat16"))
    strategy: str = _flag(
        "auto",
        "auto: mirrored where there is more than one GPU; multi_worker reads TF_CONFIG.",
        ("auto", "one", "mirrored", "multi_worker"),
        free=True,
    )
    virtual_devices: int = _flag(0, "Split the CPU into so many devices (for tests).", minimum=0, free=True)
    steps_per_execution: int = _flag(1, "Generator steps in each call of the compiled function.", minimum=1, free=True)
    deterministic: bool = _flag(False, "Same bits on every run, at some cost in speed.", free=True)

    log_every_images: int = _flag(2_000, "Images between two points of the curves.", minimum=1, free=True)
    sample_every_images: int = _flag(20_000, "Images between two sheets; 0: only at the end.", minimum=0, free=True)
    eval_every_images: int = _flag(
        0,
        "Images between two scores of a small sample; 0: none. The checkpoint that scores best is kept.",
        minimum=0,
        free=True,
    )
    stop_after_images_without_gain: int = _flag(
        0, "End when none of these scores was the best for so many images; 0: never.", minimum=0, free=True
    )
    eval_images: int = _flag(2_000, "Images on each side of these scores.", minimum=16, free=True)
    extractor: str | None = _flag(
        None,
        "Network whose features these scores compare, by name (see docs/scoring.md). Default: the one whose folder is given, "
        "else efficientnet_lite0.",
        free=True,
    )
    inception_dir: str | None = _flag(
        None, "Folder of TF-GAN's Inception, as the extractor of these scores (see docs/scoring.md).", free=True
    )
    classifier_dir: str | None = _flag(
        None, "Folder that tfvae.train_classifier made, as the extractor of these scores.", free=True
    )
    extractor_dir: str | None = _flag(
        None,
        "Folder of a SavedModel and extractor.json, as the extractor of these scores (see docs/scoring.md).",
        free=True,
    )
    extractor_archive: str | None = _flag(
        None,
        "Archive with the weights of dlib_face, as the extractor of these scores (see docs/scoring.md).",
        free=True,
    )
    checkpoint_every_seconds: float = _flag(600.0, "Seconds between two checkpoints.", minimum=0, free=True)
    keep_checkpoints: int = _flag(3, "Newest checkpoints that are kept.", minimum=1, free=True)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, metadata = getattr(self, field.name), field.metadata
            if metadata["choices"] and value is not None and value not in metadata["choices"]:
                raise ValueError(f"--{field.name}={value}: expected one of {', '.join(map(str, metadata['choices']))}.")
            if metadata["minimum"] is not None and value is not None and value < metadata["minimum"]:
                raise ValueError(f"--{field.name}={value}: expected {metadata['minimum']} or more.")
        for name in ("beta_1", "beta_2", "discriminator_beta_1", "discriminator_beta_2", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"--{name}={value}: expected 0 or more and less than 1.")
        colour(self.background)
        for field in self.of_other_objectives():
            used_by = " and ".join(field.metadata["objectives"])
            raise ValueError(
                f"--{field.name}={shown(getattr(self, field.name))} is a flag of --objective={used_by} and --objective is "
                f"{self.objective}: expected without it, or {shown(field.default) or 'nothing'}, its default."
            )
        if self.learning_rate_decay_images > self.train_images:
            raise ValueError(
                f"--learning_rate_decay_images={self.learning_rate_decay_images} is more than "
                f"--train_images={self.train_images}: expected at most as many."
            )
        if self.stop_after_images_without_gain and not self.eval_every_images:
            raise ValueError(
                f"--stop_after_images_without_gain={self.stop_after_images_without_gain} without --eval_every_images: expected "
                "both, for the scores tell whether there is a gain."
            )

    def of_other_objectives(self):
        """The fields that this objective does not use and that are not at their default: a list of `dataclasses.Field`."""
        return [
            field
            for field in dataclasses.fields(self)
            if field.metadata["objectives"]
            and self.objective not in field.metadata["objectives"]
            and getattr(self, field.name) != field.default
        ]

    @property
    def images_per_step(self):
        """Real images that one generator step sees."""
        return self.batch_size * self.discriminator_steps

    def steps_left(self, images_seen=0):
        """Generator steps to `train_images` from so many images, rounded up to whole steps; 0 where they are reached."""
        return max(0, -(-(self.train_images - images_seen) // self.images_per_step))

    @property
    def total_images(self):
        """Images that a run sees whose terms never change: `train_images`, rounded up to whole steps."""
        return self.steps_left() * self.images_per_step

    @classmethod
    def from_flags(cls, flag_values=flags.FLAGS):
        """From the parsed flags. Raises: ValueError; UserError: a folder that is none of this machine's."""
        values = {field.name: flag_values[field.name].value for field in dataclasses.fields(cls)}
        for name in PLACES:
            if values[name]:
                values[name] = str(command.path(name, values[name]))
        for name in ("channel_multipliers", "discriminator_channel_multipliers"):
            try:
                values[name] = tuple(int(m) for m in values[name])
            except ValueError:
                given = ",".join(values[name])
                raise ValueError(f"--{name}={given}: expected whole numbers such as 4,4,4,4.") from None
        values["augment"] = tuple(values["augment"])
        return cls(**values)


def colour(background):
    """Red, green and blue, each 0 to 255, of a colour by name or as #rrggbb.

    Raises:
        ValueError: it is none, or a transparent one.
    """
    try:
        rgb = ImageColor.getrgb(background)
    except ValueError:
        rgb = ()
    if len(rgb) != 3 or max(rgb) > 255:
        raise ValueError(
            f"--background={background}: expected the name of a colour, or #rrggbb, such as white or #00ff00."
        )
    return rgb


def shown(value):
    """A field's value as it is given on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check_changeable(names):
    """Raises a ValueError for a value of --allow_changed_flags that names no flag, or one that never changes in a run."""
    fields = {field.name: field for field in dataclasses.fields(Config)}
    for name in names:
        if name not in fields:
            changeable = [name for name, field in fields.items() if not field.metadata["fixed"]]
            raise ValueError(
                f"--allow_changed_flags={','.join(names)}: {name!r} is no flag: expected some of {', '.join(changeable)}."
            )
        if fields[name].metadata["fixed"]:
            raise ValueError(
                f"--allow_changed_flags={','.join(names)}: --{name} decides the data, the networks or what an "
                "optimizer keeps, and cannot change in a run. Expected other flags; --init_from=RUN starts a new run from its "
                "weights."
            )


def kind_of(field):
    """What a field's value is where it is given: bool, int, float or str; str too for a list."""
    if isinstance(field.default, tuple):
        return str
    return field.type if isinstance(field.type, type) else typing.get_args(field.type)[0]


def define_flags(flag_values=flags.FLAGS):
    """Defines one absl flag for each field of `Config`, in absl's own set or in another."""
    flags.disclaim_key_flags()  # so that --help shows them under the command
    for field in dataclasses.fields(Config):
        kind = kind_of(field)
        name, default, help_text = field.name, field.default, field.metadata["help"]
        if field.metadata["choices"] and kind is str:
            flags.DEFINE_enum(name, default, field.metadata["choices"], help_text, flag_values=flag_values)
        elif isinstance(default, tuple):
            flags.DEFINE_list(name, [str(value) for value in default], help_text, flag_values=flag_values)
        elif kind is bool:
            flags.DEFINE_boolean(name, default, help_text, flag_values=flag_values)
        elif kind is int:
            flags.DEFINE_integer(name, default, help_text, flag_values=flag_values)
        elif kind is float:
            flags.DEFINE_float(name, default, help_text, flag_values=flag_values)
        else:
            flags.DEFINE_string(name, default, help_text, flag_values=flag_values)
