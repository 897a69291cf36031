"""What can be done with a run, without a command line: one module for each."""
