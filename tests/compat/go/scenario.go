package main

import (
	"errors"
	"fmt"
	"time"
)

const partitionerPartitions = 7

// scenario has the steps, written once for both libraries.
type scenario struct {
	client     adapter
	prefix     string
	autoCreate bool
}

func (s *scenario) topic(name string) string { return s.prefix + "-" + name }

func (s *scenario) create(topic string, partitions int32) error {
	if err := s.client.create(topic, partitions, map[string]string{"retention.ms": "-1"}); err != nil {
		return err
	}
	// A new partition may take a moment to have a leader.
	var last error
	return until(func() (bool, error) {
		last = nil
		for partition := range partitions {
			_, _, err := s.client.bounds(topic, partition)
			last = errors.Join(last, err)
		}
		return last == nil, nil
	}, func() string { return last.Error() })
}

func (s *scenario) listed(topic string, wanted bool) error {
	return until(func() (bool, error) {
		names, err := s.client.topics()
		return names[topic] == wanted, err
	}, func() string { return fmt.Sprintf("listed: %t", !wanted) })
}

func (s *scenario) run() {
	s.admin()
	s.producing()
	s.consuming()
	group := &groupScenario{scenario: s, topic: s.topic("group"), group: s.topic("g")}
	group.run()
	step("group-consumer-protocol", plain(group.consumerProtocol))
	(&transactionScenario{s, s.topic("txn"), s.topic("txn-g"), s.topic("txn-id")}).run()
	step("share-acknowledge", plain(s.share))
	s.errors()
}

func (s *scenario) admin() {
	topic := s.topic("admin")
	step("create-topic", plain(func() error {
		return s.client.create(topic, 3, map[string]string{"retention.ms": "86400000"})
	}))
	step("list-topics", plain(func() error { return s.listed(topic, true) }))
	step("describe-topic", plain(func() error { return s.hasPartitions(topic, 3) }))
	step("alter-configs", plain(func() error { return s.client.alterConfig(topic, "retention.ms", "7200000") }))
	step("describe-configs", plain(func() error {
		value := ""
		return until(func() (done bool, err error) {
			value, err = s.client.config(topic, "retention.ms")
			return value == "7200000", err
		}, func() string { return "retention.ms is " + value })
	}))
	step("add-partitions", plain(func() error {
		if err := s.client.addPartitions(topic, 5); err != nil {
			return err
		}
		return s.hasPartitions(topic, 5)
	}))
	step("delete-records", plain(func() error { return s.deleteRecords(topic) }))
	step("describe-cluster", plain(func() error {
		count, err := s.client.brokers()
		if err != nil {
			return err
		}
		return same("the number of brokers", 1, count)
	}))
	step("describe-log-dirs", plain(func() error {
		names, err := s.client.logDirTopics()
		if err == nil && !names[topic] {
			err = fmt.Errorf("the topic is in no directory")
		}
		return err
	}))
	step("delete-topic", plain(func() error {
		if err := s.client.deleteTopic(topic); err != nil {
			return err
		}
		return s.listed(topic, false)
	}))
}

func (s *scenario) hasPartitions(topic string, wanted int) error {
	count := 0
	return until(func() (done bool, err error) {
		count, err = s.client.partitions(topic)
		return count == wanted, err
	}, func() string { return fmt.Sprintf("%d partitions", count) })
}

func (s *scenario) deleteRecords(topic string) error {
	var ten []record
	for range 10 {
		ten = append(ten, record{topic: topic, value: []byte("v")})
	}
	if _, err := s.client.produce(ten, settings{}); err != nil {
		return err
	}
	if err := s.client.deleteRecords(topic, 0, 4); err != nil {
		return err
	}
	return s.hasBounds(topic, 0, 4, 10)
}

func (s *scenario) hasBounds(topic string, partition int32, first, next int64) error {
	low, high, err := s.client.bounds(topic, partition)
	if err != nil {
		return err
	}
	return same("the bounds", [2]int64{first, next}, [2]int64{low, high})
}

