"""A third, small task: what CONTRIBUTING says one takes, written out. `test_third_task.py` adds it."""
