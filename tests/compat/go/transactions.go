package main

import (
	"fmt"
	"slices"
	"time"
)

// transactional is a producer with a transactional id.
type transactional interface {
	begin() error
	// send writes to partition 0 and waits until it is written.
	send(topic, value string) error
	commit() error
	abort() error
	close()
}

// shareMember reads as one of a share group.
type shareMember interface {
	// read gives values with their delivery counts.
	read(wait time.Duration) (map[string]int32, error)
	// settle accepts, rejects or releases what was read last, by value.
	settle(how func(value string, delivery int32) string) error
	close()
}

// transactionScenario has transactions that are committed and aborted, with offsets of a group, and two producers
// with one id.
type transactionScenario struct {
	*scenario
	topic, group, id string
}

func (t *transactionScenario) run() {
	step("txn-produce", plain(t.produce))
	step("txn-abort", plain(t.abort))
	step("txn-offsets", plain(t.offsets))
	step("txn-fence", t.fence)
}

// with runs something with a producer of the id.
func (t *transactionScenario) with(run func(transactional) error) error {
	producer, err := t.client.transactional(t.id)
	if err != nil {
		return err
	}
	defer producer.close()
	return run(producer)
}

func whole(producer transactional, topic string, end func() error, values ...string) error {
	if err := producer.begin(); err != nil {
		return err
	}
	for _, value := range values {
		if err := producer.send(topic, value); err != nil {
			return err
		}
	}
	return end()
}

// shown compares what a reader is given up to the last value with what is expected.
func (t *transactionScenario) shown(open func(string) (reader, error), expected ...string) error {
	from, err := open(t.topic)
	if err != nil {
		return err
	}
	defer from.close()
	var found []string
	err = until(func() (bool, error) {
		records, err := from.read(200 * time.Millisecond)
		for _, one := range records {
			found = append(found, string(one.value))
		}
		return slices.Contains(found, expected[len(expected)-1]), err
	}, func() string { return fmt.Sprintf("only %v came", found) })
	if err == nil && !slices.Equal(expected, found) {
		err = fmt.Errorf("the values are %v, expected %v", found, expected)
	}
	return err
}

func (t *transactionScenario) all(topic string) (reader, error) {
	return t.client.reader(topic, []int32{0}, 0, "earliest", 500*time.Millisecond)
}

func (t *transactionScenario) produce() error {
	if err := t.create(t.topic, 1); err != nil {
		return err
	}
	err := t.with(func(producer transactional) error {
		return whole(producer, t.topic, producer.commit, "a", "b", "c")
	})
	if err != nil {
		return err
	}
	return t.shown(t.client.committedReader, "a", "b", "c")
}

func (t *transactionScenario) abort() error {
	err := t.with(func(producer transactional) error {
		if err := whole(producer, t.topic, producer.abort, "never"); err != nil {
			return err
		}
		return whole(producer, t.topic, producer.commit, "after")
	})
	if err != nil {
		return err
	}
	if err := t.shown(t.client.committedReader, "a", "b", "c", "after"); err != nil {
		return err
	}
	return t.shown(t.all, "a", "b", "c", "never", "after")
}

func (t *transactionScenario) offsets() error {
	offset, err := t.client.consumeInTransaction(t.id, t.group, t.topic, true)
	if err != nil {
		return err
	}
	if err := t.hasCommitted(offset); err != nil {
		return err
	}
	if _, err := t.client.consumeInTransaction(t.id, t.group, t.topic, false); err != nil {
		return err
	}
	return t.hasCommitted(offset)
}

func (t *transactionScenario) hasCommitted(offset int64) error {
	var found int64
	var last error
	return until(func() (bool, error) {
		found, last = t.client.committed(t.group, t.topic, 0)
		return last == nil && found == offset, nil
	}, func() string { return fmt.Sprintf("%d is committed, expected %d (%v)", found, offset, last) })
}

// fence: the second producer with an id ends the first one, and what that had open.
func (t *transactionScenario) fence() (detail string, err error) {
	err = t.with(func(first transactional) error {
		if err := whole(first, t.topic, func() error { return nil }, "fenced"); err != nil {
			return err
		}
		err := t.with(func(second transactional) error {
			return whole(second, t.topic, second.commit, "last")
		})
		if err != nil {
			return err
		}
		if err := first.commit(); err != nil {
			detail = err.Error()
			return t.shown(t.client.committedReader, "a", "b", "c", "after", "with offsets", "last")
		}
		return fmt.Errorf("the first producer committed")
	})
	return detail, err
}

// consumerProtocol is a group of two whose partitions the broker gives out (KIP-848).
func (g *groupScenario) consumerProtocol() error {
	g.topic, g.group = g.scenario.topic("consumer-protocol"), g.scenario.topic("consumer-protocol-g")
	g.members, g.seen = nil, map[place]bool{}
	defer func() {
		for _, one := range g.members {
			one.close()
		}
	}()
	if err := g.create(g.topic, groupPartitions); err != nil {
		return err
	}
	add := func() error {
		one, err := g.client.consumerProtocolMember(g.group, g.topic)
		if err == nil {
			g.members = append(g.members, one)
		}
		return err
	}
	for _, sizes := range [][]int{{4}, {2, 2}} {
		if err := add(); err != nil {
			return err
		}
		if err := g.awaitSizes(sizes...); err != nil {
			return err
		}
	}
	g.members[1].close()
	g.members = g.members[:1]
	if err := g.awaitSizes(4); err != nil {
		return err
	}
	if err := g.produce(1); err != nil {
		return err
	}
	if _, err := readSome(g.members[0], groupPartitions); err != nil {
		return err
	}
	if err := g.members[0].commit(); err != nil {
		return err
	}
	offset, err := g.client.committed(g.group, g.topic, 3)
	if err != nil {
		return err
	}
	return same("the committed offset", 1, offset)
}

// share is a share group (KIP-932) of one: what is released comes again, counted.
func (s *scenario) share() error {
	topic, group := s.topic("share"), s.topic("share-g")
	if err := s.create(topic, 1); err != nil {
		return err
	}
	one, err := s.client.shareMember(group, topic)
	if err != nil {
		return err
	}
	defer one.close()
	found := map[string]bool{}
	written := false
	err = until(func() (bool, error) {
		// A share group begins at the end of the log: the first record may come before it.
		if !written {
			if _, err := s.client.produce(numbered(topic, 0, 3), settings{}); err != nil {
				return false, err
			}
		}
		values, err := one.read(500 * time.Millisecond)
		if err != nil {
			return false, err
		}
		written = written || len(values) > 0
		for value, delivery := range values {
			found[fmt.Sprintf("%s delivery %d", value, delivery)] = true
		}
		return found["record 0 delivery 1"] && found["record 1 delivery 2"] && found["record 2 delivery 1"],
			one.settle(func(value string, delivery int32) string {
				switch {
				case value == "record 0":
					return "reject"
				case value == "record 1" && delivery == 1:
					return "release"
				}
				return "accept"
			})
	}, func() string { return fmt.Sprintf("only %v came", found) })
	if err == nil && found["record 0 delivery 2"] {
		err = fmt.Errorf("what was rejected came again")
	}
	return err
}
