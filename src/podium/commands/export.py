"""`podium export VERSION FILE`."""

import argparse
from pathlib import Path

from podium.commands._arguments import version_number
from podium.commands._project import opened

NAME = "export"
HELP = "write a version's network as one file for other programs: ONNX, torch's .pt2, or a .pt2 for ExecuTorch"
ORDER = 65
EXAMPLE = "podium export 7 model.onnx", "version 7 for onnxruntime and others, checked to predict the same"
EXAMPLES = """\
  podium export 7 model.onnx
  podium export 7 model.pt2
  podium export 7 network --format onnx
  podium export 7 phone.pt2 --format executorch-ready    one image at a time, in Core ATen's operators only, as
                                                         ExecuTorch's `to_edge` expects

The file takes pixels, uint8 (N, C, H, W) in the model's own size, and gives probabilities, float32 (N, classes); names
of the classes and how an image becomes pixels stand in the metadata of ONNX. It is compared with the version's graph on
stored and random images, alone and in batches, before it appears. ONNX needs `pip install onnx onnxruntime onnxscript`.
Exit code 1: the version's files are not those registered, or the probabilities differ; nothing was written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version, the file and its format."""
    parser.add_argument("version", metavar="VERSION", type=version_number)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--format", choices=("onnx", "pt2", "executorch-ready"), help="default: by the file's ending")


def run(arguments: argparse.Namespace) -> None:
    """Write the file, and print how well it agrees."""
    with opened() as (tracking, name):
        from podium.promotion import ledger
        from podium.registry import graph_export, versions

        kind = graph_export.format_of(arguments.file, arguments.format)
        graph_export.check_destination(arguments.file)
        version = versions.find(tracking, name, arguments.version)
        ledger.check_model(tracking, version)
        with versions.checked(tracking, version) as folder:
            difference = graph_export.write_graph(folder, arguments.file, kind, f"{version.name}/{version.number}")
    print(f"{version} as {kind} in {arguments.file}; probabilities differ by at most {difference:.1g}")
