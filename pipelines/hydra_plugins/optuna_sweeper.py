"""Hydra's multirun with trials chosen by Optuna; Hydra finds it by the name of this folder.

The plugin of Hydra's authors, hydra-optuna-sweeper 1.3.0, needs Optuna below 3.
"""

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

_log = logging.getLogger("neural_photo_editor.sweep")


class OptunaSweeper(Sweeper):
    """Runs trials until there are as many as wanted, and names the best one in ``best.yaml``.

    Args:
        folder: trial N has the run folder ``folder/N``; ``trials.log`` is Optuna's record, with
            which the same command continues.
        mode: "min" or "max" of what the task returns; NaN, None or an exception is a failed trial.
        space: override -> ``{low, high}`` with ``log`` or ``step``, or ``{choices}``.
        trials: in all; those that failed count.
        parallel: trials that the launcher gets at once.
        seed: of the sampler.
    """

    def __init__(
        self,
        *,
        folder: str,
        mode: str,
        space: Mapping[str, Mapping[str, Any]],
        trials: int,
        parallel: int,
        seed: int,
    ) -> None:
        self.folder = Path(folder)
        self.mode = mode
        self.space = space
        self.trials = trials
        self.parallel = parallel
        self.seed = seed
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> float:
        """Run the trials and return the best value.

        Raises:
            ValueError: the process is one of several, or every trial failed.
        """
        import optuna

        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise ValueError(
                "each process of torchrun would sweep by itself: sweep with trainer.devices=1, or "
                "with hydra/launcher=slurm, whose jobs may have several processes"
            )
        assert self.launcher is not None
        study = self._study(optuna)
        while (missing := self.trials - len(study.trials)) > 0:
            batch = [study.ask() for _ in range(min(self.parallel, missing))]
            overrides = [[*arguments, *self._overrides(trial)] for trial in batch]
            results = self.launcher.launch(overrides, initial_job_idx=batch[0].number)
            for trial, result in zip(batch, results, strict=True):
                self._tell(optuna, study, trial, result)
        finished = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
        if not finished:
            raise ValueError(f"all {self.trials} trials failed; {self.folder} has their folders")
        best = study.best_trial
        content = {"trial": best.number, "value": best.value, "overrides": dict(best.params)}
        OmegaConf.save(OmegaConf.create(content), self.folder / "best.yaml")
        _log.info("best of %d trials: %s", len(study.trials), content)
        return float(study.best_value)

    def _study(self, optuna: Any) -> Any:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(self.folder / "trials.log"))
        study = optuna.create_study(
            study_name="sweep",
            storage=optuna.storages.JournalStorage(backend),
            direction={"min": "minimize", "max": "maximize"}[self.mode],
            load_if_exists=True,
        )
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # Its sweep was stopped.
        # A sampler that starts again would choose again what it chose first.
        study.sampler = optuna.samplers.TPESampler(
            seed=self.seed + len(study.trials), constant_liar=self.parallel > 1
        )
        return study

    def _overrides(self, trial: Any) -> list[str]:
        values = {name: _suggest(trial, name, range_) for name, range_ in self.space.items()}
        overrides = [f"{name}={value}" for name, value in values.items()]
        return [*overrides, f"run_dir={self.folder / str(trial.number)}"]

    def _tell(self, optuna: Any, study: Any, trial: Any, result: JobReturn) -> None:
        try:
            value = result.return_value
        except Exception as error:  # noqa: BLE001 - whatever a trial failed of, the others go on
            _log.warning("trial %d failed: %s", trial.number, error)
            value = None
        if value is None or math.isnan(value):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        study.tell(trial, value)
        _log.info("trial %d: %.6g with %s", trial.number, value, trial.params)


def _suggest(trial: Any, name: str, range_: Mapping[str, Any]) -> Any:
    if "choices" in range_:
        return trial.suggest_categorical(name, list(range_["choices"]))
    low, high = range_["low"], range_["high"]
    options = {"log": range_.get("log", False), "step": range_.get("step")}
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=options["log"], step=options["step"] or 1)
    return trial.suggest_float(name, low, high, **options)
