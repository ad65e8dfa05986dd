"""The pool of workers: which job goes where, and that there are workers to go to."""
