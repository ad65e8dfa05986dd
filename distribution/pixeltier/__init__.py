"""Pixeltier: `service` (HTTP), `models` (networks, training, evaluation), `native` (kernels), `client`.

Importing this package imports none of them.
"""
