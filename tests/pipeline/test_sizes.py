"""Experiments have a default and a full size: which one runs, counts, is shown and is kept."""

import json

import pytest
from small_project import ASKED, MADE, Project

from rlhf_hw.errors import InputError
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline import profiles
from rlhf_hw.pipeline.consistency import refuse_mixed
from rlhf_hw.pipeline.graph import STAGES
from rlhf_hw.pipeline.profiles import available_profiles, load_profile
from rlhf_hw.pipeline.sizes import DEFAULT, FULL, parameters_by_size


def test_only_the_full_size_is_kept_where_there_are_two(project: Project) -> None:
    project.put("profiles/tiny.yaml", "name: tiny\ntitle: T\nfull: {asked: {size: 3}}\n")

    def noted() -> tuple[list, list, int]:
        record = json.loads((project.folder / "run.json").read_text())
        return record["experiments"], record["reduced"], record["parameters"][ASKED].get("size", 1)

    project.run(experiments=True)
    assert noted() == ([ASKED], [ASKED], 1)
    with pytest.raises(InputError, match="91_asked cannot be kept.* --experiments full"):
        project.keep()
    assert project.run(experiments=True, size="full") == [ASKED]
    assert noted() == ([ASKED], [], 3) and project.keep() == [ASKED]
    assert project.changes() == []
    assert project.run() == [] and noted() == ([ASKED], [], 3)  # a full run made before still counts
    refuse_mixed(project.folder, project.root / "notebooks", MADE)
    project.put("profiles/tiny.yaml", "name: tiny\ntitle: T\nfull: {asked: {size: 4}}\n")
    assert project.changes() == ["parameters of 91_asked"]
    assert project.run() == [] and noted() == ([], [], 3)


def test_what_is_set_wins_in_both_sizes(project: Project) -> None:
    project.put("profiles/tiny.yaml", "name: tiny\ntitle: T\nfull: {asked: {size: 3}}\n")
    for override in ("size=5", "asked.size=6"):
        project.run(override, experiments=True, size="full")
        record = json.loads((project.folder / "run.json").read_text())
        assert record["parameters"][ASKED]["size"] == int(override[-1]) and record["reduced"] == []
        with pytest.raises(InputError, match="cannot be kept"):
            project.keep()


def test_what_others_rest_on_has_one_size(project: Project) -> None:
    project.put("profiles/tiny.yaml", "name: tiny\ntitle: T\nfull: {first: {size: 3}}\n")
    with pytest.raises(InputError, match="profile tiny: full names first; only experiments .*: asked"):
        project.run()


@pytest.mark.parametrize("name", available_profiles())
def test_profiles_have_full_sizes_that_differ_from_the_default_ones(name: str) -> None:
    profile = load_profile(name)
    sizes = parameters_by_size(profile, sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")), STAGES)
    stems = {profiles.notebook_name(NOTEBOOKS / f"{stem}.ipynb"): stem for stem in sizes[FULL]}
    for notebook, values in profile.full.items():
        default = sizes[DEFAULT][stems[notebook]]
        assert [key for key, value in values.items() if default.get(key) == value] == []
