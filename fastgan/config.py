"""The configuration of a run: one strict schema for YAML files and for the command line.

Every key is a field below; an unknown key, a wrong type or a value out of range is a
`ConfigError` that names the key and, for a mistyped one, the nearest known key. Leaf names are
unique over all sections, so each is also a command-line flag (`train.steps` is `--steps`).
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fastgan.errors import BadFile, ConfigError

__all__ = [
    "Config",
    "DataConfig",
    "GanConfig",
    "ModelConfig",
    "TrainConfig",
    "dump",
    "load",
    "parse",
]

_MAX_BYTES = 2**20
"""No configuration is longer; what is, is another file."""


def _ascending(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError("the first value must be below the second")
    return window


Voxels = Annotated[int, Field(ge=1, le=4096)]
Millimetres = Annotated[float, Field(gt=0.0, le=1000.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Channels = Annotated[int, Field(ge=1)]
Shape = tuple[Voxels, Voxels, Voxels]
Spacing = tuple[Millimetres, Millimetres, Millimetres]
Window = Annotated[tuple[float, float], AfterValidator(_ascending)]
Widths = Annotated[tuple[Channels, ...], Field(min_length=1)]
Modality = Literal["ct", "mr", "map", "mask"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class DataConfig(_Section):
    """What is read and how it is brought to the network."""

    source: str = "lidc-nodules"
    """Bundled data set, folder of volumes, manifest.csv, or .npz file."""
    shape: Shape = (32, 32, 32)
    """Voxels the network sees, in RAS axis order."""
    spacing: Spacing | None = None
    """Millimetres per voxel after resampling; none keeps the files' own, which must agree."""
    sampling: Literal["whole", "patch"] = "whole"
    """whole: the centre, cropped or padded to `shape`; patch: a random crop of `shape`."""
    modality: Modality = "mr"
    """Modality of files whose manifest row names none; decides the normalisation."""
    window: Window | None = None
    """Intensity range in the file's units mapped to [-1, 1]; none: by modality, recorded."""
    conditional: bool = False
    """Condition generator and critic on the label column."""
    holdout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of subjects never shown to training, chosen by a hash of the subject."""
    sampler: Literal["natural", "balanced"] = "natural"
    """balanced draws every class equally often (naive oversampling)."""
    classic: tuple[Literal["flip", "rotate", "scale", "intensity", "elastic"], ...] = ()
    """Classic augmentation of the real volumes, applied as they are drawn."""
    source_b: str | None = None
    """Of a cyclegan: the volumes of domain B, where `source` is domain A; unpaired."""
    modality_b: Modality = "mr"
    """`modality` of domain B."""
    window_b: Window | None = None
    """`window` of domain B."""
    cache_dir: Path | None = None
    """Where prepared volumes are kept as memory maps; none: `cache` beside the run folders."""


class ModelConfig(_Section):
    """Generator and critic, or translator and patch critic."""

    architecture: Literal["dcgan", "residual"] = "dcgan"
    """Plain convolution stages, or residual blocks."""
    latent_dim: int = Field(default=128, ge=1)
    """Numbers the generator starts from."""
    generator_channels: Widths = (128, 64, 32, 16)
    """Channels from the coarsest grid to the finest; a stage follows each."""
    critic_channels: Widths = (16, 32, 64, 128)
    """Channels from the finest grid to the coarsest."""
    generator_norm: Literal["instance", "group", "layer", "none"] = "instance"
    """Normalisation after the generator's convolutions."""
    critic_norm: Literal["instance", "group", "layer", "none"] = "none"
    """The same in the critic; batch statistics would couple the samples of a gradient penalty."""
    spectral_norm: bool = False
    """Spectral normalisation of the critic's weights."""
    fold: Shape = (1, 1, 1)
    """Block of voxels that both networks treat as channels of one; (2, 2, 2) is several times
    faster on a CPU and leaves the finest detail to one linear layer."""
    smooth_output: bool = False
    """Filter the generator's output by (1, 2, 1) / 4 along each axis: for masks and other volumes
    without voxel noise, whose borders are then smooth from the first step on."""
    minibatch_stddev: int = Field(default=0, ge=0)
    """Show the critic how far its features spread over groups of this many volumes, within each
    class: against generated volumes that differ too little. Divides the batch size; 0: off."""
    translator: Literal["resnet", "unet"] = "resnet"
    """Both translators of a cyclegan; their norm is `generator_norm`."""
    translator_channels: Widths = (32, 64)
    """Channels from the finest grid to the coarsest; each after the first halves the grid."""
    translator_blocks: int = Field(default=4, ge=0)
    """Residual blocks on the coarsest grid."""
    translator_kernel: Literal[1, 3] = 3
    """Kernel of stem, blocks and head; 1, with one entry of `translator_channels`, translates each
    block of `fold` voxels by itself: nothing can move or be invented beyond it."""
    patch_critic_channels: Widths = (32, 64)
    """Channels of a cyclegan's critics, finest first; every stage but the last halves the grid.
    Their norm is `critic_norm`."""


