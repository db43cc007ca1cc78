"""What is wrong around the engine: facts gathered at the edge, then pure checks on them.

``machine`` ▸ ``store`` ▸ ``broker`` gather facts and change nothing; ``machine_checks``,
``store_checks`` and ``broker_checks`` turn facts into findings; ``examine`` puts them together.
``needs`` lists the commands that the engine sends to the store.
"""
