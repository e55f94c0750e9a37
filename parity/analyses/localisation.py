"""Where a trained network looks: python -m parity.analyses.localisation --dataset Digits --experiment_name bcos_base

Shows a base model grids of images of different classes that it is most sure of, and measures for each class which share
of positive attribution lies in that class's cell (the grid pointing game: Böhle, Fritz, Schiele, CVPR 2021). Of a code
the groups are the grids, and the share is that on the query that is rebuilt.

    python -m parity.analyses.localisation --dataset CIFAR10 --experiment_name bcos_resnet_small_base --reload last \\
        --analysis_config 500_3x3 --explainer_name Ours GradCAM --smooth 1 --batch_size 64
    python -m parity.analyses.localisation --save_path experiments/Digits/bcos/bcos_k2_add --analysis_config 100_code

Writes localisation_analysis/<reload>_<analysis_config>/ in the run's folder: for each explainer <name>_smooth<N>.json
and .parquet, and localisation.png, in which all explainers so far stand side by side. The same command resumes.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import terminal
from parity.command_line import add_experiment_arguments, parsed, run_command
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.experiments import Experiment

log = logging.getLogger(__name__)

FOLDER = "localisation_analysis"
FIGURE_FILE = "localisation.png"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("--experiment_name", metavar="NAME", help="name of the experiment to analyse")
    parser.add_argument("--save_path", type=Path, metavar="RUN_FOLDER", help="folder of the run, in place of its name")
    parser.add_argument(
        "--reload", default="best", metavar="NAME", help="checkpoint: best, last or epoch_<N> (default: %(default)s)"
    )
    parser.add_argument(
        "--analysis_config", metavar="NAME",
        help="<grids>_<n>x<n> for base models, <groups>_code for codes (default: 500_3x3, 500_code)",
    )  # fmt: skip
    parser.add_argument(
        "--explainer_name", nargs="+", default=["Ours"], metavar="NAME", help="explainers (default: Ours)"
    )
    parser.add_argument(
        "--smooth", type=int, default=1, metavar="N", help="side of the window of smoothing (default: %(default)s)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, metavar="N", help="explanations at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--through_base_model", action="store_true",
        help="of a code: let evidence reach queries through predictions that arrived, too",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(args: argparse.Namespace) -> None:
    """Analyse a trained model with each explainer."""
    from parity.experiments import catalogue
    from parity.runs.naming import named_run, run_in

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    if args.save_path is None and not (args.dataset and args.experiment_name):
        raise ParityError("name --dataset and --experiment_name, or the run's folder with --save_path.")
    if args.batch_size < 1:
        raise ParityError(f"--batch_size counts explanations, 1 or more, not {args.batch_size}.")
    experiment = run_in(args, args.save_path) if args.save_path else named_run(args, args.experiment_name)
    for result in analyse(
        experiment, args.analysis_config, args.explainer_name, reload=args.reload, smooth=args.smooth,
        batch_size=args.batch_size, through_base_model=args.through_base_model,
    ):  # fmt: skip
        score = result["score"]
        log.info(
            "%s: %.4f (%.4f to %.4f) of positive attribution in the right cell; chance is %.4f",
            result["explainer"], score["value"], score["low"], score["high"], result["chance"],
        )  # fmt: skip


def analyse(
    experiment: "Experiment",
    analysis_config: str | None = None,
    explainers: Sequence[str] = ("Ours",),
    *,
    reload: str = "best",
    smooth: int = 1,
    batch_size: int = 64,
    through_base_model: bool = False,
) -> list[dict[str, Any]]:
    """Run the localisation analysis of a run, or resume it, and write what came out into its folder.

    Args:
        experiment: ``Experiment``, trained.
        analysis_config: '<grids>_<n>x<n>' for base models, '<groups>_code' for codes.
        explainers: names of ``parity.explanations.explain``.
        reload: checkpoint, 'best', 'last' or 'epoch_<N>'.
        smooth: as of ``parity.explanations.explain``.
        batch_size: explanations that are made at a time; no number depends on it but by rounding.
        through_base_model: as of ``parity.explanations.explain_reconstruction``.

    Returns:
        A dict for each explainer: ``score``, the mean over grids and cells with its 95 % interval over grids;
        ``cells``, the means by cell; ``chance``; ``identity``, what it is of.

    Raises:
        ParityError: a name does not fit, an explainer does not fit the network, or nothing is trained.
    """
    from parity.analyses.localisation_grids import config_named
    from parity.analyses.localisation_results import Analysis
    from parity.explanations.explain import check_smooth, explainer_named
    from parity.storage.locks import RunLock

    is_base = experiment.is_base
    if not explainers:
        raise ParityError("name one explainer or more, such as Ours.")
    if batch_size < 1:
        raise ParityError(f"batch_size counts explanations, 1 or more, not {batch_size}.")
    if through_base_model and is_base:
        raise ParityError(f"{experiment.experiment_name} is a base model: through_base_model is of codes.")
    name = analysis_config or ("500_3x3" if is_base else "500_code")
    config = config_named(name, is_base)
    for explainer in explainers:
        explainer_named(explainer)
    analysis = Analysis(experiment, config, reload, smooth, batch_size, through_base_model)
    check_smooth(smooth, len(analysis.data.query_shape))
    for explainer in explainers:
        analysis.check(explainer)
    folder = experiment.save_dir / FOLDER / f"{reload}_{name}{'_through_base_model' * through_base_model}"
    with RunLock(folder):
        results = []
        for explainer in explainers:
            with terminal.progress(f"localisation by {explainer}", config.grids) as advance:
                results.append(analysis.run(explainer, folder / f"{explainer}_smooth{smooth}.json", advance))
        analysis.draw(folder, folder / FIGURE_FILE)
    log.info("%s", folder)
    return results


if __name__ == "__main__":
    sys.exit(run_command(main, parsed(get_parser())))
