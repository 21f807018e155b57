"""The pipeline's stages, one module each: `python -m podium.stages.<stage>`, in the order of dvc.yaml."""

from podium import process

process.short_interrupts()  # here, since a stage imports for a second before its main() is called
