"""Sources of raw images, a file each: `prepare.source` names them; `read` is the one way in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from podium import components, own_code, paths
from podium.components import Choice, Component
from podium.data.dvcignore import DvcIgnore
from podium.data.sources import groups

if TYPE_CHECKING:
    from podium.config.params import PrepareParams
    from podium.data.sources.source import Source


class ImageSource(Component):
    """A source that `prepare.source` names: `chosen` has all that stands there."""

    HAS_PATH: ClassVar[bool] = False
    """Whether the rest of the name is the path of a file or folder."""

    chosen: Choice

    @property
    def rest(self) -> str:
        """What follows the first colon."""
        return self.chosen.name.partition(":")[2]

    def read(self, params: "PrepareParams", *, follow_links: bool) -> "Source":
        """The images, none of them decoded yet. Raises InputError where they can't be had.

        `follow_links`: links that leave a folder are followed instead of rejected.
        """
        raise NotImplementedError


class OwnSource(ImageSource):
    """Somebody's own function, called with `prepare.arguments`: see podium.data.sources.own."""

    def read(self, params: "PrepareParams", *, follow_links: bool) -> "Source":
        """What the function gives. Files outside of prepare.root are rejected: DVC does not see them change."""
        from podium.data.sources import own

        name = self.chosen.name
        function = components.load("source", name)
        own_code.check_arguments(function, name, "prepare", params.arguments, set())
        found = own.read(function, params.arguments, name)
        return found if follow_links else found.within(Path(params.root))


def wrap(choice: Choice) -> ImageSource:
    """Somebody's own source as one of ours."""
    return OwnSource(chosen=choice)


def read(params: "PrepareParams", *, follow_links: bool = False, similar_groups: str = "refuse") -> "Source":
    """The images of `params.source`, none of them decoded yet, their labels corrected by `params.corrections`.

    `similar_groups`: as `doctor.similar_groups` says.

    Raises InputError where it does not exist, or the corrections do not fit it.
    """
    source: Any = components.make("source", Choice(name=params.source), {})
    found: Source = source.read(params, follow_links=follow_links)
    if not follow_links:
        found = found.without_hidden(DvcIgnore(Path.cwd()))
    if params.group is not None:
        found = groups.of_paths(found, params.group)
    found = groups.checked(found, similar_groups, by_pattern=params.group is not None).with_notes()
    if not params.corrections:
        return found
    from podium.data.label_corrections import corrected

    return corrected(found, paths.LABELS / params.corrections)
