"""What a profile means: where the time goes and what to change, as a page of Markdown."""

from podium.profiling.measure import Profile

MANY = 0.3
"""A phase with this share of an epoch bounds it."""
IDLE = 0.1
"""Share of the device's peak below which the steps are too small for it."""
CHANGES = {
    "data": "make selecting and augmenting the images cheaper: train.shift and train.flip cost time, and"
    " images that do not fit in memory are read from the disk in each epoch",
    "optimizer": "a larger train.batch_size means fewer updates of the same weights",
    "evaluation": "the validation images are evaluated after each epoch: use fewer of them (prepare.val_fraction), or"
    " fewer and longer epochs",
    "checkpoint": "save less often: runtime.checkpoint_seconds; or put mlruns/ on a faster disk",
    "logging": "write less often: tracking.flush_seconds; or use a tracking server that is nearer",
}
WORDS = {
    "data": "waiting for images",
    "optimizer": "the optimizer",
    "evaluation": "evaluation",
    "checkpoint": "saving checkpoints",
    "logging": "writing to MLflow",
}
SHOWN = 12
"""Operators in the table."""
BLOCK = "\N{FULL BLOCK}"
BAR = 24
"""Characters of the longest bar."""


def markdown(profile: Profile, title: str, trace: str) -> str:
    """The page; `trace` is the folder for TensorBoard."""
    rate = profile.batch / profile.step
    lines = [
        f"# {title}",
        "",
        f"**{diagnosis(profile)}**",
        "",
        f"{profile.steps} steps of {profile.batch} images on {profile.device}: {1000 * profile.step:.2f} ms per step,"
        f" {rate:,.0f} images/s, {profile.flops / profile.step / 1e9:,.1f} GFLOP/s of {profile.peak / 1e9:,.0f} that a"
        f" large matrix product reaches here. Memory peak {profile.memory / 2**20:,.0f} MiB.",
        "",
        "| phase | ms per step | of an epoch | |",
        "|---|---:|---:|:---|",
        *(_phase(profile, name, f"{1000 * seconds:.3f}") for name, seconds in profile.phases.items()),
        *(_phase(profile, name, "") for name in profile.between),
        "",
        f"| operator | calls per step | own ms per step ({profile.device}, under the profiler) |",
        "|---|---:|---:|",
        *(f"| `{o.name}` | {o.calls:.1f} | {o.milliseconds:.3f} |" for o in profile.operators[:SHOWN]),
        "",
        f"`podium profile --show` opens the trace in `{trace}` in TensorBoard.",
    ]
    return "\n".join(lines) + "\n"


def diagnosis(profile: Profile) -> str:
    """One sentence about what bounds the training, and one about what to change."""
    shares = {name: profile.share(name) for name in [*profile.phases, *profile.between]}
    worst = max(CHANGES, key=lambda name: shares.get(name, 0.0))
    if shares.get(worst, 0.0) >= MANY:
        what = f"{shares[worst]:.0%} of an epoch is {WORDS[worst]}"
        return f"{worst.capitalize()}-bound: {what}. To change it: {CHANGES[worst]}."
    computing = shares["forward"] + shares["backward"]
    used = profile.flops / profile.step / profile.peak
    if used < IDLE:
        return (
            f"Overhead-bound: {computing:.0%} of an epoch is forward and backward, at {used:.0%} of what a large matrix"
            f" product reaches on this {profile.device}. To change it: a larger train.batch_size gives each call more."
        )
    return (
        f"Compute-bound: {computing:.0%} of an epoch is forward and backward, at {used:.0%} of what a large matrix"
        f" product reaches on this {profile.device}. Only a smaller network or a faster device makes it quicker."
    )


def _phase(profile: Profile, name: str, milliseconds: str) -> str:
    share = profile.share(name)
    return f"| {name} | {milliseconds} | {share:.1%} | {BLOCK * round(BAR * share)} |"
