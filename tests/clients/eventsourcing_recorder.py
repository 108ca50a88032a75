"""The recorder tests of the library `eventsourcing`, as they come with it, over a thin adapter: events are appended with outbox.append, and
the notification ids that the library wants are the places of the feed, so a relay with a feed has to run.

    python eventsourcing_recorder.py postgres://localhost/shop

Prints what ran as JSON: {"ran": 9, "failures": []}.
"""

import base64
import json
import sys
import threading
import time
import unittest
import uuid

import psycopg
from eventsourcing.persistence import AggregateRecorder, ApplicationRecorder, IntegrityError, Notification, StoredEvent
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
)

STREAM_TYPE = "recorded"
# Conflict, ids recorded elsewhere.
REFUSED = ("OB001", "OB002")


class Sessions(threading.local):
    """A session for each thread, because the tests write from ten of them."""

    def __init__(self, url):
        self.session = psycopg.connect(url, autocommit=True)


class OutboxAggregateRecorder(AggregateRecorder):
    def __init__(self, url):
        self.sessions = Sessions(url)

    @property
    def session(self):
        return self.sessions.session

    def insert_events(self, stored_events, **kwargs):
        self.append(stored_events)
        return None

    def append(self, stored_events):
        """One transaction; gives the ids of the events in their order."""
        ids = [str(uuid.uuid4()) for _ in stored_events]
        try:
            with self.session.transaction():
                for key, run in streams(stored_events, ids):
                    # The library counts versions from 0, a stream from 1: the first of these is the version before it.
                    self.session.execute(
                        "select outbox.append(%s, %s, %s::bigint, %s::jsonb)",
                        (STREAM_TYPE, key, run[0][0].originator_version, json.dumps([row(*event) for event in run])),
                    )
        except psycopg.Error as error:
            if error.sqlstate in REFUSED:
                raise IntegrityError(str(error)) from error
            raise
        return ids

    def select_events(self, originator_id, *, gt=None, lte=None, desc=False, limit=None):
        rows = self.session.execute(
            "select e.aggregate_id, v.version - 1, e.type, e.payload ->> 'state'"
            "  from outbox.streams s join outbox.stream_events v on v.stream = s.id join outbox.events e on e.seq = v.seq"
            " where s.type = %s and s.key = %s and v.version - 1 > coalesce(%s, -1) and v.version - 1 <= coalesce(%s, 2147483647)"
            f" order by v.version {'desc' if desc else 'asc'} limit %s",
            (STREAM_TYPE, str(originator_id), gt, lte, limit),
        )
        return [StoredEvent(uuid.UUID(key), version, topic, base64.b64decode(state)) for key, version, topic, state in rows]


class OutboxApplicationRecorder(OutboxAggregateRecorder, ApplicationRecorder):
    def __init__(self, url):
        super().__init__(url)
        # The feed goes on after the tests that ran before.
        self.before = self.session.execute("select places from outbox.feed_places").fetchone()[0]

    def insert_events(self, stored_events, **kwargs):
        ids = self.append(stored_events)
        while True:
            rows = self.session.execute(
                "select f.place from outbox.events e join outbox.feed f on f.seq = e.seq where e.id = any (%s::uuid[]) order by f.place",
                (ids,),
            ).fetchall()
            if len(rows) == len(ids):
                return [place - self.before for (place,) in rows]
            time.sleep(0.002)

    def select_notifications(self, start, limit, stop=None, topics=(), *, inclusive_of_start=True):
        first = 1 if start is None else start if inclusive_of_start else start + 1
        rows = self.session.execute(
            "select f.place, e.aggregate_id, e.aggregate_version - 1, e.type, e.payload ->> 'state'"
            "  from outbox.feed f join outbox.events e on e.seq = f.seq"
            " where f.place >= %s and f.place <= coalesce(%s, 9223372036854775807) and (%s or e.type = any (%s)) order by f.place limit %s",
            (self.before + first, None if stop is None else self.before + stop, not topics, list(topics), limit),
        )
        return [
            Notification(uuid.UUID(key), version, topic, base64.b64decode(state), place - self.before)
            for place, key, version, topic, state in rows
        ]

    def max_notification_id(self):
        last = self.session.execute("select max(place) from outbox.feed where place > %s", (self.before,)).fetchone()[0]
        return None if last is None else last - self.before

    def subscribe(self, gt=None, topics=()):
        raise NotImplementedError("the library's own tests of it are optional")


def streams(stored_events, ids):
    """The events of each stream, in the order of the keys: transactions that append to several streams do not deadlock."""
    runs = {}
    for event, event_id in zip(stored_events, ids):
        run = runs.setdefault(str(event.originator_id), [])
        if run and event.originator_version != run[-1][0].originator_version + 1:
            raise IntegrityError("the versions of one append follow one another")
        run.append((event, event_id))
    return sorted(runs.items())


def row(event, event_id):
    return {"id": event_id, "type": event.topic, "payload": {"state": base64.b64encode(event.state).decode()}}


class Aggregates(AggregateRecorderTestCase):
    INITIAL_VERSION = 0

    def create_recorder(self):
        return OutboxAggregateRecorder(URL)


class Applications(ApplicationRecorderTestCase):
    INITIAL_VERSION = 0

    def create_recorder(self):
        return OutboxApplicationRecorder(URL)


class NonInterleaving(NonInterleavingNotificationIDsBaseCase):
    INITIAL_VERSION = 0

    def create_recorder(self):
        return OutboxApplicationRecorder(URL)


if __name__ == "__main__":
    (URL,) = sys.argv[1:]
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (Aggregates, Applications, NonInterleaving))
    # The tests print their own figures; the result is the last line.
    out, sys.stdout = sys.stdout, sys.stderr
    result = unittest.TextTestRunner(stream=sys.stderr).run(suite)
    failures = [f"{case.id()}\n{text}" for case, text in result.failures + result.errors]
    print(json.dumps({"ran": result.testsRun, "failures": failures}), file=out)
