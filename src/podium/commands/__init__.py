"""The verbs of the command `podium`, a module each: NAME, HELP, EXAMPLES, add_arguments(parser), run(arguments).

A verb imports what is heavy inside `run`, so that `podium --help` answers at once.
"""
