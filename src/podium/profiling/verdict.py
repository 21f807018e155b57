"""What a profile means: where the time goes, and what to change."""

from podium.profiling.measure import Profile

MANY = 0.3
"""A phase with this share of an epoch bounds it."""
IDLE = 0.1
"""Share of the device's peak below which the steps are too small for it."""
CHANGES = {
    "data": "choosing and augmenting the images is what to make cheaper: train.shift and train.flip cost time, and"
    " images that do not fit in memory are read from the disk anew in each epoch",
    "optimizer": "a larger train.batch_size means fewer updates of the same weights",
    "evaluation": "the validation images are looked at after each epoch: fewer of them, prepare.val_fraction, or fewer"
    " and longer epochs",
    "checkpoint": "save less often: runtime.checkpoint_seconds; or put mlruns/ on a faster disk",
    "logging": "write less often: tracking.flush_seconds; or use a tracking server that is nearer",
}


def verdict(profile: Profile) -> str:
    """One sentence of diagnosis and one of cure."""
    shares = {name: profile.share(name) for name in [*profile.phases, *profile.beside]}
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


WORDS = {
    "data": "waiting for images",
    "optimizer": "the optimizer",
    "evaluation": "evaluation",
    "checkpoint": "saving checkpoints",
    "logging": "writing to MLflow",
}
