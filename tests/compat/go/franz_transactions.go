package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (f *franz) committedReader(topic string) (reader, error) {
	start := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.ConsumePartitions(start),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	return &franzReader{client: client}, err
}

func (f *franz) transactional(id string) (transactional, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.TransactionalID(id),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, err
	}
	// The id is asked for now, not with the first record: it ends what an earlier producer had open.
	ctx, cancel := limited()
	defer cancel()
	_, _, err = client.ProducerID(ctx)
	return &franzTransactional{client}, err
}

type franzTransactional struct{ client *kgo.Client }

func (t *franzTransactional) begin() error { return t.client.BeginTransaction() }

func (t *franzTransactional) send(topic, value string) error {
	ctx, cancel := limited()
	defer cancel()
	return t.client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
}

func (t *franzTransactional) commit() error { return t.end(kgo.TryCommit) }
func (t *franzTransactional) abort() error  { return t.end(kgo.TryAbort) }

func (t *franzTransactional) end(how kgo.TransactionEndTry) error {
	ctx, cancel := limited()
	defer cancel()
	return t.client.EndTransaction(ctx, how)
}

func (t *franzTransactional) close() { t.client.Close() }

// consumeInTransaction reads some records as one of the group, writes one, and ends both together; the offset
// behind what it read.
func (f *franz) consumeInTransaction(id, group, topic string, commit bool) (int64, error) {
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(f.bootstrap), kgo.TransactionalID(id),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return 0, err
	}
	defer session.Close()
	ctx, cancel := limited()
	defer cancel()
	var records []*kgo.Record
	for len(records) == 0 {
		fetches := session.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, err
		}
		records = fetches.Records()
	}
	if err := session.Begin(); err != nil {
		return 0, err
	}
	value := map[bool]string{true: "with offsets", false: "never"}[commit]
	if err := session.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		return 0, err
	}
	committed, err := session.End(ctx, kgo.TransactionEndTry(commit))
	if err == nil && committed != commit {
		err = errors.New("the session ended the transaction the other way")
	}
	return records[len(records)-1].Offset + 1, err
}

func (f *franz) consumerProtocolMember(group, topic string) (member, error) {
	one := &franzReader{owned: map[int32]bool{}}
	client, err := kgo.NewClient(append(f.memberOptions(one, group, topic), kgo.ServerSideBalancer())...)
	one.client = client
	return one, err
}

func (f *franz) shareMember(group, topic string) (shareMember, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.ShareGroup(group), kgo.ConsumeTopics(topic))
	return &franzShare{client: client}, err
}

type franzShare struct {
	client *kgo.Client
	last   []*kgo.Record
}

func (s *franzShare) read(wait time.Duration) (map[string]int32, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := s.client.PollFetches(ctx)
	var failure error
	fetches.EachError(func(_ string, _ int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) && !kerr.IsRetriable(err) {
			failure = errors.Join(failure, err)
		}
	})
	s.last = fetches.Records()
	found := map[string]int32{}
	for _, one := range s.last {
		found[string(one.Value)] = one.DeliveryCount()
	}
	return found, failure
}

func (s *franzShare) settle(how func(value string, delivery int32) string) error {
	status := map[string]kgo.AckStatus{"accept": kgo.AckAccept, "release": kgo.AckRelease, "reject": kgo.AckReject}
	for _, one := range s.last {
		one.Ack(status[how(string(one.Value), one.DeliveryCount())])
	}
	ctx, cancel := limited()
	defer cancel()
	return s.client.FlushAcks(ctx)
}

func (s *franzShare) close() { s.client.Close() }
