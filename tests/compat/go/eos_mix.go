package main

import (
	"context"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

const mixPartitions = 4

// franzMix does sends and polls at random, in and outside of transactions, assigned and subscribed. Offsets are
// committed outside of transactions: franz-go commits them within one only as a part of its group session.
type franzMix struct {
	*eosWorker
	topic, group, isolation string
	level                   kgo.IsolationLevel
	writer, plain           *kgo.Client
	consumer                *kgo.Client
	subscribed              bool
	next                    map[int32]int64
}

func (w *eosWorker) mix() error {
	m := &franzMix{eosWorker: w, topic: w.prefix + "-mix", group: w.prefix + "-mixers", next: map[int32]int64{}}
	m.isolation, m.level = "read_uncommitted", kgo.ReadUncommitted()
	if w.random.Intn(2) == 0 {
		m.isolation, m.level = "read_committed", kgo.ReadCommitted()
	}
	var err error
	if m.writer, err = kgo.NewClient(w.options(w.transactional()...)...); err != nil {
		return err
	}
	if m.plain, err = kgo.NewClient(w.options()...); err != nil {
		return err
	}
	if err := m.subscribe(); err != nil {
		return err
	}
	for !w.stopped.Load() {
		if err := m.step(); err != nil {
			return err
		}
	}
	m.consumer.CloseAllowingRebalance()
	m.writer.Close()
	m.plain.Close()
	return nil
}

func (m *franzMix) step() error {
	choice := m.random.Intn(100)
	switch {
	case choice < 5:
		return m.subscribe()
	case choice < 10:
		return m.assign()
	case choice < 25:
		m.sendOne(m.plain)
		return m.plain.Flush(context.Background())
	case choice < 40:
		return m.pollOne(true)
	}
	return m.transact()
}

func (m *franzMix) transact() error {
	m.history.invoke("begin", nil)
	if err := m.writer.BeginTransaction(); err != nil {
		return err
	}
	m.history.ok("begin", nil)
	for range 1 + m.random.Intn(4) {
		if m.random.Intn(2) == 0 {
			m.sendOne(m.writer)
		} else if err := m.pollOne(false); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if m.random.Intn(100) < 85 {
		if err := m.writer.Flush(ctx); err == nil {
			return m.end(ctx, "commit", kgo.TryCommit)
		}
	}
	if err := m.writer.AbortBufferedRecords(ctx); err != nil {
		return err
	}
	return m.end(ctx, "abort", kgo.TryAbort)
}

func (m *franzMix) end(ctx context.Context, operation string, how kgo.TransactionEndTry) error {
	m.history.invoke(operation, nil)
	if err := m.writer.EndTransaction(ctx, how); err != nil {
		m.history.info(operation, nil)
		return fmt.Errorf("%s: %w", operation, err)
	}
	m.history.ok(operation, nil)
	return nil
}

func (m *franzMix) sendOne(client *kgo.Client) {
	m.send(client.Produce, m.topic, int32(m.random.Intn(mixPartitions)), nil, nil)
}

// pollOne reads once, and commits what it read when it is asked to and is one of the group.
func (m *franzMix) pollOne(commit bool) error {
	records, began, err := m.poll(m.consumer.PollRecords)
	if err != nil {
		return err
	}
	m.history.poll(began, m.isolation, records)
	for _, one := range records {
		m.next[one.Partition] = one.Offset + 1
	}
	if m.subscribed {
		if commit && len(records) > 0 {
			m.commit(records)
		}
		m.consumer.AllowRebalance()
	}
	return nil
}

func (m *franzMix) commit(records []*kgo.Record) {
	offsets := map[string]int64{}
	for _, one := range records {
		offsets[logOf(one.Topic, one.Partition)] = one.Offset + 1
	}
	about := fields{"group": m.group, "offsets": offsets}
	m.history.invoke("commit_offsets", about)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.consumer.CommitRecords(ctx, records...); err != nil {
		fmt.Fprintln(os.Stderr, "commit of offsets:", err)
		m.history.info("commit_offsets", about)
		return
	}
	m.history.ok("commit_offsets", about)
}

func (m *franzMix) close() {
	if m.consumer != nil {
		m.consumer.CloseAllowingRebalance()
	}
}

func (m *franzMix) subscribe() (err error) {
	m.close()
	m.next, m.subscribed = map[int32]int64{}, true
	m.history.ok("subscribe", fields{"logs": []string{m.topic}})
	m.consumer, err = kgo.NewClient(m.options(m.grouped(m.group, m.topic, m.level)...)...)
	return err
}

// assign takes some partitions; each goes on where it was, or begins at the first record.
func (m *franzMix) assign() (err error) {
	m.close()
	if m.subscribed {
		m.next = map[int32]int64{}
	}
	m.subscribed = false
	chosen, offsets := []string{}, map[int32]kgo.Offset{}
	always := int32(m.random.Intn(mixPartitions))
	for partition := range int32(mixPartitions) {
		if partition != always && m.random.Intn(2) == 0 {
			delete(m.next, partition)
			continue
		}
		chosen = append(chosen, logOf(m.topic, partition))
		offsets[partition] = kgo.NewOffset().At(m.next[partition])
	}
	m.history.ok("assign", fields{"logs": chosen})
	for partition := range offsets {
		m.history.ok("seek", fields{"log": logOf(m.topic, partition), "offset": m.next[partition]})
	}
	direct := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{m.topic: offsets})
	m.consumer, err = kgo.NewClient(m.options(direct, kgo.FetchIsolationLevel(m.level))...)
	return err
}
