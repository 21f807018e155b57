"""A profile as a page of Markdown."""

from podium.profiling.measure import Profile
from podium.profiling.verdict import verdict

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
        f"**{verdict(profile)}**",
        "",
        f"{profile.steps} steps of {profile.batch} images on {profile.device}: {1000 * profile.step:.2f} ms a step,"
        f" {rate:,.0f} images/s, {profile.flops / profile.step / 1e9:,.1f} GFLOP/s of {profile.peak / 1e9:,.0f} that a"
        f" large matrix product reaches here. Memory peak {profile.memory / 2**20:,.0f} MiB.",
        "",
        "| phase | ms a step | of an epoch | |",
        "|---|---:|---:|:---|",
        *(_phase(profile, name, f"{1000 * seconds:.3f}") for name, seconds in profile.phases.items()),
        *(_phase(profile, name, "") for name in profile.beside),
        "",
        f"| operator | calls a step | own ms a step ({profile.device}, under the profiler) |",
        "|---|---:|---:|",
        *(f"| `{o.name}` | {o.calls:.1f} | {o.milliseconds:.3f} |" for o in profile.operators[:SHOWN]),
        "",
        f"`podium profile --show` opens the trace in `{trace}` in TensorBoard.",
    ]
    return "\n".join(lines) + "\n"


def _phase(profile: Profile, name: str, milliseconds: str) -> str:
    share = profile.share(name)
    return f"| {name} | {milliseconds} | {share:.1%} | {BLOCK * round(BAR * share)} |"
