"""Recommendations on real logs: predict, then learn, beside what others would recommend.

``protocol.py`` (what a recommender must do) ▸ ``logs.py`` (what it sees) ▸ ``walk.py`` (who is
asked, what and when) ▸ ``measures.py`` (how good the lists were) ▸ the rivals. How it is measured,
and why so: ``docs/recommendations.md``.
"""
