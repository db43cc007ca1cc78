"""The HTTP API: profiles, lists of items, segments, explanations and changes.

- ``app``: all routes together, from the ``Parts`` they stand on.
- ``profiles``, ``candidates``, ``segments``, ``explanations``, ``changes``, ``health``: the routes.
- ``front``: the short way of single profiles.
- ``lookups``: many requests at once, one question to the store.
- ``feed``, ``follower``, ``tail``: the change topic, shared by all who follow it.
- ``auth``, ``problems``, ``answers``, ``gate``, ``metrics``, ``terms``: what all routes share.
- ``server``: runs it.
"""