class GanConfig(_Section):
    """The game: objective, penalty and schedule."""

    variant: Literal["adversarial", "cyclegan"] = "adversarial"
    """adversarial: a generator against a critic; cyclegan: two translators between two unpaired
    sets, `data.source` and `data.source_b`."""
    objective: str | None = None
    """What critic and generator minimise; `fastgan.gans` lists the names. None: wgan-gp, of a
    cyclegan least-squares."""
    critic_steps: int = Field(default=5, ge=1)
    """Critic updates per generator update."""
    penalty: Literal["wgan-gp", "r1", "r2", "none"] = "wgan-gp"
    """On the critic's slope: between real and generated, at real (r1), at generated (r2)."""
    penalty_weight: float = Field(default=10.0, ge=0.0)
    """Factor of the penalty in the critic's loss."""
    one_sided: bool = False
    """Penalise only slopes above the target."""
    penalty_interval: int = Field(default=1, ge=1)
    """Evaluate the penalty every this many critic steps, weighted up accordingly."""
    weight_clip: float = Field(default=0.0, ge=0.0)
    """Clip every weight of the critic to plus or minus this after each of its updates, as the
    first WGAN did with 0.01; 0: off. Needs penalty none."""
    augment: tuple[Literal["flip", "shift", "intensity"], ...] = ()
    """Differentiable augmentation of real and generated volumes alike, inside the critic."""
    lambda_cycle: float = Field(default=10.0, ge=0.0)
    """Of a cyclegan: weight of the mean absolute error after a round trip."""
    lambda_identity: float = Field(default=0.5, ge=0.0)
    """The same for volumes given to the translator into their own domain, times lambda_cycle. 0
    where the two domains mean different things by one intensity."""
    pool_size: int = Field(default=50, ge=0)
    """Earlier translations kept per domain to show the critics."""
    critic_noise: float = Field(default=0.0, ge=0.0)
    """Of a cyclegan: standard deviation of Gaussian noise on everything the critics see, so that
    fine texture does not decide."""


class TrainConfig(_Section):
    """Optimisation and housekeeping."""

    steps: int = Field(default=10_000, ge=1)
    """Generator steps."""
    batch_size: int = Field(default=16, ge=1)
    """Real, and as many generated, volumes per update."""
    lr_generator: float = Field(default=1e-4, gt=0.0)
    """Learning rate of the generator's Adam."""
    lr_critic: float = Field(default=1e-4, gt=0.0)
    """Learning rate of the critic's Adam."""
    betas: tuple[Decay, Decay] = (0.0, 0.9)
    """Decay of Adam's first and second moment."""
    lr_decay: Literal["none", "linear"] = "none"
    """linear: to zero over the last half of the steps."""
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Decay of the averaged generator weights, which samples and `generate` use."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the forward pass; weights and sums are float32 in both. auto: bfloat16 where the device
    has matrix units for it; what was taken is written to the run's config."""
    deterministic: bool = False
    """Bit-identical repeats; slower on some devices."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept."""
    sample_every: int = Field(default=500, ge=1)
    """Steps between pictures of generated volumes."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Write TensorBoard files, too, into `tensorboard` of the run folder; needs fastgan[tb]."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss does; weights and moments are untouched either way."""


class Config(_Section):
    """One run."""

    name: str = Field(default="fastgan", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Part of the run folder's name."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of every random draw of the run."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    gan: GanConfig = GanConfig()
    train: TrainConfig = TrainConfig()


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without duplicate keys and without aliases (which can grow without bound)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("YAML aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {line}: a key must be a word")
            if key_node.value in seen:
                raise ConfigError(f"key {key_node.value!r} twice, again in line {line}")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4, which has no dot, as text.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: Path | str) -> Config:
    """Read a YAML file.

    Raises:
        BadFile: the file is missing, unreadable, longer than 1 MiB or not YAML.
        ConfigError: a key or value the schema does not know.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise BadFile(f"{path}: not a file")
        if path.stat().st_size > _MAX_BYTES:
            raise BadFile(f"{path}: longer than {_MAX_BYTES} bytes, so not a config")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: cannot read the config: {error}") from error
    try:
        content = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise ConfigError(f"{path}: {error}") from None
        raise BadFile(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys, got {type(content).__name__}")
    return parse(content, where=str(path))


def parse(content: dict[str, Any], where: str = "config") -> Config:
    """Check a mapping of JSON or YAML values against the schema; `where` names its origin.

    No value is converted to another type: `steps: "5"` and `seed: true` are errors.
    """
    try:
        # By way of JSON, where strictness refuses conversions but takes lists for tuples.
        return Config.model_validate_json(json.dumps(content), strict=True)
    except (TypeError, RecursionError) as error:
        raise ConfigError(f"{where}: a value is no number, text or list: {error}") from None
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(e, where) for e in error.errors())) from None


def dump(config: Config) -> str:
    """YAML that `load` reads back to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def known_keys() -> list[str]:
    """Dotted names of every key, for error messages."""
    keys: list[str] = []
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Section):
            keys += [f"{name}.{leaf}" for leaf in kind.model_fields]
        else:
            keys.append(name)
    return keys


def _explain(error: Any, where: str) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {key}: {error['msg']}, got {error['input']!r}"
    # A key in the wrong section is found by its leaf, a mistyped one by its whole name.
    leaf = key.rpartition(".")[2]
    elsewhere = [k for k in known_keys() if k.rpartition(".")[2] == leaf]
    near = elsewhere or difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where}: unknown key {key!r}{hint}"
