"""The commands of `podium`, one file each; `podium.cli` finds them by looking at the files of this folder.

A command declares what `podium.cli.Command` lists: NAME, HELP, ORDER, EXAMPLE, EXAMPLES, add_arguments(parser) and
run(arguments). It imports what is heavy inside `run`, so that `podium --help` answers at once. A file whose name begins
with an underscore is not a command: it holds what several of them share.
"""

from podium import process

process.short_interrupts()  # here, since a command imports for a second before its main() is called
