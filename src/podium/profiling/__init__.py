"""Where the time of a training goes: phases, operators, a verdict, and a trace for torch-tb-profiler."""
