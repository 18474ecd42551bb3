"""The two sizes of an experiment: the default one, done in a minute or two, and that of a full run.

What a profile says under `notebooks` is the default size; its block `full` gives experiments other values.
Only full runs are kept (module `kept_results`). An experiment of a run counts in either size; its report says
where it is not the full one.

    parameters = parameters_by_size(load_profile("nano"), notebooks, STAGES)
    parameters[FULL]["08_reward_overoptimization"]["samples"]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.graph import STAGES, Stage
from rlhf_hw.pipeline.profiles import (
    Parameters,
    Profile,
    default_values,
    notebook_name,
    numbered_notebooks,
    resolve_parameters,
)

DEFAULT, FULL = "default", "full"
SIZES = (DEFAULT, FULL)


def full_sizes(profile: Profile) -> Profile:
    """The profile with the sizes of a full run in the place of the default ones."""
    notebooks = {name: dict(values) for name, values in profile.notebooks.items()}
    for name, values in profile.full.items():
        notebooks[name] = notebooks.get(name, {}) | values
    return profile.model_copy(update={"notebooks": notebooks, "full": {}})


def parameters_by_size(
    profile: Profile, notebooks: Sequence[Path], stages: Mapping[str, Stage]
) -> dict[str, dict[str, Parameters]]:
    """What each notebook is given in each of `SIZES`, by its file's stem.

    Raises:
        InputError: a name or type that no notebook declares, or another size of what is no experiment, on
            which others would rest.
    """
    experiments = {notebook_name(path) for path in notebooks if stages.get(path.stem, Stage()).experiment}
    found = {
        DEFAULT: resolve_parameters(profile, notebooks),
        FULL: resolve_parameters(full_sizes(profile), notebooks),
    }
    if others := sorted(profile.full.keys() - experiments):
        raise InputError(
            f"profile {profile.name}: full names {', '.join(others)}; only experiments have two sizes: "
            f"{', '.join(sorted(experiments)) or 'none'}"
        )
    return found


def all_values(profile: Profile, size: str = DEFAULT, notebooks: Path = NOTEBOOKS) -> dict[str, Parameters]:
    """The values that all parameters of each notebook have in a profile, by its name without the number.

    Args:
        profile: The profile, with overrides already applied.
        size: Of the experiments, one of `SIZES`.
        notebooks: Folder with the notebooks.

    Raises:
        ValueError: names that no notebook declares, or values of another type.
    """
    paths = numbered_notebooks(notebooks)
    given = parameters_by_size(profile, paths, STAGES)[size]
    return {notebook_name(path): default_values(path) | given[path.stem] for path in paths}
