"""The configuration of a run: one strict schema for YAML files and for the command line.

Every key is a field below; an unknown key, a wrong type or a value out of range is a
`ConfigError` that names the key and, for a mistyped one, the nearest known key. Leaf names are
unique over all sections, so each is also a command-line flag (`train.steps` is `--steps`).
"""

from __future__ import annotations

import difflib
import json
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fastgan.errors import ConfigError
from fastgan.gans.settings import AdversarialSettings, CycleSettings, Norm, Settings
from fastgan.strict_yaml import read_mapping

__all__ = [
    "Config",
    "DataConfig",
    "GanConfig",
    "ModelConfig",
    "Section",
    "TrainConfig",
    "checked",
    "dump",
    "load",
    "parse",
]

Checked = TypeVar("Checked", bound=BaseModel)
BUNDLED = "lidc-nodules"
"""The data set that comes with the package; every other source is a file or folder."""
_TOLD, _ERRORS = 200, 5
"""Characters of a value, and mistakes, that a message names."""


def _lower(name: Any) -> Any:
    return name.lower() if isinstance(name, str) else name


def _ascending(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError("the first value must be below the second")
    return window


VARIANTS: dict[str, type[AdversarialSettings | CycleSettings]] = {
    "adversarial": AdversarialSettings,
    "cyclegan": CycleSettings,
}
"""What `gan.variant` is built from."""
MOST_STEPS, MOST_BATCH, MOST_WIDTH = 10**12, 2**16, 2**16
"""Beyond them a number is a slip of the hand, and no machine could do it."""
Voxels = Annotated[int, Field(ge=1, le=4096)]
Millimetres = Annotated[float, Field(gt=0.0, le=1000.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Channels = Annotated[int, Field(ge=1, le=MOST_WIDTH)]
Shape = tuple[Voxels, Voxels, Voxels]
Parts = Annotated[int, Field(ge=1, le=4096)]
Spacing = tuple[Millimetres, Millimetres, Millimetres]
Window = Annotated[tuple[float, float], AfterValidator(_ascending)]
Widths = Annotated[tuple[Channels, ...], Field(min_length=1)]
Modality = Annotated[Literal["ct", "mr", "map", "mask"], BeforeValidator(_lower)]


class Section(BaseModel):
    """Keys that belong together; one that it does not name is an error."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


def _of(
    settings: type[Settings], name: str, ge: float | None = None, le: float | None = None
) -> Any:
    """Default and description of a setting, and the least value it may have."""
    setting = settings.__dataclass_fields__[name]
    return Field(setting.default, description=setting.metadata["description"], ge=ge, le=le)


def _by_variant(name: str, gt: float | None = None) -> Any:
    """The same of a setting whose default differs by `gan.variant`: None until it is settled."""
    own = {variant: kind.__dataclass_fields__[name] for variant, kind in VARIANTS.items()}
    defaults = ", ".join(f"{setting.default} of {variant}" for variant, setting in own.items())
    meaning = own["adversarial"].metadata["description"]
    return Field(None, description=f"{meaning} None: {defaults}.", gt=gt)


class DataConfig(Section):
    """What is read and how it is brought to the network."""

    source: str = BUNDLED
    """Bundled data set, folder of volumes, manifest.csv, or .npz file."""
    suffix: str | None = None
    """Only files whose name ends in this part, as T1w in sub-01_T1w.nii.gz; none: all."""
    exclude: tuple[str, ...] = ()
    """Patterns (*, ?) of paths below the source, of names or of folders, to leave out."""
    volume: Annotated[int, Field(ge=0)] | Literal["each"] | None = None
    """Of 4-D files: which volume, counted from 0, or each as a volume; none refuses them."""
    subjects: Literal["names", "folders"] = "names"
    """Who a volume is of: names: sub-XX in its path, DICOM's patient, else each file is one of
    its own; folders: the first folder below the source, whatever its files are called."""
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
    suffix_b: str | None = None
    """`suffix` of domain B."""
    modality_b: Modality = "mr"
    """`modality` of domain B."""
    window_b: Window | None = None
    """`window` of domain B."""
    cache_dir: Path | None = None
    """Where prepared volumes are kept as memory maps; none: `cache` beside the run folders."""


class ModelConfig(Section):
    """Generator and critic, or translator and patch critic."""

    architecture: Literal["dcgan", "residual"] = _of(AdversarialSettings, "architecture")
    latent_dim: int = _of(AdversarialSettings, "latent_dim", ge=1, le=MOST_WIDTH)
    generator_channels: Widths = _of(AdversarialSettings, "generator_channels")
    critic_channels: Widths = _of(AdversarialSettings, "critic_channels")
    generator_norm: Norm = _of(Settings, "generator_norm")
    critic_norm: Norm = _of(Settings, "critic_norm")
    spectral_norm: bool = _of(Settings, "spectral_norm")
    fold: Shape = _of(Settings, "fold")
    smooth_output: bool = _of(AdversarialSettings, "smooth_output")
    minibatch_stddev: int = _of(AdversarialSettings, "minibatch_stddev", ge=0, le=MOST_BATCH)
    translator: Literal["resnet", "unet"] = _of(CycleSettings, "translator")
    translator_channels: Widths = _of(CycleSettings, "translator_channels")
    translator_blocks: int = _of(CycleSettings, "translator_blocks", ge=0, le=MOST_BATCH)
    translator_kernel: Literal[1, 3] = _of(CycleSettings, "translator_kernel")
    patch_critic_channels: Widths = _of(CycleSettings, "patch_critic_channels")


class GanConfig(Section):
    """The game: objective, penalty and schedule."""

    variant: Literal["adversarial", "cyclegan"] = "adversarial"
    """adversarial: a generator against a critic; cyclegan: two translators between two unpaired
    sets, `data.source` and `data.source_b`."""
    objective: str | None = _by_variant("objective")
    critic_steps: int = _of(AdversarialSettings, "critic_steps", ge=1, le=MOST_BATCH)
    penalty: Literal["wgan-gp", "r1", "r2", "none"] = _of(AdversarialSettings, "penalty")
    penalty_weight: float = _of(AdversarialSettings, "penalty_weight", ge=0.0)
    one_sided: bool = _of(AdversarialSettings, "one_sided")
    penalty_interval: int = _of(AdversarialSettings, "penalty_interval", ge=1, le=MOST_STEPS)
    weight_clip: float = _of(AdversarialSettings, "weight_clip", ge=0.0)
    augment: tuple[Literal["flip", "shift", "intensity"], ...] = _of(AdversarialSettings, "augment")
    lambda_cycle: float = _of(CycleSettings, "lambda_cycle", ge=0.0)
    lambda_identity: float = _of(CycleSettings, "lambda_identity", ge=0.0)
    pool_size: int = _of(CycleSettings, "pool_size", ge=0, le=MOST_STEPS)
    critic_noise: float = _of(CycleSettings, "critic_noise", ge=0.0)


class TrainConfig(Section):
    """Optimisation and housekeeping."""

    steps: int = Field(default=10_000, ge=1, le=MOST_STEPS)
    """Generator steps."""
    batch_size: int = Field(default=16, ge=1, le=MOST_BATCH)
    """Real, and as many generated, volumes per update."""
    micro_batch: int | None = Field(default=None, ge=1, le=MOST_BATCH)
    """Volumes of a process that pass through the networks at once; their gradients add up to those
    of its whole batch, which is the default. It has to divide that batch."""
    recompute: bool = False
    """Passes through networks keep their inputs alone and are computed again in the backward pass:
    less memory, more time. The penalty's own pass keeps what it needs."""
    lr_generator: float | None = _by_variant("lr_generator", gt=0.0)
    lr_critic: float | None = _by_variant("lr_critic", gt=0.0)
    betas: tuple[Decay, Decay] | None = _by_variant("betas")
    lr_decay: Literal["none", "linear"] = "none"
    """linear: to zero over the last half of `decay_steps`."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Steps that `lr_decay` counts by; left out: `steps`. A run keeps its own when it is resumed
    with other `steps`, so that its rates stay what they were."""
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Decay of the averaged generator weights, which samples and `generate` use."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["float32", "tf32", "bfloat16", "auto"] = "float32"
    """Of products; weights and sums are float32 in all. tf32: a GPU rounds the factors to ten bits
    of mantissa; float32: never. auto: bfloat16 where the device has matrix units for it; what was
    taken is written to the run's config."""
    split: tuple[Parts, Parts, Parts] = (1, 1, 1)
    """Parts of every volume along its axes, each held by one of torchrun's processes: [2, 1, 1] for
    volumes that one GPU does not hold. Only the first axis can be split yet."""
    deterministic: bool = False
    """Bit-identical repeats; slower on some devices."""
    cuda_graph: Literal["off", "auto", "on"] = "off"
    """Steps that are not logged run as one CUDA graph: auto where they can, on or not at all. No
    capture has run on a GPU yet, hence off."""
    checkpoint_every: int = Field(default=500, ge=1, le=MOST_STEPS)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1, le=MOST_STEPS)
    """Newest checkpoints kept."""
    sample_every: int = Field(default=500, ge=1, le=MOST_STEPS)
    """Steps between pictures of generated volumes."""
    log_every: int = Field(default=20, ge=1, le=MOST_STEPS)
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Write TensorBoard files, too, into `tensorboard` of the run folder; needs fastgan[tb]."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss does; weights and moments are untouched either way."""


class Config(Section):
    """One run."""

    name: str = Field(default="fastgan", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Part of the run folder's name."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of every random draw of the run."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    gan: GanConfig = GanConfig()
    train: TrainConfig = TrainConfig()

    @property
    def translates(self) -> bool:
        """Whether its networks translate between two domains, instead of drawing volumes."""
        return self.gan.variant == "cyclegan"

    @property
    def sources(self) -> dict[str, str]:
        """The files and folders that are read, by key of the data section."""
        named = {"source": self.data.source, "source_b": self.data.source_b}
        return {
            key: source
            for key, source in named.items()
            if source not in (None, BUNDLED) and (os.path.isabs(source) or os.path.exists(source))
        }

    def anchored(self) -> Config:
        """A copy whose sources are absolute paths, so that it means the same from any folder."""
        places = {key: os.path.abspath(source) for key, source in self.sources.items()}
        return self.model_copy(update={"data": self.data.model_copy(update=places)})

    def settled(self) -> Config:
        """A copy in which what was left to the variant has the variant's default."""
        settled = self.model_copy(deep=True)
        own = VARIANTS[self.gan.variant].__dataclass_fields__
        for section in (settled.gan, settled.train):
            for key in type(section).model_fields:
                if key in own and getattr(section, key) is None:
                    setattr(section, key, own[key].default)
        if settled.train.lr_decay != "none" and settled.train.decay_steps is None:
            settled.train.decay_steps = settled.train.steps
        return settled


def load(path: Path | str, *, follow: bool = True) -> Config:
    """Read a YAML file.

    Args:
        path: of the file.
        follow: read what a link points to; not in a folder that somebody else may have made.

    Raises:
        BadFile: the file is missing, unreadable, longer than 1 MiB or not YAML.
        UnsafeFile: a pipe or device, or a link that is not followed.
        ConfigError: a key or value the schema does not know.
    """
    return parse(read_mapping(path, follow=follow), where=str(path))


def parse(content: dict[str, Any], where: str = "config") -> Config:
    """Check a mapping of JSON or YAML values against the schema; `where` names its origin.

    No value is converted to another type: `steps: "5"` and `seed: true` are errors.
    """
    return checked(Config, content, where)


def checked(schema: type[Checked], content: dict[str, Any], where: str) -> Checked:
    """`parse` against any schema of sections.

    Raises:
        ConfigError: a key or value the schema does not know.
    """
    try:
        # By way of JSON, where strictness refuses conversions but takes lists for tuples.
        return schema.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        keys = known_keys(schema)
        told = [_explain(e, where, keys) for e in error.errors()[:_ERRORS]]
        more = error.error_count() - len(told)
        raise ConfigError("; ".join(told + ([f"and {more} more"] if more else []))) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: a value is no number, text or list: {error}") from None


def dump(config: Config) -> str:
    """YAML that `load` reads back to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def known_keys(schema: type[BaseModel] = Config) -> list[str]:
    """Dotted names of every key, for error messages."""
    keys: list[str] = []
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            keys += [f"{name}.{leaf}" for leaf in known_keys(kind)]
        else:
            keys.append(name)
    return keys


def _explain(error: Any, where: str, known: Sequence[str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {key}: {error['msg']}, got {reprlib.repr(error['input'])[:_TOLD]}"
    # A key in the wrong section is found by its leaf, a mistyped one by its whole name.
    key = key[:_TOLD]
    leaf = key.rpartition(".")[2]
    elsewhere = [k for k in known if k.rpartition(".")[2] == leaf]
    near = elsewhere or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{where}: unknown key {key!r}{hint}"
