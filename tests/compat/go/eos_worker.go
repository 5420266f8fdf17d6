package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What the runner knows a worker's end by.
const (
	exitFenced = 3
	exitBroken = 4
)

const (
	mostPolled = 20
	patience   = 60 * time.Second
)

// eosWorker is franz-go's part of `cargo xtask eos`. It runs until SIGTERM.
type eosWorker struct {
	bootstrap, prefix, identity string
	random                      *rand.Rand
	history                     *history
	stopped                     atomic.Bool
}

// runEos takes `transform|mix BOOTSTRAP PREFIX ID PROCESS SEED FILE PROTOCOL`.
func runEos(arguments []string) error {
	process, err := strconv.Atoi(arguments[4])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseInt(arguments[5], 10, 64)
	if err != nil {
		return err
	}
	recorded, err := openHistory(arguments[6], process)
	if err != nil {
		return err
	}
	worker := &eosWorker{
		bootstrap: arguments[1],
		prefix:    arguments[2],
		identity:  arguments[2] + "-" + arguments[3],
		random:    rand.New(rand.NewSource(seed)),
		history:   recorded,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		worker.stopped.Store(true)
	}()
	if arguments[0] == "mix" {
		return worker.mix()
	}
	return worker.transform()
}

// exitCode of a worker that ended with an error.
func exitCode(err error) int {
	for _, fencing := range []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.FencedInstanceID} {
		if errors.Is(err, fencing) {
			return exitFenced
		}
	}
	return exitBroken
}

func (w *eosWorker) options(more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(w.bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, more...)
}

func (w *eosWorker) transactional() []kgo.Opt {
	return []kgo.Opt{kgo.TransactionalID(w.identity), kgo.TransactionTimeout(10 * time.Second)}
}

func (w *eosWorker) grouped(group, topic string, isolation kgo.IsolationLevel) []kgo.Opt {
	// A rebalance waits while records are handled, so that what is written down keeps its order.
	return []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(isolation),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
			w.history.ok("rebalance", fields{"logs": logsOf(given)})
		}),
	}
}

func logsOf(given map[string][]int32) []string {
	logs := []string{}
	for topic, partitions := range given {
		for _, partition := range partitions {
			logs = append(logs, logOf(topic, partition))
		}
	}
	return logs
}

// send produces a record; its line tells what became of it.
func (w *eosWorker) send(produce func(context.Context, *kgo.Record, func(*kgo.Record, error)), topic string, partition int32, key []byte, source fields) {
	value := w.history.value()
	about := fields{"log": logOf(topic, partition), "value": value}
	begun := fields{}
	for _, some := range []fields{about, source} {
		for name, field := range some {
			begun[name] = field
		}
	}
	w.history.invoke("send", begun)
	out := &kgo.Record{Topic: topic, Partition: partition, Key: key, Value: []byte(fmt.Sprint(value))}
	produce(context.Background(), out, func(done *kgo.Record, err error) {
		if err != nil {
			w.history.info("send", about)
			return
		}
		about["offset"] = done.Offset
		w.history.ok("send", about)
	})
}

// transform consumes, transforms and produces in transactions: one output for each input, in the partition of
// the same number, whose key names the input; every tenth transaction is aborted on purpose.
func (w *eosWorker) transform() error {
	group, input, output := w.prefix+"-franz", w.prefix+"-in", w.prefix+"-out-franz"
	options := append(w.options(w.transactional()...), w.grouped(group, input, kgo.ReadCommitted())...)
	session, err := kgo.NewGroupTransactSession(append(options, kgo.InstanceID(w.identity))...)
	if err != nil {
		return err
	}
	for !w.stopped.Load() {
		records, began, err := w.poll(session.PollRecords)
		if err != nil {
			return err
		}
		w.history.poll(began, "read_committed", records)
		if len(records) > 0 {
			if err := w.transact(session, group, output, records); err != nil {
				return err
			}
		}
		session.AllowRebalance()
	}
	session.Close()
	return nil
}

// poll waits a moment for records; the time is that before it.
func (w *eosWorker) poll(poll func(context.Context, int) kgo.Fetches) ([]*kgo.Record, int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := monotonic()
	fetches := poll(ctx, mostPolled)
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) {
			if exitCode(failed.Err) == exitFenced {
				return nil, began, failed.Err
			}
			fmt.Fprintln(os.Stderr, "poll:", failed.Topic, failed.Partition, failed.Err)
		}
	}
	return fetches.Records(), began, nil
}

func (w *eosWorker) transact(session *kgo.GroupTransactSession, group, output string, records []*kgo.Record) error {
	w.history.invoke("begin", nil)
	if err := session.Begin(); err != nil {
		return err
	}
	w.history.ok("begin", nil)
	offsets := map[string]int64{}
	for _, one := range records {
		key := fmt.Sprintf("%d:%d:%s", one.Partition, one.Offset, one.Value)
		at := logOf(one.Topic, one.Partition)
		w.send(session.Produce, output, one.Partition, []byte(key), fields{"source": []any{at, one.Offset}})
		offsets[at] = one.Offset + 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if w.random.Intn(10) == 0 {
		w.history.invoke("abort", nil)
		_, err := session.End(ctx, kgo.TryAbort)
		return w.aborted("abort", err, offsets)
	}
	commit := fields{"group": group, "offsets": offsets}
	w.history.invoke("commit_offsets", commit)
	w.history.invoke("commit", nil)
	committed, err := session.End(ctx, kgo.TryCommit)
	if committed {
		w.history.ok("commit_offsets", commit)
		w.history.ok("commit", nil)
		return err
	}
	w.history.info("commit_offsets", commit)
	if err == nil {
		fmt.Fprintln(os.Stderr, "aborted instead of committed")
		w.history.fail("commit", nil)
		w.forget(offsets)
		return nil
	}
	return w.aborted("commit", err, offsets)
}

// aborted is the end of a transaction that was not committed; an error leaves its outcome open.
func (w *eosWorker) aborted(operation string, err error, offsets map[string]int64) error {
	if err != nil {
		w.history.info(operation, nil)
		return fmt.Errorf("%s: %w", operation, err)
	}
	w.history.ok(operation, nil)
	w.forget(offsets)
	return nil
}

// forget: the session went back to what is committed, and does not say where that is.
func (w *eosWorker) forget(offsets map[string]int64) {
	for log := range offsets {
		w.history.ok("seek", fields{"log": log})
	}
}
