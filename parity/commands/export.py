"""Export what was trained: a folder of programs, weights and a card that needs nothing of this repository.

parity export --dataset MNIST --experiment_name mlp_k4_cells_kl --output mine
"""

import argparse
from pathlib import Path

from parity.command_line import add_experiment_arguments, check_weights_alone
from parity.errors import ParityError


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("--experiment_name", metavar="NAME", help="name of the experiment to export")
    parser.add_argument(
        "--reload", default="best", metavar="NAME", help="checkpoint: best, last or epoch_<N> (default: %(default)s)"
    )
    parser.add_argument("--ema", action="store_true", help="export the averaged weights of that checkpoint")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="export these weights instead of the run's")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, cuda or mps (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to write (default: artefact in the run's folder)"
    )
    parser.add_argument(
        "--onnx", action=argparse.BooleanOptionalAction,
        help="write ONNX files too (default: where the extra 'export' is installed)",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    card = parser.add_argument_group("model card")
    card.add_argument("--name", help="name of the artefact (default: the data set's and the run's)")
    card.add_argument("--provenance", metavar="TEXT", help="origin of the base model's weights")
    card.add_argument(
        "--licence", nargs="+", action="extend", default=[], metavar="OF=LICENCE",
        help="licences, e.g. 'base weights=Apache-2.0' 'data=CC BY 4.0'",
    )  # fmt: skip
    return parser


def main(args: argparse.Namespace) -> None:
    """Export, and print where to."""
    from parity.experiments import catalogue
    from parity.runs.export import export_run
    from parity.runs.naming import named_run

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    if not args.dataset or not args.experiment_name:
        raise ParityError("name a --dataset and an --experiment_name to export.")
    check_weights_alone(args)
    written = export_run(
        named_run(args, args.experiment_name),
        args.output,
        reload=args.reload,
        ema=args.ema,
        weights=args.weights,
        accelerator=args.accelerator,
        onnx=args.onnx,
        name=args.name,
        provenance=args.provenance,
        licences=_licences(args.licence),
    )
    print(f"written to {written}: read {written / 'model_card.md'}")


def _licences(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (of, _, licence) in zip(texts, pairs, strict=True) if not of or not licence]:
        raise ParityError(f"--licence takes OF=LICENCE, e.g. 'data=CC BY 4.0', not '{wrong[0]}'.")
    return {of: licence for of, _, licence in pairs}
