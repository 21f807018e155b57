"""The pipeline's stages, one module each: `python -m podium.stages.<stage>`, in the order of dvc.yaml."""