func (s *scenario) producing() {
	for _, codec := range codecs {
		step("produce-"+codec, plain(func() error {
			topic := s.topic(codec)
			if err := s.create(topic, 1); err != nil {
				return err
			}
			return s.produceInOrder(rows(topic), settings{codec: codec})
		}))
	}
	for _, level := range []string{"0", "1", "all"} {
		step("acks-"+level, plain(func() error { return s.acks(level) }))
	}
	step("idempotent", plain(func() error {
		topic := s.topic("idempotent")
		if err := s.create(topic, 1); err != nil {
			return err
		}
		return s.produceInOrder(numbered(topic, 0, 500), settings{idempotent: true, smallBatches: true})
	}))
	step("partitioner", s.partitioner)
}

// produceInOrder writes to one partition and checks that the offsets count from 0.
func (s *scenario) produceInOrder(records []record, with settings) error {
	places, err := s.client.produce(records, with)
	if err != nil {
		return err
	}
	for i, at := range places {
		if err := same("the offset", int64(i), at.offset); err != nil {
			return err
		}
	}
	return same("the number of places", len(records), len(places))
}

func (s *scenario) acks(level string) error {
	topic := s.topic("acks-" + level)
	if err := s.create(topic, 1); err != nil {
		return err
	}
	if _, err := s.client.produce(numbered(topic, 0, 20), settings{acks: level}); err != nil {
		return err
	}
	found, err := s.readFrom(topic, []int32{0}, 0, 20)
	if err != nil {
		return err
	}
	for i, got := range found {
		if err := same("the value", fmt.Sprintf("record %d", i), string(got.value)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) partitioner() (string, error) {
	topic := s.topic("partitioner")
	if err := s.create(topic, partitionerPartitions); err != nil {
		return "", err
	}
	fixture, err := partitionerFixture(partitionerPartitions)
	if err != nil {
		return "", err
	}
	var records []record
	for key := range fixture {
		records = append(records, record{topic: topic, partition: -1, key: []byte(key), value: []byte(key)})
	}
	places, err := s.client.produce(records, settings{})
	if err != nil {
		return "", err
	}
	equal := 0
	for i, at := range places {
		if fixture[string(records[i].key)] == at.partition {
			equal++
		}
	}
	if equal == len(fixture) {
		return "as Java's murmur2", nil
	}
	return fmt.Sprintf("its own: %d of %d keys as Java's", equal, len(fixture)), nil
}

func (s *scenario) consuming() {
	step("consume", plain(s.verify))
	step("consume-offset", plain(func() error {
		return s.startsAt(s.topic("none"), 3, 3)
	}))
	step("offsets-for-times", plain(s.offsetsForTimes))
	step("long-poll", plain(s.longPoll))
	step("incremental-fetch", plain(s.incrementalFetch))
}

func (s *scenario) verify() error {
	for _, codec := range codecs {
		topic := s.topic(codec)
		found, err := s.readFrom(topic, []int32{0}, 0, 7)
		if err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
		if err := compare(topic, found); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) startsAt(topic string, asked, expected int64) error {
	found, err := s.readFrom(topic, []int32{0}, asked, 1)
	if err != nil {
		return err
	}
	return same("the first offset", expected, found[0].offset)
}

func (s *scenario) offsetsForTimes() error {
	topic := s.topic("gzip")
	for after, expected := range map[int64]int64{1500: 2, 7000: -1} {
		found, err := s.client.offsetForTime(topic, 0, firstTimestamp+after)
		if err != nil {
			return err
		}
		if err := same("the offset", expected, found); err != nil {
			return err
		}
	}
	return s.hasBounds(topic, 0, 0, 7)
}

func (s *scenario) longPoll() error {
	topic := s.topic("long-poll")
	if err := s.create(topic, 1); err != nil {
		return err
	}
	from, err := s.client.reader(topic, []int32{0}, 0, "earliest", 10*time.Second)
	if err != nil {
		return err
	}
	defer from.close()
	if _, err := from.read(500 * time.Millisecond); err != nil {
		return err
	}
	start := time.Now()
	written := make(chan error, 1)
	go func() {
		_, err := s.client.produce(numbered(topic, 0, 1), settings{})
		written <- err
	}()
	if _, err := readSome(from, 1); err != nil {
		return err
	}
	took := time.Since(start)
	if err := <-written; err != nil {
		return err
	}
	if took > 5*time.Second {
		return fmt.Errorf("the record came only after %s", took)
	}
	return nil
}

func (s *scenario) incrementalFetch() error {
	topic := s.topic("session")
	if err := s.create(topic, 4); err != nil {
		return err
	}
	from, err := s.client.reader(topic, []int32{0, 1, 2, 3}, 0, "earliest", 100*time.Millisecond)
	if err != nil {
		return err
	}
	defer from.close()
	for round := range 12 {
		value := fmt.Sprintf("round %d", round)
		one := []record{{topic: topic, partition: int32(round % 4), value: []byte(value)}}
		if _, err := s.client.produce(one, settings{}); err != nil {
			return err
		}
		found, err := readSome(from, 1)
		if err != nil {
			return err
		}
		if err := same("the value", value, string(found[0].value)); err != nil {
			return err
		}
	}
	return nil
}

func (s *scenario) errors() {
	topic := s.topic("none")
	if s.autoCreate {
		line("error-unknown-topic", nil, "the broker creates topics by itself")
	} else {
		s.fails("error-unknown-topic", "unknown-topic", func() error {
			_, err := s.client.produce(numbered(s.topic("absent"), 0, 1), settings{})
			return err
		})
	}
	s.fails("error-too-large", "too-large", func() error {
		_, err := s.client.produce([]record{{topic: topic, value: make([]byte, 2_000_000)}}, settings{unlimited: true})
		return err
	})
	s.fails("error-invalid-topic", "invalid-topic", func() error { return s.client.create("not a topic!", 1, nil) })
	s.fails("error-topic-exists", "topic-exists", func() error { return s.client.create(topic, 1, nil) })
	s.fails("error-invalid-config", "invalid-config", func() error {
		return s.client.create(s.topic("bad"), 1, map[string]string{"retention.ms": "soon"})
	})
	step("reset-earliest", plain(func() error { return s.startsAt(topic, 1000, 0) }))
	step("reset-latest", plain(func() error { return s.resetLatest() }))
	s.fails("reset-none", "out-of-range", func() error {
		from, err := s.client.reader(topic, []int32{0}, 1000, "none", 500*time.Millisecond)
		if err != nil {
			return err
		}
		defer from.close()
		_, err = readSome(from, 1)
		return err
	})
}

// resetLatest starts out of range: what is written from then on comes, and nothing before it.
func (s *scenario) resetLatest() error {
	topic := s.topic("latest")
	if err := s.create(topic, 1); err != nil {
		return err
	}
	if _, err := s.client.produce(numbered(topic, 0, 5), settings{}); err != nil {
		return err
	}
	from, err := s.client.reader(topic, []int32{0}, 1000, "latest", 100*time.Millisecond)
	if err != nil {
		return err
	}
	defer from.close()
	var found []record
	// The reset takes an unknown moment: write until something comes.
	err = until(func() (bool, error) {
		if _, err := s.client.produce(numbered(topic, 0, 1), settings{}); err != nil {
			return false, err
		}
		more, err := from.read(200 * time.Millisecond)
		found = append(found, more...)
		return len(found) > 0, err
	}, func() string { return "nothing came" })
	if err == nil && found[0].offset < 5 {
		err = fmt.Errorf("the first offset is %d", found[0].offset)
	}
	return err
}

func (s *scenario) fails(name, kind string, call func() error) {
	step(name, func() (string, error) {
		err := call()
		if err == nil {
			return "", fmt.Errorf("it succeeded")
		}
		if s.client.isError(kind, err) {
			return fmt.Sprintf("%T: %v", err, err), nil
		}
		return "", err
	})
}

func (s *scenario) readFrom(topic string, partitions []int32, offset int64, count int) ([]record, error) {
	from, err := s.client.reader(topic, partitions, offset, "earliest", 500*time.Millisecond)
	if err != nil {
		return nil, err
	}
	defer from.close()
	return readSome(from, count)
}

// readSome reads until that many records have come.
func readSome(from reader, count int) ([]record, error) {
	var found []record
	err := until(func() (bool, error) {
		more, err := from.read(200 * time.Millisecond)
		found = append(found, more...)
		return len(found) >= count, err
	}, func() string { return fmt.Sprintf("%d of %d records came", len(found), count) })
	return found, err
}

func numbered(topic string, partition int32, count int) []record {
	var out []record
	for i := range count {
		out = append(out, record{topic: topic, partition: partition, value: fmt.Appendf(nil, "record %d", i)})
	}
	return out
}
