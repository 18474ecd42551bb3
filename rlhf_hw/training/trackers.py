"""W&B and MLflow: a run of their own for each training, begun before any work and ended with it.

transformers' callbacks tell them the numbers of each step. Left alone they would begin after data and model
are loaded, mix the trainings of one process in one run, and write into the current folder. TensorBoard has
none of these troubles; its files are `folders.take_events`'.

A run is called after the output folder, and holds our settings (`rlhf_hw.beta`, ...) beside transformers'.
One that is resumed is a further run, which begins at the step after its checkpoint. Files go to the folder of
the logs: W&B's to `wandb/` in it, MLflow's to `mlflow.db`. Neither sends what the user did not ask for: no
console, code, git state or telemetry. The environment variables of both win over all of this.
"""

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError, RunFailed

TRACKERS = ("tensorboard", "wandb", "mlflow")
QUIET = {
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
REMEDIES = {
    "wandb": "log in (`wandb login`), set WANDB_MODE=offline, or leave wandb out of report_to",
    "mlflow": "set MLFLOW_TRACKING_URI to a place that can be reached, or leave mlflow out of report_to",
}
_running: dict[str, Callable[[bool], Any]] = {}  # how to end what was begun here, by tracker
_own_places: set[str] = set()  # of MLflow's: chosen here, and no user's wish


def check_trackers(names: str) -> None:
    """Refuse trackers that are not known or not installed: transformers would say so after all is loaded.

    Args:
        names: Of trackers, with commas between them, or "none".
    """
    for name in names.split(",") if names != "none" else []:
        if name not in TRACKERS:
            raise InputError(
                f"report_to: no tracker {name!r}; choose from {', '.join(TRACKERS)}, or take none"
            )
        if importlib.util.find_spec(name) is None:
            raise InputError(f"report_to: no package {name} here; pip install {name}, or take none")


def begin_trackers(config: Any) -> None:
    """Begin the run that each tracker holds of a training, unless that was done.

    Args:
        config: The training's settings (`config.Training`); its output folder names the run.

    Raises:
        InputError: a tracker cannot begin: nobody is logged in, or its server does not answer.
    """
    folder, names = config.output_dir.resolve(), config.report_to.split(",")
    place, title = (config.log_dir or folder / "logs").resolve(), f"{folder.parent.name}/{folder.name}"
    settings = config.model_dump(mode="json")
    for name, begin in (("wandb", _begin_wandb), ("mlflow", _begin_mlflow)):
        if name not in names or name in _running:
            continue
        for variable, value in QUIET.items():
            os.environ.setdefault(variable, value)
        try:
            place.mkdir(parents=True, exist_ok=True)
            _running[name] = begin(title, place, settings)
        except Exception as error:  # each has many kinds of its own
            end_trackers(failed=True)
            first = next(iter(str(error).strip().splitlines()), "")
            raise InputError(
                f"report_to: {name} cannot begin ({type(error).__name__}: {first:.300}); {REMEDIES[name]}"
            ) from error


def end_trackers(failed: bool) -> None:
    """End the runs that were begun here, as finished or failed."""
    while _running:
        _running.popitem()[1](failed)


def ends_trackers(train: Callable) -> Callable:
    """A training after which no tracker's run is left open, however it ends."""

    @functools.wraps(train)
    def trained(*arguments: Any, **named: Any) -> Any:
        try:
            result = train(*arguments, **named)
        except BaseException as error:
            end_trackers(failed=True)
            if isinstance(error, OSError) and error.errno and error.filename is None:  # TensorBoard's
                config = arguments[0]
                raise RunFailed(
                    f"{config.log_dir or config.output_dir}: {error.strerror}; free some space, or choose "
                    "another log_dir. Checkpoints are as they were: start again with --resume"
                ) from error
            raise
        end_trackers(failed=False)
        return result

    return trained


def _begin_wandb(title: str, place: Path, settings: dict[str, Any]) -> Callable[[bool], Any]:
    import wandb

    if wandb.run is not None:  # the user's own, in a notebook
        return lambda failed: None
    here = None if "WANDB_DIR" in os.environ else str(place)
    project = os.environ.get("WANDB_PROJECT", "rlhf-hw")
    wandb.init(
        project=project, name=os.environ.get("WANDB_NAME", title), dir=here, config={"rlhf_hw": settings}
    )
    return lambda failed: wandb.finish(exit_code=int(failed))


def _begin_mlflow(title: str, place: Path, settings: dict[str, Any]) -> Callable[[bool], Any]:
    import mlflow

    if mlflow.active_run() is not None:
        return lambda failed: None
    if not mlflow.is_tracking_uri_set() or mlflow.get_tracking_uri() in _own_places:
        named = os.environ.get("MLFLOW_TRACKING_URI", "")  # where MLflow itself notes our own, too
        wished = named if named not in _own_places else ""
        mlflow.set_tracking_uri(wished or f"sqlite:///{place / 'mlflow.db'}")
        if not wished:
            _own_places.add(mlflow.get_tracking_uri())

    def end(failed: bool) -> None:
        mlflow.flush_async_logging()
        mlflow.end_run("FAILED" if failed else "FINISHED")

    mlflow.start_run(run_name=os.environ.get("MLFLOW_RUN_NAME", title))
    try:
        mlflow.log_params({f"rlhf_hw.{name}": value for name, value in settings.items()})
    except Exception:
        mlflow.end_run("FAILED")
        raise
    return end
