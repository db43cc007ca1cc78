"""Session neighbours by their definition, in plain Python: every list of sessions looked up anew.

See ``models/session_neighbours.py``; written from its docstring, with nothing kept but sessions.
"""

from collections import Counter
from math import log

import numpy as np

LONGEST, PLACES = 16, 9
"""Items of a session, and of a user, as in the code."""


class PlainSessions:
    """The latest sessions.

    Args:
        count: how many are remembered.
        sample: looked at.
        neighbours: that vote.
    """

    def __init__(self, count, sample, neighbours):
        self.count, self.sample, self.neighbours = count, sample, neighbours
        self.sessions, self.added = {}, Counter()  # by name, in the order they began
        self.last, self.active, self.events = {}, {}, 0

    def learn(self, item, name, ts_ms):
        if not name:
            return
        if name not in self.sessions:
            if len(self.sessions) == self.count:
                gone = next(iter(self.sessions))
                for part in (self.sessions, self.added, self.last, self.active):
                    del part[gone]
            self.sessions[name] = {}
            self.last[name] = ts_ms
        places = self.sessions[name]
        if item not in places.values():
            places[self.added[name] % LONGEST] = item
            self.added[name] += 1
        self.events += 1
        self.active[name] = self.events
        self.last[name] = max(self.last[name], ts_ms)

    def recency(self, name):
        return self.last[name], name % 2**20

    def votes(self, own, name, known=lambda _: True, barred=()):
        """Items by falling score: (item, score, the own item that says most).

        Args:
            own: a user's items, the newest first; None for one that is not known any more.
            name: of the user's session.
            known: which items there are.
            barred: items that are never said.
        """
        items = {s: [i for _, i in sorted(p.items()) if known(i)] for s, p in self.sessions.items()}
        held = Counter(item for those in items.values() for item in those)
        own = own[:PLACES]
        similarity, nearest = Counter(), {}
        for place, item in enumerate(own, 1):
            theirs = [s for s in items if item in items[s] and s != name]
            for s in sorted(theirs, key=lambda s: -self.active[s])[: self.sample]:
                similarity[s] += len(own) + 1 - place
                nearest.setdefault(s, place)
        latest = sorted(similarity, key=self.recency, reverse=True)[: self.sample]
        chosen = sorted(latest, key=lambda s: -similarity[s])[: self.neighbours]
        sums, best = Counter(), {}
        for s in sorted(chosen, key=self.recency, reverse=True):
            vote = (PLACES + 1 - nearest[s]) * similarity[s]
            for item in items[s]:
                sums[item] += vote
                if vote > best.get(item, (0,))[0]:
                    best[item] = vote, own[nearest[s] - 1]
        pairs = held.total()
        scores = {i: np.float32(n * log(pairs / held[i])) for i, n in sums.items()}
        ranked = sorted(scores, key=lambda i: -scores[i])
        return [(i, scores[i], best[i][1]) for i in ranked if i not in barred]
