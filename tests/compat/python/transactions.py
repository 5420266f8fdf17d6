"""Transactions: committed, aborted, with offsets of a group, and two producers with one id."""

from report import Failed, NotSupported, same, step, until


class TransactionScenario:
    def __init__(self, scenario):
        self.scenario = scenario
        self.adapter = scenario.adapter
        self.topic = scenario.topic("txn")
        self.group = scenario.topic("txn-g")

    def run(self):
        step("txn-produce", self.produce)
        step("txn-abort", self.abort)
        step("txn-offsets", self.offsets)
        step("txn-fence", self.fence)

    def producer(self):
        return self.adapter.transactional(self.scenario.topic("txn-id"))

    def send(self, producer, *values):
        for value in values:
            producer.send(self.topic, value)

    def values(self, last, committed):
        """What a reader is given up to a value, which is the last one of the log."""
        reader = self.adapter.reader(self.topic, [0], 0, committed=committed)
        found = []

        def done():
            found.extend(record.value for record in reader.read(0.2))
            return last in found

        try:
            until(done, lambda: f"only {found} came")
        finally:
            reader.close()
        return found

    def produce(self):
        self.scenario.create(self.topic, 1)
        producer = self.producer()
        try:
            producer.begin()
            self.send(producer, b"a", b"b", b"c")
            producer.commit()
        finally:
            producer.close()
        same("the values", [b"a", b"b", b"c"], self.values(b"c", True))

    def abort(self):
        producer = self.producer()
        try:
            producer.begin()
            self.send(producer, b"never")
            producer.flush()
            producer.abort()
            producer.begin()
            self.send(producer, b"after")
            producer.commit()
        finally:
            producer.close()
        same("the committed values", [b"a", b"b", b"c", b"after"], self.values(b"after", True))
        same("all values", [b"a", b"b", b"c", b"never", b"after"], self.values(b"after", False))

    def offsets(self):
        producer = self.producer()
        try:
            producer.begin()
            self.send(producer, b"with offsets")
            producer.offsets(self.group, self.topic, 0, 3)
            producer.commit()
            until(lambda: self.committed() == 3, lambda: f"{self.committed()} is committed")
            producer.begin()
            producer.offsets(self.group, self.topic, 0, 5)
            producer.abort()
        finally:
            producer.close()
        same("the offset after an abort", 3, self.committed())

    def committed(self):
        return self.adapter.committed(self.group, self.topic, 0)

    def fence(self):
        """The second producer with an id ends the first one, and what that had open."""
        first = self.producer()
        first.begin()
        self.send(first, b"fenced")
        first.flush()
        second = self.producer()
        try:
            second.begin()
            self.send(second, b"last")
            second.commit()
            try:
                first.commit()
            except NotSupported:
                raise
            except Exception as failure:  # pylint: disable=broad-except
                values = [b"a", b"b", b"c", b"after", b"with offsets", b"last"]
                same("the values", values, self.values(b"last", True))
                return type(failure).__name__
        finally:
            second.close()
        raise Failed("the first producer committed")
