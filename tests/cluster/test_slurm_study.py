"""A study on a real SLURM, that of .ci/slurm."""

import re
from pathlib import Path

import pandas as pd
import pytest

from parity.analyses.command_line import get_parser, main, study_of
from parity.analyses.training_stability import STUDY
from parity.command_line import run_command
from tests.cluster.test_slurm import _nothing_left_behind, slurm, wait_for_end

__all__ = ["_nothing_left_behind", "slurm"]  # fixtures that are used by every test here

GRID = ("--rule", "bp", "--optimizer", "sgd", "--widths", "8", "16", "--lr", "0.01", "0.03", "--seeds", "1")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_is_an_array_whose_last_job_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (*GRID, "--epochs", "1", "--submit", "--array", "2", "--timeout_min", "20")
    args = get_parser(STUDY).parse_args(options)
    assert run_command(main, args) == 0
    jobs = re.findall(r"^job (\S+) runs share", capsys.readouterr().out, re.MULTILINE)
    study = study_of(args)
    assert [job.partition("_")[2] for job in jobs] == ["0", "1"]
    for number, job in enumerate(jobs, 1):
        wait_for_end(job, study.folder / "shares" / f"{number}-of-2")
    assert not study.unfinished()
    assert len(pd.read_parquet(study.folder / "table.parquet")) == len(study.trials) == 4
    assert (study.folder / "divergence.png").exists()
